//! The cluster of the demo, started and wired, and a way to look at all of it at once.
//!
//! ```text
//! Mesh ─▶ Prometheus ─▶ pod-autoscaler ─▶ HPA ─▶ Deployment ─▶ pending pods ─▶ node-provisioner ─▶ AwsDouble
//!                                                                    nodes ◀─ Joiner ◀───────────────┘
//! ```

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use testkit::apply::{apply, apply_crds, documents, dynamic};
use testkit::aws::{AwsDouble, Instance};
use testkit::bed::{ALIVE_LABEL, Bed, Options, http_get};
use testkit::binaries::workspace;
use testkit::joiner::{Boot, Joiner};
use testkit::mesh::{Mesh, Traffic};
use testkit::programs::{Program, Provisioner};
use testkit::prometheus::Prometheus;

/// The cluster that the example manifests name.
pub(super) const CLUSTER: &str = "tandem-demo";
/// The namespace and name of the example's workload.
pub(super) const NAMESPACE: &str = "web";
pub(super) const WORKLOAD: &str = "nginx";

/// How fast things go.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// From launch to `running`.
    pub(super) pending: Duration,
    /// From `running` to the kubelet's first word.
    pub(super) boot: Duration,
    pub(super) bed: Options,
}

impl Default for Pace {
    fn default() -> Self {
        Self { pending: Duration::from_secs(2), boot: Duration::from_secs(3), bed: Options::default() }
    }
}

/// A cluster with one small node of its own, an AWS account, a mesh, Prometheus, and both of our programs.
#[derive(Debug)]
pub(super) struct World {
    // Fields drop in this order: ours first, the control plane last.
    pub(super) autoscaler: Program,
    pub(super) provisioner: Program,
    pub(super) joiner: Joiner,
    pub(super) prometheus: Prometheus,
    pub(super) mesh: Mesh,
    pub(super) aws: AwsDouble,
    pub(super) bed: Bed,
}

impl World {
    pub(super) async fn start(pace: Pace) -> Result<Self> {
        let bed = Bed::start(pace.bed).await?;
        let mesh = Mesh::start().await?;
        let targets = [mesh.address()];
        let (aws, prometheus, ()) = tokio::try_join!(
            AwsDouble::start(bed.folder()),
            Prometheus::start(bed.folder(), &targets),
            apply_crds_of(&bed)
        )?;
        aws.control().seed(CLUSTER).await?;
        aws.control().timing(pace.pending, Duration::from_secs(1)).await?;
        let boot =
            Boot { cluster: CLUSTER.to_owned(), delay: pace.boot, startup_taints_for: Some(Duration::from_secs(2)) };
        let joiner = Joiner::start(&bed, aws.control().clone(), boot);
        apply(&bed.client(), &own_node("own-node", 2)).await?;
        let autoscaler = bed.spawn_pod_autoscaler(&[]).await?;
        let provisioner = bed.spawn_node_provisioner(&aws, &Provisioner::of(CLUSTER)).await?;
        mesh.set_rate(&Traffic::to(NAMESPACE, WORKLOAD), 0.0);
        Ok(Self { autoscaler, provisioner, joiner, prometheus, mesh, aws, bed })
    }

    /// The documents of `examples/walkthrough/FILE`, asking this world's Prometheus.
    fn example(&self, file: &str) -> Result<Vec<Value>> {
        let path = workspace().join("examples/walkthrough").join(file);
        let mut found = documents(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?)?;
        for trigger in found.iter_mut().filter_map(|object| object.pointer_mut("/spec/triggers/0/metadata")) {
            if let Some(address) = trigger.get_mut("serverAddress") {
                *address = json!(self.prometheus.url());
            }
        }
        Ok(found)
    }

    pub(super) async fn apply_example(&self, file: &str) -> Result<()> {
        for object in self.example(file)? {
            apply(&self.bed.client(), &object).await.with_context(|| file.to_owned())?;
        }
        Ok(())
    }

    /// Marks the pods that run now as the last ones a ReplicaSet lets go, so that it is machines that become empty.
    pub(super) async fn keep_running_pods_longest(&self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.bed.client(), NAMESPACE);
        let cost = json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "1000"}}});
        for pod in pods.list(&ListParams::default()).await?.items {
            pods.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&cost)).await?;
        }
        Ok(())
    }

    /// So many requests per second for the workload.
    pub(super) fn load(&self, per_second: f64) {
        self.mesh.set_rate(&Traffic::to(NAMESPACE, WORKLOAD), per_second);
    }

    pub(super) async fn look(&self) -> Result<Scene> {
        let client = self.bed.client();
        let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), NAMESPACE);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
        let nodes: Api<Node> = Api::all(client.clone());
        let claims = dynamic(&client, "karpenter.sh/v1", "NodeClaim", None).await?;
        let all = ListParams::default();
        let hpa = hpas.get_opt(&format!("keda-hpa-{WORKLOAD}")).await?;
        let deployment = deployments.get_opt(WORKLOAD).await?;
        Ok(Scene {
            metric: self.metric().await.ok().flatten(),
            hpa,
            wanted: deployment
                .as_ref()
                .and_then(|d| d.spec.as_ref())
                .and_then(|spec| spec.replicas)
                .unwrap_or_default(),
            pods: pods.list(&all).await?.items,
            claims: claims.list(&all).await?.items,
            nodes: nodes.list(&all).await?.items,
            instances: self.aws.control().alive().await?,
        })
    }

    /// What the API server answers when somebody asks for the workload's first external metric.
    pub(super) async fn metric(&self) -> Result<Option<String>> {
        let path = format!(
            "/apis/external.metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/s0-prometheus\
             ?labelSelector=scaledobject.keda.sh%2Fname%3D{WORKLOAD}"
        );
        let text = self.bed.client().request_text(http_get(&path)?).await?;
        let list: Value = serde_json::from_str(&text)?;
        Ok(list.pointer("/items/0/value").and_then(Value::as_str).map(str::to_owned))
    }

    /// Adds what the programs said last, and why instances did not join, to an error.
    pub(super) fn explain<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.with_context(|| {
            format!(
                "--- pod-autoscaler\n{}\n--- node-provisioner\n{}\n--- not joined: {:?}",
                self.autoscaler.last_lines(40),
                self.provisioner.last_lines(60),
                self.joiner.refused()
            )
        })
    }
}

async fn apply_crds_of(bed: &Bed) -> Result<()> {
    apply_crds(&bed.client(), &workspace().join("crds")).await
}

/// A node that nobody provisioned, as every cluster has some.
pub(super) fn own_node(name: &str, cpus: u32) -> Value {
    let resources = json!({"cpu": cpus.to_string(), "memory": format!("{}Gi", cpus * 2), "pods": "20"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            ALIVE_LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/zone": "us-east-1a", "topology.kubernetes.io/region": "us-east-1",
        }},
        "status": {"capacity": resources, "allocatable": resources},
    })
}

/// Everything at one moment.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// The external metric as the API server answers it.
    pub(super) metric: Option<String>,
    pub(super) hpa: Option<HorizontalPodAutoscaler>,
    /// The Deployment's `spec.replicas`.
    pub(super) wanted: i32,
    pub(super) pods: Vec<Pod>,
    pub(super) claims: Vec<DynamicObject>,
    pub(super) nodes: Vec<Node>,
    /// Those that cost money.
    pub(super) instances: Vec<Instance>,
}

impl Scene {
    pub(super) fn running(&self) -> Vec<&Pod> {
        self.pods.iter().filter(|pod| is_live(pod) && phase(pod) == "Running").collect()
    }

    /// Pods that the scheduler has given up on.
    pub(super) fn unschedulable(&self) -> Vec<&Pod> {
        self.pods.iter().filter(|pod| is_live(pod) && phase(pod) == "Pending" && is_unschedulable(pod)).collect()
    }

    /// Nodes that a machine of ours stands behind.
    pub(super) fn machines(&self) -> Vec<&Node> {
        let ours = |node: &&Node| {
            node.spec
                .as_ref()
                .is_some_and(|spec| spec.provider_id.as_deref().is_some_and(|id| id.starts_with("aws://")))
        };
        self.nodes.iter().filter(ours).collect()
    }

    /// Nothing of ours is left: no claim, no node, no instance.
    pub(super) fn is_clean(&self) -> bool {
        self.claims.is_empty() && self.machines().is_empty() && self.instances.is_empty()
    }
}

pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn is_live(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("Unschedulable"))
}
