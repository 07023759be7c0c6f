//! Provisioners and NodePools: what nodes may be made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use requirements::{Operator, Requirement, RequirementTerm, Requirements, labels};
use scheduling::{PoolKey, PoolKind, Taint};
use serde_json::Value;
use units::ResourceList;

use super::affinity::operator;
use super::{INLINE_CLASS, SpanOrNever, TEMPLATE_CLASS, node, parse_duration, quantities_floor};
use crate::FieldError;
use crate::karpenter_v1::{NodeClassRef, NodePool, NodeRequirement};
use crate::karpenter_v1alpha5::Provisioner;

/// A pool as its object describes it; instance types and what is used come from elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolTemplate {
    /// Which pool.
    pub key: PoolKey,
    /// Pools of larger weight are tried first.
    pub weight: u32,
    /// What its nodes' labels must be: its own requirements, labels, name and, for a Provisioner, defaults.
    pub requirements: Requirements,
    /// Labels its nodes get, the pool's name among them.
    pub labels: BTreeMap<String, String>,
    /// Annotations its nodes get.
    pub annotations: BTreeMap<String, String>,
    /// Taints its nodes keep.
    pub taints: Vec<Taint>,
    /// Taints its nodes have until something takes them away.
    pub startup_taints: Vec<Taint>,
    /// How much capacity its nodes may have together; `None`: as much as is needed.
    pub limits: Option<ResourceList>,
    /// Where the cloud's settings are.
    pub class: NodeClassRef,
    /// `kubeletConfiguration` as written; null if there is none (a NodePool's is in its class).
    pub kubelet: Value,
    /// How long a node may be empty. A NodePool has none: its consolidation is more than that.
    pub ttl_after_empty: Option<Duration>,
    /// How long a node lives.
    pub ttl_until_expired: Option<Duration>,
    /// How long a drain may take.
    pub termination_grace_period: Option<Duration>,
}

/// Families that v0.16 leaves out unless a requirement speaks of type, family, category or generation.
///
/// It names c3, m3, r3 and t2, and leaves out what AWS called previous generation at the time.
const FAMILIES_AVOIDED: [&str; 16] =
    ["c1", "c3", "cc2", "cg1", "cr1", "g2", "hi1", "hs1", "i2", "m1", "m2", "m3", "r3", "t1", "t2", "a1"];
const FAMILY: &str = "karpenter.k8s.aws/instance-family";
const CATEGORY: &str = "karpenter.k8s.aws/instance-category";
const GENERATION: &str = "karpenter.k8s.aws/instance-generation";

/// The pool a Provisioner describes, with v0.16's defaults, or everything that is wrong with it.
pub fn provisioner(object: &Provisioner) -> Result<PoolTemplate, Vec<FieldError>> {
    let spec = &object.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut read = Reader { rules: Rules::V1Alpha5, errors: Vec::new() };

    let terms = spec.requirements.iter().map(|r| Written {
        key: &r.key,
        operator: &r.operator,
        values: r.values.as_deref().unwrap_or_default(),
        min_values: None,
    });
    let mut requirements = read.requirements(terms, "spec.requirements");
    requirements.add_all(&read.labels(&spec.labels, "spec.labels"));
    add_defaults(&mut requirements);
    read.contradictions(&requirements, "spec.requirements");

    let key = PoolKey { kind: PoolKind::Provisioner, name };
    requirements.add(Requirement::one_of(labels::PROVISIONER_NAME, [key.name.as_str()]));
    let limits = spec.limits.as_ref().map(|l| &l.resources).filter(|l| !l.is_empty());
    let class = match &spec.provider_ref {
        Some(reference) => NodeClassRef {
            group: group_of(reference.api_version.as_deref()).unwrap_or(TEMPLATE_CLASS.0).to_owned(),
            kind: reference.kind.as_deref().filter(|k| !k.is_empty()).unwrap_or(TEMPLATE_CLASS.1).to_owned(),
            name: reference.name.clone(),
        },
        None => {
            NodeClassRef { group: INLINE_CLASS.0.to_owned(), kind: INLINE_CLASS.1.to_owned(), name: key.name.clone() }
        }
    };
    let kubelet = spec.kubelet_configuration.as_ref().map_or(Value::Null, |kubelet| {
        serde_json::to_value(kubelet).expect("a struct of text, numbers and maps of text always serialises")
    });
    let (taints, startup_taints) = read.taints(&spec.taints, &spec.startup_taints, "spec");
    let template = PoolTemplate {
        weight: read.weight(spec.weight, "spec.weight"),
        labels: with_name(&spec.labels, &key),
        annotations: spec.annotations.clone(),
        taints,
        startup_taints,
        limits: read.limits(limits, "spec.limits.resources"),
        class,
        kubelet,
        ttl_after_empty: read.seconds(spec.ttl_seconds_after_empty, "spec.ttlSecondsAfterEmpty"),
        ttl_until_expired: read.seconds(spec.ttl_seconds_until_expired, "spec.ttlSecondsUntilExpired"),
        termination_grace_period: None,
        requirements,
        key,
    };
    if read.errors.is_empty() { Ok(template) } else { Err(read.errors) }
}

/// The pool a NodePool describes, or everything that is wrong with it.
pub fn nodepool(object: &NodePool) -> Result<PoolTemplate, Vec<FieldError>> {
    let spec = &object.spec;
    let inner = &spec.template.spec;
    let name = object.metadata.name.clone().unwrap_or_default();
    let mut read = Reader { rules: Rules::V1, errors: Vec::new() };

    let no_labels = BTreeMap::new();
    let own_labels = spec.template.metadata.as_ref().map_or(&no_labels, |m| &m.labels);
    let terms = inner.requirements.iter().map(|r| Written {
        key: &r.key,
        operator: &r.operator,
        values: &r.values,
        min_values: r.min_values,
    });
    let mut requirements = read.requirements(terms, "spec.template.spec.requirements");
    requirements.add_all(&read.labels(own_labels, "spec.template.metadata.labels"));
    read.contradictions(&requirements, "spec.template.spec.requirements");

    let key = PoolKey { kind: PoolKind::NodePool, name };
    let class = inner.node_class_ref.clone();
    let class_label = format!("{}/{}", class.group, class.kind.to_ascii_lowercase());
    requirements.add(Requirement::one_of(labels::NODEPOOL, [key.name.as_str()]));
    requirements.add(Requirement::one_of(class_label.as_str(), [class.name.as_str()]));
    let mut all_labels = with_name(own_labels, &key);
    all_labels.insert(class_label, class.name.clone());
    let (taints, startup_taints) = read.taints(&inner.taints, &inner.startup_taints, "spec.template.spec");
    let template = PoolTemplate {
        weight: read.weight(spec.weight, "spec.weight"),
        labels: all_labels,
        annotations: spec.template.metadata.as_ref().map(|m| m.annotations.clone()).unwrap_or_default(),
        taints,
        startup_taints,
        limits: read.limits(Some(&spec.limits).filter(|l| !l.is_empty()), "spec.limits"),
        class,
        kubelet: Value::Null,
        ttl_after_empty: None,
        ttl_until_expired: read.duration(&inner.expire_after, "spec.template.spec.expireAfter"),
        termination_grace_period: inner
            .termination_grace_period
            .as_ref()
            .and_then(|text| read.duration(text, "spec.template.spec.terminationGracePeriod")),
        requirements,
        key,
    };
    if read.errors.is_empty() { Ok(template) } else { Err(read.errors) }
}

/// A requirement of a NodeClaim; an error says why it means nothing.
pub fn claim_requirement(written: &NodeRequirement) -> Result<Requirement, String> {
    let min_values = written.min_values.map(u32::try_from).transpose().map_err(|_| "minValues must be from 1 to 50")?;
    let key = labels::normalize(&written.key);
    let term = RequirementTerm::new(key, operator(&written.operator)?, written.values.clone());
    Requirement::try_from(&RequirementTerm { min_values, ..term }).map_err(|e| e.to_string())
}

/// v0.16's defaulting webhook, and its filter of old families as a requirement one can see.
fn add_defaults(requirements: &mut Requirements) {
    for (key, value) in [(labels::CAPACITY_TYPE, "on-demand"), (labels::ARCH, "amd64")] {
        if requirements.get(key).is_none() {
            requirements.add(Requirement::one_of(key, [value]));
        }
    }
    // `NotIn`, `Gt` and `Lt` do not switch the filter off in v0.16; what looks like a bare bound or
    // exclusion here is one of those three.
    let chosen = [labels::INSTANCE_TYPE, FAMILY, CATEGORY, GENERATION].into_iter().any(|key| {
        requirements.get(key).is_some_and(|r| {
            r.to_terms().iter().any(|t| matches!(t.operator, Operator::In | Operator::Exists | Operator::DoesNotExist))
        })
    });
    if !chosen {
        requirements.add(Requirement::none_of(FAMILY, FAMILIES_AVOIDED));
        requirements.add(Requirement::none_of(CATEGORY, ["u"]));
    }
}

fn with_name(labels: &BTreeMap<String, String>, key: &PoolKey) -> BTreeMap<String, String> {
    let mut all = labels.clone();
    all.insert(key.kind.label().to_owned(), key.name.clone());
    all
}

fn group_of(api_version: Option<&str>) -> Option<&str> {
    api_version.and_then(|v| v.split_once('/')).map(|(group, _)| group).filter(|g| !g.is_empty())
}

/// A requirement as either API writes it.
struct Written<'a> {
    key: &'a str,
    operator: &'a str,
    values: &'a [String],
    min_values: Option<i32>,
}

/// Which release's rules apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rules {
    V1Alpha5,
    V1,
}

/// Reads fields and remembers what is wrong with them.
struct Reader {
    rules: Rules,
    errors: Vec<FieldError>,
}

impl Reader {
    fn error(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError::new(field, message));
    }

    /// Why the key may not be used by a pool, if so.
    fn restricted(&self, key: &str) -> Option<String> {
        let own = match self.rules {
            Rules::V1Alpha5 => labels::PROVISIONER_NAME,
            Rules::V1 => labels::NODEPOOL,
        };
        if key == own {
            return Some(format!("label {key} is restricted: it is the pool's own name"));
        }
        match self.rules {
            Rules::V1Alpha5 => labels::restricted_v1alpha5(key),
            Rules::V1 => labels::restricted_v1(key),
        }
    }

    fn requirements<'a>(&mut self, all: impl Iterator<Item = Written<'a>>, field: &str) -> Requirements {
        let mut found = Requirements::new();
        for (index, written) in all.enumerate() {
            let field = format!("{field}[{index}]");
            let key = labels::normalize(written.key);
            if let Some(why) = self.restricted(key) {
                self.error(format!("{field}.key"), why);
                continue;
            }
            let operator = match operator(written.operator) {
                Ok(Operator::Gte | Operator::Lte) if self.rules == Rules::V1Alpha5 => Err(format!(
                    "operator {:?} needs a karpenter.sh/v1 NodePool; a Provisioner has In, NotIn, Exists, DoesNotExist, Gt and Lt",
                    written.operator
                )),
                other => other,
            };
            let operator = match operator {
                Ok(operator) => operator,
                Err(message) => {
                    self.error(format!("{field}.operator"), message);
                    continue;
                }
            };
            let Ok(min_values) = written.min_values.map(u32::try_from).transpose() else {
                self.error(format!("{field}.minValues"), "must be from 1 to 50");
                continue;
            };
            let term = RequirementTerm { min_values, ..RequirementTerm::new(key, operator, written.values.to_vec()) };
            match Requirement::try_from(&term) {
                Ok(requirement) => found.add(requirement),
                Err(error) => self.error(field, error.to_string()),
            }
        }
        found
    }

    fn labels(&mut self, all: &BTreeMap<String, String>, field: &str) -> Requirements {
        for (key, value) in all {
            let field = format!("{field}.{key}");
            let key = labels::normalize(key);
            if let Some(why) = labels::problem_with_key(key).map(|p| format!("the key is not a label key: {p}")) {
                self.error(field, why);
            } else if let Some(why) = self.restricted(key) {
                self.error(field, why);
            } else if let Some(why) = labels::problem_with_value(value) {
                self.error(field, format!("the value {why}"));
            }
        }
        Requirements::from_labels(all)
    }

    /// Says which requirements no node can satisfy.
    fn contradictions(&mut self, requirements: &Requirements, field: &str) {
        let empty: Vec<String> = requirements.iter().filter(|r| r.is_empty()).map(|r| r.key().to_owned()).collect();
        for key in empty {
            self.error(field, format!("the requirements and labels on {key} contradict each other: no value is left"));
        }
    }

    fn taints(&mut self, taints: &[core::Taint], startup: &[core::Taint], field: &str) -> (Vec<Taint>, Vec<Taint>) {
        let mut seen = BTreeSet::new();
        let mut read = |this: &mut Self, list: &[core::Taint], field: String| {
            let mut found = Vec::new();
            for (index, written) in list.iter().enumerate() {
                let field = format!("{field}[{index}]");
                if let Some(why) = labels::problem_with_key(&written.key) {
                    this.error(format!("{field}.key"), format!("{:?} is not a taint key: {why}", written.key));
                }
                if let Some(why) = written.value.as_deref().and_then(labels::problem_with_value) {
                    this.error(format!("{field}.value"), format!("the value {why}"));
                }
                match node::taint(written) {
                    Ok(taint) => {
                        if !seen.insert((taint.key.clone(), taint.effect)) {
                            let twice = format!("taint {}:{} is given twice", taint.key, taint.effect);
                            this.error(field, twice);
                        }
                        found.push(taint);
                    }
                    Err(message) => this.error(format!("{field}.effect"), message),
                }
            }
            found
        };
        let lasting = read(self, taints, format!("{field}.taints"));
        let starting = read(self, startup, format!("{field}.startupTaints"));
        (lasting, starting)
    }

    fn limits(
        &mut self,
        limits: Option<&BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
        field: &str,
    ) -> Option<ResourceList> {
        let limits = limits?;
        for name in limits.keys().filter(|name| !is_resource(name)) {
            self.error(format!("{field}.{name}"), "no machine has a resource of this name, so it would limit nothing");
        }
        match quantities_floor(limits, field) {
            Ok(list) => Some(list),
            Err(errors) => {
                self.errors.extend(errors);
                None
            }
        }
    }

    fn weight(&mut self, weight: Option<i32>, field: &str) -> u32 {
        match weight.map(u32::try_from) {
            None => 0,
            Some(Ok(weight @ 1..=100)) => weight,
            Some(_) => {
                self.error(field, "must be from 1 to 100");
                0
            }
        }
    }

    fn seconds(&mut self, seconds: Option<i64>, field: &str) -> Option<Duration> {
        let found = u64::try_from(seconds?);
        if found.is_err() {
            self.error(field, "must not be negative");
        } else if found == Ok(0) && field.ends_with("UntilExpired") {
            self.error(field, "must be above 0: every node would be replaced as soon as it is there");
        }
        found.ok().map(Duration::from_secs)
    }

    /// An empty text is the field's absence in an object that was never defaulted: no end.
    fn duration(&mut self, text: &str, field: &str) -> Option<Duration> {
        if text.is_empty() {
            return None;
        }
        match parse_duration(text) {
            Ok(found) if SpanOrNever::span(found) == Some(Duration::ZERO) && field.ends_with("expireAfter") => {
                self.error(field, "must be above 0: every node would be replaced as soon as it is there");
                None
            }
            Ok(found) => SpanOrNever::span(found),
            Err(error) => {
                self.error(field, error.to_string());
                None
            }
        }
    }
}

/// Whether a machine can have something of this name: without a domain only what Kubernetes itself knows, and their count.
fn is_resource(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "pods" | "ephemeral-storage" | "nodes")
        || name.starts_with("hugepages-")
        || name.contains('/')
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
