//! What a plan keeps besides the demands: wishes, and that pools of larger weight come first.

use units::UsdMicrosPerHour;

use super::{
    super::{
        Greedy, Queue,
        open::Open,
        relations::{Demand, Place, Rule},
        search::Search,
    },
    stages::Stages,
};

/// How much a plan departs from what was wished for. A cheaper plan is no better if it departs further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// By number of pods written alike: how many wishes they gave up together. They are given up in one order only, so that
    /// a number says which.
    pub(super) given_up: Vec<u32>,
    /// By weight of pools, the largest first: how many pods for which there is a pool of so much are on new nodes of pools of less
    /// where nobody has to be; then, by weight again, how many are on such nodes beside pods that have to be there, if these nodes
    /// cost more than those pods need ([`Weights`]). What room there is by itself may be used, as Karpenter does.
    pub(super) below: Vec<u32>,
}

impl Kept {
    pub(super) fn by(plan: &Greedy<'_>, weights: &Weights) -> Self {
        let search = &plan.search;
        let node = |open: &Open<'_>| {
            let price = open.choices.iter().next().map_or(0, |choice| price(search, open.template, choice));
            (open.template, price, open.pods.iter().map(|put| put.kind).collect())
        };
        Self { given_up: plan.given_up.clone(), below: weights.below(search, search.open.iter().map(node)) }
    }

    /// Whether nothing more is given up than by another.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let no_more = |(one, most): (&u32, &u32)| one <= most;
        self.given_up.iter().zip(&other.given_up).all(no_more) && self.below.iter().zip(&other.below).all(no_more)
    }

    /// What is compared where no other plan says how much may be given up.
    pub(super) fn departure(&self) -> (u64, &[u32]) {
        (self.given_up.iter().copied().map(u64::from).sum(), self.below.as_slice())
    }
}

/// The weights of pools, and what those cost together that are for want of others.
#[derive(Clone)]
pub(super) struct Weights {
    /// The largest first.
    pub(super) of_pools: Vec<u32>,
    /// By weight: what the pods alone cost for which there is no pool of so much.
    needed: Vec<i64>,
}

impl Weights {
    /// `alone`: what some of the pods cost without the others.
    pub(super) fn of<'a>(
        start: &Greedy<'a>,
        queue: &Queue<'a>,
        stages: &Stages,
        alone: impl Fn(Queue<'a>) -> UsdMicrosPerHour,
    ) -> Self {
        let mut of_pools: Vec<u32> = start.search.templates.iter().map(|template| template.pool.weight).collect();
        // The pools are in this order.
        of_pools.dedup();
        let heaviest: Vec<u32> = stages.planned.iter().map(|(kind, _)| heaviest(&start.search, *kind)).collect();
        let needed = |larger: &u32| {
            let bound: Queue<'a> = queue.iter().filter(|(_, asked)| heaviest[*asked] < *larger).copied().collect();
            if bound.is_empty() || bound.len() == queue.len() { 0 } else { alone(bound).0 }
        };
        Self { needed: of_pools.iter().map(needed).collect(), of_pools }
    }

    /// See [`Kept::below`]. Of each node: its pool, what it costs, and the kinds of its pods.
    pub(super) fn below(&self, search: &Search<'_>, nodes: impl Iterator<Item = (usize, i64, Vec<usize>)>) -> Vec<u32> {
        let mut below = self.nothing();
        if self.of_pools.len() <= 1 {
            return below;
        }
        let (alone, beside) = below.split_at_mut(self.of_pools.len());
        let mut spent = vec![0_i64; self.of_pools.len()];
        for (template, price, kinds) in nodes {
            let weight = search.templates[template].pool.weight;
            for (place, larger) in self.of_pools.iter().enumerate().filter(|(_, larger)| weight < **larger) {
                let (free, bound): (Vec<usize>, Vec<usize>) =
                    kinds.iter().partition(|kind| heaviest(search, **kind) >= *larger);
                let (count, free) = if bound.is_empty() {
                    (&mut alone[place], free)
                } else {
                    spent[place] = spent[place].saturating_add(price);
                    (&mut beside[place], without_companions(search, bound, free))
                };
                *count = count.saturating_add(u32::try_from(free.len()).unwrap_or(u32::MAX));
            }
        }
        for (place, _) in self.needed.iter().enumerate().filter(|(place, needed)| spent[*place] <= **needed) {
            beside[place] = 0;
        }
        below
    }

    /// See [`Kept::below`]: no pod at all.
    pub(super) fn nothing(&self) -> Vec<u32> {
        vec![0; self.of_pools.len() * 2]
    }
}

/// The largest weight of the pools that can have a node for the kind.
pub(super) fn heaviest(search: &Search<'_>, kind: usize) -> u32 {
    let fresh = search.kinds[kind].fresh.iter().zip(&*search.templates);
    fresh.filter(|(fresh, _)| fresh.is_some()).map(|(_, template)| template.pool.weight).max().unwrap_or(0)
}

/// The pods that could be elsewhere, without one for each group in which those that cannot must have somebody on their node.
fn without_companions(search: &Search<'_>, mut bound: Vec<usize>, mut free: Vec<usize>) -> Vec<usize> {
    let relations = |kind: usize| &search.kinds[kind].shape.relations;
    let mut next = 0;
    while let Some(kind) = bound.get(next).copied().filter(|_| !free.is_empty()) {
        next += 1;
        let near = |rule: &&Rule| rule.place == Place::Host && matches!(rule.demand, Demand::Near { .. });
        for rule in relations(kind).rules.iter().filter(near) {
            let group = (search.topology.groups.first_alike[rule.group], Place::Host);
            let counts = |kind: &usize| relations(*kind).counted.contains(&group);
            if !bound.iter().any(counts) {
                let companion = free.iter().position(counts);
                bound.extend(companion.map(|position| free.remove(position)));
            }
        }
    }
    free
}

fn price(search: &Search<'_>, template: usize, choice: usize) -> i64 {
    search.templates[template].choices[choice].price.0
}
