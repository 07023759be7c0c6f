//! What is wrong inside a pod's spec, with the path of the field.
//!
//! An API server would refuse all of it; a file may hold anything, and a mistake must not read as a pod that fits nowhere.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{
        Affinity, Container, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
        TopologySpreadConstraint,
    },
    apimachinery::pkg::{api::resource::Quantity as Text, apis::meta::v1::LabelSelector},
};
use units::{Quantity, QuantityError, ResourceName};

/// Path and message of everything that is wrong with a pod's spec at `path`.
pub(crate) fn of_spec(spec: &PodSpec, path: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    containers(&mut found, &spec.containers, &format!("{path}.containers"));
    containers(&mut found, spec.init_containers.as_deref().unwrap_or_default(), &format!("{path}.initContainers"));
    let on_host = spec.host_network == Some(true);
    ports(&mut found, &spec.containers, on_host, &format!("{path}.containers"));
    let starting = spec.init_containers.as_deref().unwrap_or_default();
    ports(&mut found, starting, on_host, &format!("{path}.initContainers"));
    quantities(&mut found, spec.overhead.as_ref(), &format!("{path}.overhead"));
    for (index, one) in spec.tolerations.iter().flatten().enumerate() {
        toleration(&mut found, one, &format!("{path}.tolerations[{index}]"));
    }
    let spreads = spec.topology_spread_constraints.as_deref().unwrap_or_default();
    for (index, one) in spreads.iter().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{index}]");
        let same = |other: &&TopologySpreadConstraint| {
            (&other.topology_key, &other.when_unsatisfiable) == (&one.topology_key, &one.when_unsatisfiable)
        };
        if spreads[..index].iter().any(|other| same(&other)) {
            let message = format!("a second one with {} over {}", one.when_unsatisfiable, one.topology_key);
            found.push((at.clone(), message));
        }
        spread(&mut found, one, &at);
    }
    for (term, at) in pod_terms(spec, path) {
        topology_key(&mut found, &term.topology_key, &at);
        for (keys, field) in
            [(&term.match_label_keys, "matchLabelKeys"), (&term.mismatch_label_keys, "mismatchLabelKeys")]
        {
            keys_of_a_selector(&mut found, keys.as_deref(), term.label_selector.as_ref(), &format!("{at}.{field}"));
        }
    }
    for (weight, at) in weights(spec, path) {
        if !(1..=100).contains(&weight) {
            found.push((at, format!("{weight} is not between 1 and 100")));
        }
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

/// Ports of the host that some of these containers ask for twice.
fn ports(found: &mut Vec<(String, String)>, all: &[Container], on_host: bool, path: &str) {
    let mut taken = BTreeSet::new();
    for (index, container) in all.iter().enumerate() {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let Some(number) = port.host_port.filter(|number| *number != 0).or(on_host.then_some(port.container_port))
            else {
                continue;
            };
            let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
            if !taken.insert((number, protocol, port.host_ip.as_deref().unwrap_or_default())) {
                let message = format!("port {number}/{protocol} of the host is asked for twice");
                found.push((format!("{path}[{index}].ports[{at}].hostPort"), message));
            }
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

fn toleration(found: &mut Vec<(String, String)>, one: &Toleration, path: &str) {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    one_of(found, one.operator.as_deref(), &["Equal", "Exists"], &format!("{path}.operator"));
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    one_of(found, one.effect.as_deref(), &effects, &format!("{path}.effect"));
    let exists = one.operator.as_deref() == Some("Exists");
    if !given(&one.key) && matches!(one.operator.as_deref(), None | Some("" | "Equal")) {
        found.push((format!("{path}.operator"), "is to be Exists where no key is given".to_owned()));
    }
    if exists && given(&one.value) {
        found.push((format!("{path}.value"), "operator Exists takes none".to_owned()));
    }
    if one.toleration_seconds.is_some() && one.effect.as_deref() != Some("NoExecute") {
        found.push((format!("{path}.effect"), "is to be NoExecute where tolerationSeconds are given".to_owned()));
    }
}

fn spread(found: &mut Vec<(String, String)>, one: &TopologySpreadConstraint, path: &str) {
    if one.max_skew < 1 {
        found.push((format!("{path}.maxSkew"), format!("{} is less than 1", one.max_skew)));
    }
    let choices = ["DoNotSchedule", "ScheduleAnyway"];
    one_of(found, Some(&one.when_unsatisfiable), &choices, &format!("{path}.whenUnsatisfiable"));
    topology_key(found, &one.topology_key, path);
    if let Some(least) = one.min_domains {
        if least < 1 {
            found.push((format!("{path}.minDomains"), format!("{least} is less than 1")));
        }
        if one.when_unsatisfiable == "ScheduleAnyway" {
            found.push((format!("{path}.minDomains"), "may stand beside DoNotSchedule only".to_owned()));
        }
    }
    let policies = [(&one.node_affinity_policy, "nodeAffinityPolicy"), (&one.node_taints_policy, "nodeTaintsPolicy")];
    for (policy, field) in policies {
        one_of(found, policy.as_deref(), &["Honor", "Ignore"], &format!("{path}.{field}"));
    }
    let keys = one.match_label_keys.as_deref();
    keys_of_a_selector(found, keys, one.label_selector.as_ref(), &format!("{path}.matchLabelKeys"));
}

/// Keys by which the pods of a selector are told apart need one.
fn keys_of_a_selector(
    found: &mut Vec<(String, String)>,
    keys: Option<&[String]>,
    selector: Option<&LabelSelector>,
    path: &str,
) {
    if selector.is_none() && keys.is_some_and(|keys| !keys.is_empty()) {
        found.push((path.to_owned(), "there is no labelSelector, so it selects no pods".to_owned()));
    }
}

/// What preferences weigh, and the paths of it.
fn weights(spec: &PodSpec, path: &str) -> Vec<(i32, String)> {
    let Some(affinity) = &spec.affinity else { return Vec::new() };
    let nodes = affinity.node_affinity.iter();
    let nodes = nodes.flat_map(|one| one.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let near = affinity.pod_affinity.iter();
    let near = near.flat_map(|one| one.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let away = affinity.pod_anti_affinity.iter();
    let away = away.flat_map(|one| one.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    let lists: [(Vec<i32>, &str); 3] = [
        (nodes.map(|one| one.weight).collect(), "nodeAffinity"),
        (near.map(|one| one.weight).collect(), "podAffinity"),
        (away.map(|one| one.weight).collect(), "podAntiAffinity"),
    ];
    let at =
        |kind, index| format!("{path}.affinity.{kind}.preferredDuringSchedulingIgnoredDuringExecution[{index}].weight");
    let all = lists.into_iter().flat_map(|(weights, kind)| {
        weights.into_iter().enumerate().map(move |(index, weight)| (weight, at(kind, index)))
    });
    all.collect()
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
    use expect_test::expect;
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

    /// The faults of a spec, a line each.
    fn told(spec: serde_json::Value) -> String {
        let found = of_spec(&serde_json::from_value(spec).unwrap(), "spec");
        let lines: Vec<String> = found.iter().map(|(field, message)| format!("{field}: {message}")).collect();
        lines.join("\n") + "\n"
    }

    #[test]
    fn tolerations_that_no_api_server_takes_are_told() {
        let found = told(json!({ "containers": [], "tolerations": [
            { "value": "x" },
            { "key": "a", "operator": "Exists", "value": "x" },
            { "key": "a", "effect": "NoSchedule", "tolerationSeconds": 5 },
            { "operator": "Exists" },
            { "key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5 },
            { "key": "a" },
        ] }));
        expect![[r"
            spec.tolerations[0].operator: is to be Exists where no key is given
            spec.tolerations[1].value: operator Exists takes none
            spec.tolerations[2].effect: is to be NoExecute where tolerationSeconds are given
        "]]
        .assert_eq(&found);
    }

    #[test]
    fn a_port_that_a_pod_asks_for_twice_is_told() {
        let port = |number: u16, ip: &str| json!({ "containerPort": 80, "hostPort": number, "hostIP": ip });
        let container = |name: &str, ports: &[serde_json::Value]| json!({ "name": name, "ports": ports });
        let found = told(json!({
            "containers": [
                container("a", &[port(80, ""), port(80, "127.0.0.1"), port(81, "")]),
                container("b", &[port(80, ""), json!({ "containerPort": 80 }), json!({ "containerPort": 80 })]),
            ],
            // Those of an init container may be gone by the time.
            "initContainers": [container("c", &[port(80, "")])],
        }));
        expect![[r"
            spec.containers[1].ports[0].hostPort: port 80/TCP of the host is asked for twice
        "]]
        .assert_eq(&found);
    }

    #[test]
    fn spreads_and_terms_that_no_api_server_takes_are_told() {
        let spread = |more: serde_json::Value| {
            let mut spread = json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule" });
            spread.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spread
        };
        let term = json!({ "topologyKey": "zone", "mismatchLabelKeys": ["app"] });
        let found = told(json!({ "containers": [],
            "topologySpreadConstraints": [
                spread(json!({ "minDomains": 2, "labelSelector": {}, "matchLabelKeys": ["app"] })),
                spread(json!({ "maxSkew": 2, "matchLabelKeys": ["app"] })),
                spread(json!({ "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 0, "nodeTaintsPolicy": "honor" })),
            ],
            "affinity": {
                "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{ "weight": 0, "preference": {} }] },
                "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] },
                "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [
                    { "weight": 100, "podAffinityTerm": { "topologyKey": "zone" } },
                    { "weight": 101, "podAffinityTerm": { "topologyKey": "zone" } },
                ] } } }));
        expect![[r#"
            spec.topologySpreadConstraints[1]: a second one with DoNotSchedule over zone
            spec.topologySpreadConstraints[1].matchLabelKeys: there is no labelSelector, so it selects no pods
            spec.topologySpreadConstraints[2].minDomains: 0 is less than 1
            spec.topologySpreadConstraints[2].minDomains: may stand beside DoNotSchedule only
            spec.topologySpreadConstraints[2].nodeTaintsPolicy: "honor" is none of Honor, Ignore
            spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].mismatchLabelKeys: there is no labelSelector, so it selects no pods
            spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: 0 is not between 1 and 100
            spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].weight: 101 is not between 1 and 100
        "#]].assert_eq(&found);
    }
}
