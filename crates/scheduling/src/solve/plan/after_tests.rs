//! A plan that begins with an earlier one: whatever has changed since, it is as sound as any other, and soon there.

use std::sync::Arc;

use proptest::{prelude::*, sample::select};
use requirements::{Requirement, labels};
use units::UsdMicrosPerHour;

use crate::{
    InstanceType, Pool, Settings, Snapshot, Solution, check::check, solve, solve_after, solve_greedy, testing::*,
};

/// What may come over a pool between two batches.
const CHANGES: [fn(&mut Pool); 7] = [
    |pool| pool.instance_types = Arc::from([]),
    |pool| pool.taints.push(taint("new")),
    |pool| pool.limits = Some(resources(2000, 4, 2)),
    |pool| pool.requirements.add(Requirement::one_of(labels::ZONE, ["b"])),
    |pool| each_machine(pool, |machine| machine.offerings.iter_mut().step_by(2).for_each(|one| one.available = false)),
    |pool| each_machine(pool, |machine| machine.overhead = machine.capacity.clone()),
    |pool| each_machine(pool, |machine| machine.offerings.iter_mut().for_each(|one| one.price.0 *= 3)),
];

fn each_machine(pool: &mut Pool, change: impl FnMut(&mut InstanceType)) {
    let mut machines = pool.instance_types.to_vec();
    machines.iter_mut().for_each(change);
    pool.instance_types = machines.into();
}

fn after(snapshot: &Snapshot, previous: &Solution) -> Solution {
    solve_after(snapshot, &Settings::default(), &|| false, previous)
}

fn rank(solution: &Solution) -> (usize, UsdMicrosPerHour) {
    (solution.unplaced.len(), solution.cost)
}

fn turned(snapshot: &Snapshot) -> Snapshot {
    let mut turned = snapshot.clone();
    turned.pods.reverse();
    turned.nodes.reverse();
    turned.pools.reverse();
    turned.daemons.reverse();
    for pool in &mut turned.pools {
        pool.instance_types = pool.instance_types.iter().rev().cloned().collect();
    }
    turned
}

/// What holds whatever the earlier plan is.
fn sound(snapshot: &Snapshot, previous: &Solution) -> Result<(), TestCaseError> {
    let plan = after(snapshot, previous);
    prop_assert_eq!(check(snapshot, &plan), []);
    let greedy = solve_greedy(snapshot, &Settings::default());
    prop_assert!(rank(&plan) <= rank(&greedy), "{:?} > {:?}", rank(&plan), rank(&greedy));
    prop_assert!(plan.lower_bound.as_ref().is_none_or(|bound| bound.cost <= plan.cost), "{plan:?}");
    let bytes = |plan: &Solution| serde_json::to_string(plan).unwrap();
    prop_assert_eq!(bytes(&plan), bytes(&after(&turned(snapshot), previous)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_plan_for_quite_another_world_does_no_harm(then in some_related_snapshot(), now in some_related_snapshot()) {
        sound(&now, &solve(&then, &Settings::default()))?;
    }

    #[test]
    fn nothing_is_kept_that_a_changed_pool_forbids(
        mut snapshot in some_related_snapshot(), change in select(CHANGES.to_vec()), which in any::<prop::sample::Index>(),
    ) {
        let before = solve(&snapshot, &Settings::default());
        if !snapshot.pools.is_empty() {
            change(which.get_mut(&mut snapshot.pools));
        }
        sound(&snapshot, &before)?;
    }

    #[test]
    fn pods_and_nodes_that_are_gone_are_not_planned_for(
        mut snapshot in some_related_snapshot(), which in any::<prop::sample::Index>(),
    ) {
        let before = solve(&snapshot, &Settings::default());
        if !snapshot.pods.is_empty() {
            snapshot.pods.remove(which.index(snapshot.pods.len()));
        }
        if !snapshot.nodes.is_empty() {
            snapshot.nodes.remove(which.index(snapshot.nodes.len()));
        }
        sound(&snapshot, &before)?;
    }
}

/// Pods of several sizes, enough of them that a plan within a few thousandths of the bound will do.
fn many() -> Snapshot {
    let pods = (0..260).map(|index| pod(&format!("pod-{index}"), 300 + index % 7 * 130, 1 + index % 5));
    snapshot(pods.collect(), Vec::new(), vec![pool("p")])
}

#[test]
fn the_same_question_again_keeps_every_pod_where_it_was_with_less_work() {
    let world = many();
    let before = solve(&world, &Settings::default());
    let again = after(&world, &before);
    assert_eq!(again.cost, before.cost);
    let nodes = |plan: &Solution| plan.new_nodes.iter().map(|node| node.pods.clone()).collect::<Vec<_>>();
    assert_eq!(nodes(&again), nodes(&before));
    assert_eq!(again.lower_bound, before.lower_bound);
    let (first, second) = (before.search_work_units, again.search_work_units);
    assert!(second * 2 <= first, "{second} steps after {first}");
}

#[test]
fn with_a_few_pods_fewer_the_plan_is_no_dearer_than_the_one_before() {
    let mut world = many();
    let before = solve(&world, &Settings::default());
    world.pods.truncate(250);
    let plan = after(&world, &before);
    assert_eq!(check(&world, &plan), []);
    assert!(rank(&plan) <= rank(&before), "{:?} > {:?}", rank(&plan), rank(&before));
}
