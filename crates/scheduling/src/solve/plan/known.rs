//! What one packing problem has taught for another about the same pods, and what an earlier plan tells: prices, and
//! contents of nodes.

use std::collections::BTreeMap;

use packing::{Node, Warm};

use super::{
    super::bits::Bits,
    model::{Model, Nodes},
    wanted::{Wanted, Within},
};
use crate::{PodKey, Solution};

/// Pods of one kind, and the domains they have to be in.
type Pods = (usize, Within);

/// Prices of pods and contents of nodes, in the terms of the snapshot.
#[derive(Default)]
pub(super) struct Known {
    prices: BTreeMap<Pods, i64>,
    /// The least price of a kind, wherever it has to be.
    least: BTreeMap<usize, i64>,
    contents: Vec<Content>,
    /// Nodes of an earlier plan, and how many there are of each.
    nodes: Vec<(Content, u64)>,
    /// How many pods of which kinds the plan that taught it left out.
    pub(super) left_out: Vec<(usize, u64)>,
}

/// What some node may hold: one of a pool, known by one of its choices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Content {
    template: usize,
    choice: usize,
    pods: Vec<(Pods, u64)>,
}

impl Known {
    /// What the new nodes of an earlier plan hold, as far as they can be had `again`; `kind_of` says which kind its pods are
    /// of now.
    pub(super) fn earlier(
        kind_of: &BTreeMap<&PodKey, usize>,
        previous: &Solution,
        again: &[Option<(usize, Bits)>],
    ) -> Self {
        let mut nodes: BTreeMap<Content, u64> = BTreeMap::new();
        for (node, again) in previous.new_nodes.iter().zip(again) {
            let Some((template, choices)) = again else { continue };
            let Some(choice) = choices.iter().next() else { continue };
            let mut pods: BTreeMap<Pods, u64> = BTreeMap::new();
            for kind in node.pods.iter().filter_map(|pod| kind_of.get(pod)) {
                *pods.entry((*kind, Within::new())).or_default() += 1;
            }
            let pods: Vec<_> = pods.into_iter().collect();
            if !pods.is_empty() {
                *nodes.entry(Content { template: *template, choice, pods }).or_default() += 1;
            }
        }
        Self { nodes: nodes.into_iter().collect(), ..Self::default() }
    }

    /// Whether there is nothing of an earlier plan.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Notes what the solve of a model has left.
    pub(super) fn learn(&mut self, model: &Model, warm: &Warm) {
        let pods = |group: usize| (model.groups[group].kind, model.groups[group].within.clone());
        let single = |group: usize| model.groups[group].pods == 1;
        for (group, price) in warm.prices.iter().enumerate().filter(|(group, price)| **price > 0 && single(*group)) {
            let least = self.least.entry(model.groups[group].kind).or_insert(*price);
            *least = (*least).min(*price);
            self.prices.insert(pods(group), *price);
        }
        for (bin, content) in &warm.patterns {
            if let Nodes::New { template, choices } = &model.bins[*bin]
                && let Some(choice) = choices.iter().next()
            {
                let each = |(group, count): &(usize, u64)| (pods(*group), count * model.groups[*group].pods);
                let pods = content.iter().map(each).collect();
                self.contents.push(Content { template: *template, choice, pods });
            }
        }
    }

    /// What of it concerns a model.
    pub(super) fn of(&self, model: &Model) -> Warm {
        let mut group_of: BTreeMap<Pods, usize> = BTreeMap::new();
        for (group, wanted) in model.groups.iter().enumerate() {
            group_of.insert((wanted.kind, wanted.within.clone()), group);
        }
        let mut bin_of: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for (bin, nodes) in model.bins.iter().enumerate() {
            if let Nodes::New { template, choices } = nodes {
                bin_of.extend(choices.iter().map(|choice| ((*template, choice), bin)));
            }
        }
        let price = |wanted: &Wanted| {
            let same = self.prices.get(&(wanted.kind, wanted.within.clone()));
            same.or_else(|| self.least.get(&wanted.kind)).copied().unwrap_or(0)
        };
        let mut groups_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (group, wanted) in model.groups.iter().enumerate() {
            groups_of.entry(wanted.kind).or_default().push(group);
        }
        let eligible = |group: usize, bin: usize| model.problem.groups[group].eligible.has(bin);
        let translated = |content: &Content| {
            let bin = *bin_of.get(&(content.template, content.choice))?;
            let group = |(kind, within): &Pods| {
                let same =
                    group_of.get(&(*kind, within.clone())).or_else(|| group_of.get(&(*kind, Within::new()))).copied();
                same.or_else(|| groups_of.get(kind)?.iter().copied().find(|group| eligible(*group, bin)))
            };
            let pods = content.pods.iter().filter_map(|(pods, count)| {
                let group = group(pods)?;
                let together = count / model.groups[group].pods.max(1);
                (together > 0).then_some((group, together))
            });
            Some((bin, pods.collect()))
        };
        let again = |(content, copies): &(Content, u64)| {
            let (bin, pods) = translated(content)?;
            Some(Node { bin, copies: *copies, pods })
        };
        let of_earlier = self.nodes.iter().map(|(content, _)| content);
        Warm {
            nodes: self.nodes.iter().filter_map(again).collect(),
            patterns: self.contents.iter().chain(of_earlier).filter_map(translated).collect(),
            prices: model.groups.iter().map(price).collect(),
        }
    }
}
