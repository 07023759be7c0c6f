//! Opens a new node for the pods it was planned for, and takes nominations back from one that is gone.
//!
//! A nomination is a favour to the scheduler, never a condition: whatever becomes of it, the node opens.

use std::{sync::Arc, time::Duration};

use controller_runtime::boot::chain;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, timeout, timeout_at};

use super::{next, opening, patch_node, patches, settle};
use crate::{
    context::{Context, pod_name},
    metrics::OutcomeLabel,
    nominations::Nominations,
    work::Outcome,
    world::{Member, World},
};

/// Nominations in flight for one node. The scheduler may forget a nomination while others are written, so it should be
/// quick; a full node has 110 pods.
const AT_ONCE: usize = 20;
/// How long a node waits for all its nominations.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a node waits for others to be opened. A machine boots in half a minute; a hundred at once must not wait for
/// minutes more.
const LINE: Duration = Duration::from_secs(5);
/// How long the next node waits for the pods of this one to arrive, and how often it looks.
const ARRIVAL: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// What became of the request to change a nomination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Written,
    /// The pod is gone, has a node, or is kept a place by somebody else.
    Overtaken,
    Failed,
    Late,
}

/// Nominates the pods that the node is meant for, and lets pods in.
///
/// One node at a time: when one opens, the scheduler tries the pods of the others too, in vain, and forgets those
/// nominations that were written for nodes still closed.
pub(super) async fn open(ctx: &Context, world: &World, member: &Member) -> Outcome {
    let Some(node) = &member.node else { return Outcome::Done };
    let name = node.name_any();
    let nominees = nominees(ctx, world, member, node);
    let turn = if nominees.is_empty() { None } else { timeout(LINE, ctx.opening.lock()).await.ok() };
    nominate(ctx, &name, &nominees).await;
    let outcome = settle(&member.name(), lift(ctx, node).await);
    if outcome == Outcome::Done {
        tracing::info!(node = %name, "open for pods");
        if turn.is_some() {
            // The time limit only ends the wait; who has not come by then is not waited for.
            let _ = timeout(ARRIVAL, arrival(ctx, &name, &nominees)).await;
        }
    }
    outcome
}

fn nominees(ctx: &Context, world: &World, member: &Member, node: &Node) -> Vec<Arc<Pod>> {
    // With something still missing on the node its pods would be tried in vain, and their nominations lost.
    if !ctx.settings.nominate_pods || next::unready(member, node).is_some() {
        return Vec::new();
    }
    let nominations = {
        let memory = ctx.memory();
        Nominations::at(world, &memory, ctx.settings.nomination_ttl(), Timestamp::now())
    };
    opening::nominees(world, member, &nominations)
}

/// Tries once to nominate each of them.
async fn nominate(ctx: &Context, node: &str, nominees: &[Arc<Pod>]) {
    let deadline = Instant::now() + PATIENCE;
    let answers: Vec<Answer> = stream::iter(nominees.to_vec())
        .map(|pod| async move {
            let written = timeout_at(deadline, write(ctx, &pod, Some(node))).await;
            note(ctx, &pod, node, written.unwrap_or(Ok(Answer::Late)))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let count = |wanted: Answer| answers.iter().filter(|answer| **answer == wanted).count();
    let (written, overtaken) = (count(Answer::Written), count(Answer::Overtaken));
    let lost = count(Answer::Failed) + count(Answer::Late);
    if lost > 0 {
        tracing::warn!(%node, written, overtaken, lost, "not all pods could be nominated; the node opens regardless");
    } else if !answers.is_empty() {
        tracing::info!(%node, written, overtaken, "pods nominated");
    }
}

/// Ends when all of them are on the node, or nobody can tell.
async fn arrival(ctx: &Context, node: &str, nominees: &[Arc<Pod>]) {
    let on_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
    loop {
        let Ok(pods) = ctx.all::<Pod>().list(&on_node).await else { return };
        let here = |pod: &Arc<Pod>| pods.items.iter().any(|one| one.metadata.uid == pod.metadata.uid);
        if nominees.iter().all(here) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Takes the nominations for a node back that is gone: the scheduler tries such a pod again only when something else makes
/// it, and keeps the nomination until then.
pub(super) async fn take_back(ctx: &Context, node: &str) {
    if !ctx.settings.nominate_pods || node.is_empty() {
        return;
    }
    let nominated = ListParams::default().fields(&format!("status.nominatedNodeName={node}"));
    let pods = match ctx.all::<Pod>().list(&nominated).await {
        Ok(pods) => pods.items,
        Err(error) => {
            tracing::warn!(%node, error = %chain(&error), "cannot look for pods nominated for a node that is gone");
            return;
        }
    };
    let free = pods.into_iter().filter(|pod| opening::is_free(pod, |kept| kept != node));
    stream::iter(free)
        .for_each_concurrent(AT_ONCE, |pod| async move {
            match write(ctx, &pod, None).await {
                Ok(_) => tracing::info!(pod = %pod_name(&pod), %node, "nomination taken back"),
                Err(error) => {
                    tracing::warn!(pod = %pod_name(&pod), error = %chain(&error), "cannot take a nomination back");
                }
            }
        })
        .await;
}

/// Sets or clears the nomination of exactly this pod as it was looked at; looks again once if it has changed.
async fn write(ctx: &Context, pod: &Pod, node: Option<&str>) -> kube::Result<Answer> {
    // Not the client that repeats what is refused: that takes minutes.
    let api: Api<Pod> = Api::namespaced(ctx.evictor.0.clone(), &pod.namespace().unwrap_or_default());
    let name = pod.name_any();
    let patch = |pod: &Pod| {
        let known = json!({ "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version });
        Patch::Merge(json!({ "metadata": known, "status": { "nominatedNodeName": node } }))
    };
    let mut result = api.patch_status(&name, &PatchParams::default(), &patch(pod)).await;
    if refused(&result) == Some(409) {
        // Most likely the scheduler wrote why the pod does not fit, which is no reason against it.
        let fresh = api.get_opt(&name).await?.filter(|fresh| fresh.uid() == pod.uid());
        let before = crate::pods::nominated_for(pod);
        let Some(fresh) = fresh.filter(|fresh| opening::is_free(fresh, |kept| Some(kept) != before)) else {
            return Ok(Answer::Overtaken);
        };
        result = api.patch_status(&name, &PatchParams::default(), &patch(&fresh)).await;
    }
    match refused(&result) {
        // Gone, changed again, bound.
        Some(404 | 409 | 422) => Ok(Answer::Overtaken),
        _ => result.map(|_| Answer::Written),
    }
}

/// The HTTP status of a refusal.
fn refused<T>(result: &kube::Result<T>) -> Option<u16> {
    match result {
        Err(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

fn note(ctx: &Context, pod: &Pod, node: &str, result: kube::Result<Answer>) -> Answer {
    let answer = result.unwrap_or_else(|error| {
        tracing::debug!(pod = %pod_name(pod), %node, error = %chain(&error), "cannot nominate");
        Answer::Failed
    });
    let outcome = match answer {
        Answer::Written => "written",
        Answer::Overtaken => "overtaken",
        Answer::Failed => "failed",
        Answer::Late => "late",
    };
    ctx.metrics.nominations.get_or_create(&OutcomeLabel { outcome: outcome.to_owned() }).inc();
    answer
}

/// Takes the closing taint off. Kubelets write to their Nodes all the time, and every moment between nomination and opening
/// counts: a conflict is mended at once.
async fn lift(ctx: &Context, node: &Node) -> kube::Result<()> {
    match patch_node(ctx, node, patches::open(node)).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            let fresh = ctx.all::<Node>().get(&node.name_any()).await?;
            if fresh.uid() == node.uid() { patch_node(ctx, &fresh, patches::open(&fresh)).await } else { Ok(()) }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::Value;

    use super::*;
    use crate::{
        testing::{self, context},
        world::Objects,
    };

    const TAINTED: &str = "karpenter.sh/unregistered";
    const POD: &str = "PATCH /api/v1/namespaces/d/pods/p/status?";
    const NODE: &str = "PATCH /api/v1/nodes/n?";

    fn pod(nominated: &str) -> Value {
        json!({ "metadata": { "name": "p", "namespace": "d", "uid": "uid-p", "resourceVersion": "1" },
            "spec": { "containers": [] }, "status": { "nominatedNodeName": nominated } })
    }

    fn node() -> Value {
        json!({ "metadata": { "name": "n", "uid": "uid-n", "resourceVersion": "1" },
            "spec": { "providerID": "x:///1", "taints": [ { "key": TAINTED, "effect": "NoSchedule" } ] },
            "status": { "conditions": [ { "type": "Ready", "status": "True" } ] } })
    }

    fn world() -> World {
        let plan = json!({ "priceUsdMicrosPerHour": 1, "reason": "", "pods": ["d/p/uid-p"], "offerings": [],
            "capacity": {} });
        let claim = json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "u", "annotations": { "tandem.dev/plan": plan.to_string() } },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": "x:///1" } });
        World::new(Objects {
            pods: vec![Arc::new(serde_json::from_value(pod("")).unwrap())],
            nodes: vec![Arc::new(serde_json::from_value(node()).unwrap())],
            claims: vec![Arc::new(serde_json::from_value(claim).unwrap())],
            ..Objects::default()
        })
    }

    /// The changes asked for while the node opens, when the API server answers the nomination and the look after it so.
    async fn opened(nomination: StatusCode, fresh: Value) -> (Outcome, Vec<String>, String) {
        let (ctx, asked) = context(move |what| match what {
            POD if nomination == StatusCode::OK => testing::Answer(nomination, pod("n")),
            POD => testing::Answer::status(nomination),
            what if what.starts_with("GET /api/v1/pods?") => {
                testing::Answer(StatusCode::OK, json!({ "metadata": {}, "items": [pod("")] }))
            }
            what if what.contains("/pods/") => testing::Answer(StatusCode::OK, fresh.clone()),
            _ => testing::Answer(StatusCode::OK, node()),
        });
        let world = world();
        let outcome = open(&ctx, &world, &world.members[0]).await;
        let counted = ["written", "overtaken", "failed", "late"].map(|outcome| {
            let label = OutcomeLabel { outcome: outcome.to_owned() };
            (outcome, ctx.metrics.nominations.get_or_create(&label).get())
        });
        let counted: Vec<&str> = counted.iter().filter(|(_, count)| *count > 0).map(|(outcome, _)| *outcome).collect();
        (outcome, asked.changes(), counted.join(" "))
    }

    #[tokio::test]
    async fn a_node_opens_after_its_nominations_whatever_becomes_of_them() {
        let table = [
            (StatusCode::OK, pod(""), vec![POD, NODE], "written"),
            (StatusCode::FORBIDDEN, pod(""), vec![POD, NODE], "failed"),
            (StatusCode::TOO_MANY_REQUESTS, pod(""), vec![POD, NODE], "failed"),
            (StatusCode::NOT_FOUND, pod(""), vec![POD, NODE], "overtaken"),
            (StatusCode::UNPROCESSABLE_ENTITY, pod(""), vec![POD, NODE], "overtaken"),
            // It has changed: still free, kept a place elsewhere meanwhile.
            (StatusCode::CONFLICT, pod(""), vec![POD, POD, NODE], "overtaken"),
            (StatusCode::CONFLICT, pod("other"), vec![POD, NODE], "overtaken"),
        ];
        for (status, fresh, changes, counted) in table {
            let wanted =
                (Outcome::Done, changes.iter().map(|change| (*change).to_owned()).collect(), counted.to_owned());
            assert_eq!(opened(status, fresh.clone()).await, wanted, "{status} {fresh}");
        }
    }

    #[tokio::test]
    async fn nominations_for_a_node_that_is_gone_are_taken_back() {
        let (ctx, asked) = context(|what| match what {
            what if what.starts_with("GET") => {
                testing::Answer(StatusCode::OK, json!({ "metadata": {}, "items": [pod("n"), pod("other")] }))
            }
            _ => testing::Answer(StatusCode::OK, pod("")),
        });
        take_back(&ctx, "n").await;
        assert_eq!(asked.all(), ["GET /api/v1/pods?&fieldSelector=status.nominatedNodeName%3Dn", POD]);
    }
}
