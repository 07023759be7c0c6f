use proptest::prelude::*;

use super::*;
use crate::{
    NewNode, Placement, PlacementReason, Unfit,
    check::{Violation, check},
};

/// The realised placement as a solution that the checker can read: every new node as its cheapest offering.
fn as_solution(snapshot: &Snapshot, solution: &Solution, realised: &Realised) -> Solution {
    let mut kept: Vec<NewNode> = Vec::new();
    let mut index_of = BTreeMap::new();
    for (index, planned) in solution.new_nodes.iter().enumerate() {
        let here = |(key, target): (&PodKey, &Target)| (*target == Target::New(index)).then(|| key.clone());
        let pods: Vec<PodKey> = realised.placed.iter().filter_map(here).collect();
        if pods.is_empty() {
            continue;
        }
        let (_, machine) = world::cheapest(snapshot, planned).expect("the solver plans what is offered");
        let mut node = NewNode { capacity: machine.capacity.clone(), pods, ..planned.clone() };
        node.offerings.truncate(1);
        node.requests = machine.capacity.clone();
        index_of.insert(index, kept.len());
        kept.push(node);
    }
    let placed = realised.placed.iter().map(|(key, target)| {
        let node = match target {
            Target::New(index) => Target::New(index_of[index]),
            Target::Existing(_) => target.clone(),
        };
        (key.clone(), Placement { node, why: PlacementReason::RoomOnNewNode })
    });
    let placed: BTreeMap<_, _> = placed.collect();
    let waiting = snapshot.pods.iter().map(|pod| &pod.key).filter(|key| !placed.contains_key(*key));
    Solution {
        unplaced: waiting.map(|key| (key.clone(), vec![Unfit::NotTried])).collect(),
        cost: kept.iter().map(|node| node.price).sum(),
        placed,
        new_nodes: kept,
        ..Solution::default()
    }
}

/// What the checker holds against a placement that the scheduler may well make: it wants pods near each other in the end,
/// the scheduler when each is placed; and fewer alternatives are left when one offering is bought.
fn is_of_the_plan_alone(violation: &Violation) -> bool {
    matches!(violation, Violation::NotNear { .. } | Violation::TooFewValues { .. })
}

fn openings() -> impl Strategy<Value = Opening> {
    prop::sample::select(vec![Opening::Together, Opening::OneByOne])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_scheduler_never_breaks_what_the_checker_checks(snapshot in some_snapshot(), seed in 0u64..4, all in any::<bool>(), opening in openings()) {
        let solution = solve_greedy(&snapshot, &Settings::default());
        let nominated = if all { nominations(&snapshot, &solution) } else { BTreeMap::new() };
        let realised = realise_nominated(&snapshot, &solution, &nominated, opening, seed);
        let mut violations = check(&snapshot, &as_solution(&snapshot, &solution, &realised));
        violations.retain(|violation| !is_of_the_plan_alone(violation));
        prop_assert_eq!(violations, []);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(snapshot in some_snapshot(), seed in any::<u64>()) {
        let solution = solve_greedy(&snapshot, &Settings::default());
        let mut reversed = snapshot.clone();
        reversed.pods.reverse();
        reversed.nodes.reverse();
        reversed.daemons.reverse();
        reversed.pools.reverse();
        for node in &mut reversed.nodes {
            node.pods.reverse();
        }
        let bytes = |snapshot| serde_json::to_string(&realise(snapshot, &solution, seed)).unwrap();
        prop_assert_eq!(bytes(&snapshot), bytes(&reversed));
    }

    #[test]
    fn nothing_is_stranded_when_every_pod_is_nominated(snapshot in some_snapshot(), seed in 0u64..4, opening in openings()) {
        // What pods want of each other depends on who comes first; all else is kept for each.
        let mut snapshot = snapshot;
        let alone = |pod: &Arc<Pod>| {
            let (near, away) = (Vec::new(), Vec::new());
            Arc::new(Pod { pod_affinity: near, pod_anti_affinity: away, ..(**pod).clone() })
        };
        snapshot.pods = snapshot.pods.iter().map(alone).collect();
        for node in &mut snapshot.nodes {
            node.pods = node.pods.iter().map(alone).collect();
        }
        let solution = solve_greedy(&snapshot, &Settings::default());
        let nominated = nominations(&snapshot, &solution);
        let realised = realise_nominated(&snapshot, &solution, &nominated, opening, seed);
        prop_assert_eq!(&realised.stranded, &Vec::new());
        prop_assert_eq!(realised.realised_cost, solution.cost);
        // What waits for a later node may be placed on what is left over of an earlier one.
        if opening == Opening::Together {
            for (pod, target) in &nominated {
                prop_assert_eq!(realised.placed.get(pod), Some(target));
            }
        }
    }

    #[test]
    fn every_planned_pod_is_placed_or_stranded(snapshot in some_snapshot(), seed in any::<u64>()) {
        let solution = solve_greedy(&snapshot, &Settings::default());
        let realised = realise(&snapshot, &solution, seed);
        for pod in solution.placed.keys() {
            prop_assert!(realised.placed.contains_key(pod) != realised.stranded.contains(pod));
        }
        prop_assert!(realised.realised_cost >= realised.planned_cost);
    }
}
