//! How an instance of the AWS double becomes a node.
//!
//! A loop plays the boot of every new instance: after a delay it reads the instance's user data and, if that leads to
//! this cluster, registers a Node as the kubelet and the cloud's node controller would. It uses only what the instance
//! knows: user data with a wrong cluster, address or authority, or with a label that a kubelet may not give itself, and
//! the node never appears. When the instance is gone, the node falls silent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::aws::{Control, Hardware, Instance};
use crate::bed::{ALIVE_LABEL, Bed};
use crate::userdata::{self, Bootstrap};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a machine does between launch and Ready.
#[derive(Clone, Debug)]
pub struct Boot {
    pub cluster: String,
    /// From `running` to the first sign of the kubelet.
    pub delay: Duration,
    /// Startup taints are somebody else's to remove (a CNI's agent, say); with this, they go so long after the node joined.
    pub startup_taints_for: Option<Duration>,
}

/// The loop. Dropping it stops all boots.
#[derive(Debug)]
pub struct Joiner {
    task: JoinHandle<()>,
    refused: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Joiner {
    pub fn start(bed: &Bed, aws: Control, boot: Boot) -> Self {
        let refused = Arc::new(Mutex::new(BTreeMap::new()));
        let mut state = State {
            nodes: Api::all(bed.client()),
            endpoint: bed.endpoint().to_owned(),
            authority: bed.authority_pem().to_owned(),
            aws,
            boot,
            running_since: BTreeMap::new(),
            joined: BTreeMap::new(),
            refused: Arc::clone(&refused),
        };
        let task = tokio::spawn(async move {
            loop {
                // The API server or the double may be restarting; the next round looks at everything again.
                let _ = state.round().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Self { task, refused }
    }

    /// Instances that could not join, and why.
    pub fn refused(&self) -> BTreeMap<String, String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Joiner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct State {
    nodes: Api<Node>,
    endpoint: String,
    authority: String,
    aws: Control,
    boot: Boot,
    running_since: BTreeMap<String, Instant>,
    /// Node names by instance.
    joined: BTreeMap<String, String>,
    refused: Arc<Mutex<BTreeMap<String, String>>>,
}

impl State {
    async fn round(&mut self) -> Result<()> {
        let instances = self.aws.instances().await?;
        let alive: BTreeSet<&str> = instances.iter().filter(|i| i.is_alive()).map(|i| i.id.as_str()).collect();
        let gone: Vec<String> = self.joined.keys().filter(|id| !alive.contains(id.as_str())).cloned().collect();
        for id in gone {
            if let Some(node) = self.joined.remove(&id) {
                self.silence(&node).await?;
            }
        }
        for instance in instances.iter().filter(|instance| instance.state == "running") {
            let since = *self.running_since.entry(instance.id.clone()).or_insert_with(Instant::now);
            if since.elapsed() < self.boot.delay
                || self.joined.contains_key(&instance.id)
                || self.is_refused(&instance.id)
            {
                continue;
            }
            match self.bootstrap(instance) {
                Ok(bootstrap) => {
                    self.register(instance, &bootstrap).await?;
                    self.joined.insert(instance.id.clone(), instance.private_dns.clone());
                }
                Err(error) => {
                    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    refused.insert(instance.id.clone(), format!("{error:#}"));
                }
            }
        }
        Ok(())
    }

    fn is_refused(&self, id: &str) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// What a wrong word in user data would do on a real machine: the kubelet does not start, or speaks to nobody.
    fn bootstrap(&self, instance: &Instance) -> Result<Bootstrap> {
        let bootstrap = userdata::parse(&instance.user_data)?;
        ensure!(bootstrap.cluster == self.boot.cluster, "cluster is {}, not {}", bootstrap.cluster, self.boot.cluster);
        let endpoint = bootstrap.endpoint.as_deref().context("no --apiserver-endpoint")?.trim_end_matches('/');
        ensure!(endpoint == self.endpoint, "the API server is {}, not {endpoint}", self.endpoint);
        let authority = bootstrap.authority.as_deref().context("no --b64-cluster-ca")?;
        ensure!(authority.trim() == self.authority.trim(), "the certificate authority is not this cluster's");
        if let Some(label) = bootstrap.labels.keys().find(|label| userdata::refused_label(label)) {
            anyhow::bail!("the kubelet refuses --node-labels with {label}");
        }
        Ok(bootstrap)
    }

    async fn register(&self, instance: &Instance, bootstrap: &Bootstrap) -> Result<()> {
        let node: Node = serde_json::from_value(node(instance, bootstrap))?;
        let status = node.status.clone();
        match self.nodes.create(&PostParams::default(), &node).await {
            Ok(_) => {}
            // Somebody made the object before the machine came: the kubelet adopts it, adding what is its own.
            Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => {
                let own = json!({"metadata": {"labels": node.metadata.labels}, "spec": {"providerID": node.spec.and_then(|s| s.provider_id)}});
                self.nodes.patch(&instance.private_dns, &PatchParams::default(), &Patch::Merge(&own)).await?;
            }
            Err(error) => return Err(error.into()),
        }
        let status = json!({"status": status});
        self.nodes.patch_status(&instance.private_dns, &PatchParams::default(), &Patch::Merge(&status)).await?;
        if let Some(after) = self.boot.startup_taints_for {
            tokio::spawn(remove_startup_taints(self.nodes.clone(), instance.private_dns.clone(), after));
        }
        Ok(())
    }

    async fn silence(&self, name: &str) -> Result<()> {
        let off = json!({"metadata": {"labels": {ALIVE_LABEL: null}}});
        match self.nodes.patch(name, &PatchParams::default(), &Patch::Merge(&off)).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }
}

/// Taints whose key begins so are startup taints by the bed's convention: their agent removes them after a while.
pub const STARTUP_TAINT_PREFIX: &str = "startup.testbed.tandem.dev/";

async fn remove_startup_taints(nodes: Api<Node>, name: String, after: Duration) {
    tokio::time::sleep(after).await;
    for _ in 0..20 {
        let Ok(Some(node)) = nodes.get_opt(&name).await else { return };
        let taints = node.spec.clone().and_then(|spec| spec.taints).unwrap_or_default();
        let left: Vec<_> = taints.iter().filter(|taint| !taint.key.starts_with(STARTUP_TAINT_PREFIX)).collect();
        let patch = json!({"metadata": {"resourceVersion": node.metadata.resource_version}, "spec": {"taints": left}});
        if left.len() == taints.len()
            || nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok()
        {
            return;
        }
    }
}

/// The Node as the kubelet (labels, taints, resources) and the cloud's node controller (provider id, zone, region, type)
/// make it.
fn node(instance: &Instance, bootstrap: &Bootstrap) -> Value {
    let architecture = if instance.architecture == "arm64" { "arm64" } else { "amd64" };
    let own = [
        ("kubernetes.io/hostname", instance.private_dns.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", architecture),
        ("node.kubernetes.io/instance-type", &instance.instance_type),
        ("beta.kubernetes.io/instance-type", &instance.instance_type),
        ("topology.kubernetes.io/zone", &instance.zone),
        ("topology.kubernetes.io/region", &instance.region),
        ("failure-domain.beta.kubernetes.io/zone", &instance.zone),
        ("failure-domain.beta.kubernetes.io/region", &instance.region),
        (ALIVE_LABEL, "true"),
    ];
    let mut labels = bootstrap.labels.clone();
    labels.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let (capacity, allocatable) = resources(&instance.hardware, bootstrap.max_pods);
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": instance.private_dns, "labels": labels},
        "spec": {
            "providerID": format!("aws:///{}/{}", instance.zone, instance.id),
            "taints": bootstrap.taints,
        },
        "status": {
            "capacity": capacity,
            "allocatable": allocatable,
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": instance.private_dns},
                {"type": "InternalDNS", "address": instance.private_dns},
            ],
            "nodeInfo": {
                "architecture": architecture, "operatingSystem": "linux", "kubeletVersion": "v1.36.3",
                "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "", "kubeProxyVersion": "",
                "machineID": "", "osImage": "", "systemUUID": "",
            },
        },
    })
}

/// Capacity and allocatable as an Amazon Linux machine reports them.
///
/// The kernel and firmware keep some of the memory that the type's data sheet names (7.5 % at worst), and the EKS
/// bootstrap reserves CPU and memory for the kubelet by formulas of its own.
fn resources(hardware: &Hardware, max_pods: Option<u32>) -> (Value, Value) {
    let by_interfaces = hardware.interfaces * hardware.ipv4_per_interface.saturating_sub(1) + 2;
    let pods = max_pods.unwrap_or(by_interfaces);
    let memory_mib = hardware.memory_mib * 940 / 1000;
    let reserved_memory_mib = u64::from(11 * by_interfaces + 255) + 100;
    let cores = hardware.vcpus;
    let core = |first: u32, last: u32| cores.min(last).saturating_sub(first);
    let reserved_tenths_of_milli = core(0, 1) * 600 + core(1, 2) * 100 + core(2, 4) * 50 + core(4, u32::MAX) * 25;
    let milli = cores * 1000 - reserved_tenths_of_milli.div_ceil(10);
    let mut capacity = json!({
        "cpu": cores.to_string(), "memory": format!("{memory_mib}Mi"), "pods": pods.to_string(), "ephemeral-storage": "20Gi",
    });
    let mut allocatable = json!({
        "cpu": format!("{milli}m"), "memory": format!("{}Mi", memory_mib.saturating_sub(reserved_memory_mib)),
        "pods": pods.to_string(), "ephemeral-storage": "17Gi",
    });
    if hardware.nvidia_gpus > 0 {
        for list in [&mut capacity, &mut allocatable] {
            list["nvidia.com/gpu"] = json!(hardware.nvidia_gpus.to_string());
        }
    }
    (capacity, allocatable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_machine_keeps_what_eks_reserves() {
        let hardware = Hardware { vcpus: 2, memory_mib: 8192, interfaces: 3, ipv4_per_interface: 10, nvidia_gpus: 0 };
        let (capacity, allocatable) = resources(&hardware, None);
        assert_eq!((capacity["cpu"].as_str(), allocatable["cpu"].as_str()), (Some("2"), Some("1930m")));
        assert_eq!(capacity["pods"], "29");
        assert_eq!(allocatable["memory"], format!("{}Mi", 7700 - 674));
    }
}
