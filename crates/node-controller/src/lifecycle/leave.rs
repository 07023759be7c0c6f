//! The end of a machine: its pods are asked to leave, then it ends, then its objects go.

use std::time::Duration;

use api::karpenter_v1::NodeClaim;
use cloud::CloudError;
use controller_runtime::{boot::chain, events::Kind};
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams, Preconditions},
};
use requirements::labels;
use scheduling::PodKey;

use super::{next, nominate, patches, pool_name, settle, status};
use crate::{
    context::Context,
    draining,
    metrics::{Code, Place, ReasonAndPool},
    vendor::Presence,
    work::Outcome,
    world::Member,
};

/// Evictions in flight for one node; they are small requests, and 110 pods are a full node.
const EVICTIONS: usize = 10;
/// Time between two rounds of evictions that make progress, and after a disruption budget said no. Karpenter backs off
/// up to ten seconds.
const ROUND: Duration = Duration::from_secs(1);
const REFUSED: Duration = Duration::from_secs(5);
/// Time between two looks at a machine that is ending. EC2 takes about half a minute.
const ENDING: Duration = Duration::from_secs(2);

/// One round of evictions.
pub(super) async fn drain(ctx: &Context, member: &Member) -> Outcome {
    let Some(node) = &member.node else { return Outcome::Done };
    if !next::is_ready(node)
        && let Some(provider_id) = member.provider_id()
    {
        // Nobody is there to stop the pods if the machine has gone.
        match ctx.presence(provider_id).await {
            Ok(Presence::Gone) => return release(ctx, member).await,
            Ok(Presence::There) => {}
            Err(error) => tracing::warn!(node = %node.name_any(), error = %chain(&error), "cannot ask for the machine"),
        }
    }
    let plan = draining::plan(member, Timestamp::now());
    let blockers: Vec<String> = plan.blockers().map(|(pod, wait)| format!("pod {pod} {wait}")).collect();
    if !blockers.is_empty() {
        let note = format!("cannot drain: {}", blockers.join("; "));
        ctx.event_on_member(member.claim.as_deref(), Some(node), Kind::Warning, "FailedDraining", "Drain", &note).await;
    }
    let uid = |key: &PodKey| {
        let pod = member.pods.iter().find(|pod| {
            pod.metadata.name.as_deref() == Some(&key.name) && pod.metadata.namespace.as_deref() == Some(&key.namespace)
        });
        pod.cloned()
    };
    for (key, left) in &plan.delete {
        if let Some(pod) = uid(key) {
            delete(ctx, node, &pod, *left).await;
        }
    }
    let pods: Vec<_> = plan.evict.iter().filter_map(uid).collect();
    let asked = pods.len();
    let refused = stream::iter(pods)
        .map(|pod| async move { evict(ctx, node, &pod).await })
        .buffer_unordered(EVICTIONS)
        .filter(|evicted| std::future::ready(!*evicted))
        .count()
        .await;
    // A budget that let some go will soon let more go.
    Outcome::Again(if refused > 0 && refused == asked { REFUSED } else { ROUND })
}

/// Asks one pod to leave. False if it has to be asked again later.
async fn evict(ctx: &Context, node: &Node, pod: &Pod) -> bool {
    let name = pod.name_any();
    let this_pod = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
    let delete = DeleteParams { preconditions: Some(this_pod), ..DeleteParams::default() };
    let params = EvictParams { delete_options: Some(delete), ..EvictParams::default() };
    let api: kube::Api<Pod> = kube::Api::namespaced(ctx.evictor.0.clone(), &pod.namespace().unwrap_or_default());
    let result = api.evict(&name, &params).await;
    let code = match &result {
        Ok(_) => 201,
        Err(kube::Error::Api(status)) => status.code,
        Err(_) => 0,
    };
    ctx.metrics.evictions.get_or_create(&Code { code: code.to_string() }).inc();
    match result {
        Ok(_) => {
            tracing::info!(pod = %crate::context::pod_name(pod), node = %node.name_any(), "evicted");
            ctx.event(
                pod,
                Kind::Normal,
                "Evicted",
                "Evict",
                format!("Evicted pod: node {} is leaving", node.name_any()),
            )
            .await;
            true
        }
        // Gone, or another pod of that name: either way this one has left.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => true,
        Err(kube::Error::Api(status)) if status.code == 429 => {
            let note = format!("a disruption budget does not allow the eviction now: {}", status.message);
            ctx.event(pod, Kind::Warning, "FailedDraining", "Evict", note.clone()).await;
            ctx.event(node, Kind::Warning, "FailedDraining", "Drain", format!("pod {name}: {note}")).await;
            false
        }
        Err(error) => {
            tracing::warn!(pod = %crate::context::pod_name(pod), error = %chain(&error), "eviction failed");
            if let kube::Error::Api(status) = &error {
                let note = format!("the eviction is refused: {}", status.message);
                ctx.event(pod, Kind::Warning, "FailedDraining", "Evict", note.clone()).await;
                ctx.event(node, Kind::Warning, "FailedDraining", "Drain", format!("pod {name}: {note}")).await;
            }
            false
        }
    }
}

/// Deletes a pod that could not be evicted in time, so that it is stopped before its machine is.
async fn delete(ctx: &Context, node: &Node, pod: &Pod, left: Duration) {
    let params = DeleteParams {
        grace_period_seconds: u32::try_from(left.as_secs()).ok(),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let api: kube::Api<Pod> = kube::Api::namespaced(ctx.evictor.0.clone(), &pod.namespace().unwrap_or_default());
    match api.delete(&pod.name_any(), &params).await {
        Ok(_) => {
            let note = format!(
                "Deleted pod: node {} ends soon whoever is there; {} s to stop",
                node.name_any(),
                left.as_secs()
            );
            tracing::info!(pod = %crate::context::pod_name(pod), node = %node.name_any(), "deleted before its node ends");
            ctx.event(pod, Kind::Warning, "TerminationGracePeriodExpiring", "Delete", note).await;
        }
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
        Err(error) => {
            tracing::warn!(pod = %crate::context::pod_name(pod), error = %chain(&error), "pod not deleted, trying again");
        }
    }
}

/// Ends the machine; once it is gone, takes our finalizers off.
pub(super) async fn terminate(ctx: &Context, member: &Member) -> Outcome {
    let name = member.name();
    if let Some(node) = &member.node
        && !next::is_overdue(member, Timestamp::now())
    {
        match still_drained(ctx, member, node).await {
            Ok(true) => {}
            // The watch was behind: the next look sees the pods and drains them.
            Ok(false) => return Outcome::Failed,
            Err(error) => return settle(&name, Err(error)),
        }
    }
    let provider_id = match member.provider_id() {
        Some(provider_id) => Some(provider_id.to_owned()),
        None => match find(ctx, member).await {
            Ok(found) => found,
            Err(error) => return later(ctx, member, &error).await,
        },
    };
    let Some(provider_id) = provider_id else { return release(ctx, member).await };
    if let Err(error) = note_ending(ctx, member, None).await {
        return settle(&name, Err(error));
    }
    match ctx.end("nodeclaim.lifecycle", &provider_id).await {
        Ok(Presence::Gone) => {
            tracing::info!(machine = %name, %provider_id, "machine ended");
            let place = place(member);
            ctx.metrics.claims_terminated.get_or_create(&place).inc();
            release(ctx, member).await
        }
        Ok(Presence::There) => {
            // For people to read: the machine ends whether or not it is written.
            let _ = settle(&name, note_ending(ctx, member, Some(Ok(()))).await);
            Outcome::Again(ENDING)
        }
        Err(error) => later(ctx, member, &error).await,
    }
}

/// Writes on the claim how far the end of the machine is.
async fn note_ending(ctx: &Context, member: &Member, said: Option<Result<(), &str>>) -> kube::Result<()> {
    let Some(claim) = &member.claim else { return Ok(()) };
    // Only the end of its time ends a machine that is not drained; the watch may still show pods that are gone.
    let now = Timestamp::now();
    let is_drained = !next::is_overdue(member, now) || draining::plan(member, now).is_drained();
    status::ending(ctx, claim, is_drained, said).await
}

async fn later(ctx: &Context, member: &Member, error: &CloudError) -> Outcome {
    tracing::warn!(machine = %member.name(), error = %chain(error), "cannot end the machine yet, trying again");
    if let CloudError::Misconfigured { what } = error {
        // It is paid for until a person does something.
        let note = format!("the machine cannot be ended: {what}");
        let (claim, node) = (member.claim.as_deref(), member.node.as_deref());
        ctx.event_on_member(claim, node, Kind::Warning, "FailedTermination", "Terminate", &note).await;
        let _ = settle(&member.name(), note_ending(ctx, member, Some(Err(&note))).await);
    }
    match error {
        CloudError::Throttled { retry_after } => Outcome::FailedFor(*retry_after),
        _ => Outcome::Failed,
    }
}

/// Asks the API server itself whether nobody is left: a pod may have been bound just before the cordon.
async fn still_drained(ctx: &Context, member: &Member, node: &Node) -> kube::Result<bool> {
    let on_node = ListParams::default().fields(&format!("spec.nodeName={}", node.name_any()));
    let pods = ctx.all::<Pod>().list(&on_node).await?;
    Ok(draining::plan_pods(pods.items.iter(), draining::rules(member), None, Timestamp::now()).is_drained())
}

/// The machine of a claim that was never recorded: a process may have died between launch and record.
async fn find(ctx: &Context, member: &Member) -> Result<Option<String>, CloudError> {
    let Some(uid) = member.claim.as_ref().and_then(|claim| claim.metadata.uid.as_deref()) else { return Ok(None) };
    let machines = ctx.machines("nodeclaim.lifecycle").await?;
    Ok(machines.into_iter().find(|m| m.claim_uid.as_deref() == Some(uid)).map(|m| m.provider_id))
}

async fn release(ctx: &Context, member: &Member) -> Outcome {
    let name = member.name();
    let result = release_objects(ctx, member).await;
    if let (Some(node), true) = (&member.node, result.is_ok()) {
        nominate::take_back(ctx, &node.name_any()).await;
    }
    if result.is_ok() {
        let label = ReasonAndPool { reason: "drained".to_owned(), nodepool: pool_name(member) };
        ctx.metrics.nodes_drained.get_or_create(&label).inc();
        tracing::info!(machine = %name, "deleted");
    }
    settle(&name, result)
}

/// Deletes the Node if nobody has, and takes our finalizer off it.
pub(super) async fn release_node(ctx: &Context, member: &Member) -> kube::Result<()> {
    let Some(node) = &member.node else { return Ok(()) };
    let api = ctx.all::<Node>();
    if let Some(fresh) = api.get_opt(&node.name_any()).await?.filter(|fresh| fresh.uid() == node.uid()) {
        if fresh.metadata.deletion_timestamp.is_none() {
            super::delete_node(ctx, member).await?;
        }
        let version = api.get_opt(&node.name_any()).await?;
        if let Some(fresh) = version.filter(|fresh| fresh.uid() == node.uid())
            && let Some(patch) = patches::release(fresh.finalizers(), fresh.metadata.resource_version.as_deref())
        {
            api.patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
    }
    Ok(())
}

/// The Node first: as long as the claim is there, whoever comes next finds its way here again.
async fn release_objects(ctx: &Context, member: &Member) -> kube::Result<()> {
    release_node(ctx, member).await?;
    if let Some(claim) = &member.claim {
        let api = ctx.all::<NodeClaim>();
        let fresh = api.get_opt(&claim.name_any()).await?.filter(|fresh| fresh.uid() == claim.uid());
        if let Some(fresh) = fresh
            && let Some(patch) = patches::release(fresh.finalizers(), fresh.metadata.resource_version.as_deref())
        {
            api.patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        }
    }
    Ok(())
}

fn place(member: &Member) -> Place {
    let label = |key: &str| {
        let claim = member.claim.as_ref().and_then(|claim| claim.labels().get(key).cloned());
        claim.or_else(|| member.node.as_ref().and_then(|node| node.labels().get(key).cloned())).unwrap_or_default()
    };
    Place { nodepool: pool_name(member), capacity_type: label(labels::CAPACITY_TYPE), zone: label(labels::ZONE) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        names,
        testing::{Answer, context},
    };

    const DELETED: &str = "2026-01-01T00:00:00Z";

    fn claim() -> Value {
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "u", "deletionTimestamp": DELETED, "finalizers": [names::FINALIZER] },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": "x:///1", "nodeName": "a" },
        })
    }

    fn node() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "a", "uid": "n", "deletionTimestamp": DELETED, "finalizers": [names::FINALIZER] },
        })
    }

    /// What is asked to end a machine whose pods, as far as the watch knows, have gone, if the API server has these.
    async fn ended(pods: Value) -> (Outcome, Vec<String>) {
        let (ctx, asked) = context(move |what| match what {
            what if what.contains("/pods") => Answer(StatusCode::OK, json!({ "metadata": {}, "items": pods })),
            what if what.contains("/nodes") => Answer(StatusCode::OK, node()),
            _ => Answer(StatusCode::OK, claim()),
        });
        let member = Member {
            claim: Some(Arc::new(serde_json::from_value(claim()).unwrap())),
            node: Some(Arc::new(serde_json::from_value(node()).unwrap())),
            pods: Vec::new(),
            attachments: Vec::new(),
            rivals: Vec::new(),
        };
        let outcome = terminate(&ctx, &member).await;
        (outcome, asked.changes())
    }

    #[tokio::test]
    async fn a_machine_is_ended_only_when_the_api_server_itself_has_no_pod_on_it() {
        let owner =
            json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true }]);
        let pod = json!([{ "metadata": { "name": "p", "namespace": "d", "ownerReferences": owner },
            "spec": { "nodeName": "a", "containers": [] } }]);
        assert_eq!(ended(pod).await, (Outcome::Failed, Vec::new()));
        let (outcome, asked) = ended(json!([])).await;
        assert_eq!(outcome, Outcome::Done);
        assert!(asked.iter().any(|what| what.starts_with("PATCH /apis/karpenter.sh/v1/nodeclaims/c")), "{asked:?}");
    }
}
