//! Pods.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use scheduling::{Gang, HostPort, OwnerKey, Pod, PodKey, Protocol};
use units::{Amount, ResourceName};

use super::{affinity, resources};

/// What placing needs to know of a pod.
///
/// `volume_zones`, `volumes_by_driver` and `exclusive_claims` are left empty: they are in other objects
/// ([`crate::volumes::Volumes`]).
pub fn pod(pod: &core::Pod) -> Pod {
    with_status(pod, pod.status.as_ref())
}

/// The same of what its controller will make in its place once it is gone: nothing has been given to that yet.
pub fn replacement(pod: &core::Pod) -> Pod {
    with_status(pod, None)
}

fn with_status(pod: &core::Pod, status: Option<&core::PodStatus>) -> Pod {
    let mut found = from_parts(&pod.metadata, &core::PodSpec::default(), None);
    if let Some(spec) = &pod.spec {
        found = from_parts(&pod.metadata, spec, status);
    } else {
        found.invalid.push("the pod has no spec".to_owned());
    }
    found
}

/// The same from metadata, spec and, if it is there, status: of a pod, or of a template.
pub(super) fn from_parts(metadata: &ObjectMeta, spec: &core::PodSpec, status: Option<&core::PodStatus>) -> Pod {
    let mut invalid = Vec::new();
    let mut requests = resources::pod_requests(spec, status, &mut invalid);
    requests.set(ResourceName::pods(), Amount(1));
    let affinity = spec.affinity.as_ref();
    let nodes = affinity.and_then(|a| a.node_affinity.as_ref());
    let near = affinity.and_then(|a| a.pod_affinity.as_ref());
    let away = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        invalid.push("dynamic resource claims (spec.resourceClaims) are not supported".to_owned());
    }
    Pod {
        uid: metadata.uid.clone().unwrap_or_default(),
        labels: metadata.labels.clone().unwrap_or_default(),
        requests,
        node_selector: spec.node_selector.clone().unwrap_or_default(),
        required_node_affinity: affinity::required_nodes(nodes, &mut invalid),
        preferred_node_affinity: affinity::preferred_nodes(nodes, &mut invalid),
        tolerations: affinity::tolerations(spec.tolerations.as_ref(), &mut invalid),
        topology_spread: affinity::spread(spec.topology_spread_constraints.as_ref(), &mut invalid),
        pod_affinity: affinity::pod_terms(
            near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            &mut invalid,
        ),
        pod_anti_affinity: affinity::pod_terms(
            away.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref()),
            away.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref()),
            &mut invalid,
        ),
        host_ports: host_ports(spec, &mut invalid),
        priority: spec.priority.unwrap_or(0),
        created_at_unix_seconds: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        owner: metadata
            .owner_references
            .iter()
            .flatten()
            .find(|owner| owner.controller == Some(true))
            .map(|owner| OwnerKey { kind: owner.kind.clone(), name: owner.name.clone(), uid: owner.uid.clone() }),
        gang: gang(metadata, &mut invalid),
        terminating: metadata.deletion_timestamp.is_some(),
        invalid,
        ..Pod::new(PodKey::new(
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        ))
    }
}

/// The labels and annotations that say which group a pod belongs to: those of the coscheduling plugin of the kube-scheduler, in
/// the order of their age, and Volcano's.
const GROUP_NAMES: [&str; 3] =
    ["pod-group.scheduling.sigs.k8s.io/name", "scheduling.x-k8s.io/pod-group", "scheduling.k8s.io/group-name"];
/// What says on a pod itself how many of its group have to run at once, as the coscheduling plugin began with. What only a
/// PodGroup says is not known here.
const GROUP_NEEDS: &str = "pod-group.scheduling.sigs.k8s.io/min-available";

/// The group that the pod is of use with only as a whole, if it says both which and of how many.
fn gang(metadata: &ObjectMeta, invalid: &mut Vec<String>) -> Option<Gang> {
    let said = |key: &str| {
        let labelled = metadata.labels.as_ref().and_then(|labels| labels.get(key));
        labelled.or_else(|| metadata.annotations.as_ref()?.get(key))
    };
    let (name, needed) = GROUP_NAMES.into_iter().find_map(said).zip(said(GROUP_NEEDS))?;
    let Some(needed) = needed.parse().ok().filter(|needed| *needed > 0) else {
        invalid.push(format!("{GROUP_NEEDS}: {needed:?} is no whole number above 0"));
        return None;
    };
    Some(Gang { name: name.clone(), needed })
}

fn host_ports(spec: &core::PodSpec, invalid: &mut Vec<String>) -> Vec<HostPort> {
    // Only init containers that stay can hold a port while others run.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let on_host = spec.host_network == Some(true);
    let mut found = Vec::new();
    let all = spec.containers.iter().chain(sidecars);
    for (container, port) in all.flat_map(|c| c.ports.iter().flatten().map(|port| (c.name.as_str(), port))) {
        let number = port.host_port.filter(|number| *number != 0).or(on_host.then_some(port.container_port));
        let Some(number) = number else { continue };
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                let field = format!("container {container}: ports[].protocol");
                invalid.push(format!("{field}: {other:?} is not TCP, UDP or SCTP (port {number})"));
                continue;
            }
        };
        match u16::try_from(number) {
            Ok(port_number) => {
                let ip = port.host_ip.clone().unwrap_or_default();
                found.push(HostPort { ip, port: port_number, protocol });
            }
            Err(_) => {
                invalid.push(format!("container {container}: ports[].hostPort: {number} is not between 1 and 65535"));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use requirements::Operator;
    use serde_json::{Value, json};

    use super::*;

    fn converted(spec: &Value) -> Pod {
        let object = json!({
            "metadata": { "name": "p", "namespace": "web", "uid": "u", "creationTimestamp": "1970-01-01T00:01:00Z",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "x",
                                      "controller": true }] },
            "spec": spec,
        });
        pod(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn identity_age_and_owner_are_taken_over() {
        let found = converted(&json!({ "containers": [] }));
        assert_eq!(found.key.to_string(), "web/p");
        assert_eq!(found.created_at_unix_seconds, 60);
        assert_eq!(found.owner.unwrap().kind, "ReplicaSet");
        assert_eq!(found.requests.to_string(), "pods: 1");
        assert_eq!(found.invalid, Vec::<String>::new());
    }

    #[test]
    fn what_comes_in_place_of_a_resized_pod_asks_for_what_is_written() {
        let resources = json!({ "requests": { "cpu": "1" } });
        let given = json!({ "name": "c", "image": "i", "imageID": "i", "ready": true, "restartCount": 0,
            "allocatedResources": { "cpu": "6" } });
        let object = json!({ "metadata": { "name": "p" },
            "spec": { "containers": [{ "name": "c", "resources": resources }] }, "status": { "containerStatuses": [given] } });
        let object = serde_json::from_value(object).unwrap();
        let asked = [pod(&object), replacement(&object)].map(|pod| pod.requests.to_string());
        assert_eq!(asked, ["cpu: 6, pods: 1", "cpu: 1, pods: 1"]);
    }

    #[test]
    fn who_was_told_to_go_is_terminating() {
        let told =
            |metadata: &Value| pod(&serde_json::from_value(json!({ "metadata": metadata })).unwrap()).terminating;
        assert!(told(&json!({ "name": "p", "deletionTimestamp": "2026-01-01T00:00:30Z" })));
        assert!(!told(&json!({ "name": "p" })));
    }

    fn grouped(labels: &Value, annotations: &Value) -> (Option<(String, u32)>, Vec<String>) {
        let metadata = json!({ "name": "p", "namespace": "web", "labels": labels, "annotations": annotations });
        let found =
            pod(&serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": [] } })).unwrap());
        (found.gang.map(|gang| (gang.name, gang.needed)), found.invalid)
    }

    #[test]
    fn a_group_is_one_if_the_pod_says_how_many_are_needed() {
        let needs = "pod-group.scheduling.sigs.k8s.io/min-available";
        let ring = |needed| (Some(("ring".to_owned(), needed)), Vec::new());
        for name in GROUP_NAMES {
            assert_eq!(grouped(&json!({ name: "ring", needs: "3" }), &json!({})), ring(3), "{name}");
            assert_eq!(grouped(&json!({ name: "ring" }), &json!({ needs: "3" })), ring(3), "{name}");
            assert_eq!(grouped(&json!({ name: "ring" }), &json!({})), (None, vec![]), "{name}");
        }
        // Kueue counts pods that have ended, too, which nobody sees here: one that is made again must not wait for them.
        let [name, count] = ["kueue.x-k8s.io/pod-group-name", "kueue.x-k8s.io/pod-group-total-count"];
        assert_eq!(grouped(&json!({ name: "ring" }), &json!({ count: "4" })), (None, vec![]));
        for wrong in ["0", "-1", "many", ""] {
            let (group, invalid) = grouped(&json!({ GROUP_NAMES[0]: "ring", needs: wrong }), &json!({}));
            assert_eq!((group, invalid), (None, vec![format!("{needs}: {wrong:?} is no whole number above 0")]));
        }
    }

    #[test]
    fn affinity_terms_are_alternatives_and_a_node_name_is_no_label() {
        let found = converted(&json!({ "containers": [], "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
                { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] },
                                       { "key": "gen", "operator": "Gt", "values": ["2"] }] },
                { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] },
            ] },
            "preferredDuringSchedulingIgnoredDuringExecution": [
                { "weight": 7, "preference": { "matchExpressions": [{ "key": "x", "operator": "Exists" }] } },
            ] } } }));
        assert_eq!(found.required_node_affinity.len(), 2);
        assert_eq!(found.required_node_affinity[0][1].operator, Operator::Gt);
        assert_eq!(found.required_node_affinity[1][0].to_string(), ".metadata.name In [n1]");
        assert_eq!(found.preferred_node_affinity[0].0, 7);
    }

    #[test]
    fn an_affinity_without_terms_matches_no_node() {
        let found = converted(&json!({ "containers": [], "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [{}] } } } }));
        assert_eq!(found.invalid, ["required node affinity: it has only empty terms, which match no node"]);
    }

    #[test]
    fn ports_on_the_hosts_network_are_host_ports() {
        let found = converted(&json!({ "hostNetwork": true, "containers": [
            { "name": "c", "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }] }] }));
        let said: Vec<String> = found.host_ports.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["80/TCP", "53/UDP"]);
        let found = converted(&json!({ "containers": [{ "name": "c", "ports": [{ "containerPort": 80 }] }] }));
        assert!(found.host_ports.is_empty());
    }

    #[test]
    fn what_is_not_known_is_said() {
        let found = converted(&json!({ "containers": [], "tolerations": [{ "key": "a", "operator": "Near" }],
            "topologySpreadConstraints": [{ "maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule" }],
            "resourceClaims": [{ "name": "gpu" }] }));
        assert_eq!(found.invalid.len(), 3, "{:?}", found.invalid);
    }

    #[test]
    fn spread_and_pod_affinity_keep_their_selectors() {
        let selector = json!({ "matchLabels": { "app": "web" } });
        let found = converted(&json!({ "containers": [],
            "topologySpreadConstraints": [{ "maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "ScheduleAnyway",
                                            "labelSelector": selector }],
            "affinity": { "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "h", "labelSelector": selector }],
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    { "weight": 3, "podAffinityTerm": { "topologyKey": "z" } }] } } }));
        assert_eq!(found.topology_spread[0].selector.as_ref().unwrap().match_labels["app"], "web");
        assert_eq!(found.pod_anti_affinity.len(), 2);
        assert_eq!(found.pod_anti_affinity[1].selector, None, "an absent selector is not an empty one");
    }
}
