//! Resource lists: quantities of text → exact amounts, and what a pod asks for in all.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodSpec, PodStatus, ResourceRequirements};
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
///
/// Of a pod that is being resized in place, a container counts with the most of what it asks for and what it has been given
/// (KEP-1287); if the kubelet has said that it will never have it, with what it has been given.
pub fn pod_requests(spec: &PodSpec, status: Option<&PodStatus>, invalid: &mut Vec<String>) -> ResourceList {
    let given = Given::of(status);
    let mut container_requests = |container: &Container| {
        let resources = container.resources.as_ref();
        let whose = format!("container {}", container.name);
        let asked = resources.map(|resources| requests(resources, &whose, invalid)).unwrap_or_default();
        given.or_more(asked, container)
    };
    let mut running = ResourceList::new();
    for container in &spec.containers {
        running.add(&container_requests(container));
    }
    let mut sidecars = ResourceList::new();
    let mut starting = ResourceList::new();
    for container in spec.init_containers.iter().flatten() {
        let asked = container_requests(container);
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

/// What the kubelet says that it has given to containers.
struct Given<'a> {
    statuses: Vec<&'a ContainerStatus>,
    /// Whether it will never give what is asked for.
    is_final: bool,
}

impl<'a> Given<'a> {
    fn of(status: Option<&'a PodStatus>) -> Self {
        let statuses = status.into_iter().flat_map(|status| {
            status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten())
        });
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let mut pending = conditions.into_iter().filter(|condition| condition.type_ == "PodResizePending");
        let is_final = pending.any(|condition| condition.reason.as_deref() == Some("Infeasible"))
            // As Kubernetes before 1.33 says it.
            || status.and_then(|status| status.resize.as_deref()) == Some("Infeasible");
        Self { statuses: statuses.collect(), is_final }
    }

    /// What a container that asks for this much counts with.
    fn or_more(&self, mut asked: ResourceList, container: &Container) -> ResourceList {
        let Some(status) = self.statuses.iter().find(|status| status.name == container.name) else { return asked };
        let in_use = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let said = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let mut given = ResourceList::new();
        // Nearly always all of it is as the pod asks for it, in the same words.
        for list in
            [status.allocated_resources.as_ref(), in_use].into_iter().flatten().filter(|list| Some(*list) != said)
        {
            // The kubelet has written it, and nobody can be told that it is wrong.
            given.max_with(&amounts(list.iter(), "", &mut Vec::new()));
        }
        if self.is_final && !given.is_empty() {
            return given;
        }
        asked.max_with(&given);
        asked
    }
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
        check_with(spec, json!({}), expected);
    }

    #[track_caller]
    fn check_with(spec: Value, status: Value, expected: &str) {
        let (mut invalid, status) = (Vec::new(), serde_json::from_value(status).unwrap());
        let asked = pod_requests(&serde_json::from_value(spec).unwrap(), Some(&status), &mut invalid);
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
    fn a_container_that_is_resized_counts_with_the_most_that_it_may_have() {
        let status = |allocated: &str, in_use: &str, reason: &str| {
            let held = json!({ "name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
                "allocatedResources": { "cpu": allocated }, "resources": { "requests": { "cpu": in_use } } });
            json!({ "containerStatuses": [held],
                    "conditions": [{ "type": "PodResizePending", "status": "True", "reason": reason }] })
        };
        let asks_for_two = || json!({ "containers": [container("2")] });
        check_with(asks_for_two(), status("6", "6", ""), "cpu: 6");
        check_with(asks_for_two(), status("2", "4", ""), "cpu: 4");
        check_with(asks_for_two(), status("1", "1", "Deferred"), "cpu: 2");
        check_with(asks_for_two(), status("1", "1", "Infeasible"), "cpu: 1");
        check_with(asks_for_two(), status("2", "2", "Infeasible"), "cpu: 2");
        let mut older = status("1", "1", "");
        older["resize"] = json!("Infeasible");
        check_with(asks_for_two(), older, "cpu: 1");
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
