//! New nodes that are not needed: their pods go to others, where that costs no more.
//!
//! The greedy rule opens a node for a pod that no open one takes at its turn. Later there may be one that would have room for
//! it: pods of a spread wait for others, and those that came in between are on nodes that could be larger. And a plan that
//! knows only some of the pods has nodes that the others make needless.

use std::collections::BTreeMap;

use super::{
    Greedy, axis,
    open::{Moving, Open},
    relations::{Demand, Place},
    search::Search,
};
use crate::{PlacementReason, Target};

/// So many other nodes are looked at for each, all over the plan and not the same each time, lest some become ever larger.
const OTHERS: usize = 1024;
/// So many of these are tried, those first that would cost the least more.
const TRIES: usize = 16;
/// For one pod so many of them at a time: the first of which some take it will do.
const WINDOW: usize = 64;
/// If so many nodes one after another are needed, the rest is left as it is.
const PATIENCE: usize = 64;

/// Nodes as they are with pods of others.
type Changed<'a> = BTreeMap<usize, Open<'a>>;

impl Greedy<'_> {
    /// Does without new nodes from this one on, the last first, as far as others can have their pods for no more. That is the
    /// end: nothing can be placed after it.
    pub(super) fn merge(&mut self, from: usize) {
        let mut gone = vec![false; self.search.open.len()];
        let mut in_vain = 0;
        let step = gone.len().div_ceil(OTHERS);
        for index in (from..gone.len()).rev() {
            if self.search.has_recluse(index) {
                continue;
            }
            let others = (index % step..gone.len()).step_by(step).filter(|other| *other != index && !gone[*other]);
            let others: Vec<usize> = others.collect();
            let changed = self.search.as_one(index, &others).or_else(|| self.search.one_by_one(index, &others));
            in_vain = if changed.is_none() { in_vain + 1 } else { 0 };
            gone[index] = changed.is_some();
            for (other, node) in changed.into_iter().flatten() {
                self.search.open[other] = node;
            }
            if in_vain == PATIENCE {
                break;
            }
        }
        if gone.contains(&true) {
            self.leave_out(&gone);
        }
    }

    /// Drops nodes whose pods are on others now.
    fn leave_out(&mut self, gone: &[bool]) {
        let mut gone = gone.iter();
        self.search.open.retain(|_| gone.next() == Some(&false));
        self.search.topology.rehome(self.search.open.iter().map(|node| &node.here));
        for (index, node) in self.search.open.iter().enumerate() {
            for (position, put) in node.pods.iter().enumerate() {
                let (_, placement) = &mut self.placed[put.turn];
                placement.node = Target::New(index);
                if position > 0 && placement.why == PlacementReason::OpensNode {
                    placement.why = PlacementReason::RoomOnNewNode;
                }
            }
        }
    }
}

impl<'a> Search<'a> {
    /// Whether a node has a pod that does not suffer some others beside it: there may be as many of these as nodes, and whoever
    /// can be with it goes there.
    fn has_recluse(&self, index: usize) -> bool {
        let apart = |kind: usize| {
            let mut rules = self.kinds[kind].shape.relations.rules.iter();
            rules.any(|rule| rule.place == Place::Host && rule.demand == Demand::Apart)
        };
        self.open[index].pods.iter().any(|put| apart(put.kind))
    }

    /// The other node that takes all pods of this one, if there is one.
    fn as_one(&self, index: usize, others: &[usize]) -> Option<Changed<'a>> {
        let node = &self.open[index];
        let (other, both, _) =
            self.cheapest_for(&node.all(), node, others, &Changed::new(), self.price(node), &node.charge)?;
        Some(Changed::from([(other, both)]))
    }

    /// The other nodes that take the pods of this one, if there are such for all.
    fn one_by_one(&self, index: usize, others: &[usize]) -> Option<Changed<'a>> {
        let node = &self.open[index];
        let template = &self.templates[node.template];
        // Whoever is beside others there must stay so.
        let is_beside = |kind: usize| {
            let mut rules = self.kinds[kind].shape.relations.rules.iter();
            rules.any(|rule| rule.place == Place::Host && matches!(rule.demand, Demand::Near { .. }))
        };
        if node.pods.iter().any(|put| is_beside(put.kind)) {
            return None;
        }
        let (mut left, mut spare) = (self.price(node), node.charge.clone());
        let mut changed = Changed::new();
        let windows: Vec<&[usize]> = others.chunks(WINDOW).collect();
        let mut first = 0;
        for put in &node.pods {
            let pod = node.one(*put, template, &self.kinds[put.kind])?;
            // The last window first: what has just taken a pod may have become roomier.
            let mut window = (0..windows.len()).map(|step| (first + step) % windows.len());
            let ((other, both, more), window) = window.find_map(|window| {
                let found = self.cheapest_for(&pod, node, windows[window], &changed, left, &spare)?;
                Some((found, window))
            })?;
            first = window;
            left -= more;
            axis::add(&mut spare, &changed.get(&other).unwrap_or(&self.open[other]).charge);
            axis::subtract(&mut spare, &both.charge);
            changed.insert(other, both);
        }
        Some(changed)
    }

    /// The node that costs the least more with such pods, no more than so much, and how much. Of the pool's limits it may take
    /// so much more.
    fn cheapest_for(
        &self,
        pods: &Moving<'_, 'a>,
        from: &Open<'a>,
        others: &[usize],
        changed: &Changed<'a>,
        most: i64,
        spare: &[i64],
    ) -> Option<(usize, Open<'a>, i64)> {
        let template = &self.templates[from.template];
        if !template.min_values.is_empty() {
            return None;
        }
        let now = |other: &usize| changed.get(other).unwrap_or(&self.open[*other]);
        let more = |other: &usize| {
            let one = now(other);
            let more = one.least_with(pods, template)?.0 - self.price(one);
            (more <= most && one.template == from.template).then_some((more, *other))
        };
        let mut ranked: Vec<(i64, usize)> = others.iter().filter_map(more).collect();
        ranked.sort_unstable();
        ranked.into_iter().take(TRIES).find_map(|(_, other)| {
            let one = now(&other);
            let both = one.with(pods, template, &self.kinds, &self.topology, spare)?;
            let more = self.price(&both) - self.price(one);
            (more <= most).then_some((other, both, more))
        })
    }

    /// What is bought for a node costs. Unit: micro-USD per hour.
    fn price(&self, node: &Open<'a>) -> i64 {
        node.bought(&self.templates[node.template], self.settings.max_alternatives).0.price.0
    }
}
