use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use requirements::Requirements;

use super::{
    ask::Ask,
    axis::{self, Axis},
    kind::{Daemon, Kind},
    node_labels::{allowed, labels_of},
    topology::{Here, Seat, Topology, Verdict},
};
use crate::{HostPort, Node, NodeRefusals, Pod, Taint, untolerated};

/// A node of the snapshot and what is left of it.
#[derive(Clone)]
pub(super) struct Existing<'a> {
    pub(super) node: &'a Node,
    pub(super) labels: Rc<BTreeMap<&'a str, &'a str>>,
    pub(super) seats: Vec<Seat>,
    pub(super) here: Here,
    taints: Rc<[&'a Taint]>,
    pub(super) free: Vec<i64>,
    pub(super) ports: Vec<HostPort>,
    /// By driver whose limit is known: how many volumes at most, and which are attached.
    volumes: BTreeMap<&'a str, (u32, BTreeSet<&'a str>)>,
}

/// What keeps a pod from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Taint,
    Requirement,
    Resource,
    HostPort,
    VolumeLimit,
    /// Where other pods are; the verdict says whether for good.
    Topology(Verdict),
}

impl Refusal {
    /// Whether the node will refuse every later pod of the kind too.
    pub(super) fn is_final(self) -> bool {
        self != Self::Topology(Verdict::NotNow)
    }

    pub(super) fn count_in(self, refusals: &mut NodeRefusals) {
        let count = match self {
            Self::Taint => &mut refusals.taint,
            Self::Requirement => &mut refusals.requirement,
            Self::Resource => &mut refusals.resource,
            Self::HostPort => &mut refusals.host_port,
            Self::VolumeLimit => &mut refusals.volume_limit,
            Self::Topology(_) => &mut refusals.topology,
        };
        *count += 1;
    }
}

impl<'a> Existing<'a> {
    /// The node with its pods; where it is in terms of labels is to be told it.
    pub(super) fn new(node: &'a Node, axis: &Axis, daemons: &[Daemon<'_>]) -> Self {
        let labels = Rc::new(labels_of(node));
        let taints: Rc<[&Taint]> = node.lasting_taints().collect();
        let mut free = axis.dense(&node.allocatable);
        // Hardly any of a hundred thousand pods is in the processor's cache. That all are looked up before the first is read lets it
        // wait for several at once.
        let requests: Vec<_> = node.pods.iter().map(|pod| pod.requests.iter()).collect();
        for amounts in requests {
            axis.subtract(&mut free, amounts);
        }
        let mut ports: Vec<HostPort> = node.pods.iter().flat_map(|pod| pod.host_ports.iter().cloned()).collect();
        // Daemons that will still come need their room too.
        for daemon in daemons {
            let here = daemon.tolerates(taints.iter().copied())
                && daemon.alternatives.iter().any(|wanted| allowed(wanted, &labels))
                && !node.pods.iter().any(|pod| daemon.made(pod));
            if here {
                axis::subtract(&mut free, &daemon.request);
                ports.extend(daemon.pod.host_ports.iter().cloned());
            }
        }
        let attached = |driver: &str| {
            let of = node.pods.iter().map(Arc::as_ref).filter_map(move |pod| pod.volumes_by_driver.get(driver));
            of.flatten().map(String::as_str).collect()
        };
        let volumes =
            node.volume_limits.iter().map(|(driver, most)| (driver.as_str(), (*most, attached(driver)))).collect();
        Self { node, labels, seats: Vec::new(), here: Here::default(), taints, free, ports, volumes }
    }

    /// Whether the node takes one more pod of the kind, or what keeps it away.
    ///
    /// What is full is still told apart from what would not do empty: a person can act on the former alone.
    pub(super) fn fits(&self, kind: &Kind<'_>, topology: &Topology<'_>) -> Result<(), Refusal> {
        let has_room = axis::fits(&kind.shape.request, &self.free);
        if kind.untolerated(self.taints.iter().copied()).next().is_some() {
            return Err(Refusal::Taint);
        }
        if !kind.goes_anywhere() && !kind.shape.alternatives.iter().any(|wanted| allowed(wanted, &self.labels)) {
            return Err(Refusal::Requirement);
        }
        if !has_room {
            return Err(Refusal::Resource);
        }
        if kind.clash(&self.ports).is_some() {
            return Err(Refusal::HostPort);
        }
        if !self.can_attach(kind) {
            return Err(Refusal::VolumeLimit);
        }
        let relations = &kind.shape.relations;
        let verdicts = relations.keys.iter().map(|key| topology.verdict(relations, *key, self.seats[*key]));
        let worst = verdicts.chain([topology.verdict_here(relations, &self.here)]).find(|one| *one != Verdict::Fine);
        worst.map_or(Ok(()), |verdict| Err(Refusal::Topology(verdict)))
    }

    /// Whether the node could take a pod as it is now, whatever volumes and pods are there.
    pub(super) fn may_take(&self, pod: &Pod, alternatives: &[Requirements], ask: &Ask<'_>) -> bool {
        axis::fits(&ask.request, &self.free)
            && untolerated(&pod.tolerations, self.taints.iter().copied()).is_none()
            && alternatives.iter().any(|wanted| allowed(wanted, &self.labels))
            && !ask.ports.iter().any(|port| self.ports.iter().any(|taken| port.clashes_with(taken)))
    }

    /// Whether it has taints that stay.
    pub(super) fn is_tainted(&self) -> bool {
        !self.taints.is_empty()
    }

    /// Takes a pod that fits.
    pub(super) fn put(&mut self, kind: &Kind<'a>) {
        axis::subtract(&mut self.free, &kind.shape.request);
        self.ports.extend(kind.shape.ports.iter().cloned());
        for (driver, names) in kind.shape.volumes {
            if let Some((_, attached)) = self.volumes.get_mut(driver.as_str()) {
                attached.extend(names.iter().map(String::as_str));
            }
        }
    }

    fn can_attach(&self, kind: &Kind<'_>) -> bool {
        kind.shape.volumes.iter().all(|(driver, names)| {
            self.volumes.get(driver.as_str()).is_none_or(|(most, attached)| {
                let more = names.iter().filter(|name| !attached.contains(name.as_str())).count();
                more == 0 || attached.len() + more <= *most as usize
            })
        })
    }
}
