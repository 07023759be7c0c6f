//! Programs that die at the worst moment, and what their successors make of it.
//!
//! What is killed here is killed by SIGKILL: nothing is finished, nothing is given back, and the Lease has to run out.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::eventually::{Seen, always, eventually, when};

use crate::world::*;

const POOL: &str = "mortal";
const APP: &str = "mortal";

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_while_renting_or_returning_leaves_no_second_machine_and_no_orphan() -> Result<()> {
    let mut world = World::start().await?.with_machines().await?.with_metrics().await?;
    let result = dying(&mut world).await;
    world.end(result)
}

async fn dying(world: &mut World) -> Result<()> {
    world.bed.namespace("web").await?;
    world.traffic(APP, 0.0);

    between_claim_and_launch(world).await?;
    between_launch_and_record(world).await?;
    while_draining(world).await?;
    between_end_and_record(world).await?;

    // The same end as without all this.
    world.wait_for_replicas("web", APP, 1).await?;
    world.delete(SCALED_OBJECT, Some("web"), APP).await?;
    world.delete(DEPLOYMENT, Some("web"), APP).await?;
    world.wait_for_nothing_rented().await
}

/// The claim is written; the launch template is being made for it; no machine has been asked for.
async fn between_claim_and_launch(world: &mut World) -> Result<()> {
    world.machines().aws.control().hold("CreateLaunchTemplate", 1).await?;
    world.apply(&provisioner(POOL, &json!({"ttlSecondsAfterEmpty": 10}))).await?;
    world.apply(&deployment("web", APP, 1, "1", &json!({"team": POOL}))).await?;
    let more = json!({"maxReplicaCount": 5});
    world.apply(&scaled_object(APP, world.prometheus(), &rate_of(APP), &more)).await?;
    wait_for_held(world).await?;
    let claims = world.list(NODE_CLAIM, None).await?;
    ensure!(claims.len() == 1, "one pod, {} claims", claims.len());
    ensure!(world.launched().await?.is_empty(), "a machine before its launch template");

    world.kill_programs();
    world.machines().aws.control().release().await?;
    world.start_programs().await?;
    world.wait_for_pods("web", APP, 1).await?;
    world.wait_for_one_machine_per_claim().await?;
    let after = world.list(NODE_CLAIM, None).await?;
    ensure!(uids(&after) == uids(&claims), "the claim was made anew: {:?}", uids(&after));
    Ok(())
}

/// EC2 has launched the machine; nobody has heard of it.
async fn between_launch_and_record(world: &mut World) -> Result<()> {
    world.machines().aws.control().hold("CreateFleet", 1).await?;
    world.traffic(APP, 80.0);
    wait_for_held(world).await?;
    let recorded = |claims: &[Value]| -> Vec<String> {
        claims.iter().map(|claim| text(&claim["status"]["providerID"]).to_owned()).collect()
    };
    let before = recorded(&world.list(NODE_CLAIM, None).await?);
    let launched = world.launched().await?;
    let unknown = launched.iter().find(|(_, instance)| !before.iter().any(|id| id.ends_with(&instance.id)));
    let (uid, instance) = unknown.cloned().context("an answer is held, and every machine is recorded")?;

    world.kill_programs();
    world.machines().aws.control().release().await?;
    world.start_programs().await?;
    world.wait_for_replicas("web", APP, 5).await?;
    world.wait_for_pods("web", APP, 5).await?;
    world.wait_for_one_machine_per_claim().await?;
    let claims = world.list(NODE_CLAIM, None).await?;
    let claim = claims.iter().find(|claim| claim["metadata"]["uid"] == uid.as_str());
    let provider_id = claim.map(|claim| text(&claim["status"]["providerID"]).to_owned()).unwrap_or_default();
    ensure!(
        provider_id.ends_with(&instance.id),
        "claim {uid} has {provider_id:?}, not {} that was launched for it",
        instance.id
    );
    Ok(())
}

/// A node is being emptied, and a disruption budget holds its pods.
async fn while_draining(world: &mut World) -> Result<()> {
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": APP, "namespace": "web"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": APP}}},
    });
    world.apply(&budget).await?;
    eventually("the budget to be counted", SOON, || async {
        let found = world.get(BUDGET, Some("web"), APP).await?.context("the budget")?;
        let counted = found["status"]["observedGeneration"] == 1 && found["status"]["disruptionsAllowed"] == 0;
        Ok(when(counted, found["status"].clone()))
    })
    .await?;
    let pods = world.pods("web", APP).await?;
    let node = text(&pods[0]["spec"]["nodeName"]).to_owned();
    let claims = world.list(NODE_CLAIM, None).await?;
    let claim = claims.iter().find(|claim| claim["status"]["nodeName"] == node.as_str()).context("its claim")?;
    let (claim, id) = (name(claim), text(&claim["status"]["providerID"]).to_owned());
    world.delete(NODE_CLAIM, None, &claim).await?;
    world.told(NODE, &node, &["FailedDraining"]).await?;

    world.kill_programs();
    let still = world.get(NODE_CLAIM, None, &claim).await?.context("the claim of a node that is not empty is gone")?;
    ensure!(!still["metadata"]["deletionTimestamp"].is_null(), "the claim is not being deleted");
    ensure!(world.alive().await?.iter().any(|i| id.ends_with(&i.id)), "the machine ended under its pods");
    world.delete(BUDGET, Some("web"), APP).await?;
    world.start_programs().await?;
    eventually("the drained node, its claim and its machine to be gone", LATER, || async {
        let found = (world.get(NODE_CLAIM, None, &claim).await?, world.get(NODE, None, &node).await?);
        let alive = world.alive().await?.iter().any(|instance| id.ends_with(&instance.id));
        let gone = found.0.is_none() && found.1.is_none() && !alive;
        Ok(when(gone, (found.0.map(|c| c["status"].clone()), found.1.map(|n| n["spec"].clone()), alive)))
    })
    .await?;
    world.wait_for_pods("web", APP, 5).await?;
    world.wait_for_one_machine_per_claim().await
}

/// EC2 ends an empty machine; nobody has heard that it does, and its claim is still there.
async fn between_end_and_record(world: &mut World) -> Result<()> {
    world.machines().aws.control().hold("TerminateInstances", 1).await?;
    world.traffic(APP, 0.0);
    wait_for_held(world).await?;
    world.kill_programs();
    let (claims, alive) = (world.list(NODE_CLAIM, None).await?, world.alive().await?);
    ensure!(claims.len() > alive.len(), "{} claims, {} machines: none was being ended", claims.len(), alive.len());
    world.machines().aws.control().release().await?;
    world.start_programs().await
}

const BUDGET: Kind = Kind("policy", "v1", "PodDisruptionBudget");

async fn wait_for_held(world: &mut World) -> Result<()> {
    let control = world.machines().aws.control().clone();
    eventually("the cloud to hold an answer back", LATER, || async {
        let held = control.held().await?;
        Ok(when(held == 1, held))
    })
    .await
    .map(drop)
}

fn uids(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|object| text(&object["metadata"]["uid"]).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_between_decisions_leaves_the_target_as_it_is() -> Result<()> {
    let mut world = World::start().await?.with_metrics().await?;
    let result = deciding(&mut world).await;
    world.end(result)
}

async fn deciding(world: &mut World) -> Result<()> {
    const COOLDOWN: i64 = 45;
    world.bed.namespace("web").await?;
    world.traffic("shop", 25.0);
    world.apply(&deployment("web", "shop", 1, "1", &json!({}))).await?;
    let more = json!({"minReplicaCount": 0, "cooldownPeriod": COOLDOWN});
    world.apply(&scaled_object("shop", world.prometheus(), &rate_of("shop"), &more)).await?;

    // While the object is being taken in hand: its HPA may be there or not.
    eventually("the ScaledObject to be taken in hand", SOON, || async {
        let object = world.get(SCALED_OBJECT, Some("web"), "shop").await?.context("the ScaledObject")?;
        let finalizers = object["metadata"]["finalizers"].clone();
        Ok(when(finalizers.as_array().is_some_and(|all| !all.is_empty()), finalizers))
    })
    .await?;
    world.kill_programs();
    world.start_programs().await?;
    world.wait_for_replicas("web", "shop", 3).await?;
    let hpas: Vec<String> = world.list(HPA, Some("web")).await?.iter().map(name).collect();
    ensure!(hpas == ["keda-hpa-shop"], "{hpas:?}");

    // While the cooldown runs.
    world.traffic("shop", 0.0);
    world.condition((SCALED_OBJECT, Some("web"), "shop"), "Active", "False", &["Cooldown"]).await?;
    world.wait_for_replicas("web", "shop", 1).await?;
    world.kill_programs();
    let object = world.get(SCALED_OBJECT, Some("web"), "shop").await?.context("the ScaledObject")?;
    let active: Timestamp = text(&object["status"]["lastActiveTime"]).parse()?;
    always("the target stays while nobody decides", Duration::from_secs(6), || async {
        let replicas = world.replicas("web", "shop").await?;
        Ok(when(replicas == 1, replicas).found(Some(())))
    })
    .await?;
    world.start_programs().await?;
    world.wait_for_replicas("web", "shop", 0).await?;
    let waited = Timestamp::now().duration_since(active).as_secs();
    ensure!(waited >= COOLDOWN - 1, "the successor went to zero {waited} s after the last activity");

    // While it is at zero, and the load comes back unseen.
    world.kill_programs();
    world.traffic("shop", 25.0);
    eventually("the rate to rise", SOON, || async {
        let rate = world.metrics.as_ref().context("metrics")?.prometheus.query(&rate_of("shop")).await?;
        Ok(rate.filter(|rate| *rate > 20.0).map_or_else(|| Seen::NotYet(format!("{rate:?}")), Seen::Done))
    })
    .await?;
    ensure!(world.replicas("web", "shop").await? == 0, "nobody is there to scale from zero");
    world.start_programs().await?;
    world.wait_for_replicas("web", "shop", 3).await
}
