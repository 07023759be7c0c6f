use serde_json::json;
use units::{Amount, ResourceName};

use super::*;

fn read_provisioner(spec: &Value) -> Result<PoolTemplate, Vec<String>> {
    let object = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
        "metadata": { "name": "default" }, "spec": spec });
    provisioner(&serde_json::from_value(object).unwrap()).map_err(|e| e.iter().map(ToString::to_string).collect())
}

fn read_nodepool(spec: &Value) -> Result<PoolTemplate, Vec<String>> {
    let object = json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
        "metadata": { "name": "default" }, "spec": spec });
    nodepool(&serde_json::from_value(object).unwrap()).map_err(|e| e.iter().map(ToString::to_string).collect())
}

#[test]
fn a_provisioner_becomes_a_template_with_the_defaults_of_its_release() {
    let found = read_provisioner(&json!({
        "limits": { "resources": { "cpu": 1000, "memory": "1000Gi" } },
        "labels": { "team": "web" }, "weight": 7,
        "startupTaints": [{ "key": "cni", "effect": "NoSchedule" }],
        "provider": { "instanceProfile": "p" },
        "ttlSecondsAfterEmpty": 30, "ttlSecondsUntilExpired": 2_592_000,
    }))
    .unwrap();
    assert_eq!(found.requirements.get("karpenter.sh/capacity-type").unwrap().single(), Some("on-demand"));
    assert_eq!(found.requirements.get("kubernetes.io/arch").unwrap().single(), Some("amd64"));
    assert_eq!(found.requirements.get("karpenter.sh/provisioner-name").unwrap().single(), Some("default"));
    assert_eq!(found.requirements.get("team").unwrap().single(), Some("web"));
    assert!(!found.requirements.get(FAMILY).unwrap().allows(Some("t2")), "old families are avoided");
    assert_eq!(found.labels["karpenter.sh/provisioner-name"], "default");
    assert_eq!(found.limits.as_ref().unwrap().get(&ResourceName::cpu()), Amount(1_000_000));
    assert_eq!(found.class.kind, "Provisioner");
    assert_eq!(found.ttl_after_empty, Some(Duration::from_secs(30)));
    assert_eq!(found.startup_taints.len(), 1);
    assert_eq!(found.weight, 7);
}

#[test]
fn what_a_provisioner_says_itself_is_not_defaulted() {
    let found = read_provisioner(&json!({
        "requirements": [
            { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] },
            { "key": "beta.kubernetes.io/arch", "operator": "In", "values": ["arm64"] },
            { "key": "karpenter.k8s.aws/instance-family", "operator": "In", "values": ["t2"] },
        ],
        "providerRef": { "name": "own" },
    }))
    .unwrap();
    assert_eq!(found.requirements.get("karpenter.sh/capacity-type").unwrap().single(), Some("spot"));
    assert_eq!(found.requirements.get("kubernetes.io/arch").unwrap().single(), Some("arm64"));
    assert_eq!(found.requirements.get(FAMILY).unwrap().single(), Some("t2"));
    assert_eq!(
        found.class,
        NodeClassRef { group: "karpenter.k8s.aws".into(), kind: "AWSNodeTemplate".into(), name: "own".into() }
    );
}

#[test]
fn everything_wrong_with_a_provisioner_is_said_at_once() {
    let errors = read_provisioner(&json!({
        "requirements": [
            { "key": "karpenter.sh/provisioner-name", "operator": "Exists" },
            { "key": "node.k8s.io/x", "operator": "Exists" },
            { "key": "zone", "operator": "Near" },
            { "key": "gen", "operator": "Gte", "values": ["2"] },
            { "key": "gen", "operator": "In" },
            { "key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"] },
            { "key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"] },
        ],
        "labels": { "kubernetes.io/hostname": "a", "ok": "not ok" },
        "limits": { "resources": { "memory": "1000 Gi", "cpu": "-1" } },
        "taints": [{ "key": "a", "effect": "NoRun" }, { "key": "b", "effect": "NoSchedule" }],
        "startupTaints": [{ "key": "b", "effect": "NoSchedule" }],
        "weight": 101, "ttlSecondsAfterEmpty": -1, "ttlSecondsUntilExpired": -1,
    }))
    .unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|e| e.split(": ").next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.requirements[0].key",
            "spec.requirements[1].key",
            "spec.requirements[2].operator",
            "spec.requirements[3].operator",
            "spec.requirements[4]",
            "spec.labels.kubernetes.io/hostname",
            "spec.labels.ok",
            "spec.requirements",
            "spec.taints[0].effect",
            "spec.startupTaints[0]",
            "spec.weight",
            "spec.limits.resources.cpu",
            "spec.limits.resources.memory",
            "spec.ttlSecondsAfterEmpty",
            "spec.ttlSecondsUntilExpired",
        ],
        "{errors:#?}"
    );
}

#[test]
fn a_nodepool_has_no_defaults_but_its_name_and_class() {
    let found = read_nodepool(&json!({
        "template": { "metadata": { "labels": { "team": "web" } }, "spec": {
            "requirements": [{ "key": "karpenter.k8s.aws/instance-cpu", "operator": "Gte", "values": ["4"] },
                             { "key": "node.kubernetes.io/instance-type", "operator": "Exists", "minValues": 5 }],
            "nodeClassRef": { "group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "own" },
            "expireAfter": "1h30m", "terminationGracePeriod": "30s" } },
        "limits": { "nodes": "3" },
    }))
    .unwrap();
    assert_eq!(found.requirements.get("karpenter.sh/capacity-type"), None);
    assert_eq!(found.labels["karpenter.k8s.aws/ec2nodeclass"], "own");
    assert_eq!(found.labels["karpenter.sh/nodepool"], "default");
    assert_eq!(found.requirements.get("node.kubernetes.io/instance-type").unwrap().min_values(), Some(5));
    assert_eq!(found.ttl_until_expired, Some(Duration::from_mins(90)));
    assert_eq!(found.termination_grace_period, Some(Duration::from_secs(30)));
    assert_eq!(found.limits.unwrap().get(&ResourceName::new("nodes")), Amount(3));
}

#[test]
fn a_limit_of_what_no_machine_has_is_refused_instead_of_limiting_nothing() {
    let errors = read_nodepool(&json!({
        "template": { "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "K", "name": "n" } } },
        "limits": { "cpus": "5", "nodes": "3", "nvidia.com/gpu": "2", "hugepages-2Mi": "1Gi" },
    }))
    .unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|e| e.split(": ").next().unwrap()).collect();
    assert_eq!(fields, ["spec.limits.cpus"]);
}

#[test]
fn a_nodepools_errors_name_its_own_paths() {
    let errors = read_nodepool(&json!({
        "template": { "spec": {
            "requirements": [{ "key": "karpenter.sh/nodepool", "operator": "Exists" },
                             { "key": "a", "operator": "In", "values": ["x"], "minValues": 2 }],
            "nodeClassRef": { "group": "g", "kind": "K", "name": "n" }, "expireAfter": "1d" } },
    }))
    .unwrap_err();
    let fields: Vec<&str> = errors.iter().map(|e| e.split(": ").next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.template.spec.requirements[0].key",
            "spec.template.spec.requirements[1]",
            "spec.template.spec.expireAfter",
        ]
    );
}

#[test]
fn a_node_that_may_not_live_at_all_is_refused() {
    let said = read_provisioner(&json!({ "provider": {}, "ttlSecondsUntilExpired": 0 })).unwrap_err();
    assert!(said[0].starts_with("spec.ttlSecondsUntilExpired: must be above 0"), "{said:?}");
    assert!(read_provisioner(&json!({ "provider": {}, "ttlSecondsAfterEmpty": 0 })).is_ok());
    let said = read_nodepool(&json!({ "template": { "spec": { "requirements": [], "expireAfter": "0s",
        "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } } } }));
    assert!(said.unwrap_err()[0].starts_with("spec.template.spec.expireAfter: must be above 0"));
}
