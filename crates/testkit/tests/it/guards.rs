//! What is not done: no machine beside one whose pods may not go, none a hundred times too dear, none paid for by mistake.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::bed::ALIVE_LABEL;
use testkit::eventually::{always, eventually, when};

use crate::world::*;

const BUDGET: Kind = Kind("policy", "v1", "PodDisruptionBudget");

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_for_machines_that_help_nobody() -> Result<()> {
    let mut world = World::start().await?.with_machines().await?;
    let result = story(&mut world).await;
    world.end(result)
}

async fn story(world: &mut World) -> Result<()> {
    world.bed.namespace("web").await?;
    let (kept, left, full) =
        tokio::join!(a_budget(world), a_node_of_karpenter_0_16(world), a_node_full_of_volumes(world));
    kept.and(left).and(full)?;
    // Last: what is refused is left alone for three minutes.
    no_capacity(world).await
}

/// A budget that the only pod must be there for: its old node stays, and no second one is rented for it, until the budget is gone.
async fn a_budget(world: &World) -> Result<()> {
    const NAME: &str = "kept";
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": NAME, "namespace": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": NAME}}},
    });
    world.apply(&budget).await?;
    world.apply(&provisioner(NAME, &json!({"ttlSecondsUntilExpired": 30}))).await?;
    world.apply(&deployment("web", NAME, 1, "500m", &json!({"team": NAME}))).await?;
    let pods = world.wait_for_pods("web", NAME, 1).await?;
    let node = text(&pods[0]["spec"]["nodeName"]).to_owned();
    world
        .told(NODE, &node, &["DisruptionBlocked", "the disruption budget web/kept", "lets none of its pods go"])
        .await?;
    let mine = |claims: &[Value]| claims.iter().filter(|c| c["metadata"]["labels"]["team"] == NAME).count();
    always("nothing is rented beside a node that cannot go", Duration::from_secs(15), || async {
        let (claims, found) = (world.list(NODE_CLAIM, None).await?, world.get(NODE, None, &node).await?);
        let closed = found.map(|found| found["spec"]["unschedulable"].clone());
        Ok(when(mine(&claims) == 1 && closed == Some(Value::Null), (mine(&claims), closed)).found(Some(())))
    })
    .await?;
    world.delete(BUDGET, Some("web"), NAME).await?;
    eventually("the old node to be replaced", LATER, || async {
        let found = world.get(NODE, None, &node).await?;
        Ok(when(found.is_none(), found.map(|found| found["metadata"]["annotations"].clone())))
    })
    .await?;
    world.patch(PROVISIONER, None, NAME, &json!({"spec": {"ttlSecondsUntilExpired": null}})).await?;
    world.wait_for_pods("web", NAME, 1).await.map(drop)
}

/// It has no NodeClaim, and nobody else looks after it any more. When it is empty it goes.
async fn a_node_of_karpenter_0_16(world: &World) -> Result<()> {
    const NAME: &str = "ip-10-0-0-9.ec2.internal";
    world.apply(&provisioner("left", &json!({"ttlSecondsAfterEmpty": 5}))).await?;
    let labels = json!({
        "karpenter.sh/provisioner-name": "left", "karpenter.sh/initialized": "true", "karpenter.sh/capacity-type": "on-demand",
        "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": NAME, ALIVE_LABEL: "true",
        "node.kubernetes.io/instance-type": "m5.large", "topology.kubernetes.io/zone": "us-east-1a",
    });
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NAME, "labels": labels, "finalizers": ["karpenter.sh/termination"]},
        "spec": {"providerID": "aws:///us-east-1a/i-0123456789abcdef0"},
    });
    world.apply(&node).await?;
    let size = json!({"cpu": "2", "memory": "8Gi", "pods": "29"});
    world.patch_status(NODE, None, NAME, &json!({"status": {"capacity": size, "allocatable": size}})).await?;
    world.told(NODE, NAME, &["DisruptionTerminating", "Empty"]).await?;
    eventually("the empty node to be gone", SOON, || async {
        let found = world.get(NODE, None, NAME).await?;
        Ok(when(found.is_none(), found.map(|found| (found["metadata"].clone(), found["spec"].clone()))))
    })
    .await
    .map(drop)
}

/// There is room on the node but for the volume: a second one is rented, and nobody waits for the first.
async fn a_node_full_of_volumes(world: &World) -> Result<()> {
    const DRIVER: &str = "disk.example.com";
    let with_volume = |name: &str| {
        let mut target = deployment("web", name, 1, "200m", &json!({"team": "volumes"}));
        let template = &mut target["spec"]["template"]["spec"];
        template["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": name}}]);
        template["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        target
    };
    let requirements = json!([
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["m5.xlarge"]},
    ]);
    world.apply(&provisioner("volumes", &json!({"requirements": requirements}))).await?;
    for name in ["first", "second"] {
        let size = json!({"storage": "1Gi"});
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": size, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": DRIVER, "volumeHandle": name},
            },
        });
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "web"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": size},
            },
        });
        world.apply(&volume).await?;
        world.apply(&claim).await?;
    }
    world.apply(&with_volume("first")).await?;
    let full = text(&world.wait_for_pods("web", "first", 1).await?[0]["spec"]["nodeName"]).to_owned();
    // As kubelets say it.
    let attaches_one = |node: &str| {
        let drivers = json!([{"name": DRIVER, "nodeID": node, "topologyKeys": null, "allocatable": {"count": 1}}]);
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": node}, "spec": {"drivers": drivers},
        })
    };
    world.apply(&attaches_one(&full)).await?;
    world.apply(&with_volume("second")).await?;
    let second = eventually("a second node for the second volume", LATER, || async {
        let nodes = world.list(NODE, None).await?;
        let of_pool = |node: &&Value| node["metadata"]["labels"]["karpenter.sh/provisioner-name"] == "volumes";
        let other = nodes.iter().filter(of_pool).map(name).find(|name| *name != full);
        Ok(when(other.is_some(), nodes.len()).found(other))
    })
    .await?;
    world.apply(&attaches_one(&second)).await?;
    let other = text(&world.wait_for_pods("web", "second", 1).await?[0]["spec"]["nodeName"]).to_owned();
    ensure!(other != full, "the scheduler has put both on {full}");
    let (first, second) =
        tokio::join!(world.delete(DEPLOYMENT, Some("web"), "first"), world.delete(DEPLOYMENT, Some("web"), "second"));
    first.and(second)
}

/// A quota is told as one; and who finds all cheap machines taken waits for them before paying for the dear ones.
async fn no_capacity(world: &mut World) -> Result<()> {
    let control = world.machines().aws.control().clone();
    let before = world.launched().await?.len();
    control.fail("CreateFleet", "VcpuLimitExceeded", 400, 1).await?;
    control.exhaust(&[("*", "*", "*")]).await?;
    world.apply(&provisioner("poor", &json!({}))).await?;
    // For a large pod few machines cost less than three times the cheapest one.
    world.apply(&deployment("web", "poor", 1, "80", &json!({"team": "poor"}))).await?;
    world.told(PROVISIONER, "poor", &["Warning", "FailedLaunch", "VcpuLimitExceeded"]).await?;
    world.told(POD, "poor*", &["FailedScheduling", "were refused a short while ago", "it waits for them"]).await?;
    control.exhaust(&[]).await?;
    // Capacity is back, and three minutes are not over: the dear machine is not bought.
    always("no dear machine is bought", Duration::from_secs(15), || async {
        let (launched, claims) = (world.launched().await?.len(), world.list(NODE_CLAIM, None).await?);
        let asked = claims.iter().filter(|claim| claim["metadata"]["labels"]["team"] == "poor").count();
        Ok(when(launched == before && asked == 0, (launched, asked)).found(Some(())))
    })
    .await?;
    let pool = world.get(PROVISIONER, None, "poor").await?.context("the Provisioner")?;
    ensure!(pool["status"]["resources"]["cpu"].as_str().is_none_or(|cpu| cpu == "0"), "{}", pool["status"]);
    world.delete(DEPLOYMENT, Some("web"), "poor").await
}
