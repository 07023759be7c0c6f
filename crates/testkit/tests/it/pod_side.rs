//! What people do with ScaledObjects beside plain scaling: HPAs that change hands or names, idle counts, pauses,
//! fallbacks; and a leader that dies beside its follower.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::eventually::{Seen, always, eventually, when};
use testkit::programs::NAMESPACE;

use crate::world::*;

const LEASE: Kind = Kind("coordination.k8s.io", "v1", "Lease");
const PAUSED: &str = "autoscaling.keda.sh/paused-replicas";
const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";

/// Long enough for an HPA that looks every two seconds and remembers for five to do what it must not.
const LONG_ENOUGH: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn people_take_over_rename_rest_pause_and_fall_back() -> Result<()> {
    let world = World::start().await?.with_metrics_but_no_admission().await?;
    let stories = async {
        world.bed.namespace("web").await?;
        // They share a cluster and nothing else: each has its own workload. All are played to their end.
        let ends: [Result<()>; 6] = tokio::join!(
            a_takeover(&world),
            a_rename(&world),
            an_idle_count(&world),
            an_edit(&world),
            pauses(&world),
            a_fallback(&world)
        )
        .into();
        let failed: Vec<String> =
            ends.into_iter().filter_map(|end| end.err().map(|error| format!("{error:#}"))).collect();
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        Ok(())
    };
    let result = stories.await;
    world.end(result)
}

/// A workload with `replicas` pods to begin with, its traffic, and its ScaledObject.
async fn scaled(world: &World, name: &str, replicas: u32, per_second: f64, more: &Value) -> Result<()> {
    world.traffic(name, per_second);
    world.apply(&deployment("web", name, replicas, "1", &json!({}))).await?;
    world.apply(&scaled_object(name, world.prometheus(), &rate_of(name), more)).await
}

async fn hpa(world: &World, name: &str) -> Result<Option<Value>> {
    world.get(HPA, Some("web"), name).await
}

/// Waits for an HPA that a ScaledObject controls.
async fn wait_for_hpa(world: &World, name: &str, owner: &str) -> Result<Value> {
    eventually(format!("HPA {name} to be controlled by ScaledObject {owner}"), SOON, || async {
        let found = hpa(world, name).await?;
        let controlled = found.as_ref().is_some_and(|hpa| {
            let owners = hpa.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.into_iter().flatten().any(|by| by["name"] == owner && by["controller"] == true)
        });
        Ok(when(controlled, found.clone().map(|hpa| hpa["metadata"].clone())).found(found))
    })
    .await
}

async fn wait_for_no_hpa(world: &World, name: &str) -> Result<()> {
    eventually(format!("HPA {name} to be gone"), SOON, || async {
        let found = hpa(world, name).await?;
        Ok(when(found.is_none(), found.map(|hpa| hpa["metadata"].clone())))
    })
    .await
    .map(drop)
}

async fn stays_at(world: &World, name: &str, wanted: u64, why: &str) -> Result<()> {
    always(format!("{name} has {wanted} replicas: {why}"), LONG_ENOUGH, || async {
        let replicas = world.replicas("web", name).await?;
        Ok(when(replicas == wanted, replicas).found((replicas == wanted).then_some(())))
    })
    .await
}

/// Waits until Prometheus says a rate that `is` so; what comes after is not a matter of the load's being on its way.
async fn wait_for_rate(world: &World, name: &str, is: fn(f64) -> bool) -> Result<()> {
    eventually(format!("the rate of {name} to change"), SOON, || async {
        let rate = world.metrics.as_ref().context("metrics")?.prometheus.query(&rate_of(name)).await?;
        Ok(when(rate.is_some_and(is), rate))
    })
    .await
    .map(drop)
}

async fn annotate(world: &World, name: &str, key: &str, value: Option<&str>) -> Result<()> {
    world.patch(SCALED_OBJECT, Some("web"), name, &json!({"metadata": {"annotations": {key: value}}})).await
}

/// Somebody has an HPA already, and wants it to become the ScaledObject's.
async fn a_takeover(world: &World) -> Result<()> {
    const NAME: &str = "taken";
    let by_hand = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "by-hand", "namespace": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 2, "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
            }}],
        },
    });
    world.apply(&by_hand).await?;
    let uid = hpa(world, "by-hand").await?.context("the HPA that was just made")?["metadata"]["uid"].clone();
    let more = json!({"advanced": {"horizontalPodAutoscalerConfig": {"name": "by-hand"}}});
    scaled(world, NAME, 2, 45.0, &more).await?;
    let says = ["'by-hand'", "does not belong", "transfer-hpa-ownership"];
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Ready", "False", &says).await?;
    ensure!(world.replicas("web", NAME).await? == 2, "scaled although it has another master");

    annotate(world, NAME, "scaledobject.keda.sh/transfer-hpa-ownership", Some("true")).await?;
    let taken = wait_for_hpa(world, "by-hand", NAME).await?;
    ensure!(taken["metadata"]["uid"] == uid, "it was made anew, which forgets what it had seen");
    ensure!(taken["spec"]["metrics"][0]["type"] == "External", "{}", taken["spec"]);
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Ready", "True", &[]).await?;
    world.wait_for_replicas("web", NAME, 5).await?;
    ensure!(hpa(world, "keda-hpa-taken").await?.is_none(), "there is a second HPA for the workload");
    Ok(())
}

/// Who mends a query does not wait for what is left of a long interval.
async fn an_edit(world: &World) -> Result<()> {
    const NAME: &str = "edited";
    let more = json!({"minReplicaCount": 0, "pollingInterval": 3600});
    let asking = |query: &str| scaled_object(NAME, world.prometheus(), query, &more);
    world.apply(&deployment("web", NAME, 0, "1", &json!({}))).await?;
    world.apply(&asking("vector(0)")).await?;
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Active", "False", &[]).await?;
    world.apply(&asking("vector(45)")).await?;
    world.wait_for_replicas("web", NAME, 5).await
}

/// The HPA gets another name: the one of the old name goes, and the workload stays as it is.
async fn a_rename(world: &World) -> Result<()> {
    const NAME: &str = "renamed";
    scaled(world, NAME, 1, 25.0, &json!({})).await?;
    world.wait_for_replicas("web", NAME, 3).await?;
    let name = json!({"spec": {"advanced": {"horizontalPodAutoscalerConfig": {"name": "by-another-name"}}}});
    world.patch(SCALED_OBJECT, Some("web"), NAME, &name).await?;
    wait_for_hpa(world, "by-another-name", NAME).await?;
    wait_for_no_hpa(world, "keda-hpa-renamed").await?;
    let object = world.get(SCALED_OBJECT, Some("web"), NAME).await?.context("the ScaledObject")?;
    ensure!(object["status"]["hpaName"] == "by-another-name", "{}", object["status"]);
    stays_at(world, NAME, 3, "nothing but a name has changed").await?;
    world.traffic(NAME, 45.0);
    world.wait_for_replicas("web", NAME, 5).await
}

/// Two replicas at least while there is load; none while there is not.
async fn an_idle_count(world: &World) -> Result<()> {
    const NAME: &str = "resting";
    let more = json!({"minReplicaCount": 2, "idleReplicaCount": 0, "cooldownPeriod": 3});
    scaled(world, NAME, 1, 35.0, &more).await?;
    world.wait_for_replicas("web", NAME, 4).await?;
    world.traffic(NAME, 0.0);
    world.wait_for_replicas("web", NAME, 0).await?;
    world.told(SCALED_OBJECT, NAME, &["KEDAScaleTargetDeactivated"]).await?;
    stays_at(world, NAME, 0, "the minimum is for when there is load").await?;
    // Load for one; the minimum is two.
    world.traffic(NAME, 8.0);
    let woken = eventually("the workload to wake", LATER, || async {
        let replicas = world.replicas("web", NAME).await?;
        Ok(when(replicas > 0, replicas))
    })
    .await?;
    ensure!(woken == 2, "it woke to {woken}");
    stays_at(world, NAME, 2, "load for one, and at least two").await
}

/// Holding one direction, then the other, then a count.
async fn pauses(world: &World) -> Result<()> {
    const NAME: &str = "held";
    let place = (SCALED_OBJECT, Some("web"), NAME);
    scaled(world, NAME, 1, 25.0, &json!({"minReplicaCount": 0, "cooldownPeriod": 2})).await?;
    world.wait_for_replicas("web", NAME, 3).await?;

    annotate(world, NAME, PAUSED_SCALE_IN, Some("true")).await?;
    world.condition(place, "Paused", "True", &["scale in"]).await?;
    world.traffic(NAME, 0.0);
    world.condition(place, "Active", "False", &["ScalerNotActive"]).await?;
    stays_at(world, NAME, 3, "scaling in is paused").await?;
    world.traffic(NAME, 45.0);
    world.wait_for_replicas("web", NAME, 5).await?;

    annotate(world, NAME, PAUSED_SCALE_OUT, Some("true")).await?;
    annotate(world, NAME, PAUSED_SCALE_IN, None).await?;
    world.condition(place, "Paused", "True", &["scale out"]).await?;
    world.traffic(NAME, 85.0);
    wait_for_rate(world, NAME, |rate| rate > 75.0).await?;
    stays_at(world, NAME, 5, "scaling out is paused").await?;
    world.traffic(NAME, 0.0);
    world.wait_for_replicas("web", NAME, 0).await?;
    world.traffic(NAME, 25.0);
    wait_for_rate(world, NAME, |rate| rate > 20.0).await?;
    stays_at(world, NAME, 0, "waking is scaling out").await?;
    annotate(world, NAME, PAUSED_SCALE_OUT, None).await?;
    world.condition(place, "Paused", "False", &[]).await?;
    world.wait_for_replicas("web", NAME, 3).await?;

    annotate(world, NAME, PAUSED, Some("4")).await?;
    world.wait_for_replicas("web", NAME, 4).await?;
    world.condition(place, "Paused", "True", &["4 replicas"]).await?;
    wait_for_no_hpa(world, "keda-hpa-held").await?;
    world.traffic(NAME, 65.0);
    wait_for_rate(world, NAME, |rate| rate > 60.0).await?;
    stays_at(world, NAME, 4, "it is paused at four").await?;
    annotate(world, NAME, PAUSED, None).await?;
    world.wait_for_replicas("web", NAME, 7).await?;
    world.told(SCALED_OBJECT, NAME, &["ScaledObjectUnpaused"]).await.map(drop)
}

/// A source that does not answer, and a fallback to as many as there are, but three at least.
async fn a_fallback(world: &World) -> Result<()> {
    const NAME: &str = "blind";
    let fallback = json!({"failureThreshold": 1, "replicas": 3, "behavior": "currentReplicasIfHigher"});
    world.apply(&deployment("web", NAME, 2, "1", &json!({}))).await?;
    world.apply(&scaled_object(NAME, "http://127.0.0.1:1", "vector(1)", &json!({"fallback": fallback}))).await?;
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Fallback", "True", &[]).await?;
    world.wait_for_replicas("web", NAME, 3).await?;
    world.patch(DEPLOYMENT, Some("web"), NAME, &json!({"spec": {"replicas": 8}})).await?;
    stays_at(world, NAME, 8, "a person made it larger, and nobody knows the load").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_answers_metrics_and_takes_over_a_running_cooldown() -> Result<()> {
    let mut world = World::start().await?.with_metrics().await?;
    let result = succession(&mut world).await;
    world.end(result)
}

async fn succession(world: &mut World) -> Result<()> {
    const NAME: &str = "shop";
    const COOLDOWN: i64 = 60;
    let leader = wait_for_leader(world, |_| true).await?;
    // The second one gets the API server's questions; the first one leads.
    let mut follower = world.bed.spawn_pod_autoscaler(&[]).await?;
    world.bed.namespace("web").await?;
    scaled(world, NAME, 1, 25.0, &json!({"minReplicaCount": 0, "cooldownPeriod": COOLDOWN})).await?;
    world.wait_for_replicas("web", NAME, 3).await?;
    ensure!(holder(world).await? == leader, "a second one has made the first one step down");
    let page = follower.metrics().await?;
    ensure!(page.contains("keda_scaler_metrics_value{"), "the HPA was not answered by the follower:\n{page}");
    ensure!(!page.contains("tandem_scale_writes_total{"), "a follower writes:\n{page}");

    world.traffic(NAME, 0.0);
    world.condition((SCALED_OBJECT, Some("web"), NAME), "Active", "False", &["Cooldown"]).await?;
    let active = last_active(world, NAME).await?;
    world.metrics.as_mut().context("metrics")?.program.kill();
    // Nobody leads until the lease has run out; the HPA is answered all the same.
    let metric = "/apis/external.metrics.k8s.io/v1beta1/namespaces/web/s0-prometheus\
                  ?labelSelector=scaledobject.keda.sh%2Fname%3Dshop";
    ensure!(holder(world).await? == leader, "the lease of a leader that was killed was given back");
    let answer = world.raw(metric).await.context("while nobody leads")?;
    ensure!(answer["items"][0]["metricName"] == "s0-prometheus", "{answer}");
    world.wait_for_replicas("web", NAME, 1).await?;
    wait_for_leader(world, |holder| holder != leader).await?;
    let took_over = Timestamp::now();
    world.raw(metric).await.context("from the new leader")?;
    ensure!(world.replicas("web", NAME).await? == 1, "zero came before the cooldown was over");
    ensure!(last_active(world, NAME).await? == active, "the successor has counted an activity that was none");

    world.wait_for_replicas("web", NAME, 0).await?;
    let zero = Timestamp::now();
    let waited = zero.duration_since(active).as_secs();
    ensure!(waited >= COOLDOWN - 1, "the cooldown was lost: zero came {waited} s after the last activity");
    // Started anew, it would have ended a whole cooldown after the takeover; that is some twenty seconds later.
    let since = zero.duration_since(took_over).as_secs();
    ensure!(since <= COOLDOWN - 5, "the cooldown began anew: zero came {since} s after the takeover");
    ensure!(last_active(world, NAME).await? == active, "the successor has counted an activity that was none");
    world.traffic(NAME, 25.0);
    world.wait_for_replicas("web", NAME, 3).await?;
    follower.check()?;
    world.metrics.as_mut().context("metrics")?.program.start().await
}

async fn holder(world: &World) -> Result<String> {
    let lease = world.get(LEASE, Some(NAMESPACE), "pod-autoscaler").await?.unwrap_or_default();
    Ok(text(&lease["spec"]["holderIdentity"]).to_owned())
}

async fn wait_for_leader(world: &World, is: impl Fn(&str) -> bool) -> Result<String> {
    eventually("somebody to lead", SOON, || async {
        let holder = holder(world).await?;
        let leads = !holder.is_empty() && is(&holder);
        Ok(if leads { Seen::Done(holder) } else { Seen::NotYet(holder) })
    })
    .await
}

async fn last_active(world: &World, name: &str) -> Result<Timestamp> {
    let object = world.get(SCALED_OBJECT, Some("web"), name).await?.context("the ScaledObject")?;
    text(&object["status"]["lastActiveTime"]).parse().with_context(|| object["status"].to_string())
}
