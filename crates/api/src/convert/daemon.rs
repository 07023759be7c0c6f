//! DaemonSets: the pod that will be on every node they choose.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use scheduling::{OwnerKey, Pod, TaintEffect, Toleration, TolerationOperator};

use super::pod::from_parts;

/// The pod a DaemonSet makes, named after the DaemonSet.
pub fn daemon_set(set: &DaemonSet) -> Pod {
    let template = set.spec.as_ref().map(|s| &s.template);
    let metadata = ObjectMeta {
        name: set.metadata.name.clone(),
        namespace: set.metadata.namespace.clone(),
        uid: set.metadata.uid.clone(),
        creation_timestamp: set.metadata.creation_timestamp.clone(),
        labels: template.and_then(|t| t.metadata.as_ref()).and_then(|m| m.labels.clone()),
        ..ObjectMeta::default()
    };
    let empty = PodSpec::default();
    let spec = template.and_then(|t| t.spec.as_ref()).unwrap_or(&empty);
    let mut pod = from_parts(&metadata, spec, None);
    pod.tolerations.extend(added_tolerations(spec.host_network == Some(true)));
    pod.owner = Some(OwnerKey {
        kind: "DaemonSet".to_owned(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
    });
    pod
}

/// What the DaemonSet controller adds to every pod it makes.
fn added_tolerations(host_network: bool) -> impl Iterator<Item = Toleration> {
    use TaintEffect::{NoExecute, NoSchedule};
    [
        ("node.kubernetes.io/not-ready", NoExecute),
        ("node.kubernetes.io/unreachable", NoExecute),
        ("node.kubernetes.io/disk-pressure", NoSchedule),
        ("node.kubernetes.io/memory-pressure", NoSchedule),
        ("node.kubernetes.io/pid-pressure", NoSchedule),
        ("node.kubernetes.io/unschedulable", NoSchedule),
    ]
    .into_iter()
    .chain(host_network.then_some(("node.kubernetes.io/network-unavailable", NoSchedule)))
    .map(|(key, effect)| Toleration {
        key: Some(key.to_owned()),
        operator: TolerationOperator::Exists,
        value: String::new(),
        effect: Some(effect),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_daemon_asks_for_what_its_template_says_and_tolerates_what_the_controller_adds() {
        let set = json!({ "metadata": { "name": "cni", "namespace": "kube-system" }, "spec": {
            "selector": {}, "template": { "metadata": { "labels": { "app": "cni" } }, "spec": { "containers": [
                { "name": "c", "resources": { "requests": { "cpu": "50m" } } }] } } } });
        let pod = daemon_set(&serde_json::from_value(set).unwrap());
        assert_eq!(pod.key.to_string(), "kube-system/cni");
        assert_eq!(pod.requests.to_string(), "cpu: 50m, pods: 1");
        assert_eq!(pod.labels["app"], "cni");
        assert_eq!(pod.tolerations.len(), 6);
    }
}
