//! Two nodes of one hostname are one as far as pods tell.

use std::sync::Arc;

use requirements::labels;

use super::{solve, solve_greedy};
use crate::{Node, NodeStage, Pod, Settings, Snapshot, Solution, check::check, testing::*};

/// A node whose hostname is another one's.
fn twin(name: &str, stage: NodeStage, pods: Vec<Pod>) -> Node {
    let mut node = node(name, 4000);
    node.labels.insert(labels::HOSTNAME.to_owned(), "one".to_owned());
    node.stage = stage;
    node.pods = pods.into_iter().map(Arc::new).collect();
    node
}

fn web(name: &str) -> Pod {
    let mut pod = pod(name, 100, 1);
    pod.labels = labels_of(&[("app", "web")]);
    pod
}

fn apart(name: &str) -> Pod {
    Pod { pod_anti_affinity: vec![near("web", labels::HOSTNAME)], ..web(name) }
}

/// Both plans, which the checker accepts.
fn plans(snapshot: &Snapshot) -> [Solution; 2] {
    let plans = [solve(snapshot, &Settings::default()), solve_greedy(snapshot, &Settings::default())];
    for plan in &plans {
        assert_eq!(check(snapshot, plan), []);
    }
    plans
}

#[test]
fn who_runs_on_a_node_keeps_others_off_its_twin_and_they_are_told_why() {
    for stage in [NodeStage::Leaving, NodeStage::Ready] {
        let full = Node { allocatable: resources(100, 1, 1), ..twin("a", stage, vec![web("running")]) };
        let world = snapshot(vec![apart("late")], vec![full, twin("b", NodeStage::Ready, Vec::new())], Vec::new());
        for plan in plans(&world) {
            let reasons: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
            let away = reasons.iter().any(|reason| reason.contains("1 kept away by spread or affinity"));
            assert!(away, "{stage:?}: {reasons:?}");
        }
    }
}

#[test]
fn who_shuns_others_keeps_them_off_the_twin() {
    let world = snapshot(
        vec![web("late")],
        vec![twin("a", NodeStage::Leaving, vec![apart("running")]), twin("b", NodeStage::Ready, Vec::new())],
        Vec::new(),
    );
    for plan in plans(&world) {
        assert_eq!(plan.placed.len(), 0);
    }
}

#[test]
fn of_two_that_are_to_be_apart_one_finds_room_on_twins() {
    let twins = ["a", "b"].map(|name| twin(name, NodeStage::Ready, Vec::new()));
    let world = snapshot(vec![apart("first"), apart("second")], twins.to_vec(), Vec::new());
    for plan in plans(&world) {
        assert_eq!((plan.placed.len(), plan.unplaced.len()), (1, 1));
    }
}

#[test]
fn who_is_leaving_is_no_company_for_pods_on_the_twin() {
    let beside = Pod { pod_affinity: vec![near("web", labels::HOSTNAME)], ..pod("beside", 100, 1) };
    for (stage, terminating, placed) in
        [(NodeStage::Leaving, true, 0), (NodeStage::Ready, true, 0), (NodeStage::Ready, false, 1)]
    {
        let running = Pod { terminating, ..web("running") };
        let world = snapshot(
            vec![beside.clone()],
            vec![twin("a", stage, vec![running]), twin("b", NodeStage::Ready, Vec::new())],
            Vec::new(),
        );
        for plan in plans(&world) {
            assert_eq!(plan.placed.len(), placed, "{stage:?}, terminating: {terminating}");
        }
    }
}
