//! The best plan of those that are tried, and what it is compared with.

use super::{
    super::{Greedy, Rank, Rest, map::Map},
    kept::{Kept, Weights},
};
use crate::{NewNodeReason, PodKey, PricedOffering, Solution, Target};

/// The best plan so far. Only this one becomes a solution: with its names and alternatives a plan takes many times the
/// memory.
pub(super) struct Best<'a> {
    pub(super) rank: Rank,
    /// What no plan may depart further from that places no more pods.
    pub(super) kept: Kept,
    pub(super) weights: Weights,
    /// Whether the greedy rule places as many, so that nothing more than it does may be given up. If not, least is to be.
    pub(super) is_bound: bool,
    pub(super) plan: Greedy<'a>,
    pub(super) rest: Rest<'a>,
    pub(super) is_by_rule: bool,
}

impl<'a> Best<'a> {
    /// Takes a plan if it places more, or is better otherwise ([`Best::is_worse`]).
    pub(super) fn consider(&mut self, plan: Greedy<'a>, rest: Rest<'a>) {
        let rank = plan.rank(&rest);
        if rank.0 > self.rank.0 || (self.is_bound && rank >= self.rank) {
            return;
        }
        let mut kept = Kept::by(&plan, &self.weights);
        if rank.0 < self.rank.0 {
            self.is_bound = false;
        } else if !self.is_worse(&rank, &kept) {
            return;
        } else if self.is_bound {
            // Wishes may be given up as by the greedy rule. A pool of larger weight that has room for more is to be used.
            kept.given_up.clone_from(&self.kept.given_up);
        }
        (self.rank, self.kept, self.plan, self.rest, self.is_by_rule) = (rank, kept, plan, rest, false);
    }

    /// Whether a plan that places as many pods is better than this: cheaper with as much kept; where nothing says how much may be
    /// given up, also with more kept.
    pub(super) fn is_worse(&self, (_, cost): &Rank, kept: &Kept) -> bool {
        if self.is_bound {
            *cost < self.rank.1 && kept.is_within(&self.kept)
        } else {
            (kept.departure(), cost) < (self.kept.departure(), &self.rank.1)
        }
    }

    /// Takes an earlier plan that places more or costs less: it is kept to, whatever else it did without.
    pub(super) fn consider_again(&mut self, plan: Greedy<'a>, rest: Rest<'a>) {
        let rank = plan.rank(&rest);
        if rank < self.rank {
            if rank.0 < self.rank.0 {
                self.kept = Kept::by(&plan, &self.weights);
            }
            (self.rank, self.plan, self.rest, self.is_by_rule) = (rank, plan, rest, false);
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
