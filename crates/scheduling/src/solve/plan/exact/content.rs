//! What matters of a state of the search: from states of equal content the same follows.

use super::Kept;

/// What matters of a state.
#[derive(Clone)]
pub(super) struct Content {
    /// The priorities of the pods that do without a place, the highest first.
    pub(super) without: Vec<i32>,
    pub(super) kept: Kept,
    /// By node there is: the set of pods on it.
    pub(super) there: Vec<usize>,
    /// Pods on nodes there are, and without one, as they count for what is the same.
    pub(super) others: Vec<(u32, u32)>,
    pub(super) nodes: Vec<New>,
}

/// A new node.
#[derive(Clone)]
pub(super) struct New {
    pub(super) template: usize,
    pub(super) sort: usize,
    pub(super) price: i64,
    /// What its pods were put there as.
    pub(super) kinds: Vec<usize>,
    pub(super) pods: Vec<u32>,
    /// The set of these pods.
    pub(super) members: usize,
}

impl Content {
    /// Equal for states from which the same follows.
    pub(super) fn key(&self) -> Vec<u32> {
        let mut others = self.others.clone();
        others.sort_unstable();
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let node = |node: &New| {
            let mut pods = node.pods.clone();
            pods.sort_unstable();
            [number(node.template), number(node.sort), number(pods.len())].into_iter().chain(pods).collect::<Vec<_>>()
        };
        let mut nodes: Vec<Vec<u32>> = self.nodes.iter().map(node).collect();
        nodes.sort_unstable();
        let others = others.into_iter().flat_map(|(node, pod)| [node, pod]);
        others.chain([u32::MAX - 1]).chain(nodes.into_iter().flatten()).collect()
    }
}

/// What nodes cost together; never more than a number holds.
pub(super) fn cost(nodes: &[New]) -> i64 {
    nodes.iter().fold(0, |sum: i64, node| sum.saturating_add(node.price))
}
