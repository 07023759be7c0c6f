//! Labels compared as Kubernetes compares them, on nodes there are and on nodes that may become several things.

use std::{borrow::Cow, collections::BTreeMap};

use requirements::{Operator, Requirement, RequirementTerm, labels};

use super::violation::LabelDemand;
use crate::{InstanceType, NewNode, Node, OfferingKey, Pod, Pool};

/// A value no label can have: the name of a node which has none yet.
const UNKNOWN: &str = "\u{0}";

/// What is known of one label of one node.
#[derive(Clone, Debug)]
pub(super) enum Label<'a> {
    /// It is not there.
    Absent,
    /// It is this.
    Is(&'a str),
    /// It will satisfy this, and nothing decides how.
    Within(Cow<'a, Requirement>),
}

/// The labels of a node there is, by their present names.
#[derive(Debug)]
pub(super) struct Present<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Present<'a> {
    pub(super) fn new(node: &'a Node) -> Self {
        let mut all: BTreeMap<&str, &str> =
            node.labels.iter().map(|(key, value)| (labels::normalize(key), value.as_str())).collect();
        all.entry(labels::HOSTNAME).or_insert(&node.key.0);
        all.insert(labels::NODE_NAME, &node.key.0);
        Self(all)
    }
}

/// The labels of a new node, if this is what is bought.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    pub(super) node: &'a NewNode,
    /// The labels that are set on it, by their present names.
    pub(super) set: BTreeMap<&'a str, &'a str>,
    pub(super) machine: Option<&'a InstanceType>,
    pub(super) offering: &'a OfferingKey,
}

/// The labels of any node of a pool, if this is what is bought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Possible<'a> {
    pub(super) pool: &'a Pool,
    pub(super) machine: &'a InstanceType,
    pub(super) zone: &'a str,
    pub(super) capacity_type: &'a str,
}

impl Possible<'_> {
    /// Whether the labels that the pool sets are true of what is bought: a pool whose labels name a zone has nodes there alone.
    pub(super) fn is_as_labelled(&self) -> bool {
        self.pool.labels.iter().all(|(key, value)| match labels::normalize(key) {
            labels::ZONE => self.zone == value,
            labels::INSTANCE_TYPE => self.machine.name == *value,
            labels::CAPACITY_TYPE => self.capacity_type == value,
            key => self.machine.requirements.get(key).is_none_or(|can| can.allows(Some(value))),
        })
    }
}

/// Where labels are looked up.
pub(super) trait Labels {
    /// What is known of the label; the key may be an old name.
    fn label(&self, key: &str) -> Label<'_>;
}

impl Labels for Present<'_> {
    fn label(&self, key: &str) -> Label<'_> {
        self.0.get(labels::normalize(key)).map_or(Label::Absent, |value| Label::Is(value))
    }
}

impl Labels for Planned<'_> {
    fn label(&self, key: &str) -> Label<'_> {
        let key = labels::normalize(key);
        match key {
            labels::ZONE => return Label::Is(&self.offering.zone),
            labels::INSTANCE_TYPE => return Label::Is(&self.offering.instance_type),
            labels::CAPACITY_TYPE => return Label::Is(self.offering.capacity_type.as_str()),
            labels::INITIALIZED | labels::REGISTERED => return Label::Is("true"),
            labels::HOSTNAME | labels::NODE_NAME => return Label::Is(UNKNOWN),
            _ => {}
        }
        if let Some(value) = self.set.get(key) {
            return Label::Is(value);
        }
        let Some(can) = self.machine.and_then(|machine| machine.requirements.get(key)) else { return Label::Absent };
        // Where the machine leaves a choice, the node's requirements make it.
        match self.node.requirements.get(key) {
            Some(wanted) if can.single().is_none() => known(Cow::Owned(can.intersect(wanted))),
            _ => known(Cow::Borrowed(can)),
        }
    }
}

impl Labels for Possible<'_> {
    fn label(&self, key: &str) -> Label<'_> {
        let key = labels::normalize(key);
        match key {
            labels::ZONE => return Label::Is(self.zone),
            labels::INSTANCE_TYPE => return Label::Is(&self.machine.name),
            labels::CAPACITY_TYPE => return Label::Is(self.capacity_type),
            labels::INITIALIZED | labels::REGISTERED => return Label::Is("true"),
            labels::HOSTNAME | labels::NODE_NAME => return Label::Is(UNKNOWN),
            _ if key == self.pool.key.kind.label() => return Label::Is(&self.pool.key.name),
            _ => {}
        }
        let set = self.pool.labels.iter().find(|(name, _)| labels::normalize(name) == key);
        if let Some((_, value)) = set {
            return Label::Is(value);
        }
        match (self.machine.requirements.get(key), self.pool.requirements.get(key)) {
            (Some(can), Some(wanted)) => known(Cow::Owned(can.intersect(wanted))),
            (Some(can), None) => known(Cow::Borrowed(can)),
            // A label that no machine has, but the pool promises: it is set on the node.
            (None, Some(wanted)) if !wanted.may_be_absent() => known(Cow::Borrowed(wanted)),
            (None, _) => Label::Absent,
        }
    }
}

fn known(requirement: Cow<'_, Requirement>) -> Label<'_> {
    match &requirement {
        Cow::Borrowed(one) if one.single().is_some() => Label::Is(one.single().unwrap_or_default()),
        _ => Label::Within(requirement),
    }
}

impl Label<'_> {
    /// Every value it may have; `None` if they are not known.
    pub(super) fn values(&self) -> Option<Vec<String>> {
        match self {
            Self::Absent => Some(Vec::new()),
            Self::Is(value) => Some(vec![(*value).to_owned()]),
            Self::Within(requirement) => requirement.finite().map(|values| values.iter().cloned().collect()),
        }
    }

    /// Whether the label is there for certain.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Absent => false,
            Self::Is(_) => true,
            Self::Within(requirement) => !requirement.may_be_absent() && !requirement.is_empty(),
        }
    }

    /// Whether the term holds, whatever the label comes to be.
    fn always(&self, term: &RequirementTerm) -> bool {
        match self {
            Self::Absent => holds(term, None),
            Self::Is(value) => holds(term, Some(value)),
            Self::Within(requirement) => {
                let absence = !requirement.may_be_absent() || holds(term, None);
                match requirement.finite() {
                    Some(values) => absence && values.iter().all(|value| holds(term, Some(value))),
                    None => absence && term.operator == Operator::Exists,
                }
            }
        }
    }

    /// Whether the term may come to hold.
    fn ever(&self, term: &RequirementTerm) -> bool {
        match self {
            Self::Absent | Self::Is(_) => self.always(term),
            Self::Within(requirement) => Requirement::try_from(term).is_ok_and(|wanted| wanted.overlaps(requirement)),
        }
    }

    /// Whether the requirement is met, whatever the label comes to be.
    pub(super) fn is_within(&self, wanted: &Requirement) -> bool {
        match self {
            Self::Absent => wanted.allows(None),
            Self::Is(value) => wanted.allows(Some(value)),
            Self::Within(requirement) => is_subset(requirement, wanted),
        }
    }

    /// Whether the requirement may come to be met.
    pub(super) fn may_be_within(&self, wanted: &Requirement) -> bool {
        match self {
            Self::Absent | Self::Is(_) => self.is_within(wanted),
            Self::Within(requirement) => requirement.overlaps(wanted),
        }
    }
}

/// Whether everything that satisfies the one satisfies the other.
pub(super) fn is_subset(one: &Requirement, other: &Requirement) -> bool {
    let plain = one.clone().with_min_values(None);
    plain.intersect(&other.clone().with_min_values(None)) == plain
}

/// What a pod demands of labels alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Demand<'a> {
    pub(super) selector: &'a BTreeMap<String, String>,
    pub(super) affinity: &'a [Vec<RequirementTerm>],
    pub(super) volumes: &'a [RequirementTerm],
}

impl<'a> Demand<'a> {
    pub(super) fn of(pod: &'a Pod) -> Self {
        Self { selector: &pod.node_selector, affinity: &pod.required_node_affinity, volumes: &pod.volume_zones }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.selector.is_empty() && self.affinity.is_empty() && self.volumes.is_empty()
    }

    /// The first of it that these labels may not satisfy.
    pub(super) fn unsatisfied(&self, labels: &impl Labels) -> Option<LabelDemand> {
        let differs = |(key, value): &(&String, &String)| !is(&labels.label(key), value);
        if let Some((key, value)) = self.selector.iter().find(differs) {
            return Some(LabelDemand::NodeSelector { key: key.clone(), value: value.clone() });
        }
        let fails = |term: &&RequirementTerm| !labels.label(&term.key).always(term);
        if let Some(term) = self.volumes.iter().find(fails) {
            return Some(LabelDemand::VolumeTopology { term: term.clone() });
        }
        (!self.affine(labels)).then_some(LabelDemand::NodeAffinity)
    }

    /// Whether the kube-scheduler sees a node that suits the pod: volumes are another matter.
    pub(super) fn suits(&self, labels: &impl Labels) -> bool {
        self.selector.iter().all(|(key, value)| is(&labels.label(key), value)) && self.affine(labels)
    }

    fn affine(&self, labels: &impl Labels) -> bool {
        let alternative = |terms: &Vec<RequirementTerm>| {
            !terms.is_empty() && terms.iter().all(|term| labels.label(&term.key).always(term))
        };
        self.affinity.is_empty() || self.affinity.iter().any(alternative)
    }

    /// Whether a node may come to suit the pod.
    pub(super) fn may_suit(&self, labels: &impl Labels) -> bool {
        let may = |term: &RequirementTerm| labels.label(&term.key).ever(term);
        self.selector.iter().all(|(key, value)| may(&equals(key, value)))
            && self.volumes.iter().all(may)
            && (self.affinity.is_empty()
                || self.affinity.iter().any(|terms| !terms.is_empty() && terms.iter().all(may)))
    }

    /// The values of the label on nodes with such labels that would do for the pod; none, if none would do.
    pub(super) fn values_that_suit(&self, labels: &impl Labels, key: &str) -> Vec<String> {
        if !self.may_suit(labels) {
            return Vec::new();
        }
        let key = labels::normalize(key);
        let same = |other: &str| labels::normalize(other) == key;
        let mut values = labels.label(key).values().unwrap_or_default();
        values.retain(|value| {
            let own = |term: &RequirementTerm| !same(&term.key) || holds(term, Some(value));
            self.selector.iter().all(|(key, wanted)| !same(key) || wanted == value)
                && self.volumes.iter().all(own)
                && (self.affinity.is_empty()
                    || self.affinity.iter().any(|terms| {
                        let may = |term: &RequirementTerm| labels.label(&term.key).ever(term) && own(term);
                        !terms.is_empty() && terms.iter().all(may)
                    }))
        });
        values
    }
}

fn is(label: &Label<'_>, wanted: &str) -> bool {
    match label {
        Label::Absent => false,
        Label::Is(value) => *value == wanted,
        Label::Within(requirement) => requirement.single() == Some(wanted),
    }
}

fn equals(key: &str, value: &str) -> RequirementTerm {
    RequirementTerm::new(key, Operator::In, [value])
}

fn holds(term: &RequirementTerm, value: Option<&str>) -> bool {
    let named = value.is_some_and(|value| term.values.iter().any(|one| one == value));
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
