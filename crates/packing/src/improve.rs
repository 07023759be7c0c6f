//! Ruin and recreate: take some nodes away, put their pods elsewhere or on new nodes, keep what got cheaper.

use crate::build::{Fill, build};
use crate::knapsack::{Knapsack, Values};
use crate::meter::Meter;
use crate::model::Model;
use crate::plan::{Plan, Supply, fill};

/// New nodes are chosen among so many bins, those whose nodes are best used at the prices given.
const BINS: usize = 40;
/// Nodes taken away at once, at most.
const NODES: u64 = 8;
/// Prices vary by this much of themselves, up and down.
const SPREAD: f64 = 0.15;

/// A small generator of numbers that look random and are the same everywhere (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Between -1 and 1.
    fn swing(&mut self) -> f64 {
        self.below(1 << 32) as f64 / f64::from(1_u32 << 31) - 1.0
    }
}

/// Improve a plan for so many steps, or until its cost reaches `target`.
#[expect(clippy::too_many_arguments, reason = "a solver's inner routine: its buffers and its state come from outside")]
pub(crate) fn improve(
    model: &Model,
    plan: &mut Plan,
    values: &Values,
    digits: u32,
    target: i128,
    steps: u64,
    dice: &mut Dice,
    knapsack: &mut Knapsack,
    meter: &Meter<'_>,
) {
    let demand = model.demand();
    let mut promise = Vec::new();
    for bin in 0..model.bins.len() {
        knapsack.relax(model, bin, values, &demand, meter);
        promise.push(model.bins[bin].price as f64 / (knapsack.value as f64).max(1.0));
    }
    let mut current = plan.clone();
    let mut cost = current.cost(model);
    let mut best = cost;
    let end = meter.spent().saturating_add(steps);
    while meter.spent() < end && !meter.over() && best > target && !current.nodes.is_empty() {
        let mut next = current.clone();
        let mut missing = next.missing.clone();
        for _ in 0..=dice.below(NODES.min(next.nodes.len() as u64)) {
            ruin(model, &mut next, &mut missing, values, digits, dice);
        }
        meter.spend(current.nodes.len() * 32);
        let touched: Vec<usize> = (0..missing.len()).filter(|&group| missing[group] > 0).collect();
        fill(model, &mut next.nodes, &mut missing);
        let varied: Vec<i64> = {
            let mut varied = values.to_vec();
            for &group in &touched {
                varied[group] = (values[group] as f64 * (1.0 + SPREAD * dice.swing())) as i64;
            }
            varied
        };
        let mut supply = Supply::new(model);
        for node in &next.nodes {
            supply.open(model, node.bin, node.copies);
        }
        let bins = shortlist(model, &promise, &missing, dice);
        let way = if dice.below(4) == 0 { Fill::Ratio } else { Fill::Relaxed };
        let before = next.nodes.len();
        next.nodes.extend(build(model, &bins, &varied, way, &mut missing, &mut supply, knapsack, meter));
        next.missing = missing;
        if next.unplaced() > current.unplaced() {
            continue;
        }
        let mut fresh = Plan { nodes: next.nodes.split_off(before), missing: Vec::new() };
        cheapen(model, &mut fresh, &mut supply);
        next.nodes.append(&mut fresh.nodes);
        let new_cost = next.cost(model);
        if next.unplaced() < current.unplaced() || new_cost <= cost {
            next.merge();
            current = next;
            cost = new_cost;
            if current.rank(model) < plan.rank(model) {
                *plan = current.clone();
                best = cost;
            }
        }
    }
}

/// Take one node away: of three drawn, the one that costs most beyond the value of its pods.
fn ruin(model: &Model, plan: &mut Plan, missing: &mut [u64], values: &Values, digits: u32, dice: &mut Dice) {
    if plan.nodes.is_empty() {
        return;
    }
    let loss = |at: usize| {
        let node = &plan.nodes[at];
        let each = node.content.iter().map(|&(group, count)| i128::from(values[group]) * i128::from(count));
        (i128::from(model.bins[node.bin].price) << digits) - each.sum::<i128>()
    };
    let drawn = [0; 3].map(|_| dice.below(plan.nodes.len() as u64) as usize);
    let Some(at) = drawn.into_iter().max_by_key(|&at| (loss(at), at)) else { return };
    for &(group, count) in &plan.nodes[at].content {
        missing[group] += count;
    }
    plan.nodes[at].copies -= 1;
    if plan.nodes[at].copies == 0 {
        plan.nodes.remove(at);
    }
}

/// Promising bins that take at least one of the missing groups, and for every such group its cheapest bin.
fn shortlist(model: &Model, promise: &[f64], missing: &[u64], dice: &mut Dice) -> Vec<usize> {
    let groups: Vec<usize> = (0..missing.len()).filter(|&group| missing[group] > 0).collect();
    let takes = |bin: usize| groups.iter().any(|&group| model.bins[bin].fits.has(group));
    let mut bins: Vec<(f64, usize)> = (0..model.bins.len())
        .filter(|&bin| takes(bin))
        .map(|bin| (promise[bin] * (1.0 + SPREAD * dice.swing()), bin))
        .collect();
    bins.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut chosen: Vec<usize> = bins.iter().take(BINS).map(|(_, bin)| *bin).collect();
    for &group in &groups {
        chosen.extend(model.by_price.iter().copied().find(|&bin| model.bins[bin].fits.has(group)));
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Like [`Plan::shrink`], for new nodes beside others.
fn cheapen(model: &Model, plan: &mut Plan, supply: &mut Supply) {
    for node in &mut plan.nodes {
        for &bin in &model.by_price {
            if model.bins[bin].price >= model.bins[node.bin].price {
                break;
            }
            if supply.nodes(model, bin) >= node.copies && model.holds(bin, &node.content) {
                supply.close(model, node.bin, node.copies);
                supply.open(model, bin, node.copies);
                node.bin = bin;
                break;
            }
        }
    }
}
