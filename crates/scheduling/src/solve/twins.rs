//! Nodes that bear one hostname: a machine that came back under another name, or a label that somebody set.
//!
//! Rules about pods on one host go by the label, so what is on one of these nodes counts on the others.

use requirements::labels;

use super::{existing::Existing, map::Map, node_labels::label};
use crate::Node;

/// By hostname that several nodes bear: which of the nodes that take pods.
pub(super) struct Twins<'a>(Map<&'a str, Vec<usize>>);

impl<'a> Twins<'a> {
    /// Finds them among all nodes, those that are leaving included.
    pub(super) fn of(nodes: &'a [Node], existing: &[Existing<'a>]) -> Self {
        let mut bearers: Map<&str, usize> = Map::default();
        for name in nodes.iter().map(hostname) {
            *bearers.entry(name).or_default() += 1;
        }
        let mut twins: Map<&str, Vec<usize>> = Map::default();
        for (index, one) in existing.iter().enumerate() {
            let name = hostname(one.node);
            if bearers[name] > 1 {
                twins.entry(name).or_default().push(index);
            }
        }
        Self(twins)
    }

    /// The others that bear the hostname of a node at this position; those that take no pods have none.
    pub(super) fn beside(&self, node: &Node, position: Option<usize>) -> impl Iterator<Item = usize> {
        let all = if self.0.is_empty() { None } else { self.0.get(hostname(node)) };
        all.into_iter().flatten().copied().filter(move |index| Some(*index) != position)
    }
}

fn hostname(node: &Node) -> &str {
    label(node, labels::HOSTNAME).unwrap_or(&node.key.0)
}
