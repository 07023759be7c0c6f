use requirements::{Operator, labels};

use super::*;
use crate::{
    NodeInclusion, OwnerKey, Strength, TaintEffect, TopologySpread, WhenUnsatisfiable,
    realise::{kind::Kinds, world::World},
};

/// Without the change the pod goes to `a`, which is a little emptier; with it to `b`.
fn prefers_b(change: impl Fn(&mut Pod, &mut [Node; 2])) {
    let (mut one, mut nodes) = (labelled(pod("p", 500, 1), "web"), [node("a", 5000), node("b", 4000)]);
    always(&[one.clone()], &nodes, &[], "p=a");
    change(&mut one, &mut nodes);
    always(&[one], &nodes, &[], "p=b");
}

fn liking(app: &str, weight: i32) -> crate::PodAffinityTerm {
    crate::PodAffinityTerm { strength: Strength::Preferred { weight }, ..near(app, labels::HOSTNAME) }
}

fn web(name: &str) -> Pod {
    labelled(pod(name, 0, 0), "web")
}

#[test]
fn room_is_worth_what_the_formulas_say() {
    let world_of = |node: Node, one: Pod| {
        let snapshot = snapshot(vec![one], vec![node], Vec::new());
        let solution = Solution::default();
        let world = World::of(&snapshot, &solution);
        let mut kinds = Kinds::default();
        let shape = kinds.shape(&snapshot.pods[0], &world);
        kinds.shapes[shape].points(&world.sites[0])
    };
    // cpu (4000 - 2000) / 4000 = 50, memory (16 - 6) / 16 = 62: 56. Evenness: before |1/4 - 1/4| = 0: 100, after
    // |1/2 - 3/8| / 2 = 1/16: 93; 50 + (50 - 7) / 2 = 71.
    let quarter = holding(node("a", 4000), pod("there", 1000, 4));
    assert_eq!(world_of(quarter.clone(), pod("p", 1000, 2)), 56 + 71);
    // Who asks for nothing is presumed to use 100m and 200 Mi: cpu (4000 - 1100) / 4000 = 72, memory (16384 - 4296) /
    // 16384 = 73: 72. Evenness is not asked.
    assert_eq!(world_of(quarter, pod("p", 0, 0)), 72);
    // The same for who is there already: cpu (4000 - 1100) / 4000 = 72, memory (16384 - 1224) / 16384 = 92: 82. Evenness by
    // what is really asked: before 0: 100, after |1/4 - 1/16| / 2 = 3/32: 90; 50 + (50 - 10) / 2 = 70.
    assert_eq!(world_of(holding(node("a", 4000), pod("there", 0, 0)), pod("p", 1000, 1)), 82 + 70);
}

#[test]
fn soft_taints_are_avoided_unless_tolerated() {
    let soft = |key: &str| crate::Taint { effect: TaintEffect::PreferNoSchedule, ..taint(key) };
    prefers_b(|_, nodes| nodes[0].taints = vec![soft("old")]);
    let mut tolerant = pod("p", 500, 1);
    tolerant.tolerations = vec![toleration("old")];
    let mut nodes = [node("a", 5000), node("b", 4000)];
    nodes[0].taints = vec![soft("old")];
    always(&[tolerant], &nodes, &[], "p=a");
}

#[test]
fn preferred_labels_are_sought() {
    prefers_b(|pod, _| pod.preferred_node_affinity = vec![(1, vec![term(labels::HOSTNAME, Operator::In, &["b"])])]);
    // The weightier wish wins, and a wish for nothing is none.
    prefers_b(|pod, _| {
        pod.preferred_node_affinity = vec![
            (10, vec![term(labels::HOSTNAME, Operator::In, &["a"])]),
            (90, vec![term(labels::HOSTNAME, Operator::In, &["b"])]),
            (100, Vec::new()),
        ];
    });
}

#[test]
fn liked_pods_are_sought_and_disliked_ones_avoided() {
    prefers_b(|pod, nodes| {
        pod.pod_affinity = vec![liking("db", 1)];
        nodes[1].pods = vec![Arc::new(labelled(super::pod("db", 0, 0), "db"))];
    });
    prefers_b(|pod, nodes| {
        pod.pod_anti_affinity = vec![liking("db", 1)];
        nodes[0].pods = vec![Arc::new(labelled(super::pod("db", 0, 0), "db"))];
    });
}

#[test]
fn what_others_wish_of_the_pod_counts_too() {
    let others: [fn(&mut Pod); 2] =
        [|fan| fan.pod_affinity = vec![liking("web", 1)], |fan| fan.pod_affinity = vec![near("web", labels::HOSTNAME)]];
    for change in others {
        prefers_b(|_, nodes| {
            let mut fan = pod("fan", 0, 0);
            change(&mut fan);
            nodes[1].pods = vec![Arc::new(fan)];
        });
    }
    prefers_b(|_, nodes| {
        let mut foe = pod("foe", 0, 0);
        foe.pod_anti_affinity = vec![liking("web", 1)];
        nodes[0].pods = vec![Arc::new(foe)];
    });
}

fn soft_spread() -> TopologySpread {
    TopologySpread {
        max_skew: 1,
        topology_key: labels::HOSTNAME.to_owned(),
        when_unsatisfiable: WhenUnsatisfiable::ScheduleAnyway,
        selector: near("web", "").selector,
        min_domains: None,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
        match_label_keys: Vec::new(),
    }
}

#[test]
fn soft_spread_prefers_where_fewer_are() {
    let soft = soft_spread();
    prefers_b(|pod, nodes| {
        pod.topology_spread = vec![soft.clone()];
        nodes[0].pods = vec![Arc::new(web("one"))];
    });
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![soft.clone()];
    let leaves = Pod { terminating: true, ..web("one") };
    always(&[one], &[holding(node("a", 5000), leaves), node("b", 4000)], &[], "p=a");
    // Over zones the pods of the whole zone count, and a node without a zone has no points.
    prefers_b(|pod, nodes| {
        pod.topology_spread = vec![TopologySpread { topology_key: labels::ZONE.to_owned(), ..soft.clone() }];
        nodes[0].labels.remove(labels::ZONE);
    });
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![TopologySpread { topology_key: labels::ZONE.to_owned(), ..soft }];
    let mut nodes = [node("a", 5000), node("b", 4000), holding(node("c", 1000), web("one"))];
    nodes[1].labels.insert(labels::ZONE.to_owned(), "b".to_owned());
    always(&[one], &nodes, &[], "p=b");
}

#[test]
fn pods_of_one_controller_are_spread_though_they_do_not_ask() {
    let owned = |mut pod: Pod, kind: &str| {
        pod.owner = Some(OwnerKey { kind: kind.to_owned(), name: "web".to_owned(), uid: "1".to_owned() });
        pod
    };
    for (kind, expected) in [("ReplicaSet", "p=b"), ("StatefulSet", "p=b"), ("Job", "p=a")] {
        let nodes = [holding(node("a", 5000), owned(web("one"), kind)), node("b", 4000)];
        always(&[owned(pod("p", 500, 1), kind)], &nodes, &[], expected);
    }
    let leaves = Pod { terminating: true, ..owned(web("one"), "ReplicaSet") };
    let nodes = [holding(node("a", 5000), leaves), node("b", 4000)];
    always(&[owned(pod("p", 500, 1), "ReplicaSet")], &nodes, &[], "p=a");
}

/// Each of two things speaks with all its points for one of the nodes, so the weights decide; if these are equal, the room.
#[test]
fn weights_are_those_of_the_default_profile() {
    type Change = fn(&mut Pod, &mut Node, &mut Node);
    let spread: Change = |pod, _, other| {
        pod.topology_spread = vec![soft_spread()];
        other.pods.push(Arc::new(web("there")));
    };
    let taint: Change = |_, _, other| {
        other.taints = vec![crate::Taint { effect: TaintEffect::PreferNoSchedule, ..taint("old") }];
    };
    let wish: Change = |pod, this, _| {
        this.labels.insert("disk".to_owned(), "fast".to_owned());
        pod.preferred_node_affinity = vec![(1, vec![term("disk", Operator::Exists, &[])])];
    };
    let liked: Change = |pod, this, _| {
        pod.pod_affinity = vec![liking("db", 1)];
        this.pods.push(Arc::new(labelled(super::pod("db", 0, 0), "db")));
    };
    let winner = |for_a: Change, for_b: Change, larger: &str| {
        let size = |name: &str| if name == larger { 8000 } else { 4000 };
        let (mut a, mut b) = (node("a", size("a")), node("b", size("b")));
        let mut one = labelled(pod("p", 500, 1), "web");
        for_a(&mut one, &mut a, &mut b);
        for_b(&mut one, &mut b, &mut a);
        outcome(vec![one], vec![a, b], &[], 0)
    };
    // 3 × 100 against 2 × 100 and what the room makes up, which is less than 100 here.
    for weaker in [spread, wish, liked] {
        assert_eq!(winner(taint, weaker, "b"), "p=a");
        assert_eq!(winner(weaker, taint, "a"), "p=b");
    }
    for (one, other) in [(spread, wish), (wish, liked), (liked, spread)] {
        assert_eq!((winner(one, other, "a").as_str(), winner(one, other, "b").as_str()), ("p=a", "p=b"));
    }
}

#[test]
fn only_nodes_within_the_affinity_make_a_zone_crowded() {
    let owned = |mut pod: Pod| {
        pod.owner = Some(OwnerKey { kind: "ReplicaSet".to_owned(), name: "web".to_owned(), uid: "1".to_owned() });
        pod
    };
    let mut one = owned(pod("p", 500, 1));
    one.node_selector = labels_of(&[("team", "red")]);
    let mut nodes = [node("a", 5000), node("b", 4000), holding(node("c", 1000), owned(web("there")))];
    nodes[1].labels.insert(labels::ZONE.to_owned(), "b".to_owned());
    nodes[..2].iter_mut().for_each(|node| drop(node.labels.insert("team".to_owned(), "red".to_owned())));
    always(&[one.clone()], &nodes, &[], "p=a");
    nodes[2].labels.insert("team".to_owned(), "red".to_owned());
    always(&[one], &nodes, &[], "p=b");
}

#[test]
fn among_equals_chance_decides() {
    let told = |seed| outcome(vec![pod("p", 500, 1)], vec![node("a", 4000), node("b", 4000)], &[], seed);
    let all: BTreeSet<String> = (0..16).map(told).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["p=a", "p=b"]);
}

#[test]
fn in_a_large_cluster_the_scheduler_stops_looking() {
    // Of 300 nodes 144 are enough (50 % less 300 / 125); the best one is behind them and the first pod does not see it.
    let mut nodes: Vec<Node> = (0..300).map(|number| node(&format!("n{number:03}"), 2000)).collect();
    nodes[200] = node("n200", 8000);
    let first = aged(pod("first", 500, 1), 0);
    let second = aged(pod("second", 500, 1), 1);
    let told = outcome(vec![first, second], nodes, &[], 0);
    assert!(told.ends_with("second=n200") && !told.contains("first=n200"), "{told}");
}
