//! What the scheduler does, told by small clusters.

mod filters;
mod laws;
mod nominated;
mod scores;

use std::collections::BTreeMap;

use units::ResourceList;

use super::*;
use crate::{Pod, testing::*};

/// Where the scheduler puts each pod: `pod=node`, `pod=-` for nowhere.
fn outcome(pods: Vec<Pod>, nodes: Vec<Node>, nominated: &[(&str, &str)], seed: u64) -> String {
    let names: Vec<PodKey> = pods.iter().map(|pod| pod.key.clone()).collect();
    let nominated = nominated
        .iter()
        .map(|(pod, node)| (PodKey::new("shop", *pod), Target::Existing(NodeKey((*node).to_owned()))))
        .collect();
    let snapshot = snapshot(pods, nodes, Vec::new());
    let placed = realise_nominated(&snapshot, &Solution::default(), &nominated, Opening::Together, seed).placed;
    let told = names.iter().map(|key| match placed.get(key) {
        Some(Target::Existing(node)) => format!("{}={node}", key.name),
        Some(Target::New(index)) => format!("{}=new {index}", key.name),
        None => format!("{}=-", key.name),
    });
    told.collect::<Vec<_>>().join(" ")
}

/// As [`outcome`], and the same whatever the dice say.
fn always(pods: &[Pod], nodes: &[Node], nominated: &[(&str, &str)], expected: &str) {
    for seed in 0..8 {
        assert_eq!(outcome(pods.to_vec(), nodes.to_vec(), nominated, seed), expected, "seed {seed}");
    }
}

fn aged(mut pod: Pod, created: i64) -> Pod {
    pod.created_at_unix_seconds = created;
    pod
}

fn labelled(mut pod: Pod, app: &str) -> Pod {
    pod.labels = labels_of(&[("app", app)]);
    pod
}

fn holding(mut node: Node, pod: Pod) -> Node {
    node.pods.push(Arc::new(pod));
    node
}

/// Two nodes of which anything that fits goes to `a`: it is larger.
fn large_and_small() -> [Node; 2] {
    [node("a", 8000), node("b", 2000)]
}

/// Two machines of four cpus: one for a pod that needs all of it, one for four small pods that are older.
fn tight_plan() -> (Snapshot, Solution) {
    let small = (0..4).map(|number| aged(pod(&format!("small-{number}"), 950, 1), 1));
    let pods: Vec<Pod> = small.chain([aged(pod("whole", 3900, 1), 2)]).collect();
    let mut pool = pool("p");
    pool.instance_types = Arc::from([machine("m.xlarge", "amd64", 4)]);
    let snapshot = snapshot(pods, Vec::new(), vec![pool]);
    let solution = solve_greedy(&snapshot, &Settings::default());
    (snapshot, solution)
}

#[test]
fn the_story_of_a_stranded_pod() {
    let (snapshot, solution) = tight_plan();
    assert_eq!(solution.new_nodes.len(), 2, "the plan is tight");
    let free = realise(&snapshot, &solution, 0);
    assert_eq!(free.stranded, [PodKey::new("shop", "whole")], "the small pods came first and spread");
    assert_eq!((free.second_nodes, free.unplaced), (1, Vec::new()));
    // A third machine of four cpus, on spot at 0.02 $ per cpu.
    assert_eq!(free.planned_cost, UsdMicrosPerHour(160_000));
    assert_eq!(free.realised_cost, UsdMicrosPerHour(240_000));
}

#[test]
fn nominations_keep_the_room_of_the_stranded_pod() {
    let (snapshot, solution) = tight_plan();
    let all = nominations(&snapshot, &solution);
    assert_eq!(all.len(), 5);
    for (seed, opening) in (0..8).flat_map(|seed| [(seed, Opening::Together), (seed, Opening::OneByOne)]) {
        let realised = realise_nominated(&snapshot, &solution, &all, opening, seed);
        assert_eq!((realised.stranded, realised.second_nodes), (Vec::new(), 0));
        assert_eq!(realised.realised_cost, realised.planned_cost);
        assert_eq!(realised.placed, all, "everything is where it was planned");
    }
}

#[test]
fn nobody_is_nominated_for_a_node_that_takes_pods() {
    for (stage, expected) in [(NodeStage::Ready, 0), (NodeStage::InFlight, 1)] {
        let there = Node { stage, ..node("n", 1000) };
        let snapshot = snapshot(vec![pod("p", 500, 1)], vec![there], Vec::new());
        let solution = solve_greedy(&snapshot, &Settings::default());
        assert_eq!(solution.placed.len(), 1);
        assert_eq!(nominations(&snapshot, &solution).len(), expected, "{stage:?}");
    }
}

#[test]
fn nodes_that_open_one_by_one_are_filled_one_by_one() {
    // The old pods fill whichever machine opens first, and leave the other to the pod that needs all of it.
    let (snapshot, solution) = tight_plan();
    let apart = realise_nominated(&snapshot, &solution, &BTreeMap::new(), Opening::OneByOne, 0);
    assert_eq!(apart.stranded, []);
    // A node that is ready takes pods before any machine opens, one in flight does not.
    let mut with_node = snapshot;
    for (stage, expected) in [(NodeStage::Ready, 1), (NodeStage::Leaving, 0)] {
        with_node.nodes = vec![Node { stage, ..node("n", 4000) }];
        let placed = realise_nominated(&with_node, &solution, &BTreeMap::new(), Opening::OneByOne, 0).placed;
        let there = placed.values().filter(|target| matches!(target, Target::Existing(_))).count();
        assert_eq!(there.min(1), expected, "{stage:?}");
    }
}

#[test]
fn machines_boot_in_any_order() {
    let starting = |name: &str| Node { stage: NodeStage::InFlight, ..node(name, 2000) };
    let boots = snapshot(vec![pod("p", 500, 1)], vec![starting("a"), starting("b")], Vec::new());
    let played =
        |seed| realise_nominated(&boots, &Solution::default(), &BTreeMap::new(), Opening::OneByOne, seed).placed;
    let first: BTreeSet<Target> = (0..16).flat_map(|seed| played(seed).into_values()).collect();
    assert_eq!(first.len(), 2);
}

#[test]
fn the_second_plan_knows_what_the_first_has_taken() {
    // The two machines have eight cpus together; no third is within the limit.
    let (mut limited, solution) = tight_plan();
    limited.pools[0].limits = Some(resources(8000, 1000, 1000));
    let realised = realise(&limited, &solution, 0);
    assert_eq!(realised.unplaced, [PodKey::new("shop", "whole")]);
    assert_eq!(realised.realised_cost, realised.planned_cost);
    // Nor a third node, where nodes are counted.
    limited.pools[0].limits = Some(ResourceList::new().with("nodes".into(), Amount(2)));
    assert_eq!(realise(&limited, &solution, 0).unplaced.len(), 1);
    limited.pools[0].used = ResourceList::new().with("nodes".into(), Amount(0));
    assert_eq!(realise(&limited, &solution, 0).unplaced.len(), 1);
    limited.pools[0].limits = Some(ResourceList::new().with("nodes".into(), Amount(3)));
    assert_eq!(realise(&limited, &solution, 0).unplaced.len(), 0);
}

#[test]
fn the_second_plan_finds_the_nodes_there_are_as_the_first_wave_left_them() {
    let (mut snapshot, _) = tight_plan();
    snapshot.nodes = vec![node("n", 3900)];
    let solution = solve_greedy(&snapshot, &Settings::default());
    assert_eq!(solution.new_nodes.len(), 1, "the pod that needs all of it is planned on the node there is");
    assert_eq!(realise(&snapshot, &solution, 0).second_nodes, 1);
}

#[test]
fn pods_without_a_place_in_the_plan_come_too_but_are_not_stranded() {
    let (mut snapshot, solution) = tight_plan();
    let oldest = Pod { priority: 1, ..pod("other", 3900, 1) };
    snapshot.pods.push(Arc::new(oldest));
    let realised = realise(&snapshot, &solution, 0);
    assert!(realised.placed.contains_key(&PodKey::new("shop", "other")));
    assert_eq!(realised.stranded, [PodKey::new("shop", "whole")]);
}
