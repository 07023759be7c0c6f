use std::fmt::Write as _;

use expect_test::{Expect, expect};
use requirements::{Operator, Requirement, labels};
use units::{Amount, ResourceList};

use super::*;
use crate::{CapacityType, Node, Pool, PoolKind, testing::*};

/// The solution in a few lines, after the checker has agreed.
pub(super) fn check(snapshot: &Snapshot, expected: &Expect) {
    let solution = solve(snapshot, &Settings::default());
    assert_eq!(broken(snapshot, &solution), [], "{solution:#?}");
    expected.assert_eq(&summary(&solution));
}

pub(super) fn summary(solution: &Solution) -> String {
    let mut text = String::new();
    for (pod, placement) in &solution.placed {
        writeln!(text, "{pod} on {}: {}", placement.node, placement.why).unwrap();
    }
    for (index, node) in solution.new_nodes.iter().enumerate() {
        let cheapest = &node.offerings[0];
        let dearest = &node.offerings[node.offerings.len() - 1];
        let (count, pool) = (node.offerings.len(), &node.pool);
        writeln!(
            text,
            "new {index} of {pool}: {} {}, {count} offerings up to {}",
            cheapest.key, node.price, dearest.key
        )
        .unwrap();
    }
    for (pod, reasons) in &solution.unplaced {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        writeln!(text, "{pod} unplaced: {}", reasons.join(" | ")).unwrap();
    }
    for note in &solution.notes {
        writeln!(text, "note: {note}").unwrap();
    }
    text
}

pub(super) fn pods(count: usize, milli_cpu: i64) -> Vec<Pod> {
    (0..count).map(|index| pod(&format!("p{index:02}"), milli_cpu, 0)).collect()
}

pub(super) fn edited(mut pod: Pod, edit: impl FnOnce(&mut Pod)) -> Pod {
    edit(&mut pod);
    pod
}

pub(super) fn edited_node(mut node: Node, edit: impl FnOnce(&mut Node)) -> Node {
    edit(&mut node);
    node
}

pub(super) fn edited_pool(mut pool: Pool, edit: impl FnOnce(&mut Pool)) -> Pool {
    edit(&mut pool);
    pool
}

pub(super) fn amd64(name: &str) -> Pool {
    edited_pool(pool(name), |pool| pool.requirements.add(Requirement::one_of(labels::ARCH, ["amd64"])))
}

pub(super) fn cpu_limit(mut pool: Pool, milli: i64) -> Pool {
    pool.limits = Some(ResourceList::new().with(ResourceName::cpu(), Amount(milli)));
    pool
}

#[test]
fn ready_nodes_come_before_nodes_under_way_before_new_ones() {
    let nodes = vec![
        edited_node(node("a", 1000), |node| node.stage = NodeStage::InFlight),
        edited_node(node("b", 1000), |node| node.stage = NodeStage::Leaving),
        node("c", 1000),
    ];
    check(
        &snapshot(pods(4, 1000), nodes, vec![pool("default")]),
        &expect![[r"
            shop/p00 on node c: a ready node has room
            shop/p01 on node a: a node under way will have room
            shop/p02 on new node 0: no node takes it, so a new one is opened
            shop/p03 on new node 0: a new node opened for other pods has room
            new 0 of NodePool/default: m.xlarge in a (spot) $0.08/h, 9 offerings up to g.4xlarge in b (on-demand)
        "]],
    );
}

#[test]
fn the_heaviest_pool_is_first_and_the_name_breaks_ties() {
    let pools = vec![pool("b"), pool("a"), edited_pool(pool("heavy"), |pool| pool.weight = 10)];
    check(
        &snapshot(vec![pod("p", 100, 1)], vec![], pools.clone()),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/heavy: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
    check(
        &snapshot(vec![pod("p", 100, 1)], vec![], pools[..2].to_vec()),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/a: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn a_pod_without_a_place_has_a_reason_for_every_pool_the_nearest_first() {
    let picky = edited(pod("p", 1000, 1), |pod| {
        pod.node_selector = labels_of(&[(labels::ARCH, "amd64"), (labels::ZONE, "b")]);
    });
    let pools = vec![
        edited_pool(pool("tainted"), |pool| pool.taints.push(taint("gpu"))),
        edited_pool(pool("arm"), |pool| pool.requirements.add(Requirement::one_of(labels::ARCH, ["arm64"]))),
        edited_pool(pool("spot"), |pool| pool.requirements.add(Requirement::one_of(labels::CAPACITY_TYPE, ["spot"]))),
        edited_pool(pool("sold-out"), |pool| {
            let mut machines = catalogue().to_vec();
            machines.iter_mut().flat_map(|machine| &mut machine.offerings).for_each(|one| one.available = false);
            pool.instance_types = Arc::from(machines);
        }),
        cpu_limit(pool("limited"), 1000),
        edited_pool(pool("small"), |pool| pool.instance_types = Arc::from([])),
        edited_pool(pool("confused"), |pool| {
            pool.requirements.add(Requirement::absent("team"));
            pool.labels = labels_of(&[("team", "red")]);
        }),
        edited_pool(pool("choosy"), |pool| {
            pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(5)));
        }),
    ];
    check(
        &snapshot(vec![picky], vec![node("a", 4000), node("b", 10)], pools),
        &expect![[r"
            shop/p unplaced: NodePool/sold-out: none of the 3 offerings that would do is available now | NodePool/limited: limit of 1 cpu, 0 used, the smallest node would add 2 | NodePool/choosy: minValues of node.kubernetes.io/instance-type is 5, only 3 remain possible | NodePool/arm: wants kubernetes.io/arch in [amd64], has kubernetes.io/arch in [arm64] | NodePool/spot: wants topology.kubernetes.io/zone in [b], has topology.kubernetes.io/zone in [a] | NodePool/tainted: taint gpu:NoSchedule is not tolerated | NodePool/confused: its own labels and requirements leave no value of team | NodePool/small: no instance type is offered | 0 of 2 nodes fit: 2 other labels
        "]],
    );
}

#[test]
fn too_large_a_pod_is_told_the_largest_room() {
    check(
        &snapshot(vec![pod("p", 99_000, 1), pod("q", 15_000, 99)], vec![node("a", 4000)], vec![pool("default")]),
        &expect![[r"
            shop/p unplaced: NodePool/default: asks for 99 of cpu, the largest node has 15900m free | 0 of 1 nodes fit: 1 too full
            shop/q unplaced: NodePool/default: asks for 99Gi of memory, the largest node has 64Gi free | 0 of 1 nodes fit: 1 too full
        "]],
    );
}

#[test]
fn without_pools_that_is_the_reason() {
    check(
        &snapshot(vec![pod("p", 1, 1)], vec![], vec![]),
        &expect![[r"
        shop/p unplaced: there is no Provisioner and no NodePool that could make a node
    "]],
    );
}

#[test]
fn a_custom_label_comes_from_the_pool_alone() {
    let wants = |name, value| edited(pod(name, 100, 0), |pod| pod.node_selector = labels_of(&[("team", value)]));
    let open = edited_pool(pool("open"), |pool| pool.requirements.add(Requirement::one_of("team", ["red", "blue"])));
    let snapshot =
        snapshot(vec![wants("r", "red"), wants("b", "blue"), wants("g", "green")], vec![], vec![pool("bare"), open]);
    check(
        &snapshot,
        &expect![[r"
        shop/b on new node 0: no node takes it, so a new one is opened
        shop/r on new node 1: no node takes it, so a new one is opened
        new 0 of NodePool/open: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        new 1 of NodePool/open: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        shop/g unplaced: NodePool/bare: wants team in [green], which nothing defines | NodePool/open: wants team in [green], has team in [blue, red]
    "]],
    );
    let solution = solve(&snapshot, &Settings::default());
    let teams: Vec<_> = solution.new_nodes.iter().map(|node| node.labels["team"].as_str()).collect();
    assert_eq!(teams, ["blue", "red"]);
}

#[test]
fn one_of_several_alternatives_is_enough() {
    let either = edited(pod("p", 100, 0), |pod| {
        pod.required_node_affinity = vec![
            vec![term(labels::ZONE, Operator::In, &["z"])],
            vec![term(labels::ZONE, Operator::In, &["b"]), term(labels::ARCH, Operator::In, &["arm64"])],
        ];
    });
    check(
        &snapshot(vec![either], vec![], vec![pool("default")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in b (on-demand) $0.10/h, 2 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn volumes_hold_a_pod_in_their_zone() {
    let bound = edited(pod("p", 100, 0), |pod| {
        pod.volume_zones = vec![term("topology.ebs.csi.aws.com/zone", Operator::In, &["b"])];
    });
    check(
        &snapshot(vec![bound], vec![node("in-a", 4000)], vec![pool("default")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in b (on-demand) $0.10/h, 5 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn a_tainted_pool_needs_a_toleration_and_startup_taints_do_not() {
    let tainted = edited_pool(pool("gpu"), |pool| {
        pool.taints.push(taint("gpu"));
        pool.startup_taints.push(taint("cni"));
    });
    let tolerant = edited(pod("t", 100, 0), |pod| pod.tolerations.push(toleration("gpu")));
    check(
        &snapshot(vec![pod("p", 100, 0), tolerant], vec![], vec![tainted]),
        &expect![[r"
        shop/t on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/gpu: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        shop/p unplaced: NodePool/gpu: taint gpu:NoSchedule is not tolerated
    "]],
    );
}

#[test]
fn daemons_take_their_room_only_of_the_machines_they_run_on() {
    let mut snapshot = snapshot(vec![pod("p", 1800, 1)], vec![], vec![pool("default")]);
    let agent = edited(pod("agent", 500, 0), |pod| pod.node_selector = labels_of(&[(labels::ARCH, "amd64")]));
    snapshot.daemons.push(Arc::new(agent));
    check(
        &snapshot,
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 12 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn a_daemon_that_is_there_is_not_counted_twice() {
    let mut full = node("a", 1000);
    full.pods.push(Arc::new(on_daemon_set(pod("log-x7", 300, 0), "log")));
    let mut snapshot = snapshot(pods(1, 700), vec![full, node("b", 900)], vec![]);
    snapshot.daemons.push(Arc::new(on_daemon_set(pod("log", 300, 0), "log")));
    check(
        &snapshot,
        &expect![[r"
        shop/p00 on node a: a ready node has room
    "]],
    );
}

#[test]
fn a_host_port_is_taken_once_per_node() {
    let served = |name| edited(pod(name, 100, 0), |pod| pod.host_ports = vec![port(80)]);
    check(
        &snapshot(vec![served("p"), served("q"), pod("r", 50, 0)], vec![], vec![pool("default")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        shop/q on new node 1: no node takes it, so a new one is opened
        shop/r on new node 0: a new node opened for other pods has room
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        new 1 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn what_a_pod_has_twice_is_in_nobodys_way() {
    // As with an address of its own beside all addresses, or of a container and a sidecar.
    let served = |name| edited(pod(name, 100, 0), |pod| pod.host_ports = vec![port(80), port(80)]);
    check(
        &snapshot(vec![served("p"), served("q")], vec![node("a", 1000)], vec![pool("default")]),
        &expect![[r"
        shop/p on node a: a ready node has room
        shop/q on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn a_host_port_of_a_daemon_is_taken_on_every_node() {
    let served = edited(pod("p", 100, 0), |pod| pod.host_ports = vec![port(80)]);
    let mut snapshot = snapshot(vec![served.clone()], vec![node("a", 1000)], vec![pool("default")]);
    snapshot.daemons.push(Arc::new(on_daemon_set(edited(served, |pod| pod.key.name = "proxy".to_owned()), "proxy")));
    check(
        &snapshot,
        &expect![[r"
        shop/p unplaced: NodePool/default: host port 80/TCP is taken by a daemon | 0 of 1 nodes fit: 1 port taken
    "]],
    );
}

#[test]
fn a_limit_leaves_the_larger_machines_out() {
    check(
        &snapshot(pods(1, 1000), vec![], vec![cpu_limit(pool("default"), 5000)]),
        &expect![[r"
        shop/p00 on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 9 offerings up to m.xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn a_limit_does_not_stop_small_nodes_because_large_ones_would_do_too() {
    let served = |index| edited(pod(&format!("p{index}"), 1000, 0), |pod| pod.host_ports = vec![port(80)]);
    // Ten nodes of two cpus each are exactly the limit.
    let solution = solve(
        &snapshot((0..10).map(served).collect(), vec![], vec![cpu_limit(amd64("default"), 20_000)]),
        &Settings::default(),
    );
    assert_eq!(solution.unplaced, BTreeMap::new());
    assert!(solution.new_nodes.iter().all(|node| node.capacity.get(&ResourceName::cpu()) == Amount(2000)));
}

#[test]
fn a_limit_on_nodes_counts_nodes() {
    let limited =
        edited_pool(pool("default"), |pool| pool.limits = Some(ResourceList::new().with("nodes".into(), Amount(2))));
    let mine = edited_node(node("a", 100), |node| node.pool = Some(limited.key.clone()));
    check(
        &snapshot(pods(2, 15_000), vec![mine], vec![limited]),
        &expect![[r"
        shop/p00 on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.4xlarge in a (spot) $0.32/h, 3 offerings up to g.4xlarge in b (on-demand)
        shop/p01 unplaced: NodePool/default: limit of 2 nodes, 2 used, the smallest node would add 1 | 0 of 1 nodes fit: 1 too full
    "]],
    );
}

#[test]
fn the_cheapest_offerings_are_kept_and_as_many_types_as_the_pool_demands() {
    let settings = Settings { max_alternatives: 2, ..Settings::default() };
    let choosy = edited_pool(pool("default"), |pool| {
        pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(3)));
    });
    for (pool, expected) in [
        (pool("default"), ["g.large spot", "m.large spot"].as_slice()),
        (choosy, &["g.large spot", "m.large spot", "m.xlarge spot"]),
    ] {
        let snapshot = snapshot(vec![pod("p", 100, 1)], vec![], vec![pool]);
        let solution = solve(&snapshot, &settings);
        assert_eq!(broken(&snapshot, &solution), []);
        let kept = solution.new_nodes[0].offerings.iter();
        let kept: Vec<String> =
            kept.map(|one| format!("{} {}", one.key.instance_type, one.key.capacity_type)).collect();
        assert_eq!(kept, expected);
    }
}

#[test]
fn bound_pods_decide_where_others_may_be() {
    let mut in_a = node("a", 4000);
    in_a.pods.push(Arc::new(edited(pod("db", 100, 0), |pod| pod.labels = labels_of(&[("app", "db")]))));
    let beside = edited(pod("beside", 300, 0), |pod| pod.pod_affinity = vec![near("db", labels::HOSTNAME)]);
    let apart = edited(pod("apart", 200, 0), |pod| pod.pod_anti_affinity = vec![near("db", labels::ZONE)]);
    let mut shy = node("shy", 4000);
    shy.pods.push(Arc::new(edited(pod("loner", 100, 0), |pod| {
        pod.pod_anti_affinity = vec![near("web", labels::HOSTNAME)];
    })));
    let web = edited(pod("web", 100, 0), |pod| pod.labels = labels_of(&[("app", "web")]));
    in_a.allocatable = resources(400, 16, 20);
    check(
        &snapshot(vec![beside, apart, web], vec![in_a, shy], vec![pool("default")]),
        &expect![[r"
        shop/apart on new node 0: no node takes it, so a new one is opened
        shop/beside on node a: a ready node has room
        shop/web on new node 0: a new node opened for other pods has room
        new 0 of NodePool/default: g.large in b (on-demand) $0.10/h, 5 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn a_node_is_selected_by_its_name_whatever_its_hostname_is() {
    let there = edited_node(node("n1", 8000), |node| node.labels.extend(labels_of(&[(labels::HOSTNAME, "h1")])));
    let named = |name: &str, key: &str, operator, value: &str| {
        edited(pod(name, 100, 0), |pod| pod.required_node_affinity = vec![vec![term(key, operator, &[value])]])
    };
    let pods = vec![
        named("host-h1", labels::HOSTNAME, Operator::In, "h1"),
        named("host-n1", labels::HOSTNAME, Operator::In, "n1"),
        named("name-h1", labels::NODE_NAME, Operator::In, "h1"),
        named("name-n1", labels::NODE_NAME, Operator::In, "n1"),
        named("not-n1", labels::NODE_NAME, Operator::NotIn, "n1"),
    ];
    check(
        &snapshot(pods, vec![there], vec![amd64("default")]),
        &expect![[r"
            shop/host-h1 on node n1: a ready node has room
            shop/name-n1 on node n1: a ready node has room
            shop/not-n1 on new node 0: no node takes it, so a new one is opened
            new 0 of NodePool/default: m.large in a (spot) $0.04/h, 9 offerings up to m.2xlarge in b (on-demand)
            shop/host-n1 unplaced: NodePool/default: wants kubernetes.io/hostname in [n1], which nothing defines | 0 of 1 nodes fit: 1 other labels
            shop/name-h1 unplaced: NodePool/default: wants .metadata.name in [h1], which nothing defines | 0 of 1 nodes fit: 1 other labels
        "]],
    );
}

#[test]
fn an_invalid_pod_is_refused_with_what_is_wrong() {
    let broken = edited(pod("p", 100, 0), |pod| pod.invalid = vec!["nodeAffinity uses matchFields".to_owned()]);
    let odd =
        edited(pod("q", 100, 0), |pod| pod.required_node_affinity = vec![vec![term("cpu", Operator::Gt, &["many"])]]);
    let empty = edited(pod("r", 100, 0), |pod| pod.required_node_affinity = vec![vec![]]);
    check(
        &snapshot(vec![broken, odd, empty], vec![], vec![pool("default")]),
        &expect![[r#"
        shop/p unplaced: the pod is not valid: nodeAffinity uses matchFields
        shop/q unplaced: the pod is not valid: required node affinity: requirement on "cpu": Gt needs exactly one integer of at least 0
        shop/r unplaced: the pod is not valid: required node affinity: an alternative without terms matches no node
    "#]],
    );
}

#[test]
fn a_spent_budget_leaves_pods_untried_not_lost() {
    let settings = Settings { budget_work_units: 2, ..Settings::default() };
    let snapshot = snapshot(pods(5, 100), vec![node("a", 1000)], vec![]);
    let solution = solve(&snapshot, &settings);
    assert_eq!(broken(&snapshot, &solution), []);
    assert_eq!((solution.placed.len(), solution.unplaced.len()), (2, 3));
    assert_eq!(solution.notes, [Note::BudgetExhausted { pods: 3 }]);
}

#[test]
fn a_provisioner_is_named_by_its_own_label() {
    let old = edited_pool(pool("default"), |pool| pool.key.kind = PoolKind::Provisioner);
    let solution = solve(&snapshot(pods(1, 100), vec![], vec![old]), &Settings::default());
    assert_eq!(solution.new_nodes[0].labels, labels_of(&[(labels::PROVISIONER_NAME, "default")]));
}

#[test]
fn ten_thousand_equal_pods_are_searched_for_once() {
    let nodes = (0..100).map(|index| node(&format!("full-{index}"), 10)).collect();
    let all = (0..10_000).map(|index| pod(&format!("p{index}"), 500, 1)).collect();
    let snapshot = snapshot(all, nodes, vec![amd64("default")]);
    // Fifteen pods fill a machine: one look for each pod, one more for each node that is found full.
    let settings = Settings { budget_work_units: 10_000 + 100 + 3 * 667, ..Settings::default() };
    let solution = solve_greedy(&snapshot, &settings);
    assert_eq!((solution.unplaced.len(), solution.new_nodes.len()), (0, 667));
    assert_eq!(broken(&snapshot, &solution), []);
}

#[test]
fn a_snapshot_survives_json() {
    let mut before = snapshot(pods(2, 100), vec![node("a", 1000)], vec![cpu_limit(amd64("default"), 5000)]);
    before.pods.push(Arc::new(edited(pod("x", 1, 1), |pod| pod.pod_affinity = vec![near("db", labels::ZONE)])));
    let text = serde_json::to_string(&before).unwrap();
    let after: Snapshot = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&after).unwrap(), text);
    let solution = solve(&before, &Settings::default());
    assert_eq!(solve(&after, &Settings::default()), solution);
    assert_eq!(serde_json::from_str::<Solution>(&serde_json::to_string(&solution).unwrap()).unwrap(), solution);
}

#[test]
fn spot_comes_before_on_demand_when_it_is_cheaper() {
    let solution = solve(&snapshot(pods(1, 100), vec![], vec![pool("default")]), &Settings::default());
    let kinds: Vec<_> = solution.new_nodes[0].offerings.iter().take(2).map(|one| one.key.capacity_type).collect();
    assert_eq!(kinds, [CapacityType::Spot, CapacityType::Spot]);
}
