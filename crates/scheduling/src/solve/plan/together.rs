//! Which pods may share a node, as far as counts can say it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    relations::{Demand, Place},
    search::Search,
};

/// So many rules of several kinds are rows of the model; more are left to the engine.
const ROWS: usize = 6;
/// What a row has for pods one of which suffers none of the others beside it: more than a node ever has pods.
const WHOLE: u32 = 1 << 20;

/// Rules for one node.
#[derive(Default)]
pub(super) struct Together {
    /// By kind: how many pods of it a node may have.
    most: BTreeMap<usize, u32>,
    /// By kind: labels, of which a node holds one each.
    labels: BTreeMap<usize, Vec<u32>>,
    /// What a node has for some kinds together.
    pub(super) rows: Vec<Row>,
}

/// What a node has for some kinds together, and how much of it a pod of each takes.
pub(super) struct Row {
    pub(super) most: u32,
    takes: BTreeMap<usize, u32>,
}

impl Row {
    pub(super) fn taken_by(&self, kind: usize) -> u32 {
        self.takes.get(&kind).copied().unwrap_or(0)
    }
}

impl Together {
    /// Rules for these kinds; labels are numbered from `first_label` on.
    pub(super) fn of(search: &Search<'_>, kinds: &BTreeSet<usize>, first_label: u32) -> Self {
        let mut together = Self::default();
        let mut shared: BTreeMap<(usize, Option<u32>), BTreeSet<usize>> = BTreeMap::new();
        // By group: the kinds that suffer none of it beside them.
        let mut shunned: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for &kind in kinds {
            let relations = &search.kinds[kind].shape.relations;
            for rule in relations.rules.iter().filter(|rule| rule.place == Place::Host) {
                if rule.demand == Demand::Apart {
                    shunned.entry(rule.group).or_default().insert(kind);
                }
                let counts_itself = search.topology.groups.are_counted(relations, rule.group);
                let most = match rule.demand {
                    Demand::Spread { max_skew, itself: true, .. } => Some(max_skew),
                    Demand::Apart if counts_itself => None,
                    _ => continue,
                };
                shared.entry((rule.group, most)).or_default().insert(kind);
                let own = together.most.entry(kind).or_insert(u32::MAX);
                *own = (*own).min(most.unwrap_or(1));
            }
        }
        let counted = if shunned.is_empty() { BTreeMap::new() } else { counted(search, kinds) };
        let are_apart = |kinds: &BTreeSet<usize>| {
            let mut shared = shared.iter();
            shared.any(|((_, most), alone)| most.is_none() && kinds.is_subset(alone))
        };
        for (group, shunning) in shunned {
            let Some(members) = counted.get(&search.topology.groups.first_alike[group]) else { continue };
            let others = members - &shunning;
            let strangers = &shunning - members;
            let both: BTreeSet<usize> = &shunning & members;
            // To be apart is mutual: whoever comes last, a node has one of some or several of the others.
            let (ones, several) = if strangers.is_empty() || are_apart(&strangers) {
                (&both | &strangers, others)
            } else if others.is_empty() || are_apart(&others) {
                (&both | &others, strangers)
            } else {
                continue;
            };
            if !ones.is_empty() && !several.is_empty() && together.rows.len() < ROWS {
                let takes = ones.into_iter().map(|kind| (kind, WHOLE)).chain(several.into_iter().map(|kind| (kind, 1)));
                together.rows.push(Row { most: WHOLE, takes: takes.collect() });
            }
        }
        let mut label = first_label;
        let several = shared.into_iter().filter(|(_, kinds)| kinds.len() > 1);
        for ((_, most), kinds) in several {
            match most {
                // Whoever of them comes last sees all the others.
                Some(most) if together.rows.len() < ROWS => {
                    together.rows.push(Row { most, takes: kinds.into_iter().map(|kind| (kind, 1)).collect() });
                }
                Some(_) => {}
                None => {
                    for kind in kinds {
                        together.labels.entry(kind).or_default().push(label);
                    }
                    label += 1;
                }
            }
        }
        together
    }

    pub(super) fn most(&self, kind: usize) -> u32 {
        self.most.get(&kind).copied().unwrap_or(u32::MAX)
    }

    pub(super) fn labels(&self, kind: usize) -> &[u32] {
        self.labels.get(&kind).map_or(&[], Vec::as_slice)
    }
}

/// By the first group of each bundle: the kinds that count in it, on hosts.
fn counted(search: &Search<'_>, kinds: &BTreeSet<usize>) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut counted: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for &kind in kinds {
        let on_hosts = search.kinds[kind].shape.relations.counted.iter().filter(|(_, place)| *place == Place::Host);
        for (first, _) in on_hosts {
            counted.entry(*first).or_default().insert(kind);
        }
    }
    counted
}
