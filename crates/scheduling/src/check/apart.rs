//! Required anti-affinity: no order of placing helps where two pods may come to share a domain.

use std::collections::BTreeMap;

use super::{
    Violation,
    crowd::{Cluster, Crowd, Selection},
    topology::{Map, Place},
};
use crate::PodKey;

/// A term as all its holders mean it.
type Term = (Selection, usize);

/// Reports every pod that holds a term against a pod that may be near, if this solve has placed at least one of them.
pub(super) fn check<'a>(crowd: &Crowd<'a>, map: &mut Map<'_, 'a>, violations: &mut Vec<Violation>) {
    let mut holders: BTreeMap<Term, Vec<usize>> = BTreeMap::new();
    for (index, kind) in crowd.kinds.iter().enumerate() {
        for term in kind.away() {
            let term = (Selection::of_term(kind, term), map.topology(&term.topology_key));
            let kinds = holders.entry(term).or_default();
            if kinds.last() != Some(&index) {
                kinds.push(index);
            }
        }
    }
    let by_kind = |clusters: &[Cluster<'a>]| {
        let mut by_kind = vec![Vec::new(); crowd.kinds.len()];
        for (index, cluster) in clusters.iter().enumerate() {
            by_kind[cluster.kind].push(index);
        }
        by_kind
    };
    let (bound, placed) = (by_kind(&crowd.bound), by_kind(&crowd.placed));
    for ((selection, topology), holders) in &holders {
        let selected = crowd.selected(std::slice::from_ref(selection));
        let topology = &map.all[*topology];
        let mut crowds: BTreeMap<usize, Here<'_, 'a>> = BTreeMap::new();
        for kind in &selected {
            let there = bound[*kind].iter().map(|index| (&crowd.bound[*index], false));
            let here = placed[*kind].iter().map(|index| (&crowd.placed[*index], true));
            for (cluster, is_new) in there.chain(here) {
                for domain in &topology.place(cluster.site).domains {
                    let here = crowds.entry(*domain).or_default();
                    if is_new { here.placed.push(cluster) } else { here.bound.push(cluster) }
                }
            }
        }
        for kind in holders {
            let new = placed[*kind].iter().map(|index| (&crowd.placed[*index], true));
            let old = bound[*kind].iter().map(|index| (&crowd.bound[*index], false));
            for (cluster, is_new) in new.chain(old) {
                let place: &Place = topology.place(cluster.site);
                for pod in &cluster.pods {
                    let other = place.domains.iter().find_map(|domain| crowds.get(domain)?.other(pod, is_new));
                    if let Some(other) = other {
                        let (pod, other, key) = ((*pod).clone(), other.clone(), topology.key.clone());
                        violations.push(Violation::TooNear { pod, other, key });
                    }
                }
            }
        }
    }
}

/// The selected pods that may be in one domain.
#[derive(Default)]
struct Here<'c, 'a> {
    placed: Vec<&'c Cluster<'a>>,
    bound: Vec<&'c Cluster<'a>>,
}

impl<'a> Here<'_, 'a> {
    /// One of them besides this one; a bound pod has nothing to say to another bound one.
    fn other(&self, pod: &PodKey, is_new: bool) -> Option<&'a PodKey> {
        let bound = if is_new { self.bound.as_slice() } else { &[] };
        self.placed.iter().chain(bound).flat_map(|cluster| &cluster.pods).copied().find(|other| *other != pod)
    }
}
