//! Which bins can be forgotten.
//!
//! A bin is dominated by another that costs no more, has no less of anything, takes every pod the first takes, counts no
//! more under any limit and never runs out. Some optimum does without it: move every node to the other kind.

use crate::model::{Kind, UNLIMITED};

/// The bins that no other dominates, in their old order. Of equal bins the first stays.
pub(crate) fn undominated(bins: Vec<Kind>) -> Vec<Kind> {
    // A dominating bin costs no more, so from cheap to dear it comes first or ties; only survivors need comparing, for
    // dominance is transitive.
    let mut order: Vec<usize> = (0..bins.len()).collect();
    let size = |bin: &Kind| bin.capacity.iter().fold(0_i128, |sum, amount| sum + i128::from(*amount));
    order.sort_by_key(|&at| {
        let bin = &bins[at];
        let used: i128 = bin.counts.iter().map(|count| i128::from(*count)).sum();
        let finite = bin.stock != UNLIMITED;
        (bin.price, std::cmp::Reverse(size(bin)), std::cmp::Reverse(bin.groups.len()), used, finite, at)
    });
    let mut kept: Vec<usize> = Vec::new();
    for at in order {
        if !kept.iter().any(|&other| dominates(&bins[other], &bins[at])) {
            kept.push(at);
        }
    }
    let mut stays = vec![false; bins.len()];
    for at in kept {
        stays[at] = true;
    }
    bins.into_iter().zip(stays).filter_map(|(bin, stays)| stays.then_some(bin)).collect()
}

fn dominates(better: &Kind, worse: &Kind) -> bool {
    better.stock == UNLIMITED
        && better.price <= worse.price
        && better.capacity.iter().zip(&worse.capacity).all(|(a, b)| a >= b)
        && better.counts.iter().zip(&worse.counts).all(|(a, b)| a <= b)
        && better.fits.covers(&worse.fits)
}
