//! Mistakes in manifests: each is told where its author looks, by the name of the field, and harms nobody else.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use testkit::eventually::{always, when};

use crate::world::*;

/// How the mistakes' Deployments are made, and how they have to stay.
const REPLICAS: u32 = 2;

/// The field at fault when it is not the trigger.
const TARGET: &str = "spec.scaleTargetRef";

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
            &["TriggerError", "query: the source gives no usable number", "NaN"],
        ),
        mistake("word", json!({"threshold": "ten"}), &["ScaledObjectCheckFailed", "threshold", "ten"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_scaled_objects_are_told_and_scale_nothing() -> Result<()> {
    let world = World::start().await?.with_metrics_but_no_admission().await?;
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
    let mut steady = vec!["twin", "foreign", "silent", "moved", "rejected"];
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
    // An answer with nothing in it counts as none, as in KEDA, unless the trigger says otherwise: it is told all the same.
    let mut silent = eager("silent", &prometheus, "nobody_counts_this", &json!({}));
    silent["spec"]["minReplicaCount"] = json!(REPLICAS);
    world.apply(&silent).await?;
    // One that is well, and then gets another unit together with something that no HPA takes.
    let rejected = |metadata| eager("rejected", &prometheus, "vector(20)", &metadata);
    world.apply(&rejected(json!({}))).await?;
    world.condition((SCALED_OBJECT, Some("web"), "rejected"), "Ready", "True", &[]).await?;
    let mut rejected = rejected(json!({"query": "vector(2)", "threshold": "1"}));
    rejected["spec"]["advanced"] =
        json!({"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 99999}}}});
    world.apply(&rejected).await?;
    // One that is well, and is then pointed to a workload that does not exist, with a query that wants less.
    world.apply(&eager("moved", &prometheus, "vector(20)", &json!({}))).await?;
    world.condition((SCALED_OBJECT, Some("web"), "moved"), "Ready", "True", &[]).await?;
    let mut moved = eager("moved", &prometheus, "vector(1)", &json!({}));
    moved["spec"]["scaleTargetRef"]["name"] = json!("nowhere");
    world.apply(&moved).await?;
    // And one that is as it should be.
    world.traffic("healthy", 25.0);
    world.apply(&deployment("web", "healthy", 1, "1", &json!({}))).await?;
    world.apply(&scaled_object("healthy", &prometheus, &rate_of("healthy"), &json!({}))).await?;

    let mut looks = Looks::default();
    looks.refusals(world, &refused_scaled_objects(&prometheus));
    for mistake in &mistakes {
        looks.add(not_ready(world, mistake.name, mistake.says));
    }
    let twice = &["ScaledObjectCheckFailed", TARGET, "'twin'", "already managed by the ScaledObject 'twin'"];
    looks.add(not_ready(world, "twin-b", twice));
    looks.add(not_ready(world, "missing", &["ScaledObjectCheckFailed", TARGET, "missing", "doesn't exist"]));
    looks.add(not_ready(world, "rejected", &["ScaledObjectCheckFailed", "horizontalPodAutoscalerConfig.behavior"]));
    looks.add(not_ready(world, "moved", &["ScaledObjectCheckFailed", TARGET, "nowhere", "doesn't exist"]));
    looks.add(not_ready(
        world,
        "foreign",
        &["ScaledObjectCheckFailed", TARGET, "already managed by the hpa 'by-hand'"],
    ));
    looks.add(async move {
        let words = &["Warning", "spec.triggers[0].metadata", "no series at all", "ignoreNullValues"];
        world.told(SCALED_OBJECT, "silent", words).await.map(drop)
    });
    for name in ["twin", "healthy"] {
        looks.add(
            async move { world.condition((SCALED_OBJECT, Some("web"), name), "Ready", "True", &[]).await.map(drop) },
        );
    }
    looks.add(world.wait_for_replicas("web", "healthy", 3));
    let told = looks.all().await;
    let unscaled = always("nothing else is scaled", Duration::from_secs(5), || async {
        let mut seen = Vec::new();
        for name in &steady {
            seen.push((*name, world.replicas("web", name).await?));
        }
        let steady = seen.iter().all(|(_, replicas)| *replicas == u64::from(REPLICAS));
        Ok(when(steady, seen).found(Some(())))
    });
    together(&told.into_iter().chain(unscaled.await.err()).collect::<Vec<_>>())
}

/// What is looked at side by side. A mistake that is not told must not hide another one.
#[derive(Default)]
struct Looks<'a>(Vec<BoxFuture<'a, Result<()>>>);

impl<'a> Looks<'a> {
    fn add(&mut self, look: impl Future<Output = Result<()>> + Send + 'a) {
        self.0.push(look.boxed());
    }

    /// Objects that the API server itself does not take, each with what it has to say.
    fn refusals(&mut self, world: &'a World, objects: &[(Value, &'static str)]) {
        for (object, says) in objects {
            let (object, says) = (object.clone(), *says);
            self.add(async move {
                let said = world.refusal(&object).await.with_context(|| format!("taken, but not {says}"))?;
                ensure!(said.contains(says), "{says} is not in: {said}");
                Ok(())
            });
        }
    }

    async fn all(self) -> Vec<anyhow::Error> {
        join_all(self.0).await.into_iter().filter_map(Result::err).collect()
    }
}

fn together(errors: &[anyhow::Error]) -> Result<()> {
    let said: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    ensure!(said.is_empty(), "{} of what was looked at is not so:\n{}", said.len(), said.join("\n"));
    Ok(())
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
fn refused_scaled_objects(prometheus: &str) -> [(Value, &'static str); 3] {
    let refused = |name: &str, more: &Value| scaled_object(name, prometheus, "vector(1)", more);
    [
        (refused("negative", &json!({"minReplicaCount": -1})), "spec.minReplicaCount"),
        (
            refused("crossed", &json!({"minReplicaCount": 5, "maxReplicaCount": 3})),
            "minReplicaCount must be less than or equal to maxReplicaCount",
        ),
        (refused("idle", &json!({"triggers": []})), "spec.triggers"),
    ]
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
        ("no-resource", json!({"limits": {"resources": {"cpus": "5"}}}), "spec.limits.resources.cpus"),
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
    // One that is tried first and never gets a machine, beside one that takes the same pods.
    let heavy = inline(json!({"instanceProfile": "nobody"}));
    for (name, spec) in [("heavy", heavy), ("light", json!({}))] {
        let mut object = provisioner(name, &spec);
        object["spec"]["labels"] = json!({"team": "both"});
        object["spec"]["weight"] = json!(if name == "heavy" { 50 } else { 1 });
        world.apply(&object).await?;
    }
    world.apply(&deployment("web", "both", 1, "1", &json!({"team": "both"}))).await?;

    let mut looks = Looks::default();
    looks.refusals(world, &refused_provisioners());
    for (name, _, field) in &invalid {
        looks.add(async move {
            world.condition((PROVISIONER, None, name), "Active", "False", &["Invalid", field]).await?;
            world.told(PROVISIONER, name, &["Warning", "Invalid", field]).await?;
            world.told(POD, &format!("{name}-*"), &["FailedScheduling", name, field]).await.map(drop)
        });
    }
    for (name, _, field) in &misconfigured {
        looks.add(async move { world.told(PROVISIONER, name, &["Warning", field]).await.map(drop) });
    }
    looks.add(async {
        world.told(POD, "no-subnet-*", &["FailedScheduling", "no-subnet", "subnetSelector"]).await.map(drop)
    });
    for name in ["healthy", "both"] {
        looks.add(async move { world.wait_for_pods("web", name, 1).await.map(drop) });
    }
    looks.add(async {
        let says = &["Misconfigured", "instanceProfile"];
        world.condition((PROVISIONER, None, "heavy"), "Active", "False", says).await.map(drop)
    });
    let told = looks.all().await;
    let alone = always("only the healthy Provisioners have machines", Duration::from_secs(5), || async {
        let mut owners = Vec::new();
        for (_, instance) in world.launched().await? {
            owners.push(instance.tags.get("karpenter.sh/provisioner-name").cloned().unwrap_or_default());
        }
        owners.sort();
        let nodes = world.list(NODE, None).await?.len();
        Ok(when(owners == ["healthy", "light"] && nodes == 2, (owners, nodes)).found(Some(())))
    });
    together(&told.into_iter().chain(alone.await.err()).collect::<Vec<_>>())
}

fn refused_provisioners() -> [(Value, &'static str); 2] {
    [
        (provisioner("typo", &json!({"ttlSecondsAfterEmty": 30})), "ttlSecondsAfterEmty"),
        (provisioner("word", &json!({"ttlSecondsAfterEmpty": "ten"})), "ttlSecondsAfterEmpty"),
    ]
}
