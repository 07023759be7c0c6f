//! Machines as Nodes, and back.

use std::collections::BTreeMap;

use cloud::{LaunchRequest, Machine, MachineState};
use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, NodeSystemInfo, Taint as NodeTaint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as NodeQuantity;
use kube::api::ObjectMeta;
use requirements::labels::{ARCH, CAPACITY_TYPE, HOSTNAME, INSTANCE_TYPE, UNREGISTERED_TAINT, ZONE};
use scheduling::{CapacityType, InstanceType, OfferingKey, Taint};
use units::{Quantity, ResourceList, ResourceName};

/// Label on every Node that is one of our machines, value `true`.
pub(crate) const MACHINE_LABEL: &str = "tandem.dev/kwok-machine";
/// Annotation: the machine is gone, whatever keeps its Node.
pub(crate) const TERMINATED_ANNOTATION: &str = "tandem.dev/kwok-terminated";
/// Annotation by which KWOK knows the Nodes it keeps alive.
const KWOK_ANNOTATION: &str = "kwok.x-k8s.io/node";
const CLAIM_ANNOTATION: &str = "tandem.dev/nodeclaim";
const UID_ANNOTATION: &str = "tandem.dev/nodeclaim-uid";
const LAUNCHED_ANNOTATION: &str = "tandem.dev/launched-at";

const PROVIDER: &str = "kwok://";

/// `kwok://<name>`
pub(crate) fn provider_id(name: &str) -> String {
    format!("{PROVIDER}{name}")
}

/// The name in a provider id of ours.
pub(crate) fn name_in(provider_id: &str) -> Option<&str> {
    provider_id.strip_prefix(PROVIDER).filter(|name| !name.is_empty())
}

/// The machine a launch grants.
pub(crate) fn granted(
    request: &LaunchRequest,
    key: &OfferingKey,
    instance_type: &InstanceType,
    now: jiff::Timestamp,
) -> Machine {
    let mut labels = instance_type.requirements.single_values();
    labels.insert(ZONE.to_owned(), key.zone.clone());
    labels.insert(CAPACITY_TYPE.to_owned(), key.capacity_type.to_string());
    labels.insert(request.pool.kind.label().to_owned(), request.pool.name.clone());
    Machine {
        provider_id: provider_id(&request.claim_name),
        claim_name: Some(request.claim_name.clone()),
        claim_uid: Some(request.claim_uid.clone()),
        instance_type: key.instance_type.clone(),
        zone: key.zone.clone(),
        capacity_type: key.capacity_type,
        image_id: None,
        state: MachineState::Pending,
        launched_at: Some(now),
        capacity: instance_type.capacity.clone(),
        allocatable: instance_type.allocatable(),
        labels,
    }
}

/// The Node as the machine's kubelet would register it. `extra` are labels for whoever keeps the Node alive.
pub(crate) fn node(machine: &Machine, request: &LaunchRequest, extra: &BTreeMap<String, String>) -> Node {
    let name = request.claim_name.clone();
    let mut labels = request.labels.clone();
    labels.extend(machine.labels.clone());
    labels.extend(extra.clone());
    labels.insert(HOSTNAME.to_owned(), name.clone());
    labels.insert(MACHINE_LABEL.to_owned(), "true".to_owned());
    let mut annotations = BTreeMap::from([
        (KWOK_ANNOTATION.to_owned(), "fake".to_owned()),
        (CLAIM_ANNOTATION.to_owned(), name.clone()),
        (UID_ANNOTATION.to_owned(), request.claim_uid.clone()),
    ]);
    annotations.extend(machine.launched_at.map(|at| (LAUNCHED_ANNOTATION.to_owned(), at.to_string())));
    let mut taints: Vec<NodeTaint> = request.taints.iter().chain(&request.startup_taints).map(taint).collect();
    // As Karpenter's KWOK nodes: closed until they are registered.
    taints.push(NodeTaint {
        key: UNREGISTERED_TAINT.to_owned(),
        value: None,
        effect: "NoExecute".to_owned(),
        time_added: None,
    });
    Node {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec {
            provider_id: Some(machine.provider_id.clone()),
            taints: Some(taints),
            ..NodeSpec::default()
        }),
        status: Some(NodeStatus {
            capacity: Some(quantities(&machine.capacity)),
            allocatable: Some(quantities(&machine.allocatable)),
            node_info: Some(NodeSystemInfo {
                architecture: machine.labels.get(ARCH).cloned().unwrap_or_default(),
                operating_system: "linux".to_owned(),
                kubelet_version: "kwok".to_owned(),
                ..NodeSystemInfo::default()
            }),
            ..NodeStatus::default()
        }),
    }
}

/// The machine of a Node; `None` if the Node is not one of ours or its machine is gone.
pub(crate) fn read(node: &Node) -> Option<Machine> {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    let annotations = node.metadata.annotations.as_ref().unwrap_or(&empty);
    if labels.get(MACHINE_LABEL).map(String::as_str) != Some("true") || annotations.contains_key(TERMINATED_ANNOTATION)
    {
        return None;
    }
    let status = node.status.as_ref();
    Some(Machine {
        provider_id: provider_id(node.metadata.name.as_deref()?),
        claim_name: annotations.get(CLAIM_ANNOTATION).cloned(),
        claim_uid: annotations.get(UID_ANNOTATION).cloned(),
        instance_type: labels.get(INSTANCE_TYPE)?.clone(),
        zone: labels.get(ZONE)?.clone(),
        capacity_type: labels.get(CAPACITY_TYPE)?.parse::<CapacityType>().ok()?,
        image_id: None,
        state: MachineState::Running,
        launched_at: annotations.get(LAUNCHED_ANNOTATION).and_then(|at| at.parse().ok()),
        capacity: amounts(status.and_then(|status| status.capacity.as_ref())),
        allocatable: amounts(status.and_then(|status| status.allocatable.as_ref())),
        labels: labels.clone(),
    })
}

fn taint(taint: &Taint) -> NodeTaint {
    NodeTaint {
        key: taint.key.clone(),
        value: Some(taint.value.clone()).filter(|value| !value.is_empty()),
        effect: taint.effect.to_string(),
        time_added: None,
    }
}

fn quantities(list: &ResourceList) -> BTreeMap<String, NodeQuantity> {
    list.iter().map(|(name, amount)| (name.to_string(), NodeQuantity(Quantity::of(name, amount).to_string()))).collect()
}

/// What does not parse is left out: a Node that people changed by hand still is a machine.
fn amounts(quantities: Option<&BTreeMap<String, NodeQuantity>>) -> ResourceList {
    quantities
        .into_iter()
        .flatten()
        .filter_map(|(name, text)| {
            let name = ResourceName::new(name.as_str());
            let amount = text.0.parse::<Quantity>().ok()?.to_amount_floor(&name).ok()?;
            Some((name, amount))
        })
        .collect()
}
