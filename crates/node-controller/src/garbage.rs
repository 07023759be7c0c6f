//! What nobody owns any more: machines without a claim, claims without a machine. Pure part.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use api::{
    condition,
    karpenter_v1::{NodeClaim, claim_conditions},
};
use cloud::{Machine, MachineState};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use crate::{lifecycle::next::is_ready, names};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End a machine that has no claim.
    EndMachine {
        /// Its name at the cloud.
        provider_id: String,
    },
    /// Ask the cloud about the machine of a claim that its list does not show; if it is gone, the claim goes too.
    CheckClaim {
        /// The claim's name.
        claim: String,
        /// The machine it should have.
        provider_id: String,
    },
}

/// Compares what the cloud lists with the claims that exist.
///
/// `claims` must have been read from the API server *after* `machines` was listed: a claim is always written before its
/// machine is asked for, so a machine in the list whose claim is not there has none. `first_seen` is when a machine
/// without a start time was first noticed.
pub fn plan(
    machines: &[Machine],
    claims: &[NodeClaim],
    first_seen: &BTreeMap<String, Timestamp>,
    grace: Duration,
    now: Timestamp,
) -> Vec<Action> {
    // A claim that has recorded its machine owns that one only: another one with its UID is one too many.
    let unrecorded = claims.iter().filter(|claim| provider_id(claim).is_none());
    let uids: BTreeSet<&str> = unrecorded.filter_map(|claim| claim.metadata.uid.as_deref()).collect();
    let recorded: BTreeSet<&str> = claims.iter().filter_map(provider_id).collect();
    let listed: BTreeSet<&str> = machines.iter().map(|machine| machine.provider_id.as_str()).collect();
    let ends = machines.iter().filter(|machine| {
        let owned = machine.claim_uid.as_deref().is_some_and(|uid| uids.contains(uid))
            || recorded.contains(machine.provider_id.as_str());
        let since = machine.launched_at.or_else(|| first_seen.get(&machine.provider_id).copied());
        let old = since.is_some_and(|since| since + grace <= now);
        !owned && old && matches!(machine.state, MachineState::Pending | MachineState::Running)
    });
    let ends = ends.map(|machine| Action::EndMachine { provider_id: machine.provider_id.clone() });
    let checks = claims.iter().filter_map(|claim| {
        let provider_id = provider_id(claim)?;
        let conditions = &claim.status.as_ref()?.conditions;
        let launched = conditions.iter().find(|c| c.type_ == claim_conditions::LAUNCHED)?;
        let old = condition::is_true(conditions, claim_conditions::LAUNCHED)
            && launched.last_transition_time.0 + grace <= now;
        let missing = !listed.contains(provider_id);
        (missing && old && claim.metadata.deletion_timestamp.is_none()).then(|| Action::CheckClaim {
            claim: claim.metadata.name.clone().unwrap_or_default(),
            provider_id: provider_id.to_owned(),
        })
    });
    ends.chain(checks).collect()
}

/// How a machine without a claim ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End<'a> {
    /// At once: there is no Node to drain.
    Now,
    /// Through the deletion of its Node, with a drain: it may serve.
    WithNode(&'a Node),
    /// It is on its way already.
    UnderWay,
    /// Not at all: several Nodes name it, and one of them may serve.
    Disputed(&'a Node),
}

/// How a machine without a claim ends; `nodes` are the Nodes that name it.
pub fn end<'a>(nodes: &[&'a Node]) -> End<'a> {
    match nodes {
        [node] if node.metadata.deletion_timestamp.is_none() => End::WithNode(node),
        [node] if node.finalizers().iter().any(|one| one == names::FINALIZER) => End::UnderWay,
        // It has not joined, or somebody else holds its Node back and nobody drains it.
        [] | [_] => End::Now,
        [first, ..] => End::Disputed(first),
    }
}

/// The Node whose kubelet reports although the cloud does not know its machine; `nodes` are the Nodes that name it.
///
/// Then it is we who look in the wrong place, such as another region or account, and its claim must stay.
pub fn reporting<'a>(nodes: &[&'a Node]) -> Option<&'a Node> {
    nodes.iter().find(|node| is_ready(node)).copied()
}

fn provider_id(claim: &NodeClaim) -> Option<&str> {
    claim.status.as_ref().and_then(|status| status.provider_id.as_deref())
}

#[cfg(test)]
mod tests {
    use scheduling::CapacityType;
    use serde_json::json;
    use units::ResourceList;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn machine(id: &str, claim_uid: Option<&str>, launched: Option<i64>) -> Machine {
        Machine {
            provider_id: id.to_owned(),
            claim_name: None,
            claim_uid: claim_uid.map(str::to_owned),
            instance_type: "t".to_owned(),
            zone: "z".to_owned(),
            capacity_type: CapacityType::OnDemand,
            image_id: None,
            state: MachineState::Running,
            launched_at: launched.map(at),
            capacity: ResourceList::new(),
            allocatable: ResourceList::new(),
            labels: BTreeMap::new(),
        }
    }

    fn claim(uid: &str, provider_id: Option<&str>) -> NodeClaim {
        serde_json::from_value(json!({
            "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": uid, "uid": uid },
            "spec": { "requirements": [], "nodeClassRef": { "group": "g", "kind": "k", "name": "n" } },
            "status": { "providerID": provider_id, "conditions": [ {
                "type": "Launched", "status": "True", "reason": "Launched", "message": "",
                "lastTransitionTime": at(0).to_string() } ] },
        }))
        .unwrap()
    }

    fn check(machines: &[Machine], claims: &[NodeClaim], seconds: i64) -> Vec<Action> {
        let seen = BTreeMap::from([("timeless".to_owned(), at(0))]);
        plan(machines, claims, &seen, Duration::from_secs(30), at(seconds))
    }

    fn end(id: &str) -> Action {
        Action::EndMachine { provider_id: id.to_owned() }
    }

    #[test]
    fn a_machine_whose_claim_is_gone_is_ended_after_the_grace() {
        let orphan = [machine("m", Some("gone"), Some(0))];
        assert_eq!(check(&orphan, &[], 29), []);
        assert_eq!(check(&orphan, &[], 30), [end("m")]);
    }

    #[test]
    fn a_machine_without_a_start_time_is_judged_by_when_it_was_first_seen() {
        assert_eq!(check(&[machine("timeless", None, None)], &[], 30), [end("timeless")]);
        assert_eq!(check(&[machine("new", None, None)], &[], 30), []);
    }

    #[test]
    fn a_machine_is_owned_by_uid_before_it_is_recorded_and_by_its_record_even_without_tags() {
        assert_eq!(check(&[machine("m", Some("u"), Some(0))], &[claim("u", None)], 99), []);
        assert_eq!(check(&[machine("m", None, Some(0))], &[claim("u", Some("m"))], 99), []);
    }

    #[test]
    fn a_second_machine_of_a_claim_is_one_too_many() {
        let both = [machine("first", Some("u"), Some(0)), machine("second", Some("u"), Some(0))];
        assert_eq!(check(&both, &[claim("u", Some("first"))], 99), [end("second")]);
    }

    #[test]
    fn a_machine_on_its_way_out_is_not_ended_again() {
        let mut going = machine("m", None, Some(0));
        going.state = MachineState::Stopping;
        assert_eq!(check(&[going], &[], 99), []);
    }

    #[test]
    fn a_claim_whose_machine_is_not_listed_is_checked_once_lists_can_be_trusted() {
        let claims = [claim("u", Some("m"))];
        assert_eq!(check(&[], &claims, 10), []);
        let wanted = [Action::CheckClaim { claim: "u".to_owned(), provider_id: "m".to_owned() }];
        assert_eq!(check(&[], &claims, 30), wanted);
    }

    fn node(extra: &serde_json::Value) -> Node {
        let mut node = json!({ "metadata": { "name": "n" } });
        for (key, value) in extra.as_object().unwrap() {
            node[key] = value.clone();
        }
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn a_machine_that_may_serve_ends_through_its_node() {
        let deleted = "2024-01-01T00:00:00Z";
        let plain = node(&json!({}));
        let ours = node(&json!({ "metadata": { "name": "n", "finalizers": [names::FINALIZER] } }));
        let going = node(&json!({ "metadata": { "finalizers": [names::FINALIZER], "deletionTimestamp": deleted } }));
        let held = node(&json!({ "metadata": { "finalizers": ["other"], "deletionTimestamp": deleted } }));
        assert_eq!(super::end(&[]), End::Now);
        assert_eq!(super::end(&[&plain]), End::WithNode(&plain), "even one that was never registered");
        assert_eq!(super::end(&[&ours]), End::WithNode(&ours));
        assert_eq!(super::end(&[&going]), End::UnderWay);
        assert_eq!(super::end(&[&held]), End::Now);
        assert_eq!(super::end(&[&ours, &plain]), End::Disputed(&ours));
    }

    #[test]
    fn one_kubelet_that_says_so_now_is_enough() {
        let status =
            |status: &str| node(&json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } }));
        let (ready, unknown, silent) = (status("True"), status("Unknown"), node(&json!({})));
        assert_eq!(reporting(&[&silent, &unknown]), None);
        assert_eq!(reporting(&[&unknown, &ready]), Some(&ready));
    }
}
