//! What is wrong inside a pod's spec, with the path of the field.
//!
//! An API server would refuse all of it; a file may hold anything, and a mistake must not read as a pod that fits nowhere.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Container, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use units::{Quantity, QuantityError, ResourceName};

/// Path and message of everything that is wrong with a pod's spec at `path`.
pub(crate) fn of_spec(spec: &PodSpec, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    containers(&mut found, &spec.containers, &format!("{path}.containers"));
    containers(&mut found, spec.init_containers.as_deref().unwrap_or_default(), &format!("{path}.initContainers"));
    quantities(&mut found, spec.overhead.as_ref(), &format!("{path}.overhead"));
    for (index, toleration) in spec.tolerations.iter().flatten().enumerate() {
        let at = format!("{path}.tolerations[{index}]");
        one_of(&mut found, toleration.operator.as_deref(), &["Equal", "Exists"], &format!("{at}.operator"));
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        one_of(&mut found, toleration.effect.as_deref(), &effects, &format!("{at}.effect"));
    }
    for (index, spread) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{index}]");
        if spread.max_skew < 1 {
            found.push((format!("{at}.maxSkew"), format!("{} is less than 1", spread.max_skew)));
        }
        let choices = ["DoNotSchedule", "ScheduleAnyway"];
        one_of(&mut found, Some(&spread.when_unsatisfiable), &choices, &format!("{at}.whenUnsatisfiable"));
        topology_key(&mut found, &spread.topology_key, &at);
    }
    for (term, at) in pod_terms(spec, path) {
        topology_key(&mut found, &term.topology_key, &at);
    }
    if let Some(affinity) = &spec.affinity {
        node_affinity(&mut found, affinity, &format!("{path}.affinity.nodeAffinity"));
    }
    found
}

/// The terms of a pod's affinity and anti-affinity to pods, and their paths.
pub(crate) fn pod_terms<'a>(spec: &'a PodSpec, path: &str) -> Vec<(&'a PodAffinityTerm, String)> {
    let affinity = spec.affinity.as_ref();
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let away = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let near = near.map(|near| {
        let (required, preferred) = (
            &near.required_during_scheduling_ignored_during_execution,
            &near.preferred_during_scheduling_ignored_during_execution,
        );
        (required, preferred, "podAffinity")
    });
    let away = away.map(|away| {
        let (required, preferred) = (
            &away.required_during_scheduling_ignored_during_execution,
            &away.preferred_during_scheduling_ignored_during_execution,
        );
        (required, preferred, "podAntiAffinity")
    });
    let mut found = Vec::new();
    for (required, preferred, kind) in near.into_iter().chain(away) {
        let at = format!("{path}.affinity.{kind}");
        for (index, term) in required.iter().flatten().enumerate() {
            found.push((term, format!("{at}.requiredDuringSchedulingIgnoredDuringExecution[{index}]")));
        }
        for (index, wish) in preferred.iter().flatten().enumerate() {
            let at = format!("{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}].podAffinityTerm");
            found.push((&wish.pod_affinity_term, at));
        }
    }
    found
}

/// The same of a list of quantities, such as what a node has.
pub(crate) fn of_quantities(list: Option<&BTreeMap<String, Text>>, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    quantities(&mut found, list, path);
    found
}

fn containers(found: &mut Vec<(String, String)>, all: &[Container], path: &str) {
    for (index, container) in all.iter().enumerate() {
        if let Some(resources) = &container.resources {
            quantities(found, resources.requests.as_ref(), &format!("{path}[{index}].resources.requests"));
            quantities(found, resources.limits.as_ref(), &format!("{path}[{index}].resources.limits"));
        }
    }
}

fn quantities(found: &mut Vec<(String, String)>, list: Option<&BTreeMap<String, Text>>, path: &str) {
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

fn topology_key(found: &mut Vec<(String, String)>, key: &str, path: &str) {
    if key.is_empty() {
        found.push((format!("{path}.topologyKey"), "is empty: it names a label of nodes".to_owned()));
    }
}

fn one_of(found: &mut Vec<(String, String)>, given: Option<&str>, choices: &[&str], path: &str) {
    if let Some(given) = given.filter(|given| !given.is_empty() && !choices.contains(given)) {
        found.push((path.to_owned(), format!("{given:?} is none of {}", choices.join(", "))));
    }
}

fn node_affinity(found: &mut Vec<(String, String)>, affinity: &Affinity, path: &str) {
    let Some(nodes) = &affinity.node_affinity else { return };
    let required = nodes.required_during_scheduling_ignored_during_execution.iter();
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

fn node_term(found: &mut Vec<(String, String)>, term: &NodeSelectorTerm, path: &str) {
    let lists = [(&term.match_expressions, "matchExpressions"), (&term.match_fields, "matchFields")];
    for (list, name) in lists {
        for (index, one) in list.iter().flatten().enumerate() {
            requirement(found, one, &format!("{path}.{name}[{index}]"));
        }
    }
}

fn requirement(found: &mut Vec<(String, String)>, one: &NodeSelectorRequirement, path: &str) {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_topology_without_a_key_is_found_wherever_it_is() {
        let terms = json!([{ "topologyKey": "" }, { "topologyKey": "zone" }]);
        let wishes = json!([{ "weight": 1, "podAffinityTerm": { "topologyKey": "" } }]);
        let spec = json!({ "containers": [],
            "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "", "whenUnsatisfiable": "DoNotSchedule" }],
            "affinity": {
                "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms },
                "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": wishes } } });
        let found = of_spec(&serde_json::from_value(spec).unwrap(), "spec");
        let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.topologySpreadConstraints[0].topologyKey",
                "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.topologyKey",
            ]
        );
    }
}
