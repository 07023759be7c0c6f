//! Asking the cloud for a claim's machine, and writing down what came of it.

use std::collections::BTreeMap;

use api::{convert::pool_of, karpenter_v1::NodeClaim};
use cloud::{CloudError, Machine};
use controller_runtime::{boot::chain, events::Kind};
use jiff::Timestamp;
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{delete_claim, settle, status};
use crate::{
    claims,
    context::Context,
    plan::Plan,
    pools::{self, Pools},
    work::Outcome,
    world::{Member, World},
};

/// Launches, or finds what an earlier launch of this claim got: the cloud knows it by the claim's UID.
pub(super) async fn launch(ctx: &Context, world: &World, member: &Member) -> Outcome {
    let Some(claim) = &member.claim else { return Outcome::Done };
    let name = claim.name_any();
    let result = match request(ctx, world, claim).await {
        Ok(request) if request.offerings.is_empty() => {
            Err(CloudError::InsufficientCapacity { offerings: Vec::new(), why: String::new() })
        }
        Ok(request) => ctx.launch(&request).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(machine) => settle(&name, record(ctx, claim, &machine).await),
        Err(CloudError::InsufficientCapacity { offerings, why }) => {
            let note = CloudError::InsufficientCapacity { offerings, why: why.clone() }.to_string();
            tracing::info!(nodeclaim = %name, why = %note, "no capacity, planning anew");
            let outcome = settle(&name, delete_claim(ctx, member, "insufficient_capacity").await);
            ctx.event(&**claim, Kind::Warning, "InsufficientCapacityError", "Launch", note).await;
            // Claims go with their events; and a quota is a matter for whoever looks after the pool.
            if !why.is_empty() {
                pool_event(ctx, world, claim, format!("no capacity: {why}")).await;
            }
            outcome
        }
        Err(error @ CloudError::Misconfigured { .. }) => {
            let note = error.to_string();
            tracing::warn!(nodeclaim = %name, error = %note, "cannot launch until somebody changes the configuration");
            let _ = settle(&name, status::not_launched(ctx, claim, "LaunchFailed", &note).await);
            ctx.event(&**claim, Kind::Warning, "FailedLaunch", "Launch", note.clone()).await;
            pool_event(ctx, world, claim, note.clone()).await;
            // A claim that somebody made by hand is theirs to delete.
            if Plan::of(claim).is_none() {
                return Outcome::Failed;
            }
            // Before the claim goes: its pods must not be planned for the same pool again.
            if let Some(pool) = pool_of(claim.labels())
                && let Some(pool) = Pools::of(world).0.get(&pool)
            {
                ctx.standings().refuse(pool, &note, Timestamp::now());
            }
            settle(&name, delete_claim(ctx, member, "misconfigured").await)
        }
        Err(CloudError::Throttled { retry_after }) => {
            tracing::info!(nodeclaim = %name, seconds = retry_after.as_secs_f64(), "the cloud asks to wait");
            Outcome::FailedFor(retry_after)
        }
        Err(error @ (CloudError::Unavailable(_) | CloudError::NotFound)) => {
            let text = chain(&error);
            tracing::warn!(nodeclaim = %name, error = %text, "launch failed, trying again");
            let _ = settle(&name, status::not_launched(ctx, claim, "CloudUnavailable", &error.to_string()).await);
            Outcome::Failed
        }
    }
}

async fn request(ctx: &Context, world: &World, claim: &NodeClaim) -> Result<cloud::LaunchRequest, CloudError> {
    let misconfigured = |what| CloudError::Misconfigured { what };
    let pool = pool_of(claim.labels())
        .ok_or_else(|| misconfigured("metadata.labels: no label names a Provisioner or NodePool".to_owned()))?;
    let class = pools::node_class(world, &claim.spec.node_class_ref).map_err(misconfigured)?;
    let kubelet = pools::kubelet(world, &pool, &class);
    // Only a claim made by hand needs to look at what there is; a planned one says what it wants.
    let types = match Plan::of(claim) {
        Some(_) => std::sync::Arc::from([]),
        None => ctx.instance_types(&class, &kubelet).await?,
    };
    claims::launch_request(claim, class, kubelet, &types).map_err(misconfigured)
}

/// Labels first: whoever sees the machine recorded sees them too.
async fn record(ctx: &Context, claim: &NodeClaim, machine: &Machine) -> kube::Result<()> {
    let labels: BTreeMap<&String, &String> =
        machine.labels.iter().filter(|(key, value)| claim.labels().get(*key) != Some(value)).collect();
    if !labels.is_empty() {
        let patch = json!({ "metadata": { "labels": labels } });
        ctx.all::<NodeClaim>().patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    status::launched(ctx, claim, machine).await?;
    tracing::info!(
        nodeclaim = %claim.name_any(),
        provider_id = %machine.provider_id,
        instance_type = %machine.instance_type,
        zone = %machine.zone,
        capacity_type = %machine.capacity_type,
        allocatable = %machine.allocatable,
        "launched",
    );
    Ok(())
}

async fn pool_event(ctx: &Context, world: &World, claim: &NodeClaim, note: String) {
    let Some(pool) = pool_of(claim.labels()) else { return };
    if let Some(reference) = pools::reference(world, &pool) {
        ctx.recorder.publish(&reference, Kind::Warning, "FailedLaunch", "Launch", note).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cloud::fake::FakeCloud;
    use http::StatusCode;
    use scheduling::{CapacityType, OfferingKey, PoolKey, PoolKind, PricedOffering};
    use serde_json::{Value, json};
    use units::{ResourceList, UsdMicrosPerHour};

    use super::*;
    use crate::{
        plan::PlannedOffering,
        testing::{Answer, context_with},
        world::Objects,
    };

    fn provisioner() -> Value {
        json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
            "metadata": { "name": "p", "uid": "p", "generation": 1 },
            "spec": { "provider": { "subnetSelector": { "a": "b" }, "securityGroupSelector": { "a": "b" } } } })
    }

    /// A claim of that Provisioner, planned or made by hand.
    fn claim(planned: bool) -> NodeClaim {
        let key = OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: "z".to_owned(),
            capacity_type: CapacityType::OnDemand,
        };
        let plan = Plan {
            price_usd_micros_per_hour: UsdMicrosPerHour(5),
            reason: String::new(),
            pods: Vec::new(),
            offerings: vec![PlannedOffering(PricedOffering { key, price: UsdMicrosPerHour(5) })],
            capacity: ResourceList::new(),
        };
        let annotations = if planned { plan.annotations() } else { BTreeMap::new() };
        serde_json::from_value(json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "u", "annotations": annotations,
                "labels": { "karpenter.sh/provisioner-name": "p" } },
            "spec": { "requirements": [],
                "nodeClassRef": { "group": "karpenter.sh", "kind": "Provisioner", "name": "p" } } }))
        .unwrap()
    }

    /// What is asked of the API server when the cloud refuses the launch, and why the pool is closed then.
    async fn refused(planned: bool) -> (bool, Option<String>) {
        let cloud = FakeCloud::default();
        cloud.set_misconfigured("p", Some("spec.provider.instanceProfile: there is none"));
        let claim = Arc::new(claim(planned));
        let body = serde_json::to_value(&*claim).unwrap();
        let (ctx, asked) = context_with(cloud, move |_| Answer(StatusCode::OK, body.clone()));
        let world = World::new(Objects {
            claims: vec![claim],
            provisioners: vec![Arc::new(serde_json::from_value(provisioner()).unwrap())],
            ..Objects::default()
        });
        launch(&ctx, &world, &world.members[0]).await;
        let mut pools = Pools::of(&world);
        let key = PoolKey { kind: PoolKind::Provisioner, name: "p".to_owned() };
        let class = pools.0[&key].class.clone().unwrap();
        let mut standings = ctx.standings();
        standings.judge(class, &Ok(()), Timestamp::now());
        standings.apply(&mut pools, Timestamp::now());
        let deleted = asked.changes().iter().any(|what| what.starts_with("DELETE") && what.contains("/nodeclaims/c"));
        (deleted, pools.0[&key].closed.clone().map(|closed| closed.what))
    }

    #[tokio::test]
    async fn a_refused_launch_ends_its_claim_and_closes_the_pool() {
        let (deleted, closed) = refused(true).await;
        assert!(deleted);
        assert!(closed.is_some_and(|what| what.contains("spec.provider.instanceProfile")));
    }

    #[tokio::test]
    async fn a_claim_made_by_hand_stays_and_closes_nothing() {
        assert_eq!(refused(false).await, (false, None));
    }
}
