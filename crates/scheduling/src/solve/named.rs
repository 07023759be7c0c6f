//! Nodes by the values of the labels that very many pods tell apart: where each of ten thousand pods wants a value of its
//! own, nearly all nodes refuse nearly all pods, and nobody need look at them to know.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use requirements::{Requirement, Requirements};

use super::{existing::Existing, kind::Shape, map::Map, wishes::Asked};

/// Nodes are listed by the values of a label if pods name more than so many. Tests are small, and their plans are to be those that
/// looking at every node gives.
const VALUES: usize = if cfg!(test) { 1 } else { 32 };
/// What names more values than this is looked at everywhere.
const FEW: usize = 8;
/// So many nodes are looked at whichever they are.
const NODES: usize = 64;

/// See the module. The nodes opened are listed as they come; a node that is listed under a value need not have it any more.
#[derive(Clone, Default)]
pub(super) struct Named<'a> {
    /// The labels.
    keys: Rc<[String]>,
    /// By label: the nodes of the snapshot with each value, in order.
    existing: Rc<[Map<&'a str, Vec<usize>>]>,
    /// By label: the nodes opened that may have each value, as far as they are left few.
    open: Vec<Map<String, BTreeSet<usize>>>,
    /// By label: the nodes opened that may still have many values.
    loose: Vec<BTreeSet<usize>>,
}

impl<'a> Named<'a> {
    /// Finds the labels that matter, and the nodes of the snapshot that have them.
    pub(super) fn new(asked: &[Asked<'_>], existing: &[Existing<'a>]) -> Self {
        let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for requirement in asked.iter().flat_map(Asked::labels) {
            let named = few(requirement).into_iter().flatten();
            named.for_each(|value| {
                values.entry(requirement.key()).or_default().insert(value);
            });
        }
        let many = values.into_iter().filter(|(_, values)| values.len() > VALUES);
        let keys: Rc<[String]> = many.map(|(key, _)| key.to_owned()).collect();
        let by_value = |key: &String| {
            let mut nodes: Map<&'a str, Vec<usize>> = Map::default();
            for (index, one) in existing.iter().enumerate() {
                if let Some(value) = one.labels.get(key.as_str()) {
                    nodes.entry(value).or_default().push(index);
                }
            }
            nodes
        };
        let existing = keys.iter().map(by_value).collect();
        Self { open: vec![Map::default(); keys.len()], loose: vec![BTreeSet::new(); keys.len()], keys, existing }
    }

    /// Lists an opened node anew: it has been opened, or its labels may be less than before.
    pub(super) fn note(&mut self, index: usize, requirements: &Requirements) {
        let lists = self.open.iter_mut().zip(&mut self.loose);
        for (key, (open, loose)) in self.keys.iter().zip(lists) {
            match requirements.get(key).and_then(Requirement::finite).filter(|values| values.len() <= FEW) {
                Some(values) => {
                    loose.remove(&index);
                    for value in values {
                        open.entry(value.clone()).or_default().insert(index);
                    }
                }
                None => {
                    loose.insert(index);
                }
            }
        }
    }

    /// The nodes of the snapshot from this one on outside which all refuse a pod of this shape for its labels, in order; `None`
    /// for all nodes.
    pub(super) fn existing(&self, shape: &Shape<'_>, from: usize) -> Option<Vec<usize>> {
        let lists = self.lists(shape, |key, value| self.existing[key].get(value).map(Vec::as_slice));
        let most = |(_, lists): &(usize, Vec<&[usize]>)| lists.iter().map(|list| list.len()).sum::<usize>();
        let (_, lists) = lists.into_iter().min_by_key(most)?;
        let from_there = lists.into_iter().flat_map(|list| &list[list.partition_point(|index| *index < from)..]);
        Some(in_order(from_there))
    }

    /// The nodes opened from this one on outside which all refuse a pod of this shape for its labels, in order; `None` if these
    /// are about as many as all, of which there are so many.
    pub(super) fn open(&self, shape: &Shape<'_>, from: usize, all: usize) -> Option<Vec<usize>> {
        let lists = self.lists(shape, |key, value| self.open[key].get(value));
        let most = |(key, lists): &(usize, Vec<&BTreeSet<usize>>)| {
            self.loose[*key].len() + lists.iter().map(|list| list.len()).sum::<usize>()
        };
        let (key, lists) = lists.into_iter().min_by_key(most).filter(|one| most(one) <= NODES.max(all / 4))?;
        let from_there = lists.into_iter().chain([&self.loose[key]]).flat_map(|list| list.range(from..));
        Some(in_order(from_there))
    }

    /// For each of the labels of which every alternative of the shape names few values: what is listed under these.
    fn lists<'l, L: ?Sized>(
        &self,
        shape: &Shape<'_>,
        under: impl Fn(usize, &str) -> Option<&'l L>,
    ) -> Vec<(usize, Vec<&'l L>)> {
        let of_key = |(key, name): (usize, &String)| {
            let values = shape.alternatives.iter().map(|wanted| few(wanted.get(name)?));
            let values = values.collect::<Option<Vec<_>>>().filter(|values| !values.is_empty())?;
            Some((key, values.into_iter().flatten().filter_map(|value| under(key, value)).collect()))
        };
        self.keys.iter().enumerate().filter_map(of_key).collect()
    }
}

fn in_order<'i>(nodes: impl Iterator<Item = &'i usize>) -> Vec<usize> {
    let mut found: Vec<usize> = nodes.copied().collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The values, if they are few and one of them has to be there.
pub(super) fn few(requirement: &Requirement) -> Option<&BTreeSet<String>> {
    requirement.finite().filter(|values| values.len() <= FEW && !requirement.may_be_absent())
}
