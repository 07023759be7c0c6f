//! Takes nodes out of service that are empty or too old.

mod expire;

use std::time::Duration;

use controller_runtime::{boot::chain, events::Kind};
use disruption::{Candidate, Verdict, emptiness};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use scheduling::NodeKey;
use serde_json::json;

use crate::{
    context::{Context, View, Worlds},
    expiry::Pauses,
    lifecycle::{self, patches},
    names, pods,
    pools::Pools,
    removal::{self, Step, Why},
    world::Member,
};

/// At least this long between two looks. A rollout changes the world many times a second; nothing here is that urgent.
const PAUSE: Duration = Duration::from_millis(500);
/// At most this long between two looks. Karpenter's loop has the same period.
const PERIOD: Duration = Duration::from_secs(10);
/// Between two choices of an expired node: each simulates a plan.
const EXPIRY_PERIOD: Duration = Duration::from_secs(10);

/// Runs until the shutdown. Only the leader may run it.
pub(crate) async fn run(ctx: Context, mut worlds: Worlds) {
    let mut expiry_due = tokio::time::Instant::now();
    let mut pauses = Pauses::default();
    loop {
        let view = ctx.view(&mut worlds);
        let pools = Pools::of(&view.world);
        let candidates = removal::candidates(&view.world, &pools, &view.nominations, &view.leaving, view.at);
        let mut look = view.at + PERIOD;
        if go_on(&ctx, &view, &mut pauses).await {
            // Places become ready in the memory too, and no world says so.
            look = view.at + PAUSE;
        }
        for candidate in &candidates {
            if let Some(next) = empty(&ctx, &view, candidate).await {
                look = look.min(next);
            }
        }
        if expiry_due <= tokio::time::Instant::now() {
            expiry_due = tokio::time::Instant::now() + EXPIRY_PERIOD;
            if let Some(next) = expire::expire(&ctx, &view, &candidates, &mut pauses).await {
                look = look.min(next.max(view.at + PAUSE));
            }
        }
        let wait = Duration::try_from(look.duration_since(Timestamp::now())).unwrap_or_default().max(PAUSE);
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            changed = worlds.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removals that were begun, by this process or an earlier one.
///
/// Whether any is still under way.
async fn go_on(ctx: &Context, view: &View, pauses: &mut Pauses) -> bool {
    let mut any = false;
    for member in &view.world.members {
        let Some(begun) = removal::begun(member) else { continue };
        let of_claim = member.claim.as_ref().and_then(|claim| claim.metadata.deletion_timestamp.as_ref());
        let of_node = member.node.as_ref().and_then(|node| node.metadata.deletion_timestamp.as_ref());
        if of_claim.is_some() || (member.claim.is_none() && of_node.is_some()) {
            continue;
        }
        any = true;
        let timeout = ctx.settings.replacement_timeout;
        match removal::step(&begun, member, &view.world, &view.nominations, timeout, view.at) {
            Step::Finish => finish(ctx, member, begun.reason).await,
            Step::TakeBack => {
                let note = match begun.reason {
                    Why::Empty => "a pod came to the node that was to be removed; it stays",
                    Why::Expired => {
                        "the pods of the expired node found no other place in time, or may not go; it stays for now"
                    }
                };
                tracing::info!(machine = %member.name(), "{note}");
                if begun.reason == Why::Expired {
                    // Others may be replaced in the meantime.
                    pauses.failed(&node_uid(member), view.at);
                    blocked(ctx, member, note).await;
                }
                take_back(ctx, member).await;
            }
            Step::Wait { without_place, .. } => {
                let note = match without_place {
                    0 => "a disruption budget lets a pod of it not go now".to_owned(),
                    count => format!("{count} pods have no ready place elsewhere yet"),
                };
                say(ctx, member, Kind::Normal, "DisruptionWaitingReadiness", &note).await;
            }
        }
    }
    any
}

async fn finish(ctx: &Context, member: &Member, why: Why) {
    let Some(node) = &member.node else { return };
    if why == Why::Empty {
        // A pod may have been bound just before the cordon: ask the API server itself.
        let on_node = ListParams::default().fields(&format!("spec.nodeName={}", node.name_any()));
        match ctx.all::<Pod>().list(&on_node).await {
            Ok(list) if list.items.iter().any(pods::occupies) => return take_back(ctx, member).await,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(node = %node.name_any(), error = %chain(&error), "cannot list the pods of a node");
                return;
            }
        }
    }
    // What follows a deletion is the same with and without a claim.
    let deleted = match &member.claim {
        Some(_) => lifecycle::delete_claim(ctx, member, &why.as_str().to_lowercase()).await,
        None => lifecycle::delete_node(ctx, member).await,
    };
    match deleted {
        Ok(()) => {
            let note = format!("Disrupting node: {}", why.as_str());
            tracing::info!(machine = %member.name(), node = %node.name_any(), reason = why.as_str(), "removing node");
            say(ctx, member, Kind::Normal, "DisruptionTerminating", &note).await;
        }
        Err(error) => {
            tracing::warn!(machine = %member.name(), error = %chain(&error), "not deleted, trying again");
        }
    }
}

async fn take_back(ctx: &Context, member: &Member) {
    let Some(node) = &member.node else { return };
    for name in names_of(member) {
        ctx.memory().stay(&name);
    }
    if let Err(error) = lifecycle::patch_node(ctx, node, patches::uncordon(node)).await {
        tracing::warn!(node = %node.name_any(), error = %chain(&error), "node not put back into service, trying again");
    }
}

/// Emptiness of one node. When to look again.
async fn empty(ctx: &Context, view: &View, candidate: &Candidate) -> Option<Timestamp> {
    let member = member(view, &candidate.node)?;
    let node = member.node.as_ref()?;
    match emptiness(candidate, view.at) {
        Verdict::Keep { next_look, .. } => next_look,
        Verdict::MarkEmpty { since, next_look } => {
            let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            annotate(ctx, node, json!(since)).await;
            next_look
        }
        Verdict::ClearEmpty => {
            annotate(ctx, node, serde_json::Value::Null).await;
            None
        }
        Verdict::Remove { reason } => {
            begin(ctx, member, Why::from(reason), &reason.to_string()).await;
            None
        }
    }
}

async fn annotate(ctx: &Context, node: &Node, value: serde_json::Value) {
    let patch = json!({ "metadata": { "annotations": { names::EMPTINESS_TIMESTAMP: value } } });
    let sent = ctx.all::<Node>().patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
    if let Err(error) = sent {
        tracing::warn!(node = %node.name_any(), error = %chain(&error), "emptiness not noted, trying again");
    }
}

/// Writes on the node that it is being removed, unless a pod was promised a place on it this moment.
async fn begin(ctx: &Context, member: &Member, why: Why, text: &str) {
    let Some(node) = &member.node else { return };
    let names = names_of(member);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if !ctx.memory().try_leave(&names, Timestamp::now()) {
        return;
    }
    match lifecycle::cordon(ctx, member, Some(why.as_str())).await {
        Ok(()) => {
            tracing::info!(node = %node.name_any(), reason = why.as_str(), why = text, "taking a node out of service");
            let note = format!("Disrupting node: {text}");
            say(ctx, member, Kind::Normal, "Disrupted", &note).await;
            ctx.wakeup.ring();
        }
        Err(error) => {
            for name in names {
                ctx.memory().stay(name);
            }
            tracing::warn!(node = %node.name_any(), error = %chain(&error), "node not cordoned, trying again");
        }
    }
}

/// Says on a member's objects why it is not removed now.
async fn blocked(ctx: &Context, member: &Member, note: &str) {
    say(ctx, member, Kind::Warning, "DisruptionBlocked", note).await;
}

async fn say(ctx: &Context, member: &Member, kind: Kind, reason: &str, note: &str) {
    ctx.event_on_member(member.claim.as_deref(), member.node.as_deref(), kind, reason, "Disrupt", note).await;
}

fn node_uid(member: &Member) -> String {
    member.node.as_ref().and_then(|node| node.uid()).unwrap_or_default()
}

fn member<'a>(view: &'a View, node: &NodeKey) -> Option<&'a Member> {
    view.world
        .members
        .iter()
        .find(|member| member.node.as_ref().is_some_and(|one| one.metadata.name.as_deref() == Some(node.0.as_str())))
}

fn names_of(member: &Member) -> Vec<String> {
    let claim = member.claim.as_ref().map(|claim| claim.name_any());
    let node = member.node.as_ref().map(|node| node.name_any());
    claim.into_iter().chain(node).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::Value;

    use super::*;
    use crate::testing::{Answer, context};

    fn node() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "a", "uid": "n", "annotations": { names::REMOVAL: "Empty" } },
            "spec": { "unschedulable": true },
        })
    }

    fn claim() -> Value {
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "c", "uid": "u" },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
        })
    }

    /// What is asked to finish the removal of an empty node, if the API server has these pods on it.
    async fn finished(pods: Value, with_claim: bool) -> Vec<String> {
        let (ctx, asked) = context(move |what| match what {
            what if what.contains("/pods") => Answer(StatusCode::OK, json!({ "metadata": {}, "items": pods })),
            what if what.contains("/nodes") => Answer(StatusCode::OK, node()),
            _ => Answer(StatusCode::OK, claim()),
        });
        let member = Member {
            claim: with_claim.then(|| Arc::new(serde_json::from_value(claim()).unwrap())),
            node: Some(Arc::new(serde_json::from_value(node()).unwrap())),
            pods: Vec::new(),
            attachments: Vec::new(),
            rivals: Vec::new(),
        };
        finish(&ctx, &member, Why::Empty).await;
        asked.changes()
    }

    #[tokio::test]
    async fn an_empty_node_goes_only_when_the_api_server_itself_has_no_pod_on_it() {
        let pod =
            json!([{ "metadata": { "name": "p", "namespace": "d" }, "spec": { "nodeName": "a", "containers": [] } }]);
        assert_eq!(finished(pod, true).await, ["PATCH /api/v1/nodes/a?"], "put back into service");
        assert_eq!(finished(json!([]), true).await, ["DELETE /apis/karpenter.sh/v1/nodeclaims/c?"]);
        assert_eq!(finished(json!([]), false).await, ["DELETE /api/v1/nodes/a?"], "without a claim");
    }
}
