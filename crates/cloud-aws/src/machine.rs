//! EC2's instances as machines, and the tags that tie them to claims.

use std::collections::BTreeMap;

use aws_sdk_ec2::types::{Instance, InstanceLifecycleType};
use cloud::{LaunchRequest, Machine, MachineState};
use requirements::labels::{CAPACITY_TYPE, NODEPOOL, PROVISIONER_NAME, REGION, ZONE};
use scheduling::{CapacityType, OfferingKey, PoolKind};
use units::ResourceList;

use crate::class::{Class, Generation};
use crate::labels;
use crate::settings::Settings;
use crate::type_info::TypeInfo;

/// Tag: name of the claim, as Karpenter 1 has it.
pub(crate) const CLAIM_TAG: &str = "karpenter.sh/nodeclaim";
/// Tag: name of the claim, ours.
pub(crate) const OWN_CLAIM_TAG: &str = "tandem.dev/nodeclaim";
/// Tag: UID of the claim. What finds a machine again after a crash.
pub(crate) const UID_TAG: &str = "tandem.dev/nodeclaim-uid";

/// Tag: UID of the cluster. What tells clusters of one name in one account apart.
pub(crate) const CLUSTER_UID_TAG: &str = "tandem.dev/cluster-uid";

/// The tag that marks everything of clusters of this name; its value is `owned`.
pub(crate) fn cluster_tag(cluster: &str) -> String {
    format!("kubernetes.io/cluster/{cluster}")
}

/// Tags of a machine. The operator's come first, the class's win over them, and what identifies the machine wins over
/// all; `Name` may be anyone's.
pub(crate) fn tags(request: &LaunchRequest, class: &Class, settings: &Settings) -> BTreeMap<String, String> {
    let pool = &request.pool;
    let mut tags = BTreeMap::from([("Name".to_owned(), format!("{}/{}", pool.kind.label(), pool.name))]);
    tags.extend(settings.tags.clone());
    tags.extend(class.tags.clone());
    tags.insert(pool.kind.label().to_owned(), pool.name.clone());
    tags.extend(shared_tags(class, &request.class.name, settings));
    for key in [CLAIM_TAG, OWN_CLAIM_TAG] {
        tags.insert(key.to_owned(), request.claim_name.clone());
    }
    tags.insert(UID_TAG.to_owned(), request.claim_uid.clone());
    tags
}

/// Tags that are the same for every machine of a class; also on its launch templates.
pub(crate) fn shared_tags(class: &Class, class_name: &str, settings: &Settings) -> BTreeMap<String, String> {
    let mut tags = settings.tags.clone();
    tags.extend(class.tags.clone());
    tags.insert(cluster_tag(&settings.cluster_name), "owned".to_owned());
    tags.insert(CLUSTER_UID_TAG.to_owned(), settings.cluster_uid.clone());
    if class.generation == Generation::V1 {
        tags.insert("eks:eks-cluster-name".to_owned(), settings.cluster_name.clone());
        tags.insert("karpenter.k8s.aws/ec2nodeclass".to_owned(), class_name.to_owned());
    }
    tags
}

/// `aws:///us-east-1a/i-0123`, as the cloud controller writes it into `spec.providerID`.
pub(crate) fn provider_id(zone: &str, instance_id: &str) -> String {
    format!("aws:///{zone}/{instance_id}")
}

/// The instance id in a provider id; `None` if it is not one of EC2's.
pub(crate) fn instance_id(provider_id: &str) -> Option<&str> {
    let (_, id) = provider_id.strip_prefix("aws:///")?.split_once('/')?;
    let digits = id.strip_prefix("i-")?;
    (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
}

/// Labels of a machine of this type, bought as this offering.
pub(crate) fn labels(
    info: Option<&TypeInfo>,
    key: &OfferingKey,
    region: &str,
    generation: Generation,
    pods: i64,
) -> BTreeMap<String, String> {
    let mut all = info.map(|info| labels::of_type(info, generation, pods)).unwrap_or_default();
    if pods == 0 {
        // Not known here; better no label than a wrong one.
        all.remove("karpenter.k8s.aws/instance-pods");
    }
    all.insert(ZONE.to_owned(), key.zone.clone());
    all.insert(REGION.to_owned(), region.to_owned());
    all.insert(CAPACITY_TYPE.to_owned(), key.capacity_type.to_string());
    all
}

/// A machine out of EC2's record; `None` for records that lack what every instance has.
///
/// Capacity is empty: it depends on the class, which the record does not hold.
pub(crate) fn read(instance: &Instance, types: &BTreeMap<String, TypeInfo>, region: &str) -> Option<Machine> {
    let tag = |wanted: &str| {
        instance.tags().iter().find(|tag| tag.key() == Some(wanted)).and_then(|tag| tag.value()).map(str::to_owned)
    };
    let zone = instance.placement()?.availability_zone()?.to_owned();
    let instance_type = instance.instance_type()?.as_str().to_owned();
    let capacity_type = match instance.instance_lifecycle() {
        Some(InstanceLifecycleType::Spot) => CapacityType::Spot,
        _ => CapacityType::OnDemand,
    };
    let key = OfferingKey { instance_type, zone, capacity_type };
    let kind = [PoolKind::Provisioner, PoolKind::NodePool].into_iter().find(|kind| tag(kind.label()).is_some());
    let generation = if kind == Some(PoolKind::NodePool) { Generation::V1 } else { Generation::V1Alpha5 };
    let mut labels = labels(types.get(&key.instance_type), &key, region, generation, 0);
    for pool in [PROVISIONER_NAME, NODEPOOL] {
        labels.extend(tag(pool).map(|name| (pool.to_owned(), name)));
    }
    Some(Machine {
        provider_id: provider_id(&key.zone, instance.instance_id()?),
        claim_name: tag(OWN_CLAIM_TAG).or_else(|| tag(CLAIM_TAG)),
        claim_uid: tag(UID_TAG),
        instance_type: key.instance_type,
        zone: key.zone,
        capacity_type,
        image_id: instance.image_id().map(str::to_owned),
        state: state(instance.state()?.name()?.as_str())?,
        launched_at: instance.launch_time().and_then(|at| jiff::Timestamp::from_second(at.secs()).ok()),
        capacity: ResourceList::new(),
        allocatable: ResourceList::new(),
        labels,
    })
}

/// EC2's states. A stopped instance is still rented, so it counts as running: it is there until somebody terminates it.
fn state(name: &str) -> Option<MachineState> {
    match name {
        "pending" => Some(MachineState::Pending),
        "running" | "stopping" | "stopped" => Some(MachineState::Running),
        "shutting-down" => Some(MachineState::Stopping),
        "terminated" => Some(MachineState::Terminated),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{InstanceState, InstanceStateName, InstanceType, Placement, Tag};
    use scheduling::PoolKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::class::tests::template;

    #[test]
    fn a_stopped_instance_is_still_rented_and_one_that_shuts_down_is_on_its_way() {
        assert_eq!(state("stopped"), Some(MachineState::Running));
        assert_eq!(state("stopping"), Some(MachineState::Running));
        assert_eq!(state("shutting-down"), Some(MachineState::Stopping));
    }

    #[test]
    fn provider_ids_are_read_back_and_nothing_else_is() {
        assert_eq!(instance_id(&provider_id("us-east-1a", "i-0abc")), Some("i-0abc"));
        for other in ["", "nonsense", "aws:///us-east-1a/", "aws:///us-east-1a/i-", "kwok://i-0", "aws:///z/i-x;y"] {
            assert_eq!(instance_id(other), None, "{other}");
        }
    }

    #[test]
    fn an_instance_carries_its_claim_in_its_tags() {
        let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
        let instance = Instance::builder()
            .instance_id("i-1")
            .instance_type(InstanceType::M5Large)
            .placement(Placement::builder().availability_zone("us-east-1a").build())
            .state(InstanceState::builder().name(InstanceStateName::Running).build())
            .tags(tag(UID_TAG, "u"))
            .tags(tag(CLAIM_TAG, "c"))
            .tags(tag(PROVISIONER_NAME, "default"))
            .build();
        let machine = read(&instance, &BTreeMap::new(), "us-east-1").expect("is a machine");
        assert_eq!((machine.claim_uid.as_deref(), machine.claim_name.as_deref()), (Some("u"), Some("c")));
        assert_eq!(machine.labels[PROVISIONER_NAME], "default");
        assert_eq!((machine.capacity_type, machine.state), (CapacityType::OnDemand, MachineState::Running));
    }

    #[test]
    fn identity_cannot_be_overwritten_and_the_name_can() {
        let mut class = template();
        class.tags = BTreeMap::from([("Name".to_owned(), "mine".to_owned()), (UID_TAG.to_owned(), "x".to_owned())]);
        class.tags.insert(CLUSTER_UID_TAG.to_owned(), "x".to_owned());
        let request = LaunchRequest {
            claim_name: "c".to_owned(),
            claim_uid: "u".to_owned(),
            pool: PoolKey { kind: PoolKind::Provisioner, name: "default".to_owned() },
            class: cloud::NodeClass {
                group: String::new(),
                kind: "AWSNodeTemplate".to_owned(),
                name: "t".to_owned(),
                uid: "t".to_owned(),
                spec: json!({}),
            },
            offerings: Vec::new(),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            startup_taints: Vec::new(),
            kubelet: Value::Null,
            requests: ResourceList::new(),
        };
        let tags = tags(&request, &class, &Settings::new("cluster", "cluster-uid", "https://c", "1.28"));
        assert_eq!((tags["Name"].as_str(), tags[UID_TAG].as_str()), ("mine", "u"));
        assert_eq!(tags["kubernetes.io/cluster/cluster"], "owned");
        assert_eq!(tags[CLUSTER_UID_TAG], "cluster-uid");
        assert_eq!(tags["karpenter.sh/provisioner-name"], "default");
        assert_eq!((tags[CLAIM_TAG].as_str(), tags[OWN_CLAIM_TAG].as_str()), ("c", "c"));
    }
}
