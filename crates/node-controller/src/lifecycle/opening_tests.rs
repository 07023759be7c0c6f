use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{nominations::Memory, world::Objects};

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn with(mut base: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    base.pointer_mut(parent).unwrap()[key] = value;
    base
}

/// A claim that is planned for these pods of namespace `d`.
fn claim(name: &str, pods: &[&str]) -> Value {
    let pods: Vec<String> = pods.iter().map(|pod| format!("d/{pod}/uid-{pod}")).collect();
    let plan = json!({ "priceUsdMicrosPerHour": 1, "reason": "", "pods": pods, "offerings": [], "capacity": {} });
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": { "name": name, "uid": name, "annotations": { "tandem.dev/plan": plan.to_string() } },
        "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" }, "startupTaints": [] },
        "status": { "providerID": format!("x:///{name}") },
    })
}

/// The node of the claim of this name, with these taints (`key:effect`).
fn node(name: &str, ready: bool, taints: &[&str]) -> Value {
    let taint = |text: &&str| {
        let (key, effect) = text.split_once(':').unwrap();
        json!({ "key": key, "effect": effect })
    };
    json!({
        "metadata": { "name": format!("node-{name}"), "labels": {}, "annotations": {} },
        "spec": { "providerID": format!("x:///{name}"), "taints": taints.iter().map(taint).collect::<Vec<_>>() },
        "status": { "conditions": [ { "type": "Ready", "status": if ready { "True" } else { "False" } } ] },
    })
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "d", "uid": format!("uid-{name}") },
        "spec": { "containers": [] }, "status": { "phase": "Pending" },
    })
}

fn daemon(tolerations: &Value) -> Value {
    json!({ "metadata": { "name": "d", "namespace": "d" }, "spec": { "selector": {}, "template": {
        "metadata": {}, "spec": { "containers": [], "tolerations": tolerations } } } })
}

const BOOTED: &[&str] = &["karpenter.sh/unregistered:NoExecute"];
const HELD: &[&str] = &["karpenter.sh/unregistered:NoSchedule", "team:NoSchedule"];
const NOT_READY: &str = "node.kubernetes.io/not-ready:NoSchedule";

#[test]
fn only_a_node_that_takes_no_pods_yet_stays_closed_for_those_it_was_planned_for() {
    let planned = || claim("c", &["p"]);
    let with_startup_taint = || with(planned(), "/spec/startupTaints", json!([{ "key": "a", "effect": "NoExecute" }]));
    let hands_off =
        with(node("c", true, BOOTED), "/metadata/labels", json!({ "karpenter.sh/do-not-sync-taints": "true" }));
    let table = [
        ("booted with our taint", planned(), node("c", true, BOOTED), true),
        ("kubelet not ready", planned(), node("c", false, &[]), true),
        ("Kubernetes has not let pods in", planned(), node("c", true, &[NOT_READY]), true),
        ("open already", planned(), node("c", true, &["team:NoSchedule"]), false),
        ("for nobody", claim("c", &[]), node("c", true, BOOTED), false),
        ("somebody else opens it", with_startup_taint(), node("c", true, BOOTED), false),
        ("taints are not ours to write", planned(), hands_off, false),
    ];
    for (case, claim, node, wanted) in table {
        assert_eq!(stays_closed(&[], &from(claim), &from(node)), wanted, "{case}");
    }
}

#[test]
fn no_node_stays_closed_for_a_daemon_that_must_run_before_it_is_ready() {
    let not_ready = json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoSchedule" });
    let unregistered = json!({ "key": "karpenter.sh/unregistered", "operator": "Exists" });
    let table = [
        ("tolerates everything", json!([{ "operator": "Exists" }]), true),
        ("tolerates all that keeps pods off", json!([{ "operator": "Exists", "effect": "NoSchedule" }]), true),
        ("waits for ready nodes", json!([]), true),
        ("knows of us", json!([not_ready, unregistered]), true),
        ("does not know of us", json!([not_ready]), false),
    ];
    for (case, tolerations, wanted) in table {
        let (claim, node) = (from(claim("c", &["p"])), from(node("c", false, BOOTED)));
        assert_eq!(stays_closed(&[from(daemon(&tolerations))], &claim, &node), wanted, "{case}");
    }
}

#[test]
fn a_node_is_opened_when_nothing_else_keeps_pods_off() {
    let table = [
        (node("c", true, HELD), true),
        (node("c", true, BOOTED), true),
        (node("c", false, HELD), false),
        (node("c", true, &[HELD[0], NOT_READY]), false),
        (node("c", true, &["team:NoSchedule"]), false),
    ];
    for (node, wanted) in table {
        assert_eq!(is_due(&from(node.clone())), wanted, "{node}");
    }
}

/// The names of the pods nominated for the node of claim `c`, when there is a node of a claim `other` too.
fn nominated(pods: Vec<Value>, memory: &Memory) -> Vec<String> {
    let claims = [claim("c", &["a", "b"]), claim("leaving", &[]), claim("other", &["z"])];
    let leaving = with(node("leaving", true, &[]), "/metadata/deletionTimestamp", json!("2024-01-01T00:00:00Z"));
    let world = World::new(Objects {
        pods: pods.into_iter().map(from).collect(),
        nodes: [node("c", true, HELD), leaving, node("other", true, &[])].map(from).to_vec(),
        claims: claims.map(from).to_vec(),
        ..Objects::default()
    });
    let nominations = Nominations::at(&world, memory, std::time::Duration::from_secs(20), Timestamp::UNIX_EPOCH);
    nominees(&world, &world.members[0], &nominations).iter().map(|pod| pod.name_any()).collect()
}

#[test]
fn the_pods_of_the_plan_are_nominated_unless_they_have_a_place() {
    let changed = |pointer: &str, value: Value| with(pod("a"), pointer, value);
    let kept = |node: &str| changed("/status/nominatedNodeName", json!(node));
    let table = [
        ("waits", pod("a"), true),
        ("bound", changed("/spec/nodeName", json!("x")), false),
        ("finished", changed("/status/phase", json!("Failed")), false),
        ("told to go", changed("/metadata/deletionTimestamp", json!("2024-01-01T00:00:00Z")), false),
        ("another one of this name", changed("/metadata/uid", json!("later")), false),
        ("nominated for it already", kept("node-c"), false),
        ("kept a place elsewhere", kept("node-other"), false),
        ("kept a place on a node that is gone", kept("node-gone"), true),
        ("kept a place on a node that leaves", kept("node-leaving"), true),
        ("not of this plan", pod("z"), false),
    ];
    for (case, pod, wanted) in table {
        let found = nominated(vec![pod], &Memory::default());
        assert_eq!(found.len(), usize::from(wanted), "{case}: {found:?}");
    }
    assert_eq!(nominated(vec![pod("b"), pod("z"), pod("a")], &Memory::default()), ["a", "b"]);
}

#[test]
fn who_was_given_the_place_or_another_one_later_counts_by_that() {
    let soon = Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1);
    let mut memory = Memory::default();
    memory.nominate("uid-later", "c", soon);
    memory.nominate("uid-a", "node-other", soon);
    assert_eq!(nominated(vec![pod("a"), pod("b"), pod("later")], &memory), ["b", "later"]);
}
