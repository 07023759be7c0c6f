//! Spreads, affinities and anti-affinities, among the pods of one solve and with running ones.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use expect_test::{Expect, expect};
use requirements::{Operator, Requirement, labels};

use super::tests::{edited, edited_node, edited_pool};
use crate::{
    LabelSelector, Node, NodeInclusion, Pod, PodAffinityTerm, Settings, Snapshot, Solution, Target, TopologySpread,
    solve_greedy, testing::*,
};

/// Where the pods are, node by node, with what the node is surely; and what has no place.
fn check(snapshot: &Snapshot, expected: &Expect) {
    let solution = solve_greedy(snapshot, &Settings::default());
    assert_eq!(broken(snapshot, &solution), [], "{solution:#?}");
    expected.assert_eq(&by_node(&solution));
}

pub(super) fn by_node(solution: &Solution) -> String {
    let mut text = String::new();
    let on = |target: &Target| {
        let here = solution.placed.iter().filter(|(_, placement)| placement.node == *target);
        here.map(|(pod, _)| pod.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let mut targets: Vec<_> = solution.placed.values().map(|placement| &placement.node).collect();
    targets.sort();
    targets.dedup();
    for target in targets {
        let mut places = String::new();
        if let Target::New(index) = target {
            let mut zones: Vec<_> =
                solution.new_nodes[*index].offerings.iter().map(|one| (&one.key.zone, one.key.capacity_type)).collect();
            zones.sort();
            zones.dedup();
            let zones: Vec<_> = zones.into_iter().map(|(zone, way)| format!("{zone} {way}")).collect();
            places = format!(" ({})", zones.join(", "));
        }
        writeln!(text, "{target}{places}: {}", on(target)).unwrap();
    }
    for (pod, reasons) in &solution.unplaced {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        writeln!(text, "{} unplaced: {}", pod.name, reasons.join(" | ")).unwrap();
    }
    for note in &solution.notes {
        writeln!(text, "note: {note}").unwrap();
    }
    text
}

fn app(name: &str, app: &str) -> Pod {
    edited(pod(name, 500, 0), |pod| pod.labels = labels_of(&[("app", app)]))
}

fn apps(count: usize, name: &str, edit: impl Fn(&mut Pod)) -> Vec<Pod> {
    (0..count).map(|index| edited(app(&format!("{name}{index}"), name), &edit)).collect()
}

fn running(name: &str, zone: &str, pods: Vec<Pod>) -> Node {
    edited_node(node(name, 4000), |node| {
        node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
        node.pods = pods.into_iter().map(Arc::new).collect();
    })
}

#[test]
fn a_zone_spread_decides_the_zones_of_new_nodes() {
    let web = apps(5, "web", |pod| pod.topology_spread.push(spread("web", labels::ZONE)));
    check(
        &snapshot(web, vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (a spot, a on-demand): web0 web2 web4
        new node 1 (b on-demand): web1 web3
    "]],
    );
}

#[test]
fn a_spread_counts_what_runs_already_and_nodes_there_are() {
    let web = apps(3, "web", |pod| pod.topology_spread.push(spread("web", labels::ZONE)));
    let nodes = vec![running("a", "a", vec![app("old0", "web"), app("old1", "web")]), running("b", "b", vec![])];
    check(
        &snapshot(web, nodes, vec![]),
        &expect![[r"
        node a: web2
        node b: web0 web1
    "]],
    );
}

#[test]
fn a_spread_over_host_names_opens_a_node_for_each() {
    let web = apps(3, "web", |pod| pod.topology_spread.push(spread("web", labels::HOSTNAME)));
    check(
        &snapshot(web, vec![running("a", "a", vec![app("old", "web")])], vec![pool("default")]),
        &expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): web0
        new node 1 (a spot, a on-demand, b on-demand): web1
        new node 2 (a spot, a on-demand, b on-demand): web2
    "]],
    );
}

#[test]
fn a_spread_over_capacity_types_and_zones_holds_for_both() {
    let web = apps(3, "web", |pod| {
        pod.topology_spread = vec![spread("web", labels::CAPACITY_TYPE), spread("web", labels::ZONE)];
    });
    check(
        &snapshot(web, vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (a spot): web0
        new node 1 (b on-demand): web1 web2
    "]],
    );
}

#[test]
fn a_spread_over_a_label_of_the_pool_sets_it() {
    let racks = edited_pool(pool("racks"), |pool| pool.requirements.add(Requirement::one_of("rack", ["r1", "r2"])));
    let web = apps(3, "web", |pod| pod.topology_spread.push(spread("web", "rack")));
    let snapshot = snapshot(web, vec![], vec![pool("bare"), racks]);
    check(
        &snapshot,
        &expect![[r"
        new node 0 (a spot, a on-demand, b on-demand): web0 web2
        new node 1 (a spot, a on-demand, b on-demand): web1
    "]],
    );
    let solution = solve_greedy(&snapshot, &Settings::default());
    let racks: Vec<_> = solution.new_nodes.iter().map(|node| node.labels["rack"].as_str()).collect();
    assert_eq!(racks, ["r1", "r2"]);
}

#[test]
fn a_larger_skew_lets_one_domain_be_fuller() {
    let web = |min_domains| {
        apps(3, "web", move |pod| {
            pod.topology_spread.push(TopologySpread { max_skew: 2, min_domains, ..spread("web", labels::ZONE) });
        })
    };
    let nodes = || vec![running("a", "a", vec![])];
    // Only zone a can be: what is evenly spread over one domain is not limited, unless there should be more.
    check(
        &snapshot(web(None), nodes(), vec![]),
        &expect![[r"
        node a: web0 web1 web2
    "]],
    );
    check(
        &snapshot(web(Some(2)), nodes(), vec![]),
        &expect![[r"
        node a: web0 web1
        web2 unplaced: there is no Provisioner and no NodePool that could make a node | 0 of 1 nodes fit: 1 kept away by spread or affinity
    "]],
    );
}

#[test]
fn the_policies_say_which_nodes_count() {
    let tainted = || edited_node(running("t", "b", vec![]), |node| node.taints.push(taint("gpu")));
    let labelled =
        || edited_node(running("l", "b", vec![]), |node| drop(node.labels.insert("disk".into(), "ssd".into())));
    let fast = || edited_node(running("a", "a", vec![]), |node| drop(node.labels.insert("disk".into(), "nvme".into())));
    let web = |edit: fn(&mut TopologySpread)| {
        apps(3, "web", move |pod| {
            let mut spread = spread("web", labels::ZONE);
            edit(&mut spread);
            pod.topology_spread.push(spread);
            pod.node_selector = labels_of(&[("disk", "nvme")]);
        })
    };
    let nodes = || vec![fast(), tainted(), labelled()];
    for (edit, placed) in [
        // Zone b has no node with the label, so it does not count.
        ((|_| {}) as fn(&mut TopologySpread), 3),
        (|spread| spread.node_affinity_policy = NodeInclusion::Ignore, 1),
    ] {
        let solution = solve_greedy(&snapshot(web(edit), nodes(), vec![]), &Settings::default());
        assert_eq!(solution.placed.len(), placed, "{}", by_node(&solution));
    }
    let plain = |policy| {
        apps(3, "web", move |pod| {
            pod.topology_spread.push(TopologySpread { node_taints_policy: policy, ..spread("web", labels::ZONE) });
        })
    };
    for (policy, placed) in [(NodeInclusion::Ignore, 1), (NodeInclusion::Honor, 3)] {
        let solution = solve_greedy(&snapshot(plain(policy), vec![fast(), tainted()], vec![]), &Settings::default());
        assert_eq!(solution.placed.len(), placed, "{policy:?}: {}", by_node(&solution));
    }
}

#[test]
fn labels_of_the_pod_itself_join_its_selectors() {
    let version = |name: &str, version: &str| {
        edited(app(name, "web"), |pod| {
            pod.labels.insert("version".to_owned(), version.to_owned());
            let keys = vec!["version".to_owned()];
            pod.topology_spread.push(TopologySpread { match_label_keys: keys, ..spread("web", labels::ZONE) });
        })
    };
    // Each version is spread by itself.
    let pods = vec![version("n0", "1"), version("n1", "2"), version("n2", "2")];
    check(
        &snapshot(pods, vec![running("a", "a", vec![]), running("b", "b", vec![])], vec![]),
        &expect![[r"
        node a: n0 n1
        node b: n2
    "]],
    );
}

#[test]
fn pods_that_must_be_near_each_other_share_a_zone() {
    let web = apps(3, "web", |pod| {
        pod.pod_affinity = vec![near("web", labels::ZONE)];
        pod.pod_anti_affinity = vec![near("web", labels::HOSTNAME)];
    });
    check(
        &snapshot(web, vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (a spot, a on-demand): web0
        new node 1 (a spot, a on-demand): web1
        new node 2 (a spot, a on-demand): web2
    "]],
    );
}

#[test]
fn a_chain_of_affinities_is_placed_from_its_end() {
    // The largest comes first and has to wait for the others.
    let chain = |name: &str, milli_cpu: i64, to: Option<&str>| {
        edited(app(name, name), |pod| {
            pod.requests = resources(milli_cpu, 0, 1);
            pod.pod_affinity = to.map(|to| near(to, labels::ZONE)).into_iter().collect();
        })
    };
    let end = edited(chain("c", 100, None), |pod| pod.node_selector = labels_of(&[(labels::ZONE, "b")]));
    let pods = vec![chain("a", 900, Some("b")), chain("b", 500, Some("c")), end];
    check(
        &snapshot(pods, vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (b on-demand): a b c
    "]],
    );
}

#[test]
fn a_circle_of_affinities_is_refused_with_the_reason() {
    let towards = |name: &str, to: &str| edited(app(name, name), |pod| pod.pod_affinity = vec![near(to, labels::ZONE)]);
    check(
        &snapshot(vec![towards("a", "b"), towards("b", "a")], vec![running("n", "a", vec![])], vec![pool("default")]),
        &expect![[r"
            a unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are nowhere yet | 0 of 1 nodes fit: 1 kept away by spread or affinity
            b unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are nowhere yet | 0 of 1 nodes fit: 1 kept away by spread or affinity
        "]],
    );
}

#[test]
fn pods_that_must_share_a_node_stay_on_it_even_when_it_is_full() {
    let web = apps(3, "web", |pod| {
        pod.pod_affinity = vec![near("web", labels::HOSTNAME)];
        pod.requests = resources(7000, 0, 1);
    });
    check(
        &snapshot(web, vec![], vec![pool("default")]),
        &expect![[r"
            new node 0 (a spot, a on-demand, b on-demand): web0 web1
            web2 unplaced: NodePool/default: the pods it must share its kubernetes.io/hostname with are on new node 1: it asks for 7 of cpu, the most that is free there is 1900m
        "]],
    );
}

#[test]
fn anti_affinity_binds_both_sides() {
    let shy = edited(app("shy", "shy"), |pod| pod.pod_anti_affinity = vec![near("web", labels::ZONE)]);
    let old = edited(app("old", "old"), |pod| pod.pod_anti_affinity = vec![near("web", labels::ZONE)]);
    let pods = vec![shy, app("web0", "web")];
    check(
        &snapshot(pods.clone(), vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (a spot, a on-demand): shy
        new node 1 (b on-demand): web0
    "]],
    );
    // A running pod keeps the web out of its zone too.
    check(
        &snapshot(pods, vec![running("n", "a", vec![old])], vec![pool("default")]),
        &expect![[r"
        node n: shy
        new node 0 (b on-demand): web0
    "]],
    );
}

#[test]
fn a_new_node_is_pinned_so_that_the_next_pod_has_a_zone_left() {
    let web = apps(3, "web", |pod| pod.pod_anti_affinity = vec![near("web", labels::ZONE)]);
    check(
        &snapshot(web, vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (a spot, a on-demand): web0
        new node 1 (b on-demand): web1
        web2 unplaced: NodePool/default: every topology.kubernetes.io/zone open to it has pods that it must not share it with
    "]],
    );
}

#[test]
fn namespaces_are_chosen_by_name_or_by_label() {
    let elsewhere = |name: &str| edited(app(name, "db"), |pod| pod.key.namespace = "data".to_owned());
    let towards = |edit: fn(&mut PodAffinityTerm)| {
        edited(app("web", "web"), |pod| {
            let mut term = near("db", labels::ZONE);
            edit(&mut term);
            pod.pod_affinity = vec![term];
        })
    };
    for (edit, placed) in [
        ((|_| {}) as fn(&mut PodAffinityTerm), false),
        (|term| term.namespaces = vec!["data".to_owned()], true),
        (|term| term.namespace_selector = Some(LabelSelector::default()), true),
        (
            |term| {
                let match_labels = labels_of(&[("tier", "data")]);
                term.namespace_selector = Some(LabelSelector { match_labels, ..LabelSelector::default() });
            },
            true,
        ),
        (
            |term| {
                let match_labels = labels_of(&[("tier", "web")]);
                term.namespace_selector = Some(LabelSelector { match_labels, ..LabelSelector::default() });
            },
            false,
        ),
    ] {
        let mut snapshot = snapshot(vec![towards(edit)], vec![running("n", "a", vec![elsewhere("db")])], vec![]);
        snapshot.namespace_labels = [("data".to_owned(), labels_of(&[("tier", "data")]))].into();
        let solution = solve_greedy(&snapshot, &Settings::default());
        assert_eq!(solution.placed.len() == 1, placed, "{}", by_node(&solution));
    }
}

#[test]
fn whoever_may_be_anywhere_is_placed_before_the_first_of_those_that_must_be_near() {
    // Alone, the large pod would begin on a node that the small one cannot reach.
    let large = edited(app("large", "web"), |pod| {
        pod.requests = resources(900, 0, 1);
        pod.pod_affinity = vec![near("web", labels::ZONE)];
    });
    let small = edited(app("small", "web"), |pod| pod.node_selector = labels_of(&[(labels::ZONE, "b")]));
    check(
        &snapshot(vec![large, small], vec![], vec![pool("default")]),
        &expect![[r"
        new node 0 (b on-demand): large small
    "]],
    );
}

#[test]
fn every_reason_of_a_pool_is_told_and_the_spread_with_its_counts() {
    let stuck = edited(app("stuck", "web"), |pod| {
        pod.topology_spread.push(spread("web", labels::ZONE));
        pod.node_selector = labels_of(&[(labels::CAPACITY_TYPE, "spot"), ("disk", "ssd")]);
        pod.topology_spread[0].node_affinity_policy = NodeInclusion::Ignore;
        pod.requests = resources(99_000, 0, 1);
    });
    let lacking = edited(app("lacking", "web"), |pod| {
        pod.topology_spread
            .push(TopologySpread { node_affinity_policy: NodeInclusion::Ignore, ..spread("web", labels::ZONE) });
        pod.required_node_affinity = vec![vec![term(labels::ZONE, Operator::In, &["a"])]];
    });
    let nodes = vec![running("a", "a", vec![app("old", "web")]), running("b", "b", vec![])];
    let tainted = edited_pool(pool("tainted"), |pool| pool.taints = vec![taint("gpu"), taint("team")]);
    check(
        &snapshot(vec![stuck, lacking], nodes, vec![pool("default"), tainted]),
        &expect![[r"
            lacking unplaced: NodePool/default: no topology.kubernetes.io/zone keeps the spread within a skew of 1: a has 1; b has 0, where the pool has no node for it | NodePool/tainted: no topology.kubernetes.io/zone keeps the spread within a skew of 1: a has 1; b has 0, where the pool has no node for it | NodePool/tainted: taint gpu:NoSchedule is not tolerated | NodePool/tainted: taint team:NoSchedule is not tolerated | 0 of 2 nodes fit: 1 kept away by spread or affinity, 1 other labels
            stuck unplaced: NodePool/default: asks for 99 of cpu, the largest node has 15900m free | NodePool/default: wants disk in [ssd], which nothing defines | NodePool/tainted: asks for 99 of cpu, the largest node has 15900m free | NodePool/tainted: wants disk in [ssd], which nothing defines | NodePool/tainted: taint gpu:NoSchedule is not tolerated | NodePool/tainted: taint team:NoSchedule is not tolerated | 0 of 2 nodes fit: 2 other labels
        "]],
    );
}

#[test]
fn who_must_be_near_two_kinds_of_pods_needs_one_that_is_both() {
    let near = |pod: &mut Pod| {
        let term = |key: &str, value: &str| PodAffinityTerm {
            selector: Some(LabelSelector { match_labels: labels_of(&[(key, value)]), ..LabelSelector::default() }),
            ..near("", labels::ZONE)
        };
        pod.pod_affinity = vec![term("app", "x"), term("tier", "y")];
    };
    let labelled =
        |name: &str, labels: &[(&str, &str)]| edited(pod(name, 100, 0), |pod| pod.labels = labels_of(labels));
    let apart = vec![labelled("x", &[("app", "x")]), labelled("y", &[("tier", "y")])];
    let both = vec![labelled("xy", &[("app", "x"), ("tier", "y")])];
    let wanting = || vec![edited(pod("p", 100, 0), near)];
    check(
        &snapshot(wanting(), vec![running("a", "a", apart), running("b", "b", both)], vec![]),
        &expect![[r"
        node b: p
    "]],
    );
}

/// A node without room, with such a pod on it, and the node's labels changed so.
fn full_with_web(name: &str, zone: &str, relabel: impl Fn(&mut BTreeMap<String, String>)) -> Node {
    edited_node(running(name, zone, vec![app("old", "web")]), |node| {
        node.allocatable = resources(100, 1, 1);
        relabel(&mut node.labels);
    })
}

#[test]
fn who_is_on_a_node_without_the_label_keeps_nobody_from_being_the_first_of_its_like() {
    let web = || apps(2, "web", |pod| pod.pod_affinity = vec![near("web", labels::ZONE)]);
    let bare = full_with_web("bare", "a", |labels| drop(labels.remove(labels::ZONE)));
    check(
        &snapshot(web(), vec![bare], vec![pool("default")]),
        &expect![[r"
            new node 0 (a spot, a on-demand): web0 web1
        "]],
    );
    // In a zone it does.
    let there = full_with_web("there", "c", |_| {});
    check(
        &snapshot(web(), vec![there], vec![pool("default")]),
        &expect![[r"
            web0 unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are in c, where it can have no node of the pool | 0 of 1 nodes fit: 1 too full
            web1 unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are in c, where it can have no node of the pool | 0 of 1 nodes fit: 1 too full
        "]],
    );
}

#[test]
fn who_must_be_near_its_like_by_two_labels_is_the_first_only_if_there_is_one_in_neither() {
    let web = || apps(1, "web", |pod| pod.pod_affinity = vec![near("web", "rack"), near("web", labels::ZONE)]);
    let racked = || {
        edited_node(running("racked", "a", vec![]), |node| {
            node.labels.insert("rack".to_owned(), "r".to_owned());
        })
    };
    // This one is in the zone, so nobody is the first any more, but no rack has any.
    let zoned = full_with_web("zoned", "a", |_| {});
    check(
        &snapshot(web(), vec![zoned, racked()], vec![]),
        &expect![[r"
            web0 unplaced: there is no Provisioner and no NodePool that could make a node | 0 of 2 nodes fit: 1 too full, 1 kept away by spread or affinity
        "]],
    );
    let bare = full_with_web("bare", "a", |labels| drop(labels.remove(labels::ZONE)));
    check(
        &snapshot(web(), vec![bare, racked()], vec![]),
        &expect![[r"
            node racked: web0
        "]],
    );
}

#[test]
fn a_node_that_lacks_the_label_of_one_spread_counts_for_no_spread_of_the_pod() {
    let web = apps(3, "web", |pod| {
        pod.topology_spread = vec![spread("web", "rack"), spread("web", labels::ZONE)];
    });
    let racked = |name: &str, zone: &str| {
        edited_node(running(name, zone, vec![]), |node| {
            node.labels.insert("rack".to_owned(), name.to_owned());
        })
    };
    let bare = running("bare", "a", vec![app("old0", "web"), app("old1", "web"), app("old2", "web")]);
    check(
        &snapshot(web, vec![bare, racked("r1", "a"), racked("r2", "b")], vec![]),
        &expect![[r"
        node r1: web0 web2
        node r2: web1
    "]],
    );
}

#[test]
fn a_spread_with_an_empty_selector_counts_nobody() {
    let web = apps(3, "web", |pod| {
        pod.topology_spread
            .push(TopologySpread { selector: Some(LabelSelector::default()), ..spread("web", labels::ZONE) });
    });
    check(
        &snapshot(
            web,
            vec![
                running("a", "a", vec![]),
                edited_node(running("b", "b", vec![]), |node| {
                    node.allocatable = resources(100, 1, 10);
                }),
            ],
            vec![],
        ),
        &expect![[r"
        node a: web0 web1 web2
    "]],
    );
}
