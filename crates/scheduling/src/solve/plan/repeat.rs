//! A plan that was made before, once more: the same pods on the same nodes, in the order in which they were put there.

use std::collections::BTreeMap;

use super::{
    super::{Greedy, Queue, bits::Bits, search::Search},
    carry_out::{Plan, Planned},
};
use crate::{NewNode, NodeKey, OfferingKey, Placement, Pod, PodKey, PoolKey, Solution, Target};

impl<'a> Greedy<'a> {
    /// Puts each pod where an earlier solution has it, turn by turn, as far as pod, node and offering are still there and
    /// the engine agrees. Returns the others. Where nothing has changed but that less is demanded, the engine agrees to all:
    /// each pod finds what it found at its turn.
    pub(super) fn repeat(
        &mut self,
        queue: &Queue<'a>,
        previous: &Solution,
        again: &[Option<(usize, Bits)>],
    ) -> Queue<'a> {
        let there: BTreeMap<NodeKey, usize> =
            self.search.existing.iter().enumerate().map(|(index, there)| (there.node.key.clone(), index)).collect();
        let mut nodes: Vec<Option<Planned>> = previous
            .new_nodes
            .iter()
            .zip(again)
            .map(|(node, again)| {
                let (template, choices) = again.clone()?;
                Some(Planned::New { template, choices, labels: Some(node.requirements.clone()) })
            })
            .collect();
        // Whoever began a group then may begin it again, whoever was waited for.
        self.search.topology.stop_waiting(true);
        self.search.stop_expecting();
        let turn = |(position, (pod, _)): (usize, &(&Pod, usize))| {
            previous.placed.get(&pod.key).map(|placement| (placement.turn, position))
        };
        let mut order: Vec<(usize, usize)> = queue.iter().enumerate().filter_map(turn).collect();
        order.sort_unstable();
        let mut has_place = vec![false; queue.len()];
        for (_, position) in order {
            let (pod, asked) = queue[position];
            let placement = match &previous.placed[&pod.key].node {
                Target::Existing(node) => {
                    there.get(node).and_then(|index| self.put_with_wishes(pod, asked, &mut Planned::Existing(*index)))
                }
                Target::New(index) => nodes
                    .get_mut(*index)
                    .and_then(Option::as_mut)
                    .and_then(|node| self.put_with_wishes(pod, asked, node)),
            };
            if let Some(placement) = placement {
                self.has_put(pod, asked, placement);
                has_place[position] = true;
            }
        }
        let left: Queue<'a> = queue.iter().zip(has_place).filter(|(_, has)| !has).map(|(one, _)| *one).collect();
        self.search.expect_pods(left.iter().map(|(_, asked)| *asked));
        left
    }

    /// Puts a pod on this node with as many of its wishes as can be.
    pub(super) fn put_with_wishes(&mut self, pod: &'a Pod, asked: usize, node: &mut Planned) -> Option<Placement> {
        let mut given_up = 0;
        while let Some(kind) = self.search.kind(asked, given_up) {
            if let Ok(placement) = self.put(pod, kind, node) {
                self.note_given_up(asked, given_up);
                return Some(placement);
            }
            given_up += 1;
        }
        None
    }
}

/// The nodes of an earlier solution, new and old, so often, for other pods of the same kinds: `kind_of` says which kind the
/// earlier solution's pods are of.
pub(super) fn alike(
    search: &Search<'_>,
    kind_of: &BTreeMap<&PodKey, usize>,
    previous: &Solution,
    again: &[Option<(usize, Bits)>],
    copies: usize,
) -> Plan {
    let there: BTreeMap<&NodeKey, usize> =
        search.existing.iter().enumerate().map(|(index, there)| (&there.node.key, index)).collect();
    let mut plan = Plan::new(search.kinds.len());
    for (pod, placement) in previous.placed.iter().filter(|_| copies > 0) {
        if let Target::Existing(node) = &placement.node
            && let (Some(kind), Some(node)) = (kind_of.get(pod), there.get(node))
        {
            plan.keep(*kind, *node);
        }
    }
    let nodes = || previous.new_nodes.iter().zip(again);
    for (node, again) in std::iter::repeat_n((), copies).flat_map(|()| nodes()) {
        let Some((template, choices)) = again.clone() else { continue };
        let mut pods: BTreeMap<usize, u64> = BTreeMap::new();
        for kind in node.pods.iter().filter_map(|pod| kind_of.get(pod)) {
            *pods.entry(*kind).or_default() += 1;
        }
        plan.open(template, choices, pods);
    }
    plan
}

/// Of each new node of an earlier solution, its pool and the offerings that cost what it costs, as far as these are there;
/// where the pool demands different values, all its offerings.
pub(super) fn same_again(search: &Search<'_>, previous: &Solution) -> Vec<Option<(usize, Bits)>> {
    let pools: BTreeMap<&PoolKey, usize> =
        search.templates.iter().enumerate().map(|(index, template)| (&template.pool.key, index)).collect();
    // What a pool offers is looked up for all its nodes at once.
    let mut offered: BTreeMap<usize, BTreeMap<OfferingKey, usize>> = BTreeMap::new();
    let again = |node: &NewNode| {
        let template = *pools.get(&node.pool)?;
        let of_pool = &search.templates[template];
        let offered = offered
            .entry(template)
            .or_insert_with(|| of_pool.choices.iter().enumerate().map(|(index, one)| (one.key(), index)).collect());
        let kept = |price| price == node.price || !of_pool.min_values.is_empty();
        let there = node.offerings.iter().filter(|offering| kept(offering.price));
        let choices = there.filter_map(|offering| offered.get(&offering.key).copied());
        Some((template, Bits::of(of_pool.choices.len(), choices)))
    };
    previous.new_nodes.iter().map(again).collect()
}
