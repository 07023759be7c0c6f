//! A plan: nodes with their content, and what is left of the supply while one is made.

use crate::model::{Model, UNLIMITED, take};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) bin: usize,
    /// Nodes with this very content. At least 1.
    pub(crate) copies: u64,
    /// Pods on each: group and count, sorted by group, counts at least 1.
    pub(crate) content: Vec<(usize, u64)>,
}

/// Nodes and what they leave unplaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) nodes: Vec<Opened>,
    /// Pods of each group without a node.
    pub(crate) missing: Vec<u64>,
}

impl Plan {
    pub(crate) fn cost(&self, model: &Model) -> i128 {
        cost(model, &self.nodes)
    }

    pub(crate) fn unplaced(&self) -> u128 {
        self.missing.iter().map(|count| u128::from(*count)).sum()
    }

    /// What makes a plan better: more pods placed, then less money.
    pub(crate) fn rank(&self, model: &Model) -> (u128, i128) {
        (self.unplaced(), self.cost(model))
    }

    /// Move every node to the cheapest bin that holds its content, and merge equal nodes.
    pub(crate) fn shrink(&mut self, model: &Model) {
        let mut supply = Supply::new(model);
        for node in &self.nodes {
            supply.open(model, node.bin, node.copies);
        }
        for node in &mut self.nodes {
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
        self.merge();
    }

    /// Sort nodes and make equal ones one entry.
    pub(crate) fn merge(&mut self) {
        self.nodes.sort_by(|a, b| (a.bin, &a.content).cmp(&(b.bin, &b.content)));
        self.nodes.dedup_by(|later, earlier| {
            let equal = later.bin == earlier.bin && later.content == earlier.content;
            if equal {
                earlier.copies += later.copies;
            }
            equal
        });
    }
}

pub(crate) fn cost(model: &Model, nodes: &[Opened]) -> i128 {
    nodes.iter().fold(0_i128, |sum, node| {
        sum.saturating_add(i128::from(model.bins[node.bin].price).saturating_mul(i128::from(node.copies)))
    })
}

/// What is left of bins that run out, and under the limits.
#[derive(Clone, Debug)]
pub(crate) struct Supply {
    stock: Vec<u64>,
    limits: Vec<i128>,
}

impl Supply {
    pub(crate) fn new(model: &Model) -> Self {
        Self {
            stock: model.bins.iter().map(|bin| bin.stock).collect(),
            limits: model.limits.iter().map(|most| i128::from(*most)).collect(),
        }
    }

    /// How many nodes of a bin may still be opened.
    pub(crate) fn nodes(&self, model: &Model, bin: usize) -> u64 {
        let mut nodes = self.stock[bin];
        for (left, count) in self.limits.iter().zip(&model.bins[bin].counts) {
            if *count > 0 {
                nodes = nodes.min(u64::try_from((left / i128::from(*count)).max(0)).unwrap_or(UNLIMITED));
            }
        }
        nodes
    }

    pub(crate) fn open(&mut self, model: &Model, bin: usize, copies: u64) {
        self.charge(model, bin, i128::from(copies));
    }

    pub(crate) fn close(&mut self, model: &Model, bin: usize, copies: u64) {
        self.charge(model, bin, -i128::from(copies));
    }

    fn charge(&mut self, model: &Model, bin: usize, copies: i128) {
        if model.bins[bin].stock != UNLIMITED {
            self.charge_stock(bin, copies);
        }
        self.charge_limits(&model.bins[bin].counts, copies);
    }

    pub(crate) fn charge_stock(&mut self, bin: usize, copies: i128) {
        let left = i128::from(self.stock[bin]) - copies;
        self.stock[bin] = u64::try_from(left.max(0)).unwrap_or(UNLIMITED);
    }

    pub(crate) fn charge_limits(&mut self, counts: &[i64], copies: i128) {
        for (left, count) in self.limits.iter_mut().zip(counts) {
            *left -= i128::from(*count) * copies;
        }
    }

    /// What is left under each limit.
    pub(crate) fn limits(&self) -> &[i128] {
        &self.limits
    }
}

/// Put pods of `missing` into what is free on the nodes, splitting entries of several copies. First fit in plan order.
pub(crate) fn fill(model: &Model, nodes: &mut Vec<Opened>, missing: &mut [u64]) {
    let mut wanted: Vec<usize> = (0..missing.len()).filter(|&group| missing[group] > 0).collect();
    if wanted.is_empty() {
        return;
    }
    let mut at = 0;
    while at < nodes.len() && !wanted.is_empty() {
        let node = &nodes[at];
        let kind = &model.bins[node.bin];
        let mut free = kind.capacity.clone();
        for &(group, count) in &node.content {
            take(&mut free, &model.groups[group].asks, count);
        }
        let mut added: Vec<(usize, u64)> = Vec::new();
        for &group in &wanted {
            let there = node.content.iter().find(|(other, _)| *other == group).map_or(0, |(_, count)| *count);
            let pods = &model.groups[group];
            let room = model.room_in(&free, group).min(pods.most - there.min(pods.most)).min(missing[group]);
            let mut labels = node.content.iter().chain(&added).flat_map(|(other, _)| &model.groups[*other].labels);
            if room == 0 || !kind.fits.has(group) || labels.any(|label| pods.labels.contains(label)) {
                continue;
            }
            take(&mut free, &pods.asks, room);
            added.push((group, room));
        }
        if !added.is_empty() {
            let copies = added.iter().map(|(group, count)| missing[*group] / count).min().unwrap_or(0);
            let copies = copies.clamp(1, node.copies);
            for &(group, count) in &added {
                missing[group] -= count * copies;
            }
            wanted.retain(|&group| missing[group] > 0);
            if copies < nodes[at].copies {
                let rest = Opened { copies: nodes[at].copies - copies, ..nodes[at].clone() };
                nodes.insert(at + 1, rest);
            }
            nodes[at].copies = copies;
            nodes[at].content = joined(&nodes[at].content, &added);
        }
        at += 1;
    }
}

pub(crate) fn joined(a: &[(usize, u64)], b: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let mut all: Vec<(usize, u64)> = a.iter().chain(b).copied().filter(|(_, count)| *count > 0).collect();
    all.sort_unstable();
    all.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 += later.1;
        }
        same
    });
    all
}
