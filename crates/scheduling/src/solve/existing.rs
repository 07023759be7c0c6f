use std::sync::Arc;

use requirements::{Requirements, labels};

use super::{
    axis::{self, Axis},
    kind::{self, Daemon, Kind},
};
use crate::{HostPort, Node, NodeRefusals, Taint};

/// A node of the snapshot and what is left of it.
pub(super) struct Existing<'a> {
    pub(super) node: &'a Node,
    labels: Requirements,
    taints: Vec<&'a Taint>,
    free: Vec<i64>,
    ports: Vec<HostPort>,
}

/// The first thing that keeps a pod from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Taint,
    Requirement,
    Resource,
    HostPort,
}

impl Refusal {
    pub(super) fn count_in(self, refusals: &mut NodeRefusals) {
        let count = match self {
            Self::Taint => &mut refusals.taint,
            Self::Requirement => &mut refusals.requirement,
            Self::Resource => &mut refusals.resource,
            Self::HostPort => &mut refusals.host_port,
        };
        *count += 1;
    }
}

impl<'a> Existing<'a> {
    pub(super) fn new(node: &'a Node, axis: &Axis, daemons: &[Daemon<'_>]) -> Self {
        let mut labels = Requirements::from_labels(&node.labels);
        if labels.get(labels::HOSTNAME).is_none() {
            labels.add(kind::hostname(&node.key.0));
        }
        let taints: Vec<&Taint> = node.lasting_taints().collect();
        let mut free = axis.dense(&node.allocatable);
        axis::subtract(&mut free, &axis.dense(&kind::sum(node.pods.iter().map(Arc::as_ref))));
        let mut ports: Vec<HostPort> = node.pods.iter().flat_map(|pod| pod.host_ports.iter().cloned()).collect();
        // Daemons that will still come need their room too.
        for daemon in daemons {
            let here = daemon.tolerates(taints.iter().copied())
                && daemon.alternatives.iter().any(|wanted| labels.strictly_compatible(wanted).is_ok())
                && !node.pods.iter().any(|pod| daemon.made(pod));
            if here {
                axis::subtract(&mut free, &daemon.request);
                ports.extend(daemon.pod.host_ports.iter().cloned());
            }
        }
        Self { node, labels, taints, free, ports }
    }

    /// Takes one pod of the kind, or says why not.
    pub(super) fn take(&mut self, kind: &Kind<'_>) -> Result<(), Refusal> {
        if !axis::fits(&kind.request, &self.free) {
            // What is full is still told apart from what would not do empty: a person can act on the former alone.
            return Err(self.unsuited(kind).unwrap_or(Refusal::Resource));
        }
        if let Some(refusal) = self.unsuited(kind) {
            return Err(refusal);
        }
        if kind.clash(&self.ports).is_some() {
            return Err(Refusal::HostPort);
        }
        axis::subtract(&mut self.free, &kind.request);
        self.ports.extend(kind.ports.iter().cloned());
        Ok(())
    }

    fn unsuited(&self, kind: &Kind<'_>) -> Option<Refusal> {
        if kind.untolerated(self.taints.iter().copied()).is_some() {
            return Some(Refusal::Taint);
        }
        let fits = kind.alternatives.iter().any(|wanted| self.labels.strictly_compatible(wanted).is_ok());
        (!fits).then_some(Refusal::Requirement)
    }
}
