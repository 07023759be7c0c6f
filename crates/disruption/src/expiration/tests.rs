use std::time::Duration;

use proptest::prelude::*;
use requirements::{Requirements, labels};
use scheduling::{InstanceType, Node, Offering, Pool, check::check};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

use super::*;
use crate::candidate::tests::{at, node};

fn cpu(milli: i64) -> ResourceList {
    ResourceList::new().with(ResourceName::cpu(), Amount(milli)).with(ResourceName::pods(), Amount(10))
}

fn pod(name: &str, milli: i64) -> Arc<Pod> {
    let mut pod = Pod::new(PodKey::new("shop", name));
    pod.requests.set(ResourceName::cpu(), Amount(milli));
    Arc::new(pod)
}

fn standing(name: &str, pods: &[Arc<Pod>]) -> Node {
    Node {
        key: NodeKey(name.to_owned()),
        pool: None,
        stage: NodeStage::Ready,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        startup_taints: Vec::new(),
        allocatable: cpu(1000),
        pods: pods.to_vec(),
        volume_limits: BTreeMap::new(),
        price: None,
    }
}

fn pool(largest_milli: i64) -> Pool {
    let offering = Offering {
        zone: "a".to_owned(),
        capacity_type: scheduling::CapacityType::OnDemand,
        price: UsdMicrosPerHour(1),
        available: true,
        remaining: None,
    };
    let machine = InstanceType {
        name: "m".to_owned(),
        requirements: Requirements::new(),
        capacity: cpu(largest_milli),
        overhead: ResourceList::new(),
        offerings: vec![offering],
    };
    Pool {
        key: node().pool,
        weight: 0,
        requirements: Requirements::new(),
        labels: [(labels::REGION.to_owned(), "x".to_owned())].into(),
        taints: Vec::new(),
        startup_taints: Vec::new(),
        limits: None,
        used: ResourceList::new(),
        instance_types: Arc::from([machine]),
    }
}

fn aged(name: &str, created: i64) -> Candidate {
    let (node_key, created_at) = (NodeKey(name.to_owned()), at(created));
    Candidate { node: node_key, created_at, ttl_until_expired: Some(Duration::from_secs(100)), ..node() }
}

fn look(candidates: &[Candidate], snapshot: &Snapshot, now: i64) -> Expirations {
    let plain = |_: &NodeKey, pod: &Pod| pod.owner.is_none();
    next_expired(candidates, snapshot, &Settings::default(), plain, at(now))
}

fn full_and(nodes: Vec<Node>, largest_milli: i64) -> Snapshot {
    Snapshot { nodes, pools: vec![pool(largest_milli)], ..Snapshot::default() }
}

#[test]
fn a_node_expires_to_the_second() {
    let young = aged("a", 10);
    assert_eq!(expiration(&young, at(109)), Verdict::Keep { next_look: Some(at(110)), why: KeepReason::NotYet });
    let reason = RemoveReason::Expired { created: at(10), ttl: Duration::from_secs(100) };
    assert_eq!(expiration(&young, at(110)), Verdict::Remove { reason });
    let forever = Candidate { ttl_until_expired: None, ..aged("a", 10) };
    assert_eq!(expiration(&forever, at(1_000_000)), Verdict::Keep { next_look: None, why: KeepReason::NoTtl });
}

#[test]
fn the_oldest_goes_first_and_alone() {
    let snapshot = full_and(vec![standing("a", &[pod("p", 900)]), standing("b", &[pod("q", 900)])], 1000);
    let found = look(&[aged("b", 5), aged("a", 1), aged("young", 950)], &snapshot, 1000);
    let next = found.next.unwrap();
    assert_eq!(next.node, NodeKey("a".to_owned()));
    assert_eq!(next.plan.new_nodes.len(), 1, "its pod needs a new node");
    assert_eq!(found.waiting, [NodeKey("b".to_owned())]);
    assert_eq!(found.next_look, Some(at(1050)));
}

#[test]
fn one_that_is_going_holds_the_others_back() {
    let going = Candidate { deleting: true, ..aged("c", 0) };
    let found = look(&[aged("a", 1), going], &full_and(vec![standing("a", &[])], 1000), 1000);
    assert!(found.next.is_none());
    assert_eq!(found.waiting, [NodeKey("a".to_owned())]);
}

#[test]
fn a_node_whose_pods_have_nowhere_to_go_stays_and_the_next_goes() {
    let snapshot = full_and(vec![standing("a", &[pod("p", 950)]), standing("b", &[pod("q", 100)])], 500);
    let found = look(&[aged("a", 1), aged("b", 5)], &snapshot, 1000);
    assert_eq!(found.next.unwrap().node, NodeKey("b".to_owned()));
    let reasons = &found.stuck[&NodeKey("a".to_owned())][&PodKey::new("shop", "p")];
    assert!(matches!(reasons[0], Unfit::Resource { .. }), "{reasons:?}");
}

#[test]
fn pods_that_wait_already_are_not_held_against_the_node() {
    let mut snapshot = full_and(vec![standing("a", &[pod("p", 400)])], 500);
    snapshot.pods.push(pod("huge", 99_000));
    assert!(look(&[aged("a", 1)], &snapshot, 1000).next.is_some());
}

#[test]
fn daemons_do_not_move() {
    let mut daemon = Pod::clone(&pod("log", 99_000));
    daemon.owner =
        Some(scheduling::OwnerKey { kind: "DaemonSet".to_owned(), name: "log".to_owned(), uid: String::new() });
    let snapshot = full_and(vec![standing("a", &[Arc::new(daemon)])], 500);
    let next = look(&[aged("a", 1)], &snapshot, 1000).next.unwrap();
    assert!(next.plan.placed.is_empty() && next.plan.new_nodes.is_empty());
}

proptest! {
    #[test]
    fn at_most_one_goes_and_its_plan_holds(ages in proptest::collection::vec((0i64..300, 0i64..1200), 1..6), largest in 200i64..1500) {
        let names: Vec<String> = (0..ages.len()).map(|index| format!("n{index}")).collect();
        let nodes = names.iter().zip(&ages).map(|(name, (_, milli))| standing(name, &[pod(&format!("p-{name}"), *milli)])).collect();
        let candidates: Vec<_> = names.iter().zip(&ages).map(|(name, (created, _))| aged(name, *created)).collect();
        let snapshot = full_and(nodes, largest);
        let found = look(&candidates, &snapshot, 250);
        let expired = candidates.iter().filter(|one| matches!(expiration(one, at(250)), Verdict::Remove { .. })).count();
        prop_assert_eq!(usize::from(found.next.is_some()) + found.stuck.len() + found.waiting.len(), expired);
        if let Some(next) = &found.next {
            let plain = |pod: &Pod| pod.owner.is_none();
            prop_assert_eq!(check(&without(&snapshot, &next.node, plain), &next.plan), []);
            prop_assert!(next.plan.placed.values().all(|p| p.node != scheduling::Target::Existing(next.node.clone())));
        }
    }
}
