//! Which pods may share a node, as far as counts can say it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{
    relations::{Demand, Place},
    search::Search,
};

/// So many spreads over nodes that several kinds share are rows of the model; more are left to the engine.
const ROWS: usize = 6;

/// Rules for one node.
#[derive(Default)]
pub(super) struct Together {
    /// By kind: how many pods of it a node may have.
    most: BTreeMap<usize, u32>,
    /// By kind: labels, of which a node holds one each.
    labels: BTreeMap<usize, Vec<u32>>,
    /// How many pods of some kinds a node may have together.
    pub(super) rows: Vec<(u32, BTreeSet<usize>)>,
}

impl Together {
    /// Rules for these kinds; labels are numbered from `first_label` on.
    pub(super) fn of(search: &Search<'_>, kinds: &BTreeSet<usize>, first_label: u32) -> Self {
        let mut together = Self::default();
        let mut shared: BTreeMap<(usize, Option<u32>), BTreeSet<usize>> = BTreeMap::new();
        for &kind in kinds {
            let relations = &search.kinds[kind].shape.relations;
            for rule in relations.rules.iter().filter(|rule| rule.place == Place::Host) {
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
        let mut label = first_label;
        let several = shared.into_iter().filter(|(_, kinds)| kinds.len() > 1);
        for ((_, most), kinds) in several {
            match most {
                // Whoever of them comes last sees all the others.
                Some(most) if together.rows.len() < ROWS => together.rows.push((most, kinds)),
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
