use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{nominations::Memory, plan::PlannedPod, world::Objects};

const T0: &str = "2024-01-01T00:00:00Z";
const TTL: Duration = Duration::from_secs(20);

fn at(seconds: i64) -> Timestamp {
    T0.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn pod(name: &str, node: Option<&str>) -> Arc<CorePod> {
    let conditions = match node {
        None => json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }]),
        Some(_) => json!([]),
    };
    from(json!({
        "metadata": { "name": name, "namespace": "d", "uid": format!("uid-{name}"), "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "o", "controller": true } ] },
        "spec": { "nodeName": node, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] },
        "status": { "phase": if node.is_some() { "Running" } else { "Pending" }, "conditions": conditions },
    }))
}

/// A claim of Provisioner `default` with a plan for these pods; launched if it has a provider id.
fn claim(name: &str, provider_id: Option<&str>, pods: &[&str], initialized_at: Option<i64>) -> Value {
    let plan = Plan {
        price_usd_micros_per_hour: UsdMicrosPerHour(5),
        reason: String::new(),
        pods: pods
            .iter()
            .map(|pod| PlannedPod { namespace: "d".to_owned(), name: (*pod).to_owned(), uid: format!("uid-{pod}") })
            .collect(),
        offerings: Vec::new(),
        capacity: ResourceList::new().with(ResourceName::cpu(), Amount(8000)),
    };
    let mut conditions = Vec::new();
    let mut condition = |kind: &str, since: i64| {
        conditions.push(json!({ "type": kind, "status": "True", "reason": kind, "message": "",
            "lastTransitionTime": at(since).to_string() }));
    };
    if provider_id.is_some() {
        condition("Launched", 0);
    }
    if let Some(since) = initialized_at {
        condition("Registered", 0);
        condition("Initialized", since);
    }
    let status = match provider_id {
        None => Value::Null,
        Some(id) => {
            json!({ "providerID": id, "capacity": { "cpu": "4" }, "allocatable": { "cpu": "3900m", "pods": "58" },
            "conditions": conditions })
        }
    };
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "annotations": plan.annotations(),
            "labels": { "karpenter.sh/provisioner-name": "default", "team": "a" } },
        "spec": {
            "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" },
            "taints": [{ "key": "mine", "effect": "NoSchedule" }],
            "startupTaints": [{ "key": "agent", "effect": "NoExecute" }],
            "resources": { "requests": { "cpu": "2" } },
        },
        "status": status,
    })
}

fn node(name: &str, labels: &Value, extra: &Value) -> Value {
    let mut value = json!({
        "metadata": { "name": name, "uid": format!("uid-{name}"), "labels": labels },
        "spec": { "providerID": format!("x:///{name}") },
        "status": { "allocatable": { "cpu": "3500m", "pods": "58" }, "capacity": { "cpu": "4" } },
    });
    for (key, object) in extra.as_object().into_iter().flatten() {
        for (inner, field) in object.as_object().into_iter().flatten() {
            value[key][inner] = field.clone();
        }
    }
    value
}

fn provisioner() -> Value {
    json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
        "metadata": { "name": "default", "uid": "p", "generation": 1 },
        "spec": { "provider": { "subnetSelector": { "a": "b" }, "securityGroupSelector": { "a": "b" } },
                  "limits": { "resources": { "cpu": "10" } } } })
}

fn objects(pods: Vec<Arc<CorePod>>, claims: Vec<Value>, nodes: Vec<Value>) -> Objects {
    Objects {
        pods,
        claims: claims.into_iter().map(from).collect(),
        nodes: nodes.into_iter().map(from).collect(),
        provisioners: vec![from(provisioner())],
        ..Objects::default()
    }
}

fn built(objects: Objects, memory: &Memory, seconds: i64) -> Snapshot {
    built_of(objects, &Arc::from([]), memory, seconds)
}

fn built_of(objects: Objects, types: &Arc<[InstanceType]>, memory: &Memory, seconds: i64) -> Snapshot {
    let world = World::new(objects);
    let nominations = Nominations::at(&world, memory, TTL, at(seconds));
    let pools = Pools::of(&world);
    let catalogue = pools.0.keys().map(|key| (key.clone(), Arc::clone(types))).collect();
    build(&Input {
        sequence: 1,
        world: &world,
        pools: &pools,
        catalogue: &catalogue,
        nominations: &nominations,
        leaving: &memory.leaving(at(seconds)),
    })
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.key.name.as_str()).collect()
}

#[test]
fn a_pod_with_a_planned_machine_is_not_planned_again_not_even_by_a_new_process() {
    let claims = vec![claim("c", None, &["planned"], None)];
    let snapshot = built(objects(vec![pod("planned", None), pod("new", None)], claims, vec![]), &Memory::default(), 1);
    assert_eq!(names(&snapshot.pods), ["new"]);
    assert_eq!(names(&snapshot.nodes[0].pods), ["planned"], "its place is taken");
}

#[test]
fn a_nominated_pod_keeps_its_planned_place_as_long_as_the_node_stays() {
    let nominated = || {
        let mut pod = (*pod("p", None)).clone();
        pod.status.as_mut().unwrap().nominated_node_name = Some("n".to_owned());
        Arc::new(pod)
    };
    let joined = |extra: Value, seconds: i64| {
        let claims = vec![claim("c", Some("x:///n"), &["p"], Some(0))];
        built(objects(vec![nominated()], claims, vec![node("n", &json!({}), &extra)]), &Memory::default(), seconds)
    };
    let staying = joined(json!({}), 19);
    assert!(staying.pods.is_empty());
    assert_eq!(names(&staying.nodes[0].pods), ["p"], "nobody else is planned there");
    assert_eq!(names(&joined(json!({}), 20).pods), ["p"], "it did not go there");
    let leaving = joined(json!({ "metadata": { "deletionTimestamp": T0 } }), 1);
    assert_eq!(names(&leaving.pods), ["p"]);
    // Preempting: room is being made for it, by others.
    let foreign =
        built(objects(vec![nominated()], vec![], vec![node("n", &json!({}), &json!({}))]), &Memory::default(), 1);
    assert!(foreign.pods.is_empty());
    let gone = built(objects(vec![nominated()], vec![], vec![]), &Memory::default(), 1);
    assert_eq!(names(&gone.pods), ["p"]);
}

#[test]
fn a_machine_not_launched_has_room_for_what_it_was_planned_for_and_is_charged_with_the_largest_it_may_become() {
    let snapshot = built(objects(vec![], vec![claim("c", None, &[], None)], vec![]), &Memory::default(), 1);
    assert_eq!(snapshot.nodes[0].allocatable.to_string(), "cpu: 2");
    assert_eq!(snapshot.nodes[0].stage, NodeStage::InFlight);
    assert_eq!(snapshot.pools[0].used.to_string(), "cpu: 8, nodes: 1");
    assert_eq!(snapshot.pools[0].limits.as_ref().unwrap().to_string(), "cpu: 10");
}

#[test]
fn what_a_person_says_a_machine_will_have_counts_until_it_can_say_so_itself() {
    let kind = InstanceType {
        name: "m".to_owned(),
        requirements: requirements::Requirements::new(),
        capacity: ResourceList::new()
            .with(ResourceName::cpu(), Amount(4000))
            .with(ResourceName::new("example.com/slice"), Amount(4)),
        overhead: ResourceList::new(),
        offerings: Vec::new(),
    };
    let shown = |provider_id: Option<&str>, initialized: Option<i64>| {
        let mut claim = claim("c", provider_id, &[], initialized);
        claim["metadata"]["labels"]["node.kubernetes.io/instance-type"] = json!("m");
        let labels = json!({ "node.kubernetes.io/instance-type": "m", "karpenter.sh/initialized": "true" });
        let nodes = initialized.map(|_| node("n", &labels, &json!({})));
        let objects = objects(vec![], vec![claim], nodes.into_iter().collect());
        built_of(objects, &[kind.clone()].into(), &Memory::default(), 1).nodes[0].allocatable.to_string()
    };
    assert_eq!(shown(None, None), "cpu: 2", "what it was planned for");
    assert_eq!(shown(Some("x:///n"), None), "cpu: 3900m, example.com/slice: 4, pods: 58");
    assert_eq!(shown(Some("x:///n"), Some(0)), "cpu: 3500m, pods: 58");
}

#[test]
fn a_launched_machine_has_what_its_type_has_and_forgives_startup_taints() {
    let snapshot = built(objects(vec![], vec![claim("c", Some("x:///n"), &[], None)], vec![]), &Memory::default(), 1);
    let node = &snapshot.nodes[0];
    assert_eq!(node.allocatable.to_string(), "cpu: 3900m, pods: 58");
    assert_eq!(node.labels["team"], "a");
    let lasting: Vec<String> = node.lasting_taints().map(ToString::to_string).collect();
    assert_eq!(lasting, ["mine:NoSchedule"]);
    assert_eq!(node.startup_taints[0].to_string(), "agent:NoExecute");
    assert_eq!(snapshot.pools[0].used.to_string(), "cpu: 4, nodes: 1");
}

#[test]
fn a_node_attaches_as_many_volumes_as_its_drivers_say() {
    let csi = |name: &str| {
        from(json!({ "metadata": { "name": name }, "spec": { "drivers": [
            { "name": "ebs", "nodeID": "i", "allocatable": { "count": 25 } }, { "name": "efs", "nodeID": "i" },
        ] } }))
    };
    let mut objects =
        objects(vec![], vec![], vec![node("m", &json!({}), &json!({})), node("n", &json!({}), &json!({}))]);
    objects.csi_nodes = vec![csi("n"), csi("gone")];
    let snapshot = built(objects, &Memory::default(), 1);
    let limits: Vec<_> = snapshot.nodes.iter().map(|node| node.volume_limits.clone()).collect();
    assert_eq!(limits, [BTreeMap::new(), BTreeMap::from([("ebs".to_owned(), 25)])]);
}

#[test]
fn claim_and_node_of_one_machine_count_once() {
    let labels = json!({ "karpenter.sh/provisioner-name": "default" });
    let snapshot = built(
        objects(vec![], vec![claim("c", Some("x:///n"), &[], None)], vec![node("n", &labels, &json!({}))]),
        &Memory::default(),
        1,
    );
    assert_eq!(snapshot.nodes.len(), 1);
    assert_eq!(snapshot.nodes[0].key.0, "n");
    assert_eq!(snapshot.nodes[0].stage, NodeStage::InFlight, "not initialized");
    assert_eq!(snapshot.pools[0].used.to_string(), "cpu: 4, nodes: 1");
}

#[test]
fn a_plan_holds_until_its_machine_has_been_ready_for_a_while() {
    let labels = json!({ "karpenter.sh/provisioner-name": "default", "karpenter.sh/initialized": "true" });
    let all = || {
        let claims = vec![claim("c", Some("x:///n"), &["p"], Some(100))];
        objects(vec![pod("p", None)], claims, vec![node("n", &labels, &json!({}))])
    };
    assert!(built(all(), &Memory::default(), 119).pods.is_empty());
    assert_eq!(names(&built(all(), &Memory::default(), 120).pods), ["p"], "it did not go there; plan anew");
    assert_eq!(built(all(), &Memory::default(), 120).nodes[0].stage, NodeStage::Ready);
}

#[test]
fn a_place_that_another_pod_took_is_not_waited_for() {
    let labels = json!({ "karpenter.sh/provisioner-name": "default", "karpenter.sh/initialized": "true" });
    let with = |bound: usize| {
        let mut pods = vec![pod("p", None)];
        pods.extend((0..bound).map(|i| pod(&format!("other-{i}"), Some("n"))));
        objects(pods, vec![claim("c", Some("x:///n"), &["p"], Some(100))], vec![node("n", &labels, &json!({}))])
    };
    assert!(built(with(2), &Memory::default(), 101).pods.is_empty(), "2 of 3.5 cores are taken");
    assert_eq!(names(&built(with(3), &Memory::default(), 101).pods), ["p"]);
}

#[test]
fn the_plan_of_a_claim_that_is_being_deleted_is_void() {
    let mut doomed = claim("c", None, &["p"], None);
    doomed["metadata"]["deletionTimestamp"] = json!(T0);
    let snapshot = built(objects(vec![pod("p", None)], vec![doomed], vec![]), &Memory::default(), 1);
    assert_eq!(names(&snapshot.pods), ["p"]);
    assert_eq!(snapshot.nodes[0].stage, NodeStage::Leaving);
    assert_eq!(snapshot.pools[0].used.to_string(), "cpu: 8, nodes: 1", "its machine may still cost money");
}

#[test]
fn pods_of_a_node_that_leaves_look_for_a_place_before_they_are_evicted() {
    let leaving = json!({ "spec": { "unschedulable": true, "providerID": "y" } , "metadata": { "annotations": {
        "tandem.dev/removal": "Expired" } } });
    let all = || {
        let mut daemon: Value = serde_json::to_value(&*pod("daemon", Some("n"))).unwrap();
        daemon["metadata"]["ownerReferences"][0]["kind"] = json!("DaemonSet");
        let mut kept: Value = serde_json::to_value(&*pod("kept", Some("n"))).unwrap();
        kept["metadata"]["annotations"] = json!({ "karpenter.sh/do-not-disrupt": "true" });
        objects(vec![pod("p", Some("n")), from(daemon), from(kept)], vec![], vec![node("n", &json!({}), &leaving)])
    };
    let snapshot = built(all(), &Memory::default(), 1);
    assert_eq!(names(&snapshot.pods), ["p"]);
    assert_eq!(names(&snapshot.nodes[0].pods), ["daemon", "kept"]);
    assert_eq!(snapshot.nodes[0].pods.iter().map(|pod| pod.terminating).collect::<Vec<_>>(), [true, false]);
    assert_eq!(snapshot.nodes[0].stage, NodeStage::Leaving);
}

#[test]
fn nobody_moves_from_a_provisioners_node_as_long_as_a_pod_blocks_its_drain() {
    let deleted = json!({ "metadata": { "deletionTimestamp": T0 } });
    let outcome = |pool: &str, annotations: Value| {
        let mut kept: Value = serde_json::to_value(&*pod("kept", Some("n"))).unwrap();
        kept["metadata"]["annotations"] = annotations;
        let node = node("n", &json!({ pool: "default" }), &deleted);
        let snapshot = built(objects(vec![pod("p", Some("n")), from(kept)], vec![], vec![node]), &Memory::default(), 1);
        let stay = snapshot.nodes[0].pods.iter().filter(|pod| !pod.terminating).map(|pod| pod.key.name.clone());
        (names(&snapshot.pods).len(), stay.collect::<Vec<_>>())
    };
    let protected = || json!({ "karpenter.sh/do-not-evict": "true" });
    assert_eq!(outcome("karpenter.sh/provisioner-name", protected()), (0, vec!["kept".to_owned(), "p".to_owned()]));
    assert_eq!(outcome("karpenter.sh/provisioner-name", json!({})), (2, vec![]));
    assert_eq!(outcome("karpenter.sh/nodepool", protected()), (1, vec!["kept".to_owned()]));
}

#[test]
fn a_place_in_memory_is_kept_for_a_while_and_lost_when_its_node_leaves() {
    let mut memory = Memory::default();
    memory.nominate("uid-p", "n", at(10));
    let all = |extra| objects(vec![pod("p", None)], vec![], vec![node("n", &json!({}), &extra)]);
    let snapshot = built(all(json!({})), &memory, 9);
    assert!(snapshot.pods.is_empty());
    assert_eq!(names(&snapshot.nodes[0].pods), ["p"]);
    assert_eq!(names(&built(all(json!({})), &memory, 10).pods), ["p"]);
    let deleted = json!({ "metadata": { "deletionTimestamp": T0 } });
    assert_eq!(names(&built(all(deleted), &memory, 9).pods), ["p"]);
}

#[test]
fn a_node_that_is_about_to_be_removed_takes_nothing_even_before_it_says_so() {
    let mut memory = Memory::default();
    assert!(memory.try_leave(&["n"], at(0)));
    let snapshot = built(objects(vec![], vec![], vec![node("n", &json!({}), &json!({}))]), &memory, 1);
    assert_eq!(snapshot.nodes[0].stage, NodeStage::Leaving);
}

#[test]
fn a_node_with_a_promise_does_not_leave() {
    let mut memory = Memory::default();
    memory.nominate("uid-p", "n", at(10));
    assert!(!memory.try_leave(&["c", "n"], at(9)));
    assert!(memory.try_leave(&["c", "n"], at(10)));
}

#[test]
fn a_claim_just_created_counts_before_the_watch_shows_it_and_once_after() {
    let created: Arc<api::karpenter_v1::NodeClaim> = from(claim("c", None, &["p"], None));
    let mut memory = Memory::default();
    memory.assume(Arc::clone(&created), at(0));
    let unseen = World::new(objects(vec![], vec![], vec![]));
    assert_eq!(memory.unseen(&unseen).len(), 1);
    let seen = World::new(objects(vec![], vec![claim("c", None, &["p"], None)], vec![]));
    assert!(memory.unseen(&seen).is_empty());
    memory.tidy(&seen, at(1));
    assert!(memory.unseen(&unseen).is_empty(), "seen and gone is gone");
}

#[test]
fn a_claim_no_watch_shows_counts_until_the_api_server_says_it_is_gone() {
    let created: Arc<api::karpenter_v1::NodeClaim> = from(claim("c", None, &["p"], None));
    let mut memory = Memory::default();
    memory.assume(Arc::clone(&created), at(0));
    let empty = || World::new(objects(vec![pod("p", None)], vec![], vec![]));
    // What every look at the world does with the memory.
    let reckoned = |memory: &mut Memory, seconds| {
        memory.tidy(&empty(), at(seconds));
        let mut all = empty().objects;
        all.claims.extend(memory.unseen(&empty()));
        let snapshot = built(all, memory, seconds);
        (snapshot.pools[0].used.to_string(), snapshot.pods.len())
    };
    assert_eq!(memory.doubtful(at(59)), Vec::new());
    for hour in 1..3 {
        let now = hour * 3600;
        assert_eq!(reckoned(&mut memory, now), ("cpu: 8, nodes: 1".to_owned(), 0), "hour {hour}");
        assert_eq!(memory.doubtful(at(now)), [Arc::clone(&created)]);
        memory.confirm(&created, Some((*created).clone()), at(now));
        assert_eq!(memory.doubtful(at(now + 59)), Vec::new(), "asked once a minute");
    }
    let mut later = (*created).clone();
    later.metadata.uid = Some("another".to_owned());
    memory.confirm(&created, Some(later), at(9000));
    assert_eq!(reckoned(&mut memory, 9000), ("nothing".to_owned(), 1), "its name belongs to another claim: it is gone");
    memory.assume(Arc::clone(&created), at(9000));
    memory.confirm(&created, None, at(9100));
    assert_eq!(reckoned(&mut memory, 9100), ("nothing".to_owned(), 1));
}

#[test]
fn a_claim_of_which_nobody_said_whether_it_was_created_counts_and_is_asked_for_at_once() {
    let created: Arc<api::karpenter_v1::NodeClaim> = from(claim("c", None, &["p"], None));
    let mut sent = (*created).clone();
    sent.metadata.uid = None;
    let sent = Arc::new(sent);
    let unseen = World::new(objects(vec![], vec![], vec![]));
    let mut memory = Memory::default();
    memory.assume_sent(Arc::clone(&sent), at(0));
    assert_eq!(memory.unseen(&unseen), [Arc::clone(&sent)]);
    assert_eq!(memory.doubtful(at(0)), [Arc::clone(&sent)]);
    // It is there: from now on one that was created.
    memory.confirm(&sent, Some((*created).clone()), at(0));
    assert_eq!(memory.unseen(&unseen), [Arc::clone(&created)]);
    assert!(memory.doubtful(at(59)).is_empty());
    // It is not; or another one has its name.
    let others: api::karpenter_v1::NodeClaim =
        (*from::<api::karpenter_v1::NodeClaim>(claim("c", None, &["q"], None))).clone();
    for found in [None, Some(others)] {
        let mut memory = Memory::default();
        memory.assume_sent(Arc::clone(&sent), at(0));
        memory.confirm(&sent, found, at(5));
        assert!(memory.unseen(&unseen).is_empty());
    }
    // The watch shows it first.
    let mut memory = Memory::default();
    memory.assume_sent(Arc::clone(&sent), at(0));
    let seen = World::new(objects(vec![], vec![claim("c", None, &["p"], None)], vec![]));
    assert!(memory.unseen(&seen).is_empty());
    memory.tidy(&seen, at(1));
    assert!(memory.unseen(&unseen).is_empty());
}

#[test]
fn an_invalid_provisioner_makes_no_nodes_but_keeps_those_it_has() {
    let mut all = objects(vec![], vec![claim("c", None, &[], None)], vec![]);
    let mut wrong = provisioner();
    wrong["spec"]["requirements"] = json!([{ "key": "a", "operator": "In", "values": [] }]);
    all.provisioners = vec![from(wrong)];
    let snapshot = built(all, &Memory::default(), 1);
    assert!(snapshot.pools.is_empty());
    assert_eq!(snapshot.nodes.len(), 1);
}

#[test]
fn a_machine_whose_node_vanished_takes_nothing_and_still_counts() {
    let mut vanished = claim("c", Some("x:///n"), &["p"], Some(100));
    let gone = json!({ "type": "ConsistentStateFound", "status": "False", "reason": "NodeNotFound", "message": "",
        "lastTransitionTime": at(101).to_string() });
    vanished["status"]["conditions"].as_array_mut().unwrap().push(gone);
    let snapshot = built(objects(vec![pod("p", None)], vec![vanished], vec![]), &Memory::default(), 102);
    assert_eq!(names(&snapshot.pods), ["p"], "its pod needs another place");
    assert_eq!(snapshot.nodes[0].stage, NodeStage::Leaving);
    assert_eq!(snapshot.pools[0].used.to_string(), "cpu: 4, nodes: 1");
}
