//! Where the instances come from: the shared folder, or the generator if there is none. What is known of the generator's is
//! stored beside the catalogue, in `data/own_instances.json`, as [`store`] found it out.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use scheduling::{Snapshot, solve_greedy};
use serde_json::{Map, Value, json};

use super::{repeatable, stopwatch::Stopwatch};
use crate::{
    BadInput, Problem,
    catalogue::price,
    generate::{Kind, instance},
    in_time::solve_in_time,
};

/// What is known of the instances that the generator makes: that of the greedy rule here, since nobody else has seen them, and
/// the least cost and the largest bound that a long search has found. The unit and the names are the shared instances'.
const OWN: &str = include_str!("../../data/own_instances.json");
/// How long that search goes on. Unit: milliseconds on a core.
const LONG_MS: u64 = 5_000;
const SIZES: [usize; 2] = [60, 1000];
const SEED: u64 = 42;

/// A packing instance, read.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What it is called.
    pub name: String,
    /// What is to be placed.
    pub snapshot: Snapshot,
    /// What others found out about it.
    pub known: Option<Known>,
}

/// Costs that are written in an instance. Unit: micro-USD per hour.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Of the plan that Karpenter's rule makes.
    pub karpenter: i64,
    /// That no plan can be cheaper than.
    pub lower_bound: i64,
    /// Of the cheapest plan known.
    pub best: i64,
}

/// All instances, and where they are from: the folder `packing` of `TANDEM_SHARED` or of `../shared`, or else the
/// generator.
pub fn instances() -> Result<(Vec<Instance>, String), BadInput> {
    // From the workspace; from a crate's folder, where cargo runs tests.
    let beside = || ["../shared", "../../../shared"].map(PathBuf::from).into_iter().find(|folder| folder.is_dir());
    let shared = env::var_os("TANDEM_SHARED").map(PathBuf::from).or_else(beside).unwrap_or_default();
    let folder = shared.join("packing");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        return Ok((generated()?, "the generator".to_owned()));
    }
    let read = files.iter().map(|file| read(file));
    Ok((read.collect::<Result<_, _>>()?, folder.display().to_string()))
}

fn read(file: &Path) -> Result<Instance, BadInput> {
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let known = fs::read_to_string(file).ok().and_then(|text| known(&serde_json::from_str(&text).ok()?));
    Ok(Instance { name, snapshot: crate::instance::read(file)?, known })
}

fn known(instance: &Value) -> Option<Known> {
    let cost = |name: &str| instance["results"][name].as_f64().and_then(price).map(|price| price.0);
    Some(Known {
        karpenter: cost("karpenter_greedy_usd_h")?,
        lower_bound: cost("lower_bound_usd_h")?,
        best: cost("best_known_usd_h")?,
    })
}

/// Instances of every kind, small and middling.
fn generated() -> Result<Vec<Instance>, BadInput> {
    // One for each call: they are removed in the end, and tests call at once.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("tandem-gates-{}-{call}", std::process::id()));
    let failed = |what: &Path, error: std::io::Error| {
        BadInput::from(Problem::of_file(what.display().to_string(), error.to_string()))
    };
    fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    let results: Value = serde_json::from_str(OWN).expect("what is stored has been written by `store`");
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for pods in SIZES {
            let name = format!("{}-{pods}", kind.name());
            let mut value = instance(kind, pods, SEED);
            value["results"] = results[name.as_str()].clone();
            let file = folder.join(format!("{name}.json"));
            fs::write(&file, value.to_string()).map_err(|error| failed(&file, error))?;
            found.push(read(&file)?);
        }
    }
    fs::remove_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    Ok(found)
}

/// What there is to know of each of the generator's instances, as `data/own_instances.json` has it.
pub fn store() -> Result<String, BadInput> {
    let mut known = Map::new();
    for Instance { name, snapshot, .. } in generated()? {
        let started = Stopwatch::start();
        let best = solve_in_time(&snapshot, &repeatable(), LONG_MS, &|| started.elapsed());
        let greedy = solve_greedy(&snapshot, &repeatable());
        let bound = best.lower_bound.map_or(0, |bound| bound.cost.0);
        let results = json!({
            "karpenter_greedy_usd_h": dollars(greedy.cost.0),
            "lower_bound_usd_h": dollars(bound),
            "best_known_usd_h": dollars(best.cost.0),
        });
        known.insert(name, results);
    }
    Ok(format!("{:#}\n", Value::from(known)))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn dollars(micros: i64) -> f64 {
    micros as f64 / 1e6
}
