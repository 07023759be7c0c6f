//! What pods take of nodes, as far as it decides where any of them could be.

use std::collections::BTreeSet;

use super::axis::Axis;
use crate::{HostPort, Pod};

/// What a pod takes of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ask<'a> {
    pub(super) request: Vec<i64>,
    pub(super) ports: &'a [HostPort],
}

impl<'a> Ask<'a> {
    pub(super) fn of(pod: &'a Pod, axis: &Axis) -> Self {
        Self { request: axis.request(&pod.requests), ports: &pod.host_ports }
    }

    /// Whether a node that has room for the other has it for this one.
    fn is_within(&self, other: &Self) -> bool {
        self.request.iter().zip(&other.request).all(|(less, more)| less <= more)
            && self.ports.iter().all(|port| other.ports.contains(port))
    }

    /// Those that no other one is within: a node that has room for none of these has it for none at all.
    pub(super) fn least(asked: BTreeSet<Self>) -> BTreeSet<Self> {
        let mut all: Vec<Self> = asked.into_iter().collect();
        all.sort_by_cached_key(|ask| ask.request.iter().map(|amount| i128::from(*amount)).sum::<i128>());
        let mut least: Vec<Self> = Vec::new();
        for ask in all {
            if !least.iter().any(|other| other.is_within(&ask)) {
                least.push(ask);
            }
        }
        least.into_iter().collect()
    }
}
