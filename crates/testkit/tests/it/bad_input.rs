//! Mistakes in manifests: each is told where its author looks, by the name of the field, and harms nobody else.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::eventually::{always, when};

use crate::world::*;

/// How the mistakes' Deployments are made, and how they have to stay.
const REPLICAS: u32 = 2;

/// A wrong trigger, and what its object's Ready condition has to say.
struct Mistake {
    name: &'static str,
    metadata: Value,
    says: &'static [&'static str],
}

fn mistakes() -> Vec<Mistake> {
    let mistake = |name, metadata, says| Mistake { name, metadata, says };
    vec![
        mistake("promql", json!({"query": "sum(rate("}), &["TriggerError", "s0-prometheus", "query", "parse error"]),
        mistake(
            "unreachable",
            json!({"serverAddress": "http://127.0.0.1:1"}),
            &["TriggerError", "s0-prometheus", "serverAddress 127.0.0.1:1", "refused"],
        ),
        mistake(
            "empty",
            json!({"query": "nobody_counts_this", "ignoreNullValues": "false"}),
            &["TriggerError", "ignoreNullValues"],
        ),
        mistake(
            "nan",
            json!({"query": "vector(0) / vector(0)"}),
            &["TriggerError", "the source gives no usable number", "NaN"],
        ),
        mistake("word", json!({"threshold": "ten"}), &["ScaledObjectCheckFailed", "threshold", "ten"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_scaled_objects_are_told_and_scale_nothing() -> Result<()> {
    let world = World::start().await?.with_metrics().await?;
    let result = scaled_objects(&world).await;
    world.end(result)
}

/// A ScaledObject that would go to zero at once if "unknown" were read as "none".
fn eager(name: &str, prometheus: &str, query: &str, metadata: &Value) -> Value {
    let more = json!({"minReplicaCount": 0, "cooldownPeriod": 1});
    let mut object = scaled_object(name, prometheus, query, &more);
    for (key, value) in metadata.as_object().into_iter().flatten() {
        object["spec"]["triggers"][0]["metadata"][key] = value.clone();
    }
    object
}

async fn scaled_objects(world: &World) -> Result<()> {
    world.bed.namespace("web").await?;
    let prometheus = world.prometheus().to_owned();
    let mut steady = vec!["twin", "foreign"];
    let mistakes = mistakes();
    steady.extend(mistakes.iter().map(|mistake| mistake.name));
    for name in &steady {
        world.apply(&deployment("web", name, REPLICAS, "1", &json!({}))).await?;
    }
    for mistake in &mistakes {
        world.apply(&eager(mistake.name, &prometheus, "vector(30)", &mistake.metadata)).await?;
    }
    // Two masters, no target, and a target that somebody else scales.
    world.apply(&eager("twin", &prometheus, "vector(20)", &json!({}))).await?;
    let mut second = eager("twin-b", &prometheus, "vector(90)", &json!({}));
    second["spec"]["scaleTargetRef"]["name"] = json!("twin");
    world.apply(&second).await?;
    world.apply(&eager("missing", &prometheus, "vector(30)", &json!({}))).await?;
    world.apply(&foreign_hpa()).await?;
    world.apply(&eager("foreign", &prometheus, "vector(90)", &json!({}))).await?;
    // And one that is as it should be.
    world.traffic("healthy", 25.0);
    world.apply(&deployment("web", "healthy", 1, "1", &json!({}))).await?;
    world.apply(&scaled_object("healthy", &prometheus, &rate_of("healthy"), &json!({}))).await?;

    refused_scaled_objects(world).await?;
    for mistake in &mistakes {
        not_ready(world, mistake.name, mistake.says).await?;
    }
    not_ready(world, "twin-b", &["ScaledObjectCheckFailed", "'twin'", "already managed by the ScaledObject 'twin'"])
        .await?;
    not_ready(world, "missing", &["ScaledObjectCheckFailed", "missing", "doesn't exist"]).await?;
    not_ready(world, "foreign", &["ScaledObjectCheckFailed", "already managed by the hpa 'by-hand'"]).await?;
    world.condition((SCALED_OBJECT, Some("web"), "twin"), "Ready", "True", &[]).await?;
    world.condition((SCALED_OBJECT, Some("web"), "healthy"), "Ready", "True", &[]).await?;
    world.wait_for_replicas("web", "healthy", 3).await?;
    always("nothing else is scaled", Duration::from_secs(5), || async {
        let mut seen = Vec::new();
        for name in &steady {
            seen.push((*name, world.replicas("web", name).await?));
        }
        let steady = seen.iter().all(|(_, replicas)| *replicas == u64::from(REPLICAS));
        Ok(when(steady, seen).found(Some(())))
    })
    .await
}

/// The condition, and the event for whoever describes the object.
async fn not_ready(world: &World, name: &str, says: &[&str]) -> Result<()> {
    let said = world.condition((SCALED_OBJECT, Some("web"), name), "Ready", "False", says).await?;
    let (_, message) = said.split_once(": ").unwrap_or_default();
    // Events are cut to a length; what counts comes first.
    let beginning: String = message.chars().take(100).collect();
    world.told(SCALED_OBJECT, name, &["Warning", &beginning]).await.map(drop)
}

/// What the API server itself does not take.
async fn refused_scaled_objects(world: &World) -> Result<()> {
    let prometheus = world.prometheus();
    let negative = scaled_object("negative", prometheus, "vector(1)", &json!({"minReplicaCount": -1}));
    let said = world.refusal(&negative).await?;
    ensure!(said.contains("spec.minReplicaCount"), "{said}");
    let crossed =
        scaled_object("crossed", prometheus, "vector(1)", &json!({"minReplicaCount": 5, "maxReplicaCount": 3}));
    let said = world.refusal(&crossed).await?;
    ensure!(said.contains("minReplicaCount must be less than or equal to maxReplicaCount"), "{said}");
    let no_triggers = scaled_object("idle", prometheus, "vector(1)", &json!({"triggers": []}));
    let said = world.refusal(&no_triggers).await?;
    ensure!(said.contains("spec.triggers"), "{said}");
    Ok(())
}

fn foreign_hpa() -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "by-hand", "namespace": "web"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "foreign"},
            "minReplicas": REPLICAS, "maxReplicas": REPLICAS,
            "metrics": [{"type": "Resource", "resource": {
                "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50},
            }}],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_provisioners_are_told_and_rent_nothing() -> Result<()> {
    let world = World::start().await?.with_machines().await?;
    let result = provisioners(&world).await;
    world.end(result)
}

async fn provisioners(world: &World) -> Result<()> {
    world.bed.namespace("web").await?;
    let inline = |changes: Value| {
        let mut provider = provisioner("any", &json!({}))["spec"]["provider"].clone();
        for (key, value) in changes.as_object().into_iter().flatten() {
            provider[key] = value.clone();
        }
        json!({"provider": provider})
    };
    let arch = |value: &str| json!({"key": "kubernetes.io/arch", "operator": "In", "values": [value]});
    let invalid = [
        ("unknown-key", inline(json!({"subnetSelectr": {"a": "*"}})), "spec.provider.subnetSelectr"),
        ("contradiction", json!({"requirements": [arch("amd64"), arch("arm64")]}), "spec.requirements"),
        ("blank", json!({"limits": {"resources": {"memory": "1000 Gi"}}}), "spec.limits.resources.memory"),
    ];
    let misconfigured = [
        ("no-subnet", inline(json!({"subnetSelector": {"nobody": "here"}})), "subnetSelector"),
        ("no-profile", inline(json!({"instanceProfile": "nobody"})), "instanceProfile"),
    ];
    for (name, spec, _) in invalid.iter().chain(&misconfigured) {
        world.apply(&provisioner(name, spec)).await?;
        world.apply(&deployment("web", name, 1, "1", &json!({"team": name}))).await?;
    }
    world.apply(&provisioner("healthy", &json!({}))).await?;
    world.apply(&deployment("web", "healthy", 1, "1", &json!({"team": "healthy"}))).await?;

    refused_provisioners(world).await?;
    for (name, _, field) in &invalid {
        world.condition((PROVISIONER, None, name), "Active", "False", &["Invalid", field]).await?;
        world.told(PROVISIONER, name, &["Warning", "Invalid", field]).await?;
        world.told(POD, &format!("{name}-*"), &["FailedScheduling", name, field]).await?;
    }
    for (name, _, field) in &misconfigured {
        world.told(PROVISIONER, name, &["Warning", field]).await?;
    }
    world.told(POD, "no-subnet-*", &["FailedScheduling", "no-subnet", "subnetSelector"]).await?;
    world.wait_for_pods("web", "healthy", 1).await?;
    always("only the healthy Provisioner has machines", Duration::from_secs(5), || async {
        let mut owners = Vec::new();
        for (_, instance) in world.launched().await? {
            owners.push(instance.tags.get("karpenter.sh/provisioner-name").cloned().unwrap_or_default());
        }
        let nodes = world.list(NODE, None).await?.len();
        Ok(when(owners == ["healthy"] && nodes == 1, (owners, nodes)).found(Some(())))
    })
    .await
}

async fn refused_provisioners(world: &World) -> Result<()> {
    let said = world.refusal(&provisioner("typo", &json!({"ttlSecondsAfterEmty": 30}))).await?;
    ensure!(said.contains("ttlSecondsAfterEmty"), "{said}");
    let said = world.refusal(&provisioner("word", &json!({"ttlSecondsAfterEmpty": "ten"}))).await?;
    ensure!(said.contains("ttlSecondsAfterEmpty"), "{said}");
    Ok(())
}
