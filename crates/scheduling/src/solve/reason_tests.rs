//! Of each pool every reason is told, none hides another.

use requirements::{Operator, Requirement, labels};

use super::{
    solve,
    tests::{edited, edited_node},
};
use crate::{Pod, PodKey, Pool, Settings, snapshot::Snapshot, testing::*};

/// Why the pod `p` has no place, in the only pool.
fn reasons(pod: Pod, pool: Pool) -> Vec<String> {
    let world: Snapshot = snapshot(vec![pod], Vec::new(), vec![pool]);
    let plan = solve(&world, &Settings::default());
    plan.unplaced
        .get(&PodKey::new("shop", "p"))
        .map_or_else(Vec::new, |all| all.iter().map(ToString::to_string).collect())
}

fn check(pod: Pod, pool: Pool, expected: &[&str]) {
    let found = reasons(pod, pool);
    let told = |part: &&str| found.iter().any(|reason| reason.contains(part));
    let missing: Vec<_> = expected.iter().filter(|part| !told(part)).collect();
    assert!(missing.is_empty() && found.len() == expected.len(), "{missing:?} not in {found:#?}");
}

/// With a limit that no machine of it keeps.
fn limited() -> Pool {
    Pool { limits: Some(resources(1000, 100, 100)), ..pool("p") }
}

#[test]
fn a_limit_is_told_whatever_else_is_in_the_way() {
    let limit = "limit of 1 cpu, 0 used";
    check(pod("p", 500, 1), limited(), &[limit]);
    check(pod("p", 500, 1), Pool { taints: vec![taint("gpu")], ..limited() }, &[limit, "taint gpu:NoSchedule"]);
    check(pod("p", 500_000, 1), limited(), &[limit, "asks for 500 of cpu"]);
    let mut sold_out = limited();
    let mut machines = sold_out.instance_types.to_vec();
    machines.iter_mut().flat_map(|one| &mut one.offerings).for_each(|one| one.available = false);
    sold_out.instance_types = machines.into();
    check(pod("p", 500, 1), sold_out, &[limit, "offerings that would do is available now"]);
}

#[test]
fn a_label_that_nothing_defines_does_not_hide_one_that_no_machine_has() {
    let mut picky = pod("p", 500, 1);
    picky.node_selector = labels_of(&[(labels::ZONE, "nowhere"), ("disk", "ssd")]);
    check(picky, pool("p"), &["wants topology.kubernetes.io/zone in [nowhere]", "wants disk in [ssd]"]);
}

#[test]
fn every_alternative_is_told() {
    let mut either = pod("p", 500, 1);
    let zone = |name| vec![term(labels::ZONE, Operator::In, &[name])];
    either.required_node_affinity = vec![zone("x"), zone("y")];
    check(either, pool("p"), &["wants topology.kubernetes.io/zone in [x]", "wants topology.kubernetes.io/zone in [y]"]);
}

#[test]
fn a_pool_that_nothing_suits_says_what_it_requires() {
    let mut mistyped = pool("p");
    mistyped.requirements.add(Requirement::one_of(labels::ZONE, ["us-esat-1a"]));
    let expected = "it requires topology.kubernetes.io/zone in [us-esat-1a], its instance types have";
    check(pod("p", 500, 1), mistyped, &[expected]);
    let mut empty = pool("p");
    empty.instance_types = [].into();
    check(pod("p", 500, 1), empty, &["no instance type is offered"]);
}

#[test]
fn a_daemon_that_leaves_no_room_is_named_as_the_reason() {
    let mut world = snapshot(vec![pod("p", 100, 1)], Vec::new(), vec![pool("p")]);
    world.daemons = vec![on_daemon_set(pod("d", 1_000_000, 0), "d").into()];
    let plan = solve(&world, &Settings::default());
    let told: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(told.iter().any(|reason| reason.contains("has 0 free: the DaemonSets on it ask for 1k")), "{told:?}");
}

#[test]
fn nodes_that_nobody_has_to_look_at_are_counted_all_the_same() {
    let named =
        |name: &str, team: &str| edited(pod(name, 500, 1), |pod| pod.node_selector = labels_of(&[("team", team)]));
    let of_team = |name: &str, team: &str, milli_cpu| {
        edited_node(node(name, milli_cpu), |node| node.labels.extend(labels_of(&[("team", team)])))
    };
    let tainted = edited_node(of_team("n0", "red", 1000), |node| node.taints = vec![taint("gpu")]);
    let nodes = vec![tainted, of_team("n1", "red", 100), of_team("n2", "red", 1000), of_team("n3", "blue", 100)];
    let snapshot = snapshot(vec![named("p", "blue"), named("q", "green"), named("r", "red")], nodes, Vec::new());
    let said = |name: &str| {
        let solution = solve(&snapshot, &Settings::default());
        let reasons = solution.unplaced.get(&PodKey::new("shop", name)).cloned().unwrap_or_default();
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let no_pools = "there is no Provisioner and no NodePool";
    assert_eq!(
        [said("p"), said("q"), said("r")],
        [
            format!("{no_pools}; 0 of 4 nodes fit: 1 too full, 2 other labels, 1 taint not tolerated"),
            format!("{no_pools}; 0 of 4 nodes fit: 3 other labels, 1 taint not tolerated"),
            String::new(),
        ]
    );
}

/// Which machines were left out of the new nodes for the sake of limits of 1000 cpu and so many GiB.
fn narrowed(pods: Vec<Pod>, gib: i64) -> Vec<String> {
    let limited = Pool { limits: Some(resources(1_000_000, gib, 1000)), ..pool("p") };
    let plan = solve(&snapshot(pods, Vec::new(), vec![limited]), &Settings::default());
    let said = plan.new_nodes.iter().flat_map(|node| &node.why).map(ToString::to_string);
    said.filter(|why| why.contains("left out")).collect()
}

#[test]
fn a_node_names_the_limit_that_left_larger_machines_out() {
    let alone = |name| edited(pod(name, 100, 1), |pod| pod.host_ports = vec![port(80)]);
    assert_eq!(narrowed(vec![alone("p")], 34), ["machines with more than 32Gi memory were left out by the limit"]);
    // One node leaves the other nothing as long as it may become so large.
    let more_than = |gib| format!("machines with more than {gib}Gi memory were left out by the limit");
    assert_eq!(narrowed(vec![alone("p"), alone("q")], 34), [more_than(8), more_than(16)]);
    assert_eq!(narrowed(vec![alone("p"), alone("q")], 3400), Vec::<String>::new());
}
