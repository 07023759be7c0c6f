//! Which plan is carried out: the first one that the independent checker finds nothing wrong with. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use scheduling::{PodKey, Settings, Snapshot, Solution, Target, Unfit, check, check::Violation};
use serde::Serialize;

/// A way to make a plan.
#[derive(Clone, Copy, Debug)]
pub struct Planner {
    /// For logs and the names of files.
    pub name: &'static str,
    /// Makes it, with the best found so far once the guard says that it is time.
    pub plan: fn(&Snapshot, &Settings, &dyn Fn() -> bool) -> Solution,
}

/// The cost optimiser, the plain rule to fall back to, and the same for the pods that it is right about.
pub const PLANNERS: [Planner; 3] = [
    Planner { name: "optimiser", plan: scheduling::solve_within },
    Planner { name: "greedy", plan: |snapshot, settings, _| scheduling::solve_greedy(snapshot, settings) },
    Planner {
        name: "greedy without some",
        plan: |snapshot, settings, _| without_suspects(snapshot, settings, scheduling::solve_greedy),
    },
];

/// How often pods are left out. Each time the plan for the others is another one and may be wrong about other pods.
const ROUNDS: usize = 8;

/// A plan without the pods that the checker holds against it, so that one pod does not stop all others.
fn without_suspects(snapshot: &Snapshot, settings: &Settings, plan: fn(&Snapshot, &Settings) -> Solution) -> Solution {
    let mut rest = snapshot.clone();
    let mut left_out: BTreeMap<PodKey, String> = BTreeMap::new();
    let mut solution = plan(&rest, settings);
    for _ in 0..ROUNDS {
        let violations = check::check(&rest, &solution);
        let before = left_out.len();
        left_out.extend(suspects(&rest, &solution, &violations));
        if left_out.len() == before {
            break;
        }
        rest.pods.retain(|pod| !left_out.contains_key(&pod.key));
        solution = plan(&rest, settings);
    }
    let refused = |wrong: String| vec![Unfit::NotSupportedYet { what: format!("no sound plan was found: {wrong}") }];
    solution.unplaced.extend(left_out.into_iter().map(|(pod, wrong)| (pod, refused(wrong))));
    solution
}

/// The pods to plan whose absence may mend the plan, each with what is wrong: those whose promise is broken, and the
/// counterparts of pods that are on a node already. If no violation is about a pod, those on the nodes that are wrong.
fn suspects(snapshot: &Snapshot, solution: &Solution, violations: &[Violation]) -> BTreeMap<PodKey, String> {
    let planned: BTreeSet<&PodKey> = snapshot.pods.iter().map(|pod| &pod.key).collect();
    let beside = |node: Option<Target>| {
        let there = solution.placed.iter().filter(move |(_, placement)| node.as_ref() == Some(&placement.node));
        there.map(|(pod, _)| pod.clone()).filter(|pod| planned.contains(pod)).collect::<Vec<_>>()
    };
    let home = |pod: &PodKey| {
        let node = snapshot.nodes.iter().find(|node| node.pods.iter().any(|one| one.key == *pod));
        node.map(|node| Target::Existing(node.key.clone()))
    };
    let mut found = BTreeMap::new();
    for wrong in violations {
        let Some(whose) = wrong.pod() else { continue };
        let pods = match wrong.pods().into_iter().find(|pod| planned.contains(pod)) {
            Some(pod) => vec![pod.clone()],
            None => beside(wrong.node().or_else(|| home(whose))),
        };
        found.extend(pods.into_iter().map(|pod| (pod, wrong.to_string())));
    }
    if found.is_empty() {
        for wrong in violations {
            found.extend(beside(wrong.node()).into_iter().map(|pod| (pod, wrong.to_string())));
        }
    }
    found
}

/// A plan that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Who made it.
    pub planner: &'static str,
    /// The plan; none if its maker panicked.
    pub solution: Option<Solution>,
    /// The promises it breaks.
    pub violations: Vec<Violation>,
}

/// What became of the planners' work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The plan to carry out, with its maker; none if every one was rejected.
    pub accepted: Option<(&'static str, Solution)>,
    /// Plans that were tried before it.
    pub rejected: Vec<Rejected>,
}

/// Asks the planners in turn until the checker accepts a plan. `stop` is the guard against a machine so slow that the
/// planners' budgets of work take too long.
pub fn choose(snapshot: &Snapshot, settings: &Settings, planners: &[Planner], stop: &dyn Fn() -> bool) -> Choice {
    let mut choice = Choice::default();
    for planner in planners {
        // A planner is a function of values: what it leaves behind when it panics is nothing.
        let planned = catch_unwind(AssertUnwindSafe(|| {
            let solution = (planner.plan)(snapshot, settings, stop);
            let violations = check::check(snapshot, &solution);
            (solution, violations)
        }));
        match planned {
            Ok((solution, violations)) if violations.is_empty() => {
                choice.accepted = Some((planner.name, solution));
                break;
            }
            Ok((solution, violations)) => {
                choice.rejected.push(Rejected { planner: planner.name, solution: Some(solution), violations });
            }
            Err(_) => {
                choice.rejected.push(Rejected { planner: planner.name, solution: None, violations: Vec::new() });
            }
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cloud::catalogue::{GENERIC_ZONES, generic_types};
    use scheduling::{Node, NodeKey, NodeStage, Placement, PlacementReason, Pod, Pool, PoolKey, PoolKind};
    use serde_json::json;

    use super::*;

    /// Two pods of one core each, and a pool that can buy anything.
    fn snapshot() -> Snapshot {
        let pod = |name: &str| -> Arc<Pod> {
            let pod = json!({ "metadata": { "name": name, "namespace": "d", "uid": name },
                "spec": { "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }] } });
            Arc::new(api::convert::pod(&serde_json::from_value(pod).unwrap()))
        };
        let mut pool: Pool =
            serde_json::from_value(json!({ "key": PoolKey { kind: PoolKind::NodePool, name: "p".to_owned() } }))
                .unwrap();
        pool.instance_types = generic_types(&GENERIC_ZONES).into();
        Snapshot { pods: vec![pod("a"), pod("b")], pools: vec![pool], ..Snapshot::default() }
    }

    /// A plan that forgets one of its nodes.
    fn corrupt(snapshot: &Snapshot, settings: &Settings, _: &dyn Fn() -> bool) -> Solution {
        let mut solution = scheduling::solve_greedy(snapshot, settings);
        solution.new_nodes.pop();
        solution
    }

    fn broken(_: &Snapshot, _: &Settings, _: &dyn Fn() -> bool) -> Solution {
        panic!("on purpose")
    }

    fn choose(planners: &[Planner]) -> Choice {
        super::choose(&snapshot(), &Settings::default(), planners, &|| false)
    }

    fn check(first: fn(&Snapshot, &Settings, &dyn Fn() -> bool) -> Solution) -> Choice {
        choose(&[Planner { name: "first", plan: first }, PLANNERS[1]])
    }

    #[test]
    fn a_sound_plan_is_carried_out_and_no_other_is_made() {
        let choice = choose(&[PLANNERS[0], Planner { name: "b", plan: broken }]);
        assert_eq!(choice.accepted.unwrap().0, "optimiser");
        assert_eq!(choice.rejected, []);
    }

    #[test]
    fn a_corrupt_plan_is_not_carried_out_and_the_greedy_one_is() {
        let choice = check(corrupt);
        let (planner, solution) = choice.accepted.unwrap();
        assert_eq!((planner, solution.placed.len()), ("greedy", 2));
        let [rejected] = &choice.rejected[..] else { panic!("{:?}", choice.rejected) };
        assert_eq!(rejected.planner, "first");
        let lost = |violation: &Violation| matches!(violation, Violation::NoSuchNode { node: Target::New(_), .. });
        assert!(rejected.violations.iter().any(lost), "{:?}", rejected.violations);
    }

    #[test]
    fn a_planner_that_panics_is_passed_over() {
        let choice = check(broken);
        assert_eq!(choice.accepted.unwrap().0, "greedy");
        assert_eq!(choice.rejected[0].solution, None);
    }

    #[test]
    fn a_pod_that_no_plan_is_right_about_does_not_stop_the_others() {
        let wrong_about_a = |snapshot: &Snapshot, settings: &Settings| {
            let mut solution = scheduling::solve_greedy(snapshot, settings);
            solution.placed.remove(&PodKey::new("d", "a"));
            solution
        };
        let (snapshot, settings) = (snapshot(), Settings::default());
        let solution = without_suspects(&snapshot, &settings, wrong_about_a);
        assert_eq!(solution.placed.keys().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b"]);
        let reasons = &solution.unplaced[&PodKey::new("d", "a")];
        assert!(reasons[0].to_string().contains("no sound plan was found"), "{reasons:?}");
        assert_eq!(check::check(&snapshot, &solution), []);
    }

    /// A node with a pod that keeps others of its label away, beside the pods of [`snapshot`].
    fn beside_a_hermit() -> Snapshot {
        let hermit = json!({ "metadata": { "name": "hermit", "namespace": "d", "uid": "hermit" },
            "spec": { "nodeName": "n", "containers": [{ "name": "c" }], "affinity": { "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [{
                    "topologyKey": "kubernetes.io/hostname", "labelSelector": {} }] } } } });
        let node = json!({ "metadata": { "name": "n", "labels": { "kubernetes.io/hostname": "n" } },
            "status": { "allocatable": { "cpu": "64", "memory": "64Gi", "pods": "110" } } });
        let node = api::convert::node(&serde_json::from_value(node).unwrap());
        let hermit = Arc::new(api::convert::pod(&serde_json::from_value(hermit).unwrap()));
        let node = Node { stage: NodeStage::Ready, pods: vec![hermit], ..node };
        Snapshot { nodes: vec![node], ..snapshot() }
    }

    /// Puts `a` on the node `n`, whoever is there.
    fn a_on_n(snapshot: &Snapshot, settings: &Settings) -> Solution {
        let a = PodKey::new("d", "a");
        let others = snapshot.pods.iter().filter(|pod| pod.key != a).cloned().collect();
        let mut solution = scheduling::solve_greedy(&Snapshot { pods: others, ..snapshot.clone() }, settings);
        if snapshot.pods.iter().any(|pod| pod.key == a) {
            let node = Target::Existing(NodeKey("n".to_owned()));
            solution.placed.insert(a, Placement { node, why: PlacementReason::RoomOnReadyNode, turn: 0 });
        }
        solution
    }

    #[test]
    fn a_promise_to_a_pod_on_a_node_costs_only_those_planned_beside_it() {
        let (snapshot, settings) = (beside_a_hermit(), Settings::default());
        let wrong = check::check(&snapshot, &a_on_n(&snapshot, &settings));
        let hermit = PodKey::new("d", "hermit");
        assert!(wrong.iter().any(|one| one.pod() == Some(&hermit)), "{wrong:?}");
        let solution = without_suspects(&snapshot, &settings, a_on_n);
        assert_eq!(solution.placed.keys().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(solution.unplaced.keys().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(check::check(&snapshot, &solution), []);
    }

    #[test]
    fn a_node_that_is_too_full_costs_only_those_planned_on_it() {
        let mut snapshot = beside_a_hermit();
        snapshot.nodes[0].pods.clear();
        snapshot.nodes[0].allocatable = units::ResourceList::new();
        let solution = without_suspects(&snapshot, &Settings::default(), a_on_n);
        assert_eq!(solution.placed.keys().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(check::check(&snapshot, &solution), []);
    }

    #[test]
    fn without_a_sound_plan_nothing_is_carried_out() {
        let choice = choose(&[Planner { name: "a", plan: corrupt }, Planner { name: "b", plan: broken }]);
        assert_eq!((choice.accepted, choice.rejected.len()), (None, 2));
    }
}
