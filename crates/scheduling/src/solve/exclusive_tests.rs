use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    counting_tests::{plans, unplaced},
    solve, solve_greedy,
    tests::edited,
};
use crate::{Pod, Settings, Snapshot, Solution, check::Violation, testing::*};

/// A pod with the claim `data`.
fn with_data(name: &str, edit: impl Fn(&mut Pod)) -> Pod {
    edited(pod(name, 500, 0), |pod| {
        pod.exclusive_claims = ["data".to_owned()].into();
        edit(pod);
    })
}

fn reasons(world: &Snapshot) -> [Vec<String>; 2] {
    plans(world).each_ref().map(|plan| {
        let told = |(pod, reasons): (&crate::PodKey, &Vec<crate::Unfit>)| format!("{}: {}", pod.name, reasons[0]);
        plan.unplaced.iter().map(told).collect()
    })
}

#[test]
fn nothing_is_bought_for_a_pod_whose_volume_another_one_has() {
    let mut there = node("there", 8000);
    there.pods = vec![Arc::new(with_data("b", |pod| pod.terminating = true)), Arc::new(with_data("a", |_| ()))];
    let elsewhere = with_data("c", |pod| pod.key.namespace = "other".to_owned());
    let mut world = snapshot(vec![with_data("d", |_| ()), elsewhere], vec![there], vec![pool("p")]);
    let why = "d: its volume claim data is for one pod alone (ReadWriteOncePod), and shop/a has it";
    assert_eq!(reasons(&world), [[why]; 2]);
    assert!(solve(&world, &Settings::default()).lower_bound.is_some());
    // The checker knows it by itself.
    let bound = std::mem::take(&mut world.nodes[0].pods);
    let free = solve(&world, &Settings::default());
    assert_eq!(unplaced(&free), [""; 0]);
    world.nodes[0].pods = bound;
    let said: Vec<String> = broken(&world, &free).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["pod shop/d may not use its volume claim data beside shop/b"]);
}

#[test]
fn of_pods_with_one_volume_the_first_by_priority_age_and_name_gets_it() {
    let winner = |edit: fn(&mut Pod)| {
        let pods = vec![with_data("a", |_| ()), with_data("b", edit), with_data("c", |_| ())];
        let plans = plans(&snapshot(pods, Vec::new(), vec![pool("p")]));
        assert!(!plans.iter().any(Solution::proven_optimal), "another one might have cost less");
        plans.map(|plan| plan.placed.into_keys().map(|key| key.name).collect::<Vec<_>>())
    };
    assert_eq!(winner(|_| ()), [["a"]; 2]);
    assert_eq!(winner(|pod| pod.created_at_unix_seconds = -1), [["b"]; 2]);
    assert_eq!(winner(|pod| pod.priority = 1), [["b"]; 2]);
    assert_eq!(winner(|pod| (pod.priority, pod.created_at_unix_seconds) = (-1, -1)), [["a"]; 2]);
    // One that is not understood gets nothing, and so keeps nobody from it.
    let broken = with_data("a", |pod| pod.invalid = vec!["no".to_owned()]);
    let world = snapshot(vec![broken, with_data("b", |_| ())], Vec::new(), vec![pool("p")]);
    assert_eq!(reasons(&world), [["a: the pod is not valid: no"]; 2]);
}

#[test]
fn who_has_no_place_leaves_its_volume_to_the_next() {
    let fat = |name: &str| with_data(name, |pod| pod.requests = resources(1_000_000, 0, 1));
    let fatter =
        |index: i64| with_data(&format!("fat-{index}"), |pod| pod.requests = resources(1_000_000 + index * 1000, 0, 1));
    let world = |count: usize| {
        let mut pods: Vec<Pod> = (0..count).map(|index| fat(&format!("fat-{index}"))).collect();
        pods.extend([with_data("w-0", |_| ()), with_data("w-1", |_| ())]);
        snapshot(pods, Vec::new(), vec![pool("p")])
    };
    let asks = "NodePool/p: asks for 1k of cpu, the largest node has 15900m free";
    let waits = "w-1: its volume claim data is for one pod alone (ReadWriteOncePod), and shop/w-0 comes first";
    assert_eq!(reasons(&world(1)), [[&format!("fat-0: {asks}"), waits]; 2]);
    // Who is written alike has none either, and of the others so many are tried.
    assert_eq!(plans(&world(9)).map(|plan| plan.placed.len()), [1; 2]);
    for (count, placed) in [(4, 1), (9, 0)] {
        let mut pods: Vec<Pod> = (0..count).map(fatter).collect();
        pods.push(with_data("w", |_| ()));
        let world = snapshot(pods, Vec::new(), vec![pool("p")]);
        assert_eq!(plans(&world).map(|plan| plan.placed.len()), [placed; 2], "{count}");
    }
}

#[test]
fn two_who_share_a_volume_in_a_plan_are_noticed() {
    let mut world = snapshot(vec![pod("a", 500, 0), pod("b", 500, 0)], Vec::new(), vec![pool("p")]);
    let plan = solve_greedy(&world, &Settings::default());
    assert_eq!(broken(&world, &plan), []);
    for pod in &mut world.pods {
        Arc::make_mut(pod).exclusive_claims = ["data".to_owned()].into();
    }
    assert!(matches!(broken(&world, &plan).as_slice(), [Violation::SharedClaim { .. }]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn plans_for_pods_with_volumes_of_their_own_are_sound(
        world in some_snapshot(),
        claims in vec(select(vec!["", "", "x", "y", "x y"]), 40),
    ) {
        let mut world = world;
        let bound = world.nodes.iter_mut().flat_map(|node| &mut node.pods);
        for (pod, claims) in bound.chain(&mut world.pods).zip(claims) {
            Arc::make_mut(pod).exclusive_claims = claims.split_whitespace().map(str::to_owned).collect();
        }
        for plan in [solve(&world, &Settings::default()), solve_greedy(&world, &Settings::default())] {
            prop_assert_eq!(broken(&world, &plan), []);
        }
    }
}
