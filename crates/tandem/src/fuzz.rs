//! What must hold whatever the input is: no panic, no unbounded work, and every promise of the solver.
//!
//! One judgement with several ways to come by the bytes: `make test` judges some made by seeds (`tests/fuzz.rs`), `cargo run
//! --release -p tandem --example fuzz` as many as there is time for, and `cargo +nightly fuzz run snapshot` (in `fuzz/`)
//! looks for those that reach code no others did.

use std::{cmp::Reverse, path::Path, sync::Arc};

use scheduling::{Settings, Snapshot, Solution, check, realise, solve, solve_after, solve_greedy};

use crate::{
    catalogue, documents,
    generate::{karpenter_mix, wild_snapshot},
    input,
    report::{Detail, Explanation, Look, Report},
};

/// Bounds that keep one input from taking longer than a moment.
fn settings() -> Settings {
    Settings { budget_work_units: 200_000, search_work_units: 1_000_000, ..Settings::default() }
}

/// What is broken for the snapshot that these bytes make.
pub fn judge_snapshot(bytes: &[u8]) -> Vec<String> {
    judge(&wild_snapshot(bytes))
}

/// Reads the bytes as YAML or JSON documents; what can be planned for is, and is judged.
pub fn judge_text(bytes: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(bytes) else { return Vec::new() };
    let Ok(documents) = documents::parse("input", text) else { return Vec::new() };
    let types = documents.iter().all(|document| !document.value.is_array()).then(some_types);
    // A count that somebody mistyped is a large plan, not a mistake.
    if text.split(|letter: char| !letter.is_ascii_digit()).any(|number| number.len() > 3) {
        return Vec::new();
    }
    input::from_documents(Path::new("input"), documents, types)
        .map_or_else(|_| Vec::new(), |read| judge(&read.snapshot))
}

fn some_types() -> Arc<[scheduling::InstanceType]> {
    let [_, mut types] = karpenter_mix(0, 0);
    if let Some(all) = types.as_array_mut() {
        all.truncate(8);
    }
    let origin = crate::Origin { file: "types".into(), document: 1, item: None };
    catalogue::types(&crate::Document { origin, value: types }).expect("what is made here is valid")
}

/// The promises that a plan for this snapshot breaks; none, if all is well.
pub fn judge(snapshot: &Snapshot) -> Vec<String> {
    let mut broken = Vec::new();
    let settings = settings();
    let (greedy, plan) = (solve_greedy(snapshot, &settings), solve(snapshot, &settings));
    for (name, one) in [("greedy plan", &greedy), ("plan", &plan)] {
        let violations = check::check(snapshot, one);
        broken.extend(violations.iter().map(|violation| format!("the checker on the {name}: {violation}")));
        if let Some((pod, _)) = one.unplaced.iter().find(|(_, reasons)| reasons.is_empty()) {
            broken.push(format!("{name}: {pod} has no place and no reason"));
        }
    }
    let rank = |plan: &Solution| rank(snapshot, plan);
    if rank(&plan) > rank(&greedy) {
        broken.push(format!("dearer than the greedy plan: {:?} > {:?}", rank(&plan), rank(&greedy)));
    }
    if let Some(bound) = plan.lower_bound.as_ref().filter(|bound| bound.cost > plan.cost) {
        broken.push(format!("cheaper than its bound: {} < {}", plan.cost, bound.cost));
    }
    if solve(&turned(snapshot), &settings) != plan {
        broken.push("another plan for another order".to_owned());
    }
    let again = solve_after(snapshot, &settings, &|| false, &plan);
    if rank(&again) > rank(&plan) {
        broken.push(format!("worse with its own plan at hand: {:?} > {:?}", rank(&again), rank(&plan)));
    }
    // These are to end, whatever they say.
    let _ = realise(snapshot, &plan, 1);
    let _ = Report::new(snapshot, &plan, 0.0, Detail::EveryPod).text(Look::PLAIN);
    for pod in snapshot.pods.iter().take(3) {
        let _ = Explanation::new(snapshot, &plan, &pod.key, &settings).map(|one| one.to_string());
    }
    broken
}

/// The priorities of the pods without a place, the highest first, and the cost: the less, the better.
fn rank(snapshot: &Snapshot, plan: &Solution) -> (Vec<i32>, i64) {
    let without = snapshot.pods.iter().filter(|pod| plan.unplaced.contains_key(&pod.key));
    let mut without: Vec<i32> = without.map(|pod| pod.priority).collect();
    without.sort_unstable_by_key(|priority| Reverse(*priority));
    (without, plan.cost.0)
}

/// The same in another order.
fn turned(snapshot: &Snapshot) -> Snapshot {
    let mut turned = snapshot.clone();
    turned.pods.reverse();
    turned.nodes.reverse();
    turned.pools.reverse();
    turned.daemons.reverse();
    for pool in &mut turned.pools {
        pool.instance_types = pool.instance_types.iter().rev().cloned().collect();
    }
    turned
}
