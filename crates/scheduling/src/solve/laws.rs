//! What holds for every snapshot.

use std::sync::Arc;

use proptest::prelude::*;

use super::solve;
use crate::{Pod, Settings, Snapshot, testing::*};

/// A snapshot, and the same with its lists in another order.
fn some_shuffled_snapshot() -> impl Strategy<Value = (Snapshot, Snapshot)> {
    some_related_snapshot().prop_flat_map(|snapshot| {
        let lists = (
            Just(snapshot.pods.clone()).prop_shuffle(),
            Just(snapshot.nodes.clone()).prop_shuffle(),
            Just(snapshot.daemons.clone()).prop_shuffle(),
            Just(snapshot.pools.clone()).prop_shuffle(),
        );
        let shuffled = lists.prop_map({
            let snapshot = snapshot.clone();
            move |(pods, nodes, daemons, pools)| Snapshot { pods, nodes, pools, daemons, ..snapshot.clone() }
        });
        (Just(snapshot), shuffled)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn every_solution_passes_the_checker(snapshot in some_related_snapshot()) {
        let solution = solve(&snapshot, &Settings::default());
        prop_assert_eq!(broken(&snapshot, &solution), []);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(snapshot in some_related_snapshot()) {
        let mut reversed = snapshot.clone();
        reversed.pods.reverse();
        reversed.nodes.reverse();
        reversed.nodes.iter_mut().for_each(|node| node.pods.reverse());
        reversed.daemons.reverse();
        reversed.pools.reverse();
        for pool in &mut reversed.pools {
            let mut machines = pool.instance_types.to_vec();
            machines.reverse();
            for machine in &mut machines {
                machine.offerings.reverse();
            }
            pool.instance_types = Arc::from(machines);
        }
        let bytes = |snapshot| serde_json::to_string(&solve(snapshot, &Settings::default())).unwrap();
        prop_assert_eq!(bytes(&snapshot), bytes(&reversed));
    }

    #[test]
    fn no_order_of_the_input_matters((snapshot, shuffled) in some_shuffled_snapshot()) {
        let bytes = |snapshot| serde_json::to_string(&solve(snapshot, &Settings::default())).unwrap();
        prop_assert_eq!(bytes(&snapshot), bytes(&shuffled));
    }

    #[test]
    fn every_pod_placed_keeps_its_place_when_only_few_alternatives_are_kept(snapshot in some_related_snapshot()) {
        let few = Settings { max_alternatives: 1, ..Settings::default() };
        let (many, few) = (solve(&snapshot, &Settings::default()), solve(&snapshot, &few));
        prop_assert_eq!(broken(&snapshot, &few), []);
        prop_assert_eq!(many.placed, few.placed);
        prop_assert_eq!(many.cost, few.cost);
    }

    #[test]
    fn a_pod_is_never_refused_by_an_empty_node_it_fits_on(snapshot in some_snapshot()) {
        let mut roomy = snapshot.clone();
        let mut empty = node("zz-empty", 1_000_000);
        empty.allocatable = resources(1_000_000, 10_000, 1000);
        roomy.nodes.push(empty);
        let solution = solve(&roomy, &Settings::default());
        let plain = |pod: &&Arc<Pod>| {
            pod.required_node_affinity.is_empty() && pod.volume_zones.is_empty() && pod.host_ports.is_empty()
                && pod.pod_affinity.is_empty() && pod.pod_anti_affinity.is_empty()
        };
        let bound = snapshot.nodes.iter().flat_map(|node| &node.pods);
        let repelled = bound.chain(&snapshot.pods).any(|pod| !pod.pod_anti_affinity.is_empty());
        for pod in roomy.pods.iter().filter(plain) {
            prop_assert!(repelled || solution.placed.contains_key(&pod.key), "{}", pod.key);
        }
    }
}
