//! Whether the containers of a workload request what its cpu and memory triggers are measured against. Pure.

use api::keda::{ScaledObject, is_resource_trigger};
use k8s_openapi::api::core::v1::{Container, LimitRange, PodTemplateSpec};

/// The first container without a request that a trigger needs, in KEDA's words. A limit counts as a request, because the API
/// server makes one of it; so does a default of the namespace.
pub(super) fn missing(object: &ScaledObject, template: &PodTemplateSpec, limits: &[LimitRange]) -> Option<String> {
    let containers: &[Container] = template.spec.as_ref().map_or(&[], |spec| &spec.containers);
    object.spec.triggers.iter().filter(|trigger| is_resource_trigger(&trigger.r#type)).find_map(|trigger| {
        let resource = trigger.r#type.as_str();
        if by_default(resource, limits) {
            return None;
        }
        let only = trigger.metadata.get("containerName").filter(|name| !name.is_empty());
        let lacking = containers
            .iter()
            .filter(|container| only.is_none_or(|only| *only == container.name))
            .find(|container| !requests(container, resource))?;
        Some(format!(
            "the scaledobject has a {resource} trigger but the container {} doesn't have the {resource} request defined",
            lacking.name
        ))
    })
}

fn requests(container: &Container, resource: &str) -> bool {
    let resources = container.resources.as_ref();
    let has =
        |list: Option<&std::collections::BTreeMap<String, _>>| list.is_some_and(|list| list.contains_key(resource));
    has(resources.and_then(|r| r.requests.as_ref())) || has(resources.and_then(|r| r.limits.as_ref()))
}

/// Whether the namespace gives every container a request.
fn by_default(resource: &str, limits: &[LimitRange]) -> bool {
    let items = limits.iter().filter_map(|limits| limits.spec.as_ref()).flat_map(|spec| &spec.limits);
    items.filter(|item| item.type_ == "Container").any(|item| {
        [&item.default, &item.default_request]
            .into_iter()
            .any(|defaults| defaults.as_ref().is_some_and(|defaults| defaults.contains_key(resource)))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(trigger: &Value, containers: &Value, limits: &Value) -> Option<String> {
        let spec = json!({"scaleTargetRef": {"name": "web"}, "triggers": [trigger]});
        let object = ScaledObject::new("web", serde_json::from_value(spec).unwrap());
        let template = serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap();
        let range = serde_json::from_value(json!({"spec": {"limits": limits}})).unwrap();
        missing(&object, &template, &[range])
    }

    #[test]
    fn a_container_without_the_request_is_named() {
        let cpu = || json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": "50"}});
        let two = || {
            json!([
                {"name": "a", "resources": {"requests": {"cpu": "1"}}},
                {"name": "b", "resources": {"requests": {"memory": "1Gi"}}},
            ])
        };
        assert_eq!(
            said(&cpu(), &two(), &json!([])).unwrap(),
            "the scaledobject has a cpu trigger but the container b doesn't have the cpu request defined"
        );
        let by_limit = json!([{"name": "b", "resources": {"limits": {"cpu": "1"}}}]);
        assert_eq!(said(&cpu(), &by_limit, &json!([])), None);
        assert_eq!(said(&cpu(), &two(), &json!([{"type": "Container", "defaultRequest": {"cpu": "1"}}])), None);
        assert!(said(&cpu(), &two(), &json!([{"type": "Pod", "default": {"cpu": "1"}}])).is_some());
        let one = json!({"type": "cpu", "metadata": {"value": "50", "containerName": "a"}});
        assert_eq!(said(&one, &two(), &json!([])), None, "the other containers do not matter");
        let queue = json!({"type": "prometheus", "metadata": {}});
        assert_eq!(said(&queue, &two(), &json!([])), None);
    }
}
