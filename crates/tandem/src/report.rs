//! What a plan means to its reader: groups of equal nodes, groups of equal refusals, sums.

mod explain;
mod played;
mod price;
mod table;
mod text;
mod wrap;

use std::collections::{BTreeMap, BTreeSet};

use scheduling::{
    CapacityType, InstanceType, NewNode, NewNodeReason, NodeStage, Pod, PodKey, PoolKey, Snapshot, Solution, Target,
};
use serde::{Serialize, Serializer};
use units::{ResourceName, UsdMicrosPerHour};

pub(crate) use self::text::counted;
pub use self::{
    explain::{Explanation, Priced},
    played::{Outcome, Played},
    text::Look,
};

/// The plan, as `--format json` prints it.
///
/// Prices are dollars an hour. A figure that is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the new nodes cost together.
    #[serde(rename = "cost_usd_per_hour", serialize_with = "usd")]
    pub cost: UsdMicrosPerHour,
    /// Less than this no plan can cost.
    #[serde(rename = "lower_bound_usd_per_hour", serialize_with = "usd_or_null")]
    pub lower_bound: Option<UsdMicrosPerHour>,
    /// What the bound's proof does not use.
    pub lower_bound_ignores: Vec<String>,
    /// What the greedy rule's plan would cost.
    #[serde(rename = "greedy_usd_per_hour", serialize_with = "usd_or_null")]
    pub greedy_cost: Option<UsdMicrosPerHour>,
    /// How many pods that plan leaves without a place that have one here.
    pub greedy_leaves_out: usize,
    /// Whether nothing cheaper is possible.
    pub proven_optimal: bool,
    /// How long the solver took.
    pub solve_milliseconds: f64,
    /// How many pods there are to place.
    pub pods: usize,
    /// How many of them go on nodes that are there or under way.
    pub pods_on_existing_nodes: usize,
    /// How many of them go on new nodes.
    pub pods_on_new_nodes: usize,
    /// How many new nodes there are.
    pub nodes: usize,
    /// How many pods have no place.
    pub unplaced: usize,
    /// The new nodes, those that are bought alike together, the dearest first.
    pub new_nodes: Vec<NodeGroup>,
    /// The nodes that take pods and are there or under way.
    pub existing_nodes: Vec<Filled>,
    /// The pods without a place, those with equal reasons together.
    pub refusals: Vec<Refusal>,
    /// How many pods are where they are for each reason.
    pub reasons: Vec<Reason>,
    /// What a reader should know about the plan as a whole.
    pub notes: Vec<String>,
    /// What it costs when of each new node the N-th cheapest offering is bought; only if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flexibility: Option<Flexibility>,
    /// What becomes of the plan when the kube-scheduler places the pods; only if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub played: Option<Played>,
    /// Where each pod goes and why; only if all of them were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placements: Option<Vec<Placed>>,
    /// What each new node may become and why, in the order of the plan; only if all pods were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_nodes: Option<Vec<PlannedNode>>,
}

/// One new node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedNode {
    /// Its pool.
    pub pool: String,
    /// What may be bought for it: any of these will do, the cheapest first.
    pub offerings: Vec<Priced>,
    /// Why this pool and these.
    pub why: Vec<String>,
    /// Its pods.
    pub pods: Vec<PodKey>,
}

/// A plan's guarantee when so many offerings of each new node stay open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Flexibility {
    /// How many.
    pub offerings: usize,
    /// What the new nodes cost together if of each the dearest of these is bought, or of one that has fewer its last.
    #[serde(rename = "cost_usd_per_hour", serialize_with = "usd")]
    pub cost: UsdMicrosPerHour,
    /// How many new nodes have fewer.
    pub nodes_with_fewer: usize,
}

impl Flexibility {
    /// Of this plan.
    pub fn of(plan: &Solution, offerings: usize) -> Self {
        let fewer = plan.new_nodes.iter().filter(|node| node.offerings.len() < offerings);
        Self { offerings, cost: plan.cost_with_alternatives(offerings), nodes_with_fewer: fewer.count() }
    }
}

/// New nodes of one pool that are bought alike.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeGroup {
    /// Their pool.
    pub pool: String,
    /// How many they are.
    pub count: usize,
    /// The cheapest type that will do.
    pub instance_type: String,
    /// The zones in which it has that price.
    pub zones: Vec<String>,
    /// How it is paid for.
    pub capacity_type: CapacityType,
    /// What each costs.
    #[serde(rename = "price_usd_per_hour", serialize_with = "usd")]
    pub price: UsdMicrosPerHour,
    /// Share of the processors that is asked for, daemons included, over all of them.
    pub cpu_percent: f64,
    /// The same of memory.
    pub memory_percent: f64,
    /// Pods on the emptiest and on the fullest, without daemons.
    pub pods_per_node: (usize, usize),
    /// How many pods of each owner they hold together, the most first.
    pub contents: Vec<Content>,
    /// Their places in the plan.
    pub indices: Vec<usize>,
}

/// Pods of one owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Content {
    /// The owner, or the pod if it has none.
    pub owner: String,
    /// How many.
    pub pods: usize,
}

/// A node that takes pods and is there or under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Filled {
    /// Its name; that of its claim if it has not joined the cluster.
    pub name: String,
    /// Whether it is not ready, or only claimed.
    pub under_way: bool,
    /// What it takes.
    pub contents: Vec<Content>,
}

/// Pods without a place, for equal reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// How many.
    pub count: usize,
    /// Which.
    pub pods: Vec<PodKey>,
    /// Whose.
    pub contents: Vec<Content>,
    /// Why, the nearest first.
    pub reasons: Vec<String>,
}

/// How often a reason was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How many pods or new nodes.
    pub count: usize,
    /// What is counted: `pods` or `nodes`.
    pub of: &'static str,
    /// The reason.
    pub reason: String,
}

/// Where one pod goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placed {
    /// Which pod.
    pub pod: PodKey,
    /// The node's name, or which of the new nodes, counted from 0.
    pub node: Target,
    /// Why there.
    pub why: String,
}

/// Whether to list every pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Sums and groups.
    Summary,
    /// Every pod as well.
    EveryPod,
}

impl Report {
    /// Reads the plan.
    pub fn new(snapshot: &Snapshot, solution: &Solution, solve_milliseconds: f64, detail: Detail) -> Self {
        let owners = Owners::new(snapshot);
        let on_existing = solution.placed.values().filter(|placed| matches!(placed.node, Target::Existing(_))).count();
        Self {
            cost: solution.cost,
            lower_bound: solution.lower_bound.as_ref().map(|bound| bound.cost),
            lower_bound_ignores: solution.lower_bound.iter().flat_map(|bound| bound.ignores.clone()).collect(),
            greedy_cost: solution.greedy_cost,
            greedy_leaves_out: solution.greedy_leaves_out,
            proven_optimal: solution.proven_optimal(),
            solve_milliseconds,
            pods: snapshot.pods.len(),
            pods_on_existing_nodes: on_existing,
            pods_on_new_nodes: solution.placed.len() - on_existing,
            nodes: solution.new_nodes.len(),
            unplaced: solution.unplaced.len(),
            new_nodes: node_groups(snapshot, solution, &owners),
            existing_nodes: existing_nodes(snapshot, solution, &owners),
            refusals: refusals(solution, &owners),
            reasons: reasons(solution),
            notes: solution.notes.iter().map(ToString::to_string).collect(),
            flexibility: None,
            played: None,
            placements: (detail == Detail::EveryPod).then(|| placements(solution)),
            planned_nodes: (detail == Detail::EveryPod).then(|| solution.new_nodes.iter().map(planned_node).collect()),
        }
    }

    /// How much above the proven minimum the plan is at most, in hundredths of a percent, rounded up.
    pub fn gap(&self) -> Option<i64> {
        price::gap(self.cost, self.lower_bound?)
    }
}

/// Who made each pod, as people call it.
struct Owners<'a> {
    pods: BTreeMap<&'a PodKey, &'a Pod>,
    one_namespace: bool,
}

impl<'a> Owners<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let pods: BTreeMap<_, _> = snapshot.pods.iter().map(|pod| (&pod.key, pod.as_ref())).collect();
        let namespaces: BTreeSet<&str> = pods.keys().map(|key| key.namespace.as_str()).collect();
        Self { one_namespace: namespaces.len() < 2, pods }
    }

    fn of(&self, key: &PodKey) -> String {
        let pod = self.pods.get(key);
        let name = pod.and_then(|pod| Some((pod, pod.owner.as_ref()?))).map_or(key.name.as_str(), |(pod, owner)| {
            // A Deployment's ReplicaSet is called after it and its pods' hash.
            let hash = pod.labels.get("pod-template-hash").map(String::as_str).unwrap_or_default();
            let stem = owner.name.strip_suffix(hash).and_then(|stem| stem.strip_suffix('-'));
            if hash.is_empty() { &owner.name } else { stem.unwrap_or(&owner.name) }
        });
        if self.one_namespace { name.to_owned() } else { format!("{}/{name}", key.namespace) }
    }

    fn contents<'b>(&self, pods: impl IntoIterator<Item = &'b PodKey>) -> Vec<Content> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for key in pods {
            *counts.entry(self.of(key)).or_default() += 1;
        }
        let mut contents: Vec<_> = counts.into_iter().map(|(owner, pods)| Content { owner, pods }).collect();
        // Stable: equal numbers stay in the order of names.
        contents.sort_by_key(|content| std::cmp::Reverse(content.pods));
        contents
    }
}

/// What is equal among the nodes of a group.
type Bought = (PoolKey, UsdMicrosPerHour, String, CapacityType, Vec<String>);

fn bought(node: &NewNode) -> Option<Bought> {
    let first = node.offerings.first()?;
    let same = node.offerings.iter().filter(|other| {
        other.price == first.price
            && other.key.instance_type == first.key.instance_type
            && other.key.capacity_type == first.key.capacity_type
    });
    let zones: BTreeSet<String> = same.map(|other| other.key.zone.clone()).collect();
    Some((
        node.pool.clone(),
        first.price,
        first.key.instance_type.clone(),
        first.key.capacity_type,
        zones.into_iter().collect(),
    ))
}

fn node_groups(snapshot: &Snapshot, solution: &Solution, owners: &Owners<'_>) -> Vec<NodeGroup> {
    let mut groups: BTreeMap<Bought, Vec<usize>> = BTreeMap::new();
    for (index, node) in solution.new_nodes.iter().enumerate() {
        if let Some(key) = bought(node) {
            groups.entry(key).or_default().push(index);
        }
    }
    let group = |((pool, price, instance_type, capacity_type, zones), indices): (Bought, Vec<usize>)| {
        let nodes = || indices.iter().map(|index| &solution.new_nodes[*index]);
        let machine = machine(snapshot, &pool, &instance_type);
        let share = |name: &ResourceName| {
            let there = machine.map_or(0, |machine| machine.allocatable().get(name).0);
            // The daemons of its dearer alternatives may ask for more than there is on this machine, which does not run them.
            let asked = nodes().map(|node| node.requests.get(name).0.min(there)).fold(0, i64::saturating_add);
            percent(asked, there.saturating_mul(i64::try_from(indices.len()).unwrap_or(i64::MAX)))
        };
        let counts = || nodes().map(|node| node.pods.len());
        NodeGroup {
            count: indices.len(),
            cpu_percent: share(&ResourceName::cpu()),
            memory_percent: share(&ResourceName::memory()),
            pods_per_node: (counts().min().unwrap_or(0), counts().max().unwrap_or(0)),
            contents: owners.contents(nodes().flat_map(|node| &node.pods)),
            pool: pool.to_string(),
            instance_type,
            zones,
            capacity_type,
            price,
            indices: indices.clone(),
        }
    };
    let mut groups: Vec<NodeGroup> = groups.into_iter().map(group).collect();
    let total = |group: &NodeGroup| group.price.0.saturating_mul(i64::try_from(group.count).unwrap_or(i64::MAX));
    groups.sort_by_key(|group| std::cmp::Reverse(total(group)));
    groups
}

fn machine<'a>(snapshot: &'a Snapshot, pool: &PoolKey, name: &str) -> Option<&'a InstanceType> {
    let pool = snapshot.pools.iter().find(|one| one.key == *pool)?;
    pool.instance_types.iter().find(|one| one.name == name)
}

/// Tenths of a percent are as fine as anybody looks.
fn percent(part: i64, whole: i64) -> f64 {
    if whole <= 0 {
        return 0.0;
    }
    let permille = (i128::from(part) * 1000 + i128::from(whole) / 2) / i128::from(whole);
    f64::from(i32::try_from(permille).unwrap_or(i32::MAX)) / 10.0
}

fn existing_nodes(snapshot: &Snapshot, solution: &Solution, owners: &Owners<'_>) -> Vec<Filled> {
    let under_way = snapshot.nodes.iter().filter(|node| node.stage == NodeStage::InFlight);
    let under_way: BTreeSet<&str> = under_way.map(|node| node.key.0.as_str()).collect();
    let mut by_node: BTreeMap<&str, Vec<&PodKey>> = BTreeMap::new();
    for (pod, placement) in &solution.placed {
        if let Target::Existing(node) = &placement.node {
            by_node.entry(&node.0).or_default().push(pod);
        }
    }
    let filled = |(name, pods): (&str, Vec<&PodKey>)| Filled {
        name: name.to_owned(),
        under_way: under_way.contains(name),
        contents: owners.contents(pods),
    };
    by_node.into_iter().map(filled).collect()
}

fn refusals(solution: &Solution, owners: &Owners<'_>) -> Vec<Refusal> {
    let mut by_reasons: BTreeMap<Vec<String>, Vec<&PodKey>> = BTreeMap::new();
    for (pod, reasons) in &solution.unplaced {
        by_reasons.entry(reasons.iter().map(ToString::to_string).collect()).or_default().push(pod);
    }
    let refusal = |(reasons, pods): (Vec<String>, Vec<&PodKey>)| Refusal {
        count: pods.len(),
        contents: owners.contents(pods.iter().copied()),
        pods: pods.into_iter().cloned().collect(),
        reasons,
    };
    let mut refusals: Vec<Refusal> = by_reasons.into_iter().map(refusal).collect();
    refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.count));
    refusals
}

fn reasons(solution: &Solution) -> Vec<Reason> {
    let mut counts: BTreeMap<(&'static str, String), usize> = BTreeMap::new();
    for placement in solution.placed.values() {
        *counts.entry(("pods", placement.why.to_string())).or_default() += 1;
    }
    for why in solution.new_nodes.iter().flat_map(|node| &node.why) {
        // Different for every node, and told with the node.
        let own = matches!(
            why,
            NewNodeReason::OpenedFor { .. }
                | NewNodeReason::Truncated { .. }
                | NewNodeReason::Costs { .. }
                | NewNodeReason::InsteadOf { .. }
        );
        if !own {
            *counts.entry(("nodes", why.to_string())).or_default() += 1;
        }
    }
    let mut reasons: Vec<Reason> =
        counts.into_iter().map(|((of, reason), count)| Reason { count, of, reason }).collect();
    reasons.sort_by(|a, b| b.of.cmp(a.of).then(b.count.cmp(&a.count)));
    reasons
}

fn placements(solution: &Solution) -> Vec<Placed> {
    let placed = |(pod, placement): (&PodKey, &scheduling::Placement)| Placed {
        pod: pod.clone(),
        node: placement.node.clone(),
        why: placement.why.to_string(),
    };
    solution.placed.iter().map(placed).collect()
}

fn planned_node(node: &NewNode) -> PlannedNode {
    PlannedNode {
        pool: node.pool.to_string(),
        offerings: node.offerings.iter().map(Priced::of).collect(),
        why: node.why.iter().map(ToString::to_string).collect(),
        pods: node.pods.clone(),
    }
}

/// Dollars as a number; exact to the millionth for every price below a billion.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn usd<S: Serializer>(price: &UsdMicrosPerHour, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(dollars(*price))
}

#[expect(clippy::ref_option, reason = "serde passes references")]
fn usd_or_null<S: Serializer>(price: &Option<UsdMicrosPerHour>, serializer: S) -> Result<S::Ok, S::Error> {
    match price {
        Some(price) => serializer.serialize_some(&dollars(*price)),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 micro-dollars an hour, nine billion dollars")]
fn dollars(price: UsdMicrosPerHour) -> f64 {
    price.0 as f64 / 1e6
}
