//! What KEDA leaves behind when it stops, taken over: `docs/migrating-from-keda.md`, from the point where nobody looks after it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::eventually::{always, eventually, when};

use crate::world::*;

const JOB: Kind = Kind("batch", "v1", "Job");
const SCALED_JOB: Kind = Kind("keda.sh", "v1alpha1", "ScaledJob");
const AUTHENTICATION: Kind = Kind("keda.sh", "v1alpha1", "TriggerAuthentication");
const METRICS: &str = "v1beta1.external.metrics.k8s.io";
const COOLDOWN: i64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn what_keda_leaves_goes_on_where_it_was() -> Result<()> {
    let mut world = World::start().await?.with_metrics().await?;
    let result = taken_over(&mut world).await;
    world.end(result)
}

async fn taken_over(world: &mut World) -> Result<()> {
    // Rights and webhook of the chart are there; of the program, nothing is to be left.
    world.kill_programs();
    world.bed.namespace("web").await?;
    left_by_keda(world).await?;
    let hpa = world.get(HPA, Some("web"), "keda-hpa-busy").await?.context("the HPA")?;
    let jobs = uids(&world.list(JOB, Some("web")).await?);

    world.start_programs().await?;
    world.condition((API_SERVICE, None, METRICS), "Available", "True", &[]).await?;
    for name in ["busy", "cooling", "resting"] {
        world.condition((SCALED_OBJECT, Some("web"), name), "Ready", "True", &[]).await?;
    }
    eventually("the HPA to bear our version and to know its load", SOON, || async {
        let now = world.get(HPA, Some("web"), "keda-hpa-busy").await?.context("the HPA")?;
        let ours = now["metadata"]["labels"]["app.kubernetes.io/version"] == env!("CARGO_PKG_VERSION");
        let conditions = now["status"]["conditions"].as_array();
        let knows = |c: &Value| c["type"] == "ScalingActive" && c["status"] == "True";
        let done = ours && conditions.is_some_and(|all| all.iter().any(knows));
        Ok(when(done, (now["metadata"].clone(), now["status"].clone())))
    })
    .await?;
    let now = world.get(HPA, Some("web"), "keda-hpa-busy").await?.context("the HPA")?;
    ensure!(now["metadata"]["uid"] == hpa["metadata"]["uid"], "the HPA was made anew");
    ensure!(now["spec"] == hpa["spec"], "the HPA was {}, and is {}", hpa["spec"], now["spec"]);

    always("nothing moves that has no reason to", Duration::from_secs(10), || async {
        let found = [world.replicas("web", "busy").await?, world.replicas("web", "resting").await?];
        let same = uids(&world.list(JOB, Some("web")).await?) == jobs;
        Ok(when(found == [4, 0] && same, (found, same)).found(Some(())))
    })
    .await?;

    world.wait_for_replicas("web", "cooling", 0).await?;
    let object = world.get(SCALED_OBJECT, Some("web"), "cooling").await?.context("the ScaledObject")?;
    let active: Timestamp = text(&object["status"]["lastActiveTime"]).parse()?;
    let waited = Timestamp::now().duration_since(active).as_secs();
    ensure!(waited >= COOLDOWN - 1, "zero came {waited} s after the activity that KEDA had seen");

    world.traffic("busy", 120.0);
    world.traffic("resting", 15.0);
    world.wait_for_replicas("web", "busy", 10).await?;
    world.wait_for_replicas("web", "resting", 2).await?;

    // What KEDA wrote down when it took the target over is what a deletion restores.
    world.delete(SCALED_OBJECT, Some("web"), "busy").await?;
    world.wait_for_replicas("web", "busy", 3).await?;
    world.delete(AUTHENTICATION, Some("web"), "login").await?;
    world.delete(SCALED_JOB, Some("web"), "work").await?;
    eventually("KEDA's finalizers to hold nothing", SOON, || async {
        let left = [
            world.get(SCALED_OBJECT, Some("web"), "busy").await?,
            world.get(AUTHENTICATION, Some("web"), "login").await?,
            world.get(SCALED_JOB, Some("web"), "work").await?,
        ];
        Ok(when(left.iter().all(Option::is_none), left.map(|one| one.map(|one| one["metadata"].clone()))))
    })
    .await
    .map(drop)
}

/// A target with load, one whose cooldown runs, one at zero, work under way, and a door that leads to KEDA's metrics server.
async fn left_by_keda(world: &World) -> Result<()> {
    let restore = json!({"advanced": {"restoreToOriginalReplicaCount": true}});
    world.traffic("busy", 35.0);
    object_of_keda(world, "busy", 4, &restore, 3).await?;
    let to_zero = json!({"minReplicaCount": 0, "cooldownPeriod": COOLDOWN});
    world.traffic("cooling", 0.0);
    object_of_keda(world, "cooling", 1, &to_zero, 1).await?;
    world.traffic("resting", 0.0);
    object_of_keda(world, "resting", 0, &to_zero, 1).await?;
    eventually("the load to be measured", SOON, || async {
        let rate = world.metrics.as_ref().context("metrics")?.prometheus.query(&rate_of("busy")).await?;
        Ok(when(rate.is_some_and(|rate| (30.5..39.5).contains(&rate)), rate))
    })
    .await?;

    let metadata = json!({"name": "login", "namespace": "web", "finalizers": ["finalizer.keda.sh"]});
    world
        .apply(&json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": metadata,
            "spec": {"secretTargetRef": [{"parameter": "password", "name": "login", "key": "password"}]},
        }))
        .await?;
    jobs_of_keda(world).await?;
    let theirs = json!({"spec": {"caBundle": "bm90IG91cnM=", "insecureSkipTLSVerify": false}});
    world.patch(API_SERVICE, None, METRICS, &theirs).await
}

/// A workload and a ScaledObject, with status, finalizer and HPA.
async fn object_of_keda(world: &World, name: &str, replicas: u32, more: &Value, original: u32) -> Result<()> {
    world.apply(&deployment("web", name, replicas, "1", &json!({}))).await?;
    let mut object = scaled_object(name, world.prometheus(), &rate_of(name), more);
    object["metadata"]["labels"] = json!({"scaledobject.keda.sh/name": name});
    object["metadata"]["finalizers"] = json!(["finalizer.keda.sh"]);
    world.apply(&object).await?;
    let active = if replicas == 0 { "False" } else { "True" };
    let status = json!({"status": {
        "scaleTargetKind": "apps/v1.Deployment", "hpaName": format!("keda-hpa-{name}"), "originalReplicaCount": original,
        "scaleTargetGVKR": {"group": "apps", "version": "v1", "kind": "Deployment", "resource": "deployments"},
        "externalMetricNames": ["s0-prometheus"], "triggersTypes": "prometheus", "authenticationsTypes": "",
        "lastActiveTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "ScaledObjectReady",
             "message": "ScaledObject is defined correctly and is ready for scaling"},
            {"type": "Active", "status": active, "reason": "ScalerActive", "message": "as it was"},
            {"type": "Fallback", "status": "False", "reason": "NoFallbackFound",
             "message": "No fallbacks are active on this scaled object"},
            {"type": "Paused", "status": "False"},
        ],
    }});
    world.patch_status(SCALED_OBJECT, Some("web"), name, &status).await?;
    let owner = world.get(SCALED_OBJECT, Some("web"), name).await?.context("the ScaledObject")?;
    let selector = json!({"matchLabels": {"scaledobject.keda.sh/name": name}});
    world
        .apply(&json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {
                "name": format!("keda-hpa-{name}"), "namespace": "web", "labels": labels("scaledobject", name),
                "ownerReferences": owners(&owner),
            },
            "spec": {
                "minReplicas": owner["spec"]["minReplicaCount"].as_u64().map(|least| least.max(1)),
                "maxReplicas": owner["spec"]["maxReplicaCount"],
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "metrics": [{"type": "External", "external": {
                    "metric": {"name": "s0-prometheus", "selector": selector},
                    "target": {"type": "AverageValue", "averageValue": "10"},
                }}],
            },
        }))
        .await
}

/// A ScaledJob with two Jobs for two pieces of work.
async fn jobs_of_keda(world: &World) -> Result<()> {
    let template = json!({"spec": {
        "restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [{"name": "w", "image": "none"}],
    }});
    let trigger = json!({"type": "prometheus", "metadata": {
        "serverAddress": world.prometheus(), "query": "vector(2)", "threshold": "1",
    }});
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
        "metadata": {"name": "work", "namespace": "web", "finalizers": ["finalizer.keda.sh"]},
        "spec": {"pollingInterval": 1, "maxReplicaCount": 5, "jobTargetRef": {"template": template}, "triggers": [trigger]},
    });
    world.apply(&object).await?;
    let owner = world.get(SCALED_JOB, Some("web"), "work").await?.context("the ScaledJob")?;
    for name in ["work-7k2xq", "work-p9d4m"] {
        let metadata = json!({
            "name": name, "namespace": "web", "labels": labels("scaledjob", "work"), "ownerReferences": owners(&owner),
            "annotations": {"scaledjob.keda.sh/generation": owner["metadata"]["generation"].to_string()},
        });
        let spec = json!({"template": template});
        world.apply(&json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})).await?;
    }
    Ok(())
}

/// As KEDA labels what it makes.
fn labels(kind: &str, name: &str) -> Value {
    let own = if kind == "scaledobject" { format!("keda-hpa-{name}") } else { name.to_owned() };
    let mut labels = json!({
        "app.kubernetes.io/managed-by": "keda-operator", "app.kubernetes.io/name": own,
        "app.kubernetes.io/part-of": name, "app.kubernetes.io/version": "2.20.1",
    });
    labels[format!("{kind}.keda.sh/name")] = json!(name);
    labels
}

fn owners(object: &Value) -> Value {
    json!([{
        "apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

fn uids(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|object| text(&object["metadata"]["uid"]).to_owned()).collect()
}
