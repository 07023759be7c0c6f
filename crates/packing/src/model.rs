//! The problem as the algorithms see it: cleaned, and without bins that no optimum needs.
//!
//! Groups that fit no bin are gone, amounts are not negative, and an exclusive label that only one group carries has
//! become "at most one per node".

use std::collections::BTreeMap;

use crate::dominance;
use crate::problem::{Bits, Problem};

/// How many label rows the relaxation of one node may have; labels beyond it are only checked, not priced.
const LABEL_ROWS: usize = 12;
/// More pods of a group than this are not looked at, so that sums over ten thousand groups fit their type.
const DEMAND: u64 = 1 << 48;
/// "As many as wanted".
pub(crate) const UNLIMITED: u64 = u64::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Number of resources.
    pub(crate) resources: usize,
    pub(crate) groups: Vec<Pods>,
    pub(crate) bins: Vec<Kind>,
    /// What is left under each limit.
    pub(crate) limits: Vec<i64>,
    /// Shared labels that get a row in the relaxation of a node.
    pub(crate) label_rows: Vec<u32>,
    /// Bins (by index here) from cheap to dear.
    pub(crate) by_price: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pods {
    /// Index in the problem.
    pub(crate) id: usize,
    pub(crate) demand: u64,
    pub(crate) request: Vec<i64>,
    /// The resources of which it takes anything, with the amount.
    pub(crate) asks: Vec<(usize, i64)>,
    /// At least 1.
    pub(crate) most: u64,
    /// Exclusive labels that other groups carry, too. Sorted.
    pub(crate) labels: Vec<u32>,
    /// Those of them that have a row, by its index.
    pub(crate) label_rows: Vec<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// Index in the problem.
    pub(crate) id: usize,
    pub(crate) price: i64,
    pub(crate) capacity: Vec<i64>,
    /// Nodes there are; [`UNLIMITED`] if there is no end of them. At least 1.
    pub(crate) stock: u64,
    /// Groups of which at least one pod fits an empty node. Sorted.
    pub(crate) groups: Vec<usize>,
    pub(crate) fits: Bits,
    /// What one node counts under each limit.
    pub(crate) counts: Vec<i64>,
}

impl Model {
    pub(crate) fn new(problem: &Problem) -> Self {
        let wanted: Vec<Pods> = pods(problem);
        let mut bins: Vec<Kind> = problem
            .bins
            .iter()
            .enumerate()
            .filter(|(_, bin)| bin.available != Some(0))
            .map(|(id, bin)| Kind {
                id,
                price: bin.price.max(0),
                capacity: padded(&bin.capacity, problem.resources),
                stock: bin.available.unwrap_or(UNLIMITED),
                groups: Vec::new(),
                fits: Bits::default(),
                counts: problem.limits.iter().map(|l| l.per_bin.get(id).copied().unwrap_or(0).max(0)).collect(),
            })
            .collect();
        bins.retain(|bin| bin.counts.iter().zip(&problem.limits).all(|(count, limit)| *count <= limit.most.max(0)));
        // Index among the wanted groups → index among the groups that fit somewhere.
        let mut fit_somewhere = vec![false; wanted.len()];
        for bin in &mut bins {
            let taken = &problem.bins[bin.id].pre_taken;
            bin.groups = (0..wanted.len())
                .filter(|&at| {
                    let original = &problem.groups[wanted[at].id];
                    original.eligible.has(bin.id)
                        && wanted[at].request.iter().zip(&bin.capacity).all(|(asked, there)| asked <= there)
                        && !original.exclusive.iter().any(|label| taken.contains(label))
                })
                .collect();
            for &at in &bin.groups {
                fit_somewhere[at] = true;
            }
        }
        let mut renamed = vec![usize::MAX; wanted.len()];
        let mut groups = Vec::new();
        for (at, pods) in wanted.into_iter().enumerate() {
            if fit_somewhere[at] {
                renamed[at] = groups.len();
                groups.push(pods);
            }
        }
        bins.retain(|bin| !bin.groups.is_empty());
        for bin in &mut bins {
            for at in &mut bin.groups {
                *at = renamed[*at];
            }
        }
        let limits = problem.limits.iter().map(|limit| limit.most.max(0)).collect();
        Self::assemble(problem.resources, groups, bins, limits)
    }

    /// Finish a model whose bins know their groups: clip capacities, drop dominated bins, choose label rows.
    pub(crate) fn assemble(resources: usize, mut groups: Vec<Pods>, mut bins: Vec<Kind>, limits: Vec<i64>) -> Self {
        let mut carriers: BTreeMap<u32, usize> = BTreeMap::new();
        for label in groups.iter().flat_map(|pods| &pods.labels) {
            *carriers.entry(*label).or_default() += 1;
        }
        carriers.retain(|_, count| *count > 1);
        for pods in &mut groups {
            pods.labels.retain(|label| carriers.contains_key(label));
        }
        let mut label_rows: Vec<u32> = carriers.keys().copied().collect();
        label_rows.sort_by_key(|label| (std::cmp::Reverse(carriers[label]), *label));
        label_rows.truncate(LABEL_ROWS);
        for pods in &mut groups {
            let has = |(_, label): &(usize, &u32)| pods.labels.contains(label);
            pods.label_rows = label_rows.iter().enumerate().filter(has).map(|(row, _)| row).collect();
        }
        for bin in &mut bins {
            bin.fits = bin.groups.iter().copied().collect();
            for (resource, there) in bin.capacity.iter_mut().enumerate() {
                // More than all its pods together can ask for is not worth anything.
                let mut asked: i128 = 0;
                for &group in &bin.groups {
                    let pods = &groups[group];
                    let count = pods.demand.min(pods.most);
                    asked += i128::from(pods.request[resource]) * i128::from(count);
                    if asked >= i128::from(*there) {
                        break;
                    }
                }
                *there = i64::try_from(asked).unwrap_or(i64::MAX).min(*there);
            }
        }
        let bins = dominance::undominated(bins);
        let mut by_price: Vec<usize> = (0..bins.len()).collect();
        by_price.sort_by_key(|&bin| (bins[bin].price, bin));
        Self { resources, groups, bins, limits, label_rows, by_price }
    }

    pub(crate) fn demand(&self) -> Vec<u64> {
        self.groups.iter().map(|pods| pods.demand).collect()
    }

    /// How many pods of a group an empty node of a bin holds.
    pub(crate) fn room(&self, bin: usize, group: usize) -> u64 {
        if self.bins[bin].fits.has(group) { self.room_in(&self.bins[bin].capacity, group) } else { 0 }
    }

    /// How many pods of a group fit into free amounts, apart from what eligibility and labels say.
    pub(crate) fn room_in(&self, free: &[i64], group: usize) -> u64 {
        let pods = &self.groups[group];
        let mut room = pods.most;
        for &(resource, asked) in &pods.asks {
            room = room.min(u64::try_from(free[resource] / asked).unwrap_or(0));
        }
        room
    }

    /// Whether one node of a bin can hold this content.
    pub(crate) fn holds(&self, bin: usize, content: &[(usize, u64)]) -> bool {
        let kind = &self.bins[bin];
        let mut free = kind.capacity.clone();
        let mut labels = Vec::new();
        content.iter().all(|&(group, count)| {
            let pods = &self.groups[group];
            let fits = kind.fits.has(group)
                && count <= self.room_in(&free, group)
                && pods.labels.iter().all(|label| !labels.contains(label));
            if fits {
                take(&mut free, &pods.asks, count);
                labels.extend_from_slice(&pods.labels);
            }
            fits
        })
    }
}

/// Take `count` requests out of free amounts. Callers know that they fit.
pub(crate) fn take(free: &mut [i64], asks: &[(usize, i64)], count: u64) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    for &(resource, asked) in asks {
        free[resource] = free[resource].saturating_sub(asked.saturating_mul(count));
    }
}

/// What a request takes anything of.
pub(crate) fn asks(request: &[i64]) -> Vec<(usize, i64)> {
    request.iter().copied().enumerate().filter(|(_, asked)| *asked > 0).collect()
}

fn pods(problem: &Problem) -> Vec<Pods> {
    let wanted = problem.groups.iter().enumerate().filter(|(_, group)| group.demand > 0 && group.max_per_node > 0);
    wanted
        .map(|(id, group)| {
            let mut labels = group.exclusive.clone();
            labels.sort_unstable();
            labels.dedup();
            let most = match (labels.is_empty(), group.max_per_node) {
                (false, _) => 1,
                (true, u32::MAX) => UNLIMITED,
                (true, most) => u64::from(most),
            };
            let request = padded(&group.request, problem.resources);
            let (asks, demand) = (asks(&request), group.demand.min(DEMAND));
            Pods { id, demand, request, asks, most, labels, label_rows: Vec::new() }
        })
        .collect()
}

fn padded(amounts: &[i64], resources: usize) -> Vec<i64> {
    (0..resources).map(|at| amounts.get(at).copied().unwrap_or(0).max(0)).collect()
}
