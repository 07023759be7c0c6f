use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{Hash, Hasher},
    rc::Rc,
};

use requirements::Requirements;

use super::{axis::Axis, map::Map, relations::Relations, template::Fresh, wishes::alternatives};
use crate::{HostPort, Pod, Snapshot, Taint, TaintEffect, Toleration, Unfit, untolerated};

/// Pods that no node tells apart.
#[derive(Clone)]
pub(super) struct Kind<'a> {
    pub(super) shape: Rc<Shape<'a>>,
    /// What an empty node of each pool offers it, other pods and limits aside; `None` if nothing.
    pub(super) fresh: Rc<[Option<Fresh>]>,
    pub(super) cursors: Cursors,
    /// The pools that had no room left within their limits, until these are looked at again.
    pub(super) at_limit: Vec<bool>,
    /// Why it does not go to each pool, as far as that has been asked.
    pub(super) passed: BTreeMap<usize, Unfit>,
    /// How many pods were placed when it last found no place.
    pub(super) refused_at: Option<usize>,
}

/// All that nodes can tell pods apart by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Shape<'a> {
    pub(super) request: Vec<i64>,
    /// Alternatives, each complete: any of them will do.
    pub(super) alternatives: Vec<Requirements>,
    pub(super) tolerations: &'a [Toleration],
    /// Whether a taint that is only a preference keeps it away.
    pub(super) shuns: bool,
    pub(super) ports: &'a [HostPort],
    pub(super) volumes: &'a BTreeMap<String, BTreeSet<String>>,
    pub(super) relations: Relations,
}

/// Where to go on looking: everything before has refused the kind and will go on doing so.
#[derive(Clone, Default)]
pub(super) struct Cursors {
    pub(super) existing: BTreeMap<List, usize>,
    pub(super) open: BTreeMap<List, usize>,
}

/// A sequence of nodes to look through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum List {
    /// All of them.
    All,
    /// Those in one domain of a label.
    In(u32),
    /// Those of which this label is not decided.
    Undecided(usize),
    /// Those with pods that the kind must be beside.
    Companions,
}

impl Kind<'_> {
    /// Every taint that keeps the kind away.
    pub(super) fn untolerated<'t>(
        &self,
        taints: impl IntoIterator<Item = &'t Taint>,
    ) -> impl Iterator<Item = &'t Taint> {
        taints.into_iter().filter(|taint| {
            let only_a_wish = taint.effect == TaintEffect::PreferNoSchedule && !self.shape.shuns;
            !only_a_wish && !self.shape.tolerations.iter().any(|toleration| toleration.tolerates(taint))
        })
    }

    pub(super) fn clash<'p>(&self, taken: impl IntoIterator<Item = &'p HostPort>) -> Option<&HostPort> {
        if self.shape.ports.is_empty() {
            return None;
        }
        taken.into_iter().find_map(|taken| self.shape.ports.iter().find(|port| port.clashes_with(taken)))
    }

    /// Whether any node's labels will do.
    pub(super) fn goes_anywhere(&self) -> bool {
        matches!(self.shape.alternatives.as_slice(), [any] if any.is_empty())
    }

    pub(super) fn met_a_limit(&self) -> bool {
        self.at_limit.contains(&true)
    }
}

/// Pods that are written alike: what [`Kind`]s are worked out from, once.
pub(super) struct Alike<'a>(pub(super) &'a Pod);

impl<'a> Alike<'a> {
    /// The pods' numbers, equal for pods written alike, and one pod of each number.
    pub(super) fn number(pods: &[&'a Pod]) -> (Vec<usize>, Vec<&'a Pod>) {
        let mut index: Map<Self, usize> = Map::default();
        let mut distinct = Vec::new();
        let numbers = pods.iter().map(|pod| {
            *index.entry(Self(pod)).or_insert_with(|| {
                distinct.push(*pod);
                distinct.len() - 1
            })
        });
        (numbers.collect(), distinct)
    }
}

impl PartialEq for Alike<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0, other.0);
        a.key.namespace == b.key.namespace
            && a.labels == b.labels
            && a.requests == b.requests
            && a.node_selector == b.node_selector
            && a.required_node_affinity == b.required_node_affinity
            && a.preferred_node_affinity == b.preferred_node_affinity
            && a.tolerations == b.tolerations
            && a.topology_spread == b.topology_spread
            && a.pod_affinity == b.pod_affinity
            && a.pod_anti_affinity == b.pod_anti_affinity
            && a.host_ports == b.host_ports
            && a.volume_zones == b.volume_zones
            && a.volumes_by_driver == b.volumes_by_driver
            && a.invalid == b.invalid
    }
}

impl Eq for Alike<'_> {}

impl Hash for Alike<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let pod = self.0;
        (&pod.key.namespace, &pod.labels, &pod.requests, &pod.node_selector, &pod.required_node_affinity).hash(state);
        (&pod.preferred_node_affinity, &pod.tolerations, &pod.topology_spread, &pod.pod_affinity).hash(state);
        (&pod.pod_anti_affinity, &pod.host_ports, &pod.volume_zones, &pod.volumes_by_driver, &pod.invalid).hash(state);
    }
}

/// What a DaemonSet takes of the nodes it runs on.
pub(super) struct Daemon<'a> {
    pub(super) pod: &'a Pod,
    pub(super) alternatives: Vec<Requirements>,
    pub(super) request: Vec<i64>,
}

/// The daemons by key. One that cannot be understood is reckoned to run everywhere its tolerations allow: too much room
/// kept is better than too little.
pub(super) fn daemons<'a>(snapshot: &'a Snapshot, axis: &Axis) -> Vec<Daemon<'a>> {
    let mut daemons: Vec<_> = snapshot
        .daemons
        .iter()
        .map(|pod| Daemon {
            pod,
            alternatives: alternatives(pod).unwrap_or_else(|_| vec![Requirements::new()]),
            request: axis.request(&pod.requests),
        })
        .collect();
    daemons.sort_by_key(|daemon| &daemon.pod.key);
    daemons
}

impl Daemon<'_> {
    pub(super) fn tolerates<'t>(&self, taints: impl IntoIterator<Item = &'t Taint>) -> bool {
        untolerated(&self.pod.tolerations, taints).is_none()
    }

    /// Whether this pod is one of the DaemonSet's.
    pub(super) fn made(&self, pod: &Pod) -> bool {
        let set = match &self.pod.owner {
            Some(owner) if owner.kind == "DaemonSet" => &owner.name,
            _ => &self.pod.key.name,
        };
        let owned = |owner: &crate::OwnerKey| owner.kind == "DaemonSet" && owner.name == *set;
        pod.key.namespace == self.pod.key.namespace && pod.owner.as_ref().is_some_and(owned)
    }
}
