//! Groups that count the same pods over the same label, each on other nodes.
//!
//! A spread counts on the nodes that its pod may be on. Ten thousand pods that each want a node label of their own and spread the
//! same pods have ten thousand groups, each of which counts nearly nowhere. So a pod is told by which bundles it is counted, and
//! of these the groups are found by the labels of its node.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use requirements::{Requirement, Requirements, labels};

use super::{
    existing::Existing,
    map::Map,
    named::few,
    relations::{Filter, Groups},
    template::Template,
    topology::Counts,
};
use crate::Node;

/// Groups are listed by labels if there are more filters than so many. Tests are small, and their plans are to be those that
/// looking at every group gives.
const FILTERS: usize = if cfg!(test) { 1 } else { 32 };

/// A node as spreads see it.
pub(super) enum Seen<'s, 'a> {
    /// One there is, with its labels. What filters, by their index, say of it may be remembered.
    There { node: &'s Node, labels: &'s BTreeMap<&'a str, &'a str>, said: Option<&'s RefCell<Vec<Option<bool>>>> },
    /// A new one, as far as its labels are decided, and which spreads count there.
    New { template: &'s Template<'a>, requirements: &'s Requirements, counts: &'s Counts },
}

impl Seen<'_, '_> {
    /// Whether its pods count.
    pub(super) fn is_admitted_by(&self, index: usize, filter: &Filter<'_>) -> bool {
        match self {
            Self::There { node, labels, said: None } => filter.admits(node, labels),
            Self::There { node, labels, said: Some(said) } => {
                *said.borrow_mut()[index].get_or_insert_with(|| filter.admits(node, labels))
            }
            Self::New { template, requirements, counts } => {
                counts.get(&index) != Some(&false) && filter.admits_new(template, requirements)
            }
        }
    }

    /// The values of a label that it may have; `None` if they are many, or not known.
    fn values(&self, key: &str) -> Option<Vec<&str>> {
        match self {
            Self::There { labels, .. } => Some(labels.get(key).copied().into_iter().collect()),
            Self::New { template, requirements, .. } => match requirements.get(key) {
                Some(has) => few(has).map(|values| values.iter().map(String::as_str).collect()),
                None => (!template.is_of_the_machine(key)).then(Vec::new),
            },
        }
    }
}

/// The groups of every bundle.
#[derive(Default)]
pub(super) struct Bundles {
    /// By the first group of each bundle.
    bundles: Vec<Bundle>,
    /// By filter: the label by which its groups are listed, if any.
    keys: Vec<Option<String>>,
}

/// Nodes there are, by label and value.
pub(super) type ByLabel<'s> = BTreeMap<&'s str, Map<&'s str, Vec<usize>>>;

#[derive(Clone, Default)]
struct Bundle {
    /// By label and value.
    listed: BTreeMap<String, Map<String, Vec<usize>>>,
    others: Vec<usize>,
    /// Whether one of them counts by nodes' labels.
    is_by_labels: bool,
}

impl Bundles {
    pub(super) fn of(groups: &Groups<'_>) -> Self {
        let keys = keys(&groups.filters);
        let mut bundles = vec![Bundle::default(); groups.found.len()];
        for (group, found) in groups.found.iter().enumerate() {
            let bundle = &mut bundles[groups.first_alike[group]];
            bundle.is_by_labels |= found.filter.is_some_and(|filter| groups.filters[filter].by_affinity);
            let listed = found.filter.and_then(|filter| Some((filter, keys[filter].as_ref()?)));
            let Some((filter, key)) = listed else {
                bundle.others.push(group);
                continue;
            };
            let by_value = bundle.listed.entry(key.clone()).or_default();
            for value in named(&groups.filters[filter], key).into_iter().flatten() {
                by_value.entry(value.to_owned()).or_default().push(group);
            }
        }
        Self { bundles, keys }
    }

    /// The nodes there are by the labels by which groups are listed.
    pub(super) fn list<'s>(&'s self, existing: &'s [Existing<'_>]) -> ByLabel<'s> {
        let mut listed = ByLabel::new();
        for key in self.keys.iter().flatten().collect::<BTreeSet<_>>() {
            let by_value = listed.entry(key.as_str()).or_default();
            for (index, node) in existing.iter().enumerate() {
                node.labels
                    .get(key.as_str())
                    .into_iter()
                    .for_each(|value| by_value.entry(*value).or_default().push(index));
            }
        }
        listed
    }

    /// The nodes there are outside which a filter admits none; `None` for all.
    pub(super) fn admitted(&self, index: usize, filter: &Filter<'_>, listed: &ByLabel<'_>) -> Option<Vec<usize>> {
        let key = self.keys[index].as_deref()?;
        let nodes = named(filter, key)?.into_iter().filter_map(|value| listed[key].get(value));
        Some(nodes.flatten().copied().collect())
    }

    /// Whether a group of a bundle counts by nodes' labels.
    pub(super) fn is_by_labels(&self, bundle: usize) -> bool {
        self.bundles[bundle].is_by_labels
    }

    /// The groups of a bundle outside which none counts the pods of a node, in order.
    pub(super) fn of_node(&self, bundle: usize, node: &Seen<'_, '_>) -> Cow<'_, [usize]> {
        let Bundle { listed, others, .. } = &self.bundles[bundle];
        if listed.is_empty() {
            return Cow::Borrowed(others);
        }
        let mut groups = others.clone();
        for (key, by_value) in listed {
            match node.values(key) {
                Some(values) => groups.extend(values.iter().filter_map(|value| by_value.get(*value)).flatten()),
                None => groups.extend(by_value.values().flatten()),
            }
        }
        groups.sort_unstable();
        groups.dedup();
        Cow::Owned(groups)
    }
}

/// By filter: of the labels that all its alternatives want to have one of few values, the one whose values the fewest others
/// want.
fn keys(filters: &[Filter<'_>]) -> Vec<Option<String>> {
    if filters.len() <= FILTERS {
        return vec![None; filters.len()];
    }
    let keys_of = |filter: &Filter<'_>| {
        let first = filter.alternatives.iter().take(1).flat_map(Requirements::iter).map(Requirement::key);
        // These are not on new nodes as they are wanted.
        let own = |key: &&str| ![labels::HOSTNAME, labels::INITIALIZED, labels::REGISTERED].contains(key);
        first.filter(own).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut wanting: Map<(String, String), usize> = Map::default();
    for filter in filters {
        for key in keys_of(filter) {
            for value in named(filter, &key).into_iter().flatten() {
                *wanting.entry((key.clone(), value.to_owned())).or_default() += 1;
            }
        }
    }
    let key = |filter: &Filter<'_>| {
        let wanted = |key: &String| {
            let values = named(filter, key)?;
            Some(values.into_iter().map(|value| wanting[&(key.clone(), value.to_owned())]).sum::<usize>())
        };
        keys_of(filter).into_iter().filter_map(|key| Some((wanted(&key)?, key))).min().map(|(_, key)| key)
    };
    filters.iter().map(key).collect()
}

/// The values of a label one of which a node has that a filter admits, if these are few.
fn named<'f>(filter: &'f Filter<'_>, key: &str) -> Option<BTreeSet<&'f str>> {
    let values = filter.alternatives.iter().map(|wanted| few(wanted.get(key)?));
    let values = values.collect::<Option<Vec<_>>>()?;
    filter.by_affinity.then(|| values.into_iter().flatten().map(String::as_str).collect())
}
