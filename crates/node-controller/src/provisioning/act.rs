//! Recording a plan: claims first, then the nominations and the events that follow from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use api::karpenter_v1::NodeClaim;
use controller_runtime::{boot::chain, events::Kind};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as CorePod;
use kube::{ResourceExt as _, api::PostParams};
use scheduling::{NewNode, Placement, Pod, PodKey, PoolKey, Target};

use super::{Planned, note};
use crate::{claims, context::Context, metrics::ReasonAndPool, plan::PlannedPod};

/// Requests in flight while a plan is recorded.
const CONCURRENCY: usize = 20;
/// Names tried for a claim before giving up until the next plan. Five of 27 characters rarely meet once.
const NAMES: usize = 4;

pub(super) async fn act(ctx: &Context, planned: &Planned, unreadable: &BTreeMap<PoolKey, String>) {
    let solution = &planned.solution;
    for note in &solution.notes {
        tracing::info!(snapshot = planned.snapshot.sequence, %note, "about the plan");
    }
    if !solution.new_nodes.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "for a graph; exact up to nine billion dollars an hour")]
        ctx.metrics.planned_cost.set(solution.cost.0 as f64 / 1e6);
        tracing::info!(
            snapshot = planned.snapshot.sequence,
            pods = planned.snapshot.pods.len(),
            placed = solution.placed.len(),
            unplaced = solution.unplaced.len(),
            new_nodes = solution.new_nodes.len(),
            cost = %solution.cost,
            "planned",
        );
    }
    let by_key: HashMap<&PodKey, &Arc<Pod>> = planned.snapshot.pods.iter().map(|pod| (&pod.key, pod)).collect();
    // Claims before anything else: what is recorded is what happens.
    for why in planned.held.values() {
        tracing::info!(why, "not bought yet");
    }
    let creations: Vec<_> = solution
        .new_nodes
        .iter()
        .enumerate()
        .map(|(index, node)| create(ctx, planned, node, &by_key, planned.held.contains_key(&index)))
        .collect();
    let names: Vec<Option<String>> = stream::iter(creations).buffered(CONCURRENCY).collect().await;
    log_unplaced(planned);
    nominate(ctx, planned, &names, &by_key);
    announce(ctx, planned, &names, &by_key, unreadable);
}

/// One line for all pods that have no place for the same reasons.
fn log_unplaced(planned: &Planned) {
    let mut groups: BTreeMap<String, Vec<&PodKey>> = BTreeMap::new();
    for (key, reasons) in &planned.solution.unplaced {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        groups.entry(reasons.join("; ")).or_default().push(key);
    }
    for (reasons, pods) in groups {
        tracing::info!(pods = pods.len(), first = %pods[0], %reasons, "no place for pods");
    }
}

/// Creates the claim of one planned node. None if it could not be, or is held back: its pods are planned again.
async fn create(
    ctx: &Context,
    planned: &Planned,
    node: &NewNode,
    pods: &HashMap<&PodKey, &Arc<Pod>>,
    held: bool,
) -> Option<String> {
    if held {
        return None;
    }
    let frame = planned.pools.0.get(&node.pool)?.frame.as_ref()?;
    let planned_pods = node.pods.iter().filter_map(|key| {
        let pod = pods.get(key)?;
        Some(PlannedPod { namespace: key.namespace.clone(), name: key.name.clone(), uid: pod.uid.clone() })
    });
    let planned_pods: Vec<PlannedPod> = planned_pods.collect();
    let first = planned_pods.first().map(|pod| pod.uid.clone()).unwrap_or_default();
    for attempt in 0..NAMES {
        let moment = Timestamp::now().as_nanosecond().to_string();
        let name = claims::name(&node.pool.name, &[&first, &moment, &attempt.to_string()]);
        let claim = claims::claim(node, frame, planned_pods.clone(), &name);
        match ctx.all::<NodeClaim>().create(&PostParams::default(), &claim).await {
            Ok(created) => {
                ctx.memory().assume(Arc::new(created), Timestamp::now());
                let label = ReasonAndPool { reason: "provisioned".to_owned(), nodepool: node.pool.name.clone() };
                ctx.metrics.claims_created.get_or_create(&label).inc();
                let why: Vec<String> = node.why.iter().map(ToString::to_string).collect();
                tracing::info!(
                    nodeclaim = %name,
                    pool = %node.pool,
                    price = %node.price,
                    requests = %node.requests,
                    pods = node.pods.len(),
                    offerings = node.offerings.len(),
                    cheapest = %node.offerings.first().map(|offering| offering.key.to_string()).unwrap_or_default(),
                    why = %why.join("; "),
                    "created claim",
                );
                return Some(name);
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => {
                tracing::warn!(pool = %node.pool, error = %chain(&error), "claim not created, its pods are planned again");
                return None;
            }
        }
    }
    None
}

/// Keeps the places in memory, until the watches show them or they are taken.
fn nominate(ctx: &Context, planned: &Planned, names: &[Option<String>], pods: &HashMap<&PodKey, &Arc<Pod>>) {
    let until = Timestamp::now() + ctx.settings.nomination_ttl();
    let mut memory = ctx.memory();
    for (key, placement) in &planned.solution.placed {
        let (Some(pod), Some(place)) = (pods.get(key), place(placement, names)) else { continue };
        memory.nominate(&pod.uid, &place, until);
    }
}

fn place(placement: &Placement, names: &[Option<String>]) -> Option<String> {
    match &placement.node {
        Target::Existing(key) => Some(key.0.clone()),
        Target::New(index) => names.get(*index).cloned().flatten(),
    }
}

/// Tells each pod where it should go, or every reason why it has no place.
fn announce(
    ctx: &Context,
    planned: &Planned,
    names: &[Option<String>],
    by_key: &HashMap<&PodKey, &Arc<Pod>>,
    unreadable: &BTreeMap<PoolKey, String>,
) {
    let nodes: BTreeSet<&str> =
        planned.world.objects.nodes.iter().filter_map(|node| node.metadata.name.as_deref()).collect();
    let placed = planned.solution.placed.iter().filter_map(|(key, placement)| {
        let place = place(placement, names)?;
        let kind = if nodes.contains(place.as_str()) { "node" } else { "nodeclaim" };
        let note = format!("Pod should schedule on: {kind}/{place} ({})", placement.why);
        Some((key, Kind::Normal, "Nominated", note))
    });
    let held = planned.held.iter().flat_map(|(index, why)| {
        let note = format!("Failed to schedule pod, {why}");
        let pods = &planned.solution.new_nodes[*index].pods;
        pods.iter().map(move |key| (key, Kind::Warning, "FailedScheduling", note.clone()))
    });
    let unplaced = planned.solution.unplaced.iter().filter_map(|(key, reasons)| {
        let reasons = note::unplaced(by_key.get(key)?, reasons, unreadable, &planned.pools);
        Some((key, Kind::Warning, "FailedScheduling", format!("Failed to schedule pod, {reasons}")))
    });
    let pods: HashMap<(&str, &str), &Arc<CorePod>> = planned
        .world
        .objects
        .pods
        .iter()
        .filter_map(|pod| Some(((pod.metadata.namespace.as_deref()?, pod.metadata.name.as_deref()?), pod)))
        .collect();
    let events = placed.chain(held).chain(unplaced).filter_map(|(key, kind, reason, note)| {
        let pod = *pods.get(&(key.namespace.as_str(), key.name.as_str()))?;
        Some((Arc::clone(pod), kind, reason, note))
    });
    let events: Vec<_> = events.collect();
    // Events must not hold up the next plan; each of them waits a bounded time.
    let ctx = ctx.clone();
    tokio::spawn(async move {
        stream::iter(events)
            .for_each_concurrent(CONCURRENCY, |(pod, kind, reason, note)| {
                let ctx = ctx.clone();
                async move {
                    tracing::debug!(pod = %pod.name_any(), reason, note, "told a pod");
                    ctx.event(&*pod, kind, reason, "Provision", note).await;
                }
            })
            .await;
    });
}
