use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::{nominations::Memory, world::Objects};

const T0: &str = "2024-01-01T00:00:00Z";
const TIMEOUT: Duration = Duration::from_mins(10);

fn at(seconds: i64) -> Timestamp {
    T0.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn node(name: &str, removal: Option<&str>, initialized: bool) -> Value {
    let mut annotations = json!({});
    if let Some(reason) = removal {
        annotations = json!({ names::REMOVAL: reason, names::REMOVAL_SINCE: T0 });
    }
    json!({ "status": { "allocatable": { "pods": "10" } }, "metadata": { "name": name, "creationTimestamp": T0, "annotations": annotations,
        "labels": { "karpenter.sh/provisioner-name": "default", "karpenter.sh/initialized": initialized.to_string() } } })
}

fn pod(name: &str, node: &str) -> Value {
    json!({
        "metadata": { "name": name, "namespace": "d", "uid": name, "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true } ] },
        "spec": { "nodeName": node, "containers": [] },
    })
}

fn world(nodes: Vec<Value>, pods: Vec<Value>) -> World {
    World::new(Objects {
        nodes: nodes.into_iter().map(from).collect(),
        pods: pods.into_iter().map(from).collect(),
        ..Objects::default()
    })
}

fn check(world: &World, promised: &[(&str, &str)], seconds: i64) -> Step {
    let mut memory = Memory::default();
    for (pod, place) in promised {
        memory.nominate(pod, place, at(100_000));
    }
    let nominations = Nominations::at(world, &memory, Duration::from_secs(20), at(seconds));
    let member = &world.members[0];
    step(&begun(member).unwrap(), member, world, &nominations, TIMEOUT, at(seconds))
}

#[test]
fn an_empty_node_goes_and_one_that_got_a_pod_stays() {
    assert_eq!(check(&world(vec![node("a", Some("Empty"), true)], vec![]), &[], 1), Step::Finish);
    let came = world(vec![node("a", Some("Empty"), true)], vec![pod("p", "a")]);
    assert_eq!(check(&came, &[], 1), Step::TakeBack);
}

#[test]
fn an_expired_node_waits_until_every_pod_has_a_ready_place() {
    let nodes = |ready| vec![node("a", Some("Expired"), true), node("b", None, ready)];
    let pods = || vec![pod("p", "a"), pod("q", "a")];
    let until = at(600);
    assert_eq!(check(&world(nodes(true), pods()), &[("p", "b")], 1), Step::Wait { until, without_place: 1 });
    let both = [("p", "b"), ("q", "b")];
    assert_eq!(check(&world(nodes(false), pods()), &both, 1), Step::Wait { until, without_place: 2 });
    assert_eq!(check(&world(nodes(true), pods()), &both, 1), Step::Finish);
    assert_eq!(check(&world(nodes(true), vec![]), &[], 1), Step::Finish);
}

#[test]
fn an_expired_node_is_taken_back_if_its_replacement_never_comes() {
    let world = world(vec![node("a", Some("Expired"), true)], vec![pod("p", "a")]);
    assert_eq!(check(&world, &[], 599), Step::Wait { until: at(600), without_place: 1 });
    assert_eq!(check(&world, &[], 600), Step::TakeBack);
}

#[test]
fn an_expired_node_is_taken_back_if_a_budget_comes_to_hold_a_pod() {
    let budget = json!({ "metadata": { "name": "b", "namespace": "d" }, "spec": { "selector": {} },
        "status": { "expectedPods": 1, "desiredHealthy": 1, "currentHealthy": 1, "disruptionsAllowed": 0 } });
    let mut ready = pod("p", "a");
    ready["status"] = json!({ "conditions": [{ "type": "Ready", "status": "True" }] });
    let objects = |budgets: Vec<Value>| Objects {
        nodes: vec![from(node("a", Some("Expired"), true)), from(node("b", None, true))],
        pods: vec![from(ready.clone())],
        budgets: budgets.into_iter().map(from).collect(),
        ..Objects::default()
    };
    let free = World::new(objects(vec![]));
    assert_eq!(check(&free, &[("p", "b")], 1), Step::Finish);
    assert!(blockers(&free.members[0], &free, at(1)).is_empty());
    let held = World::new(objects(vec![budget]));
    assert_eq!(check(&held, &[("p", "b")], 1), Step::TakeBack);
    let said = ["pod d/p is kept by the disruption budget d/b, which lets none of its pods go"];
    assert_eq!(blockers(&held.members[0], &held, at(1)), said);
    // A budget that is used up is waited for, not begun with.
    let used_up = json!({ "metadata": { "name": "b", "namespace": "d" }, "spec": { "selector": {} },
        "status": { "expectedPods": 2, "desiredHealthy": 1, "currentHealthy": 1, "disruptionsAllowed": 0 } });
    let busy = World::new(objects(vec![used_up]));
    assert_eq!(check(&busy, &[("p", "b")], 1), Step::Wait { until: at(600), without_place: 0 });
    assert_eq!(check(&busy, &[("p", "b")], 600), Step::TakeBack);
    let said = ["pod d/p is kept by the disruption budget d/b, which lets none of its pods go now"];
    assert_eq!(blockers(&busy.members[0], &busy, at(1)), said);
    // A NodePool that bounds the drain bounds the life of its nodes.
    for (grace, wanted) in [(Some("15s"), Step::Finish), (None, Step::TakeBack)] {
        let mut objects = objects(vec![
            json!({ "metadata": { "name": "b", "namespace": "d" }, "spec": { "selector": {}, "maxUnavailable": 0 },
            "status": { "disruptionsAllowed": 0 } }),
        ]);
        let mut node = node("a", Some("Expired"), true);
        node["spec"] = json!({ "providerID": "x:///a" });
        objects.nodes[0] = from(node);
        objects.claims = vec![from(
            json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "c", "uid": "u" },
            "spec": { "requirements": [], "terminationGracePeriod": grace, "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": "x:///a" } }),
        )];
        let world = World::new(objects);
        assert_eq!(check(&world, &[], 1), wanted, "{grace:?}");
        assert_eq!(blockers(&world.members[0], &world, at(1)).is_empty(), grace.is_some(), "{grace:?}");
    }
}

#[test]
fn a_node_of_karpenter_0_16_has_no_claim_and_is_a_candidate_all_the_same() {
    let pool = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner", "metadata": { "name": "default" },
        "spec": { "provider": { "subnetSelector": { "a": "b" }, "securityGroupSelector": { "a": "b" } },
            "ttlSecondsAfterEmpty": 5, "ttlSecondsUntilExpired": 60 } });
    let found = |finalizers: Value| {
        let mut left = node("a", None, true);
        left["metadata"]["finalizers"] = finalizers;
        let world = World::new(Objects {
            nodes: vec![from(left)],
            provisioners: vec![from(pool.clone())],
            ..Objects::default()
        });
        candidates(&world, &Pools::of(&world), &Nominations::default(), &BTreeSet::new(), at(1))
    };
    let [candidate] = &found(json!(["karpenter.sh/termination"]))[..] else { panic!("one candidate") };
    let spans = (candidate.ttl_after_empty, candidate.ttl_until_expired);
    assert_eq!(spans, (Some(Duration::from_secs(5)), Some(Duration::from_mins(1))));
    assert!(found(json!([])).is_empty(), "somebody's own node with the pool's label");
}

#[test]
fn only_removals_of_ours_are_taken_up() {
    let begun_by = |reason| begun(&world(vec![node("a", reason, true)], vec![]).members[0]);
    assert_eq!(begun_by(Some("Expired")), Some(Begun { reason: Why::Expired, since: at(0) }));
    assert_eq!(begun_by(Some("Whim")), None);
    assert_eq!(begun_by(None), None);
}

#[test]
fn a_damaged_time_does_not_make_a_removal_wait_for_ever() {
    let mut damaged = node("a", Some("Expired"), true);
    damaged["metadata"]["annotations"][names::REMOVAL_SINCE] = json!("yesterday");
    let world = world(vec![damaged], vec![pod("p", "a")]);
    assert_eq!(check(&world, &[], 1), Step::TakeBack);
}

#[test]
fn a_machine_that_two_nodes_name_is_no_candidate_and_its_removal_rests() {
    let pool = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner", "metadata": { "name": "default" },
        "spec": { "provider": { "subnetSelector": { "a": "b" }, "securityGroupSelector": { "a": "b" } } } });
    let claim = json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim", "metadata": { "name": "c", "uid": "c",
            "labels": { "karpenter.sh/provisioner-name": "default" } },
        "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
        "status": { "providerID": "x:///1", "nodeName": "b" } });
    let found = |nodes: &[&str]| {
        let node = |name: &&str| {
            let mut node = node(name, Some("Expired"), true);
            node["spec"] = json!({ "providerID": "x:///1" });
            from(node)
        };
        let world = World::new(Objects {
            nodes: nodes.iter().map(node).collect(),
            claims: vec![from(claim.clone())],
            provisioners: vec![from(pool.clone())],
            ..Objects::default()
        });
        let nominations = Nominations::default();
        let chosen = candidates(&world, &Pools::of(&world), &nominations, &BTreeSet::new(), at(1)).len();
        let joined = world.members[0].node_key();
        (joined, chosen, world.members.iter().filter_map(begun).count())
    };
    assert_eq!(found(&["b"]), ("b".to_owned(), 1, 1));
    assert_eq!(found(&["a", "b"]), ("b".to_owned(), 0, 0), "the claim keeps the Node it registered");
    assert_eq!(found(&["b", "c"]), ("b".to_owned(), 0, 0));
}

#[test]
fn a_node_pools_node_lives_as_long_as_its_own_claim_says() {
    let pool = json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "default" },
        "spec": { "template": { "spec": { "requirements": [], "expireAfter": "1h",
            "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } } } } });
    let life = |expire_after: &str| {
        let claim = json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "c", "creationTimestamp": T0, "labels": { "karpenter.sh/nodepool": "default" } },
            "spec": { "requirements": [], "expireAfter": expire_after,
                "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": "x:///1" } });
        let mut node = node("a", None, true);
        node["spec"] = json!({ "providerID": "x:///1" });
        node["metadata"]["labels"] = json!({ "karpenter.sh/nodepool": "default" });
        let world = World::new(Objects {
            nodes: vec![from(node)],
            claims: vec![from(claim)],
            node_pools: vec![from(pool.clone())],
            ..Objects::default()
        });
        let all = candidates(&world, &Pools::of(&world), &Nominations::default(), &BTreeSet::new(), at(1));
        (all[0].created_at, all[0].ttl_until_expired)
    };
    assert_eq!(life("12h"), (at(0), Some(Duration::from_hours(12))), "a change of the pool is drift, not age");
    assert_eq!(life("Never"), (at(0), None));
}
