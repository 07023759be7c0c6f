use std::collections::BTreeMap;

use requirements::{Requirement, RequirementTerm, Requirements, TermError};
use units::ResourceList;

use super::{axis::Axis, template::Fresh};
use crate::{HostPort, NodeRefusals, Pod, Snapshot, Taint, Toleration, Unfit, untolerated};

/// Pods that no node tells apart.
pub(super) struct Kind<'a> {
    pub(super) request: Vec<i64>,
    /// Alternatives, each complete: any of them will do.
    pub(super) alternatives: Vec<Requirements>,
    pub(super) tolerations: &'a [Toleration],
    pub(super) ports: &'a [HostPort],
    /// Nodes before these have refused the kind and will go on doing so.
    pub(super) next_existing: usize,
    pub(super) next_open: usize,
    pub(super) refusals: NodeRefusals,
    /// Why each pool refused, in the order of trying, as far as it has been tried.
    pub(super) passed: Vec<Unfit>,
    /// What an empty node of each pool says, once asked.
    pub(super) fresh: BTreeMap<usize, Result<Fresh, Unfit>>,
}

impl Kind<'_> {
    pub(super) fn untolerated<'t>(&self, taints: impl IntoIterator<Item = &'t Taint>) -> Option<&'t Taint> {
        untolerated(self.tolerations, taints)
    }

    pub(super) fn clash<'p>(&self, taken: impl IntoIterator<Item = &'p HostPort>) -> Option<&HostPort> {
        if self.ports.is_empty() {
            return None;
        }
        taken.into_iter().find_map(|taken| self.ports.iter().find(|port| port.clashes_with(taken)))
    }

    pub(super) fn met_a_limit(&self) -> bool {
        self.passed.iter().any(|unfit| matches!(unfit, Unfit::Limit { .. }))
    }

    /// Forgets the refusals that may have been due to a limit.
    pub(super) fn try_pools_again(&mut self) {
        self.passed.clear();
    }
}

/// The kinds met so far.
pub(super) struct Kinds<'a> {
    axis: &'a Axis,
    index: BTreeMap<Shape<'a>, usize>,
    met: Vec<Kind<'a>>,
}

/// All that nodes can tell pods apart by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Shape<'a> {
    request: Vec<i64>,
    alternatives: Vec<Requirements>,
    tolerations: &'a [Toleration],
    ports: &'a [HostPort],
}

impl<'a> Kinds<'a> {
    pub(super) fn new(axis: &'a Axis) -> Self {
        Self { axis, index: BTreeMap::new(), met: Vec::new() }
    }

    /// The kind of a pod that must also satisfy what is implied, or why it cannot be placed at all.
    pub(super) fn of(&mut self, pod: &'a Pod, implied: Requirements) -> Result<usize, Vec<Unfit>> {
        let alternatives = alternatives(pod, implied)?;
        let request = self.axis.request(&pod.requests);
        let shape = Shape { request, alternatives, tolerations: &pod.tolerations, ports: &pod.host_ports };
        if let Some(index) = self.index.get(&shape) {
            return Ok(*index);
        }
        let kind = Kind {
            request: shape.request.clone(),
            alternatives: shape.alternatives.clone(),
            tolerations: shape.tolerations,
            ports: shape.ports,
            next_existing: 0,
            next_open: 0,
            refusals: NodeRefusals::default(),
            passed: Vec::new(),
            fresh: BTreeMap::new(),
        };
        self.met.push(kind);
        self.index.insert(shape, self.met.len() - 1);
        Ok(self.met.len() - 1)
    }

    pub(super) fn into_kinds(self) -> Vec<Kind<'a>> {
        self.met
    }
}

fn alternatives(pod: &Pod, implied: Requirements) -> Result<Vec<Requirements>, Vec<Unfit>> {
    let invalid = |what: &String| Unfit::Invalid { what: what.clone() };
    if !pod.invalid.is_empty() {
        return Err(pod.invalid.iter().map(invalid).collect());
    }
    let read = |what: &str, terms: &[RequirementTerm]| {
        let wrong = |error: TermError| vec![Unfit::Invalid { what: format!("{what}: {error}") }];
        Requirements::try_from(terms).map_err(wrong)
    };
    let mut common = implied;
    common.add_all(&Requirements::from_labels(&pod.node_selector));
    common.add_all(&read("volume topology", &pod.volume_zones)?);
    if pod.required_node_affinity.is_empty() {
        return Ok(vec![common]);
    }
    // An alternative without terms matches no node, says Kubernetes.
    let terms = pod.required_node_affinity.iter().filter(|terms| !terms.is_empty());
    let all = terms
        .map(|terms| Ok(common.intersect(&read("required node affinity", terms)?)))
        .collect::<Result<Vec<_>, Vec<Unfit>>>()?;
    if all.is_empty() {
        let what = "required node affinity: an alternative without terms matches no node".to_owned();
        return Err(vec![Unfit::Invalid { what }]);
    }
    Ok(all)
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
            alternatives: alternatives(pod, Requirements::new()).unwrap_or_else(|_| vec![Requirements::new()]),
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

/// A requirement that an existing node's hostname label satisfies: the label is the node's own name.
pub(super) fn hostname(name: &str) -> Requirement {
    Requirement::one_of(requirements::labels::HOSTNAME, [name])
}

/// All that pods ask for together.
pub(super) fn sum<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> ResourceList {
    let mut sum = ResourceList::new();
    pods.into_iter().for_each(|pod| sum.add(&pod.requests));
    sum
}
