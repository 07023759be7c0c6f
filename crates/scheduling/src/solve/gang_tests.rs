use std::collections::BTreeMap;

use expect_test::expect;

use super::tests::{check, edited, edited_pool};
use super::*;
use crate::{Gang, Pool, check::check as broken, testing::*};

fn member(group: &str, index: usize, needed: u32, milli_cpu: i64) -> Pod {
    edited(pod(&format!("{group}-{index}"), milli_cpu, 0), |pod| {
        pod.gang = Some(Gang { name: group.to_owned(), needed });
    })
}

fn members(group: &str, count: usize, needed: u32, milli_cpu: i64) -> Vec<Pod> {
    (0..count).map(|index| member(group, index, needed, milli_cpu)).collect()
}

fn limited(cpus: i64) -> Pool {
    edited_pool(pool("default"), |pool| pool.limits = Some(resources(cpus * 1000, 1000, 1000)))
}

#[test]
fn a_group_for_which_there_is_too_little_room_gets_nothing_and_is_told() {
    check(
        &snapshot(members("ring", 4, 4, 3000), vec![], vec![limited(8)]),
        &expect![[r"
            shop/ring-0 unplaced: its group ring needs 4 pods at once, and there is a place for 2 of 4; nothing is bought for fewer
            shop/ring-1 unplaced: its group ring needs 4 pods at once, and there is a place for 2 of 4; nothing is bought for fewer
            shop/ring-2 unplaced: its group ring needs 4 pods at once, and there is a place for 2 of 4; nothing is bought for fewer | NodePool/default: limit of 8 cpu, 8 used, the smallest node would add 4
            shop/ring-3 unplaced: its group ring needs 4 pods at once, and there is a place for 2 of 4; nothing is bought for fewer | NodePool/default: limit of 8 cpu, 8 used, the smallest node would add 4
        "]],
    );
}

#[test]
fn a_group_gets_more_than_it_needs_where_there_is_room_and_what_it_needs_where_there_is_less() {
    let placed = |cpus: i64| {
        let snapshot = snapshot(members("ring", 4, 2, 3000), vec![], vec![limited(cpus)]);
        let solution = solve(&snapshot, &Settings::default());
        assert_eq!(broken(&snapshot, &solution), []);
        solution.placed.len()
    };
    assert_eq!([placed(16), placed(8), placed(4)], [4, 2, 0]);
}

#[test]
fn of_two_groups_with_room_for_one_the_one_that_matters_more_gets_it_and_otherwise_the_older_one() {
    for (priority, created, winner) in [(1, 0, "b"), (0, 0, "a"), (0, -5, "b")] {
        let mut pods = members("a", 2, 2, 3000);
        pods.extend(members("b", 2, 2, 3000).into_iter().map(|pod| {
            edited(pod, |pod| {
                pod.priority = priority;
                pod.created_at_unix_seconds = created;
            })
        }));
        let snapshot = snapshot(pods, vec![], vec![limited(8)]);
        for solution in [solve(&snapshot, &Settings::default()), solve_greedy(&snapshot, &Settings::default())] {
            assert_eq!(broken(&snapshot, &solution), []);
            let placed: Vec<&str> = solution.placed.keys().map(|key| &key.name[..1]).collect();
            assert_eq!(placed, [winner, winner], "priority {priority}, created {created}");
        }
    }
}

#[test]
fn what_a_torn_group_leaves_others_get() {
    let mut pods = members("ring", 3, 3, 3000);
    pods.push(edited(pod("alone", 3000, 0), |pod| pod.priority = -1));
    let snapshot = snapshot(pods, vec![], vec![limited(8)]);
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(broken(&snapshot, &solution), []);
    assert_eq!(solution.placed.keys().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["alone"]);
    assert_eq!(solution.new_nodes.len(), 1);
}

#[test]
fn who_matters_less_gets_nothing_that_a_group_could_have_had() {
    // One pod has to go. If it is one of the two, neither gets a place, and who matters less takes it.
    let mut pods = members("ring", 2, 2, 3500);
    pods.extend((0..3).map(|index| pod(&format!("small-{index}"), 350, 0)));
    pods.push(edited(pod("batch", 2000, 0), |pod| pod.priority = -10));
    let mut alone = limited(8);
    alone.instance_types = [machine("m", "amd64", 8)].into();
    let snapshot = snapshot(pods, vec![], vec![alone]);
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(broken(&snapshot, &solution), []);
    let without: Vec<&str> = solution.unplaced.keys().map(|key| key.name.as_str()).collect();
    assert!(without.len() == 2 && without[0] == "batch" && without[1].starts_with("small-"), "{without:?}");
    assert!(!solution.proven_optimal(), "nobody knows of another choice of groups");
}

#[test]
fn pods_that_run_already_count() {
    let mut there = node("n0", 100);
    there.pods = vec![Arc::new(member("ring", 9, 3, 10))];
    let snapshot = snapshot(members("ring", 2, 3, 3000), vec![there], vec![limited(8)]);
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(broken(&snapshot, &solution), []);
    assert_eq!(solution.placed.len(), 2);
}

#[test]
fn pods_that_were_told_to_go_count_no_more() {
    let mut there = node("n0", 100);
    there.pods = vec![Arc::new(edited(member("ring", 9, 3, 10), |pod| pod.terminating = true))];
    let mut snapshot = snapshot(members("ring", 2, 3, 3000), vec![there], vec![limited(8)]);
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(broken(&snapshot, &solution), []);
    assert_eq!(solution.placed.len(), 0);
    // The checker knows it by itself.
    Arc::make_mut(&mut snapshot.nodes[0].pods[0]).terminating = false;
    let stays = solve(&snapshot, &Settings::default());
    Arc::make_mut(&mut snapshot.nodes[0].pods[0]).terminating = true;
    let said: Vec<String> = broken(&snapshot, &stays).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["group shop/ring needs 3 pods at once and gets 2"]);
}

#[test]
fn groups_of_one_name_in_two_namespaces_are_two() {
    let mut pods = members("ring", 2, 3, 1000);
    pods.push(edited(member("ring", 2, 3, 1000), |pod| pod.key.namespace = "other".to_owned()));
    check(
        &snapshot(pods, vec![], vec![pool("default")]),
        &expect![[r"
            other/ring-2 unplaced: its group ring needs 3 pods at once and has 1; nothing is bought for fewer
            shop/ring-0 unplaced: its group ring needs 3 pods at once and has 2; nothing is bought for fewer
            shop/ring-1 unplaced: its group ring needs 3 pods at once and has 2; nothing is bought for fewer
        "]],
    );
}

#[test]
fn many_groups_that_cannot_be_whole_end_in_a_bounded_number_of_plans() {
    let pods = (0..60).flat_map(|group| members(&format!("g{group:02}"), 3, 3, 3000)).collect();
    let snapshot = snapshot(pods, vec![], vec![limited(40)]);
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(broken(&snapshot, &solution), []);
    let mut by_group: BTreeMap<&str, usize> = BTreeMap::new();
    for key in solution.placed.keys() {
        *by_group.entry(&key.name[..3]).or_default() += 1;
    }
    assert!(by_group.values().all(|placed| *placed == 3) && solution.unplaced.len() + solution.placed.len() == 180);
}

#[test]
fn the_checker_refuses_a_group_that_is_torn() {
    let mut snapshot = snapshot(members("ring", 3, 2, 3000), vec![], vec![limited(8)]);
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(broken(&snapshot, &solution), []);
    for pod in &mut snapshot.pods {
        Arc::make_mut(pod).gang = Some(Gang { name: "ring".to_owned(), needed: 3 });
    }
    let said: Vec<String> = broken(&snapshot, &solution).iter().map(ToString::to_string).collect();
    assert_eq!(said, ["group shop/ring needs 3 pods at once and gets 2"]);
}
