use expect_test::expect;
use serde_json::{Value, json};

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
fn told(spec: Value) -> String {
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
    let container = |name: &str, ports: &[Value]| json!({ "name": name, "ports": ports });
    let found = told(json!({
        "containers": [
            container("a", &[port(80, ""), port(80, "127.0.0.1"), port(81, "")]),
            container("b", &[port(80, ""), json!({ "containerPort": 80 }), json!({ "containerPort": 80 })]),
        ],
        // Init containers come one after another, and before the others.
        "initContainers": [container("c", &[port(80, "")]), container("d", &[port(80, ""), port(80, "")])],
    }));
    expect![[r"
        spec.containers[1].ports[0].hostPort: port 80/TCP of the host is asked for twice
        spec.initContainers[1].ports[1].hostPort: port 80/TCP of the host is asked for twice
    "]]
    .assert_eq(&found);
}

#[test]
fn spreads_and_terms_that_no_api_server_takes_are_told() {
    let spread = |more: Value| {
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

#[test]
fn containers_that_no_api_server_takes_are_told() {
    let container = |name: &str, ports: Value, resources: Value| {
        let mut one = json!({ "name": name });
        (one["ports"], one["resources"]) = (ports, resources);
        one
    };
    let found = told(json!({ "hostNetwork": true, "containers": [
        container("a", json!([{ "containerPort": 0 }, { "containerPort": 80, "hostPort": 81 }]), json!({
            "requests": { "cpu": "2", "memory": "1Gi" }, "limits": { "cpu": "1500m", "memory": "1Gi" } })),
        container("a", json!([{ "containerPort": 90, "protocol": "ICMP" }]), json!({
            "limits": { "cpus": 1, "example.com/gpu": "500m", "hugepages-2Mi": "4Mi",
                "kubernetes.io/batch-cpu": "1500m" } })),
    ] }));
    expect![[r#"
        spec.containers[0].resources.requests.cpu: 2 is more than the limit of 1500m
        spec.containers[1].name: "a" is another container, too
        spec.containers[1].resources.limits.cpus: is no resource of Kubernetes, and one of somebody else's has a domain before its name
        spec.containers[1].resources.limits.example.com/gpu: 500m is no whole number
        spec.containers[0].ports[0].containerPort: 0 is not between 1 and 65535
        spec.containers[0].ports[1].hostPort: 81 is not the containerPort, which it is on the network of the host
        spec.containers[1].ports[0].protocol: "ICMP" is none of TCP, UDP, SCTP
    "#]].assert_eq(&found);
    let found = told(json!({
        "containers": [
            { "name": "a", "resources": { "requests": { "cpu": "2", "memory": "1Gi" } },
              "ports": [{ "containerPort": 80, "hostPort": 80, "hostIP": "999.1.1.1" },
                        { "containerPort": 81, "hostPort": 81, "hostIP": "::1" }] },
        ],
        "initContainers": [{ "name": "i", "restartPolicy": "Sometimes" }, { "name": "j", "restartPolicy": "Always" }],
        "resources": { "requests": { "cpu": "1500m", "memory": "1Gi" } },
    }));
    expect![[r#"
        spec.containers[0].ports[0].hostIP: "999.1.1.1" is no address
        spec.initContainers[0].restartPolicy: "Sometimes" is none of Always, OnFailure, Never
        spec.resources.requests.cpu: 1500m is less than the 2 that its containers ask for
    "#]]
    .assert_eq(&found);
}

#[test]
fn classes_of_volumes_that_no_api_server_takes_are_told() {
    let told = |mode: &str| {
        let class = json!({ "provisioner": "ebs.csi.aws.com", "volumeBindingMode": mode });
        of_storage_class(&serde_json::from_value(class).unwrap())
    };
    assert_eq!(told("Immediate"), []);
    let message = "\"Later\" is none of Immediate, WaitForFirstConsumer".to_owned();
    assert_eq!(told("Later"), [("volumeBindingMode".to_owned(), message)]);
}

#[test]
fn labels_and_selectors_that_no_api_server_takes_are_told() {
    let spread = |key: &str, selector: Value| {
        let mut one = json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway" });
        one["labelSelector"] = selector;
        one
    };
    let selector = json!({ "matchExpressions": [
        { "key": "a", "operator": "Gt", "values": ["1"] },
        { "key": "a", "operator": "Exists", "values": ["1"] },
        { "key": "a", "operator": "In" },
        { "key": "a", "operator": "NotIn", "values": ["1"] },
    ] });
    let term = json!({ "topologyKey": "zone", "labelSelector": {}, "matchLabelKeys": ["a", "b"], "mismatchLabelKeys": ["b"],
            "namespaceSelector": { "matchExpressions": [{ "key": "a", "operator": "In", "values": [] }] } });
    let found = told(json!({ "containers": [],
        "topologySpreadConstraints": [
            spread("a b", json!({})), spread("a.b/c_d", json!({})), spread("-a", json!({})), spread("a/", json!({})),
            spread("zone", selector), { "maxSkew": 1, "topologyKey": "host", "labelSelector": {} },
        ],
        "affinity": { "podAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } }));
    expect![[r#"
        spec.topologySpreadConstraints[0].topologyKey: "a b" cannot be a label
        spec.topologySpreadConstraints[2].topologyKey: "-a" cannot be a label
        spec.topologySpreadConstraints[3].topologyKey: "a/" cannot be a label
        spec.topologySpreadConstraints[4].labelSelector.matchExpressions[0].operator: "Gt" is none of In, NotIn, Exists, DoesNotExist
        spec.topologySpreadConstraints[4].labelSelector.matchExpressions[1].values: operator Exists takes no values
        spec.topologySpreadConstraints[4].labelSelector.matchExpressions[2].values: operator In needs at least one value
        spec.topologySpreadConstraints[5].whenUnsatisfiable: is missing: it is one of DoNotSchedule, ScheduleAnyway
        spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].mismatchLabelKeys: b is one of matchLabelKeys, too
        spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaceSelector.matchExpressions[0].values: operator In needs at least one value
    "#]].assert_eq(&found);
}

#[test]
fn budgets_that_no_api_server_takes_are_told() {
    let told = |spec: Value| {
        let budget = serde_json::from_value(json!({ "metadata": { "name": "b" }, "spec": spec })).unwrap();
        let lines = of_budget(&budget).into_iter().map(|(field, message)| format!("{field}: {message}\n"));
        lines.collect::<String>()
    };
    let selector = json!({ "matchLabels": { "app": "we b!" }, "matchExpressions": [
        { "key": "app", "operator": "Is", "values": ["x"] }, { "key": "-", "operator": "In" } ] });
    let found = [
        json!({ "minAvailable": 1, "maxUnavailable": 1 }),
        json!({ "minAvailable": -1 }),
        json!({ "maxUnavailable": "fifty" }),
        json!({ "maxUnavailable": "5" }),
        json!({ "minAvailable": "150%" }),
        json!({ "unhealthyPodEvictionPolicy": "Sometimes" }),
        json!({ "selector": selector }),
    ];
    expect![[r#"
        spec.maxUnavailable: minAvailable is given, too: only one may be
        spec.minAvailable: -1 is negative
        spec.maxUnavailable: "fifty" is neither a whole number nor a share such as 50%
        spec.maxUnavailable: "5" is neither a whole number nor a share such as 50%
        spec.minAvailable: "150%" is more than all of them
        spec.unhealthyPodEvictionPolicy: "Sometimes" is none of IfHealthyBudget, AlwaysAllow
        spec.selector.matchLabels.app: "we b!" cannot be the value of a label
        spec.selector.matchExpressions[0].operator: "Is" is none of In, NotIn, Exists, DoesNotExist
        spec.selector.matchExpressions[1]: "-" cannot be a label
        spec.selector.matchExpressions[1].values: operator In needs at least one value
    "#]]
    .assert_eq(&found.map(told).concat());
    let fine = json!({ "minAvailable": "50%", "selector": {}, "unhealthyPodEvictionPolicy": "AlwaysAllow" });
    assert_eq!(told(fine) + &told(json!({ "maxUnavailable": 0 })), "");
}
