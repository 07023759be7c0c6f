//! The cluster of a story: a control plane with our CRDs, the cloud beside it, a mesh, and our programs as their charts
//! let them run.
//!
//! Objects are read as plain JSON, so that a story sees what `kubectl` would see and not what our own types make of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use testkit::apply::{apply, apply_crds};
use testkit::aws::{Account, AwsDouble, Instance};
use testkit::bed::{Bed, Options};
use testkit::binaries::workspace;
use testkit::eventually::{Seen, eventually, when};
use testkit::joiner::{Boot, Joiner};
use testkit::mesh::{Mesh, Traffic};
use testkit::programs::{Program, Provisioner};
use testkit::prometheus::Prometheus;

/// One step of a story. Generous: two busy cores are shared with another story.
pub(crate) const SOON: Duration = Duration::from_mins(2);
/// Several steps in one, such as an HPA that goes up in two strides while machines boot.
pub(crate) const LATER: Duration = Duration::from_mins(4);

/// The cluster of the walkthrough's manifests.
pub(crate) const CLUSTER: &str = "tandem-demo";
/// The tag that marks the subnets and groups of the cluster.
pub(crate) const CLUSTER_TAG: &str = "kubernetes.io/cluster/tandem-demo";
/// From running to the kubelet's first sign.
const BOOT: Duration = Duration::from_secs(3);

/// A kind of object, with its API group and version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

pub(crate) const DEPLOYMENT: Kind = Kind("apps", "v1", "Deployment");
pub(crate) const POD: Kind = Kind("", "v1", "Pod");
pub(crate) const NODE: Kind = Kind("", "v1", "Node");
pub(crate) const HPA: Kind = Kind("autoscaling", "v2", "HorizontalPodAutoscaler");
pub(crate) const SCALED_OBJECT: Kind = Kind("keda.sh", "v1alpha1", "ScaledObject");
pub(crate) const PROVISIONER: Kind = Kind("karpenter.sh", "v1alpha5", "Provisioner");
pub(crate) const NODE_POOL: Kind = Kind("karpenter.sh", "v1", "NodePool");
pub(crate) const NODE_OVERLAY: Kind = Kind("karpenter.sh", "v1alpha1", "NodeOverlay");
pub(crate) const NODE_CLAIM: Kind = Kind("karpenter.sh", "v1", "NodeClaim");
pub(crate) const API_SERVICE: Kind = Kind("apiregistration.k8s.io", "v1", "APIService");
const EVENT: Kind = Kind("events.k8s.io", "v1", "Event");

/// The cloud and the program that rents from it.
pub(crate) struct Machines {
    pub(crate) program: Program,
    pub(crate) aws: AwsDouble,
    /// What the cluster's tag selects. The account has other subnets and groups, too.
    pub(crate) account: Account,
    pub(crate) joiner: Joiner,
}

/// A mesh, who scrapes it, and the program that asks.
pub(crate) struct Metrics {
    pub(crate) program: Program,
    pub(crate) prometheus: Prometheus,
    pub(crate) mesh: Mesh,
}

pub(crate) struct World {
    // Dropped in this order: those who ask before those who answer.
    pub(crate) machines: Option<Machines>,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) bed: Bed,
}

impl World {
    /// A control plane that knows our kinds.
    pub(crate) async fn start() -> Result<Self> {
        Self::start_on(Options::default()).await
    }

    /// The same with another control plane than usual.
    pub(crate) async fn start_on(options: Options) -> Result<Self> {
        let bed = Bed::start(options).await?;
        apply_crds(&bed.client(), &workspace().join("crds")).await?;
        Ok(Self { machines: None, metrics: None, bed })
    }

    /// Adds the AWS double, machines that boot, and `node-provisioner`.
    pub(crate) async fn with_machines(mut self) -> Result<Self> {
        let aws = AwsDouble::start(self.bed.folder()).await?;
        let account = aws.control().seed(CLUSTER).await?;
        aws.control().timing(Duration::from_secs(2), Duration::from_secs(2)).await?;
        let boot = Boot { cluster: CLUSTER.into(), delay: BOOT, startup_taints_for: None };
        let joiner = Joiner::start(&self.bed, aws.control().clone(), boot);
        let mut options = Provisioner::of(CLUSTER);
        options.arguments.push("--garbage-interval=5s".to_owned());
        let program = self.bed.spawn_node_provisioner(&aws, &options).await?;
        self.machines = Some(Machines { program, aws, account, joiner });
        Ok(self)
    }

    /// Adds the mesh, Prometheus and `pod-autoscaler`.
    pub(crate) async fn with_metrics(self) -> Result<Self> {
        self.with_metrics_and(&[]).await
    }

    /// The same without the admission webhooks, which refuse what these stories need to be there.
    pub(crate) async fn with_metrics_but_no_admission(self) -> Result<Self> {
        self.with_metrics_and(&[("admission.enabled", "false")]).await
    }

    /// The same with values of the chart.
    pub(crate) async fn with_metrics_and(self, values: &[(&str, &str)]) -> Result<Self> {
        self.with_metrics_and_flags(values, &[]).await
    }

    /// The same with flags of the program.
    pub(crate) async fn with_metrics_and_flags(mut self, values: &[(&str, &str)], flags: &[&str]) -> Result<Self> {
        let mesh = Mesh::start().await?;
        let prometheus = Prometheus::start(self.bed.folder(), &[mesh.address()]).await?;
        let program = self.bed.spawn_pod_autoscaler_with(values, flags).await?;
        self.metrics = Some(Metrics { program, prometheus, mesh });
        Ok(self)
    }

    pub(crate) fn machines(&mut self) -> &mut Machines {
        self.machines.as_mut().expect("the story began with machines")
    }

    /// So many requests per second for a workload.
    pub(crate) fn traffic(&self, workload: &str, per_second: f64) {
        let metrics = self.metrics.as_ref().expect("the story began with metrics");
        metrics.mesh.set_rate(&Traffic::to("web", workload), per_second);
    }

    pub(crate) fn prometheus(&self) -> &str {
        self.metrics.as_ref().expect("the story began with metrics").prometheus.url()
    }

    pub(crate) fn api(&self, kind: Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(kind.0, kind.1, kind.2));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.bed.client(), namespace, &resource),
            None => Api::all_with(self.bed.client(), &resource),
        }
    }

    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        apply(&self.bed.client(), object).await.map(drop)
    }

    /// The API server's refusal of an object; an error when it takes it.
    pub(crate) async fn refusal(&self, object: &Value) -> Result<String> {
        match apply(&self.bed.client(), object).await {
            Ok(_) => anyhow::bail!("the API server takes {object}"),
            Err(error) => match error.downcast_ref::<kube::Error>() {
                Some(kube::Error::Api(status)) => Ok(status.message.clone()),
                _ => Err(error),
            },
        }
    }

    pub(crate) async fn get(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Result<Option<Value>> {
        let found = self.api(kind, namespace).get_opt(name).await?;
        Ok(found.map(serde_json::to_value).transpose()?)
    }

    pub(crate) async fn list(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<Value>> {
        let found = self.api(kind, namespace).list(&ListParams::default()).await?;
        Ok(found.items.into_iter().map(serde_json::to_value).collect::<Result<_, _>>()?)
    }

    /// A merge patch, as people edit.
    pub(crate) async fn patch(&self, kind: Kind, namespace: Option<&str>, name: &str, patch: &Value) -> Result<()> {
        let params = PatchParams::default();
        self.api(kind, namespace).patch(name, &params, &Patch::Merge(patch)).await.map(drop).map_err(Into::into)
    }

    /// A merge patch of the status, as the kubelet does.
    pub(crate) async fn patch_status(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<()> {
        let params = PatchParams::default();
        self.api(kind, namespace).patch_status(name, &params, &Patch::Merge(patch)).await.map(drop).map_err(Into::into)
    }

    pub(crate) async fn delete(&self, kind: Kind, namespace: Option<&str>, name: &str) -> Result<()> {
        match self.api(kind, namespace).delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            other => Ok(other.map(drop)?),
        }
    }

    /// `kubectl get --raw`.
    pub(crate) async fn raw(&self, path: &str) -> Result<Value> {
        let request = http::Request::get(path).body(Vec::new())?;
        Ok(serde_json::from_str(&self.bed.client().request_text(request).await?)?)
    }

    /// Events about an object, each as `Type Reason: note`.
    pub(crate) async fn events(&self, kind: Kind, name: &str) -> Result<Vec<String>> {
        let about = |event: &Value| {
            let regarding = &event["regarding"];
            regarding["kind"] == kind.2
                && (regarding["name"] == name || name.ends_with('*') && starts(&regarding["name"], name))
        };
        let text =
            |event: &Value| format!("{} {}: {}", text(&event["type"]), text(&event["reason"]), text(&event["note"]));
        Ok(self.list(EVENT, None).await?.iter().filter(|event| about(event)).map(text).collect())
    }

    /// Waits for an event that contains all of `words`. A name that ends in `*` is the beginning of one.
    pub(crate) async fn told(&self, kind: Kind, name: &str, words: &[&str]) -> Result<String> {
        eventually(format!("an event about {} {name} with {words:?}", kind.2), SOON, || async {
            let events = self.events(kind, name).await?;
            let found = events.iter().find(|event| words.iter().all(|word| event.contains(word))).cloned();
            Ok(when(found.is_some(), events).found(found))
        })
        .await
    }

    /// Waits for a condition of an object: its status, and words in its reason or message.
    pub(crate) async fn condition(
        &self,
        object: Place<'_>,
        kind: &str,
        status: &str,
        words: &[&str],
    ) -> Result<String> {
        eventually(format!("{} {}: {kind} to be {status} with {words:?}", object.0.2, object.2), SOON, || async {
            let found = self.get(object.0, object.1, object.2).await?.context("no such object")?;
            let conditions = found.pointer("/status/conditions").cloned().unwrap_or_default();
            let condition = conditions.as_array().into_iter().flatten().find(|c| c["type"] == kind).cloned();
            let said = condition
                .as_ref()
                .filter(|c| c["status"] == status)
                .map(|c| format!("{}: {}", text(&c["reason"]), text(&c["message"])));
            let said = said.filter(|said| words.iter().all(|word| said.contains(word)));
            Ok(when(said.is_some(), conditions).found(said))
        })
        .await
    }

    /// `spec.replicas` of a Deployment.
    pub(crate) async fn replicas(&self, namespace: &str, name: &str) -> Result<u64> {
        let found = self.get(DEPLOYMENT, Some(namespace), name).await?.context("no such Deployment")?;
        found.pointer("/spec/replicas").and_then(Value::as_u64).context("no spec.replicas")
    }

    /// Waits until a Deployment is asked to have so many replicas.
    pub(crate) async fn wait_for_replicas(&self, namespace: &str, name: &str, wanted: u64) -> Result<()> {
        eventually(format!("Deployment {name} to have {wanted} replicas"), LATER, || async {
            let found = self.replicas(namespace, name).await?;
            if found == wanted {
                return Ok(Seen::Done(()));
            }
            let object = self.get(SCALED_OBJECT, Some(namespace), name).await?.unwrap_or_default();
            let hpa = self.get(HPA, Some(namespace), &format!("keda-hpa-{name}")).await?.unwrap_or_default();
            Ok(Seen::NotYet(format!("{found}; ScaledObject {}; HPA {}", object["status"], hpa["status"])))
        })
        .await
    }

    /// Pods of a namespace with label `app`.
    pub(crate) async fn pods(&self, namespace: &str, app: &str) -> Result<Vec<Value>> {
        let pods = self.list(POD, Some(namespace)).await?;
        Ok(pods.into_iter().filter(|pod| pod["metadata"]["labels"]["app"] == app).collect())
    }

    /// Waits until exactly so many pods run, and no other is left; returns them.
    pub(crate) async fn wait_for_pods(&self, namespace: &str, app: &str, wanted: usize) -> Result<Vec<Value>> {
        eventually(format!("{wanted} pods of {app} to run"), LATER, || async {
            let pods = self.pods(namespace, app).await?;
            let running = pods.iter().filter(|pod| is_running(pod)).count();
            let done = running == wanted && pods.len() == wanted;
            if done {
                return Ok(Seen::Done(pods));
            }
            let claims: Vec<Value> = self.list(NODE_CLAIM, None).await?.iter().map(claim_in_short).collect();
            let refused = self.machines.as_ref().map(|machines| machines.joiner.refused()).unwrap_or_default();
            let seen = format!("{running} of {} run; claims {claims:?}; could not join: {refused:?}", pods.len());
            Ok(Seen::NotYet(seen))
        })
        .await
    }

    /// Instances that cost money.
    pub(crate) async fn alive(&self) -> Result<Vec<Instance>> {
        self.machines.as_ref().context("a story without machines")?.aws.control().alive().await
    }

    /// All instances ever launched, with the UID of the claim they were launched for.
    pub(crate) async fn launched(&self) -> Result<Vec<(String, Instance)>> {
        let control = self.machines.as_ref().context("a story without machines")?.aws.control();
        let uid = |instance: &Instance| instance.tags.get("tandem.dev/nodeclaim-uid").cloned().unwrap_or_default();
        Ok(control.instances().await?.into_iter().map(|instance| (uid(&instance), instance)).collect())
    }

    /// Waits until there are no claims, no nodes, and no instance that costs money.
    pub(crate) async fn wait_for_nothing_rented(&self) -> Result<()> {
        eventually("all claims, nodes and instances to be gone", LATER, || async {
            let claims: Vec<Value> = self.list(NODE_CLAIM, None).await?.iter().map(claim_in_short).collect();
            let nodes: Vec<String> = self.list(NODE, None).await?.iter().map(name).collect();
            let alive: Vec<String> = self.alive().await?.into_iter().map(|instance| instance.id).collect();
            let nothing = claims.is_empty() && nodes.is_empty() && alive.is_empty();
            Ok(when(nothing, (claims, nodes, alive)).found(nothing.then_some(())))
        })
        .await
    }

    /// Waits until every instance that costs money belongs to one claim, every claim to one ready node, and no claim has
    /// ever had two instances.
    pub(crate) async fn wait_for_one_machine_per_claim(&self) -> Result<()> {
        eventually("exactly one instance and one node for each claim", LATER, || async {
            let claims = self.list(NODE_CLAIM, None).await?;
            let nodes = self.list(NODE, None).await?;
            let mut of_claim: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (uid, instance) in self.launched().await? {
                of_claim.entry(uid).or_default().push(instance.id);
            }
            if let Some((uid, ids)) = of_claim.iter().find(|(_, ids)| ids.len() > 1) {
                return Ok(Seen::Never(format!("claim {uid} has had the instances {ids:?}")));
            }
            let ids = |text: &Value| text.as_str().and_then(|id| id.rsplit('/').next()).unwrap_or_default().to_owned();
            let mut recorded: Vec<String> = claims.iter().map(|claim| ids(&claim["status"]["providerID"])).collect();
            let mut joined: Vec<String> =
                nodes.iter().filter(|node| is_ready(node)).map(|node| ids(&node["spec"]["providerID"])).collect();
            let mut alive: Vec<String> = self.alive().await?.into_iter().map(|instance| instance.id).collect();
            for list in [&mut recorded, &mut joined, &mut alive] {
                list.sort();
            }
            let done = recorded == joined && joined == alive;
            Ok(when(done, format!("claims {recorded:?}, ready nodes {joined:?}, alive {alive:?}"))
                .found(done.then_some(())))
        })
        .await
    }

    /// Kills the programs that run, at the same moment.
    pub(crate) fn kill_programs(&mut self) {
        if let Some(machines) = &mut self.machines {
            machines.program.kill();
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.program.kill();
        }
    }

    pub(crate) async fn start_programs(&mut self) -> Result<()> {
        if let Some(machines) = &mut self.machines {
            machines.program.start().await?;
        }
        if let Some(metrics) = &mut self.metrics {
            metrics.program.start().await?;
        }
        Ok(())
    }

    /// As a kubelet does: a program that has ended is started again.
    pub(crate) async fn start_whoever_ended(&mut self) -> Result<()> {
        let provisioner = self.machines.as_mut().map(|machines| &mut machines.program);
        let autoscaler = self.metrics.as_mut().map(|metrics| &mut metrics.program);
        for program in provisioner.into_iter().chain(autoscaler) {
            if program.check().is_err() {
                program.restart().await?;
            }
        }
        Ok(())
    }

    /// The story's end; an error comes with what the programs said last.
    pub(crate) fn end(mut self, result: Result<()>) -> Result<()> {
        let checked = result.and_then(|()| {
            self.bed.check()?;
            self.bed.no_plan_was_rejected()?;
            self.machines.as_mut().map_or(Ok(()), |machines| machines.program.check())?;
            self.metrics.as_mut().map_or(Ok(()), |metrics| metrics.program.check())
        });
        checked.map_err(|error| {
            let mut said = String::new();
            if let Some(machines) = &self.machines {
                let _ = write!(said, "--- node-provisioner\n{}\n", machines.program.last_lines(60));
            }
            if let Some(metrics) = &self.metrics {
                let _ = write!(said, "--- pod-autoscaler\n{}\n", metrics.program.last_lines(40));
            }
            anyhow::anyhow!("{error:#}\n{said}")
        })
    }
}

/// Kind, namespace and name.
pub(crate) type Place<'a> = (Kind, Option<&'a str>, &'a str);

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn starts(value: &Value, pattern: &str) -> bool {
    text(value).starts_with(pattern.trim_end_matches('*'))
}

pub(crate) fn name(object: &Value) -> String {
    text(&object["metadata"]["name"]).to_owned()
}

pub(crate) fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

pub(crate) fn is_ready(object: &Value) -> bool {
    has_condition(object, "Ready") && object["metadata"]["deletionTimestamp"].is_null()
}

pub(crate) fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
}

fn claim_in_short(claim: &Value) -> Value {
    let conditions = claim.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let said: BTreeMap<&str, String> = conditions
        .iter()
        .map(|c| (text(&c["type"]), format!("{} {} {}", text(&c["status"]), text(&c["reason"]), text(&c["message"]))))
        .collect();
    let metadata = &claim["metadata"];
    json!({"name": metadata["name"], "deleted": metadata["deletionTimestamp"], "conditions": said})
}

/// A Deployment whose pods ask for `cpu`, in `namespace`, with label `app`; they go only where `selector` says.
pub(crate) fn deployment(namespace: &str, name: &str, replicas: u32, cpu: &str, selector: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "nodeSelector": selector,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "main", "image": "none",
                        "resources": {"requests": {"cpu": cpu, "memory": "128Mi"}},
                    }],
                },
            },
        },
    })
}

/// A Provisioner for pods that select `team: NAME`; `more` goes into its spec.
pub(crate) fn provisioner(name: &str, more: &Value) -> Value {
    let mut spec = json!({
        "labels": {"team": name},
        "requirements": [
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
        ],
        "provider": {
            "subnetSelector": {CLUSTER_TAG: "*"},
            "securityGroupSelector": {CLUSTER_TAG: "*"},
            "instanceProfile": format!("{CLUSTER}-node"),
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner", "metadata": {"name": name}, "spec": spec})
}

/// A ScaledObject in `web` of the Deployment of its name, one replica for every 10 of what `query` says.
pub(crate) fn scaled_object(name: &str, prometheus: &str, query: &str, more: &Value) -> Value {
    let mut spec = json!({
        "scaleTargetRef": {"name": name},
        "minReplicaCount": 1, "maxReplicaCount": 10, "pollingInterval": 1, "cooldownPeriod": 5,
        "triggers": [{
            "type": "prometheus",
            "metadata": {"serverAddress": prometheus, "query": query, "threshold": "10"},
        }],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": "web"}, "spec": spec,
    })
}

/// Requests per second that the mesh counts for a workload.
pub(crate) fn rate_of(workload: &str) -> String {
    format!("sum(rate(istio_requests_total{{destination_workload=\"{workload}\"}}[10s]))")
}
