//! Resource lists: quantities of text → exact amounts, and what a pod asks for in all.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use units::{Amount, Quantity, ResourceList, ResourceName};

use crate::FieldError;

/// Reads a resource list, rounding down: what is there, or may be used.
///
/// Errors name the resource below `field`; a negative quantity is one.
pub fn quantities_floor(list: &BTreeMap<String, Text>, field: &str) -> Result<ResourceList, Vec<FieldError>> {
    let mut found = ResourceList::new();
    let mut errors = Vec::new();
    for (name, text) in list {
        let resource = ResourceName::new(name.as_str());
        match parse(text).and_then(|q| q.to_amount_floor(&resource).map_err(|e| e.to_string())) {
            Ok(amount) => found.set(resource, amount),
            Err(message) => errors.push(FieldError::new(format!("{field}.{name}"), message)),
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(errors) }
}

fn parse(text: &Text) -> Result<Quantity, String> {
    let quantity: Quantity = text.0.parse().map_err(|e: units::QuantityError| e.to_string())?;
    if quantity.is_negative() { Err(format!("quantity {:?} is negative", text.0)) } else { Ok(quantity) }
}

/// What a pod asks for in all, without its slot; appends to `invalid` what cannot be read.
///
/// As the kube-scheduler counts: containers and sidecars together, or the largest step of the
/// initialisation if that is more, plus the runtime class's overhead. A limit without a request is a
/// request, and what the pod itself asks for replaces the sum of its containers.
pub fn pod_requests(spec: &PodSpec, invalid: &mut Vec<String>) -> ResourceList {
    let mut running = ResourceList::new();
    for container in &spec.containers {
        running.add(&container_requests(container, invalid));
    }
    let mut sidecars = ResourceList::new();
    let mut starting = ResourceList::new();
    for container in spec.init_containers.iter().flatten() {
        let asked = container_requests(container, invalid);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&asked);
            starting.max_with(&sidecars);
        } else {
            let mut step = asked;
            step.add(&sidecars);
            starting.max_with(&step);
        }
    }
    running.add(&sidecars);
    running.max_with(&starting);
    if let Some(resources) = &spec.resources {
        for (name, amount) in requests(resources, "the pod", invalid).iter() {
            running.set(name.clone(), amount);
        }
    }
    running.add(&amounts(spec.overhead.iter().flatten(), "the pod's overhead", invalid));
    running
}

fn container_requests(container: &Container, invalid: &mut Vec<String>) -> ResourceList {
    container
        .resources
        .as_ref()
        .map(|resources| requests(resources, &format!("container {}", container.name), invalid))
        .unwrap_or_default()
}

fn requests(resources: &ResourceRequirements, whose: &str, invalid: &mut Vec<String>) -> ResourceList {
    let mut asked = amounts(resources.requests.iter().flatten(), whose, invalid);
    let named = resources.requests.as_ref();
    let unnamed = resources.limits.iter().flatten().filter(|(name, _)| named.is_none_or(|n| !n.contains_key(*name)));
    asked.add(&amounts(unnamed, whose, invalid));
    asked
}

fn amounts<'a>(
    list: impl Iterator<Item = (&'a String, &'a Text)>,
    whose: &str,
    invalid: &mut Vec<String>,
) -> ResourceList {
    let mut found = ResourceList::new();
    for (name, text) in list {
        let resource = ResourceName::new(name.as_str());
        match parse(text).and_then(|q| q.to_amount_ceil(&resource).map_err(|e| e.to_string())) {
            Ok(Amount(0)) => {}
            Ok(amount) => found.set(resource, amount),
            Err(message) => invalid.push(format!("{name} of {whose}: {message}")),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: &str) {
        let mut invalid = Vec::new();
        let asked = pod_requests(&serde_json::from_value(spec).unwrap(), &mut invalid);
        let mut said = asked.to_string();
        for problem in invalid {
            said = format!("{said}! {problem}");
        }
        assert_eq!(said, expected);
    }

    fn container(cpu: &str) -> Value {
        json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } })
    }

    #[test]
    fn containers_add_up_and_round_up() {
        check(json!({ "containers": [container("1"), container("0.5001")] }), "cpu: 1501m");
    }

    #[test]
    fn a_limit_without_a_request_is_a_request() {
        check(
            json!({ "containers": [{ "name": "c", "resources": {
                "limits": { "cpu": "2", "memory": "1Gi" }, "requests": { "cpu": "1" } } }] }),
            "cpu: 1, memory: 1Gi",
        );
    }

    #[test]
    fn the_largest_step_of_initialisation_counts() {
        let sidecar = json!({ "name": "s", "restartPolicy": "Always", "resources": { "requests": { "cpu": "1" } } });
        check(
            json!({ "containers": [container("1")], "initContainers": [container("3"), sidecar, container("4")] }),
            "cpu: 5",
        );
        check(json!({ "containers": [container("5")], "initContainers": [sidecar, container("2")] }), "cpu: 6");
    }

    #[test]
    fn overhead_comes_on_top_and_the_pods_own_request_replaces_the_sum() {
        check(
            json!({ "containers": [container("1")], "overhead": { "cpu": "250m" },
                    "resources": { "requests": { "cpu": "3" } } }),
            "cpu: 3250m",
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        check(
            json!({ "containers": [container("1 000m")] }),
            "nothing! cpu of container c: quantity \"1 000m\" has a space: write 1000m instead",
        );
    }

    #[test]
    fn limits_that_do_not_parse_are_named() {
        let list = BTreeMap::from([("memory".to_owned(), Text("1000 Gi".to_owned()))]);
        let errors = quantities_floor(&list, "spec.limits.resources").unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "spec.limits.resources.memory: quantity \"1000 Gi\" has a space: write 1000Gi instead"
        );
    }
}
