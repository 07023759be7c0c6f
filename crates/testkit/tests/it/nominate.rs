//! Pods go to the machines they were planned on, although the scheduler's scoring would have them elsewhere.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::bed::ALIVE_LABEL;
use testkit::programs::{Program, Provisioner};

use crate::world::*;

const CLASS: (&str, &str) = ("karpenter.kwok.sh/v1alpha1", "KWOKNodeClass");
const TEAM: &str = "tight";
/// Of each kind of pod, and so of each kind of machine.
const EACH: usize = 2;

#[tokio::test(flavor = "multi_thread")]
async fn pods_go_where_they_were_planned_and_nothing_more_is_rented() -> Result<()> {
    let world = World::start().await?;
    let folder = world.bed.folder().to_owned();
    std::fs::write(folder.join("types.json"), catalogue().to_string())?;
    let mut options = Provisioner::of(CLUSTER);
    options.batch_idle = "3s".to_owned();
    options.arguments.push(format!("--kwok-catalogue={}", folder.join("types.json").display()));
    let mut program = world.bed.spawn_node_provisioner_on_kwok(&options).await?;
    let result = story(&world, &mut program).await;
    let said = program.last_lines(60);
    world.end(result.map_err(|error| anyhow::anyhow!("{error:#}\n--- node-provisioner\n{said}")))
}

/// Each large pod needs one of the large machines, which come first and which the small pods could take as well.
async fn story(world: &World, program: &mut Program) -> Result<()> {
    world.bed.namespace("web").await?;
    for (size, cores, delay) in [("large", "4", "2s"), ("small", "2", "7s")] {
        let class = json!({"apiVersion": CLASS.0, "kind": CLASS.1, "metadata": {"name": size},
            "spec": {"nodeRegistrationDelay": delay}});
        world.apply(&class).await?;
        world.apply(&node_pool(size, cores)).await?;
    }
    for size in ["large", "small"] {
        world.condition((NODE_POOL, None, size), "Ready", "True", &[]).await?;
    }
    let replicas = u32::try_from(EACH)?;
    // The small ones first: they wait at the head of the scheduler's queue.
    world.apply(&deployment("web", "small", replicas, "1500m", &json!({"team": TEAM}))).await?;
    world.apply(&deployment("web", "large", replicas, "3500m", &json!({"team": TEAM}))).await?;
    let mut pods = world.wait_for_pods("web", "large", EACH).await?;
    pods.extend(world.wait_for_pods("web", "small", EACH).await?);

    let claims = world.list(NODE_CLAIM, None).await?;
    ensure!(claims.len() == 2 * EACH, "{} machines for {} pods, each of which fills one", claims.len(), 2 * EACH);
    // They came within one window.
    let plans = program.log().lines().filter(|line| line.contains("provisioning: planned ")).count();
    ensure!(plans == 1, "{plans} plans for pods that came together");
    for pod in &pods {
        let on = text(&pod["spec"]["nodeName"]);
        let claim = claims.iter().find(|claim| claim["status"]["nodeName"] == on);
        let claim = claim.with_context(|| format!("pod {} runs on {on}, which has no claim", name(pod)))?;
        let planned = text(&claim["metadata"]["annotations"]["tandem.dev/pods"]);
        // On a busy machine two alike may have changed places, which costs nobody anything.
        let alike = format!("web/{}-", text(&pod["metadata"]["labels"]["app"]));
        let here = planned.split(',').any(|one| one.starts_with(&alike));
        ensure!(here, "pod {} runs on {on}, which was planned for {planned}", name(pod));
    }
    for node in world.list(NODE, None).await? {
        ensure!(node["spec"]["taints"].is_null(), "{} is still closed: {}", name(&node), node["spec"]["taints"]);
    }
    program.check()
}

/// Two cores cost less than half of four.
fn catalogue() -> Value {
    let entry = |name: &str, cpu: &str, price: f64| {
        json!({
            "name": name, "architecture": "amd64", "operatingSystems": ["linux"],
            "resources": {"cpu": cpu, "memory": "8Gi", "pods": "58", "ephemeral-storage": "20Gi"},
            "offerings": [{"Price": price, "Available": true, "Requirements": [
                {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-a"]},
            ]}],
        })
    };
    json!([entry("c6a.large", "2", 0.04), entry("c6a.xlarge", "4", 0.1)])
}

/// Machines of one size.
fn node_pool(size: &str, cores: &str) -> Value {
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": {"name": size},
        "spec": {
            "template": {
                "metadata": {"labels": {"team": TEAM, ALIVE_LABEL: "true"}},
                "spec": {
                    "requirements": [
                        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
                        {"key": "karpenter.kwok.sh/instance-cpu", "operator": "In", "values": [cores]},
                    ],
                    "nodeClassRef": {"group": "karpenter.kwok.sh", "kind": CLASS.1, "name": size},
                },
            },
        },
    })
}
