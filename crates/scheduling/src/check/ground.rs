//! What the checks look things up in, made once: everything by its key, equal new nodes and equal demands once each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use requirements::labels;
use units::ResourceList;

use super::labels::{Demand, Labels, Planned, Present};
use crate::{
    InstanceType, NewNode, Node, NodeKey, NodeStage, OfferingKey, Pod, PodKey, Pool, PoolKey, PricedOffering, Snapshot,
    Solution, Taint, Target, Toleration, untolerated,
};

/// Snapshot and solution, indexed.
pub(super) struct Ground<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) solution: &'a Solution,
    pub(super) pods: BTreeMap<&'a PodKey, &'a Pod>,
    pub(super) pools: BTreeMap<&'a PoolKey, Market<'a>>,
    pub(super) nodes: BTreeMap<&'a NodeKey, usize>,
    /// The new nodes that differ in more than their pods.
    pub(super) looks: Vec<Look<'a>>,
    /// For each new node its look.
    pub(super) look_of: Vec<usize>,
    /// What the placed pods demand of a node.
    pub(super) demands: Vec<Suit<'a>>,
    /// The pods on each node of the snapshot, by its index, and on each new node.
    pub(super) on_existing: Vec<Vec<Placed<'a>>>,
    pub(super) on_new: Vec<Vec<Placed<'a>>>,
}

/// A placed pod and what it demands of its node, by index.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    pub(super) pod: &'a Pod,
    pub(super) demand: usize,
}

/// A pool and its machines by name.
pub(super) struct Market<'a> {
    pub(super) pool: &'a Pool,
    pub(super) machines: Arc<BTreeMap<&'a str, &'a InstanceType>>,
}

/// What a node must be like to suit a pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Suit<'a> {
    pub(super) labels: Demand<'a>,
    pub(super) tolerations: &'a [Toleration],
}

/// A new node as it looks without its pods.
pub(super) struct Look<'a> {
    pub(super) pool: Option<&'a Pool>,
    pub(super) node: &'a NewNode,
    /// What it may become: one for each offering that its pool knows.
    pub(super) forms: Vec<Form<'a>>,
    /// The different sizes of the forms.
    pub(super) shapes: Vec<Shape<'a>>,
}

/// A new node as one of its offerings.
pub(super) struct Form<'a> {
    pub(super) offering: &'a OfferingKey,
    pub(super) labels: Planned<'a>,
}

/// The room of some forms, and the daemons that will run there.
pub(super) struct Shape<'a> {
    /// One of the offerings that have it.
    pub(super) offering: &'a OfferingKey,
    pub(super) allocatable: ResourceList,
    pub(super) daemons: Vec<&'a Pod>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, solution: &'a Solution) -> Self {
        let mut known: BTreeMap<*const InstanceType, Arc<BTreeMap<&str, &InstanceType>>> = BTreeMap::new();
        let market = |pool: &'a Pool| {
            let machines = known.entry(pool.instance_types.as_ptr()).or_insert_with(|| {
                // Of two machines of one name the first counts, everywhere.
                let mut by_name = BTreeMap::new();
                for machine in pool.instance_types.iter() {
                    by_name.entry(machine.name.as_str()).or_insert(machine);
                }
                Arc::new(by_name)
            });
            (&pool.key, Market { pool, machines: Arc::clone(machines) })
        };
        let pools = snapshot.pools.iter().map(market).collect();
        let mut ground = Self {
            snapshot,
            solution,
            pods: snapshot.pods.iter().map(|pod| (&pod.key, Arc::as_ref(pod))).collect(),
            pools,
            nodes: snapshot.nodes.iter().enumerate().map(|(index, node)| (&node.key, index)).collect(),
            looks: Vec::new(),
            look_of: Vec::new(),
            demands: Vec::new(),
            on_existing: vec![Vec::new(); snapshot.nodes.len()],
            on_new: vec![Vec::new(); solution.new_nodes.len()],
        };
        ground.look();
        ground.settle();
        ground
    }

    /// The node of the snapshot, if it takes pods.
    pub(super) fn open(&self, key: &NodeKey) -> Option<&'a Node> {
        let node = &self.snapshot.nodes[*self.nodes.get(key)?];
        (node.stage != NodeStage::Leaving).then_some(node)
    }

    fn look(&mut self) {
        let mut known = BTreeMap::new();
        for node in &self.solution.new_nodes {
            let key = (
                &node.pool,
                node.price,
                &node.offerings,
                &node.requirements,
                &node.labels,
                (&node.taints, &node.startup_taints),
            );
            let next = self.looks.len();
            let look = *known.entry(key).or_insert(next);
            if look == next {
                let look = self.look_at(node);
                self.looks.push(look);
            }
            self.look_of.push(look);
        }
    }

    fn look_at(&self, node: &'a NewNode) -> Look<'a> {
        let Some(market) = self.pools.get(&node.pool) else {
            return Look { pool: None, node, forms: Vec::new(), shapes: Vec::new() };
        };
        let set: BTreeMap<&str, &str> =
            node.labels.iter().map(|(key, value)| (labels::normalize(key), value.as_str())).collect();
        let taints: Vec<&Taint> = market.pool.taints.iter().collect();
        let (mut forms, mut shapes) = (Vec::new(), Vec::new());
        let mut met = BTreeSet::new();
        for PricedOffering { key: offering, .. } in &node.offerings {
            let Some(machine) = market.machines.get(offering.instance_type.as_str()) else { continue };
            let labels = Planned { node, set: set.clone(), machine: Some(machine), offering };
            let daemons = daemons(self.snapshot, &taints, &labels);
            let names: Vec<&PodKey> = daemons.iter().map(|daemon| &daemon.key).collect();
            if met.insert((&machine.name, names)) {
                shapes.push(Shape { offering, allocatable: machine.allocatable(), daemons });
            }
            forms.push(Form { offering, labels });
        }
        Look { pool: Some(market.pool), node, forms, shapes }
    }

    fn settle(&mut self) {
        let mut known = BTreeMap::new();
        for (key, placement) in &self.solution.placed {
            let Some(pod) = self.pods.get(key).copied() else { continue };
            let suit = Suit { labels: Demand::of(pod), tolerations: &pod.tolerations };
            let demand = *known.entry(suit).or_insert_with(|| {
                self.demands.push(suit);
                self.demands.len() - 1
            });
            let there = match &placement.node {
                Target::New(index) => self.on_new.get_mut(*index),
                Target::Existing(node) => self.nodes.get(node).map(|index| &mut self.on_existing[*index]),
            };
            if let Some(there) = there {
                there.push(Placed { pod, demand });
            }
        }
    }
}

/// The daemons that run on a node with these taints and labels.
pub(super) fn daemons<'a>(snapshot: &'a Snapshot, taints: &[&Taint], labels: &impl Labels) -> Vec<&'a Pod> {
    let runs = |daemon: &&Pod| {
        untolerated(&daemon.tolerations, taints.iter().copied()).is_none()
            && Demand::of(daemon).unsatisfied(labels).is_none()
    };
    snapshot.daemons.iter().map(Arc::as_ref).filter(runs).collect()
}

/// The daemons that will still come to a node of the snapshot.
pub(super) fn missing_daemons<'a>(snapshot: &'a Snapshot, node: &Node, labels: &Present<'_>) -> Vec<&'a Pod> {
    let taints: Vec<&Taint> = node.lasting_taints().collect();
    let mut daemons = daemons(snapshot, &taints, labels);
    daemons.retain(|daemon| !node.pods.iter().any(|pod| is_of(pod, daemon)));
    daemons
}

/// Whether a bound pod is the one that the daemon would make.
fn is_of(pod: &Pod, daemon: &Pod) -> bool {
    let set =
        daemon.owner.as_ref().filter(|owner| owner.kind == "DaemonSet").map_or(&daemon.key.name, |owner| &owner.name);
    let owner = pod.owner.as_ref().filter(|owner| owner.kind == "DaemonSet");
    pod.key.namespace == daemon.key.namespace && owner.is_some_and(|owner| owner.name == *set)
}
