//! What is sound is planned for, whatever is wrong with the rest; and what decides how many pods fit is read from wherever it is.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{fs, process::Command};

use serde_json::Value;

const TYPES: &str = r#"[
{ "name": "m.large", "architecture": "amd64", "operatingSystems": ["linux"],
  "resources": { "cpu": "4", "memory": "16Gi", "pods": "29" }, "offerings": [
    { "Price": 0.10, "Requirements": [{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
      { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] }]"#;

fn pool(class: &str) -> String {
    format!(
        "apiVersion: karpenter.sh/v1\nkind: NodePool\nmetadata: {{ name: default }}\nspec: {{ template: {{ spec: {{ requirements: [], \
         nodeClassRef: {{ group: karpenter.k8s.aws, kind: EC2NodeClass, name: {class} }} }} }} }}\n"
    )
}

fn provisioner(more: &str) -> String {
    let provider = "provider: { subnetSelector: { a: b }, securityGroupSelector: { a: b } }";
    format!(
        "apiVersion: karpenter.sh/v1alpha5\nkind: Provisioner\nmetadata: {{ name: old }}\nspec: {{ {provider}, {more} }}\n"
    )
}

fn pod(name: &str, cpu: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name} }}\nspec: {{ containers: [{{ name: main, resources: {{ requests: \
         {{ cpu: '{cpu}' }} }} }}] }}\n"
    )
}

/// Exit code, the plan as JSON if there is one, and standard error.
fn run(documents: &[String], types: &str, more: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("all.yaml"), documents.join("---\n")).unwrap();
    fs::write(folder.path().join("types.json"), types).unwrap();
    let program = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["simulate", ".", "--format", "json"])
        .args(more)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let plan = serde_json::from_slice(&program.stdout).unwrap_or_default();
    (program.status.code().unwrap(), plan, String::from_utf8(program.stderr).unwrap())
}

/// How many of the pods have no place, and how many nodes there are.
fn planned(documents: &[String]) -> (i64, i64) {
    let (code, plan, said) = run(documents, TYPES, &[]);
    assert_eq!(code, 0, "{said}");
    (plan["unplaced"].as_i64().unwrap(), plan["nodes"].as_i64().unwrap())
}

#[test]
fn one_bad_object_does_not_stop_the_others() {
    let bad_pool = pool("c")
        .replace("default", "worse")
        .replace("requirements: []", "requirements: [{ key: a b, operator: Inn }]");
    let bad_node =
        "apiVersion: v1\nkind: Node\nmetadata: { name: node-1 }\nstatus: { allocatable: { cpu: '-4' } }\n".to_owned();
    for (bad, named) in [(pod("bad", "-1"), "Pod default/bad"), (bad_pool, "NodePool worse"), (bad_node, "Node node-1")]
    {
        let (code, plan, said) = run(&[pool("c"), pod("good", "1"), bad], TYPES, &[]);
        assert_eq!((code, &plan["nodes"], &plan["unplaced"]), (2, &1.into(), &0.into()), "{said}");
        assert!(said.contains(named), "{said}");
    }
    let types = TYPES.strip_suffix(']').unwrap().to_owned()
        + r#", { "name": "m.bad", "architecture": "amd64", "operatingSystems": ["linux"],
            "resources": { "cpu": "4", "memory": "16Gi" }, "offerings": [{ "Price": -1, "Requirements": [] }] }]"#;
    let (code, plan, said) = run(&[pool("c"), pod("good", "1")], &types, &[]);
    assert_eq!((code, &plan["nodes"]), (2, &1.into()), "{said}");
    assert!(said.contains("instance type m.bad"), "{said}");
}

#[test]
fn without_a_sound_pod_only_what_is_wrong_is_said() {
    let (code, plan, said) = run(&[pool("c"), pod("bad", "-1")], TYPES, &[]);
    assert_eq!((code, plan), (2, Value::Null), "{said}");
}

#[test]
fn more_pods_than_any_cluster_runs_are_refused_and_not_made() {
    let many = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { replicas: 2147483647, selector: {}, \
                template: { spec: { containers: [{ name: main }] } } }\n";
    let (code, plan, said) = run(&[pool("c"), pod("good", "1"), many.to_owned()], TYPES, &[]);
    assert_eq!((code, &plan["pods"]), (2, &1.into()), "{said}");
    assert!(said.contains("spec.replicas: 2147483647 pods are more than"), "{said}");
}

#[test]
fn what_the_kubelet_is_told_decides_how_many_pods_fit() {
    let pods = || (0..4).map(|index| pod(&format!("p{index}"), "500m"));
    let with = |first: Vec<String>| first.into_iter().chain(pods()).collect::<Vec<_>>();
    assert_eq!(planned(&with(vec![provisioner("requirements: []")])), (0, 1));
    assert_eq!(planned(&with(vec![provisioner("kubeletConfiguration: { maxPods: 2 }")])), (0, 2));
    assert_eq!(planned(&with(vec![provisioner("kubeletConfiguration: { systemReserved: { cpu: '3' } }")])), (0, 4));
    let class = "apiVersion: karpenter.k8s.aws/v1\nkind: EC2NodeClass\nmetadata: { name: c }\nspec: { kubelet: { maxPods: 2 } }\n";
    assert_eq!(planned(&with(vec![pool("c"), class.to_owned()])), (0, 2));
    assert_eq!(planned(&with(vec![pool("other"), class.to_owned()])), (0, 1));
}

#[test]
fn startup_taints_of_a_provisioner_are_not_held_against_its_node_that_starts() {
    let node = "apiVersion: v1\nkind: Node\nmetadata: { name: node-1, labels: { karpenter.sh/provisioner-name: old } }\nspec: { taints: [\
                { key: cni, effect: NoSchedule }, { key: node.kubernetes.io/not-ready, effect: NoSchedule }] }\n\
                status: { allocatable: { cpu: '4', memory: 16Gi, pods: '29' } }\n";
    let startup = provisioner("startupTaints: [{ key: cni, effect: NoSchedule }]");
    assert_eq!(planned(&[startup, node.to_owned(), pod("p", "1")]), (0, 0));
    assert_eq!(planned(&[provisioner("requirements: []"), node.to_owned(), pod("p", "1")]), (0, 1));
}

#[test]
fn preferences_are_ignored_for_who_asks_for_that() {
    let shy = |name: &str| {
        pod(name, "500m").replace(
            "spec: {",
            "spec: { affinity: { podAntiAffinity: { preferredDuringSchedulingIgnoredDuringExecution: \
            [{ weight: 1, podAffinityTerm: { topologyKey: kubernetes.io/hostname, labelSelector: {} } }] } },",
        )
    };
    let all = [pool("c"), shy("a"), shy("b")];
    let nodes = |more: &[&str]| run(&all, TYPES, more).1["nodes"].as_i64().unwrap();
    assert_eq!((nodes(&[]), nodes(&["--preference-policy", "Ignore"])), (2, 1));
}

#[test]
fn each_new_node_says_what_it_may_become_and_why() {
    let (_, plan, _) = run(&[pool("c"), pod("p", "1")], TYPES, &["--verbose"]);
    let node = &plan["planned_nodes"][0];
    assert_eq!(node["offerings"][0]["offering"], "m.large in a (on-demand)");
    assert_eq!(node["pods"].as_array().unwrap().len(), 1);
    assert_eq!(node["why"][0], "opened for pod default/p");
}

/// A pool with a field that is wrong, and a pod that is told so.
fn refused_pool(wrong: &str) -> String {
    let bad = pool("c").replace("spec: { template", &format!("spec: {{ {wrong}, template"));
    let (code, plan, said) = run(&[bad, pod("p", "1")], TYPES, &[]);
    assert_eq!((code, &plan["unplaced"]), (2, &1.into()), "{said}");
    plan["refusals"][0]["reasons"].to_string()
}

#[test]
fn a_pool_that_is_refused_is_not_said_to_be_missing() {
    for (wrong, field) in
        [("limits: { cpu: -5 }", "spec.limits.cpu"), ("weight: 101", "spec.weight"), ("weight: x", "spec.weight")]
    {
        let told = refused_pool(wrong);
        assert!(told.contains(&format!("NodePool/default: not used, {field}: ")), "{told}");
        assert!(!told.contains("there is no"), "{told}");
    }
}

#[test]
fn a_pool_whose_class_has_settings_that_cannot_be_makes_no_machines() {
    let class = |kubelet: &str| {
        format!(
            "apiVersion: karpenter.k8s.aws/v1\nkind: EC2NodeClass\nmetadata: {{ name: c }}\nspec: {{ kubelet: {kubelet} }}\n"
        )
    };
    let (code, plan, said) = run(&[pool("c"), pod("p", "7"), class("{ systemReserved: { cpu: '-6' } }")], TYPES, &[]);
    assert_eq!((code, &plan["unplaced"]), (2, &1.into()), "{said}");
    let why = plan["refusals"][0]["reasons"].to_string();
    assert!(why.contains("EC2NodeClass c: spec.kubelet.systemReserved.cpu: quantity"), "{why}");
    // That of another pool is told, and in nobody's way.
    let (code, plan, said) = run(&[pool("other"), pod("p", "1"), class("17")], TYPES, &[]);
    assert_eq!((code, &plan["unplaced"]), (2, &0.into()), "{said}");
    assert!(said.contains("EC2NodeClass c: spec.kubelet: 17 is not a map of settings"), "{said}");
}

#[test]
fn one_bad_type_or_offering_does_not_take_the_others_from_the_catalogue() {
    let offering = |price: &str, zone: &str| {
        format!(
            r#"{{ {price} "Requirements": [{{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] }},
            {{ "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["{zone}"] }}] }}"#
        )
    };
    let machine = |name: &str, cpu: &str, offerings: &[String]| {
        format!(
            r#"{{ "name": "{name}", "architecture": "amd64", "operatingSystems": ["linux"],
            "resources": {{ "cpu": {cpu}, "memory": "16Gi" }}, "offerings": [{}] }}"#,
            offerings.join(",")
        )
    };
    let good = machine("m.good", "4", &[offering("\"Price\": 0.1,", "a")]);
    let types = |bad: &str| format!("[{good}, {bad}]");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("types.yaml");
    // All of these are written as JSON, whatever the file is called.
    for price in
        ["", "\"Price\": -1,", "\"Price\": null,", "\"Price\": \"cheap\",", "\"Price\": NaN,", "\"Price\": .nan,"]
    {
        let bad = machine("m.bad", "4", &[offering("\"Price\": 0.01,", "b"), offering(price, "a")]);
        fs::write(&file, types(&bad)).unwrap();
        let (code, plan, said) =
            run(&[pool("c"), pod("p", "1")], TYPES, &["--catalogue", file.to_str().unwrap(), "--verbose"]);
        assert!(said.contains("instance type m.bad: offerings[1]"), "{price}: {said}");
        assert_eq!((code, &plan["unplaced"]), (2, &0.into()), "{price}: {said}");
        // Its other offering can be bought.
        let offerings = plan["planned_nodes"][0]["offerings"].to_string();
        assert!(offerings.contains("m.bad in b") && !offerings.contains("m.bad in a"), "{price}: {offerings}");
    }
    for (bad, field) in [
        (machine("m.bad", "0", &[offering("\"Price\": 0.01,", "a")]), "m.bad: resources.cpu"),
        (machine("m.bad", "4", &[offering("", "a")]), "m.bad: offerings[0]"),
        (machine("m.good", "8", &[offering("\"Price\": 0.01,", "a")]), "m.good: name"),
    ] {
        fs::write(&file, types(&bad)).unwrap();
        let (code, plan, said) =
            run(&[pool("c"), pod("p", "1")], TYPES, &["--catalogue", file.to_str().unwrap(), "--verbose"]);
        assert!(said.contains(field), "{said}");
        assert_eq!((code, &plan["cost_usd_per_hour"]), (2, &0.1.into()), "{said}");
    }
}
