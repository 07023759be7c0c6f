//! What is wrong inside a pod's spec, or with a disruption budget, with the path of the field.
//!
//! An API server would refuse all of it; a file may hold anything, and a mistake must not read as a pod that fits nowhere.

mod budget;
mod containers;
mod relations;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodSpec},
        storage::v1::StorageClass,
    },
    apimachinery::pkg::{
        api::resource::Quantity as Text,
        apis::meta::v1::{LabelSelector, ObjectMeta},
    },
};
use units::{Quantity, QuantityError, ResourceName};

pub(crate) use self::{budget::of_budget, relations::pod_terms};
use crate::admission::Fault;

/// Path and message of everything that is wrong with a pod's spec at `path`.
pub(crate) fn of_spec(spec: &PodSpec, path: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    containers::look(&mut found, spec, path);
    quantities(&mut found, spec.overhead.as_ref(), &format!("{path}.overhead"));
    relations::look(&mut found, spec, path);
    for (key, value) in spec.node_selector.iter().flatten() {
        relations::label(&mut found, key, [value], &format!("{path}.nodeSelector.{key}"));
    }
    if let Some(affinity) = &spec.affinity {
        node_affinity(&mut found, affinity, &format!("{path}.affinity.nodeAffinity"));
    }
    found
}

/// The same of the labels that a pod bears.
pub(crate) fn of_labels(labels: Option<&BTreeMap<String, String>>, path: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        relations::label(&mut found, key, [value], &format!("{path}.{key}"));
    }
    found
}

/// The same of a workload's selector: it has to select the labels of the workload's own pods.
pub(crate) fn of_own_selector(selector: &LabelSelector, template: Option<&ObjectMeta>) -> Vec<Fault> {
    let mut found = Vec::new();
    relations::expressions(&mut found, Some(selector), "spec.selector");
    let none = BTreeMap::new();
    let labels = template.and_then(|template| template.labels.as_ref()).unwrap_or(&none);
    if found.is_empty() && !api::pods::selects(selector, labels) {
        found.push(("spec.selector".to_owned(), "does not select the labels of the template".to_owned()));
    }
    found
}

/// The same of a list of quantities, such as what a node has.
pub(crate) fn of_quantities(list: Option<&BTreeMap<String, Text>>, path: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    quantities(&mut found, list, path);
    found
}

/// The same of a class of volumes.
pub(crate) fn of_storage_class(class: &StorageClass) -> Vec<Fault> {
    let mut found = Vec::new();
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(&mut found, class.volume_binding_mode.as_deref(), &modes, "volumeBindingMode");
    found
}

fn quantities(found: &mut Vec<Fault>, list: Option<&BTreeMap<String, Text>>, path: &str) {
    for (name, text) in list.into_iter().flatten() {
        match text.0.parse::<Quantity>().map_err(|error: QuantityError| error.to_string()) {
            Ok(quantity) if quantity.is_negative() => {
                found.push((format!("{path}.{name}"), format!("quantity {:?} is negative", text.0)));
            }
            Ok(quantity) if quantity.to_amount_ceil(&ResourceName::new(name.as_str())).is_err() => {
                found.push((format!("{path}.{name}"), format!("quantity {:?} is more than anybody can have", text.0)));
            }
            Ok(_) => {}
            Err(message) => found.push((format!("{path}.{name}"), message)),
        }
    }
}

fn one_of(found: &mut Vec<Fault>, given: Option<&str>, choices: &[&str], path: &str) {
    if let Some(given) = given.filter(|given| !given.is_empty() && !choices.contains(given)) {
        found.push((path.to_owned(), format!("{given:?} is none of {}", choices.join(", "))));
    }
}

fn node_affinity(found: &mut Vec<Fault>, affinity: &Affinity, path: &str) {
    let Some(nodes) = &affinity.node_affinity else { return };
    let required = nodes.required_during_scheduling_ignored_during_execution.iter();
    if required.clone().any(|selector| selector.node_selector_terms.is_empty()) {
        let at = format!("{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        found.push((at, "needs at least one term".to_owned()));
    }
    for (index, term) in required.flat_map(|selector| &selector.node_selector_terms).enumerate() {
        let at = format!("{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]");
        node_term(found, term, &at);
    }
    let preferred = nodes.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    for (index, wish) in preferred.enumerate() {
        let at = format!("{path}.preferredDuringSchedulingIgnoredDuringExecution[{index}].preference");
        node_term(found, &wish.preference, &at);
    }
}

fn node_term(found: &mut Vec<Fault>, term: &NodeSelectorTerm, path: &str) {
    let lists = [(&term.match_expressions, "matchExpressions"), (&term.match_fields, "matchFields")];
    for (list, name) in lists {
        for (index, one) in list.iter().flatten().enumerate() {
            requirement(found, one, &format!("{path}.{name}[{index}]"));
        }
    }
}

fn requirement(found: &mut Vec<Fault>, one: &NodeSelectorRequirement, path: &str) {
    let operators = ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"];
    one_of(found, Some(&one.operator), &operators, &format!("{path}.operator"));
    let values = one.values.as_deref().unwrap_or_default();
    let wrong = match one.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => Some("needs at least one value"),
        "Exists" | "DoesNotExist" if !values.is_empty() => Some("takes no values"),
        "Gt" | "Lt" if !matches!(values, [one] if one.parse::<i64>().is_ok()) => Some("takes one whole number"),
        _ => None,
    };
    if let Some(wrong) = wrong {
        found.push((format!("{path}.values"), format!("operator {} {wrong}", one.operator)));
    }
}
