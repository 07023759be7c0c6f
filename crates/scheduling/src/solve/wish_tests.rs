//! Wishes: kept as demands, given up one by one.

use expect_test::{Expect, expect};
use requirements::{Operator, labels};
use units::UsdMicrosPerHour;

use super::{
    tests::{edited, edited_node, edited_pool},
    topology_tests::by_node,
};
use crate::{
    Note, Pod, PodAffinityTerm, Settings, Snapshot, Strength, TaintEffect, TopologySpread, WhenUnsatisfiable, solve,
    solve_greedy, testing::*,
};

fn check(snapshot: &Snapshot, expected: &Expect) {
    let solution = solve_greedy(snapshot, &Settings::default());
    assert_eq!(broken(snapshot, &solution), [], "{solution:#?}");
    expected.assert_eq(&by_node(&solution));
}

fn web(name: &str) -> Pod {
    edited(pod(name, 500, 0), |pod| pod.labels = labels_of(&[("app", "web")]))
}

fn wish(weight: i32, app: &str, key: &str) -> PodAffinityTerm {
    PodAffinityTerm { strength: Strength::Preferred { weight }, ..near(app, key) }
}

#[test]
fn a_wish_that_can_be_granted_is_and_one_that_cannot_is_given_up() {
    let wishing = |name, zone| {
        edited(web(name), |pod| {
            pod.preferred_node_affinity = vec![(1, vec![term(labels::ZONE, Operator::In, &[zone])])];
        })
    };
    check(
        &snapshot(vec![wishing("granted", "b"), wishing("idle", "mars")], vec![], vec![pool("default")]),
        &expect![[r"
            new node 0 (b on-demand): granted idle
            note: 1 pod is placed without some of its preferences
        "]],
    );
}

#[test]
fn the_heaviest_node_affinity_that_is_left_counts_alone() {
    let wishing = edited(web("p"), |pod| {
        pod.preferred_node_affinity = vec![
            (1, vec![term(labels::ZONE, Operator::In, &["a"])]),
            (9, vec![term(labels::ZONE, Operator::In, &["mars"])]),
            (5, vec![term(labels::ZONE, Operator::In, &["b"])]),
        ];
    });
    check(
        &snapshot(vec![wishing], vec![], vec![pool("default")]),
        &expect![[r"
            new node 0 (b on-demand): p
            note: 1 pod is placed without some of its preferences
        "]],
    );
}

#[test]
fn wishes_are_given_up_in_karpenters_order() {
    // Near the db is zone a, away from it is zone b, by label zone c, evenly spread zone b: the first in the order go first.
    let wishing = |what: &[&str]| {
        let mut pod = web("p");
        for one in what {
            match *one {
                "near" => pod.pod_affinity.push(wish(50, "db", labels::ZONE)),
                "apart" => pod.pod_anti_affinity.push(wish(50, "db", labels::ZONE)),
                "label" => pod.preferred_node_affinity.push((50, vec![term(labels::ZONE, Operator::In, &["c"])])),
                _ => pod.topology_spread.push(TopologySpread {
                    when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
                    ..spread("db", labels::ZONE)
                }),
            }
        }
        pod
    };
    for (wishes, zone) in [
        (&["near"][..], "a"),
        (&["near", "apart"], "b"),
        (&["apart", "label"], "c"),
        (&["near", "apart", "label"], "c"),
        // The spread is the last to go: with it, only the emptiest zones would do, and the label's is one of them.
        (&["near", "spread"], "b"),
    ] {
        let at = |zone: &str| {
            edited_node(node(zone, 4000), |node| {
                node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
                if zone == "a" {
                    node.pods.push(edited(pod("db", 100, 0), |pod| pod.labels = labels_of(&[("app", "db")])).into());
                    node.pods.push(edited(pod("db1", 100, 0), |pod| pod.labels = labels_of(&[("app", "db")])).into());
                }
            })
        };
        let snapshot = snapshot(vec![wishing(wishes)], vec![at("a"), at("b"), at("c")], vec![]);
        let solution = solve_greedy(&snapshot, &Settings::default());
        let placed: Vec<String> = solution.placed.values().map(|placement| placement.node.to_string()).collect();
        assert_eq!(placed, [format!("node {zone}")], "{wishes:?}");
    }
}

#[test]
fn a_wish_to_be_apart_opens_nodes_as_long_as_it_can_be_granted() {
    let pods = (0..3).map(|index| {
        edited(web(&format!("p{index}")), |pod| {
            pod.pod_anti_affinity = vec![wish(10, "web", labels::ZONE)];
            pod.topology_spread.push(TopologySpread {
                when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
                ..spread("web", labels::ZONE)
            });
        })
    });
    check(
        &snapshot(pods.collect(), vec![], vec![pool("default")]),
        &expect![[r"
            new node 0 (a spot, a on-demand): p0 p2
            new node 1 (b on-demand): p1
            note: 1 pod is placed without some of its preferences
        "]],
    );
}

#[test]
fn a_plan_by_price_grants_every_wish_that_the_greedy_one_grants() {
    let pods = (0..3).map(|index| {
        edited(web(&format!("p{index}")), |pod| pod.pod_anti_affinity = vec![wish(10, "web", labels::HOSTNAME)])
    });
    let snapshot = snapshot(pods.collect(), vec![], vec![pool("default")]);
    let (plan, greedy) = (solve(&snapshot, &Settings::default()), solve_greedy(&snapshot, &Settings::default()));
    assert_eq!((plan.new_nodes.len(), greedy.new_nodes.len()), (3, 3));
    assert_eq!(plan.notes, [Note::PreferencesCost { more: UsdMicrosPerHour(80_000) }]);
}

#[test]
fn wishes_are_left_to_the_kube_scheduler_where_the_settings_say_so() {
    let wishing = edited(web("p"), |pod| {
        pod.preferred_node_affinity = vec![(1, vec![term(labels::ZONE, Operator::In, &["b"])])];
    });
    let settings = Settings { ignore_preferences: true, ..Settings::default() };
    let solution = solve_greedy(&snapshot(vec![wishing], vec![], vec![pool("default")]), &settings);
    expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): p
        note: the preferences of 1 pod are left to the kube-scheduler
    "]]
    .assert_eq(&by_node(&solution));
}

#[test]
fn a_taint_that_is_a_preference_is_avoided_and_accepted_at_last() {
    let mild = |name: &str| {
        edited_pool(pool(name), |pool| {
            pool.weight = 10;
            pool.taints.push(crate::Taint { effect: TaintEffect::PreferNoSchedule, ..taint("old") });
        })
    };
    check(
        &snapshot(vec![web("p")], vec![], vec![mild("mild"), pool("plain")]),
        &expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): p
    "]],
    );
    check(
        &snapshot(vec![web("p")], vec![], vec![mild("mild")]),
        &expect![[r"
            new node 0 (a spot, a on-demand, b on-demand): p
            note: 1 pod is placed without some of its preferences
        "]],
    );
}

#[test]
fn a_wish_that_nobody_could_grant_costs_no_other_wish() {
    let wishing = edited(pod("p", 100, 0), |pod| {
        let anyway =
            |key: &str| TopologySpread { when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway, ..spread("web", key) };
        pod.labels = labels_of(&[("app", "web")]);
        pod.topology_spread = vec![anyway("nobody/has-it")];
        pod.preferred_node_affinity = vec![(1, vec![term(labels::ZONE, Operator::In, &["b"])])];
    });
    let plan = solve(&snapshot(vec![wishing], vec![], vec![pool("p")]), &Settings::default());
    assert!(plan.new_nodes[0].offerings.iter().all(|one| one.key.zone == "b"), "{plan:?}");
    assert!(plan.notes.contains(&Note::PreferencesRelaxed { pods: 1 }), "{:?}", plan.notes);
}

#[test]
fn wishes_over_labels_that_nobody_has_take_no_work() {
    let work = |wishes: usize| {
        let pods = (0..20).map(|index| {
            edited(pod(&format!("p{index}"), 100, 0), |pod| {
                pod.labels = labels_of(&[("app", "web")]);
                let anyway = |number| TopologySpread {
                    when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
                    ..spread("web", &format!("nobody/has-{number}"))
                };
                pod.topology_spread = (0..wishes).map(anyway).collect();
            })
        });
        // So much work is enough for one look at each pod and each node, not for a look at each wish.
        let settings = Settings { budget_work_units: 100, ..Settings::default() };
        solve_greedy(&snapshot(pods.collect(), vec![], vec![pool("p")]), &settings).unplaced.len()
    };
    assert_eq!((work(1), work(500)), (0, 0));
}
