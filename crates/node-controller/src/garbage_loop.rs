//! Looks for what nobody owns, at the start and every so often.

use std::collections::BTreeMap;

use api::{convert::pool_of, karpenter_v1::NodeClaim};
use controller_runtime::{boot::chain, events::Kind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Preconditions},
};
use scheduling::PoolKey;

use crate::{
    context::{Context, Worlds},
    garbage::{Action, plan},
    names,
    pools::{self, Pools},
    vendor::Presence,
    world::provider_id_of,
};

/// Runs until the shutdown. Only the leader may run it.
pub(crate) async fn run(ctx: Context, worlds: Worlds) {
    let mut first_seen = BTreeMap::new();
    loop {
        if let Err(error) = round(&ctx, &mut first_seen).await {
            tracing::warn!(error = %error, "could not look for garbage, trying again later");
        }
        let world = std::sync::Arc::clone(&worlds.borrow().value);
        let classes = pools::live_classes(&world, &Pools::of(&world));
        if let Err(error) = ctx.clean(&classes).await {
            tracing::warn!(error = %chain(&error), "could not clean up after launches");
        }
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            () = tokio::time::sleep(ctx.settings.garbage_interval) => {}
        }
    }
}

async fn round(ctx: &Context, first_seen: &mut BTreeMap<String, Timestamp>) -> Result<(), String> {
    // The order matters: a claim is written before its machine is asked for, so machines first, then the claims.
    let machines = ctx.machines("garbage").await.map_err(|error| chain(&error))?;
    let api = ctx.all::<NodeClaim>();
    // From the API server itself: a watch that is behind would make owned machines look abandoned.
    let claims = api.list(&ListParams::default()).await.map_err(|error| chain(&error))?.items;
    let nodes = ctx.all::<Node>().list(&ListParams::default()).await.map_err(|error| chain(&error))?.items;
    let node_of = |provider_id: &str| nodes.iter().find(|node| provider_id_of(node) == Some(provider_id));
    let now = Timestamp::now();
    first_seen.retain(|id, _| machines.iter().any(|machine| machine.provider_id == *id));
    for machine in &machines {
        first_seen.entry(machine.provider_id.clone()).or_insert(now);
    }
    for action in plan(&machines, &claims, first_seen, ctx.settings.garbage_grace, now) {
        match action {
            Action::EndMachine { provider_id } => match node_of(&provider_id) {
                // It may be serving: its end goes through the node's finalizer, with a drain.
                Some(node) if node.finalizers().iter().any(|one| one == names::FINALIZER) => {
                    delete_node(ctx, node, &provider_id).await;
                }
                _ => end(ctx, &provider_id).await,
            },
            Action::CheckClaim { claim, provider_id } => match ctx.presence(&provider_id).await {
                Ok(Presence::There) => {}
                Ok(Presence::Gone) => {
                    let found = claims.iter().find(|one| one.metadata.name.as_deref() == Some(&claim));
                    // A kubelet that reports is a machine that runs: it is we who look in the wrong place, such as
                    // another region or account.
                    if let Some(node) = node_of(&provider_id).filter(|node| is_ready(node)) {
                        let note = "The cloud does not know the machine of this ready node; nothing is done. \
                                    Are the region and the account right?";
                        tracing::warn!(nodeclaim = %claim, %provider_id, "{note}");
                        ctx.event_on_member(found, Some(node), Kind::Warning, "MachineNotFound", "Check", note).await;
                        continue;
                    }
                    let uid = found.and_then(ResourceExt::uid);
                    let pool = found.and_then(|one| pool_of(one.labels()));
                    tracing::warn!(nodeclaim = %claim, %provider_id, "the machine is gone, deleting its claim");
                    delete(ctx, &claim, uid, pool).await;
                }
                Err(error) => tracing::warn!(%provider_id, error = %chain(&error), "cannot ask for a machine"),
            },
        }
    }
    Ok(())
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn end(ctx: &Context, provider_id: &str) {
    match ctx.end("garbage", provider_id).await {
        Ok(_) => {
            ctx.metrics.garbage_machines.inc();
            tracing::warn!(%provider_id, "ended a machine that has no claim");
        }
        Err(error) => tracing::warn!(%provider_id, error = %chain(&error), "cannot end a machine without claim"),
    }
}

async fn delete_node(ctx: &Context, node: &Node, provider_id: &str) {
    if node.metadata.deletion_timestamp.is_some() {
        return;
    }
    let preconditions = Some(Preconditions { uid: node.uid(), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    match ctx.all::<Node>().delete(&node.name_any(), &params).await {
        Ok(_) => tracing::warn!(node = %node.name_any(), %provider_id, "draining a node that has no claim"),
        Err(error) => tracing::warn!(node = %node.name_any(), error = %chain(&error), "node not deleted"),
    }
}

async fn delete(ctx: &Context, name: &str, uid: Option<String>, pool: Option<PoolKey>) {
    let preconditions = Some(Preconditions { uid, resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    if let Err(error) = ctx.all::<NodeClaim>().delete(name, &params).await {
        tracing::warn!(nodeclaim = %name, error = %chain(&error), "claim not deleted");
        return;
    }
    let label = crate::metrics::ReasonAndPool {
        reason: "machine_gone".to_owned(),
        nodepool: pool.map(|pool| pool.name).unwrap_or_default(),
    };
    ctx.metrics.claims_disrupted.get_or_create(&label).inc();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_node_that_says_so_now_is_ready() {
        let node = |status: &str| -> Node {
            serde_json::from_value(json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } }))
                .unwrap()
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("Unknown")));
        assert!(!is_ready(&Node::default()));
    }
}
