//! Labels that a new node does not have yet: its name, and what its pool leaves open.

use expect_test::expect;
use requirements::{Operator, Requirement, labels};

use super::{
    tests::{edited, edited_pool},
    topology_tests::by_node,
};
use crate::{Pod, Settings, Snapshot, solve, testing::*};

fn web(name: &str, edit: impl Fn(&mut Pod)) -> Pod {
    edited(pod(name, 100, 0), |pod| {
        pod.labels = labels_of(&[("app", "web")]);
        edit(pod);
    })
}

/// Where the pods are, after the checker has agreed.
fn planned(snapshot: &Snapshot) -> String {
    let solution = solve(snapshot, &Settings::default());
    assert_eq!(broken(snapshot, &solution), [], "{solution:#?}");
    by_node(&solution)
}

#[test]
fn the_name_of_a_new_node_is_no_number() {
    let numbered = || vec![term(labels::HOSTNAME, Operator::Gt, &["8"])];
    let on_arm = || vec![term(labels::ARCH, Operator::In, &["arm64"])];
    let pods = vec![
        edited(pod("numbered", 100, 0), |pod| pod.required_node_affinity = vec![numbered()]),
        edited(pod("or-arm", 100, 0), |pod| pod.required_node_affinity = vec![numbered(), on_arm()]),
        edited(pod("not-n0", 100, 0), |pod| {
            pod.required_node_affinity = vec![vec![term(labels::HOSTNAME, Operator::NotIn, &["n0"])]];
        }),
    ];
    expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): not-n0 or-arm
        numbered unplaced: NodePool/p: wants kubernetes.io/hostname at least 9, which nothing defines
    "]]
    .assert_eq(&planned(&snapshot(pods, Vec::new(), vec![pool("p")])));
}

#[test]
fn pods_that_name_an_open_label_are_away_from_those_that_do_not() {
    let any_team = edited_pool(pool("p"), |pool| pool.requirements.add(Requirement::exists("team")));
    let mut pods = vec![web("any-0", |_| {}), web("any-1", |_| {})];
    pods.extend(["red-0", "red-1"].map(|name| {
        web(name, |pod| {
            pod.node_selector = labels_of(&[("team", "red")]);
            pod.pod_anti_affinity = vec![near("web", "team")];
        })
    }));
    expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): any-0 any-1
        new node 1 (a spot, a on-demand, b on-demand): red-0
        red-1 unplaced: NodePool/p: every team open to it has pods that it must not share it with
    "]]
    .assert_eq(&planned(&snapshot(pods, Vec::new(), vec![any_team])));
}

#[test]
fn what_no_domain_of_an_open_label_allows_is_not_set_behind_the_back_of_its_pods() {
    let any_team = edited_pool(pool("p"), |pool| pool.requirements.add(Requirement::exists("team")));
    let other = |name: &str, than: &str| {
        web(name, |pod| {
            pod.required_node_affinity = vec![vec![term("team", Operator::NotIn, &["0", than])]];
            pod.pod_anti_affinity = vec![near("web", "team")];
        })
    };
    expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): a
        new node 1 (a spot, a on-demand, b on-demand): b
    "]]
    .assert_eq(&planned(&snapshot(vec![other("a", "1"), other("b", "2")], Vec::new(), vec![any_team])));
}

#[test]
fn a_pool_whose_labels_name_a_zone_is_no_way_to_another() {
    let in_a = edited_pool(pool("p"), |pool| pool.labels = labels_of(&[(labels::ZONE, "a")]));
    let pods = ["web-0", "web-1", "web-2"]
        .map(|name| web(name, |pod| pod.topology_spread = vec![spread("web", labels::ZONE)]));
    expect![[r"
        new node 0 (a spot, a on-demand): web-0 web-1 web-2
    "]]
    .assert_eq(&planned(&snapshot(pods.to_vec(), Vec::new(), vec![in_a])));
}

#[test]
fn pods_that_spread_the_same_pods_over_nodes_of_their_own_are_counted_there_alone() {
    let any_team = edited_pool(pool("p"), |pool| pool.requirements.add(Requirement::exists("team")));
    let of_team = |name: &str, team: &str| {
        web(name, |pod| {
            pod.node_selector = labels_of(&[("team", team)]);
            pod.topology_spread = vec![spread("web", labels::ZONE)];
        })
    };
    let pods = vec![of_team("blue", "blue"), of_team("red-0", "red"), of_team("red-1", "red")];
    expect![[r"
        new node 0 (a spot, a on-demand): blue
        new node 1 (a spot, a on-demand): red-0
        new node 2 (b on-demand): red-1
    "]]
    .assert_eq(&planned(&snapshot(pods, Vec::new(), vec![any_team])));
}
