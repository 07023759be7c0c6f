use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

const CREATED: &str = "2024-01-01T00:00:00Z";

fn at(seconds: i64) -> Timestamp {
    CREATED.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
}

/// A claim with our finalizer, created at second 0, with these conditions all true since second 0.
fn claim(conditions: &[&str]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|kind| json!({ "type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": CREATED }))
        .collect();
    json!({
        "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
        "metadata": { "name": "c", "uid": "u", "creationTimestamp": CREATED, "finalizers": [names::FINALIZER] },
        "spec": {
            "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" },
            "startupTaints": [ { "key": "agent", "effect": "NoExecute" } ],
            "resources": { "requests": { "cpu": "1", "example.com/gpu": "1", "none": "0" } },
        },
        "status": { "providerID": "x:///1", "conditions": conditions },
    })
}

/// A node of that claim: ready, registered, with all resources.
fn node() -> Value {
    json!({
        "metadata": {
            "name": "n", "creationTimestamp": CREATED, "finalizers": [names::FINALIZER],
            "labels": { "karpenter.sh/registered": "true" },
        },
        "spec": { "providerID": "x:///1" },
        "status": {
            "conditions": [ { "type": "Ready", "status": "True" } ],
            "allocatable": { "cpu": "4", "example.com/gpu": "1" },
        },
    })
}

fn with(mut base: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    base.pointer_mut(parent).unwrap()[key] = value;
    base
}

fn member(claim: Option<Value>, node: Option<Value>) -> Member {
    Member {
        claim: claim.map(|value| Arc::new(serde_json::from_value(value).unwrap())),
        node: node.map(|value| Arc::new(serde_json::from_value(value).unwrap())),
        pods: Vec::new(),
        attachments: Vec::new(),
        rivals: Vec::new(),
    }
}

fn step(member: &Member, drained: bool, seconds: i64) -> Step {
    next(member, drained, &Settings::default(), at(seconds))
}

const REST: Step = Step::Rest { until: None };

#[test]
fn a_claim_is_launched_only_once_it_cannot_be_lost() {
    let unprotected = with(claim(&[]), "/metadata/finalizers", json!([]));
    assert_eq!(step(&member(Some(unprotected), None), false, 0), Step::AddFinalizer);
    assert_eq!(step(&member(Some(claim(&[])), None), false, 0), Step::Launch);
}

#[test]
fn a_launch_is_given_up_after_its_timeout() {
    let member = member(Some(claim(&[])), None);
    assert_eq!(step(&member, false, 299), Step::Launch);
    assert_eq!(step(&member, false, 300), Step::DeleteClaim(Ending::LaunchTimeout));
}

#[test]
fn a_machine_that_does_not_join_is_given_up_after_its_timeout() {
    let member = member(Some(claim(&["Launched"])), None);
    assert_eq!(step(&member, false, 10), Step::Rest { until: Some(at(900)) });
    assert_eq!(step(&member, false, 900), Step::DeleteClaim(Ending::RegistrationTimeout));
}

#[test]
fn a_node_that_joined_is_registered_even_if_the_process_died_between_node_and_claim() {
    assert_eq!(step(&member(Some(claim(&["Launched"])), Some(node())), false, 1), Step::Register);
    let unlabelled = with(node(), "/metadata/labels", json!({}));
    assert_eq!(step(&member(Some(claim(&["Launched", "Registered"])), Some(unlabelled)), false, 1), Step::Register);
}

#[test]
fn a_registered_node_waits_until_nothing_is_in_the_way() {
    let registered = || Some(claim(&["Launched", "Registered"]));
    let table = [
        (with(node(), "/status/conditions", json!([])), Some("NodeNotReady")),
        (with(node(), "/spec/taints", json!([{ "key": "agent", "effect": "NoExecute" }])), Some("StartupTaintsExist")),
        (
            with(node(), "/spec/taints", json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }])),
            Some("KnownEphemeralTaintsExist"),
        ),
        (
            with(node(), "/status/allocatable", json!({ "cpu": "4", "example.com/gpu": "0" })),
            Some("ResourceNotRegistered"),
        ),
        (with(node(), "/spec/taints", json!([{ "key": "mine", "effect": "NoSchedule" }])), None),
        (node(), None),
    ];
    for (node, wanted) in table {
        let got = match step(&member(registered(), Some(node.clone())), false, 1) {
            Step::Await { reason, .. } => Some(reason),
            Step::Initialize => None,
            other => panic!("{other:?} for {node}"),
        };
        assert_eq!(got, wanted, "{node}");
    }
}

#[test]
fn a_node_held_closed_is_opened_as_soon_as_only_that_keeps_pods_off() {
    let held = |others: Value| {
        let mut taints = vec![json!({ "key": "karpenter.sh/unregistered", "effect": "NoSchedule" })];
        taints.extend(others.as_array().cloned().unwrap_or_default());
        with(node(), "/spec/taints", json!(taints))
    };
    let reason = |step: Step| match step {
        Step::Await { reason, .. } => reason,
        Step::Open => "open",
        other => panic!("{other:?}"),
    };
    let table = [
        (held(json!([])), "open"),
        (held(json!([{ "key": "mine", "effect": "NoSchedule" }])), "open"),
        // Whoever takes these away may need the node open.
        (held(json!([{ "key": "agent", "effect": "NoExecute" }])), "open"),
        (with(held(json!([])), "/status/allocatable", json!({})), "open"),
        (with(held(json!([])), "/status/conditions", json!([])), "NodeNotReady"),
        (held(json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }])), "KnownEphemeralTaintsExist"),
    ];
    for (node, wanted) in table {
        let registered = Some(claim(&["Launched", "Registered"]));
        assert_eq!(reason(step(&member(registered, Some(node.clone())), false, 1)), wanted, "{node}");
    }
    let mut ready = held(json!([]));
    ready["metadata"]["labels"]["karpenter.sh/initialized"] = json!("true");
    let all = Some(claim(&["Launched", "Registered", "Initialized"]));
    assert_eq!(step(&member(all, Some(ready)), false, 1), Step::Open, "no node stays closed for ever");
}

#[test]
fn a_reason_to_wait_is_written_once() {
    let mut waiting = claim(&["Launched", "Registered"]);
    waiting["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "Initialized", "status": "False", "reason": "NodeNotReady",
        "message": "the kubelet does not report Ready", "lastTransitionTime": CREATED,
    }));
    let node = with(node(), "/status/conditions", json!([]));
    assert_eq!(step(&member(Some(waiting), Some(node)), false, 1), REST);
}

#[test]
fn a_ready_machine_is_left_alone() {
    let node = with(node(), "/metadata/labels/karpenter.sh~1initialized", json!("true"));
    let mut node = node;
    node["metadata"]["labels"]["karpenter.sh/initialized"] = json!("true");
    assert_eq!(step(&member(Some(claim(&["Launched", "Registered", "Initialized"])), Some(node)), true, 99_999), REST);
}

#[test]
fn deleting_the_node_deletes_the_claim() {
    let node = with(node(), "/metadata/deletionTimestamp", json!(CREATED));
    assert_eq!(step(&member(Some(claim(&["Launched"])), Some(node)), false, 1), Step::DeleteClaim(Ending::NodeDeleted));
}

fn cordoned(node: Value) -> Value {
    let node = with(node, "/spec/unschedulable", json!(true));
    with(node, "/spec/taints", json!([{ "key": names::DISRUPTED_TAINT, "effect": "NoSchedule" }]))
}

#[test]
fn a_deleted_claim_goes_through_every_stage_in_order() {
    let gone = || Some(with(claim(&["Launched"]), "/metadata/deletionTimestamp", json!(CREATED)));
    let deleted = |node| with(node, "/metadata/deletionTimestamp", json!(CREATED));
    assert_eq!(step(&member(gone(), Some(node())), false, 1), Step::Cordon);
    let unprotected = with(cordoned(node()), "/metadata/finalizers", json!([]));
    assert_eq!(step(&member(gone(), Some(unprotected)), false, 1), Step::Cordon, "or its pods would not be drained");
    assert_eq!(step(&member(gone(), Some(cordoned(node()))), false, 1), Step::DeleteNode);
    assert_eq!(step(&member(gone(), Some(deleted(node()))), false, 1), Step::Cordon);
    assert_eq!(step(&member(gone(), Some(deleted(cordoned(node())))), false, 1), Step::Drain);
    assert_eq!(step(&member(gone(), Some(deleted(cordoned(node())))), true, 1), Step::Terminate);
    assert_eq!(step(&member(gone(), None), false, 1), Step::Terminate);
    let released = with(claim(&[]), "/metadata/deletionTimestamp", json!(CREATED));
    assert_eq!(step(&member(Some(with(released, "/metadata/finalizers", json!([]))), None), false, 1), REST);
}

#[test]
fn volumes_are_waited_for_but_not_for_ever() {
    let deleted = with(cordoned(node()), "/metadata/deletionTimestamp", json!(CREATED));
    let mut leaving =
        member(Some(with(claim(&["Launched"]), "/metadata/deletionTimestamp", json!(CREATED))), Some(deleted));
    leaving.attachments.push(Arc::new(
        serde_json::from_value(json!({
            "metadata": { "name": "va" },
            "spec": { "attacher": "ebs", "nodeName": "n", "source": {} },
        }))
        .unwrap(),
    ));
    assert_eq!(step(&leaving, true, 1), Step::AwaitDetach { until: at(DETACH_TIMEOUT_SECONDS) });
    assert_eq!(step(&leaving, true, DETACH_TIMEOUT_SECONDS), Step::Terminate);
}

#[test]
fn a_drain_ends_with_its_grace_period() {
    let deleted = with(cordoned(node()), "/metadata/deletionTimestamp", json!(CREATED));
    let claim = with(claim(&["Launched"]), "/metadata/deletionTimestamp", json!(CREATED));
    let leaving = member(Some(with(claim, "/spec/terminationGracePeriod", json!("1h"))), Some(deleted));
    assert_eq!(step(&leaving, false, 3599), Step::Drain);
    assert_eq!(step(&leaving, false, 3600), Step::Terminate);
}

#[test]
fn a_deleted_node_of_ours_without_a_claim_still_ends_its_machine() {
    let deleted = with(cordoned(node()), "/metadata/deletionTimestamp", json!(CREATED));
    assert_eq!(step(&member(None, Some(deleted.clone())), true, 1), Step::Terminate);
    let foreign = with(deleted, "/metadata/finalizers", json!(["other"]));
    assert_eq!(step(&member(None, Some(foreign)), true, 1), REST);
}

#[test]
fn a_ready_node_of_ours_without_a_claim_is_labelled_once() {
    let labels = |initialized: bool| {
        let mut labels = json!({ "karpenter.sh/provisioner-name": "default" });
        if initialized {
            labels[names::INITIALIZED] = json!("true");
        }
        labels
    };
    let ready = with(node(), "/metadata/labels", labels(false));
    assert_eq!(step(&member(None, Some(ready.clone())), true, 1), Step::Initialize);
    for rests in [
        with(ready.clone(), "/status/conditions", json!([])),
        with(ready.clone(), "/metadata/labels", labels(true)),
        with(ready, "/metadata/finalizers", json!([])),
        node(),
    ] {
        assert_eq!(step(&member(None, Some(rests.clone())), true, 1), REST, "{rests}");
    }
}

#[test]
fn a_machine_that_two_nodes_name_rests_until_a_person_deletes_the_silent_one() {
    let rival = |node: Value| vec![Arc::new(serde_json::from_value::<Node>(node).unwrap())];
    let deleted = |object| with(object, "/metadata/deletionTimestamp", json!(CREATED));
    let silent = || with(node(), "/status/conditions", json!([]));
    let claims = [
        Some(claim(&[])),
        Some(claim(&["Launched"])),
        Some(claim(&["Launched", "Registered", "Initialized"])),
        Some(deleted(claim(&["Launched"]))),
        None,
    ];
    for claim in claims {
        for one in [node(), silent(), cordoned(node()), deleted(cordoned(node()))] {
            let member = Member { rivals: rival(node()), ..member(claim.clone(), Some(one.clone())) };
            assert_eq!(step(&member, true, 99_999), Step::Dispute, "{claim:?} {one}");
        }
        let member = Member { rivals: rival(node()), ..member(claim.clone(), Some(deleted(silent()))) };
        assert_eq!(step(&member, true, 1), Step::ReleaseNode, "{claim:?}");
        let both_silent = Member { rivals: rival(silent()), ..member };
        assert_eq!(step(&both_silent, true, 1), Step::Dispute, "nobody knows which one is stale");
    }
    let foreign = with(node(), "/metadata/finalizers", json!([]));
    let member = Member { rivals: rival(foreign.clone()), ..member(None, Some(foreign)) };
    assert_eq!(step(&member, true, 1), REST, "not ours to talk about");
}

/// A registered claim that has noted since second 0 that its Node is gone, or that it is back.
fn noted(status: &str, reason: &str) -> Value {
    let mut claim = claim(&["Launched", "Registered", "Initialized"]);
    claim["status"]["conditions"].as_array_mut().unwrap().push(json!({
        "type": "ConsistentStateFound", "status": status, "reason": reason, "message": "", "lastTransitionTime": CREATED,
    }));
    claim
}

#[test]
fn a_machine_whose_node_vanished_is_given_up_after_its_timeout() {
    let registered = claim(&["Launched", "Registered", "Initialized"]);
    assert_eq!(
        step(&member(Some(registered), None), false, 99_999),
        Step::NoteVanished,
        "the clock starts when it is seen"
    );
    let vanished = || member(Some(noted("False", "NodeNotFound")), None);
    assert_eq!(step(&vanished(), false, 899), Step::Rest { until: Some(at(900)) });
    assert_eq!(step(&vanished(), false, 900), Step::DeleteClaim(Ending::NodeVanished));
    for other in [noted("True", "NodeFound"), noted("False", "ConsistencyCheckFailed")] {
        assert_eq!(step(&member(Some(other), None), false, 99_999), Step::NoteVanished);
    }
}

#[test]
fn a_node_that_came_back_stops_the_clock() {
    let back = member(Some(noted("False", "NodeNotFound")), Some(node()));
    assert_eq!(step(&back, false, 99_999), Step::NoteFound);
    let mut steady = node();
    steady["metadata"]["labels"]["karpenter.sh/initialized"] = json!("true");
    assert_eq!(step(&member(Some(noted("True", "NodeFound")), Some(steady)), false, 99_999), REST);
}
