//! From a planned node to its claim, and from a claim to what is asked of the cloud. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::convert::{pool_of, taint};
use api::karpenter_v1::{NodeClaim, NodeClaimSpec, NodeClassRef, NodeRequirement, ResourceRequirements};
use cloud::{LaunchRequest, NodeClass};
use k8s_openapi::{
    api::core::v1::Taint as CoreTaint,
    apimachinery::pkg::{api::resource::Quantity as CoreQuantity, apis::meta::v1::OwnerReference},
};
use kube::ResourceExt as _;
use requirements::{Operator, Requirement, RequirementTerm, Requirements, labels};
use scheduling::{InstanceType, NewNode, OfferingKey, PricedOffering, Taint};
use sha2::{Digest as _, Sha256};
use units::{Quantity, ResourceList, ResourceName};

use crate::{
    names,
    plan::{Plan, PlannedOffering, PlannedPod},
};

/// What a pool adds to each of its claims.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The pool's object: its claims go when it goes, as in Karpenter.
    pub owner: OwnerReference,
    /// Where the cloud's settings are.
    pub class: NodeClassRef,
    /// Annotations of the pool's template.
    pub annotations: BTreeMap<String, String>,
    /// Longest drain, as the pool writes it.
    pub termination_grace_period: Option<String>,
    /// Longest life, as the pool writes it. Provisioners judge it live, so theirs is `Never`.
    pub expire_after: String,
}

/// Whether `found` is what became of `ours`: a claim that was created, or one that was sent and has no UID yet. What is
/// planned, and for whom, tells two claims apart that happen to have the same name.
pub fn is_same(found: &NodeClaim, ours: &NodeClaim) -> bool {
    match &ours.metadata.uid {
        Some(uid) => found.metadata.uid.as_ref() == Some(uid),
        None => {
            found.name_any() == ours.name_any()
                && found.annotations().get(names::PLAN) == ours.annotations().get(names::PLAN)
        }
    }
}

/// The claim for one planned node.
pub fn claim(node: &NewNode, frame: &Frame, pods: Vec<PlannedPod>, name: &str) -> NodeClaim {
    let plan = Plan {
        price_usd_micros_per_hour: node.price,
        reason: reason(node),
        pods,
        offerings: node.offerings.iter().cloned().map(PlannedOffering).collect(),
        capacity: node.capacity.clone(),
    };
    let wanted = requirements_of(node);
    let mut labels = node.labels.clone();
    for (key, value) in wanted.single_values() {
        if key != labels::HOSTNAME {
            labels.entry(key).or_insert(value);
        }
    }
    let requirements = wanted.to_terms().into_iter().map(|term| NodeRequirement {
        key: term.key,
        operator: term.operator.to_string(),
        values: term.values,
        min_values: term.min_values.and_then(|least| i32::try_from(least).ok()),
    });
    let spec = NodeClaimSpec {
        taints: node.taints.iter().map(core_taint).collect(),
        startup_taints: node.startup_taints.iter().map(core_taint).collect(),
        requirements: requirements.collect(),
        resources: Some(ResourceRequirements { requests: core_quantities(&node.requests) }),
        node_class_ref: frame.class.clone(),
        termination_grace_period: frame.termination_grace_period.clone(),
        expire_after: frame.expire_after.clone(),
    };
    let mut claim = NodeClaim::new(name, spec);
    let mut annotations = frame.annotations.clone();
    annotations.extend(plan.annotations());
    claim.metadata.labels = Some(labels);
    claim.metadata.annotations = Some(annotations);
    claim.metadata.owner_references = Some(vec![frame.owner.clone()]);
    claim.metadata.finalizers = Some(vec![names::FINALIZER.to_owned()]);
    claim
}

/// A name for a claim: the pool's, and five characters that depend on `seed`.
pub fn name(pool: &str, seed: &[&str]) -> String {
    // Names without vowels and look-alikes, as Kubernetes' own generated names.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // Node names go into labels, which hold 63 characters: 57, a dash and five.
    const POOL_CHARS: usize = 57;
    let mut hash = Sha256::new();
    for part in seed {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digest = hash.finalize();
    let suffix: String =
        digest.iter().take(5).map(|b| char::from(ALPHABET[usize::from(*b) % ALPHABET.len()])).collect();
    let pool = pool.get(..POOL_CHARS).unwrap_or(pool).trim_end_matches(['-', '.']);
    format!("{pool}-{suffix}")
}

/// What is asked of the cloud for a claim.
///
/// The offerings are those of its plan. A claim without a plan was made by hand: then every available offering of
/// `types` that its requirements allow, cheapest first.
pub fn launch_request(
    claim: &NodeClaim,
    class: NodeClass,
    kubelet: serde_json::Value,
    types: &[InstanceType],
) -> Result<LaunchRequest, String> {
    let pool = pool_of(claim.labels()).ok_or("metadata.labels: no label names a Provisioner or NodePool")?;
    let offerings = match Plan::of(claim) {
        Some(plan) => plan.offerings.into_iter().map(|PlannedOffering(offering)| offering).collect(),
        None => allowed_offerings(claim, types)?,
    };
    let requests = claim.spec.resources.as_ref().map(|r| resource_list(&r.requests)).transpose()?;
    Ok(LaunchRequest {
        claim_name: claim.name_any(),
        claim_uid: claim.metadata.uid.clone().unwrap_or_default(),
        pool,
        class,
        offerings,
        labels: claim.labels().clone(),
        taints: claim.spec.taints.iter().map(taint).collect::<Result<_, _>>()?,
        startup_taints: claim.spec.startup_taints.iter().map(taint).collect::<Result<_, _>>()?,
        kubelet,
        requests: requests.unwrap_or_default(),
    })
}

/// The requirements of a claim as values.
pub fn requirements(claim: &NodeClaim) -> Result<Requirements, String> {
    let term = |written: &NodeRequirement| {
        let operator: Operator = serde_json::from_value(serde_json::Value::String(written.operator.clone()))
            .map_err(|_| format!("spec.requirements: operator {:?} is unknown", written.operator))?;
        let mut term = RequirementTerm::new(&*written.key, operator, written.values.iter().cloned());
        term.min_values = written.min_values.and_then(|least| u32::try_from(least).ok());
        Ok(term)
    };
    let terms: Vec<RequirementTerm> = claim.spec.requirements.iter().map(term).collect::<Result<_, String>>()?;
    Requirements::try_from(terms.as_slice()).map_err(|error| format!("spec.requirements: {error}"))
}

/// Quantities as the API writes them.
pub fn core_quantities(list: &ResourceList) -> BTreeMap<String, CoreQuantity> {
    list.iter().map(|(name, amount)| (name.to_string(), CoreQuantity(Quantity::of(name, amount).to_string()))).collect()
}

/// Quantities as amounts, rounded up.
pub fn resource_list(quantities: &BTreeMap<String, CoreQuantity>) -> Result<ResourceList, String> {
    quantities
        .iter()
        .map(|(name, quantity)| {
            let name = ResourceName::new(name.as_str());
            let amount = quantity
                .0
                .parse::<Quantity>()
                .map_err(|error| format!("{name}: {error}"))?
                .to_amount_ceil(&name)
                .map_err(|error| format!("{name}: {error}"))?;
            Ok((name, amount))
        })
        .collect()
}

fn core_taint(taint: &Taint) -> CoreTaint {
    CoreTaint {
        key: taint.key.clone(),
        value: (!taint.value.is_empty()).then(|| taint.value.clone()),
        effect: taint.effect.to_string(),
        time_added: None,
    }
}

/// The planned node's requirements, with type, zone and capacity type narrowed to its offerings.
fn requirements_of(node: &NewNode) -> Requirements {
    let mut all = node.requirements.clone();
    let mut narrow = |key: &str, value: fn(&OfferingKey) -> &str| {
        let values: BTreeSet<&str> = node.offerings.iter().map(|offering| value(&offering.key)).collect();
        all.replace(Requirement::one_of(key, values));
    };
    narrow(labels::INSTANCE_TYPE, |key| &key.instance_type);
    narrow(labels::ZONE, |key| &key.zone);
    narrow(labels::CAPACITY_TYPE, |key| key.capacity_type.as_str());
    all
}

fn reason(node: &NewNode) -> String {
    let count = node.pods.len();
    let noun = if count == 1 { "pod fits" } else { "pods fit" };
    let why: Vec<String> = node.why.iter().map(ToString::to_string).collect();
    let mut text = format!("{count} {noun} on no node there is or under way");
    if !why.is_empty() {
        text.push_str("; ");
        text.push_str(&why.join("; "));
    }
    text
}

fn allowed_offerings(claim: &NodeClaim, types: &[InstanceType]) -> Result<Vec<PricedOffering>, String> {
    let wanted = requirements(claim)?;
    let allows = |key: &str, value: &str| wanted.get(key).is_none_or(|requirement| requirement.allows(Some(value)));
    let mut all: Vec<PricedOffering> = types
        .iter()
        .filter(|kind| allows(labels::INSTANCE_TYPE, &kind.name) && kind.requirements.compatible(&wanted).is_ok())
        .flat_map(|kind| {
            let fits = kind.offerings.iter().filter(|offering| {
                offering.available
                    && allows(labels::ZONE, &offering.zone)
                    && allows(labels::CAPACITY_TYPE, offering.capacity_type.as_str())
            });
            fits.map(|offering| PricedOffering {
                key: OfferingKey {
                    instance_type: kind.name.clone(),
                    zone: offering.zone.clone(),
                    capacity_type: offering.capacity_type,
                },
                price: offering.price,
            })
        })
        .collect();
    all.sort_by(|a, b| (a.price, &a.key).cmp(&(b.price, &b.key)));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use scheduling::{CapacityType, PodKey, PoolKey, PoolKind, TaintEffect};
    use units::{Amount, UsdMicrosPerHour};

    use super::*;

    fn offering(kind: &str, zone: &str, price: i64) -> PricedOffering {
        PricedOffering {
            key: OfferingKey {
                instance_type: kind.to_owned(),
                zone: zone.to_owned(),
                capacity_type: CapacityType::OnDemand,
            },
            price: UsdMicrosPerHour(price),
        }
    }

    fn planned() -> NewNode {
        NewNode {
            pool: PoolKey { kind: PoolKind::Provisioner, name: "default".to_owned() },
            requirements: Requirements::from_iter([Requirement::one_of("team", ["a"])]),
            offerings: vec![offering("m5.large", "z1", 96_000), offering("m5a.large", "z1", 97_000)],
            labels: BTreeMap::from([(names::PROVISIONER_NAME.to_owned(), "default".to_owned())]),
            taints: vec![Taint { key: "t".to_owned(), value: "v".to_owned(), effect: TaintEffect::NoSchedule }],
            startup_taints: Vec::new(),
            requests: ResourceList::new().with(ResourceName::cpu(), Amount(1500)),
            capacity: ResourceList::new().with(ResourceName::cpu(), Amount(2000)),
            pods: vec![PodKey::new("d", "p")],
            price: UsdMicrosPerHour(96_000),
            why: Vec::new(),
        }
    }

    fn frame() -> Frame {
        Frame {
            owner: OwnerReference { name: "default".to_owned(), uid: "p".to_owned(), ..OwnerReference::default() },
            class: NodeClassRef { group: "karpenter.k8s.aws".into(), kind: "AWSNodeTemplate".into(), name: "t".into() },
            annotations: BTreeMap::from([("mine".to_owned(), "kept".to_owned())]),
            termination_grace_period: None,
            expire_after: "Never".to_owned(),
        }
    }

    fn class() -> NodeClass {
        NodeClass {
            group: String::new(),
            kind: String::new(),
            name: String::new(),
            uid: String::new(),
            spec: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_claim_says_everything_its_launch_needs() {
        let pod = PlannedPod { namespace: "d".to_owned(), name: "p".to_owned(), uid: "u".to_owned() };
        let claim = claim(&planned(), &frame(), vec![pod], "default-abcde");
        assert_eq!(claim.finalizers(), [names::FINALIZER]);
        assert_eq!(claim.labels()["team"], "a");
        assert_eq!(claim.labels()[labels::ZONE], "z1", "what is decided shows as a label");
        assert!(!claim.labels().contains_key(labels::INSTANCE_TYPE), "what is open does not");
        assert_eq!(claim.annotations()["mine"], "kept");
        assert_eq!(claim.owner_references()[0].uid, "p");

        let request = launch_request(&claim, class(), serde_json::Value::Null, &[]).unwrap();
        assert_eq!(request.offerings, planned().offerings);
        assert_eq!(request.taints, planned().taints);
        assert_eq!(request.requests, planned().requests);
        assert_eq!(request.pool, planned().pool);
        assert_eq!(request.claim_name, "default-abcde");
        let types = requirements(&claim).unwrap();
        let types = types.get(labels::INSTANCE_TYPE).unwrap();
        assert!(types.allows(Some("m5a.large")) && !types.allows(Some("m5.xlarge")));
    }

    #[test]
    fn a_claim_made_by_hand_takes_the_cheapest_offerings_it_allows() {
        let mut claim = claim(&planned(), &frame(), Vec::new(), "c");
        claim.metadata.annotations = None;
        let mut types = Vec::new();
        for (name, price, available) in [("m5a.large", 97, true), ("m5.large", 96, true), ("m5.xlarge", 1, true)] {
            types.push(InstanceType {
                name: name.to_owned(),
                requirements: Requirements::from_iter([Requirement::one_of("team", ["a"])]),
                capacity: ResourceList::new(),
                overhead: ResourceList::new(),
                offerings: vec![
                    scheduling::Offering {
                        zone: "z1".to_owned(),
                        capacity_type: CapacityType::OnDemand,
                        price: UsdMicrosPerHour(price),
                        available,
                        remaining: None,
                    },
                    scheduling::Offering {
                        zone: "z1".to_owned(),
                        capacity_type: CapacityType::Spot,
                        price: UsdMicrosPerHour(0),
                        available,
                        remaining: None,
                    },
                ],
            });
        }
        let request = launch_request(&claim, class(), serde_json::Value::Null, &types).unwrap();
        assert_eq!(request.offerings, [offering("m5.large", "z1", 96), offering("m5a.large", "z1", 97)]);
    }

    #[test]
    fn names_are_legal_and_depend_on_the_seed() {
        let first = name("default", &["uid-1", "7"]);
        assert!(first.starts_with("default-") && first.len() == "default-".len() + 5, "{first}");
        assert_eq!(first, name("default", &["uid-1", "7"]));
        assert_ne!(first, name("default", &["uid-1", "8"]));
        assert!(name(&"x".repeat(200), &[]).len() <= 63);
    }
}
