use requirements::labels;

use super::*;
use crate::{NodeInclusion, TopologySpread, WhenUnsatisfiable};

fn of_priority(mut pod: Pod, priority: i32) -> Pod {
    pod.priority = priority;
    pod
}

#[test]
fn a_nominated_pod_goes_where_it_would_not_by_points() {
    always(&[pod("p", 500, 1)], &large_and_small(), &[], "p=a");
    always(&[pod("p", 500, 1)], &large_and_small(), &[("p", "b")], "p=b");
}

#[test]
fn a_nomination_is_only_a_preference() {
    let nodes = [node("a", 8000), holding(node("b", 1000), pod("there", 900, 0))];
    always(&[pod("p", 500, 1)], &nodes, &[("p", "b")], "p=a");
    always(&[pod("p", 500, 1)], &nodes, &[("p", "nowhere")], "p=a");
}

#[test]
fn room_is_kept_against_equal_and_lower_priority_only() {
    let nominee = || aged(of_priority(pod("nominee", 900, 1), 5), 9);
    for (priority, expected) in [(5, "nominee=a p=-"), (4, "nominee=a p=-"), (6, "nominee=- p=a")] {
        let rival = aged(of_priority(pod("p", 900, 1), priority), 0);
        always(&[nominee(), rival], &[node("a", 1000)], &[("nominee", "a")], expected);
    }
}

#[test]
fn what_is_kept_is_no_more_than_what_is_asked() {
    let nominee = aged(pod("nominee", 500, 1), 9);
    always(&[nominee, aged(pod("p", 500, 1), 0)], &[node("a", 1000)], &[("nominee", "a")], "nominee=a p=a");
}

#[test]
fn ports_slots_and_volumes_are_kept_too() {
    let (mut nominee, mut rival) = (aged(pod("nominee", 0, 0), 9), aged(pod("p", 0, 0), 0));
    let mut slot = node("a", 1000);
    slot.allocatable = resources(1000, 1, 1);
    always(&[nominee.clone(), rival.clone()], &[slot], &[("nominee", "a")], "nominee=a p=-");
    let mut attaching = node("a", 1000);
    attaching.volume_limits = BTreeMap::from([("ebs".to_owned(), 1)]);
    for (pod, volume) in [(&mut nominee, "one"), (&mut rival, "two")] {
        pod.volumes_by_driver = BTreeMap::from([("ebs".to_owned(), [volume.to_owned()].into())]);
    }
    always(&[nominee.clone(), rival.clone()], &[attaching], &[("nominee", "a")], "nominee=a p=-");
    for pod in [&mut nominee, &mut rival] {
        pod.volumes_by_driver.clear();
        pod.host_ports = vec![port(80)];
    }
    always(&[nominee, rival], &[node("a", 1000)], &[("nominee", "a")], "nominee=a p=-");
}

#[test]
fn a_nominated_pod_keeps_others_away_but_draws_none_near() {
    let nominee = aged(labelled(pod("nominee", 100, 0), "db"), 9);
    let mut shy = aged(pod("p", 100, 0), 0);
    shy.pod_anti_affinity = vec![near("db", labels::HOSTNAME)];
    always(&[nominee.clone(), shy], &[node("a", 1000)], &[("nominee", "a")], "nominee=a p=-");
    // Near it may go only once the other is really there: here on the second try.
    let mut follower = aged(pod("p", 100, 0), 0);
    follower.pod_affinity = vec![near("db", labels::HOSTNAME)];
    always(&[nominee.clone(), follower.clone()], &[node("a", 1000)], &[("nominee", "a")], "nominee=a p=a");
    let elsewhere = Pod { node_selector: labels_of(&[("team", "x")]), ..nominee };
    always(&[elsewhere, follower], &[node("a", 1000)], &[("nominee", "a")], "nominee=- p=-");
}

#[test]
fn a_nomination_ends_when_its_pod_finds_no_place() {
    // The nominee cannot live on a; what was kept for it is free then.
    let mut hopeless = aged(pod("hopeless", 900, 1), 9);
    hopeless.node_selector = labels_of(&[("team", "x")]);
    let rival = aged(pod("p", 900, 1), 0);
    always(&[hopeless, rival], &[node("a", 1000)], &[("hopeless", "a")], "hopeless=- p=a");
}

#[test]
fn pods_that_spread_block_each_other_by_their_nominations() {
    let mut nodes = [node("a", 1000), node("b", 1000)];
    nodes[1].labels.insert(labels::ZONE.to_owned(), "b".to_owned());
    let one = |name: &str, age: i64| {
        let mut pod = aged(labelled(pod(name, 450, 0), "web"), age);
        pod.topology_spread = vec![TopologySpread {
            max_skew: 1,
            topology_key: labels::ZONE.to_owned(),
            when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
            selector: near("web", "").selector,
            min_domains: None,
            node_affinity_policy: NodeInclusion::Honor,
            node_taints_policy: NodeInclusion::Ignore,
            match_label_keys: Vec::new(),
        }];
        pod
    };
    let four = [one("p", 0), one("q", 1), one("r", 2), one("s", 3)];
    let nominated = [("p", "a"), ("q", "a"), ("r", "b"), ("s", "b")];
    // The first is refused by a, where the second counts as if it were there, and comes at the second try.
    always(&four, &nodes, &nominated, "p=a q=a r=b s=b");
    // Until then nothing is kept for it, and whoever comes may take its room.
    let mut other = aged(pod("t", 450, 0), 4);
    other.node_selector = labels_of(&[(labels::ZONE, "a")]);
    let five: Vec<Pod> = four.into_iter().chain([other]).collect();
    always(&five, &nodes, &nominated, "p=- q=a r=b s=b t=a");
}
