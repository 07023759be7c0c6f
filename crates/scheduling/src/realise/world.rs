//! The cluster as the kube-scheduler will see it once everything planned is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use requirements::{Operator, RequirementTerm, labels};
use units::{ResourceList, ResourceName};

use super::score::{CPU_IF_UNSAID, MEMORY_IF_UNSAID};
use crate::{
    HostPort, InstanceType, NewNode, Node, NodeStage, Pod, Pool, Snapshot, Solution, Taint, Target, untolerated,
};

/// Labels by their present names.
pub(super) type Labels = BTreeMap<String, String>;

/// The resources of this world, each by its index: cpu, memory, then the others by name.
#[derive(Debug)]
pub(super) struct Resources(Vec<ResourceName>);

impl Resources {
    fn of(snapshot: &Snapshot) -> Self {
        let bound = snapshot.nodes.iter().flat_map(|node| &node.pods);
        let pods = snapshot.pods.iter().chain(&snapshot.daemons).chain(bound);
        let asked: BTreeSet<&ResourceName> = pods.flat_map(|pod| pod.requests.iter().map(|(name, _)| name)).collect();
        let first = [ResourceName::cpu(), ResourceName::memory()];
        let others: Vec<_> = asked.into_iter().filter(|name| !first.contains(name)).cloned().collect();
        Self(first.into_iter().chain(others).collect())
    }

    pub(super) fn amounts(&self, list: &ResourceList) -> Vec<i64> {
        self.0.iter().map(|name| list.get(name).0).collect()
    }

    /// What a pod uses for the comparison of emptiness.
    pub(super) fn presumed(request: &[i64]) -> [i64; 2] {
        let or = |asked: i64, unsaid| if asked == 0 { unsaid } else { asked };
        [or(request[0], CPU_IF_UNSAID), or(request[1], MEMORY_IF_UNSAID)]
    }
}

/// One node and what is on it.
#[derive(Debug)]
pub(super) struct Site<'a> {
    pub(super) target: Target,
    pub(super) labels: Labels,
    pub(super) taints: Vec<Taint>,
    /// Takes no pods: it is leaving.
    pub(super) closed: bool,
    /// Takes pods from the beginning.
    pub(super) ready: bool,
    pub(super) allocatable: Vec<i64>,
    pub(super) requested: Vec<i64>,
    /// What is requested of cpu and memory, with a presumption for pods that do not say.
    pub(super) presumed: [i64; 2],
    pub(super) ports: Vec<&'a HostPort>,
    pub(super) volume_limits: BTreeMap<&'a str, usize>,
    pub(super) volumes: BTreeMap<&'a str, BTreeSet<&'a str>>,
    /// The pods that are there before the first is placed, daemons included.
    pub(super) bound: Vec<&'a Pod>,
}

impl<'a> Site<'a> {
    /// Counts a pod's demands as taken.
    pub(super) fn take(&mut self, pod: &'a Pod, request: &[i64]) {
        for (sum, asked) in self.requested.iter_mut().zip(request) {
            *sum = sum.saturating_add(*asked);
        }
        for (sum, asked) in self.presumed.iter_mut().zip(Resources::presumed(request)) {
            *sum = sum.saturating_add(asked);
        }
        self.ports.extend(&pod.host_ports);
        for (driver, volumes) in &pod.volumes_by_driver {
            self.volumes.entry(driver).or_default().extend(volumes.iter().map(String::as_str));
        }
    }
}

/// All nodes, in the order in which the scheduler looks at them: one of each zone in turn.
#[derive(Debug)]
pub(super) struct World<'a> {
    pub(super) resources: Resources,
    pub(super) sites: Vec<Site<'a>>,
}

impl<'a> World<'a> {
    /// The nodes of the snapshot and those of the solution, each as its cheapest offering. A new node that its pool does
    /// not offer is left out: such a plan does not pass the checker.
    pub(super) fn of(snapshot: &'a Snapshot, solution: &'a Solution) -> Self {
        let resources = Resources::of(snapshot);
        // What leaves and is held by nobody will be gone.
        let mut existing: Vec<&Node> = snapshot.nodes.iter().filter(|node| node.stays()).collect();
        existing.sort_by_key(|node| &node.key);
        let mut world = Self { resources, sites: Vec::new() };
        for node in existing {
            let site = world.existing(node, snapshot);
            world.sites.push(site);
        }
        for (index, node) in solution.new_nodes.iter().enumerate() {
            if let Some((pool, machine)) = cheapest(snapshot, node) {
                let site = world.planned(index, node, pool, machine, snapshot);
                world.sites.push(site);
            }
        }
        world.sites = one_zone_after_another(world.sites);
        world
    }

    fn existing(&self, node: &'a Node, snapshot: &'a Snapshot) -> Site<'a> {
        let mut labels: Labels =
            node.labels.iter().map(|(key, value)| (labels::normalize(key).to_owned(), value.clone())).collect();
        labels.entry(labels::HOSTNAME.to_owned()).or_insert_with(|| node.key.0.clone());
        labels.insert(labels::NODE_NAME.to_owned(), node.key.0.clone());
        let taints: Vec<Taint> = node.lasting_taints().cloned().collect();
        let limits = node.volume_limits.iter().map(|(driver, limit)| (driver.as_str(), *limit as usize)).collect();
        let mut site = self.empty(Target::Existing(node.key.clone()), labels, taints, &node.allocatable, limits);
        site.closed = node.stage == NodeStage::Leaving;
        site.ready = node.stage == NodeStage::Ready;
        let missing =
            daemons(snapshot, &site).into_iter().filter(|daemon| !node.pods.iter().any(|pod| made(daemon, pod)));
        let bound: Vec<&Pod> = node.pods.iter().map(Arc::as_ref).chain(missing).collect();
        self.settle(site, bound)
    }

    fn planned(
        &self,
        index: usize,
        node: &'a NewNode,
        pool: &'a Pool,
        machine: &'a InstanceType,
        snapshot: &'a Snapshot,
    ) -> Site<'a> {
        let labels = future_labels(index, node, machine);
        let site = self.empty(Target::New(index), labels, pool.taints.clone(), &machine.allocatable(), BTreeMap::new());
        let bound = daemons(snapshot, &site);
        self.settle(site, bound)
    }

    fn empty(
        &self,
        target: Target,
        labels: Labels,
        taints: Vec<Taint>,
        allocatable: &ResourceList,
        volume_limits: BTreeMap<&'a str, usize>,
    ) -> Site<'a> {
        let allocatable = self.resources.amounts(allocatable);
        Site {
            target,
            labels,
            taints,
            closed: false,
            ready: false,
            requested: vec![0; allocatable.len()],
            allocatable,
            presumed: [0, 0],
            ports: Vec::new(),
            volume_limits,
            volumes: BTreeMap::new(),
            bound: Vec::new(),
        }
    }

    fn settle(&self, mut site: Site<'a>, bound: Vec<&'a Pod>) -> Site<'a> {
        for pod in &bound {
            site.take(pod, &self.resources.amounts(&pod.requests));
        }
        site.bound = bound;
        site
    }
}

/// The pool and the machine of a new node's cheapest offering.
pub(super) fn cheapest<'a>(snapshot: &'a Snapshot, node: &NewNode) -> Option<(&'a Pool, &'a InstanceType)> {
    let pool = snapshot.pools.iter().find(|pool| pool.key == node.pool)?;
    let name = &node.offerings.first()?.key.instance_type;
    Some((pool, pool.instance_types.iter().find(|machine| machine.name == *name)?))
}

/// The labels of a new node whose cheapest offering is bought.
fn future_labels(index: usize, node: &NewNode, machine: &InstanceType) -> Labels {
    let of_machine = machine.requirements.iter().filter_map(|has| {
        // Where the machine leaves a choice, the node's requirements make it.
        let narrowed = node.requirements.get(has.key()).map_or_else(|| has.clone(), |wanted| has.intersect(wanted));
        narrowed.example().map(|value| (has.key().to_owned(), value))
    });
    let mut all: Labels = of_machine.collect();
    all.extend(node.labels.iter().map(|(key, value)| (labels::normalize(key).to_owned(), value.clone())));
    if let Some(offering) = node.offerings.first() {
        all.insert(labels::ZONE.to_owned(), offering.key.zone.clone());
        all.insert(labels::CAPACITY_TYPE.to_owned(), offering.key.capacity_type.to_string());
        all.insert(labels::INSTANCE_TYPE.to_owned(), offering.key.instance_type.clone());
    }
    for key in [labels::INITIALIZED, labels::REGISTERED] {
        all.insert(key.to_owned(), "true".to_owned());
    }
    for key in [labels::HOSTNAME, labels::NODE_NAME] {
        all.insert(key.to_owned(), future_name(index));
    }
    all
}

/// What a new node is called as long as nobody has named it: nothing that a Kubernetes object can be called.
pub(super) fn future_name(index: usize) -> String {
    format!("new node {index}")
}

fn one_zone_after_another(sites: Vec<Site<'_>>) -> Vec<Site<'_>> {
    let mut zones: Vec<(Option<String>, Vec<Site<'_>>)> = Vec::new();
    for site in sites {
        let zone = site.labels.get(labels::ZONE).cloned();
        match zones.iter_mut().find(|(known, _)| *known == zone) {
            Some((_, sites)) => sites.push(site),
            None => zones.push((zone, vec![site])),
        }
    }
    let mut queues: Vec<_> = zones.into_iter().map(|(_, sites)| sites.into_iter()).collect();
    let longest = queues.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    (0..longest).flat_map(|_| queues.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>()).collect()
}

/// The daemons that run on a node.
fn daemons<'a>(snapshot: &'a Snapshot, site: &Site<'_>) -> Vec<&'a Pod> {
    let runs = |daemon: &&Pod| untolerated(&daemon.tolerations, &site.taints).is_none() && suits(daemon, &site.labels);
    snapshot.daemons.iter().map(Arc::as_ref).filter(runs).collect()
}

/// Whether the pod is one that this daemon's set has made.
fn made(daemon: &Pod, pod: &Pod) -> bool {
    let of_set = |pod: &Pod| pod.owner.clone().filter(|owner| owner.kind == "DaemonSet").map(|owner| owner.name);
    let set = of_set(daemon).unwrap_or_else(|| daemon.key.name.clone());
    pod.key.namespace == daemon.key.namespace && of_set(pod).is_some_and(|name| name == set)
}

/// Whether the labels are what the pod and its volumes demand (plugins NodeAffinity, VolumeZone, VolumeBinding).
pub(super) fn suits(pod: &Pod, labels: &Labels) -> bool {
    affine(pod, labels) && pod.volume_zones.iter().all(|term| holds(term, labels))
}

/// Whether the labels are what the pod's node selector and required node affinity demand.
pub(super) fn affine(pod: &Pod, labels: &Labels) -> bool {
    let selected = pod.node_selector.iter().all(|(key, value)| labels.get(labels::normalize(key)) == Some(value));
    selected
        && (pod.required_node_affinity.is_empty()
            || pod.required_node_affinity.iter().any(|terms| all_hold(terms, labels)))
}

/// Whether the labels satisfy every term; a list without terms matches nothing, as in Kubernetes.
pub(super) fn all_hold(terms: &[RequirementTerm], labels: &Labels) -> bool {
    !terms.is_empty() && terms.iter().all(|term| holds(term, labels))
}

fn holds(term: &RequirementTerm, labels: &Labels) -> bool {
    let value = labels.get(labels::normalize(&term.key));
    let named = value.is_some_and(|value| term.values.contains(value));
    let compare = |fine: fn(i64, i64) -> bool| {
        let number = value.and_then(|value| value.parse().ok());
        let bound = term.values.first().and_then(|bound| bound.parse().ok());
        number.zip(bound).is_some_and(|(number, bound)| fine(number, bound))
    };
    match term.operator {
        Operator::In => named,
        Operator::NotIn => !named,
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => compare(|number, bound| number > bound),
        Operator::Lt => compare(|number, bound| number < bound),
        Operator::Gte => compare(|number, bound| number >= bound),
        Operator::Lte => compare(|number, bound| number <= bound),
    }
}
