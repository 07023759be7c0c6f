use proptest::prelude::*;
use requirements::labels;
use units::ResourceList;

use super::*;
use crate::{
    NewNode, NodeInclusion, Placement, PlacementReason, TopologySpread, Unfit, WhenUnsatisfiable,
    check::{Violation, check},
};

/// The realised placement as a solution that the checker can read: every new node as its cheapest offering.
fn as_solution(snapshot: &Snapshot, solution: &Solution, realised: &Realised) -> Solution {
    let world = World::of(snapshot, solution);
    let daemons = |index| {
        world
            .sites
            .iter()
            .filter(move |site| site.target == Target::New(index))
            .flat_map(|site| site.bound.iter().copied())
    };
    let mut kept: Vec<NewNode> = Vec::new();
    let mut index_of = BTreeMap::new();
    for (index, planned) in solution.new_nodes.iter().enumerate() {
        let here = |(key, target): (&PodKey, &Target)| (*target == Target::New(index)).then(|| key.clone());
        let pods: Vec<PodKey> = realised.placed.iter().filter_map(here).collect();
        if pods.is_empty() {
            continue;
        }
        let (_, machine) = world::cheapest(snapshot, planned).expect("the solver plans what is offered");
        let mut requests = ResourceList::new();
        let mine = snapshot.pods.iter().filter(|pod| pods.contains(&pod.key));
        mine.map(Arc::as_ref).chain(daemons(index)).for_each(|pod| requests.add(&pod.requests));
        let mut node = NewNode { capacity: machine.capacity.clone(), pods, requests, ..planned.clone() };
        node.offerings.truncate(1);
        index_of.insert(index, kept.len());
        kept.push(node);
    }
    let placed = realised.placed.iter().map(|(key, target)| {
        let node = match target {
            Target::New(index) => Target::New(index_of[index]),
            Target::Existing(_) => target.clone(),
        };
        (key.clone(), Placement { node, why: PlacementReason::RoomOnNewNode, turn: 0 })
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

/// Some snapshot in which some pods spread, softly or not.
fn some_spreading_snapshot() -> impl Strategy<Value = Snapshot> {
    let key = prop::sample::select(vec![labels::HOSTNAME, labels::ZONE, "team"]);
    let policies = (any::<bool>(), any::<bool>(), any::<bool>());
    let spread = (key, 1u32..3, prop::option::of(1u32..4), policies).prop_map(
        |(key, max_skew, min_domains, (soft, affinity, taints))| {
            let policy = |looks: bool| if looks { NodeInclusion::Honor } else { NodeInclusion::Ignore };
            TopologySpread {
                max_skew,
                topology_key: key.to_owned(),
                when_unsatisfiable: if soft {
                    WhenUnsatisfiable::ScheduleAnyway
                } else {
                    WhenUnsatisfiable::DoNotSchedule
                },
                selector: near("web", key).selector,
                // Only a demand may have it.
                min_domains: min_domains.filter(|_| !soft),
                node_affinity_policy: policy(affinity),
                node_taints_policy: policy(taints),
                match_label_keys: Vec::new(),
            }
        },
    );
    (some_snapshot(), prop::collection::vec(prop::option::weighted(0.4, spread), 25)).prop_map(
        |(mut snapshot, spreads)| {
            for (pod, spread) in snapshot.pods.iter_mut().zip(spreads) {
                Arc::make_mut(pod).topology_spread.extend(spread);
            }
            // The scheduler sees daemons and the pods of leaving nodes as others; the checker does not rely on their being there.
            for daemon in &mut snapshot.daemons {
                Arc::make_mut(daemon).labels.clear();
            }
            for node in snapshot.nodes.iter_mut().filter(|node| node.stage == NodeStage::Leaving) {
                node.pods.clear();
            }
            // Nor on who was told to go; to the scheduler it is company until it is gone.
            for pod in snapshot.nodes.iter_mut().flat_map(|node| &mut node.pods) {
                Arc::make_mut(pod).terminating = false;
            }
            snapshot
        },
    )
}

/// What the checker holds against a placement that the scheduler may well make: it spreads pods over the domains that pools
/// could add too, the scheduler over those of the nodes there are; and fewer alternatives are left when one is bought.
fn is_of_the_plan_alone(violation: &Violation) -> bool {
    matches!(violation, Violation::Uneven { .. } | Violation::TooFewValues { .. })
}

fn without_spreads(snapshot: &Snapshot) -> Snapshot {
    let without = |pod: &Arc<Pod>| Arc::new(Pod { topology_spread: Vec::new(), ..(**pod).clone() });
    Snapshot { pods: snapshot.pods.iter().map(without).collect(), ..snapshot.clone() }
}

fn openings() -> impl Strategy<Value = Opening> {
    prop::sample::select(vec![Opening::Together, Opening::OneByOne])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_scheduler_never_breaks_what_the_checker_checks(snapshot in some_spreading_snapshot(), seed in 0u64..4, all in any::<bool>(), opening in openings()) {
        let solution = solve_greedy(&snapshot, &Settings::default());
        let nominated = if all { nominations(&snapshot, &solution) } else { BTreeMap::new() };
        let realised = realise_nominated(&snapshot, &solution, &nominated, opening, seed);
        let placed = as_solution(&snapshot, &solution, &realised);
        let mut violations = check(&snapshot, &placed);
        // Where the checker's spreads leave no order, it tells those whom its first attempt left over, whatever kept them: who is near
        // whom is asked without spreads.
        violations.retain(|violation| !matches!(violation, Violation::NotNear { .. }));
        violations.extend(check(&without_spreads(&snapshot), &placed));
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
        let planned = solution.placed.iter();
        let nominated: BTreeMap<_, _> = planned.map(|(pod, there)| (pod.clone(), there.node.clone())).collect();
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
