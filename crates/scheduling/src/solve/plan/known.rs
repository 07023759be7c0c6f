//! What one packing problem has taught for another about the same pods: prices, and contents of nodes.

use std::collections::BTreeMap;

use packing::Warm;

use super::{
    super::topology::Domain,
    model::{Model, Nodes},
};

/// Pods of one kind, and the domains they have to be in.
type Pods = (usize, Option<(usize, Vec<Domain>)>);

/// Prices of pods and contents of nodes, in the terms of the snapshot.
#[derive(Default)]
pub(super) struct Known {
    prices: BTreeMap<Pods, i64>,
    /// The least price of a kind, wherever it has to be.
    least: BTreeMap<usize, i64>,
    contents: Vec<Content>,
}

/// What some node may hold: one of a pool, known by one of its choices.
struct Content {
    template: usize,
    choice: usize,
    pods: Vec<(Pods, u64)>,
}

impl Known {
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
        let price = |wanted: &super::Wanted| {
            let same = self.prices.get(&(wanted.kind, wanted.within.clone()));
            same.or_else(|| self.least.get(&wanted.kind)).copied().unwrap_or(0)
        };
        let translated = |content: &Content| {
            let bin = *bin_of.get(&(content.template, content.choice))?;
            let group = |(kind, within): &Pods| {
                group_of.get(&(*kind, within.clone())).or_else(|| group_of.get(&(*kind, None))).copied()
            };
            let pods = content.pods.iter().filter_map(|(pods, count)| Some((group(pods)?, *count)));
            Some((bin, pods.collect()))
        };
        Warm {
            nodes: Vec::new(),
            patterns: self.contents.iter().filter_map(translated).collect(),
            prices: model.groups.iter().map(price).collect(),
        }
    }
}
