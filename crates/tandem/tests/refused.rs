//! A plan that node-provisioner refused and saved is made again by `tandem simulate`.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{fs, path::Path, process::Command};

use scheduling::{
    Settings, Snapshot, Solution,
    check::{Refused, check},
    solve,
};
use serde_json::Value;
use tandem::generate::karpenter_mix_snapshot;

/// A plan that has lost a pod, as it is saved.
fn refused(edit: impl Fn(&mut Refused)) -> Refused {
    let snapshot: Snapshot = karpenter_mix_snapshot(20, 1);
    let settings = Settings { max_alternatives: 7, ..Settings::default() };
    let mut solution: Solution = solve(&snapshot, &settings);
    solution.placed.pop_first();
    let mut refused = Refused {
        format: Refused::FORMAT.to_owned(),
        planner: "optimiser".to_owned(),
        violations: check(&snapshot, &solution),
        snapshot,
        settings,
        earlier: None,
        solution: Some(solution),
    };
    edit(&mut refused);
    refused
}

/// Exit code, standard output and standard error.
fn simulate(file: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
    let output = command.arg("simulate").arg(file).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn simulate_saved(refused: &impl serde::Serialize, arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rejected-plan.json");
    fs::write(&file, serde_json::to_vec(refused).unwrap()).unwrap();
    simulate(&file, arguments)
}

#[test]
fn a_refused_plan_is_made_again_from_its_snapshot_with_its_settings() {
    let saved = refused(|_| ());
    let (code, told, remarks) = simulate_saved(&saved, &["--format", "json", "--verbose"]);
    assert_eq!(code, 0, "{remarks}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let again = solve(&saved.snapshot, &saved.settings);
    assert_eq!(told["planned_nodes"][0]["offerings"].as_array().unwrap().len(), again.new_nodes[0].offerings.len());
    #[expect(clippy::cast_precision_loss, reason = "some dollars")]
    let cost = again.cost.0 as f64 / 1e6;
    assert_eq!((told["cost_usd_per_hour"].as_f64(), told["unplaced"].as_u64()), (Some(cost), Some(0)));

    let said: Vec<&str> = remarks.lines().collect();
    let objections = saved.violations.len();
    assert_eq!(
        said[0],
        format!("to the plan of optimiser that was saved here node-provisioner had {objections} objections")
    );
    assert_eq!(said[1], format!("  {}", saved.violations[0]));
    assert_eq!(said.last(), Some(&"what follows is planned anew"));
    assert!(!remarks.contains("this version"), "{remarks}");
}

#[test]
fn what_this_version_thinks_of_a_refused_plan_is_told_where_it_is_something_else() {
    let (_, _, remarks) = simulate_saved(&refused(|refused| refused.violations.clear()), &[]);
    assert!(remarks.contains("node-provisioner had 0 objections\nthe checker of this version has to it "), "{remarks}");
    let (_, _, remarks) = simulate_saved(&refused(|refused| refused.solution = None), &[]);
    assert!(remarks.starts_with("the planner optimiser panicked on this"), "{remarks}");
}

#[test]
fn the_greedy_rule_s_plan_is_made_again_by_the_greedy_rule_and_another_begins_with_the_earlier_one() {
    let cost = |edit: fn(&mut Refused)| {
        let (_, told, remarks) = simulate_saved(&refused(edit), &["--format", "json"]);
        let told: Value = serde_json::from_str(&told).unwrap_or_else(|_| panic!("{remarks}"));
        told["cost_usd_per_hour"].as_f64().unwrap()
    };
    let greedy = cost(|refused| refused.planner = "greedy".to_owned());
    // Who may do no work at all has nothing better than what it begins with.
    let begun = cost(|refused| {
        refused.earlier = Some(solve(&refused.snapshot, &refused.settings));
        refused.settings.search_work_units = 0;
    });
    assert!(begun < greedy, "{begun} {greedy}");
}

#[test]
fn a_refused_plan_is_itself_and_nothing_else() {
    let mut broken = serde_json::to_value(refused(|_| ())).unwrap();
    broken["snapshot"]["pods"][0]["requests"] = Value::from("much");
    let (code, _, said) = simulate_saved(&broken, &[]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("rejected-plan.json") && said.contains("much"), "{said}");
    let (code, _, said) = simulate_saved(&refused(|_| ()), &["--types", "other.json"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("made again with the types it was made from"), "{said}");
}
