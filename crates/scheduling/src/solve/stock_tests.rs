//! What can be attached, bought, or asked for only so often; who comes first; and input that makes no sense.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::{Expect, expect};
use requirements::{Requirement, labels};
use units::Amount;

use super::{
    tests::{edited, edited_node, edited_pool},
    topology_tests::by_node,
};
use crate::{
    CapacityType, InstanceType, Node, Note, Offering, Pod, Pool, Settings, Snapshot, solve, solve_greedy, testing::*,
};

fn check(snapshot: &Snapshot, expected: &Expect) {
    let solution = solve_greedy(snapshot, &Settings::default());
    assert_eq!(broken(snapshot, &solution), [], "{solution:#?}");
    expected.assert_eq(&by_node(&solution));
}

fn attaching(name: &str, volumes: &[&str]) -> Pod {
    edited(pod(name, 100, 0), |pod| {
        let names: BTreeSet<String> = volumes.iter().map(|name| (*name).to_owned()).collect();
        pod.volumes_by_driver = BTreeMap::from([("ebs".to_owned(), names)]);
    })
}

fn slots(name: &str, most: u32, pods: Vec<Pod>) -> Node {
    edited_node(node(name, 4000), |node| {
        node.volume_limits = BTreeMap::from([("ebs".to_owned(), most)]);
        node.pods = pods.into_iter().map(Into::into).collect();
    })
}

#[test]
fn a_node_attaches_so_many_different_volumes() {
    let pods = vec![attaching("p0", &["new"]), attaching("p1", &["shared"]), attaching("p2", &["more"])];
    let full = slots("a", 2, vec![attaching("old", &["shared"])]);
    check(
        &snapshot(pods.clone(), vec![full.clone()], vec![]),
        &expect![[r"
        node a: p0 p1
        p2 unplaced: there is no Provisioner and no NodePool that could make a node | 0 of 1 nodes fit: 1 no more volumes
    "]],
    );
    check(
        &snapshot(pods, vec![full], vec![pool("default")]),
        &expect![[r"
        node a: p0 p1
        new node 0 (a spot, a on-demand, b on-demand): p2
    "]],
    );
}

#[test]
fn a_volume_that_two_pods_share_is_attached_once() {
    let pods = vec![attaching("p0", &["v"]), attaching("p1", &["v"])];
    check(
        &snapshot(pods, vec![slots("a", 1, vec![])], vec![]),
        &expect![[r"
        node a: p0 p1
    "]],
    );
}

fn reserved(name: &str, remaining: u32) -> Pool {
    edited_pool(pool(name), |pool| {
        let mut machine = machine("m.large", "amd64", 2);
        machine.offerings.push(Offering {
            zone: "a".to_owned(),
            capacity_type: CapacityType::Reserved,
            price: units::UsdMicrosPerHour(1),
            available: true,
            remaining: Some(remaining),
        });
        pool.instance_types = [machine].into();
    })
}

#[test]
fn reserved_capacity_is_used_as_often_as_there_is() {
    let pods = (0..3).map(|index| pod(&format!("p{index}"), 1500, 0)).collect();
    check(
        &snapshot(pods, vec![], vec![reserved("default", 2)]),
        &expect![[r"
        new node 0 (a reserved, a spot, a on-demand, b on-demand): p0
        new node 1 (a reserved, a spot, a on-demand, b on-demand): p1
        new node 2 (a spot, a on-demand, b on-demand): p2
    "]],
    );
}

#[test]
fn what_is_reserved_and_used_up_is_nothing_to_be_spread_over() {
    let pods = (0..3).map(|index| {
        edited(pod(&format!("p{index}"), 100, 0), |pod| {
            pod.labels = labels_of(&[("app", "web")]);
            pod.topology_spread = vec![spread("web", labels::CAPACITY_TYPE)];
        })
    });
    let snapshot = snapshot(pods.collect(), vec![], vec![reserved("default", 0)]);
    let solution = solve_greedy(&snapshot, &Settings::default());
    assert_eq!((broken(&snapshot, &solution), solution.placed.len()), (vec![], 3));
}

#[test]
fn pools_share_what_is_reserved() {
    let only = |name: &str| {
        edited_pool(reserved(name, 1), |pool| {
            pool.requirements.add(Requirement::one_of(labels::CAPACITY_TYPE, ["reserved"]));
        })
    };
    let pods = (0..2).map(|index| pod(&format!("p{index}"), 1500, 0)).collect();
    check(
        &snapshot(pods, vec![], vec![only("x"), only("y")]),
        &expect![[r"
            new node 0 (a reserved): p0
            p1 unplaced: NodePool/x: the one offering that would do is reserved, and other new nodes use it up | NodePool/y: the one offering that would do is reserved, and other new nodes use it up
        "]],
    );
}

#[test]
fn the_more_important_pod_comes_first() {
    let pods = vec![pod("large", 3000, 0), edited(pod("urgent", 2000, 0), |pod| pod.priority = 1000)];
    check(
        &snapshot(pods, vec![node("a", 3000)], vec![]),
        &expect![[r"
        node a: urgent
        large unplaced: there is no Provisioner and no NodePool that could make a node | 0 of 1 nodes fit: 1 too full
    "]],
    );
}

#[test]
fn different_values_may_be_fewer_where_the_settings_say_so() {
    let choosy = edited_pool(pool("choosy"), |pool| {
        pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(3)));
    });
    let large = snapshot(vec![pod("large", 15_000, 0)], vec![], vec![choosy]);
    check(
        &large,
        &expect![[r"
        large unplaced: NodePool/choosy: minValues of node.kubernetes.io/instance-type is 3, only 1 remain possible
    "]],
    );
    let settings = Settings { relax_min_values: true, ..Settings::default() };
    let solution = solve_greedy(&large, &settings);
    assert_eq!(
        (solution.placed.len(), solution.notes.as_slice()),
        (1, [Note::MinValuesRelaxed { nodes: 1 }].as_slice())
    );
}

#[test]
fn nodes_give_up_for_limits_what_different_values_leave() {
    // Three types mean 16 GiB for every node, and none is left 32 while another needs them.
    let alone = |index| edited(pod(&format!("p{index}"), 100, 0), |pod| pod.host_ports = vec![port(80)]);
    for (gib, placed) in [(15, 0), (47, 2), (48, 3)] {
        let choosy = edited_pool(pool("choosy"), |pool| {
            pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(3)));
            pool.limits = Some(resources(1_000_000, gib, 1000));
        });
        let snapshot = snapshot((0..3).map(alone).collect(), vec![], vec![choosy]);
        for plan in [solve(&snapshot, &Settings::default()), solve_greedy(&snapshot, &Settings::default())] {
            assert_eq!((broken(&snapshot, &plan), plan.placed.len()), (Vec::new(), placed), "{gib} GiB");
        }
    }
}

#[test]
fn machines_without_capacity_do_no_harm_and_pods_that_ask_for_less_than_nothing_are_refused() {
    let nothing = InstanceType { capacity: resources(0, 0, 0), ..machine("void", "amd64", 2) };
    let void = edited_pool(pool("void"), |pool| pool.instance_types = [nothing].into());
    let odd = edited(pod("odd", -500, -1), |pod| {
        pod.requests.set(units::ResourceName::ephemeral_storage(), Amount(i64::MIN));
    });
    let huge = pod("huge", i64::MAX, 0);
    check(
        &snapshot(vec![odd, huge, pod("p", 100, 0)], vec![], vec![void, pool("default")]),
        &expect![[r"
            new node 0 (a spot, a on-demand, b on-demand): p
            huge unplaced: NodePool/default: asks for 9223372036854775807m of cpu, the largest node has 15900m free | NodePool/void: asks for 9223372036854775807m of cpu, the largest node has 0 free | NodePool/void: asks for 1 of pods, the largest node has 0 free
            odd unplaced: the pod is not valid: asks for less than nothing of cpu
        "]],
    );
}

#[test]
fn ten_thousand_pods_that_nobody_is_like_are_placed_within_their_budget() {
    let all = (0..10_000).map(|index| {
        edited(pod(&format!("p{index}"), 100 + index % 97, 0), |pod| {
            let own = format!("app-{index}");
            pod.labels = labels_of(&[("app", &own), ("other", &format!("x{index}"))]);
            pod.topology_spread = vec![spread(&own, labels::ZONE)];
            pod.pod_anti_affinity = vec![near(&own, labels::HOSTNAME)];
        })
    });
    let snapshot = snapshot(all.collect(), vec![], vec![pool("default")]);
    let settings = Settings { budget_work_units: 5_000_000, ..Settings::default() };
    let solution = solve_greedy(&snapshot, &settings);
    assert_eq!((solution.placed.len(), solution.notes.len()), (10_000, 0));
}
