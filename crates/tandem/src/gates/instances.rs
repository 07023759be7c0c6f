//! Where the instances come from: the shared folder, or the generator if there is none.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use scheduling::Snapshot;
use serde_json::Value;

use crate::{
    BadInput, Problem,
    catalogue::price,
    generate::{Kind, instance},
};

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
    let mut found = Vec::new();
    for kind in Kind::ALL {
        for pods in [60, 1000] {
            let file = folder.join(format!("{}-{pods}.json", kind.name()));
            fs::write(&file, instance(kind, pods, 42).to_string()).map_err(|error| failed(&file, error))?;
            found.push(read(&file)?);
        }
    }
    fs::remove_dir_all(&folder).map_err(|error| failed(&folder, error))?;
    Ok(found)
}
