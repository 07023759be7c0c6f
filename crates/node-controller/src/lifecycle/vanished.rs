//! Claims whose Node object went away without us: somebody took the finalizer off, or restored an old backup.
//!
//! A machine without a Node takes no pods, and its own ones are deleted by Kubernetes. It gets its time to join again;
//! then it ends. Every answer is asked of the API server itself: a watch that lags must not end a machine that serves.

use api::karpenter_v1::NodeClaim;
use controller_runtime::events::Kind;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{ResourceExt as _, api::ListParams};

use super::{nominate, settle, status};
use crate::{context::Context, lifecycle::next::Ending, pods, work::Outcome, world::Member, world::provider_id_of};

/// What the API server says about the Node that a claim should have.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// It is there; only our watch does not show it yet.
    Node,
    /// It is gone, and pods are still bound to it: Kubernetes deletes them within a minute.
    Pods(usize),
    /// Nothing of it is left.
    Nothing,
}

/// Writes down that the Node is gone.
pub(super) async fn note(ctx: &Context, member: &Member) -> Outcome {
    let Some(claim) = &member.claim else { return Outcome::Done };
    let name = member.name();
    match look(ctx, claim).await {
        Ok(Found::Node) => return Outcome::Failed,
        Ok(Found::Pods(_) | Found::Nothing) => {}
        Err(error) => return settle(&name, Err(error)),
    }
    let note = format!(
        "Node {} is gone though nobody gave its machine back; the machine ends if it does not join again within {} s",
        node_name(claim),
        ctx.settings.registration_timeout.as_secs(),
    );
    tracing::warn!(nodeclaim = %name, "{note}");
    nominate::take_back(ctx, node_name(claim)).await;
    let outcome = settle(&name, status::vanished(ctx, claim, &note).await);
    ctx.event(&**claim, Kind::Warning, "NodeNotFound", "Check", note).await;
    outcome
}

/// Writes down that the Node is back.
pub(super) async fn found(ctx: &Context, member: &Member) -> kube::Result<()> {
    let Some(claim) = &member.claim else { return Ok(()) };
    tracing::info!(nodeclaim = %claim.name_any(), "the Node is back");
    status::found(ctx, claim).await
}

/// Deletes the claim, and with it the machine, unless anything of the Node is left.
pub(super) async fn give_up(ctx: &Context, member: &Member) -> Outcome {
    let Some(claim) = &member.claim else { return Outcome::Done };
    let name = member.name();
    match look(ctx, claim).await {
        Ok(Found::Nothing) => settle(&name, super::give_up(ctx, member, Ending::NodeVanished).await),
        Ok(Found::Node) => Outcome::Failed,
        Ok(Found::Pods(count)) => {
            let note =
                format!("{count} pods are still bound to Node {}, which is gone; its machine stays", node_name(claim));
            tracing::warn!(nodeclaim = %name, "{note}");
            ctx.event(&**claim, Kind::Warning, "NodeNotFound", "Check", note).await;
            Outcome::Failed
        }
        Err(error) => settle(&name, Err(error)),
    }
}

async fn look(ctx: &Context, claim: &NodeClaim) -> kube::Result<Found> {
    let provider_id = claim.status.as_ref().and_then(|status| status.provider_id.as_deref());
    let name = node_name(claim);
    let nodes = ctx.all::<Node>().list(&ListParams::default()).await?;
    let named = nodes.iter().find(|node| node.name_any() == name);
    if named.is_some_and(|node| provider_id_of(node).is_none())
        || nodes.iter().any(|node| provider_id.is_some() && provider_id_of(node) == provider_id)
    {
        return Ok(Found::Node);
    }
    if name.is_empty() || named.is_some() {
        // Names that follow from addresses come again: the pods of that Node run on another machine.
        return Ok(Found::Nothing);
    }
    let on_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let bound = ctx.all::<Pod>().list(&on_node).await?.items;
    match bound.iter().filter(|pod| pods::occupies(pod)).count() {
        0 => Ok(Found::Nothing),
        count => Ok(Found::Pods(count)),
    }
}

fn node_name(claim: &NodeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.node_name.as_deref()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{Answer, context};

    const DELETE: &str = "DELETE /apis/karpenter.sh/v1/nodeclaims/c?";

    fn claim() -> Value {
        json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "c", "uid": "u" },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": "x:///1", "nodeName": "a" },
        })
    }

    /// What is done about a claim whose Node the watch does not show, when the API server has these.
    async fn acted(nodes: Value, pods: Value) -> (Vec<String>, Vec<String>) {
        let (ctx, asked) = context(move |what| match what {
            what if what.contains("/nodes") => Answer(StatusCode::OK, json!({ "metadata": {}, "items": nodes })),
            what if what.contains("/pods") => Answer(StatusCode::OK, json!({ "metadata": {}, "items": pods })),
            _ => Answer(StatusCode::OK, claim()),
        });
        let member = Member {
            claim: Some(Arc::new(serde_json::from_value(claim()).unwrap())),
            node: None,
            pods: Vec::new(),
            attachments: Vec::new(),
            rivals: Vec::new(),
        };
        note(&ctx, &member).await;
        let noted = asked.changes();
        give_up(&ctx, &member).await;
        let given_up = asked.changes().split_off(noted.len());
        (noted, given_up)
    }

    #[tokio::test]
    async fn a_machine_is_given_up_only_when_the_api_server_itself_has_neither_its_node_nor_its_pods() {
        let noted = ["PATCH /apis/karpenter.sh/v1/nodeclaims/c/status?"];
        assert_eq!(acted(json!([]), json!([])).await, (noted.map(String::from).to_vec(), vec![DELETE.to_owned()]));
        let nothing = (Vec::new(), Vec::new());
        assert_eq!(acted(json!([{ "metadata": { "name": "a" } }]), json!([])).await, nothing);
        let reused = json!([{ "metadata": { "name": "a" }, "spec": { "providerID": "x:///2" } }]);
        let its_pod = json!([{ "metadata": { "name": "p" }, "spec": { "containers": [], "nodeName": "a" } }]);
        assert_eq!(acted(reused, its_pod).await, (noted.map(String::from).to_vec(), vec![DELETE.to_owned()]));
        let renamed = json!([{ "metadata": { "name": "b" }, "spec": { "providerID": "x:///1" } }]);
        assert_eq!(acted(renamed, json!([])).await, nothing);
        let pod = json!([{ "metadata": { "name": "p" }, "spec": { "containers": [], "nodeName": "a" } }]);
        assert_eq!(acted(json!([]), pod).await, (noted.map(String::from).to_vec(), Vec::new()));
    }
}
