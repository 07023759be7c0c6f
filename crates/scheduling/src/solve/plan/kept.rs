//! What a plan keeps besides the demands: wishes, and that pools of larger weight come first.

use super::super::{Greedy, axis, open::Open, search::Search};

/// How much a plan departs from what was wished for. A cheaper plan is no better if it departs further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// By number of pods written alike: how many wishes they gave up together. They are given up in one order only, so that
    /// a number says which.
    pub(super) given_up: Vec<u32>,
    /// By weight of pools, the largest first: how many pods for which there is a pool of so much are on new nodes of pools of less
    /// where nobody has to be; then, by weight again, how many are on such nodes beside pods that have to be there, and make them
    /// cost more. What room there is by itself may be used, as Karpenter does.
    pub(super) below: Vec<u32>,
}

impl Kept {
    pub(super) fn by(plan: &Greedy<'_>) -> Self {
        let search = &plan.search;
        let node = |open: &Open<'_>| {
            let price = open.choices.iter().next().map_or(0, |choice| price(search, open.template, choice));
            (open.template, price, open.pods.iter().map(|put| put.kind).collect())
        };
        Self { given_up: plan.given_up.clone(), below: below(search, &weights(plan), search.open.iter().map(node)) }
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

/// See [`Kept::below`]. Of each node: its pool, what it costs, and the kinds of its pods.
pub(super) fn below(
    search: &Search<'_>,
    weights: &[u32],
    nodes: impl Iterator<Item = (usize, i64, Vec<usize>)>,
) -> Vec<u32> {
    let (mut alone, mut beside) = (vec![0_u32; weights.len()], vec![0_u32; weights.len()]);
    let nodes = nodes.filter(|_| weights.len() > 1);
    for (template, price, kinds) in nodes {
        let weight = search.templates[template].pool.weight;
        for (place, larger) in weights.iter().enumerate().filter(|(_, larger)| weight < **larger) {
            let (free, bound): (Vec<usize>, Vec<usize>) =
                kinds.iter().partition(|kind| heaviest(search, **kind) >= *larger);
            let count = match least(search, template, &bound) {
                _ if bound.is_empty() => &mut alone[place],
                Some(least) if price <= least => continue,
                _ => &mut beside[place],
            };
            *count = count.saturating_add(u32::try_from(free.len()).unwrap_or(u32::MAX));
        }
    }
    alone.extend(beside);
    alone
}

/// What a new node of the pool costs at least if it holds pods of these kinds; `None` if these are none.
fn least(search: &Search<'_>, template: usize, kinds: &[usize]) -> Option<i64> {
    let (first, others) = kinds.split_first()?;
    let shape = |kind: usize| (search.kinds[kind].fresh[template].as_ref(), &search.kinds[kind].shape.request);
    let (fresh, request) = shape(*first);
    let (mut choices, mut used) = (fresh?.choices.clone(), request.clone());
    for (fresh, request) in others.iter().map(|kind| shape(*kind)) {
        choices.keep_common(&fresh?.choices);
        axis::add(&mut used, request);
    }
    search.templates[template].keep_roomy(&mut choices, &used);
    choices.iter().next().map(|choice| price(search, template, choice))
}

fn price(search: &Search<'_>, template: usize, choice: usize) -> i64 {
    search.templates[template].choices[choice].price.0
}

/// The weights of the pools, the largest first.
pub(super) fn weights(plan: &Greedy<'_>) -> Vec<u32> {
    let mut weights: Vec<u32> = plan.search.templates.iter().map(|template| template.pool.weight).collect();
    // The pools are in this order.
    weights.dedup();
    weights
}
