//! Plans for the packing instances that this repository makes itself.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{fs, process::Command};

use scheduling::{Settings, Snapshot, check, solve, solve_greedy, solve_within};
use tandem::{
    generate::{Kind, instance, karpenter_mix_snapshot},
    instance::read,
};

fn snapshots() -> Vec<(String, Snapshot)> {
    let folder = tempfile::tempdir().unwrap();
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for seed in [1, 2] {
            let name = format!("{}-{seed}", kind.name());
            let file = folder.path().join(format!("{name}.json"));
            fs::write(&file, instance(kind, 120, seed).to_string()).unwrap();
            found.push((name, read(&file).unwrap()));
        }
    }
    found
}

#[test]
fn plans_are_sound_and_no_dearer_than_greedy_nor_cheaper_than_the_bound() {
    for (name, snapshot) in snapshots() {
        let plan = solve(&snapshot, &Settings::default());
        assert_eq!(check::check(&snapshot, &plan), [], "{name}");
        assert!(plan.greedy_cost.is_none_or(|greedy| plan.cost <= greedy), "{name}: {plan:?}");
        assert!(plan.lower_bound.as_ref().is_none_or(|bound| bound.cost <= plan.cost), "{name}: {plan:?}");
    }
}

#[test]
fn the_order_in_which_things_are_written_decides_nothing() {
    for (name, snapshot) in snapshots() {
        let mut turned = snapshot.clone();
        turned.pods.reverse();
        turned.pools.reverse();
        turned.daemons.reverse();
        for pool in &mut turned.pools {
            pool.instance_types = pool.instance_types.iter().rev().cloned().collect();
        }
        assert_eq!(solve(&snapshot, &Settings::default()), solve(&turned, &Settings::default()), "{name}");
    }
}

/// A thousand pods that count each other in fourteen spreads: no search finds an order of binding, the plan's own is one.
#[test]
fn plans_for_karpenters_mix_are_sound() {
    let snapshot = karpenter_mix_snapshot(1000, 42);
    let settings = Settings::default();
    for plan in [solve_greedy(&snapshot, &settings), solve(&snapshot, &settings)] {
        assert_eq!(check::check(&snapshot, &plan), []);
    }
}

#[test]
fn many_kinds_of_pods_are_planned_by_the_greedy_rule_when_time_is_up_at_once() {
    let snapshot = karpenter_mix_snapshot(1000, 42);
    let settings = Settings::default();
    let (greedy, first) = (solve_greedy(&snapshot, &settings), solve_within(&snapshot, &settings, &|| true));
    assert_eq!((&first.placed, &first.new_nodes), (&greedy.placed, &greedy.new_nodes));
    assert_eq!((first.greedy_cost, first.new_nodes.len(), first.unplaced.len()), (Some(first.cost), 200, 0));
    let bound = first.lower_bound.unwrap().cost;
    assert!(bound.0 > first.cost.0 / 2 && bound <= first.cost, "{bound} of {}", first.cost);
}

#[test]
fn what_is_generated_can_be_simulated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.json");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tandem")).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run(&["generate", "packing", "--kind", "web", "--pods", "50", "--output"]);
    let report: serde_json::Value =
        serde_json::from_slice(&run(&["simulate", "--budget-ms", "50", "--format", "json"])).unwrap();
    assert_eq!((&report["pods"], &report["unplaced"]), (&50.into(), &0.into()), "{report:#}");
    assert!(report["cost_usd_per_hour"].as_f64().unwrap() > 0.0 && report["nodes"].as_u64().unwrap() > 0, "{report:#}");
    for key in ["lower_bound_usd_per_hour", "greedy_usd_per_hour", "proven_optimal", "solve_milliseconds"] {
        assert!(report.get(key).is_some(), "{key} is missing: {report:#}");
    }
}
