//! The best plan of those that are tried, and what it is compared with.

use super::{
    super::{Greedy, Rank, Rest, map::Map},
    kept::Kept,
};
use crate::{NewNodeReason, PodKey, PricedOffering, Solution, Target};

/// The best plan so far. Only this one becomes a solution: with its names and alternatives a plan takes many times the
/// memory.
pub(super) struct Best<'a> {
    pub(super) rank: Rank,
    /// What no plan may depart further from that places no more pods.
    pub(super) kept: Kept,
    pub(super) plan: Greedy<'a>,
    pub(super) rest: Rest<'a>,
    pub(super) is_by_rule: bool,
}

impl<'a> Best<'a> {
    /// Takes a plan if it places more, or costs less and keeps as much.
    pub(super) fn consider(&mut self, plan: Greedy<'a>, rest: Rest<'a>) {
        let rank = plan.rank(&rest);
        if rank < self.rank {
            let kept = Kept::by(&plan);
            if rank.0 < self.rank.0 {
                *self = Self { rank, kept, plan, rest, is_by_rule: false };
            } else if kept.is_within(&self.kept) {
                // Wishes may be given up as by the greedy rule. A pool of larger weight that has room for more is to be used.
                let kept = Kept { given_up: self.kept.given_up.clone(), below: kept.below };
                *self = Self { rank, kept, plan, rest, is_by_rule: false };
            }
        }
    }

    /// Takes an earlier plan that places more or costs less: it is kept to, whatever else it did without.
    pub(super) fn consider_again(&mut self, plan: Greedy<'a>, rest: Rest<'a>) {
        let rank = plan.rank(&rest);
        if rank < self.rank {
            let kept = if rank.0 < self.rank.0 { Kept::by(&plan) } else { self.kept.clone() };
            *self = Self { rank, kept, plan, rest, is_by_rule: false };
        }
    }
}

/// What the greedy rule buys, for others to be compared with.
pub(super) struct ByRule<'a> {
    pub(super) rank: Rank,
    /// The new node of each pod that has one.
    node_of: Map<&'a PodKey, usize>,
    /// What is bought for each new node, and for how many pods.
    bought: Vec<(PricedOffering, usize)>,
}

impl<'a> ByRule<'a> {
    pub(super) fn of(greedy: &Greedy<'a>, rest: &Rest<'a>) -> Self {
        let on_new = greedy.placed.iter().filter_map(|(pod, placement)| match placement.node {
            Target::New(index) => Some((*pod, index)),
            Target::Existing(_) => None,
        });
        let bought = |index| {
            let (choice, pods) = greedy.search.bought(index);
            (PricedOffering { key: choice.key(), price: choice.price }, pods)
        };
        let bought = (0..greedy.search.open.len()).map(bought).collect();
        Self { rank: greedy.rank(rest), node_of: on_new.collect(), bought }
    }

    /// Says of each new node of a plan what the greedy rule would have bought for its first pod.
    pub(super) fn compare(&self, best: &mut Solution) {
        for node in &mut best.new_nodes {
            let first = node.why.iter().find_map(|why| match why {
                NewNodeReason::OpenedFor { pod } => Some(pod),
                _ => None,
            });
            if let Some(index) = first.and_then(|pod| self.node_of.get(pod)) {
                let (offering, pods) = self.bought[*index].clone();
                if node.offerings.first().is_none_or(|one| one.key != offering.key) {
                    node.why.push(NewNodeReason::InsteadOf { offering, pods });
                }
            }
        }
    }
}
