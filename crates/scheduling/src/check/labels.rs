//! Labels compared as Kubernetes compares them, on labels that are known.

use std::collections::BTreeMap;

use requirements::{Operator, Requirement, RequirementTerm, labels};

use crate::{NewNode, Node, OfferingKey, Pod, Pool};

/// What one node's labels will be.
pub(super) type Labels = BTreeMap<String, String>;

/// A name no label can have: that of a node which has none yet.
const UNKNOWN: &str = "\u{0}";

/// The labels of a node there is.
pub(super) fn of_existing(node: &Node) -> Labels {
    let mut all: Labels =
        node.labels.iter().map(|(key, value)| (labels::normalize(key).to_owned(), value.clone())).collect();
    all.entry(labels::HOSTNAME.to_owned()).or_insert_with(|| node.key.0.clone());
    all
}

/// The labels of a new node, if this is what is bought.
pub(super) fn of_new(pool: &Pool, node: &NewNode, key: &OfferingKey) -> Labels {
    let machine = super::machine_of(pool, key);
    let of_machine = machine.iter().flat_map(|machine| machine.requirements.iter());
    // Where the machine leaves a choice, the node's requirements make it.
    let decided = |requirement: &Requirement| {
        let narrowed = node.requirements.get(requirement.key()).map(|wanted| requirement.intersect(wanted));
        narrowed.unwrap_or_else(|| requirement.clone()).example()
    };
    let mut all: Labels =
        of_machine.filter_map(|one| decided(one).map(|value| (one.key().to_owned(), value))).collect();
    all.extend(node.labels.iter().map(|(key, value)| (labels::normalize(key).to_owned(), value.clone())));
    for (key, value) in [
        (labels::ZONE, key.zone.as_str()),
        (labels::INSTANCE_TYPE, &key.instance_type),
        (labels::CAPACITY_TYPE, key.capacity_type.as_str()),
        (labels::INITIALIZED, "true"),
        (labels::REGISTERED, "true"),
        (labels::HOSTNAME, UNKNOWN),
    ] {
        all.insert(key.to_owned(), value.to_owned());
    }
    all
}

/// The first demand of the pod that these labels do not satisfy.
pub(super) fn unsatisfied(pod: &Pod, labels: &Labels) -> Option<String> {
    let differs = |(key, value): &(&String, &String)| labels.get(labels::normalize(key)) != Some(*value);
    if let Some((key, value)) = pod.node_selector.iter().find(differs) {
        return Some(format!("node selector {key}={value}"));
    }
    if let Some(term) = pod.volume_zones.iter().find(|term| !holds(term, labels)) {
        return Some(format!("volume topology {term}"));
    }
    let alternative = |terms: &Vec<RequirementTerm>| !terms.is_empty() && terms.iter().all(|term| holds(term, labels));
    let affine = pod.required_node_affinity.is_empty() || pod.required_node_affinity.iter().any(alternative);
    (!affine).then(|| "required node affinity".to_owned())
}

fn holds(term: &RequirementTerm, labels: &Labels) -> bool {
    let value = labels.get(labels::normalize(&term.key));
    let named = value.is_some_and(|value| term.values.contains(value));
    let compare = |fine: fn(i64, i64) -> bool| {
        let number = value.and_then(|value| value.parse().ok());
        let bound = term.values.first().and_then(|bound| bound.parse().ok());
        number.zip(bound).is_some_and(|(number, bound)| fine(number, bound))
    };
    match term.operator {
        Operator::In => named,
        Operator::NotIn => !named,
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
        Operator::Gt => compare(|number, bound| number > bound),
        Operator::Lt => compare(|number, bound| number < bound),
        Operator::Gte => compare(|number, bound| number >= bound),
        Operator::Lte => compare(|number, bound| number <= bound),
    }
}
