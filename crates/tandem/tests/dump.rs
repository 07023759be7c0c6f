//! What a dump of a cluster has besides pods that wait: workloads that have ended, namespaces nobody wrote down, pods that stay on
//! nodes that are leaving, and objects that no API server would have taken.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::path::Path;

use serde_json::{Value, json};
use tandem::{BadInput, documents, input};

fn read(objects: &[Value]) -> Result<input::Input, BadInput> {
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    let documents = documents::parse("dump.yaml", &text.join("\n---\n"))?;
    input::from_documents(Path::new("dump.yaml"), documents, None)
}

/// What is wrong with these objects.
fn wrong(objects: &[Value]) -> Vec<String> {
    let said = read(objects).map(|input| input.snapshot.pods.len()).unwrap_err().to_string();
    said.lines().filter_map(|line| Some(line.split_once("document ")?.1.to_owned())).collect()
}

fn pod(name: &str, patch: Value) -> Value {
    let mut pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "shop" },
        "spec": { "containers": [{ "name": "c" }] } });
    merge(&mut pod, patch);
    pod
}

fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, patch) => *base = patch,
    }
}

/// A workload of two pods.
fn workload(kind: &str, name: &str, patch: Value) -> Value {
    let (version, count) = if kind == "Job" { ("batch/v1", "parallelism") } else { ("apps/v1", "replicas") };
    let mut one = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": "shop" },
        "spec": { count: 2, "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [{ "name": "c" }] } } } });
    if kind != "Job" {
        one["spec"]["selector"] = json!({ "matchLabels": { "app": name } });
    }
    merge(&mut one, patch);
    one
}

#[test]
fn workloads_that_have_ended_or_are_being_deleted_make_no_pods() {
    let deleted = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" } });
    let kinds = ["Deployment", "ReplicaSet", "StatefulSet", "Job"];
    let told = |kind: &str, status: &str| json!({ "status": { "conditions": [{ "type": kind, "status": status }] } });
    let ends = ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"];
    let mut objects: Vec<Value> = kinds.map(|kind| workload(kind, "gone", deleted.clone())).into();
    objects.extend(ends.map(|kind| workload("Job", &kind.to_lowercase(), told(kind, "True"))));
    objects.push(workload("Job", "tried", told("Failed", "False")));
    objects.extend(kinds.map(|kind| workload(kind, &kind.to_lowercase(), json!({}))));
    let pods = read(&objects).unwrap().snapshot.pods;
    let mut names: Vec<&str> = pods.iter().map(|pod| pod.key.name.rsplit_once('-').unwrap().0).collect();
    names.dedup();
    names.sort_unstable();
    assert_eq!(names, ["deployment", "job", "replicaset", "statefulset", "tried"]);
}

#[test]
fn every_namespace_bears_its_name_whether_it_is_in_the_dump_or_not() {
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "known", "labels": { "team": "a" } } });
    let elsewhere = |namespace: &str| json!({ "metadata": { "namespace": namespace } });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n" } });
    let bound = pod("bound", json!({ "metadata": { "namespace": "busy" }, "spec": { "nodeName": "n" } }));
    let objects = [namespace, node, bound, pod("a", elsewhere("known")), pod("b", elsewhere("unknown"))];
    let labels = read(&objects).unwrap().snapshot.namespace_labels;
    let told: Vec<String> = labels.iter().map(|(name, labels)| format!("{name} {labels:?}")).collect();
    assert_eq!(
        told,
        [
            r#"busy {"kubernetes.io/metadata.name": "busy"}"#,
            r#"known {"kubernetes.io/metadata.name": "known", "team": "a"}"#,
            r#"unknown {"kubernetes.io/metadata.name": "unknown"}"#,
        ]
    );
}

#[test]
fn who_stays_on_a_node_that_is_leaving_is_told_and_who_vanishes_with_it() {
    let owners =
        json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true }]);
    let told = |pool: &str, pods: &[Value]| {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n", "labels": { pool: "p" } },
            "spec": { "taints": [{ "key": "karpenter.sh/disrupted", "effect": "NoSchedule" }] } });
        let on_it = |pod: &Value| {
            let mut pod = pod.clone();
            merge(&mut pod, json!({ "spec": { "nodeName": "n" }, "status": { "phase": "Running" } }));
            pod
        };
        let objects: Vec<Value> = pods.iter().map(on_it).chain([node]).collect();
        let input = read(&objects).unwrap();
        let kept: Vec<String> = input.left_out.held.iter().map(|(why, count)| format!("{count} {why}")).collect();
        (kept, input.left_out.ownerless, input.snapshot.pods.len())
    };
    let owned = pod("owned", json!({ "metadata": { "ownerReferences": owners } }));
    let protected = pod(
        "protected",
        json!({ "metadata": { "ownerReferences": owners,
        "annotations": { "karpenter.sh/do-not-disrupt": "true" } } }),
    );
    let alone = pod("alone", json!({}));
    let daemon = pod(
        "daemon",
        json!({ "metadata": { "ownerReferences": [
        { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "o", "controller": true }] } }),
    );
    let annotated = "1 annotated do-not-evict or do-not-disrupt".to_owned();
    let all = [owned.clone(), protected.clone(), alone.clone(), daemon.clone()];
    assert_eq!(told("karpenter.sh/nodepool", &all), (vec![annotated.clone()], 1, 1));
    let forbidden = "1 another pod of the node forbids its drain".to_owned();
    let ownerless = "1 nothing would make it again, and the rules for Provisioners then forbid the drain".to_owned();
    let provisioner = "karpenter.sh/provisioner-name";
    assert_eq!(told(provisioner, &[owned.clone(), protected, daemon]), (vec![annotated, forbidden.clone()], 0, 0));
    assert_eq!(told(provisioner, &[owned.clone(), alone]), (vec![forbidden, ownerless], 0, 0));
    assert_eq!(told(provisioner, &[owned]), (Vec::new(), 0, 1));
}

#[test]
fn what_no_api_server_would_have_taken_is_told() {
    let bad_label = json!({ "metadata": { "labels": { "-x": "1" } } });
    let nodes = json!({ "spec": { "nodeSelector": { "disk": "my ssd" } } });
    let template = json!({ "spec": { "template": { "metadata": { "labels": { "app": "other" } } } } });
    let in_template = json!({ "spec": { "template": { "metadata": { "labels": { "tier": "a b" } } } } });
    let found = wrong(&[
        pod("labelled", bad_label),
        pod("picky", nodes),
        workload("Deployment", "deployment", template.clone()),
        workload("ReplicaSet", "set", template.clone()),
        workload("StatefulSet", "db", template),
        workload("Job", "job", in_template),
        json!({ "apiVersion": "v1", "metadata": { "name": "what" } }),
        json!({ "apiVersion": "v1", "kind": "LimitRange", "metadata": { "name": "l", "namespace": "shop" }, "spec": { "limits": [
            { "type": "Container", "default": { "cpu": "1", "memory": "1Gi" }, "max": { "cpu": "900m", "memory": "1Gi" } }] } }),
    ]);
    let selector = "spec.selector: does not select the labels of the template";
    assert_eq!(
        found,
        [
            "1, Pod shop/labelled: metadata.labels.-x: \"-x\" cannot be a label".to_owned(),
            "2, Pod shop/picky: spec.nodeSelector.disk: \"my ssd\" cannot be the value of a label".to_owned(),
            format!("3, Deployment shop/deployment: {selector}"),
            format!("4, ReplicaSet shop/set: {selector}"),
            format!("5, StatefulSet shop/db: {selector}"),
            "6, Job shop/job: spec.template.metadata.labels.tier: \"a b\" cannot be the value of a label".to_owned(),
            "7: kind: is missing, so nobody knows what this is".to_owned(),
            "8, LimitRange shop/l: spec.limits[0].default.cpu: 1 is more than max, 900m".to_owned(),
        ]
    );
}
