//! What only a look at the whole plan finds.

use requirements::labels;
use units::UsdMicrosPerHour;

use super::price_tests::{app, on_demand, plan, there};
use crate::{Pod, Settings, solve, testing::*};

#[test]
fn whom_others_must_follow_into_a_zone_does_not_keep_to_a_free_node_elsewhere() {
    let following = |pod: &mut Pod| {
        pod.node_selector = labels_of(&[(labels::ZONE, "b")]);
        pod.pod_affinity = vec![near("w", labels::ZONE)];
    };
    let nodes = vec![there("n", "a", 16_000, std::iter::empty())];
    let pods = app("w", 3, 500, |_| {}).chain(app("v", 12, 100, following));
    let (plan, _) = plan(&snapshot(pods.collect(), nodes, vec![on_demand("p", 100)]));
    assert_eq!(plan.cost, UsdMicrosPerHour(100_000), "one w and all that follow it on the smallest machine in b");
}

#[test]
fn pods_of_high_priority_have_the_limit_before_others_whatever_spreads_them() {
    let first = |pod: &mut Pod| {
        pod.priority = 1000;
        pod.topology_spread = vec![spread("v", labels::ZONE)];
    };
    let mut pool = on_demand("p", 100);
    pool.limits = Some(resources(24_000, 1_000, 1_000));
    let pods = app("v", 9, 3500, first).chain(app("x", 2, 1000, |_| {}));
    let world = snapshot(pods.collect(), Vec::new(), vec![pool]);
    let plan = solve(&world, &Settings::default());
    assert_eq!(broken(&world, &plan), []);
    let placed = plan.placed.keys().filter(|key| key.name.starts_with('v')).count();
    assert_eq!(placed, 6, "each takes four of 24 cpus");
}

#[test]
fn whom_others_must_be_beside_does_not_keep_to_a_free_node_that_is_too_small_for_both() {
    let beside = |pod: &mut Pod| pod.pod_affinity = vec![near("w", labels::HOSTNAME)];
    let pods = || app("v", 12, 3000, beside).chain(app("w", 6, 400, |_| {})).collect();
    let (without, _) = plan(&snapshot(pods(), Vec::new(), vec![on_demand("p", 100)]));
    let nodes = vec![there("n", "a", 4000, std::iter::empty())];
    let (with, _) = plan(&snapshot(pods(), nodes, vec![on_demand("p", 100)]));
    assert!(with.cost <= without.cost, "{} with a node more, {} without", with.cost, without.cost);
}
