//! What the solver plans for small problems, against every plan there is.

use std::{collections::BTreeSet, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::select};
use requirements::labels;

use super::orders::{some_relations, spread_over};
use crate::{
    Node, NodeStage, Pod, PodAffinityTerm, Settings, Snapshot, Solution, check::check, solve, solve_greedy, testing::*,
};

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
/// A node that may come to be in another zone does not hold back pods that could not follow it there.
#[test]
fn only_what_suits_a_pod_counts_for_its_spread() {
    let mut pool = pool("p");
    pool.instance_types = Arc::from([machine("m.large", "amd64", 2), machine("m.xlarge", "amd64", 4)]);
    let mut pods = vec![pod("any", 1500, 0), pod("spread-0", 1500, 1), pod("spread-1", 500, 0)];
    for pod in &mut pods[1..] {
        pod.labels = labels_of(&[("app", "db")]);
        pod.topology_spread = vec![spread_over(labels::ZONE, "db", 1)];
    }
    pods[2].node_selector = labels_of(&[(labels::ZONE, "a")]);
    let snapshot = snapshot(pods, vec![node("there", 2000)], vec![pool]);
    let plan = solve(&snapshot, &Settings::default());
    let zones = plan.new_nodes[0].offerings.iter().map(|offering| offering.key.zone.as_str());
    assert_eq!(zones.collect::<BTreeSet<_>>(), ["a", "b"].into());
    assert_eq!(plan.placed.len(), 3);
    assert_eq!(check(&snapshot, &plan), []);
}

/// Up to a dozen pods of a few kinds that demand all sorts of each other, on nodes there are and new ones.
fn some_related_problem() -> impl Strategy<Value = Snapshot> {
    let kinds = vec(some_relations(), 1..4);
    let pods = vec((any::<prop::sample::Index>(), select(vec![0i64, 500, 1900, 3000]), any::<bool>()), 1..13);
    let nodes = vec((select(vec!["a", "b", "c"]), select(vec!["1", "2"]), any::<bool>()), 0..4);
    (kinds, pods, nodes).prop_map(|(kinds, pods, nodes)| {
        let mut pool = pool("p");
        pool.labels = labels_of(&[("rack", "1")]);
        let (mut waiting, mut bound) = (Vec::new(), Vec::new());
        for (index, (kind, cpu, is_bound)) in pods.into_iter().enumerate() {
            let mut pod = kinds[kind.index(kinds.len())].clone();
            pod.key.name = format!("p{index}");
            // With several terms the solver asks for a pod for each, the kube-scheduler for one that all are about.
            pod.pod_affinity.truncate(1);
            pod.requests = resources(cpu, 0, 1);
            if is_bound { bound.push(pod) } else { waiting.push(pod) }
        }
        let mut nodes: Vec<Node> = nodes
            .into_iter()
            .enumerate()
            .map(|(index, (zone, rack, leaves))| {
                let mut node = node(&format!("n{index}"), 4000);
                node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
                node.labels.insert("rack".to_owned(), rack.to_owned());
                node.stage = if leaves { NodeStage::Leaving } else { NodeStage::Ready };
                node
            })
            .collect();
        let count = nodes.len().max(1);
        for (index, pod) in bound.into_iter().enumerate() {
            match nodes.get_mut(index % count) {
                Some(node) => node.pods.push(Arc::new(pod)),
                None => waiting.push(pod),
            }
        }
        snapshot(waiting, nodes, vec![pool])
    })
}

/// What matters of it, to be read.
fn story(snapshot: &Snapshot, plan: &Solution) -> String {
    let mut said = vec![String::new()];
    let line = |pod: &Pod, place: &str| {
        let spreads = pod.topology_spread.iter().map(|one| {
            let app = one.selector.as_ref().and_then(|selector| selector.match_labels.get("app"));
            let (key, skew, least) = (&one.topology_key, one.max_skew, one.min_domains);
            format!("spread {app:?} over {key} by {skew} {least:?} {:?}", one.node_affinity_policy)
        });
        let terms = |what: &'static str, terms: &[PodAffinityTerm]| -> Vec<String> {
            let said = |term: &PodAffinityTerm| {
                let app = term.selector.as_ref().and_then(|selector| selector.match_labels.get("app"));
                format!("{what} {app:?} by {}", term.topology_key)
            };
            terms.iter().map(said).collect()
        };
        let (near, away) = (terms("near", &pod.pod_affinity), terms("away from", &pod.pod_anti_affinity));
        let all: Vec<String> = spreads.chain(near).chain(away).collect();
        format!("{} {:?} {:?} on {place}: {}", pod.key.name, pod.labels, pod.node_selector, all.join("; "))
    };
    for node in &snapshot.nodes {
        said.push(format!("node {} {:?} {:?}", node.key, node.stage, node.labels));
        said.extend(node.pods.iter().map(|pod| line(pod, &format!("{} already", node.key))));
    }
    for (index, node) in plan.new_nodes.iter().enumerate() {
        let keys = node.offerings.iter().map(|one| one.key.to_string());
        said.push(format!("new node {index}: {:?}", keys.collect::<Vec<_>>()));
    }
    for pod in &snapshot.pods {
        let place = plan.placed.get(&pod.key).map_or("nothing".to_owned(), |placement| placement.node.to_string());
        said.push(line(pod, &place));
    }
    said.extend(check(snapshot, plan).iter().map(|violation| format!("! {violation}")));
    said.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn plans_for_pods_that_demand_all_sorts_of_each_other_pass(snapshot in some_related_problem()) {
        for plan in [solve(&snapshot, &Settings::default()), solve_greedy(&snapshot, &Settings::default())] {
            prop_assert!(check(&snapshot, &plan).is_empty(), "{}", story(&snapshot, &plan));
        }
    }
}
