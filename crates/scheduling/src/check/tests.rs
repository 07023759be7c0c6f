mod best;
mod breaks;
mod everything;
mod mutations;
mod orders;

use std::sync::Arc;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use units::{Amount, ResourceList, UsdMicrosPerHour};

use super::*;
use crate::{
    NodeStage, OfferingKey, Placement, PlacementReason, Pod, PodKey, Settings, Target, Unfit, solve, solve_greedy,
    testing::*,
};

fn solved() -> (Snapshot, Solution) {
    let mut small = pool("default");
    small.limits = Some(resources(20_000, 100, 1000));
    let pods = vec![pod("a", 1000, 1), pod("b", 3000, 1), pod("c", 500, 1), pod("big", 99_000, 1)];
    let snapshot = snapshot(pods, vec![node("n0", 700)], vec![small]);
    let solution = solve_greedy(&snapshot, &Settings::default());
    (snapshot, solution)
}

/// A solution that is fine until this is done to it.
fn rejected(spoil: impl FnOnce(&mut Snapshot, &mut Solution), expected: &Expect) {
    let (mut snapshot, mut solution) = solved();
    assert_eq!(check(&snapshot, &solution), [], "fine before");
    spoil(&mut snapshot, &mut solution);
    let text: Vec<String> = check(&snapshot, &solution).iter().map(ToString::to_string).collect();
    expected.assert_eq(&text.join("\n"));
}

#[test]
fn a_lost_pod_is_missed() {
    rejected(
        |_, solution| {
            solution.unplaced.clear();
        },
        &expect!["pod shop/big is lost"],
    );
}

#[test]
fn a_pod_cannot_be_in_two_places() {
    rejected(
        |_, solution| {
            let key = PodKey::new("shop", "a");
            solution.unplaced.insert(key, vec![Unfit::NotTried]);
        },
        &expect!["pod shop/a is placed twice"],
    );
    rejected(
        |_, solution| {
            let again = solution.new_nodes[0].pods[0].clone();
            solution.new_nodes[0].pods.push(again);
        },
        &expect!["pod shop/a is placed twice"],
    );
}

#[test]
fn an_unknown_pod_is_noticed() {
    rejected(
        |snapshot, _| snapshot.pods.retain(|pod| pod.key.name != "big"),
        &expect!["pod shop/big is not in the snapshot"],
    );
}

#[test]
fn silence_is_no_reason() {
    rejected(
        |_, solution| solution.unplaced.values_mut().for_each(Vec::clear),
        &expect!["pod shop/big is unplaced without a reason"],
    );
    rejected(
        |snapshot, _| snapshot.pools.push(pool("other")),
        &expect!["pod shop/big has no reason for NodePool/other"],
    );
}

#[test]
fn a_node_that_shrank_is_overfull() {
    rejected(
        |snapshot, _| snapshot.nodes[0].allocatable = resources(400, 16, 20),
        &expect!["node n0: 500 of cpu asked, 400 there"],
    );
}

#[test]
fn a_daemon_that_came_needs_its_room() {
    rejected(
        |snapshot, _| snapshot.daemons.push(Arc::new(on_daemon_set(pod("log", 300, 0), "log"))),
        &expect![[r"
            node n0: 800 of cpu asked, 700 there
            the requests of new node 0 do not add up"]],
    );
}

#[test]
fn a_leaving_node_takes_nothing() {
    rejected(
        |snapshot, _| snapshot.nodes[0].stage = NodeStage::Leaving,
        &expect!["pod shop/c is on node n0, which takes no pods"],
    );
}

#[test]
fn a_taint_that_came_is_held_against_the_pod() {
    rejected(
        |snapshot, _| snapshot.nodes[0].taints.push(taint("gpu")),
        &expect!["pod shop/c does not tolerate gpu:NoSchedule"],
    );
}

#[test]
fn an_offering_that_went_cannot_be_launched() {
    rejected(
        |_, solution| solution.new_nodes[0].offerings.clear(),
        &expect![[r"
            new node 0: it has no offering
            the capacity of new node 0 does not add up"]],
    );
    rejected(
        |_, solution| {
            let last = solution.new_nodes[0].offerings.len() - 1;
            solution.new_nodes[0].offerings[last].key.zone = "z".to_owned();
        },
        &expect!["new node 0 as g.4xlarge in z (on-demand): the pool does not offer it"],
    );
    rejected(
        |_, solution| solution.new_nodes[0].offerings.reverse(),
        &expect![[r"
            new node 0: its offerings do not come cheapest first
            the price of new node 0 does not add up"]],
    );
}

#[test]
fn a_smaller_machine_is_overfull() {
    rejected(
        |_, solution| {
            let small = OfferingKey {
                instance_type: "m.large".to_owned(),
                zone: "a".to_owned(),
                capacity_type: crate::CapacityType::Spot,
            };
            solution.new_nodes[0].offerings[0].key = small;
            solution.new_nodes[0].offerings[0].price = UsdMicrosPerHour(40_000);
            solution.new_nodes[0].price = UsdMicrosPerHour(40_000);
            solution.cost = UsdMicrosPerHour(40_000);
        },
        &expect![[r"
            new node 0 as m.large in a (spot): 4000 of cpu asked, 1900 there
            the lower bound is above the cost"]],
    );
}

#[test]
fn a_limit_that_fell_is_passed() {
    rejected(
        |snapshot, _| snapshot.pools[0].limits = Some(resources(3000, 100, 1000)),
        &expect!["NodePool/default: 16000 of cpu at most, limit 3000"],
    );
    rejected(
        |snapshot, _| {
            snapshot.pools[0].limits = Some(ResourceList::new().with("nodes".into(), Amount(0)));
        },
        &expect!["NodePool/default: 1 of nodes at most, limit 0"],
    );
}

#[test]
fn a_wrong_cost_is_noticed() {
    rejected(
        |_, solution| solution.cost = UsdMicrosPerHour(1),
        &expect![[r"
        the cost of the solution does not add up
        the lower bound is above the cost"]],
    );
}

#[test]
fn a_port_is_taken_once() {
    rejected(
        |snapshot, _| {
            for pod in &mut snapshot.pods {
                Arc::make_mut(pod).host_ports = vec![port(80)];
            }
        },
        &expect!["new node 0: port 80/TCP is taken twice"],
    );
}

#[test]
fn labels_the_machine_may_not_have_are_noticed() {
    rejected(
        |snapshot, _| {
            for pod in &mut snapshot.pods {
                Arc::make_mut(pod).node_selector = labels_of(&[("topology.kubernetes.io/zone", "b")]);
            }
            snapshot.nodes[0].labels = labels_of(&[("topology.kubernetes.io/zone", "b")]);
        },
        &expect![[r"
            pod shop/a as m.2xlarge in a (spot): node selector topology.kubernetes.io/zone=b
            pod shop/a as g.4xlarge in a (spot): node selector topology.kubernetes.io/zone=b
            pod shop/a as m.2xlarge in a (on-demand): node selector topology.kubernetes.io/zone=b
            pod shop/a as g.4xlarge in a (on-demand): node selector topology.kubernetes.io/zone=b
            pod shop/b as m.2xlarge in a (spot): node selector topology.kubernetes.io/zone=b
            pod shop/b as g.4xlarge in a (spot): node selector topology.kubernetes.io/zone=b
            pod shop/b as m.2xlarge in a (on-demand): node selector topology.kubernetes.io/zone=b
            pod shop/b as g.4xlarge in a (on-demand): node selector topology.kubernetes.io/zone=b"]],
    );
}

#[test]
fn pods_that_must_be_apart_are_not_together() {
    rejected(
        |snapshot, _| {
            for pod in &mut snapshot.pods {
                let pod = Arc::make_mut(pod);
                pod.labels = labels_of(&[("app", "web")]);
                pod.pod_anti_affinity = vec![near("web", "kubernetes.io/hostname")];
            }
        },
        &expect![[r"
            pod shop/a may share its kubernetes.io/hostname with shop/b
            pod shop/b may share its kubernetes.io/hostname with shop/a"]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two that share no code agree on one pod and one node, both ways.
    #[test]
    fn a_pod_passes_on_exactly_the_nodes_where_the_solver_would_put_it(snapshot in some_snapshot()) {
        let mut alone = snapshot.clone();
        alone.pools.clear();
        for node in &mut alone.nodes {
            // Demands among pods are compared with every order of binding instead.
            for pod in &mut node.pods {
                Arc::make_mut(pod).pod_anti_affinity.clear();
            }
        }
        for pod in snapshot.pods.iter().take(8) {
            for node in &snapshot.nodes {
                let mut bound_for_it = Pod::clone(pod);
                bound_for_it.pod_affinity.clear();
                bound_for_it.pod_anti_affinity.clear();
                alone.pods = vec![Arc::new(bound_for_it)];
                let target = Target::Existing(node.key.clone());
                let placement = Placement { node: target.clone(), why: PlacementReason::RoomOnReadyNode, turn: 0 };
                let plan = Solution { placed: [(pod.key.clone(), placement)].into(), ..Solution::default() };
                let mut only = alone.clone();
                only.nodes.retain(|one| one.key == node.key);
                let solved = solve(&only, &Settings::default());
                let fits = solved.placed.get(&pod.key).is_some_and(|placement| placement.node == target);
                let violations = check(&alone, &plan);
                prop_assert_eq!(violations.is_empty(), fits, "{} on {}: {:?}", pod.key, node.key, violations);
            }
        }
    }
}
