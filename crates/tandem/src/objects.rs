//! Documents into typed objects; what matters for placing is kept, the rest is counted.

use std::collections::BTreeMap;

use api::{
    FieldError,
    karpenter_v1::{NodeClaim, NodePool},
    karpenter_v1alpha1::NodeOverlay,
    karpenter_v1alpha5::Provisioner,
    validate::kubelet_errors,
};
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::{LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
        node::v1::RuntimeClass,
        policy::v1::PodDisruptionBudget,
        scheduling::v1::PriorityClass,
        storage::v1::{CSINode, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Document, Origin, Problem, problem::in_words};

/// The namespace of what names none, as `kubectl` has it.
const DEFAULT_NAMESPACE: &str = "default";

/// The kinds that matter for placing, as they are written.
const KINDS: [&str; 20] = [
    "Pod",
    "Node",
    "DaemonSet",
    "Deployment",
    "ReplicaSet",
    "StatefulSet",
    "Job",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "StorageClass",
    "CSINode",
    "Namespace",
    "PriorityClass",
    "RuntimeClass",
    "LimitRange",
    "PodDisruptionBudget",
    "Provisioner",
    "NodePool",
    "NodeClaim",
    "NodeOverlay",
];

/// The groups of these.
const GROUPS: [&str; 8] =
    ["", "apps", "batch", "policy", "storage.k8s.io", "scheduling.k8s.io", "node.k8s.io", "karpenter.sh"];

/// An object and where it was read.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// Where.
    pub origin: Origin,
    /// What.
    pub object: T,
}

/// Everything in the input that placing depends on, each list by namespace and name.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is the plural of its type")]
pub struct Objects {
    pub pods: Vec<Read<Pod>>,
    pub nodes: Vec<Read<Node>>,
    pub daemon_sets: Vec<Read<DaemonSet>>,
    pub deployments: Vec<Read<Deployment>>,
    pub replica_sets: Vec<Read<ReplicaSet>>,
    pub stateful_sets: Vec<Read<StatefulSet>>,
    pub jobs: Vec<Read<Job>>,
    pub volumes: Vec<Read<PersistentVolume>>,
    pub volume_claims: Vec<Read<PersistentVolumeClaim>>,
    pub storage_classes: Vec<Read<StorageClass>>,
    pub csi_nodes: Vec<Read<CSINode>>,
    pub namespaces: Vec<Read<Namespace>>,
    pub priority_classes: Vec<Read<PriorityClass>>,
    pub runtime_classes: Vec<Read<RuntimeClass>>,
    pub limit_ranges: Vec<Read<LimitRange>>,
    pub budgets: Vec<Read<PodDisruptionBudget>>,
    pub provisioners: Vec<Read<Provisioner>>,
    pub node_pools: Vec<Read<NodePool>>,
    pub node_overlays: Vec<Read<NodeOverlay>>,
    pub node_claims: Vec<Read<NodeClaim>>,
    /// Settings of the kubelet by EC2NodeClass, as they are written.
    pub kubelets: BTreeMap<String, Value>,
    /// Lists of instance types: a document that is an array.
    pub catalogues: Vec<Document>,
}

/// What was in the input and does not matter, or is not what it seems.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// How many objects of each kind were skipped.
    pub skipped: BTreeMap<String, usize>,
    /// Documents that are no Kubernetes objects.
    pub strange: Vec<Origin>,
    /// Fields that no release known here has, with the first object that has it: probably misspelt.
    pub unknown_fields: BTreeMap<String, String>,
}

/// Reads the documents; what is wrong is listed, what is right is kept.
pub fn objects(documents: Vec<Document>) -> (Objects, Remarks, Vec<Problem>) {
    let mut reader = Reader::default();
    for document in documents {
        reader.document(document);
    }
    reader.finish()
}

/// Reads documents one after the other.
#[derive(Default)]
pub(crate) struct Reader {
    objects: Objects,
    remarks: Remarks,
    problems: Vec<Problem>,
    seen: BTreeMap<String, Origin>,
}

/// Puts objects of one kind into their list.
macro_rules! keep {
    ($reader:ident, $list:ident: $kind:ty, $value:expr, $origin:expr, $scope:expr) => {
        if let Some(read) = $reader.typed($value, $origin, $scope, |object: &mut $kind| &mut object.metadata) {
            $reader.objects.$list.push(read);
        }
    };
}

/// Whether objects of a kind belong to a namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Namespace,
    Cluster,
}

impl Reader {
    /// All that has been read.
    pub(crate) fn finish(mut self) -> (Objects, Remarks, Vec<Problem>) {
        self.objects.sort();
        (self.objects, self.remarks, self.problems)
    }

    pub(crate) fn document(&mut self, document: Document) {
        let Document { origin, value } = document;
        match value {
            Value::Array(_) => self.objects.catalogues.push(Document { origin, value }),
            Value::Object(ref fields) if fields.contains_key("kind") => self.object(value, origin),
            Value::Object(ref fields) if fields.contains_key("format") => {
                let format = fields["format"].as_str().unwrap_or_default();
                self.problems.push(Problem::at(&origin, format!("a file of format {format:?} is read alone: name it")));
            }
            Value::Object(ref fields) if fields.contains_key("apiVersion") && fields.contains_key("metadata") => {
                self.problems.push(Problem::at(&origin, "is missing, so nobody knows what this is").field("kind"));
            }
            _ => self.remarks.strange.push(origin),
        }
    }

    fn object(&mut self, mut value: Value, origin: Origin) {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text(&value, "apiVersion"), text(&value, "kind"));
        if let (Some(item_kind), Some(Value::Array(items))) = (kind.strip_suffix("List"), value.get_mut("items")) {
            for (index, mut item) in std::mem::take(items).into_iter().enumerate() {
                // The items of a PodList do not say that they are Pods.
                if let (Value::Object(fields), false) = (&mut item, item_kind.is_empty()) {
                    fields.entry("kind").or_insert_with(|| item_kind.into());
                    fields.entry("apiVersion").or_insert_with(|| version.clone().into());
                }
                let origin = Origin { item: Some(index + 1), ..origin.clone() };
                self.document(Document { origin, value: item });
            }
            return;
        }
        let group = version.split_once('/').map_or("", |(group, _)| group);
        if let Some(wanted) = version_of(group, &kind)
            && version != wanted
        {
            // Another version's fields would be misread in silence.
            let message = format!("{version:?} is not understood here: write {wanted}");
            self.problems.push(Problem::at(&origin, message).of(name_of(&value)).field("apiVersion"));
            return;
        }
        match (group, kind.as_str()) {
            ("", "Pod") => keep!(self, pods: Pod, value, origin, Scope::Namespace),
            ("", "Node") => keep!(self, nodes: Node, value, origin, Scope::Cluster),
            ("", "PersistentVolume") => keep!(self, volumes: PersistentVolume, value, origin, Scope::Cluster),
            ("", "PersistentVolumeClaim") => {
                keep!(self, volume_claims: PersistentVolumeClaim, value, origin, Scope::Namespace);
            }
            ("", "Namespace") => keep!(self, namespaces: Namespace, value, origin, Scope::Cluster),
            ("apps", "DaemonSet") => keep!(self, daemon_sets: DaemonSet, value, origin, Scope::Namespace),
            ("apps", "Deployment") => keep!(self, deployments: Deployment, value, origin, Scope::Namespace),
            ("apps", "ReplicaSet") => keep!(self, replica_sets: ReplicaSet, value, origin, Scope::Namespace),
            ("apps", "StatefulSet") => keep!(self, stateful_sets: StatefulSet, value, origin, Scope::Namespace),
            ("batch", "Job") => keep!(self, jobs: Job, value, origin, Scope::Namespace),
            ("storage.k8s.io", "StorageClass") => {
                keep!(self, storage_classes: StorageClass, value, origin, Scope::Cluster);
            }
            ("storage.k8s.io", "CSINode") => keep!(self, csi_nodes: CSINode, value, origin, Scope::Cluster),
            ("scheduling.k8s.io", "PriorityClass") => {
                keep!(self, priority_classes: PriorityClass, value, origin, Scope::Cluster);
            }
            ("node.k8s.io", "RuntimeClass") => {
                keep!(self, runtime_classes: RuntimeClass, value, origin, Scope::Cluster);
            }
            ("", "LimitRange") => keep!(self, limit_ranges: LimitRange, value, origin, Scope::Namespace),
            ("policy", "PodDisruptionBudget") => {
                keep!(self, budgets: PodDisruptionBudget, value, origin, Scope::Namespace);
            }
            ("karpenter.sh", "Provisioner") => {
                keep!(self, provisioners: Provisioner, value, origin, Scope::Cluster);
            }
            ("karpenter.sh", "NodePool") => keep!(self, node_pools: NodePool, value, origin, Scope::Cluster),
            ("karpenter.sh", "NodeClaim") => keep!(self, node_claims: NodeClaim, value, origin, Scope::Cluster),
            ("karpenter.sh", "NodeOverlay") => keep!(self, node_overlays: NodeOverlay, value, origin, Scope::Cluster),
            // What the kubelet keeps decides how many pods fit on a machine; whatever else a class says does not.
            ("karpenter.k8s.aws", "EC2NodeClass") => {
                if let Some(kubelet) = value.pointer("/spec/kubelet") {
                    for FieldError { field, message } in kubelet_errors(kubelet, "spec.kubelet") {
                        self.problems.push(Problem::at(&origin, message).of(name_of(&value)).field(field));
                    }
                    self.objects.kubelets.insert(text(&value["metadata"], "name"), kubelet.clone());
                }
            }
            // How a machine is made at the vendor changes nothing about which machines are wanted.
            ("karpenter.k8s.aws", "AWSNodeTemplate") | ("karpenter.kwok.sh", "KWOKNodeClass") => {}
            _ if !group.contains('.') && KINDS.contains(&kind.as_str()) => {
                let wanted = GROUPS.iter().find_map(|group| version_of(group, &kind)).unwrap_or_default();
                let message = format!("{version:?} has no {kind}: write {wanted}");
                self.problems.push(Problem::at(&origin, message).of(name_of(&value)).field("apiVersion"));
            }
            _ => match KINDS.iter().find(|known| known.eq_ignore_ascii_case(&kind) && **known != kind) {
                Some(known) => {
                    let message = format!("{kind:?} is not known here: write {known}");
                    self.problems.push(Problem::at(&origin, message).of(name_of(&value)).field("kind"));
                }
                None => *self.remarks.skipped.entry(kind).or_default() += 1,
            },
        }
    }

    fn typed<T: DeserializeOwned>(
        &mut self,
        value: Value,
        origin: Origin,
        scope: Scope,
        metadata: impl Fn(&mut T) -> &mut ObjectMeta,
    ) -> Option<Read<T>> {
        let name = name_of(&value);
        let kind = name.split(' ').next().unwrap_or_default().to_owned();
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let result: Result<T, _> = T::deserialize(serde_path_to_error::Deserializer::new(
            serde_ignored::Deserializer::new(value, &mut |path| unknown.push(path.to_string())),
            &mut track,
        ));
        let mut object = match result {
            Ok(object) => object,
            Err(error) => {
                let mut message = in_words(&error.to_string());
                if message.ends_with("expected a string") {
                    message.push_str(": put it in quotes");
                }
                self.problems.push(Problem::at(&origin, message).of(name).field(track.path().to_string()));
                return None;
            }
        };
        // The types of some kinds leave these two to their caller.
        for field in unknown.iter().filter(|field| !matches!(field.as_str(), "apiVersion" | "kind")) {
            let field = without_indices(field);
            self.remarks
                .unknown_fields
                .entry(format!("{kind}: {field}"))
                .or_insert_with(|| format!("{origin}, {name}"));
        }
        let own = metadata(&mut object);
        if scope == Scope::Namespace && own.namespace.as_deref().unwrap_or_default().is_empty() {
            own.namespace = Some(DEFAULT_NAMESPACE.to_owned());
        }
        if own.name.as_deref().unwrap_or_default().is_empty() {
            let Some(prefix) = own.generate_name.as_deref().filter(|prefix| !prefix.is_empty()) else {
                self.problems.push(Problem::at(&origin, "the object needs a name").of(name).field("metadata.name"));
                return None;
            };
            own.name = Some(format!("{prefix}{}", self.seen.len()));
        }
        for (field, text) in [("metadata.name", &own.name), ("metadata.namespace", &own.namespace)] {
            let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.".contains(letter);
            if let Some(text) = text.as_ref().filter(|text| !text.chars().all(fits)) {
                let message = format!("{text:?} is no name: lower-case letters, digits, - and . make one");
                self.problems.push(Problem::at(&origin, message).of(kind).field(field));
                return None;
            }
        }
        let key = format!(
            "{kind} {}/{}",
            own.namespace.as_deref().unwrap_or_default(),
            own.name.as_deref().unwrap_or_default()
        );
        if let Some(first) = self.seen.get(&key) {
            let message = format!("there is one of this name already: {first}");
            self.problems.push(Problem::at(&origin, message).of(name));
            return None;
        }
        self.seen.insert(key, origin.clone());
        Some(Read { origin, object })
    }
}

/// The version in which a kind of this group is understood; `None` for what is not looked at.
fn version_of(group: &str, kind: &str) -> Option<&'static str> {
    Some(match (group, kind) {
        ("", "Pod" | "Node" | "PersistentVolume" | "PersistentVolumeClaim" | "Namespace" | "LimitRange") => "v1",
        ("apps", "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet") => "apps/v1",
        ("batch", "Job") => "batch/v1",
        ("storage.k8s.io", "StorageClass" | "CSINode") => "storage.k8s.io/v1",
        ("scheduling.k8s.io", "PriorityClass") => "scheduling.k8s.io/v1",
        ("node.k8s.io", "RuntimeClass") => "node.k8s.io/v1",
        ("policy", "PodDisruptionBudget") => "policy/v1",
        ("karpenter.sh", "Provisioner") => "karpenter.sh/v1alpha5",
        ("karpenter.sh", "NodePool" | "NodeClaim") => "karpenter.sh/v1",
        ("karpenter.sh", "NodeOverlay") => "karpenter.sh/v1alpha1",
        _ => return None,
    })
}

/// `Deployment shop/web`, before it is known whether the object makes sense.
fn name_of(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let name = match (text("/metadata/namespace"), text("/metadata/name")) {
        ("", "") => text("/metadata/generateName").to_owned(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    format!("{} {name}", text("/kind")).trim_end().to_owned()
}

/// `spec.containers.0.image` → `spec.containers[].image`: one remark for all of them.
fn without_indices(path: &str) -> String {
    let mut said = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            said.push_str("[]");
        } else {
            if !said.is_empty() {
                said.push('.');
            }
            said.push_str(part);
        }
    }
    said
}

impl Objects {
    fn sort(&mut self) {
        fn by_name<T>(list: &mut [Read<T>], metadata: impl Fn(&T) -> &ObjectMeta) {
            list.sort_by(|a, b| {
                let key = |read: &Read<T>| {
                    let own = metadata(&read.object);
                    (own.namespace.clone(), own.name.clone())
                };
                key(a).cmp(&key(b))
            });
        }
        by_name(&mut self.pods, |o| &o.metadata);
        by_name(&mut self.nodes, |o| &o.metadata);
        by_name(&mut self.daemon_sets, |o| &o.metadata);
        by_name(&mut self.deployments, |o| &o.metadata);
        by_name(&mut self.replica_sets, |o| &o.metadata);
        by_name(&mut self.stateful_sets, |o| &o.metadata);
        by_name(&mut self.jobs, |o| &o.metadata);
        by_name(&mut self.storage_classes, |o| &o.metadata);
        by_name(&mut self.limit_ranges, |o| &o.metadata);
        by_name(&mut self.budgets, |o| &o.metadata);
        by_name(&mut self.provisioners, |o| &o.metadata);
        by_name(&mut self.node_pools, |o| &o.metadata);
        by_name(&mut self.node_overlays, |o| &o.metadata);
        by_name(&mut self.node_claims, |o| &o.metadata);
    }

    /// Whether nothing was read that has to do with placing.
    pub fn is_empty(&self) -> bool {
        let Self { pods, nodes, daemon_sets, deployments, replica_sets, stateful_sets, jobs, .. } = self;
        pods.is_empty()
            && nodes.is_empty()
            && daemon_sets.is_empty()
            && deployments.is_empty()
            && replica_sets.is_empty()
            && stateful_sets.is_empty()
            && jobs.is_empty()
            && self.provisioners.is_empty()
            && self.node_pools.is_empty()
    }
}
