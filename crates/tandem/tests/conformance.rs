//! What real Karpenter did with its scenarios, and what the solver plans for them.
//!
//! The scenarios are not part of this repository; without them the test says that it is skipped. Each difference must be
//! in the table of `docs/differences.md`, word for word, and each row of the table must be a difference.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use scheduling::{InstanceType, Settings, Snapshot, Solution, check, solve, solve_greedy};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tandem::{Document, Origin, catalogue, documents, objects, snapshot};
use units::UsdMicrosPerHour;

/// Above the rows that list differences.
const HEADING: &str = "## Karpenter's scenarios";

#[derive(Deserialize)]
struct Scenario {
    name: String,
    pools: Vec<Named>,
    pods: Vec<Group>,
    extra: Vec<Value>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    spec: Value,
}

#[derive(Deserialize)]
struct Group {
    count: usize,
    labels: Value,
    spec: Value,
}

#[derive(Deserialize)]
struct Expected {
    groups: BTreeMap<String, Placed>,
    usd_per_hour: f64,
}

#[derive(Deserialize)]
struct Placed {
    placed: usize,
}

type Planner = fn(&Snapshot, &Settings) -> Solution;

#[test]
fn the_solver_places_what_karpenter_places_at_its_cost_or_less() {
    let Some(folder) = scenarios() else { return };
    compare(&folder, solve);
}

/// The plan to fall back to keeps the same promises.
#[test]
fn the_greedy_rule_places_what_karpenter_places_at_its_cost_or_less() {
    let Some(folder) = scenarios() else { return };
    compare(&folder, solve_greedy);
}

fn compare(folder: &Path, planner: Planner) {
    let types = catalogue::types(&read_document(&folder.join("types.json"))).unwrap();
    let expected: BTreeMap<String, Expected> = read(&folder.join("expected.json"));
    let mut listed = listed();
    let mut wrong = Vec::new();
    for scenario in read::<Vec<Scenario>>(&folder.join("scenarios.json")) {
        let (found, unsound) = outcome(&scenario, &expected[&scenario.name], &types, planner);
        wrong.extend(unsound.into_iter().map(|what| format!("{}: {what}", scenario.name)));
        match (found.as_str(), listed.remove(&scenario.name)) {
            ("", None) => {}
            ("", Some(_)) => wrong.push(format!("{} differs no longer: take it off the table", scenario.name)),
            (found, Some(said)) if said == found => {}
            (found, said) => wrong.push(format!("| `{}` | solver | {found} | (listed: {said:?})", scenario.name)),
        }
    }
    wrong.extend(listed.into_keys().map(|name| format!("{name} is no scenario")));
    assert!(wrong.is_empty(), "not as docs/differences.md has it:\n{}", wrong.join("\n"));
}

/// How the plan differs from what Karpenter did, and what the checker holds against it.
fn outcome(
    scenario: &Scenario,
    expected: &Expected,
    types: &Arc<[InstanceType]>,
    planner: Planner,
) -> (String, Vec<String>) {
    let (objects, _, problems) = objects::objects(manifests(scenario, expected));
    assert!(problems.is_empty(), "{}: {problems:?}", scenario.name);
    // What is wrong with a pool or a pod keeps it out of the snapshot, as it keeps it out of Karpenter's.
    let (snapshot, ..) = snapshot(&objects, types);
    let solution = planner(&snapshot, &Settings::default());
    let violations = check::check(&snapshot, &solution);
    let mut placed: BTreeMap<String, usize> = expected.groups.keys().map(|group| (group.clone(), 0)).collect();
    for pod in solution.placed.keys() {
        let (group, _) = pod.name.split_once('-').unwrap();
        *placed.entry(group.to_owned()).or_default() += 1;
    }
    let mut differences = Vec::new();
    for (group, ours) in placed {
        let theirs = expected.groups.get(&group).map_or(0, |group| group.placed);
        if ours != theirs {
            differences.push(format!("{group}: {ours} placed, Karpenter {theirs}"));
        }
    }
    let theirs = UsdMicrosPerHour::from_usd_per_hour(expected.usd_per_hour).unwrap();
    if solution.cost > theirs {
        differences.push(format!("{}, Karpenter {theirs}", solution.cost));
    }
    (differences.join("; "), violations.iter().map(ToString::to_string).collect())
}

/// The objects of a scenario in a namespace of its own.
fn manifests(scenario: &Scenario, expected: &Expected) -> Vec<Document> {
    let mut all = vec![
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": scenario.name } }),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "default" } }),
    ];
    for extra in &scenario.extra {
        let mut extra = extra.clone();
        if extra["kind"] != "StorageClass" {
            extra["metadata"]["namespace"] = scenario.name.as_str().into();
        }
        all.push(extra);
    }
    for pool in &scenario.pools {
        let name = format!("{}-{}", scenario.name, pool.name);
        all.push(json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": name },
            "spec": pool.spec }));
    }
    for (index, group) in scenario.pods.iter().enumerate() {
        // A group that is not there is one that the API server refused.
        if !expected.groups.contains_key(&format!("g{index}")) {
            continue;
        }
        for number in 0..group.count {
            let name = format!("g{index}-{number}");
            all.push(json!({ "apiVersion": "v1", "kind": "Pod", "spec": group.spec, "metadata": { "name": name,
                "namespace": scenario.name, "labels": group.labels, "uid": name } }));
        }
    }
    let file: Arc<str> = Arc::from(scenario.name.as_str());
    let document = |(index, value): (usize, Value)| {
        let text = value.to_string().replace("POOL-", &format!("{}-", scenario.name)).replace("CASE", &scenario.name);
        let origin = Origin { file: Arc::clone(&file), document: index + 1, item: None };
        Document { origin, value: serde_json::from_str(&text).unwrap() }
    };
    all.into_iter().enumerate().map(document).collect()
}

/// The rows below the heading that are about the solver: scenario and difference.
fn listed() -> BTreeMap<String, String> {
    let page = fs::read_to_string(workspace().join("docs/differences.md")).unwrap();
    let (_, rows) = page.split_once(HEADING).unwrap_or_default();
    let rows = rows.lines().skip(1).take_while(|line| !line.starts_with('#'));
    let cells = rows.filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let (name, place, what) = (cells.next()?, cells.next()?, cells.next()?);
        ["solver", "both"].contains(&place).then(|| (name.trim_end_matches('`').to_owned(), what.to_owned()))
    });
    cells.collect()
}

fn scenarios() -> Option<PathBuf> {
    let shared = env::var_os("TANDEM_SHARED").map_or_else(|| workspace().join("../shared"), PathBuf::from);
    let folder = shared.join("conformance/karpenter");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there; TANDEM_SHARED names the folder that has it", folder.display());
    None
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn read_document(path: &Path) -> Document {
    documents::read(path).unwrap().remove(0)
}
