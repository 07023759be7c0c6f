//! Recording a plan: claims first, then the nominations and the events that follow from it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use api::karpenter_v1::NodeClaim;
use controller_runtime::{boot::chain, events::Kind};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod as CorePod};
use kube::{ResourceExt as _, api::PostParams};
use scheduling::{NewNode, Placement, Pod, PodKey, PoolKey, Target};

use super::{Planned, note};
use crate::{claims, context::Context, metrics::ReasonAndPool, plan::PlannedPod};

/// Requests in flight while a plan is recorded.
const CONCURRENCY: usize = 20;
/// Names tried for a claim before giving up until the next plan. Five of 27 characters rarely meet once.
const NAMES: usize = 4;

/// How many pods had no place for which reasons, as the log has it: plans are made every few seconds, and mostly say the same.
pub(super) type Told = BTreeMap<String, usize>;

pub(super) async fn act(ctx: &Context, planned: &Planned, unreadable: &BTreeMap<PoolKey, String>, told: &mut Told) {
    let solution = &planned.made.solution;
    for note in &solution.notes {
        tracing::info!(snapshot = planned.made.snapshot.sequence, %note, "about the plan");
    }
    if !solution.new_nodes.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "for a graph; exact up to nine billion dollars an hour")]
        ctx.metrics.planned_cost.set(solution.cost.0 as f64 / 1e6);
        tracing::info!(
            snapshot = planned.made.snapshot.sequence,
            pods = planned.made.snapshot.pods.len(),
            placed = solution.placed.len(),
            unplaced = solution.unplaced.len(),
            new_nodes = solution.new_nodes.len(),
            cost = %solution.cost,
            "planned",
        );
    }
    let by_key: HashMap<&PodKey, &Arc<Pod>> = planned.made.snapshot.pods.iter().map(|pod| (&pod.key, pod)).collect();
    // Claims before anything else: what is recorded is what happens.
    let waits: BTreeSet<&String> = planned.held.values().chain(planned.waits.values()).collect();
    for why in waits {
        tracing::info!(why, "not bought yet");
    }
    let creations: Vec<_> = solution
        .new_nodes
        .iter()
        .enumerate()
        .map(|(index, node)| create(ctx, planned, node, &by_key, planned.held.contains_key(&index)))
        .collect();
    let names: Vec<Option<String>> = stream::iter(creations).buffered(CONCURRENCY).collect().await;
    log_unplaced(planned, told);
    nominate(ctx, planned, &names, &by_key);
    announce(ctx, planned, &names, &by_key, unreadable);
}

/// One line for all pods that have no place for the same reasons, when these or the number of pods have changed.
fn log_unplaced(planned: &Planned, told: &mut Told) {
    let mut groups: BTreeMap<String, Vec<&PodKey>> = BTreeMap::new();
    for (key, reasons) in planned.made.solution.unplaced.iter().filter(|(key, _)| !planned.waits.contains_key(*key)) {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        groups.entry(reasons.join("; ")).or_default().push(key);
    }
    for (reasons, pods) in &groups {
        if told.get(reasons) != Some(&pods.len()) {
            tracing::info!(pods = pods.len(), first = %pods[0], %reasons, "no place for pods");
        }
    }
    *told = groups.into_iter().map(|(reasons, pods)| (reasons, pods.len())).collect();
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
        match record(ctx, &claim).await {
            Recorded::Created(created) => {
                ctx.memory().assume(Arc::new(*created), Timestamp::now());
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
            Recorded::NameTaken => {}
            Recorded::Refused(error) => {
                tracing::warn!(pool = %node.pool, error = %chain(&error), "claim not created, its pods are planned again");
                return None;
            }
            Recorded::Unknown(error) => {
                // Planned again, its pods might get a second machine.
                tracing::warn!(nodeclaim = %name, pool = %node.pool, error = %chain(&error),
                    "nobody said whether the claim was created; it counts until the API server has been asked");
                ctx.memory().assume_sent(Arc::new(claim), Timestamp::now());
                return Some(name);
            }
        }
    }
    None
}

/// What became of a claim that was sent.
enum Recorded {
    Created(Box<NodeClaim>),
    /// Another claim has this name.
    NameTaken,
    Refused(kube::Error),
    Unknown(kube::Error),
}

/// Sends the claim. The client sends it again when the API server is too busy to say what became of it; then it may be there
/// already, and is ours.
async fn record(ctx: &Context, claim: &NodeClaim) -> Recorded {
    let api = ctx.all::<NodeClaim>();
    let error = match api.create(&PostParams::default(), claim).await {
        Ok(created) => return Recorded::Created(Box::new(created)),
        Err(error) => error,
    };
    match &error {
        kube::Error::Api(status) if status.is_already_exists() => match api.get_opt(&claim.name_any()).await {
            Ok(Some(found)) if claims::is_same(&found, claim) => Recorded::Created(Box::new(found)),
            Ok(Some(_)) => Recorded::NameTaken,
            Ok(None) => Recorded::Unknown(error),
            Err(error) => Recorded::Unknown(error),
        },
        kube::Error::Api(status) if status.code < 500 => Recorded::Refused(error),
        _ => Recorded::Unknown(error),
    }
}

/// Keeps the places in memory, until the watches show them or they are taken.
fn nominate(ctx: &Context, planned: &Planned, names: &[Option<String>], pods: &HashMap<&PodKey, &Arc<Pod>>) {
    let until = Timestamp::now() + ctx.settings.nomination_ttl();
    let mut memory = ctx.memory();
    for (key, placement) in &planned.made.solution.placed {
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
    let objects = &planned.world.objects;
    let nodes: HashMap<&str, &Arc<Node>> =
        objects.nodes.iter().filter_map(|node| Some((node.metadata.name.as_deref()?, node))).collect();
    let pods: HashMap<(&str, &str), &Arc<CorePod>> = objects
        .pods
        .iter()
        .filter_map(|pod| Some(((pod.metadata.namespace.as_deref()?, pod.metadata.name.as_deref()?), pod)))
        .collect();
    let now = Timestamp::now();
    let placed = planned.made.solution.placed.iter().filter_map(|(key, placement)| {
        let place = place(placement, names)?;
        let node = nodes.get(place.as_str());
        let refused = node.and_then(|node| {
            let pod = pods.get(&(key.namespace.as_str(), key.name.as_str()))?;
            let since = ctx.memory().placed(crate::pods::uid(pod), &place, now);
            note::refused_there(pod, node, since, now)
        });
        Some(match (node, refused) {
            (Some(_), Some(why)) => {
                let note = format!("node/{place} has room for the pod, yet the scheduler leaves it aside: {why}");
                (key, Kind::Warning, "FailedScheduling", note)
            }
            (node, _) => {
                let kind = if node.is_some() { "node" } else { "nodeclaim" };
                let note = format!("Pod should schedule on: {kind}/{place} ({})", placement.why);
                (key, Kind::Normal, "Nominated", note)
            }
        })
    });
    let held = planned.held.iter().flat_map(|(index, why)| {
        let note = format!("Failed to schedule pod, {why}");
        let pods = &planned.made.solution.new_nodes[*index].pods;
        pods.iter().map(move |key| (key, Kind::Warning, "FailedScheduling", note.clone()))
    });
    let unplaced = planned.made.solution.unplaced.iter().filter_map(|(key, reasons)| {
        if let Some(why) = planned.waits.get(key) {
            return Some((key, Kind::Warning, "FailedScheduling", format!("Failed to schedule pod, {why}")));
        }
        let reasons = note::unplaced(by_key.get(key)?, reasons, unreadable, &planned.pools);
        Some((key, Kind::Warning, "FailedScheduling", format!("Failed to schedule pod, {reasons}")))
    });
    let events = placed.chain(held).chain(unplaced).filter_map(|(key, kind, reason, note)| {
        let pod = *pods.get(&(key.namespace.as_str(), key.name.as_str()))?;
        // One that runs, and is only to move, has not failed to be scheduled; its node is told.
        if kind == Kind::Warning && crate::pods::node_name(pod).is_some() {
            return None;
        }
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

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Answer, context};

    fn claim(plan: &str, uid: Option<&str>) -> Value {
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": uid, "annotations": { "tandem.dev/plan": plan } },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
        })
    }

    #[tokio::test]
    async fn a_claim_whose_creation_nobody_confirmed_is_not_made_a_second_time() {
        let exists = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists",
            "message": "", "code": 409 });
        let exists = || Answer(StatusCode::CONFLICT, exists.clone());
        let there = |plan| Answer(StatusCode::OK, claim(plan, Some("u")));
        let table = [
            (Answer(StatusCode::CREATED, claim("mine", Some("u"))), Answer::status(StatusCode::NOT_FOUND), "created"),
            // The client sent it twice, and the first time it arrived.
            (exists(), there("mine"), "created"),
            (exists(), there("another's"), "name taken"),
            (exists(), Answer::status(StatusCode::NOT_FOUND), "unknown"),
            (exists(), Answer::status(StatusCode::SERVICE_UNAVAILABLE), "unknown"),
            (Answer::status(StatusCode::FORBIDDEN), there("mine"), "refused"),
            (Answer::status(StatusCode::TOO_MANY_REQUESTS), there("mine"), "refused"),
            (Answer::status(StatusCode::GATEWAY_TIMEOUT), there("mine"), "unknown"),
            (Answer::status(StatusCode::INTERNAL_SERVER_ERROR), there("mine"), "unknown"),
        ];
        for (sent, looked, wanted) in table {
            let said = (sent.0, looked.0);
            let (ctx, _) = context(move |what| if what.starts_with("GET") { looked.clone() } else { sent.clone() });
            let recorded = match record(&ctx, &serde_json::from_value(claim("mine", None)).unwrap()).await {
                Recorded::Created(created) => {
                    assert_eq!(created.metadata.uid.as_deref(), Some("u"));
                    "created"
                }
                Recorded::NameTaken => "name taken",
                Recorded::Refused(_) => "refused",
                Recorded::Unknown(_) => "unknown",
            };
            assert_eq!(recorded, wanted, "{said:?}");
        }
    }
}
