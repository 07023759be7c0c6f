//! From the world to what the solver reads. Pure: the same world, catalogue and nominations give the same snapshot.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use api::{convert, volumes::Volumes};
use k8s_openapi::api::core::v1::Pod as CorePod;
use kube::ResourceExt as _;
use requirements::labels;
use scheduling::{CapacityType, InstanceType, Node, NodeKey, NodeStage, Pod, Pool, PoolKey, Snapshot};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

use crate::{
    claims,
    lifecycle::next::vanished_since,
    names,
    nominations::Nominations,
    plan::Plan,
    pods,
    pools::Pools,
    world::{Member, World},
};

/// What each pool can buy now.
pub type Catalogue = BTreeMap<PoolKey, Arc<[InstanceType]>>;

/// What a snapshot is built from.
#[derive(Debug)]
pub struct Input<'a> {
    /// Which world it is.
    pub sequence: u64,
    /// The objects, claims that were just created included.
    pub world: &'a World,
    /// The pools that may grow.
    pub pools: &'a Pools,
    /// What they can buy.
    pub catalogue: &'a Catalogue,
    /// Places already planned.
    pub nominations: &'a Nominations,
    /// Members about to be removed although no object says so yet.
    pub leaving: &'a BTreeSet<String>,
}

/// Pods that need a place and have none planned: those the scheduler gave up on, and those of nodes that are leaving. A
/// nomination for a node that is gone or leaving is none, and one of ours lasts as long as the place is kept: the scheduler
/// does not clear it before it has tried the pod there.
pub fn homeless(world: &World, nominations: &Nominations, leaving: &BTreeSet<String>) -> Vec<Arc<CorePod>> {
    let places = Places::new(world, leaving);
    let free = |pod: &&Arc<CorePod>| nominations.of(pods::uid(pod)).is_none_or(|place| !places.is_usable(place));
    let kept = |pod: &CorePod| {
        let member = pods::nominated_for(pod).and_then(|node| places.usable(node)).map(|index| &world.members[index]);
        member.is_some_and(|member| !is_planned_on(pod, member))
    };
    let pending = world.objects.pods.iter().filter(|pod| pods::is_provisionable(pod) && !kept(pod)).filter(free);
    let moving = world
        .members
        .iter()
        .filter(|member| is_leaving(member, leaving))
        .flat_map(|member| member.pods.iter().filter(|pod| world.will_move(pod)).filter(free));
    pending.chain(moving).cloned().collect()
}

/// The snapshot.
pub fn build(input: &Input<'_>) -> Snapshot {
    let world = input.world;
    let places = Places::new(world, input.leaving);
    let objects = &world.objects;
    let volumes = Volumes::new(
        objects.volume_claims.iter().map(AsRef::as_ref),
        objects.volumes.iter().map(AsRef::as_ref),
        objects.storage_classes.iter().map(AsRef::as_ref),
    );
    let with_volumes = |pod: &CorePod, mut found: Pod| {
        volumes.add(pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default(), false, &mut found);
        found
    };

    let mut promised: BTreeMap<usize, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &world.objects.pods {
        let moving = world.will_move(pod) && pods::node_name(pod).is_some_and(|node| !places.is_usable(node));
        if (pods::is_provisionable(pod) || moving)
            && let Some(index) = input.nominations.of(pods::uid(pod)).and_then(|place| places.usable(place))
        {
            promised.entry(index).or_default().push(Arc::new(with_volumes(pod, convert::replacement(pod))));
        }
    }
    let limits = world.objects.csi_nodes.iter().map(|csi| (csi.name_any(), convert::volume_limits(csi)));
    let limits: HashMap<String, BTreeMap<String, u32>> = limits.collect();
    let nodes = world.members.iter().enumerate().map(|(index, member)| {
        let leaving = is_leaving(member, input.leaving);
        let mut node = node(member, leaving);
        node.volume_limits = limits.get(&node.key.0).cloned().unwrap_or_default();
        let staying = member.pods.iter().filter(|pod| !(pods::is_terminal(pod) || leaving && world.will_move(pod)));
        node.pods = staying
            .map(|pod| {
                let mut found = with_volumes(pod, convert::pod(pod));
                // What nothing holds is evicted, or goes with the node.
                found.terminating |= leaving && !world.stays(pod);
                Arc::new(found)
            })
            .collect();
        node.pods.extend(promised.remove(&index).into_iter().flatten());
        // What only a person knows of (NodeOverlay) will be there once the node has joined. A machine that is not launched keeps
        // room for what it was planned for and nothing else.
        let is_coming = !member.is_initialized() && member.provider_id().is_some();
        if let Some(kind) = instance_type(&node, input.catalogue).filter(|_| is_coming) {
            for (name, amount) in kind.allocatable().iter() {
                if node.allocatable.named(name).is_none() {
                    node.allocatable.set(name.clone(), amount);
                }
            }
        }
        node.price = price(member, &node, input.catalogue);
        node
    });
    let nodes: Vec<Node> = nodes.collect();
    let used = used(world);
    let pools = input.pools.usable().map(|(key, template)| Pool {
        key: key.clone(),
        weight: template.weight,
        requirements: template.requirements.clone(),
        labels: template.labels.clone(),
        taints: template.taints.clone(),
        startup_taints: template.startup_taints.clone(),
        limits: template.limits.clone(),
        used: used.get(key).cloned().unwrap_or_default(),
        instance_types: input.catalogue.get(key).cloned().unwrap_or_else(|| Arc::from([])),
    });
    // A pool whose catalogue could not be read is left out: nothing is known about what it could buy.
    let pools = pools.filter(|pool| input.catalogue.contains_key(&pool.key)).collect();
    Snapshot {
        sequence: input.sequence,
        pods: homeless(world, input.nominations, input.leaving)
            .iter()
            .map(|pod| Arc::new(with_volumes(pod, convert::replacement(pod))))
            .collect(),
        nodes,
        pools,
        daemons: world
            .objects
            .daemon_sets
            .iter()
            .filter(|set| set.metadata.deletion_timestamp.is_none())
            .map(|set| Arc::new(convert::daemon_set(set)))
            .collect(),
        namespace_labels: world.objects.namespaces.iter().map(|ns| (ns.name_any(), ns.labels().clone())).collect(),
    }
}

/// The capacity of each pool's machines, those under way and those leaving included; `nodes` counts them.
///
/// A machine that is not known yet is charged with the largest its plan allows.
pub fn used(world: &World) -> BTreeMap<PoolKey, ResourceList> {
    let mut all: BTreeMap<PoolKey, ResourceList> = BTreeMap::new();
    for member in &world.members {
        let Some(pool) = member.pool() else { continue };
        let sum = all.entry(pool).or_default();
        sum.add(&charge(member));
        sum.add(&ResourceList::new().with(ResourceName::new("nodes"), Amount(1)));
    }
    all
}

fn charge(member: &Member) -> ResourceList {
    let recorded = member.claim.as_ref().and_then(|claim| claim.status.as_ref()).map(|status| &status.capacity);
    let reported = member.node.as_ref().and_then(|node| node.status.as_ref()).and_then(|s| s.capacity.as_ref());
    let known = [recorded, reported].into_iter().flatten().find(|list| !list.is_empty());
    if let Some(list) = known.and_then(|list| claims::resource_list(list).ok()) {
        return list;
    }
    member.claim.as_ref().and_then(|claim| Plan::of(claim)).map(|plan| plan.capacity).unwrap_or_default()
}

fn node(member: &Member, leaving: bool) -> Node {
    let converted = member.node.as_ref().map(|node| convert::node(node));
    let initialized = member.is_initialized();
    let mut node = converted.unwrap_or_else(|| Node {
        key: NodeKey(member.node_key()),
        pool: None,
        stage: NodeStage::InFlight,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        startup_taints: Vec::new(),
        allocatable: ResourceList::new(),
        pods: Vec::new(),
        volume_limits: BTreeMap::new(),
        price: None,
    });
    node.pool = member.pool();
    node.stage = match (leaving, initialized) {
        (true, _) => NodeStage::Leaving,
        (false, true) => NodeStage::Ready,
        (false, false) => NodeStage::InFlight,
    };
    let Some(claim) = member.claim.as_ref().filter(|_| !initialized) else { return node };
    // Not ready: what the claim promises counts as long as the node does not say otherwise.
    for (key, value) in claim.labels() {
        node.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let taints = |list: &[k8s_openapi::api::core::v1::Taint]| -> Vec<_> {
        list.iter().filter_map(|taint| convert::taint(taint).ok()).collect()
    };
    node.startup_taints = taints(&claim.spec.startup_taints);
    let registered = node.labels.get(names::REGISTERED).is_some_and(|value| value == "true");
    if !registered {
        for taint in taints(&claim.spec.taints) {
            if !node.taints.contains(&taint) {
                node.taints.push(taint);
            }
        }
    }
    let announced = claim.status.as_ref().map(|status| &status.allocatable).filter(|list| !list.is_empty());
    let announced = announced.and_then(|list| claims::resource_list(list).ok()).or_else(|| {
        // Not launched: room for exactly what it was planned for.
        let asked = claim.spec.resources.as_ref()?;
        claims::resource_list(&asked.requests).ok()
    });
    for (name, amount) in announced.unwrap_or_default() {
        if node.allocatable.get(&name).is_zero() {
            node.allocatable.set(name, amount);
        }
    }
    node
}

fn instance_type<'a>(node: &Node, catalogue: &'a Catalogue) -> Option<&'a InstanceType> {
    let name = node.labels.get(labels::INSTANCE_TYPE)?;
    catalogue.get(node.pool.as_ref()?)?.iter().find(|one| one.name == *name)
}

fn price(member: &Member, node: &Node, catalogue: &Catalogue) -> Option<UsdMicrosPerHour> {
    let zone = node.labels.get(labels::ZONE)?;
    let capacity_type: CapacityType = node.labels.get(labels::CAPACITY_TYPE)?.parse().ok()?;
    let offered = instance_type(node, catalogue).and_then(|kind| {
        kind.offerings.iter().find(|one| one.zone == *zone && one.capacity_type == capacity_type).map(|one| one.price)
    });
    offered.or_else(|| member.claim.as_ref().and_then(|claim| Plan::of(claim)).map(|p| p.price_usd_micros_per_hour))
}

/// Whether nothing new may go there: it is being removed, or its Node is gone.
pub fn is_leaving(member: &Member, leaving: &BTreeSet<String>) -> bool {
    let vanished = member.node.is_none() && member.claim.as_deref().is_some_and(|one| vanished_since(one).is_some());
    vanished || member.is_leaving() || leaving.iter().any(|name| member.is_called(name))
}

/// Whether a machine was asked for because of the pod.
fn is_planned_on(pod: &CorePod, member: &Member) -> bool {
    let plan = member.claim.as_ref().and_then(|claim| Plan::of(claim));
    plan.is_some_and(|plan| plan.pods.iter().any(|planned| planned.uid == pods::uid(pod)))
}

/// Members by their nodes' and claims' names.
struct Places<'a> {
    by_name: HashMap<&'a str, usize>,
    usable: Vec<bool>,
}

impl<'a> Places<'a> {
    fn new(world: &'a World, leaving: &BTreeSet<String>) -> Self {
        let mut by_name = HashMap::new();
        for (index, member) in world.members.iter().enumerate() {
            let claim = member.claim.as_ref().and_then(|claim| claim.metadata.name.as_deref());
            let node = member.node.as_ref().and_then(|node| node.metadata.name.as_deref());
            for name in claim.into_iter().chain(node) {
                by_name.insert(name, index);
            }
        }
        Self { by_name, usable: world.members.iter().map(|member| !is_leaving(member, leaving)).collect() }
    }

    fn usable(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied().filter(|index| self.usable[*index])
    }

    fn is_usable(&self, name: &str) -> bool {
        self.usable(name).is_some()
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
