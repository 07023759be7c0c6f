//! Pods that must be beside others have a place if there is one for all, however large the machines are.

use proptest::prelude::*;
use requirements::{Operator, labels};
use units::UsdMicrosPerHour;

use super::{solve, tests::edited};
use crate::{InstanceType, Pod, Settings, Snapshot, Solution, testing::*};

/// So many pods of an app, of so many thousandths of a cpu.
fn app(name: &str, count: usize, milli_cpu: i64) -> impl Iterator<Item = Pod> {
    (0..count).map(move |index| {
        edited(pod(&format!("{name}-{index:03}"), milli_cpu, 0), |pod| pod.labels = labels_of(&[("app", name)]))
    })
}

/// As [`app`], each on a node with a pod of another app.
fn beside(other: &str, name: &str, count: usize, milli_cpu: i64) -> impl Iterator<Item = Pod> {
    app(name, count, milli_cpu)
        .map(move |one| edited(one, |pod| pod.pod_affinity = vec![near(other, labels::HOSTNAME)]))
}

fn world(pods: impl Iterator<Item = Pod>, machines: Vec<InstanceType>) -> Snapshot {
    let mut pool = pool("p");
    pool.instance_types = machines.into();
    snapshot(pods.collect(), Vec::new(), vec![pool])
}

/// The plan, which has to be sound.
fn plan(world: &Snapshot) -> Solution {
    let plan = solve(world, &Settings::default());
    assert_eq!(broken(world, &plan), []);
    plan
}

#[test]
fn a_node_is_not_filled_with_pods_that_others_must_be_beside() {
    // All ten together are cheapest on one machine, which is full then.
    let mut large = machine("large", "amd64", 16);
    large.offerings.iter_mut().for_each(|one| one.price.0 /= 2);
    let pods = app("web", 10, 1500).chain(beside("web", "cache", 20, 500));
    assert_eq!(plan(&world(pods, vec![large])).unplaced.len(), 0);
}

#[test]
fn those_that_follow_share_few_of_many_nodes_where_that_is_cheaper() {
    // One pod and two that follow it, or two that nobody follows, fill a machine of 3.9 cpus.
    let pods = app("web", 12, 1500).chain(beside("web", "cache", 6, 1000));
    let plan = plan(&world(pods, vec![machine("m.xlarge", "amd64", 4)]));
    assert_eq!((plan.unplaced.len(), plan.new_nodes.len()), (0, 8));
}

#[test]
fn few_pods_that_must_be_beside_others_are_planned_by_price() {
    let pods = app("web", 10, 1500).chain(beside("web", "cache", 10, 500));
    let machines = [2, 4, 16, 32].map(|cpus| machine(&format!("m.{cpus}"), "amd64", cpus));
    let plan = plan(&world(pods, machines.into()));
    // All on the largest are 0.64 $.
    assert_eq!((plan.greedy_cost, plan.cost), (Some(UsdMicrosPerHour(640_000)), UsdMicrosPerHour(440_000)));
}

#[test]
fn whoever_follows_those_that_follow_has_a_place_too() {
    let pods = app("web", 8, 1000).chain(beside("web", "cache", 8, 1000)).chain(beside("cache", "probe", 8, 1000));
    assert_eq!(plan(&world(pods, vec![machine("m.xlarge", "amd64", 4)])).unplaced.len(), 0);
}

/// Ten pods are planned by trying every way, more are not.
#[test]
fn a_node_that_is_there_keeps_room_for_those_that_must_be_beside_its_pods() {
    for webs in [8, 12, 300] {
        let mut there = node("n1", 4000);
        there.labels.extend(labels_of(&[("disk", "ssd")]));
        let on_it = |pod: &mut Pod| pod.required_node_affinity = vec![vec![term("disk", Operator::Exists, &[])]];
        let pods = app("web", webs, 1000).chain(beside("web", "cache", 2, 900).map(|one| edited(one, on_it)));
        let mut world = world(pods, vec![machine("m.xlarge", "amd64", 4)]);
        world.nodes.push(there);
        assert_eq!(plan(&world).unplaced.len(), 0, "{webs} pods and 2 beside them");
    }
}

#[test]
fn where_not_all_can_be_beside_others_those_that_can_are() {
    // Two on one machine of 15.9 cpus leave room for twelve; one on each of two, for fourteen beside each.
    let pods = app("web", 2, 1500).chain(beside("web", "cache", 40, 1000));
    assert_eq!(plan(&world(pods, vec![machine("m.4xlarge", "amd64", 16)])).unplaced.len(), 12);
}

/// Pods that could go anywhere fill the only node with a disk, if the largest come first.
#[test]
fn whoever_has_one_node_only_comes_before_those_that_have_many() {
    let mut there = node("n1", 8000);
    there.labels.extend(labels_of(&[("disk", "ssd")]));
    let on_it = |pod: &mut Pod| pod.required_node_affinity = vec![vec![term("disk", Operator::Exists, &[])]];
    let pods = app("web", 20, 2000).chain(app("cache", 1, 1000).map(|one| edited(one, on_it)));
    let mut world = world(pods, vec![machine("m.xlarge", "amd64", 4)]);
    world.nodes.push(there);
    let plan = plan(&world);
    assert_eq!((plan.unplaced.len(), plan.greedy_leaves_out), (0, 1));
}

#[test]
fn whoever_has_no_place_beside_others_is_told_what_their_nodes_are_full_of() {
    let mut there = node("n1", 1000);
    there.pods.push(app("web", 1, 500).next().map(std::sync::Arc::new).unwrap());
    let mut world = world(beside("web", "cache", 1, 700), vec![machine("m.xlarge", "amd64", 4)]);
    world.nodes.push(there);
    let reasons: Vec<String> = plan(&world).unplaced.values().flatten().map(ToString::to_string).collect();
    let full = "NodePool/p: the pods it must share its kubernetes.io/hostname with are on n1: it asks for 700m of cpu, the most \
                that is free there is 500m";
    assert_eq!(reasons, [full, "0 of 1 nodes fit: 1 too full"]);
}

#[test]
fn who_must_be_beside_others_on_machines_of_another_kind_is_not_told_that_these_are_full() {
    let on = |arch: &'static str| {
        move |mut pod: Pod| {
            pod.node_selector = labels_of(&[(labels::ARCH, arch)]);
            pod
        }
    };
    let pods = app("web", 1, 1500).map(on("arm64")).chain(beside("web", "cache", 1, 700).map(on("amd64")));
    let world = world(pods, vec![machine("arm", "arm64", 2), machine("x86", "amd64", 4)]);
    let reasons: Vec<String> = plan(&world).unplaced.values().flatten().map(ToString::to_string).collect();
    let elsewhere =
        "NodePool/p: the pods it must share its kubernetes.io/hostname with are on new node 1, where it may not be";
    assert_eq!(reasons, [elsewhere]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_more_type_leaves_no_pod_out_that_must_be_beside_others(
        (webs, web) in (4usize..20, 200i64..1500),
        (caches, cache) in (1usize..30, 100i64..1000),
        (cpus, halves) in (1i64..24, 1i64..5),
    ) {
        let pods = || app("web", webs, web).chain(beside("web", "cache", caches, cache));
        let some = vec![machine("m.xlarge", "amd64", 4), machine("m.2xlarge", "amd64", 8)];
        let mut more = some.clone();
        let mut another = machine("more", "amd64", cpus);
        another.offerings.iter_mut().for_each(|one| one.price.0 = one.price.0 * halves / 2);
        more.push(another);
        let (some, more) = (world(pods(), some), world(pods(), more));
        prop_assert!(plan(&more).unplaced.len() <= plan(&some).unplaced.len());
    }
}
