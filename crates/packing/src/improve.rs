//! Ruin and recreate: take some nodes away, put their pods elsewhere or on new nodes, keep what got cheaper.

use crate::build::{Fill, build};
use crate::knapsack::{Knapsack, Values};
use crate::meter::Meter;
use crate::model::{Model, take};
use crate::plan::{Opened, Plan, Supply, cost, joined};

/// New nodes are chosen among so many bins, those whose nodes are best used at the prices given.
const BINS: usize = 40;
/// Nodes taken away at once, at most.
const NODES: u64 = 8;
/// Prices vary by this much of themselves, up and down.
const SPREAD: f64 = 0.15;

/// A small generator of numbers that look random and are the same everywhere (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next number, each as likely as any other.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below this one; zero if there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end.max(1)
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
        if meter.over() {
            return;
        }
        knapsack.relax(model, bin, values, &demand, meter);
        promise.push(model.bins[bin].price as f64 / (knapsack.value as f64).max(1.0));
    }
    let mut draft = Draft::of(model, plan);
    let mut best = plan.rank(model);
    let mut varied = values.to_vec();
    let end = meter.spent().saturating_add(steps);
    while meter.spent() < end && !meter.over() && best.1 > target && !draft.nodes.is_empty() {
        let mut missing = draft.missing.clone();
        draft.begin();
        for _ in 0..=dice.below(NODES.min(draft.nodes.len() as u64)) {
            draft.ruin(&mut missing, values, digits, dice);
        }
        let touched: Vec<usize> = (0..missing.len()).filter(|&group| missing[group] > 0).collect();
        draft.fill(&mut missing, touched.clone());
        meter.spend(draft.nodes.len() * 4 + missing.len());
        for &group in &touched {
            varied[group] = (values[group] as f64 * (1.0 + SPREAD * dice.swing())) as i64;
        }
        let bins = shortlist(model, &promise, &missing, dice);
        let way = if dice.below(4) == 0 { Fill::Ratio } else { Fill::Relaxed };
        let fresh = build(model, &bins, &varied, way, &mut missing, &mut draft.supply, knapsack, meter);
        for &group in &touched {
            varied[group] = values[group];
        }
        if draft.adopt(fresh, missing) {
            let rank = (draft.unplaced(), draft.cost);
            if rank < best {
                best = rank;
                *plan = draft.plan();
            }
        }
    }
}

/// A plan that is changed, and changed back if that was no gain.
struct Draft<'a> {
    model: &'a Model,
    nodes: Vec<Opened>,
    /// What is free on each of the nodes.
    free: Vec<Vec<i64>>,
    supply: Supply,
    missing: Vec<u64>,
    cost: i128,
    /// As it was before the change: nodes that have changed, the number of nodes, supply and cost.
    changed: Vec<(usize, Opened, Vec<i64>)>,
    before: (usize, Supply, i128),
}

impl<'a> Draft<'a> {
    fn of(model: &'a Model, plan: &Plan) -> Self {
        let mut supply = Supply::new(model);
        for node in &plan.nodes {
            supply.open(model, node.bin, node.copies);
        }
        Self {
            model,
            nodes: plan.nodes.clone(),
            free: plan.nodes.iter().map(|node| free(model, node)).collect(),
            missing: plan.missing.clone(),
            cost: plan.cost(model),
            changed: Vec::new(),
            before: (0, supply.clone(), 0),
            supply,
        }
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan { nodes: self.nodes.clone(), missing: self.missing.clone() };
        plan.merge();
        plan
    }

    fn unplaced(&self) -> u128 {
        unplaced(&self.missing)
    }

    fn begin(&mut self) {
        self.changed.clear();
        self.before = (self.nodes.len(), self.supply.clone(), self.cost);
    }

    fn will_change(&mut self, at: usize) {
        self.changed.push((at, self.nodes[at].clone(), self.free[at].clone()));
    }

    /// Take one node away: of three drawn, the one that costs most beyond the value of its pods.
    fn ruin(&mut self, missing: &mut [u64], values: &Values, digits: u32, dice: &mut Dice) {
        let loss = |at: usize| {
            let node = &self.nodes[at];
            let each = node.content.iter().map(|&(group, count)| i128::from(values[group]) * i128::from(count));
            (i128::from(self.model.bins[node.bin].price) << digits) - each.sum::<i128>()
        };
        let drawn = [0; 3].map(|_| dice.below(self.nodes.len() as u64) as usize);
        let standing = drawn.into_iter().filter(|&at| self.nodes[at].copies > 0);
        let Some(at) = standing.max_by_key(|&at| (loss(at), at)) else { return };
        self.will_change(at);
        let node = &mut self.nodes[at];
        for &(group, count) in &node.content {
            missing[group] += count;
        }
        node.copies -= 1;
        self.supply.close(self.model, node.bin, 1);
        self.cost -= i128::from(self.model.bins[node.bin].price);
    }

    /// Put missing pods of the wanted groups into what is free on the nodes that were there, in their order.
    fn fill(&mut self, missing: &mut [u64], mut wanted: Vec<usize>) {
        let mut at = 0;
        while at < self.before.0 && !wanted.is_empty() {
            let added = if self.nodes[at].copies > 0 { self.room(at, missing, &wanted) } else { Vec::new() };
            if added.is_empty() {
                at += 1;
                continue;
            }
            let copies = added.iter().map(|(group, count)| missing[*group] / count).min().unwrap_or(0);
            let copies = copies.clamp(1, self.nodes[at].copies);
            self.will_change(at);
            let content = joined(&self.nodes[at].content, &added);
            let mut left = self.free[at].clone();
            for &(group, count) in &added {
                missing[group] -= count * copies;
                take(&mut left, &self.model.groups[group].asks, count);
            }
            wanted.retain(|&group| missing[group] > 0);
            if copies < self.nodes[at].copies {
                // The others are looked at next.
                self.nodes[at].copies -= copies;
                self.nodes.push(Opened { bin: self.nodes[at].bin, copies, content });
                self.free.push(left);
            } else {
                self.nodes[at].content = content;
                self.free[at] = left;
                at += 1;
            }
        }
    }

    /// What more fits on a node, group by group.
    fn room(&self, at: usize, missing: &[u64], wanted: &[usize]) -> Vec<(usize, u64)> {
        let (model, node, free) = (self.model, &self.nodes[at], &self.free[at]);
        let mut added: Vec<(usize, u64)> = Vec::new();
        let mut left: Option<Vec<i64>> = None;
        for &group in wanted {
            let pods = &model.groups[group];
            let room = model.room_in(left.as_ref().unwrap_or(free), group).min(missing[group]);
            if room == 0 || !model.bins[node.bin].fits.has(group) {
                continue;
            }
            let there = node.content.iter().find(|(other, _)| *other == group).map_or(0, |(_, count)| *count);
            let room = room.min(pods.most - there.min(pods.most));
            let mut labels = node.content.iter().chain(&added).flat_map(|(other, _)| &model.groups[*other].labels);
            if room == 0 || !pods.labels.is_empty() && labels.any(|label| pods.labels.contains(label)) {
                continue;
            }
            take(left.get_or_insert_with(|| free.clone()), &pods.asks, room);
            added.push((group, room));
        }
        added
    }

    /// Keep the change, with these nodes and what is missing then, if it is no loss; or go back.
    fn adopt(&mut self, mut fresh: Vec<Opened>, missing: Vec<u64>) -> bool {
        let (before, now) = (self.unplaced(), unplaced(&missing));
        cheapen(self.model, &mut fresh, &mut self.supply);
        let cost = self.cost.saturating_add(cost(self.model, &fresh));
        let (nodes, supply, old) = &self.before;
        if now > before || now == before && cost > *old {
            self.nodes.truncate(*nodes);
            self.free.truncate(*nodes);
            self.supply.clone_from(supply);
            self.cost = *old;
            for (at, node, free) in self.changed.drain(..).rev() {
                self.nodes[at] = node;
                self.free[at] = free;
            }
            return false;
        }
        self.cost = cost;
        self.missing = missing;
        self.free.extend(fresh.iter().map(|node| free(self.model, node)));
        self.nodes.append(&mut fresh);
        let mut at = 0;
        while at < self.nodes.len() {
            if self.nodes[at].copies > 0 {
                at += 1;
            } else {
                self.nodes.swap_remove(at);
                self.free.swap_remove(at);
            }
        }
        true
    }
}

fn free(model: &Model, node: &Opened) -> Vec<i64> {
    let mut free = model.bins[node.bin].capacity.clone();
    for &(group, count) in &node.content {
        take(&mut free, &model.groups[group].asks, count);
    }
    free
}

fn unplaced(missing: &[u64]) -> u128 {
    missing.iter().map(|count| u128::from(*count)).sum()
}

/// Promising bins that take at least one of the missing groups, and for every such group its cheapest bin.
fn shortlist(model: &Model, promise: &[f64], missing: &[u64], dice: &mut Dice) -> Vec<usize> {
    let groups: Vec<usize> = (0..missing.len()).filter(|&group| missing[group] > 0).collect();
    let takes = |bin: usize| groups.iter().any(|&group| model.bins[bin].fits.has(group));
    let mut bins: Vec<(f64, usize)> = (0..model.bins.len())
        .filter(|&bin| takes(bin))
        .map(|bin| (promise[bin] * (1.0 + SPREAD * dice.swing()), bin))
        .collect();
    let better = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    if bins.len() > BINS {
        bins.select_nth_unstable_by(BINS, better);
    }
    let mut chosen: Vec<usize> = bins.iter().take(BINS).map(|(_, bin)| *bin).collect();
    for &group in &groups {
        chosen.extend(model.by_price.iter().copied().find(|&bin| model.bins[bin].fits.has(group)));
    }
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

/// Like [`Plan::shrink`], for new nodes beside others.
fn cheapen(model: &Model, nodes: &mut [Opened], supply: &mut Supply) {
    for node in nodes {
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
