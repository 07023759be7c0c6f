use requirements::{Operator, labels};
use units::ResourceName;

use super::*;
use crate::{LabelSelector, NodeInclusion, OwnerKey, TopologySpread, WhenUnsatisfiable};

/// Without the change the pod goes to `a`, with it to `b`.
fn keeps_off_a(change: impl Fn(&mut Pod, &mut [Node; 2])) {
    let (mut one, mut nodes) = (labelled(pod("p", 500, 1), "web"), large_and_small());
    always(&[one.clone()], &nodes, &[], "p=a");
    change(&mut one, &mut nodes);
    always(&[one], &nodes, &[], "p=b");
}

fn spread(key: &str, max_skew: u32) -> TopologySpread {
    TopologySpread {
        max_skew,
        topology_key: key.to_owned(),
        when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
        selector: near("web", key).selector,
        min_domains: None,
        node_affinity_policy: NodeInclusion::Honor,
        node_taints_policy: NodeInclusion::Ignore,
        match_label_keys: Vec::new(),
    }
}

fn web(name: &str) -> Pod {
    labelled(pod(name, 0, 0), "web")
}

#[test]
fn labels_must_be_what_the_pod_demands() {
    keeps_off_a(|pod, _| pod.node_selector = labels_of(&[(labels::HOSTNAME, "b")]));
    keeps_off_a(|pod, nodes| {
        nodes[1].labels.insert(labels::ARCH.to_owned(), "arm64".to_owned());
        pod.node_selector = labels_of(&[("beta.kubernetes.io/arch", "arm64")]);
    });
    keeps_off_a(|pod, _| pod.required_node_affinity = vec![vec![term(labels::HOSTNAME, Operator::NotIn, &["a"])]]);
    keeps_off_a(|pod, nodes| {
        nodes[1].labels.insert(labels::ZONE.to_owned(), "b".to_owned());
        // By the name it had before.
        pod.volume_zones = vec![term("failure-domain.beta.kubernetes.io/zone", Operator::In, &["b"])];
    });
}

#[test]
fn taints_must_be_tolerated() {
    keeps_off_a(|_, nodes| nodes[0].taints = vec![taint("gpu")]);
    let mut tolerant = pod("p", 500, 1);
    tolerant.tolerations = vec![toleration("gpu")];
    let mut nodes = large_and_small();
    nodes[0].taints = vec![taint("gpu")];
    always(&[tolerant], &nodes, &[], "p=a");
}

#[test]
fn there_must_be_room() {
    keeps_off_a(|_, nodes| nodes[0].pods = vec![Arc::new(pod("full", 7600, 0))]);
    keeps_off_a(|_, nodes| nodes[0].allocatable.set(ResourceName::pods(), Amount(0)));
    keeps_off_a(|pod, nodes| {
        pod.requests.set("x.io/gpu".into(), Amount(1));
        nodes[1].allocatable.set("x.io/gpu".into(), Amount(1));
    });
    // An ask for nothing is fulfilled by an overdrawn node too.
    let mut idle = pod("p", 0, 0);
    idle.requests = resources(0, 0, 1);
    always(&[idle], &[holding(node("a", 1000), pod("full", 2000, 0))], &[], "p=a");
}

#[test]
fn daemons_that_will_come_need_their_room() {
    let mut snapshot = snapshot(vec![pod("p", 1000, 1)], vec![node("a", 1000)], Vec::new());
    snapshot.daemons = vec![Arc::new(on_daemon_set(pod("log", 100, 0), "log"))];
    assert_eq!(realise(&snapshot, &Solution::default(), 0).placed.len(), 0);
    snapshot.nodes[0].pods = vec![Arc::new(on_daemon_set(pod("log-x", 0, 0), "log"))];
    assert_eq!(realise(&snapshot, &Solution::default(), 0).placed.len(), 1, "it is there and asks for less");
}

#[test]
fn ports_must_be_free() {
    keeps_off_a(|pod, nodes| {
        pod.host_ports = vec![port(80)];
        let mut taker = web("taker");
        taker.host_ports = vec![port(80)];
        nodes[0].pods = vec![Arc::new(taker)];
    });
}

#[test]
fn volumes_must_be_attachable() {
    keeps_off_a(|pod, nodes| {
        let of = |names: &[&str]| {
            BTreeMap::from([("ebs".to_owned(), names.iter().map(|name| (*name).to_owned()).collect())])
        };
        pod.volumes_by_driver = of(&["new"]);
        let mut holder = web("holder");
        holder.volumes_by_driver = of(&["one", "two"]);
        nodes[0].pods = vec![Arc::new(holder)];
        nodes[0].volume_limits = BTreeMap::from([("ebs".to_owned(), 2)]);
    });
    // What is attached already is not attached again, even where there is too much.
    let mut nodes = large_and_small();
    let (mut same, mut holder) = (pod("p", 500, 1), web("holder"));
    same.volumes_by_driver = BTreeMap::from([("ebs".to_owned(), ["one".to_owned()].into())]);
    holder.volumes_by_driver = same.volumes_by_driver.clone();
    nodes[0].pods = vec![Arc::new(holder)];
    nodes[0].volume_limits = BTreeMap::from([("ebs".to_owned(), 0)]);
    always(&[same], &nodes, &[], "p=a");
}

#[test]
fn a_volume_that_one_pod_alone_may_use_is_anothers_only_when_it_is_free() {
    let with_data = |name: &str| Pod { exclusive_claims: ["data".to_owned()].into(), ..pod(name, 500, 1) };
    always(&[with_data("p")], &[holding(node("a", 8000), with_data("q")), node("b", 8000)], &[], "p=-");
    always(&[aged(with_data("p"), 1), aged(with_data("q"), 0)], &[node("a", 8000)], &[], "p=- q=a");
}

#[test]
fn pods_keep_away_from_those_they_avoid_and_those_that_avoid_them() {
    keeps_off_a(|pod, nodes| {
        pod.pod_anti_affinity = vec![near("db", labels::HOSTNAME)];
        nodes[0].pods = vec![Arc::new(labelled(super::pod("db", 0, 0), "db"))];
    });
    keeps_off_a(|_, nodes| {
        let mut hermit = pod("hermit", 0, 0);
        hermit.pod_anti_affinity = vec![near("web", labels::HOSTNAME)];
        nodes[0].pods = vec![Arc::new(hermit)];
    });
    // Not in another namespace, unless the term names it.
    let mut nodes = large_and_small();
    let mut hermit = pod("hermit", 0, 0);
    hermit.key.namespace = "other".to_owned();
    hermit.pod_anti_affinity = vec![near("web", labels::HOSTNAME)];
    nodes[0].pods = vec![Arc::new(hermit.clone())];
    always(&[labelled(pod("p", 500, 1), "web")], &nodes, &[], "p=a");
    hermit.pod_anti_affinity[0].namespaces = vec!["shop".to_owned()];
    nodes[0].pods = vec![Arc::new(hermit)];
    always(&[labelled(pod("p", 500, 1), "web")], &nodes, &[], "p=b");
}

#[test]
fn pods_go_near_those_they_need_or_are_the_first_of_them() {
    keeps_off_a(|pod, nodes| {
        pod.pod_affinity = vec![near("db", labels::HOSTNAME)];
        // Even if it was told to go.
        nodes[1].pods = vec![Arc::new(Pod { terminating: true, ..labelled(super::pod("db", 0, 0), "db") })];
    });
    let wanting = |app: &str| {
        let mut one = labelled(pod("p", 500, 1), "web");
        one.pod_affinity = vec![near(app, labels::HOSTNAME)];
        one
    };
    always(&[wanting("db")], &large_and_small(), &[], "p=-");
    always(&[wanting("web")], &large_and_small(), &[], "p=a");
    // It is not the first when there is one already, however far.
    let mut nodes = large_and_small();
    nodes[1].pods = vec![Arc::new(web("first"))];
    always(&[wanting("web")], &nodes, &[], "p=b");
}

#[test]
fn a_pod_waits_for_the_one_it_must_be_near() {
    let mut follower = aged(pod("follower", 500, 1), 0);
    follower.pod_affinity = vec![near("db", labels::HOSTNAME)];
    let leader = aged(labelled(pod("leader", 500, 1), "db"), 1);
    always(&[follower, leader], &[node("a", 2000)], &[], "follower=a leader=a");
}

#[test]
fn domains_are_filled_evenly() {
    keeps_off_a(|pod, nodes| {
        pod.topology_spread = vec![spread(labels::HOSTNAME, 1)];
        nodes[0].pods = vec![Arc::new(web("one"))];
    });
    // One that was told to go counts no more.
    let (mut one, mut nodes) = (labelled(pod("p", 500, 1), "web"), large_and_small());
    one.topology_spread = vec![spread(labels::HOSTNAME, 1)];
    nodes[0].pods = vec![Arc::new(Pod { terminating: true, ..web("one") })];
    always(&[one], &nodes, &[], "p=a");
    // With a skew of 2 one more is fine.
    let (mut one, mut nodes) = (labelled(pod("p", 500, 1), "web"), large_and_small());
    one.topology_spread = vec![spread(labels::HOSTNAME, 2)];
    nodes[0].pods = vec![Arc::new(web("one"))];
    always(&[one.clone()], &nodes, &[], "p=a");
    // A node outside the pod's own affinity is no domain that could fall behind.
    one.topology_spread = vec![spread(labels::HOSTNAME, 1)];
    one.node_selector = labels_of(&[(labels::HOSTNAME, "a")]);
    always(&[one.clone()], &nodes, &[], "p=a");
    // Unless the policy says that it is.
    one.topology_spread[0].node_affinity_policy = NodeInclusion::Ignore;
    always(&[one], &nodes, &[], "p=-");
}

#[test]
fn fewer_domains_than_demanded_count_as_an_empty_one() {
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![spread(labels::HOSTNAME, 1)];
    let nodes = [holding(node("a", 8000), web("one")), holding(node("b", 2000), web("two"))];
    always(&[one.clone()], &nodes, &[], "p=a");
    one.topology_spread[0].min_domains = Some(3);
    always(&[one], &nodes, &[], "p=-");
}

#[test]
fn a_tainted_node_is_a_domain_unless_the_policy_looks_at_taints() {
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![spread(labels::HOSTNAME, 1)];
    let mut nodes = [holding(node("a", 8000), web("one")), node("b", 2000)];
    nodes[1].taints = vec![taint("gpu")];
    always(&[one.clone()], &nodes, &[], "p=-");
    one.topology_spread[0].node_taints_policy = NodeInclusion::Honor;
    always(&[one], &nodes, &[], "p=a");
}

#[test]
fn a_node_without_the_label_takes_no_pod_that_spreads_over_it() {
    keeps_off_a(|pod, nodes| {
        pod.topology_spread = vec![spread("rack", 1)];
        nodes[1].labels.insert("rack".to_owned(), "1".to_owned());
    });
}

#[test]
fn only_pods_of_the_same_template_count_with_match_label_keys() {
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![spread(labels::HOSTNAME, 1)];
    one.labels.insert("hash".to_owned(), "2".to_owned());
    let nodes = [holding(node("a", 8000), web("old")), node("b", 2000)];
    always(&[one.clone()], &nodes, &[], "p=b");
    one.topology_spread[0].match_label_keys = vec!["hash".to_owned()];
    always(&[one], &nodes, &[], "p=a");
}

#[test]
fn an_empty_selector_counts_nobody_and_an_absent_one_not_even_itself() {
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![spread(labels::HOSTNAME, 1)];
    let nodes = [holding(node("a", 8000), web("one")), node("b", 2000)];
    for selector in [Some(LabelSelector::default()), None] {
        one.topology_spread[0].selector = selector;
        always(&[one.clone()], &nodes, &[], "p=a");
    }
}

#[test]
fn a_node_that_leaves_takes_no_pod() {
    keeps_off_a(|pod, nodes| {
        nodes[0].stage = NodeStage::Leaving;
        nodes[0].pods = vec![Arc::new(super::pod("holds", 0, 0))];
        pod.tolerations = vec![toleration("anything")];
    });
}

#[test]
fn a_node_that_leaves_is_there_as_long_as_a_pod_holds_it() {
    let mut one = labelled(pod("p", 500, 1), "web");
    one.topology_spread = vec![spread("rack", 1)];
    let in_rack = |mut node: Node, rack: &str| {
        node.labels.insert("rack".to_owned(), rack.to_owned());
        node
    };
    let full = in_rack(holding(node("a", 2000), web("one")), "1");
    for (terminating, expected) in [(false, "p=-"), (true, "p=a")] {
        let other = Pod { terminating, ..pod("other", 0, 0) };
        let mut leaving = in_rack(holding(node("b", 2000), other), "2");
        leaving.stage = NodeStage::Leaving;
        always(&[one.clone()], &[full.clone(), leaving], &[], expected);
    }
}

#[test]
fn a_pod_that_is_not_understood_waits() {
    let mut odd = pod("p", 500, 1);
    odd.invalid = vec!["what is this".to_owned()];
    odd.owner = Some(OwnerKey { kind: "Job".to_owned(), name: "j".to_owned(), uid: String::new() });
    always(&[odd], &large_and_small(), &[], "p=-");
}

#[test]
fn the_highest_priority_comes_first_then_the_oldest() {
    let mut urgent = aged(pod("urgent", 900, 1), 9);
    urgent.priority = 1;
    let (old, young) = (aged(pod("old", 900, 1), 1), aged(pod("young", 900, 1), 2));
    always(&[young.clone(), old.clone(), urgent], &[node("a", 1000)], &[], "young=- old=- urgent=a");
    always(&[young, old.clone()], &[node("a", 1000)], &[], "young=- old=a");
    // Those of one age come in any order.
    let peer = aged(pod("peer", 900, 1), 1);
    let told = |seed| outcome(vec![old.clone(), peer.clone()], vec![node("a", 1000)], &[], seed);
    let all: BTreeSet<String> = (0..16).map(told).collect();
    assert_eq!(all.into_iter().collect::<Vec<_>>(), ["old=- peer=a", "old=a peer=-"]);
}
