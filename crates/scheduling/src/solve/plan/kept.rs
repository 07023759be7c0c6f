//! What a plan keeps besides the demands: wishes, and that pools of larger weight come first.

use super::super::Greedy;

/// How much a plan departs from what was wished for. A cheaper plan is no better if it departs further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// By number of pods written alike: how many wishes they gave up together. They are given up in one order only, so that
    /// a number says which.
    pub(super) given_up: Vec<u32>,
    /// By weight of pools, the largest first: how many pods are on new nodes of pools of less weight.
    pub(super) below: Vec<u32>,
}

impl Kept {
    pub(super) fn by(plan: &Greedy<'_>) -> Self {
        let search = &plan.search;
        let mut below = vec![0; weights(plan).len()];
        for index in 0..search.open.len() {
            let weight = search.templates[search.open[index].template].pool.weight;
            let pods = u32::try_from(search.bought(index).1).unwrap_or(u32::MAX);
            let above = weights(plan).into_iter().zip(&mut below).filter(|(larger, _)| *larger > weight);
            above.for_each(|(_, count)| *count += pods);
        }
        Self { given_up: plan.given_up.clone(), below }
    }

    /// Whether nothing more is given up than by another.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let no_more = |(one, most): (&u32, &u32)| one <= most;
        self.given_up.iter().zip(&other.given_up).all(no_more) && self.below.iter().zip(&other.below).all(no_more)
    }
}

/// The weights of the pools, the largest first.
pub(super) fn weights(plan: &Greedy<'_>) -> Vec<u32> {
    let mut weights: Vec<u32> = plan.search.templates.iter().map(|template| template.pool.weight).collect();
    // The pools are in this order.
    weights.dedup();
    weights
}
