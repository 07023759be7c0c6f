use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use api::karpenter_v1::NodePoolStatus;
use cloud::catalogue::{GENERIC_ZONES, generic_types};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::json;

use super::*;
use crate::{
    claims,
    nominations::Nominations,
    snapshot::{self, Input},
    world::Objects,
};

fn from<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A NodePool that says everything a NodePool can say about its nodes; `more` goes into its spec.
fn pool(name: &str, more: &Value) -> Value {
    let mut pool = json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodePool",
        "metadata": { "name": name, "uid": format!("uid-{name}"), "generation": 3 },
        "spec": {
            "disruption": { "consolidateAfter": "Never" },
            "template": {
                "metadata": { "labels": { "team": "a" }, "annotations": { "mine": "kept" } },
                "spec": {
                    "taints": [{ "key": "dedicated", "value": "a", "effect": "NoSchedule" }],
                    "startupTaints": [{ "key": "agent", "effect": "NoExecute" }],
                    "requirements": [{ "key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"] }],
                    "nodeClassRef": { "group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default" },
                    "terminationGracePeriod": "30m", "expireAfter": "12h",
                },
            },
        },
    });
    for (key, value) in more.as_object().unwrap() {
        pool["spec"][key] = value.clone();
    }
    pool
}

fn class() -> Value {
    json!({ "apiVersion": "karpenter.kwok.sh/v1alpha1", "kind": "KWOKNodeClass", "metadata": { "name": "default", "uid": "k" },
        "spec": { "nodeRegistrationDelay": "7s" } })
}

fn world(pools: &[Value], pods: usize) -> World {
    let pod = |index: usize| {
        from(json!({
            "metadata": { "name": format!("p{index}"), "namespace": "d", "uid": format!("p{index}") },
            "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
                "tolerations": [{ "key": "dedicated", "operator": "Exists" }] },
            "status": { "phase": "Pending", "conditions": [
                { "type": "PodScheduled", "status": "False", "reason": "Unschedulable" } ] },
        }))
    };
    World::new(Objects {
        pods: (0..pods).map(pod).collect(),
        node_pools: pools.iter().map(|pool| from(pool.clone())).collect(),
        kwok_classes: vec![from(class())],
        ..Objects::default()
    })
}

/// The plan for the world's pods, as the provisioning loop makes it.
fn plan(world: &World) -> (Pools, scheduling::Solution) {
    let pools = Pools::of(world);
    let types: Arc<[_]> = generic_types(&GENERIC_ZONES).into();
    let catalogue = pools.usable().map(|(key, _)| (key.clone(), Arc::clone(&types))).collect();
    let snapshot = snapshot::build(&Input {
        sequence: 1,
        world,
        pools: &pools,
        catalogue: &catalogue,
        nominations: &Nominations::default(),
        leaving: &BTreeSet::default(),
    });
    (pools, scheduling::solve(&snapshot, &scheduling::Settings::default()))
}

#[test]
fn a_claim_of_a_node_pool_says_all_that_its_template_says() {
    let (pools, solution) = plan(&world(&[pool("a", &json!({}))], 1));
    let [node] = &solution.new_nodes[..] else { panic!("{solution:?}") };
    let state = &pools.0[&node.pool];
    let claim = claims::claim(node, state.frame.as_ref().unwrap(), Vec::new(), "a-bcdfg");
    let labels: BTreeMap<&str, &str> =
        claim.labels().iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for (key, value) in [
        ("karpenter.sh/nodepool", "a"),
        ("karpenter.kwok.sh/kwoknodeclass", "default"),
        ("team", "a"),
        ("kubernetes.io/arch", "arm64"),
    ] {
        assert_eq!(labels.get(key), Some(&value), "{labels:?}");
    }
    assert!(!labels.contains_key("karpenter.sh/provisioner-name"));
    assert_eq!(claim.annotations()["mine"], "kept");
    assert_eq!(claim.spec.taints[0].key, "dedicated");
    assert_eq!(claim.spec.startup_taints[0].key, "agent");
    assert_eq!(claim.spec.expire_after, "12h");
    assert_eq!(claim.spec.termination_grace_period.as_deref(), Some("30m"));
    assert_eq!(claim.spec.node_class_ref.kind, "KWOKNodeClass");
    assert_eq!(
        (claim.owner_references()[0].kind.as_str(), claim.owner_references()[0].uid.as_str()),
        ("NodePool", "uid-a")
    );
    let class = node_class(&world(&[], 0), &claim.spec.node_class_ref).unwrap();
    assert_eq!((class.uid.as_str(), &class.spec), ("k", &json!({ "nodeRegistrationDelay": "7s" })));
}

#[test]
fn the_heavier_pool_is_asked_first_and_a_limit_on_nodes_ends_a_pool() {
    let heavy = pool("heavy", &json!({ "weight": 50, "limits": { "nodes": "1" } }));
    let light = pool("light", &json!({ "limits": { "cpu": "0" } }));
    let (_, solution) = plan(&world(&[light.clone(), heavy.clone()], 1));
    assert_eq!(solution.new_nodes.iter().map(|node| node.pool.name.as_str()).collect::<Vec<_>>(), ["heavy"]);
    // Ninety pods of one core do not fit on one machine of the catalogue.
    let (_, solution) = plan(&world(&[light, heavy], 90));
    assert_eq!(solution.new_nodes.iter().map(|node| node.pool.name.as_str()).collect::<Vec<_>>(), ["heavy"]);
    assert!(!solution.unplaced.is_empty());
}

#[test]
fn a_static_pool_makes_nothing_for_pods() {
    let (pools, solution) = plan(&world(&[pool("a", &json!({ "replicas": 2 }))], 1));
    assert_eq!((solution.new_nodes.len(), pools.usable().count()), (0, 0));
    let state = pools.0.values().next().unwrap();
    assert!(state.notices.iter().any(|notice| notice.field == "spec.replicas"), "{:?}", state.notices);
}

#[test]
fn the_conditions_of_a_node_pool_say_what_is_missing() {
    let check = |pool: Value| {
        let pools = Pools::of(&world(&[pool], 0));
        let state = pools.0.values().next().unwrap();
        let used = units::ResourceList::new().with(units::ResourceName::new("nodes"), units::Amount(2));
        let status =
            crate::pool_loop::node_pool_status(&NodePoolStatus::default(), state, &used, Timestamp::UNIX_EPOCH);
        assert_eq!(
            (status.nodes, status.resources["nodes"].0.as_str(), status.resources["cpu"].0.as_str()),
            (Some(2), "2", "0")
        );
        let said = |kind: &str| {
            let found = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
            assert_eq!(found.observed_generation, Some(3));
            format!("{} {}", found.status, found.reason)
        };
        ["ValidationSucceeded", "NodeClassReady", "Ready"].map(said)
    };
    assert_eq!(check(pool("a", &json!({}))), ["True ValidationSucceeded", "True NodeClassReady", "True Ready"]);
    let mut lost = pool("a", &json!({}));
    lost["spec"]["template"]["spec"]["nodeClassRef"]["name"] = json!("another");
    assert_eq!(check(lost), ["True ValidationSucceeded", "False NodeClassNotReady", "False NodeClassNotReady"]);
    let mut wrong = pool("a", &json!({}));
    wrong["spec"]["template"]["spec"]["requirements"][0]["operator"] = json!("Near");
    assert_eq!(check(wrong), ["False Invalid", "Unknown Invalid", "False Invalid"]);
    assert_eq!(
        check(pool("a", &json!({ "replicas": 1 }))),
        ["True ValidationSucceeded", "True NodeClassReady", "False NotSupportedYet"]
    );
}

#[test]
fn a_pool_that_the_cloud_refused_says_so_and_makes_no_nodes() {
    let mut pools = Pools::of(&world(&[pool("a", &json!({}))], 0));
    let state = pools.0.values_mut().next().unwrap();
    state.closed = Some(Closed { status: Status::False, reason: "Misconfigured", what: "spec.x: no".to_owned() });
    let used = units::ResourceList::new();
    let status = crate::pool_loop::node_pool_status(&NodePoolStatus::default(), state, &used, Timestamp::UNIX_EPOCH);
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!([&ready.status, &ready.reason, &ready.message], ["False", "Misconfigured", "spec.x: no"]);
    assert_eq!(pools.usable().count(), 0);
}

#[test]
fn a_node_class_says_whether_machines_are_made_with_it() {
    let check = |more: Value, judged: Result<Option<&str>, &str>, expected: [&str; 2], says: &str| {
        let mut object = json!({ "apiVersion": "karpenter.k8s.aws/v1", "kind": "EC2NodeClass",
            "metadata": { "name": "a", "generation": 2 }, "spec": {
                "subnetSelectorTerms": [{ "id": "subnet-1" }], "securityGroupSelectorTerms": [{ "id": "sg-1" }],
                "amiSelectorTerms": [{ "alias": "al2023@latest" }] } });
        for (key, value) in more.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        let object: EC2NodeClass = serde_json::from_value(object).unwrap();
        let judged = judged.map(|problem| problem.map(str::to_owned)).map_err(str::to_owned);
        let status = crate::pool_loop::node_class_status(&object, judged, Timestamp::UNIX_EPOCH);
        let [ready] = &status.conditions[..] else { panic!("{:?}", status.conditions) };
        assert_eq!([&*ready.status, &*ready.reason], expected, "{}", ready.message);
        assert!(ready.message.contains(says), "{}", ready.message);
    };
    let profile = || json!({ "instanceProfile": "nodes" });
    check(profile(), Ok(None), ["True", "Ready"], "");
    check(profile(), Ok(Some("spec.x: no")), ["False", "Misconfigured"], "spec.x: no");
    check(profile(), Err("not yet"), ["Unknown", "NotAnswered"], "not yet");
    let two = json!({ "role": "nodes", "ipPrefixCount": 1 });
    check(two.clone(), Ok(None), ["False", "NotSupportedYet"], "spec.role");
    check(two, Ok(None), ["False", "NotSupportedYet"], "spec.ipPrefixCount");
}

#[test]
fn a_node_overlay_says_whether_it_counts() {
    let check = |spec: Value, conflict: Option<&str>, expected: [&str; 3]| {
        let object = json!({ "apiVersion": "karpenter.sh/v1alpha1", "kind": "NodeOverlay",
            "metadata": { "name": "o", "generation": 2 }, "spec": spec });
        let object = serde_json::from_value(object).unwrap();
        let status = crate::pool_loop::node_overlay_status(&object, conflict.map(str::to_owned), Timestamp::UNIX_EPOCH);
        let kinds: Vec<&str> = status.conditions.iter().map(|one| one.type_.as_str()).collect();
        assert_eq!(kinds, ["ValidationSucceeded", "Ready"]);
        for one in &status.conditions {
            let reason = if one.status == "True" { "True" } else { &*one.reason };
            assert_eq!([&*one.status, reason, &*one.message], expected);
        }
    };
    let fine = json!({ "requirements": [], "price": "1" });
    check(fine.clone(), None, ["True", "True", ""]);
    check(fine, Some("other says so too"), ["False", "Conflict", "other says so too"]);
    let wrong = json!({ "requirements": [], "price": "a lot" });
    let why = "spec.price: \"a lot\" is not a price such as 0.5";
    check(wrong, None, ["False", "RuntimeValidation", why]);
}

#[test]
fn a_requirement_that_nothing_on_sale_meets_is_named() {
    let types = generic_types(&GENERIC_ZONES);
    let says = |key: &str, operator: &str, values: &[&str]| {
        let object: NodePool = serde_json::from_value(pool("p", &json!({}))).unwrap();
        let mut object = object;
        object.spec.template.spec.requirements =
            vec![serde_json::from_value(json!({ "key": key, "operator": operator, "values": values })).unwrap()];
        unmet(&convert::nodepool(&object).unwrap(), &types)
    };
    let no = |what: &str| {
        Some(format!("spec.template.spec.requirements: no instance type on sale for this pool has {what}"))
    };
    assert_eq!(says("karpenter.sh/capacity-type", "In", &["on-demnd"]), no("karpenter.sh/capacity-type in [on-demnd]"));
    assert_eq!(says("topology.kubernetes.io/zone", "In", &["nowhere"]), no("topology.kubernetes.io/zone in [nowhere]"));
    assert_eq!(
        says("node.kubernetes.io/instance-type", "In", &["huge"]),
        no("node.kubernetes.io/instance-type in [huge]")
    );
    assert_eq!(says("karpenter.sh/capacity-type", "In", &["on-demand"]), None);
    assert_eq!(
        says("karpenter.k8s.aws/instance-tenancy", "In", &["dedicated"]),
        no("karpenter.k8s.aws/instance-tenancy in [dedicated]")
    );
    assert_eq!(says("karpenter.k8s.aws/instance-tenancy", "NotIn", &["dedicated"]), None, "no type has it");
    assert_eq!(says("example.com/team", "In", &["a"]), None, "the pool's own");
    // The pool's own label.
    assert_eq!(says("example.com/team", "In", &["a"]), None);
}

#[test]
fn what_nothing_on_sale_meets_is_in_the_condition() {
    let object = from(pool("p", &json!({})));
    let world = World::new(Objects { node_pools: vec![object], ..Objects::default() });
    let mut pools = Pools::of(&world);
    let state = pools.0.values_mut().next().unwrap();
    state.class = Ok(NodeClass {
        group: String::new(),
        kind: String::new(),
        name: String::new(),
        uid: String::new(),
        spec: Value::Null,
    });
    let what = "spec.x: nobody sells it".to_owned();
    state.unmet = Some(Closed { status: Status::False, reason: "NoCompatibleInstanceTypes", what: what.clone() });
    let status = crate::pool_loop::node_pool_status(
        &NodePoolStatus::default(),
        state,
        &units::ResourceList::new(),
        Timestamp::UNIX_EPOCH,
    );
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    assert_eq!([&ready.status, &ready.reason, &ready.message], ["False", "NoCompatibleInstanceTypes", what.as_str()]);
}
