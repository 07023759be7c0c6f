//! The answer: nodes, what they cost, and how much less it could be.

use crate::model::Model;
use crate::plan::Plan;
use crate::problem::Problem;

/// What [`pack`](crate::pack) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    pub nodes: Vec<Node>,
    /// Pods without a node: group and count. Either they fit no bin, or bins and limits ran out.
    pub unplaced: Vec<(usize, u64)>,
    /// Micro-USD per hour of all nodes together.
    pub cost: i128,
    /// No placement of all pods that fit somewhere costs less; micro-USD per hour, checked in integers, limits ignored.
    /// `None` when bins or limits ran out: then nothing is claimed, for it is not known which pods would be left over.
    pub lower_bound: Option<i128>,
    /// Whether no placement of as many pods costs less.
    pub proven_optimal: bool,
    /// What one more pod of each group is worth at the margin, micro-USD per hour; 0 where that is not known.
    pub prices: Vec<i64>,
    /// Steps taken, in the unit of [`Budget::work`](crate::Budget::work).
    pub work_done: u64,
    /// To be given to the next call.
    pub warm: Warm,
}

/// Nodes of one bin with equal content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Index of the bin.
    pub bin: usize,
    pub copies: u64,
    /// Pods on each of the copies: group and count.
    pub pods: Vec<(usize, u64)>,
}

/// What one solve leaves to the next. Indices are those of the problem it came from: whoever changes the lists between two
/// calls renames them. What no longer fits is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warm {
    /// The old plan. A new plan for no more pods and no fewer bins never costs more.
    pub nodes: Vec<Node>,
    /// Contents of nodes worth trying: bin, then group and count.
    pub patterns: Vec<(usize, Vec<(usize, u64)>)>,
    /// The old [`Packing::prices`].
    pub prices: Vec<i64>,
}

/// Translate a plan back into the problem's indices.
pub(crate) fn answer(problem: &Problem, model: &Model, plan: &Plan) -> Packing {
    let nodes = plan.nodes.iter().map(|node| Node {
        bin: model.bins[node.bin].id,
        copies: node.copies,
        pods: node.content.iter().map(|&(group, count)| (model.groups[group].id, count)).collect(),
    });
    let nodes: Vec<Node> = nodes.collect();
    let mut missing: Vec<u64> = problem.groups.iter().map(|group| group.demand).collect();
    for (pods, missed) in model.groups.iter().zip(&plan.missing) {
        missing[pods.id] -= pods.demand - missed;
    }
    Packing {
        unplaced: missing.into_iter().enumerate().filter(|(_, count)| *count > 0).collect(),
        cost: plan.cost(model),
        lower_bound: None,
        proven_optimal: false,
        prices: vec![0; problem.groups.len()],
        work_done: 0,
        warm: Warm { nodes: nodes.clone(), ..Warm::default() },
        nodes,
    }
}
