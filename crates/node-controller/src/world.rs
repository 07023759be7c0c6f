//! What the API server says, as one immutable value: every object the decisions read, and which claim, node and pods
//! belong together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use api::{
    budget::{Budgets, Hold},
    convert::pool_of,
    karpenter_aws::{AWSNodeTemplate, EC2NodeClass},
    karpenter_kwok::KWOKNodeClass,
    karpenter_v1::{NodeClaim, NodePool},
    karpenter_v1alpha1::NodeOverlay,
    karpenter_v1alpha5::Provisioner,
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    policy::v1::PodDisruptionBudget,
    storage::v1::{CSINode, StorageClass, VolumeAttachment},
};
use kube::ResourceExt as _;
use scheduling::{PoolKey, PoolKind};

use crate::{
    lifecycle::next::{is_ephemeral, is_ready},
    names, pods,
};

/// The objects, as the watches hold them.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "each field is the plural of its type")]
pub struct Objects {
    pub pods: Vec<Arc<Pod>>,
    pub nodes: Vec<Arc<Node>>,
    pub claims: Vec<Arc<NodeClaim>>,
    pub provisioners: Vec<Arc<Provisioner>>,
    pub node_pools: Vec<Arc<NodePool>>,
    pub node_overlays: Vec<Arc<NodeOverlay>>,
    pub node_templates: Vec<Arc<AWSNodeTemplate>>,
    pub node_classes: Vec<Arc<EC2NodeClass>>,
    pub kwok_classes: Vec<Arc<KWOKNodeClass>>,
    pub daemon_sets: Vec<Arc<DaemonSet>>,
    pub namespaces: Vec<Arc<Namespace>>,
    pub volume_attachments: Vec<Arc<VolumeAttachment>>,
    pub volume_claims: Vec<Arc<PersistentVolumeClaim>>,
    pub volumes: Vec<Arc<PersistentVolume>>,
    pub storage_classes: Vec<Arc<StorageClass>>,
    pub csi_nodes: Vec<Arc<CSINode>>,
    pub budgets: Vec<Arc<PodDisruptionBudget>>,
}

/// One machine as the API server knows it: its record, its node, or both.
#[derive(Clone, Debug)]
pub struct Member {
    /// The record; none for nodes somebody else made.
    pub claim: Option<Arc<NodeClaim>>,
    /// The node; none until the machine joins.
    pub node: Option<Arc<Node>>,
    /// Pods bound to the node, finished ones included.
    pub pods: Vec<Arc<Pod>>,
    /// VolumeAttachments of the node.
    pub attachments: Vec<Arc<VolumeAttachment>>,
    /// Other Nodes that name the same machine. Which of them its kubelet keeps cannot be told from here.
    pub rivals: Vec<Arc<Node>>,
}

/// [`Objects`] with what belongs together joined.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The objects, sorted by namespace and name.
    pub objects: Objects,
    /// Every claim and every node, once: claims by name, then nodes without a claim by name.
    ///
    /// A machine may join before its claim names it. The cloud `kwok` gives the Node the claim's name, so it is found by
    /// that. On AWS nothing about a new Node tells which claim it belongs to (claims share their launch templates), so a
    /// Node of a pool that nobody has registered is left out as long as a claim of that pool names no machine: the claim
    /// stands for it.
    pub members: Vec<Member>,
    /// By UID of a bound pod, the disruption budgets that do not let it go.
    held: BTreeMap<String, Hold>,
    /// UIDs of the pods of deleted nodes that nobody is evicted from, for a pod there blocks the drain.
    refused: BTreeSet<String>,
}

fn sort<K: kube::ResourceExt>(objects: &mut [Arc<K>]) {
    objects.sort_by(|a, b| {
        let (a, b) = (a.meta(), b.meta());
        (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))
    });
}

impl World {
    /// Sorts and joins.
    pub fn new(mut objects: Objects) -> Self {
        // Watches keep them in no order, and what is told or compared must not change with it.
        sort(&mut objects.pods);
        sort(&mut objects.nodes);
        sort(&mut objects.claims);
        sort(&mut objects.provisioners);
        sort(&mut objects.node_pools);
        sort(&mut objects.node_overlays);
        sort(&mut objects.node_templates);
        sort(&mut objects.node_classes);
        sort(&mut objects.kwok_classes);
        sort(&mut objects.daemon_sets);
        sort(&mut objects.namespaces);
        sort(&mut objects.volume_attachments);
        sort(&mut objects.volume_claims);
        sort(&mut objects.volumes);
        sort(&mut objects.storage_classes);
        sort(&mut objects.csi_nodes);
        sort(&mut objects.budgets);
        let budgets = Budgets::new(objects.budgets.iter().map(AsRef::as_ref));
        let held =
            objects.pods.iter().filter_map(|pod| Some((pods::uid(pod).to_owned(), budgets.hold(pod)?))).collect();
        let members = join(&objects);
        let refused = members.iter().filter(|member| member.is_refused()).flat_map(|member| &member.pods);
        let refused = refused.map(|pod| pods::uid(pod).to_owned()).collect();
        Self { objects, members, held, refused }
    }

    /// What never lets a bound pod go as things are, if anything: a disruption budget, as a part of a sentence.
    pub fn held_by(&self, pod: &Pod) -> Option<&str> {
        self.held.get(pods::uid(pod)).filter(|hold| hold.lasting).map(|hold| hold.why.as_str())
    }

    /// What does not let a bound pod go now, if anything; in the same words.
    pub fn kept_by(&self, pod: &Pod) -> Option<&str> {
        self.held.get(pods::uid(pod)).map(|hold| hold.why.as_str())
    }

    /// Whether a pod of a node that is leaving will want a place elsewhere: it [would](pods::will_move), and neither
    /// a budget holds it nor another pod the whole drain.
    pub fn will_move(&self, pod: &Pod) -> bool {
        pods::will_move(pod) && self.held_by(pod).is_none() && !self.is_refused(pod)
    }

    /// Whether a pod of a node that is leaving stays there for the time being: something holds it, or the whole drain.
    pub fn stays(&self, pod: &Pod) -> bool {
        self.held_by(pod).is_some() || self.is_refused(pod) || pods::blocks_drain(pod, false)
    }

    fn is_refused(&self, pod: &Pod) -> bool {
        !pods::is_leaving(pod) && self.refused.contains(pods::uid(pod))
    }
}

/// Whether a taint says that the node is not complete yet.
fn is_starting(node: &Node) -> bool {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten()).any(is_ephemeral)
}

impl Member {
    /// The claim's name, else the node's: a name for logs and for keyed work.
    pub fn name(&self) -> String {
        match (&self.claim, &self.node) {
            (Some(claim), _) => claim.name_any(),
            (None, Some(node)) => node.name_any(),
            (None, None) => String::new(),
        }
    }

    /// What the scheduler knows it by: the node's name, else the claim's.
    pub fn node_key(&self) -> String {
        self.node.as_ref().map_or_else(|| self.name(), |node| node.name_any())
    }

    /// Whether this name is its node's or its claim's.
    pub fn is_called(&self, name: &str) -> bool {
        self.node.as_ref().is_some_and(|node| node.metadata.name.as_deref() == Some(name))
            || self.claim.as_ref().is_some_and(|claim| claim.metadata.name.as_deref() == Some(name))
    }

    /// The pool it was made for, by the claim's labels, else the node's.
    pub fn pool(&self) -> Option<PoolKey> {
        let claim = self.claim.as_ref().and_then(|claim| pool_of(claim.labels()));
        claim.or_else(|| self.node.as_ref().and_then(|node| pool_of(node.labels())))
    }

    /// Whether the machine is ours to end: it has a claim, or its node has our finalizer.
    pub fn is_managed(&self) -> bool {
        self.claim.is_some()
            || self.node.as_ref().is_some_and(|node| node.finalizers().iter().any(|f| f == names::FINALIZER))
    }

    /// Whether it takes pods: somebody else's node always, ours once initialized.
    pub fn is_initialized(&self) -> bool {
        match (&self.claim, &self.node) {
            (_, None) => false,
            (None, Some(node)) => {
                pool_of(node.labels()).is_none()
                    || node.labels().get(names::INITIALIZED).is_some_and(|v| v == "true")
                    // Karpenter v0.16 would have said so a little later, and nobody is there who will.
                    || self.is_managed() && is_ready(node) && !is_starting(node)
            }
            (Some(_), Some(node)) => node.labels().get(names::INITIALIZED).is_some_and(|v| v == "true"),
        }
    }

    /// Whether somebody has deleted it.
    fn is_deleted(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.metadata.deletion_timestamp.is_some())
            || self.node.as_ref().is_some_and(|node| node.metadata.deletion_timestamp.is_some())
    }

    /// Whether it is deleted and none of its pods is evicted, for one of them blocks the drain: so it is for a Provisioner's nodes.
    fn is_refused(&self) -> bool {
        self.is_deleted()
            && self.pool().is_some_and(|pool| pool.kind == PoolKind::Provisioner)
            && self.pods.iter().any(|pod| pods::blocks_drain(pod, true))
    }

    /// Whether it is on its way out: deleted, or being taken out of service by us.
    pub fn is_leaving(&self) -> bool {
        self.is_deleted()
            || self.node.as_ref().is_some_and(|node| {
                node.annotations().contains_key(names::REMOVAL)
                    || node
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.taints.as_ref())
                        .is_some_and(|taints| taints.iter().any(|taint| taint.key == names::DISRUPTED_TAINT))
            })
    }

    /// The machine's name at the cloud.
    pub fn provider_id(&self) -> Option<&str> {
        let claim = self.claim.as_ref().and_then(|claim| claim.status.as_ref()).and_then(|s| s.provider_id.as_deref());
        claim.or_else(|| self.node.as_ref().and_then(|node| provider_id_of(node)))
    }
}

/// The node's `spec.providerID`, if it has one.
pub fn provider_id_of(node: &Node) -> Option<&str> {
    node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).filter(|id| !id.is_empty())
}

fn join(objects: &Objects) -> Vec<Member> {
    let mut pods_of: HashMap<&str, Vec<Arc<Pod>>> = HashMap::new();
    for pod in &objects.pods {
        if let Some(node) = pods::node_name(pod) {
            pods_of.entry(node).or_default().push(Arc::clone(pod));
        }
    }
    let mut attachments_of: HashMap<&str, Vec<Arc<VolumeAttachment>>> = HashMap::new();
    for attachment in &objects.volume_attachments {
        attachments_of.entry(attachment.spec.node_name.as_str()).or_default().push(Arc::clone(attachment));
    }
    let mut by_provider: HashMap<&str, Vec<&Arc<Node>>> = HashMap::new();
    for node in &objects.nodes {
        if let Some(id) = provider_id_of(node) {
            by_provider.entry(id).or_default().push(node);
        }
    }
    let by_name: HashMap<&str, &Arc<Node>> =
        objects.nodes.iter().filter_map(|node| Some((node.metadata.name.as_deref()?, node))).collect();
    let mut claimed: HashSet<&str> = HashSet::new();
    // Pools with a machine that may have joined before its claim names it.
    let mut unrecorded: HashSet<PoolKey> = HashSet::new();
    let mut members = Vec::with_capacity(objects.nodes.len() + objects.claims.len());
    let mut member = |claim: Option<&Arc<NodeClaim>>, node: Option<&Arc<Node>>| {
        let name = node.and_then(|node| node.metadata.name.as_deref()).unwrap_or_default();
        let same = node.and_then(|node| by_provider.get(provider_id_of(node)?)).into_iter().flatten();
        members.push(Member {
            claim: claim.cloned(),
            node: node.cloned(),
            pods: pods_of.get(name).cloned().unwrap_or_default(),
            attachments: attachments_of.get(name).cloned().unwrap_or_default(),
            rivals: same
                .filter(|other| other.metadata.name.as_deref() != Some(name))
                .map(|one| Arc::clone(one))
                .collect(),
        });
    };
    for claim in &objects.claims {
        let status = claim.status.as_ref();
        let nodes = status.and_then(|status| by_provider.get(status.provider_id.as_deref()?));
        // Of several Nodes the one that was registered, else the first by name.
        let registered = status.and_then(|status| status.node_name.as_ref());
        let mut node = nodes.and_then(|nodes| {
            nodes.iter().find(|node| node.metadata.name.as_ref() == registered).or_else(|| nodes.first()).copied()
        });
        if status.is_none_or(|status| status.provider_id.is_none()) {
            let pool = pool_of(claim.labels());
            let namesake = claim.metadata.name.as_deref().and_then(|name| by_name.get(name)).copied();
            node = namesake.filter(|node| pool.is_some() && pool_of(node.labels()) == pool);
            unrecorded.extend(pool.filter(|_| node.is_none()));
        }
        if let Some(name) = node.and_then(|node| node.metadata.name.as_deref()) {
            claimed.insert(name);
        }
        member(Some(claim), node);
    }
    for node in &objects.nodes {
        let is_claimed = claimed.contains(node.metadata.name.as_deref().unwrap_or_default());
        let may_be_claimed = || is_new(node) && pool_of(node.labels()).is_some_and(|pool| unrecorded.contains(&pool));
        if !is_claimed && !may_be_claimed() {
            member(None, Some(node));
        }
    }
    members
}

/// Whether nobody has looked at a Node of a pool since it joined: what it stands for may not be on record yet.
fn is_new(node: &Node) -> bool {
    let labelled = |key: &str| node.labels().get(key).is_some_and(|value| value == "true");
    let kept = node.finalizers().iter().any(|finalizer| finalizer == names::FINALIZER);
    !kept && !labelled(names::REGISTERED) && !labelled(names::INITIALIZED)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const POOL: &str = "karpenter.sh/nodepool";

    fn claim(name: &str, pool: &str, provider_id: Option<&str>) -> Value {
        json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": name, "uid": name, "labels": { POOL: pool } },
            "spec": { "nodeClassRef": { "group": "g", "kind": "K", "name": "c" }, "requirements": [] },
            "status": { "providerID": provider_id } })
    }

    fn node(name: &str, provider_id: &str, labels: &Value) -> Value {
        json!({ "metadata": { "name": name, "labels": labels }, "spec": { "providerID": provider_id } })
    }

    /// `claim/node` of every member.
    fn check(claims: &[Value], nodes: &[Value], expected: &[&str]) {
        let claims = claims.iter().map(|one| Arc::new(serde_json::from_value(one.clone()).unwrap())).collect();
        let nodes = nodes.iter().map(|one| Arc::new(serde_json::from_value(one.clone()).unwrap())).collect();
        let world = World::new(Objects { nodes, claims, ..Objects::default() });
        let said = world.members.iter().map(|member| {
            let claim = member.claim.as_ref().map_or("-".to_owned(), |claim| claim.name_any());
            format!("{claim}/{}", member.node.as_ref().map_or("-".to_owned(), |node| node.name_any()))
        });
        assert_eq!(said.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_node_that_has_its_claims_name_is_the_same_machine_before_that_is_recorded() {
        check(&[claim("a", "p", None)], &[node("a", "kwok://a", &json!({ POOL: "p" }))], &["a/a"]);
        check(&[claim("a", "p", None)], &[node("a", "kwok://a", &json!({ POOL: "q" }))], &["a/-", "-/a"]);
    }

    #[test]
    fn a_new_node_of_a_pool_waits_for_the_claim_that_may_name_it() {
        let new = node("ip-1", "aws:///z/i-1", &json!({ POOL: "p" }));
        check(&[claim("a", "p", None)], std::slice::from_ref(&new), &["a/-"]);
        check(&[claim("a", "p", Some("aws:///z/i-1"))], std::slice::from_ref(&new), &["a/ip-1"]);
        check(&[claim("a", "p", Some("aws:///z/i-2"))], std::slice::from_ref(&new), &["a/-", "-/ip-1"]);
        check(&[claim("a", "q", None)], std::slice::from_ref(&new), &["a/-", "-/ip-1"]);
    }

    #[test]
    fn a_node_that_was_known_or_is_nobodys_is_not_held_back() {
        let known = node("ip-1", "aws:///z/i-1", &json!({ POOL: "p", "karpenter.sh/registered": "true" }));
        let foreign = node("ip-2", "aws:///z/i-2", &json!({}));
        check(&[claim("a", "p", None)], &[known, foreign], &["a/-", "-/ip-1", "-/ip-2"]);
    }
}
