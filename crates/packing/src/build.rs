//! Open nodes one kind after the other, always the one that costs least for the value it takes.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::knapsack::{Knapsack, Values};
use crate::meter::Meter;
use crate::model::Model;
use crate::plan::{Opened, Supply};

/// How one node is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    /// By the linear relaxation of the node, rounded.
    Relaxed,
    /// By value per share of the node taken, in that order.
    Ratio,
}

struct Offer {
    /// Micro-USD per value.
    ratio: f64,
    bin: usize,
    content: Vec<(usize, u64)>,
}

impl Ord for Offer {
    fn cmp(&self, other: &Self) -> Ordering {
        other.ratio.total_cmp(&self.ratio).then(other.bin.cmp(&self.bin))
    }
}
impl PartialOrd for Offer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Offer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Offer {}

/// Open nodes of the given bins for `missing`, as far as the supply and the meter go; what remains stays in `missing`.
#[expect(clippy::too_many_arguments, reason = "a solver's inner routine: its buffers and its state come from outside")]
pub(crate) fn build(
    model: &Model,
    bins: &[usize],
    values: &Values,
    fill: Fill,
    missing: &mut [u64],
    supply: &mut Supply,
    knapsack: &mut Knapsack,
    meter: &Meter<'_>,
) -> Vec<Opened> {
    // A pod without value must be placed, too.
    let values: Vec<i64> = values.iter().map(|value| (*value).max(1)).collect();
    let mut nodes = Vec::new();
    let mut offers = BinaryHeap::with_capacity(bins.len());
    let mut left = missing.iter().filter(|count| **count > 0).count();
    let offer = |bin: usize, missing: &[u64], supply: &Supply, knapsack: &mut Knapsack| {
        if meter.breaks_off() || supply.nodes(model, bin) == 0 {
            return None;
        }
        match fill {
            Fill::Relaxed => knapsack.relax(model, bin, &values, missing, meter),
            Fill::Ratio => knapsack.ratio(model, bin, &values, missing, meter),
        }
        let content = knapsack.content.clone();
        let ratio = model.bins[bin].price as f64 / knapsack.value as f64;
        (!content.is_empty()).then_some(Offer { ratio, bin, content })
    };
    for &bin in bins {
        offers.extend(offer(bin, missing, supply, knapsack));
    }
    while left > 0 {
        let Some(best) = offers.pop() else { break };
        let copies = best.content.iter().map(|(group, count)| missing[*group] / count).min().unwrap_or(0);
        let copies = copies.min(supply.nodes(model, best.bin));
        if copies > 0 {
            for &(group, count) in &best.content {
                missing[group] -= count * copies;
                if missing[group] == 0 {
                    left -= 1;
                }
            }
            supply.open(model, best.bin, copies);
            nodes.push(Opened { bin: best.bin, copies, content: best.content });
        }
        if left > 0 {
            // Demand has shrunk, so a new offer of the same bin is no better than the old one was: the heap stays honest.
            offers.extend(offer(best.bin, missing, supply, knapsack));
        }
    }
    nodes
}
