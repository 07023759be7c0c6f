//! Selectors, affinity, tolerations and spread of a pod.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use requirements::{Operator, RequirementTerm, labels};
use scheduling::{
    LabelSelector, NodeInclusion, PodAffinityTerm, Strength, Toleration, TolerationOperator, TopologySpread,
    WhenUnsatisfiable,
};

use super::node::effect;

/// The operator of this name.
pub(crate) fn operator(text: &str) -> Result<Operator, String> {
    Ok(match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        "Gte" => Operator::Gte,
        "Lte" => Operator::Lte,
        _ => return Err(format!("{text:?} is not an operator")),
    })
}

/// A node selector requirement as a term.
pub(crate) fn term(wanted: &core::NodeSelectorRequirement) -> Result<RequirementTerm, String> {
    let values = wanted.values.clone().unwrap_or_default();
    Ok(RequirementTerm::new(wanted.key.as_str(), operator(&wanted.operator)?, values))
}

/// The expressions of one node selector term; `Ok(None)` for an empty term, which matches no node.
pub(super) fn node_term(wanted: &core::NodeSelectorTerm) -> Result<Option<Vec<RequirementTerm>>, String> {
    let expressions = wanted.match_expressions.iter().flatten().map(term);
    // The only field Kubernetes can select by is the node's name; the label of the hostname may be another.
    let fields = wanted.match_fields.iter().flatten().map(|field| {
        if field.key == "metadata.name" {
            term(field).map(|named| RequirementTerm { key: labels::NODE_NAME.to_owned(), ..named })
        } else {
            Err(format!("{:?} is not a field nodes can be selected by", field.key))
        }
    });
    let all = expressions.chain(fields).collect::<Result<Vec<_>, _>>()?;
    Ok((!all.is_empty()).then_some(all))
}

pub(super) fn required_nodes(
    affinity: Option<&core::NodeAffinity>,
    invalid: &mut Vec<String>,
) -> Vec<Vec<RequirementTerm>> {
    let Some(selector) = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()) else {
        return Vec::new();
    };
    let mut terms = Vec::new();
    for wanted in &selector.node_selector_terms {
        match node_term(wanted) {
            Ok(Some(found)) => terms.push(found),
            Ok(None) => {}
            Err(message) => invalid.push(format!("required node affinity: {message}")),
        }
    }
    if terms.is_empty() && invalid.is_empty() {
        invalid.push("required node affinity: it has only empty terms, which match no node".to_owned());
    }
    terms
}

pub(super) fn preferred_nodes(
    affinity: Option<&core::NodeAffinity>,
    invalid: &mut Vec<String>,
) -> Vec<(i32, Vec<RequirementTerm>)> {
    let wanted = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let mut found = Vec::new();
    for preference in wanted.into_iter().flatten() {
        match node_term(&preference.preference) {
            Ok(terms) => found.extend(terms.map(|terms| (preference.weight, terms))),
            Err(message) => invalid.push(format!("preferred node affinity: {message}")),
        }
    }
    found
}

pub(super) fn pod_terms(
    required: Option<&Vec<core::PodAffinityTerm>>,
    preferred: Option<&Vec<core::WeightedPodAffinityTerm>>,
    invalid: &mut Vec<String>,
) -> Vec<PodAffinityTerm> {
    let required = required.into_iter().flatten().map(|t| (Strength::Required, t));
    let preferred =
        preferred.into_iter().flatten().map(|t| (Strength::Preferred { weight: t.weight }, &t.pod_affinity_term));
    let mut found = Vec::new();
    for (strength, wanted) in required.chain(preferred) {
        let selectors = optional_selector(wanted.label_selector.as_ref())
            .and_then(|own| Ok((own, optional_selector(wanted.namespace_selector.as_ref())?)));
        match selectors {
            Ok((selector, namespace_selector)) => found.push(PodAffinityTerm {
                strength,
                topology_key: wanted.topology_key.clone(),
                selector,
                namespaces: wanted.namespaces.clone().unwrap_or_default(),
                namespace_selector,
                match_label_keys: wanted.match_label_keys.clone().unwrap_or_default(),
                mismatch_label_keys: wanted.mismatch_label_keys.clone().unwrap_or_default(),
            }),
            Err(message) => invalid.push(format!("pod affinity: {message}")),
        }
    }
    found
}

pub(super) fn spread(
    wanted: Option<&Vec<core::TopologySpreadConstraint>>,
    invalid: &mut Vec<String>,
) -> Vec<TopologySpread> {
    let mut found = Vec::new();
    for constraint in wanted.into_iter().flatten() {
        match one_spread(constraint) {
            Ok(spread) => found.push(spread),
            Err(message) => {
                invalid.push(format!("topologySpreadConstraints over {}: {message}", constraint.topology_key));
            }
        }
    }
    found
}

fn one_spread(wanted: &core::TopologySpreadConstraint) -> Result<TopologySpread, String> {
    let inclusion = |field: &str, policy: Option<&String>, default| match policy.map(String::as_str) {
        None | Some("") => Ok(default),
        Some("Honor") => Ok(NodeInclusion::Honor),
        Some("Ignore") => Ok(NodeInclusion::Ignore),
        Some(other) => Err(format!("{field}: {other:?} is neither Honor nor Ignore")),
    };
    Ok(TopologySpread {
        max_skew: u32::try_from(wanted.max_skew)
            .ok()
            .filter(|skew| *skew > 0)
            .ok_or_else(|| format!("maxSkew: {} is less than 1", wanted.max_skew))?,
        topology_key: wanted.topology_key.clone(),
        when_unsatisfiable: match wanted.when_unsatisfiable.as_str() {
            "DoNotSchedule" | "" => WhenUnsatisfiable::DoNotSchedule,
            "ScheduleAnyway" => WhenUnsatisfiable::ScheduleAnyway,
            other => {
                return Err(format!("whenUnsatisfiable: {other:?} is neither DoNotSchedule nor ScheduleAnyway"));
            }
        },
        selector: optional_selector(wanted.label_selector.as_ref())?,
        min_domains: wanted
            .min_domains
            .map(|least| match u32::try_from(least) {
                Ok(least @ 1..) => Ok(least),
                _ => Err(format!("minDomains: {least} is less than 1")),
            })
            .transpose()?,
        node_affinity_policy: inclusion(
            "nodeAffinityPolicy",
            wanted.node_affinity_policy.as_ref(),
            NodeInclusion::Honor,
        )?,
        node_taints_policy: inclusion("nodeTaintsPolicy", wanted.node_taints_policy.as_ref(), NodeInclusion::Ignore)?,
        match_label_keys: wanted.match_label_keys.clone().unwrap_or_default(),
    })
}

fn optional_selector(wanted: Option<&meta::LabelSelector>) -> Result<Option<LabelSelector>, String> {
    let Some(wanted) = wanted else { return Ok(None) };
    let expressions = wanted.match_expressions.iter().flatten().map(|expression| {
        let values = expression.values.clone().unwrap_or_default();
        Ok(RequirementTerm::new(expression.key.as_str(), operator(&expression.operator)?, values))
    });
    Ok(Some(LabelSelector {
        match_labels: wanted.match_labels.clone().unwrap_or_default(),
        match_expressions: expressions.collect::<Result<_, String>>()?,
    }))
}

pub(super) fn tolerations(wanted: Option<&Vec<core::Toleration>>, invalid: &mut Vec<String>) -> Vec<Toleration> {
    let mut found = Vec::new();
    for toleration in wanted.into_iter().flatten() {
        match one_toleration(toleration) {
            Ok(toleration) => found.push(toleration),
            Err(message) => invalid.push(format!("toleration: {message}")),
        }
    }
    found
}

fn one_toleration(wanted: &core::Toleration) -> Result<Toleration, String> {
    Ok(Toleration {
        key: wanted.key.clone().filter(|key| !key.is_empty()),
        operator: match wanted.operator.as_deref() {
            None | Some("" | "Equal") => TolerationOperator::Equal,
            Some("Exists") => TolerationOperator::Exists,
            Some(other) => return Err(format!("operator {other:?} is not supported")),
        },
        value: wanted.value.clone().unwrap_or_default(),
        effect: wanted.effect.as_deref().filter(|e| !e.is_empty()).map(effect).transpose()?,
    })
}
