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
    garbage::{self, Action, End, plan},
    lifecycle::{self, patches},
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
    let nodes_of = |provider_id: &str| -> Vec<&Node> {
        nodes.iter().filter(|node| provider_id_of(node) == Some(provider_id)).collect()
    };
    let now = Timestamp::now();
    first_seen.retain(|id, _| machines.iter().any(|machine| machine.provider_id == *id));
    for machine in &machines {
        first_seen.entry(machine.provider_id.clone()).or_insert(now);
    }
    for action in plan(&machines, &claims, first_seen, ctx.settings.garbage_grace, now) {
        match action {
            Action::EndMachine { provider_id } => match garbage::end(&nodes_of(&provider_id)) {
                End::Now => end(ctx, &provider_id).await,
                End::WithNode(node) => delete_node(ctx, node, &provider_id).await,
                End::UnderWay => {}
                End::Disputed(node) => {
                    let note = format!("several Nodes name machine {provider_id}, which has no claim; it is not ended");
                    tracing::warn!(node = %node.name_any(), "{note}");
                    ctx.event(node, Kind::Warning, "MachineDisputed", "Check", note).await;
                }
            },
            Action::CheckClaim { claim, provider_id } => match ctx.presence(&provider_id).await {
                Ok(Presence::There) => {}
                Ok(Presence::Gone) => {
                    let found = claims.iter().find(|one| one.metadata.name.as_deref() == Some(&claim));
                    if let Some(node) = garbage::reporting(&nodes_of(&provider_id)) {
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

async fn end(ctx: &Context, provider_id: &str) {
    match ctx.end("garbage", provider_id).await {
        Ok(_) => {
            ctx.metrics.garbage_machines.inc();
            tracing::warn!(%provider_id, "ended a machine that has no claim");
        }
        Err(error) => tracing::warn!(%provider_id, error = %chain(&error), "cannot end a machine without claim"),
    }
}

/// Its finalizer makes the deletion a drain, so a Node that was never registered gets it first.
async fn delete_node(ctx: &Context, node: &Node, provider_id: &str) {
    let preconditions = Some(Preconditions { uid: node.uid(), resource_version: None });
    let params = DeleteParams { preconditions, ..DeleteParams::default() };
    let deleted = async {
        lifecycle::patch_node(ctx, node, patches::cordon(node, None)).await?;
        ctx.all::<Node>().delete(&node.name_any(), &params).await
    };
    match deleted.await {
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
    use cloud::{Machine, MachineState, fake::FakeCloud};
    use http::StatusCode;
    use scheduling::CapacityType;
    use serde_json::{Value, json};
    use units::ResourceList;

    use super::*;
    use crate::names;
    use crate::testing::{Answer, Asked, context_with};

    const NODE: &str = "/api/v1/nodes/n?";

    fn machine(claim_uid: &str) -> Machine {
        Machine {
            provider_id: "x:///1".to_owned(),
            claim_name: None,
            claim_uid: Some(claim_uid.to_owned()),
            instance_type: "t".to_owned(),
            zone: "z".to_owned(),
            capacity_type: CapacityType::OnDemand,
            image_id: None,
            state: MachineState::Running,
            launched_at: Some(Timestamp::UNIX_EPOCH),
            capacity: ResourceList::new(),
            allocatable: ResourceList::new(),
            labels: BTreeMap::new(),
        }
    }

    fn node(name: &str, metadata: &Value, ready: &str) -> Value {
        let mut node = json!({
            "metadata": { "uid": name, "resourceVersion": "1" },
            "spec": { "providerID": "x:///1" },
            "status": { "conditions": [{ "type": "Ready", "status": ready }] },
        });
        node["metadata"]["name"] = json!(name);
        for (key, value) in metadata.as_object().unwrap() {
            node["metadata"][key] = value.clone();
        }
        node
    }

    /// One round with these machines, claims and nodes; the machines that are left.
    async fn check(machines: Vec<Machine>, claims: Value, nodes: Vec<Value>) -> (Asked, usize) {
        let cloud = FakeCloud::default();
        for machine in machines {
            cloud.plant(machine);
        }
        let one = nodes.first().cloned().unwrap_or_default();
        let (ctx, asked) = context_with(cloud.clone(), move |what| {
            let list = |items: &Value| Answer(StatusCode::OK, json!({ "metadata": {}, "items": items }));
            match what {
                what if what.starts_with("GET /apis/karpenter.sh/v1/nodeclaims?") => list(&claims),
                what if what.starts_with("GET /api/v1/nodes?") => list(&json!(nodes)),
                what if what.contains(NODE) => Answer(StatusCode::OK, one.clone()),
                _ => Answer(StatusCode::OK, json!({ "kind": "Status", "status": "Success" })),
            }
        });
        round(&ctx, &mut BTreeMap::new()).await.unwrap();
        (asked, cloud.machines().len())
    }

    fn claim() -> Value {
        let launched = json!({ "type": "Launched", "status": "True", "reason": "Launched", "message": "",
            "lastTransitionTime": "2024-01-01T00:00:00Z" });
        json!([{
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "c", "uid": "u" },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": "x:///1", "conditions": [launched] },
        }])
    }

    #[tokio::test]
    async fn a_claim_whose_machine_is_gone_goes_unless_its_kubelet_still_reports() {
        let (asked, _) = check(vec![], claim(), vec![node("n", &json!({}), "Unknown")]).await;
        assert_eq!(asked.changes(), ["DELETE /apis/karpenter.sh/v1/nodeclaims/c?"]);
        let (asked, _) = check(vec![], claim(), vec![node("n", &json!({}), "True")]).await;
        assert_eq!(asked.changes(), Vec::<String>::new());
        assert_eq!(asked.events(), ["NodeClaim/c MachineNotFound", "Node/n MachineNotFound"]);
    }

    #[tokio::test]
    async fn a_machine_without_a_claim_is_drained_through_its_node() {
        let ours = json!({ "finalizers": [names::FINALIZER] });
        for metadata in [&ours, &json!({})] {
            let (asked, left) = check(vec![machine("gone")], json!([]), vec![node("n", metadata, "True")]).await;
            assert_eq!(asked.changes(), [format!("PATCH {NODE}"), format!("DELETE {NODE}")], "{metadata}");
            assert_eq!(left, 1, "the drain comes first");
        }
        let going = json!({ "finalizers": [names::FINALIZER], "deletionTimestamp": "2024-01-01T00:00:00Z" });
        let (asked, left) = check(vec![machine("gone")], json!([]), vec![node("n", &going, "True")]).await;
        assert_eq!((asked.changes(), left), (Vec::new(), 1));
        let (asked, left) = check(vec![machine("gone")], json!([]), vec![]).await;
        assert_eq!((asked.changes(), left), (Vec::new(), 0), "nothing can run on it");
    }

    #[tokio::test]
    async fn a_machine_that_two_nodes_name_is_not_ended() {
        let two = vec![node("n", &json!({}), "True"), node("m", &json!({}), "Unknown")];
        let (asked, left) = check(vec![machine("gone")], json!([]), two).await;
        assert_eq!((asked.changes(), left), (Vec::new(), 1));
        assert_eq!(asked.events(), ["Node/n MachineDisputed"]);
    }
}
