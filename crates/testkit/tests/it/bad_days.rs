//! Bad days of a cluster: its API server is away, its HPA controller is slow, a thousand objects come at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testkit::apply::apply_many;
use testkit::bed::{Options, http_get};
use testkit::eventually::{Seen, always, eventually, when};
use testkit::prometheus::Prometheus;

use crate::world::*;

const POOL: &str = "steady";
const APP: &str = "steady";
/// Longer than every lease, than client timeouts of a minute, and than the grace of silent kubelets.
const AWAY: Duration = Duration::from_mins(2);

/// It refuses no connection; none of its answers come.
#[tokio::test(flavor = "multi_thread")]
async fn two_minutes_without_an_api_server_change_nothing() -> Result<()> {
    let mut world = World::start().await?.with_machines().await?.with_metrics().await?;
    let result = away(&mut world).await;
    world.end(result)
}

async fn away(world: &mut World) -> Result<()> {
    world.bed.namespace("web").await?;
    world.traffic(APP, 25.0);
    world.apply(&provisioner(POOL, &json!({"ttlSecondsAfterEmpty": 10}))).await?;
    world.apply(&deployment("web", APP, 1, "1", &json!({"team": POOL}))).await?;
    let more = json!({"maxReplicaCount": 5});
    world.apply(&scaled_object(APP, world.prometheus(), &rate_of(APP), &more)).await?;
    world.wait_for_replicas("web", APP, 3).await?;
    world.wait_for_pods("web", APP, 3).await?;
    world.wait_for_one_machine_per_claim().await?;
    let rented = rented(world).await?;

    // Both, so that nobody knows the load when the API server is back: what was known is two minutes old then.
    prometheus(world)?.pause();
    world.bed.pause("kube-apiserver")?;
    // A kubelet starts again whoever ends.
    for _ in 0..AWAY.as_secs() / 10 {
        nothing_is_rented_or_given_back(world, &rented, Duration::from_secs(10)).await?;
        world.start_whoever_ended().await?;
    }
    world.bed.resume("kube-apiserver")?;
    let admin = world.bed.client();
    eventually("kube-apiserver to be ready again", SOON, || async {
        let answer = admin.request_text(http_get("/readyz")?).await?;
        Ok(when(answer == "ok", answer))
    })
    .await?;

    // Every kubelet has been silent, every HPA is without a value, and no sample is fresh.
    always("the target keeps its replicas", Duration::from_secs(15), || async {
        let replicas = world.replicas("web", APP).await?;
        Ok(when(replicas == 3, replicas).found(Some(())))
    })
    .await?;
    nothing_is_rented_or_given_back(world, &rented, Duration::from_secs(1)).await?;
    prometheus(world)?.resume();
    world.start_whoever_ended().await?;

    // And the work goes on.
    world.traffic(APP, 45.0);
    world.wait_for_replicas("web", APP, 5).await?;
    world.wait_for_pods("web", APP, 5).await?;
    world.wait_for_one_machine_per_claim().await?;
    world.traffic(APP, 0.0);
    world.wait_for_replicas("web", APP, 1).await?;
    world.delete(SCALED_OBJECT, Some("web"), APP).await?;
    world.delete(DEPLOYMENT, Some("web"), APP).await?;
    world.wait_for_nothing_rented().await
}

fn prometheus(world: &World) -> Result<&Prometheus> {
    Ok(&world.metrics.as_ref().context("metrics")?.prometheus)
}

async fn rented(world: &World) -> Result<BTreeSet<String>> {
    Ok(world.alive().await?.into_iter().map(|instance| instance.id).collect())
}

async fn nothing_is_rented_or_given_back(world: &World, before: &BTreeSet<String>, during: Duration) -> Result<()> {
    always("no machine is rented or given back", during, || async {
        let now = rented(world).await?;
        Ok(when(now == *before, now).found(Some(())))
    })
    .await
}

/// It has time for nothing while the load comes, goes and comes again: from and to zero is our work, and its last report is old.
#[tokio::test(flavor = "multi_thread")]
async fn an_hpa_controller_that_sleeps_is_not_taken_at_its_last_word() -> Result<()> {
    let mut world = World::start().await?.with_metrics().await?;
    let result = slow(&mut world).await;
    world.end(result)
}

async fn slow(world: &mut World) -> Result<()> {
    const SLOW: &str = "kube-controller-manager";
    world.bed.namespace("web").await?;
    world.traffic("shop", 25.0);
    world.apply(&deployment("web", "shop", 1, "1", &json!({}))).await?;
    let more = json!({"minReplicaCount": 0, "maxReplicaCount": 5});
    world.apply(&scaled_object("shop", world.prometheus(), &rate_of("shop"), &more)).await?;
    world.wait_for_replicas("web", "shop", 3).await?;

    world.bed.pause(SLOW)?;
    world.traffic("shop", 0.0);
    world.wait_for_replicas("web", "shop", 0).await?;
    world.traffic("shop", 45.0);
    world.wait_for_replicas("web", "shop", 1).await?;
    let hpa = world.get(HPA, Some("web"), "keda-hpa-shop").await?.context("the HPA")?;
    anyhow::ensure!(hpa["status"]["desiredReplicas"] == 3, "it did not sleep: {}", hpa["status"]);
    replicas_stay(world, 1, "what goes beyond one is the HPA's to say").await?;

    world.bed.resume(SLOW)?;
    world.wait_for_replicas("web", "shop", 5).await?;

    // Asleep again while the load is gone: to zero, and what it writes when it wakes must not wake the target.
    world.bed.pause(SLOW)?;
    world.traffic("shop", 0.0);
    world.wait_for_replicas("web", "shop", 0).await?;
    world.bed.resume(SLOW)?;
    eventually("the HPA to see that its target rests", SOON, || async {
        let hpa = world.get(HPA, Some("web"), "keda-hpa-shop").await?.context("the HPA")?;
        let conditions = hpa["status"]["conditions"].clone();
        let rests = |c: &Value| c["type"] == "ScalingActive" && c["reason"] == "ScalingDisabled";
        Ok(when(conditions.as_array().is_some_and(|all| all.iter().any(rests)), conditions))
    })
    .await?;
    replicas_stay(world, 0, "nothing asks for a replica").await
}

async fn replicas_stay(world: &World, wanted: u64, why: &str) -> Result<()> {
    always(why, Duration::from_secs(6), || async {
        let replicas = world.replicas("web", "shop").await?;
        Ok(when(replicas == wanted, replicas).found(Some(())))
    })
    .await
}

/// How many objects come at once.
const MANY: usize = 1000;
/// How the names of those end whose load is unknown at first: a tenth of them.
const UNKNOWN: &str = "5";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_at_once_are_all_served_and_none_is_scaled_in() -> Result<()> {
    // As often as in clusters: every HPA asks for its value each time.
    let options = Options { hpa_sync_seconds: 15, ..Options::default() };
    let world = World::start_on(options).await?.with_metrics().await?;
    let result = many(&world).await;
    world.end(result)
}

async fn many(world: &World) -> Result<()> {
    const AT_ONCE: usize = 16;
    world.bed.namespace("web").await?;
    let names = || (0..MANY).map(|number| format!("many-{number}"));
    // Paused, so that no pods are made: nothing here is about them.
    let target = |name: String| {
        let mut target = deployment("web", &name, 2, "1", &json!({}));
        target["spec"]["paused"] = json!(true);
        target
    };
    apply_many(&world.bed.client(), names().map(target), AT_ONCE).await?;
    let prometheus = world.prometheus().to_owned();
    // Two replicas are what is wanted, and three of the last; of some nobody knows before there is traffic.
    let object = |name: String| {
        let load = if name.ends_with("-999") { 30 } else { 20 };
        let known = if name.ends_with(UNKNOWN) { format!("and on() ({} > 0)", rate_of(APP)) } else { String::new() };
        let query = format!("vector({load}) {known}");
        let mut object = scaled_object(&name, &prometheus, &query, &json!({"pollingInterval": 30}));
        object["spec"]["triggers"][0]["metadata"]["ignoreNullValues"] = json!("false");
        object
    };
    apply_many(&world.bed.client(), names().map(object), AT_ONCE).await?;
    let unknown = |c: &Value| c["type"] == "ScalingActive" && c["reason"] == "FailedGetExternalMetric";
    eventually("every HPA whose load is unknown to miss it", LATER, || async {
        let missing = with_condition(world, HPA, unknown).await?;
        unless_scaled_in(world, when(missing == MANY / 10, missing)).await
    })
    .await?;

    world.traffic(APP, 5.0);
    let is = |condition: &'static str| move |c: &Value| c["type"] == condition && c["status"] == "True";
    eventually("every ScaledObject to be ready and its HPA to know its load", LATER, || async {
        let ready = with_condition(world, SCALED_OBJECT, is("Ready")).await?;
        let active = with_condition(world, HPA, is("ScalingActive")).await?;
        unless_scaled_in(world, when(ready == MANY && active == MANY, (ready, active))).await
    })
    .await?;
    world.wait_for_replicas("web", "many-999", 3).await?;
    let total: u64 = replicas(world).await?.into_iter().sum();
    anyhow::ensure!(total == 2 * MANY as u64 + 1, "{total} replicas of all targets");
    Ok(())
}

async fn replicas(world: &World) -> Result<Vec<u64>> {
    let targets = world.list(DEPLOYMENT, Some("web")).await?;
    targets.iter().map(|target| target["spec"]["replicas"].as_u64().context("no spec.replicas")).collect()
}

/// What was seen, as long as every target has its two replicas.
async fn unless_scaled_in<T>(world: &World, seen: Seen<T>) -> Result<Seen<T>> {
    let fewest = replicas(world).await?.into_iter().min();
    let kept = fewest.is_none_or(|fewest| fewest >= 2);
    Ok(if kept { seen } else { Seen::Never(format!("a target has {fewest:?} replicas")) })
}

/// How many objects have a condition that is as wanted.
async fn with_condition(world: &World, kind: Kind, wanted: impl Fn(&Value) -> bool) -> Result<usize> {
    let is_so = |object: &Value| object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(&wanted));
    Ok(world.list(kind, Some("web")).await?.iter().filter(|object| is_so(object)).count())
}
