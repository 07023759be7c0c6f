//! What the solver plans for small problems, against every plan there is.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::select};
use requirements::labels;

use super::orders::spread_over;
use crate::{Pod, Settings, Snapshot, check::check, solve, solve_greedy, testing::*};

/// Plans looked at for one problem.
const BUDGET: u32 = 3000;

fn some_small_pod() -> impl Strategy<Value = Pod> {
    let zone = prop::option::weighted(0.2, select(vec!["a", "b"]));
    let app = || select(vec!["web", "db"]);
    (select(vec![500i64, 1500, 1900, 3000]), 0i64..9, zone, app(), app(), 0..6u8).prop_map(
        |(cpu, gib, zone, own, other, relation)| {
            let mut pod = pod("", cpu, gib);
            pod.labels = labels_of(&[("app", own)]);
            pod.node_selector = zone.iter().map(|zone| (labels::ZONE.to_owned(), (*zone).to_owned())).collect();
            match relation {
                0 => pod.topology_spread = vec![spread_over(labels::ZONE, own, 1)],
                1 => pod.pod_anti_affinity = vec![near(other, labels::HOSTNAME)],
                2 => pod.pod_affinity = vec![near(other, labels::ZONE)],
                _ => {}
            }
            pod
        },
    )
}

/// Up to four pods, one node, and a pool of two machines.
fn some_small_problem() -> impl Strategy<Value = Snapshot> {
    (vec(some_small_pod(), 1..5), any::<bool>()).prop_map(|(pods, is_there)| {
        let mut pool = pool("p");
        pool.instance_types = Arc::from([machine("m.large", "amd64", 2), machine("m.xlarge", "amd64", 4)]);
        let named = |(index, mut pod): (usize, Pod)| {
            pod.key.name = format!("p{index}");
            pod
        };
        let nodes = is_there.then(|| node("there", 2000)).into_iter().collect();
        snapshot(pods.into_iter().enumerate().map(named).collect(), nodes, vec![pool])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_plan_is_better_than_the_best(snapshot in some_small_problem()) {
        let Some(best) = best(&snapshot, BUDGET) else { return Err(TestCaseError::reject("too large")) };
        for plan in [solve(&snapshot, &Settings::default()), solve_greedy(&snapshot, &Settings::default())] {
            prop_assert_eq!(check(&snapshot, &plan), []);
            prop_assert!(plan.placed.len() <= best.placed, "{:?} {:?}", best, plan);
            prop_assert!(plan.placed.len() < best.placed || plan.cost >= best.cost, "{:?} {:?}", best, plan);
        }
    }

    #[test]
    fn pods_without_demands_on_each_other_are_all_placed_that_can_be(mut snapshot in some_small_problem()) {
        for pod in &mut snapshot.pods {
            let pod = Arc::make_mut(pod);
            pod.topology_spread.clear();
            pod.pod_affinity.clear();
            pod.pod_anti_affinity.clear();
        }
        let Some(best) = best(&snapshot, BUDGET) else { return Err(TestCaseError::reject("too large")) };
        prop_assert_eq!(solve(&snapshot, &Settings::default()).placed.len(), best.placed);
        prop_assert_eq!(solve_greedy(&snapshot, &Settings::default()).placed.len(), best.placed);
    }
}
