//! Which plan is carried out: the first one that the independent checker finds nothing wrong with. Pure.
//!
//! A batch begins with what the one before has left ([`Made`]). For the same question the answer is the same and is not
//! worked out again; for another one the search has the earlier plan to begin with. Either way the checker looks at the plan
//! with the snapshot of today, so an earlier plan can never be the reason for a promise that is broken.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use scheduling::{PodKey, Settings, Snapshot, Solution, Target, Unfit, check, check::Violation};

/// A way to make a plan.
#[derive(Clone, Copy, Debug)]
pub struct Planner {
    /// For logs and the names of files.
    pub name: &'static str,
    /// Makes it, with the best found so far once the guard says that it is time.
    pub plan: fn(&Question<'_>) -> Solution,
}

/// What a plan is made from.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// What there is, and what is wanted.
    pub snapshot: &'a Snapshot,
    /// How to plan.
    pub settings: &'a Settings,
    /// An earlier plan to begin with.
    pub earlier: Option<&'a Solution>,
    /// The guard against a machine so slow that the planners' budgets of work take too long.
    pub stop: &'a dyn Fn() -> bool,
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("sequence", &self.snapshot.sequence).finish_non_exhaustive()
    }
}

/// A plan that the checker accepted, with all it depends on.
#[derive(Clone, Debug)]
pub struct Made {
    /// What it was made from.
    pub snapshot: Snapshot,
    /// With which settings.
    pub settings: Settings,
    /// Who made it.
    pub planner: &'static str,
    /// The plan.
    pub solution: Solution,
    /// Whether the guard ended its making: another try may find a better one.
    pub broken_off: bool,
}

impl Made {
    /// Whether the plan is what would come of this question, too. The order of lists counts although it should not matter:
    /// then the question is worked out.
    fn answers(&self, snapshot: &Snapshot, settings: &Settings) -> bool {
        let Snapshot { sequence: _, pods, nodes, pools, daemons, namespace_labels } = snapshot;
        !self.broken_off
            && self.settings == *settings
            && (&self.snapshot.pods, &self.snapshot.nodes, &self.snapshot.pools) == (pods, nodes, pools)
            && (&self.snapshot.daemons, &self.snapshot.namespace_labels) == (daemons, namespace_labels)
    }
}

/// The cost optimiser, the plain rule to fall back to, and the same for the pods that it is right about.
pub const PLANNERS: [Planner; 3] = [
    Planner { name: "optimiser", plan: cheapest },
    Planner { name: "greedy", plan: |asked| scheduling::solve_greedy(asked.snapshot, asked.settings) },
    Planner {
        name: "greedy without some",
        plan: |asked| without_suspects(asked.snapshot, asked.settings, scheduling::solve_greedy),
    },
];

fn cheapest(asked: &Question<'_>) -> Solution {
    match asked.earlier {
        Some(earlier) => scheduling::solve_after(asked.snapshot, asked.settings, asked.stop, earlier),
        None => scheduling::solve_within(asked.snapshot, asked.settings, asked.stop),
    }
}

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The plan to carry out: one of `earlier` if it answers the same question, else the first of the planners' that the checker
/// accepts. Of the earlier plans the last one is what the search begins with.
pub fn choose(
    snapshot: &Snapshot,
    settings: &Settings,
    planners: &[Planner],
    earlier: &[Arc<Made>],
    stop: &dyn Fn() -> bool,
) -> Choice {
    let mut choice = Choice::default();
    let again = earlier.iter().find(|made| made.answers(snapshot, settings));
    if let Some(made) = again.filter(|made| check::check(snapshot, &made.solution).is_empty()) {
        choice.accepted = Some((made.planner, made.solution.clone()));
        return choice;
    }
    let question = Question { snapshot, settings, earlier: earlier.last().map(|made| &made.solution), stop };
    for planner in planners {
        // A planner is a function of values: what it leaves behind when it panics is nothing.
        let planned = catch_unwind(AssertUnwindSafe(|| {
            let solution = (planner.plan)(&question);
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
    fn corrupt(asked: &Question<'_>) -> Solution {
        let mut solution = scheduling::solve_greedy(asked.snapshot, asked.settings);
        solution.new_nodes.pop();
        solution
    }

    fn broken(_: &Question<'_>) -> Solution {
        panic!("on purpose")
    }

    fn choose(planners: &[Planner]) -> Choice {
        super::choose(&snapshot(), &Settings::default(), planners, &[], &|| false)
    }

    fn check(first: fn(&Question<'_>) -> Solution) -> Choice {
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

    /// A plan of a round before.
    fn made(snapshot: &Snapshot, solution: Solution) -> Arc<Made> {
        let (snapshot, settings) = (snapshot.clone(), Settings::default());
        Arc::new(Made { snapshot, settings, planner: "earlier", solution, broken_off: false })
    }

    /// What is carried out with that plan at hand, and who made it.
    fn after(made: Arc<Made>, snapshot: &Snapshot, planners: &[Planner]) -> Choice {
        super::choose(snapshot, &Settings::default(), planners, &[made], &|| false)
    }

    /// A plan that is sound and not what anybody else would make: every pod on a node of its own.
    fn apart(snapshot: &Snapshot) -> Solution {
        let mut solution = Solution::default();
        for (turn, pod) in snapshot.pods.iter().enumerate() {
            let alone = Snapshot { pods: vec![Arc::clone(pod)], ..snapshot.clone() };
            let plan = scheduling::solve_greedy(&alone, &Settings::default());
            let why = PlacementReason::OpensNode;
            solution.placed.insert(pod.key.clone(), Placement { node: Target::New(turn), why, turn });
            solution.new_nodes.extend(plan.new_nodes);
            solution.cost = solution.cost.saturating_add(plan.cost);
        }
        assert_eq!(check::check(snapshot, &solution), []);
        solution
    }

    #[test]
    fn the_same_question_in_a_later_round_gets_the_same_answer_and_asks_no_planner() {
        let before = snapshot();
        let now = Snapshot { sequence: before.sequence + 7, ..before.clone() };
        let nobody = [Planner { name: "nobody", plan: broken }];
        let choice = after(made(&before, apart(&before)), &now, &nobody);
        assert_eq!(choice.accepted, Some(("earlier", apart(&before))));
        assert_eq!(choice.rejected, []);
    }

    #[test]
    fn a_plan_that_was_broken_off_or_is_unsound_is_made_again() {
        let world = snapshot();
        let broken_off = Made { broken_off: true, ..(*made(&world, apart(&world))).clone() };
        let unsound = Solution { new_nodes: Vec::new(), ..apart(&world) };
        for one in [Arc::new(broken_off), made(&world, unsound)] {
            assert_eq!(after(one, &world, &PLANNERS).accepted.unwrap().0, "optimiser");
        }
    }

    #[test]
    fn nothing_that_has_changed_is_answered_with_the_earlier_plan() {
        type Change = fn(&mut Snapshot);
        let changes: [(&str, Change); 6] = [
            ("a pod is gone", |world| drop(world.pods.pop())),
            ("a pod has grown", |world| {
                let cpu = units::ResourceName::cpu();
                Arc::make_mut(&mut world.pods[0]).requests.set(cpu, units::Amount(3000));
            }),
            ("a node is there", |world| world.nodes = beside_a_hermit().nodes),
            ("the pool has a limit", |world| {
                let limit = units::ResourceList::new().with(units::ResourceName::cpu(), units::Amount(1));
                world.pools[0].limits = Some(limit);
            }),
            ("the cheapest is sold out", |world| {
                let cheapest = apart(&snapshot()).new_nodes[0].offerings[0].key.clone();
                let mut types = world.pools[0].instance_types.to_vec();
                for one in types.iter_mut().filter(|one| one.name == cheapest.instance_type) {
                    one.offerings.iter_mut().for_each(|offering| offering.available = false);
                }
                world.pools[0].instance_types = types.into();
            }),
            ("the pool is gone", |world| world.pools.clear()),
        ];
        for (what, change) in changes {
            let before = snapshot();
            let mut now = before.clone();
            change(&mut now);
            let choice = after(made(&before, apart(&before)), &now, &PLANNERS);
            let (planner, plan) = choice.accepted.unwrap();
            assert_eq!((planner, choice.rejected), ("optimiser", Vec::new()), "{what}");
            let anew = scheduling::solve(&now, &Settings::default());
            assert_eq!((plan.unplaced.len(), plan.cost), (anew.unplaced.len(), anew.cost), "{what}");
        }
    }

    #[test]
    fn without_a_sound_plan_nothing_is_carried_out() {
        let choice = choose(&[Planner { name: "a", plan: corrupt }, Planner { name: "b", plan: broken }]);
        assert_eq!((choice.accepted, choice.rejected.len()), (None, 2));
    }
}
