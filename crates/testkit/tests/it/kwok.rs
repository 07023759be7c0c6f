//! Machines without a cloud: a NodePool and a Provisioner on KWOK, with a catalogue from a file.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use testkit::bed::ALIVE_LABEL;
use testkit::eventually::{eventually, when};
use testkit::programs::{Program, Provisioner};

use crate::world::*;

const CLASS: (&str, &str) = ("karpenter.kwok.sh/v1alpha1", "KWOKNodeClass");
const POOL: &str = "kwok";

#[tokio::test(flavor = "multi_thread")]
async fn node_pools_and_provisioners_are_provisioned_for_on_kwok() -> Result<()> {
    let world = World::start().await?;
    let folder = world.bed.folder().to_owned();
    std::fs::write(folder.join("types.json"), catalogue().to_string())?;
    let mut options = Provisioner::of(CLUSTER);
    options.arguments.push(format!("--kwok-catalogue={}", folder.join("types.json").display()));
    options.arguments.extend(["--garbage-interval=5s", "--kwok-boot-delay=1s"].map(str::to_owned));
    let mut program = world.bed.spawn_node_provisioner_on_kwok(&options).await?;
    let result = story(&world, &mut program).await;
    let said = program.last_lines(60);
    world.end(result.map_err(|error| anyhow::anyhow!("{error:#}\n--- node-provisioner\n{said}")))
}

async fn story(world: &World, program: &mut Program) -> Result<()> {
    world.bed.namespace("web").await?;
    let class = json!({"apiVersion": CLASS.0, "kind": CLASS.1, "metadata": {"name": "default"},
        "spec": {"nodeRegistrationDelay": "2s"}});
    world.apply(&class).await?;
    // As short as Karpenter takes it.
    world.apply(&json!({"apiVersion": CLASS.0, "kind": CLASS.1, "metadata": {"name": "short"}})).await?;
    a_node_pool_gets_nodes(world).await?;
    its_nodes_go_with_their_claims(world).await?;
    a_provisioner_gets_nodes_and_gives_them_back(world).await?;
    program.check()
}

/// Three pods of which two fit on one machine.
async fn a_node_pool_gets_nodes(world: &World) -> Result<()> {
    world.apply(&node_pool()).await?;
    world.condition((NODE_POOL, None, POOL), "Ready", "True", &[]).await?;
    world.told(NODE_POOL, POOL, &["NotSupportedYet", "spec.disruption.consolidateAfter"]).await?;
    world.apply(&deployment("web", "pooled", 3, "1500m", &json!({"team": POOL}))).await?;
    let pods = world.wait_for_pods("web", "pooled", 3).await?;

    let nodes = world.list(NODE, None).await?;
    ensure!(nodes.len() == 2, "{} nodes", nodes.len());
    for node in &nodes {
        let label = |key: &str| text(&node["metadata"]["labels"][key]).to_owned();
        let found = ["karpenter.sh/nodepool", "karpenter.kwok.sh/kwoknodeclass", "team"].map(label);
        ensure!(found == [POOL, "default", POOL], "{found:?}");
        let described =
            ["cpu", "memory", "family", "size"].map(|what| label(&format!("karpenter.kwok.sh/instance-{what}")));
        ensure!(described == ["4", "8Gi", "c6a", "xlarge"], "{described:?}");
        ensure!(label("node.kubernetes.io/instance-type") == "c6a.xlarge", "the dearer type was taken");
        ensure!(node["spec"]["taints"].is_null(), "startup taints stay: {}", node["spec"]["taints"]);
    }
    let names: Vec<String> = nodes.iter().map(name).collect();
    ensure!(pods.iter().all(|pod| names.iter().any(|name| pod["spec"]["nodeName"] == name.as_str())), "pods elsewhere");
    for claim in world.list(NODE_CLAIM, None).await? {
        ensure!(claim["spec"]["expireAfter"] == "12h", "{}", claim["spec"]);
        ensure!(claim["metadata"]["labels"]["karpenter.sh/nodepool"] == POOL, "{}", claim["metadata"]);
    }
    eventually("the NodePool to count its nodes", SOON, || async {
        let pool = world.get(NODE_POOL, None, POOL).await?.unwrap_or_default();
        let done = pool["status"]["nodes"] == 2 && pool["status"]["resources"]["cpu"] == "8";
        Ok(when(done, pool["status"].clone()))
    })
    .await
    .map(drop)
}

/// A limit is kept, and who deletes a claim ends its machine.
async fn its_nodes_go_with_their_claims(world: &World) -> Result<()> {
    world.apply(&deployment("web", "pooled", 9, "1500m", &json!({"team": POOL}))).await?;
    // Twelve cores are three machines, for six of the pods.
    world.told(POD, "pooled*", &["FailedScheduling", "limit"]).await?;
    let claims = world.list(NODE_CLAIM, None).await?;
    ensure!(claims.len() <= 3, "{} machines of four cores in a limit of twelve", claims.len());
    world.delete(DEPLOYMENT, Some("web"), "pooled").await?;
    world.wait_for_pods("web", "pooled", 0).await?;
    for claim in &claims {
        world.delete(NODE_CLAIM, None, &name(claim)).await?;
    }
    nothing_left(world).await
}

async fn a_provisioner_gets_nodes_and_gives_them_back(world: &World) -> Result<()> {
    world.apply(&provisioner_on_kwok()).await?;
    world.apply(&deployment("web", "old", 1, "1500m", &json!({"team": "old"}))).await?;
    world.wait_for_pods("web", "old", 1).await?;
    let nodes = world.list(NODE, None).await?;
    ensure!(nodes.len() == 1 && nodes[0]["metadata"]["labels"]["karpenter.sh/provisioner-name"] == "old", "{nodes:?}");
    world.delete(DEPLOYMENT, Some("web"), "old").await?;
    nothing_left(world).await
}

async fn nothing_left(world: &World) -> Result<()> {
    eventually("all claims and nodes to be gone", LATER, || async {
        let claims: Vec<String> = world.list(NODE_CLAIM, None).await?.iter().map(name).collect();
        let nodes: Vec<String> = world.list(NODE, None).await?.iter().map(name).collect();
        Ok(when(claims.is_empty() && nodes.is_empty(), (claims, nodes)))
    })
    .await
    .map(drop)
}

/// Two types of four cores; the second is dearer.
fn catalogue() -> Value {
    let offering = |kind: &str, price: f64| {
        json!({"Price": price, "Available": true, "Requirements": [
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [kind]},
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-a"]},
        ]})
    };
    let entry = |name: &str, memory: &str, price: f64| {
        json!({
            "name": name, "architecture": "amd64", "operatingSystems": ["linux"],
            "resources": {"cpu": "4", "memory": memory, "pods": "58", "ephemeral-storage": "20Gi"},
            "offerings": [offering("spot", price * 0.4), offering("on-demand", price)],
        })
    };
    json!([entry("c6a.xlarge", "8Gi", 0.153), entry("m6a.xlarge", "16Gi", 0.1728)])
}

fn node_pool() -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": POOL},
        "spec": {
            "limits": {"cpu": "12"},
            "template": {
                "metadata": {"labels": {"team": POOL, ALIVE_LABEL: "true"}},
                "spec": {
                    "requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                        {"key": "karpenter.kwok.sh/instance-cpu", "operator": "In", "values": ["4"]},
                    ],
                    "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": CLASS.1, "name": "default"},
                    "expireAfter": "12h",
                },
            },
        },
    })
}

fn provisioner_on_kwok() -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner", "metadata": {"name": "old"},
        "spec": {
            "labels": {"team": "old", ALIVE_LABEL: "true"},
            "providerRef": {"apiVersion": CLASS.0, "kind": CLASS.1, "name": "short"},
            "ttlSecondsAfterEmpty": 5,
        },
    })
}
