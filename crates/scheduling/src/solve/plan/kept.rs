//! What a plan keeps besides the demands: wishes, and that pools of larger weight come first.

use super::super::{Greedy, open::Open, search::Search};

/// How much a plan departs from what was wished for. A cheaper plan is no better if it departs further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// By number of pods written alike: how many wishes they gave up together. They are given up in one order only, so that
    /// a number says which.
    pub(super) given_up: Vec<u32>,
    /// By weight of pools, the largest first: how many pods are on new nodes of pools of less weight for none of whose pods there
    /// is a pool of so much. Beside one that has to be there, others may be there, too, as Karpenter lets them.
    pub(super) below: Vec<u32>,
}

impl Kept {
    pub(super) fn by(plan: &Greedy<'_>) -> Self {
        let search = &plan.search;
        let heaviest: Vec<u32> = (0..search.kinds.len()).map(|kind| heaviest(search, kind)).collect();
        let node = |open: &Open<'_>| {
            let least = open.pods.iter().map(|put| heaviest[put.kind]).min().unwrap_or(0);
            (search.templates[open.template].pool.weight, least, open.pods.len())
        };
        Self { given_up: plan.given_up.clone(), below: below(&weights(plan), search.open.iter().map(node)) }
    }

    /// Whether nothing more is given up than by another.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let no_more = |(one, most): (&u32, &u32)| one <= most;
        self.given_up.iter().zip(&other.given_up).all(no_more) && self.below.iter().zip(&other.below).all(no_more)
    }
}

/// The largest weight of the pools that can have a node for the kind.
pub(super) fn heaviest(search: &Search<'_>, kind: usize) -> u32 {
    let fresh = search.kinds[kind].fresh.iter().zip(&*search.templates);
    fresh.filter(|(fresh, _)| fresh.is_some()).map(|(_, template)| template.pool.weight).max().unwrap_or(0)
}

/// See [`Kept::below`]. Of each node: the weight of its pool, the least of its pods' heaviest, and how many these are.
pub(super) fn below(weights: &[u32], nodes: impl Iterator<Item = (u32, u32, usize)>) -> Vec<u32> {
    let mut below = vec![0_u32; weights.len()];
    for (weight, heaviest, pods) in nodes {
        let pods = u32::try_from(pods).unwrap_or(u32::MAX);
        let above = weights.iter().zip(&mut below).filter(|(larger, _)| weight < **larger && **larger <= heaviest);
        above.for_each(|(_, count)| *count = count.saturating_add(pods));
    }
    below
}

/// The weights of the pools, the largest first.
pub(super) fn weights(plan: &Greedy<'_>) -> Vec<u32> {
    let mut weights: Vec<u32> = plan.search.templates.iter().map(|template| template.pool.weight).collect();
    // The pools are in this order.
    weights.dedup();
    weights
}
