//! Host ports as labels of which a node holds one.

use std::collections::BTreeMap;

use super::super::search::Search;
use crate::{HostPort, Protocol};

/// Numbers for host ports, such that two pods clash where they share one: an address has its own, and a pod that listens
/// on all addresses has those of all.
pub(super) struct Ports {
    labels: BTreeMap<(u16, Protocol, String), u32>,
}

impl Ports {
    pub(super) fn of(search: &Search<'_>) -> Self {
        let of_pods = search.kinds.iter().flat_map(|kind| kind.shape.ports);
        let of_daemons = search.templates.iter().flat_map(|template| &template.shapes).flat_map(|shape| &shape.ports);
        let of_nodes = search.existing.iter().flat_map(|there| &there.ports);
        let key = |port: &HostPort| (port.port, port.protocol, address(port).to_owned());
        let mut labels: BTreeMap<_, u32> = of_pods.map(|port| (key(port), 0)).collect();
        if !labels.is_empty() {
            labels.extend(of_daemons.chain(of_nodes).map(|port| (key(port), 0)));
        }
        for (number, label) in (0..).zip(labels.values_mut()) {
            *label = number;
        }
        Self { labels }
    }

    /// How many labels there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.labels.len()).unwrap_or(u32::MAX)
    }

    /// The labels that these ports take of a node.
    pub(super) fn taken(&self, ports: &[HostPort]) -> Vec<u32> {
        let mut taken: Vec<u32> = ports.iter().flat_map(|port| self.clashing(port)).collect();
        taken.sort_unstable();
        taken.dedup();
        taken
    }

    fn clashing(&self, port: &HostPort) -> impl Iterator<Item = u32> {
        let (number, protocol) = (port.port, port.protocol);
        let same = self.labels.range((number, protocol, String::new())..);
        let same = same.take_while(move |(other, _)| (other.0, other.1) == (number, protocol));
        let of_all = address(port).is_empty();
        same.filter(move |(other, _)| of_all || other.2 == address(port)).map(|(_, label)| *label)
    }
}

/// The address, empty for all of them.
fn address(port: &HostPort) -> &str {
    if port.is_everywhere() { "" } else { &port.ip }
}
