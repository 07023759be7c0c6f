//! Rules about files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Metadata;

use super::Problem;
use super::house::CORE;

/// Longer files are mentioned.
const LINES: usize = 500;
/// A scaler's own file has fewer, with its tests: what makes it longer is a part with a name, or for all scalers.
const LINES_OF_A_SCALER: usize = 150;
/// What makes the compiler refuse the clock, the environment, files and threads, as `clippy.toml` lists them. It resolves
/// names, which a search through the text does not.
const PURE: &str = "#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]";

pub(super) fn impure(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for name in CORE {
        let folder = root.join("crates").join(name).join("src");
        if !std::fs::read_to_string(folder.join("lib.rs"))?.contains(PURE) {
            problems.push(format!("crates/{name}/src/lib.rs lacks {PURE}"));
        }
        for file in rust_files(&folder)? {
            let text = std::fs::read_to_string(&file)?;
            let lifted = ["clippy::disallowed_methods", "clippy::disallowed_types"].iter();
            let lifted: usize = lifted.map(|lint| text.matches(lint).count()).sum();
            if lifted > if file.ends_with("src/lib.rs") { 2 } else { 0 } {
                problems.push(format!("{} allows itself what core crates must not", relative(root, &file)));
            }
        }
    }
    Ok(problems)
}

/// Macros that stand for code that is not there. (Spelled in two halves, or this file would find itself.)
pub(super) fn unfinished(root: &Path) -> Result<Vec<Problem>> {
    let words = [concat!("to", "do!("), concat!("unimplemen", "ted!("), concat!("db", "g!(")];
    let mut problems = Vec::new();
    for file in rust_files(&root.join("crates"))? {
        let text = std::fs::read_to_string(&file)?;
        problems.extend(
            words
                .iter()
                .filter(|word| text.contains(**word))
                .map(|word| format!("{} has {word})", relative(root, &file))),
        );
    }
    Ok(problems)
}

pub(super) fn long_files(root: &Path) -> Result<Vec<(usize, String)>> {
    let mut found = Vec::new();
    for file in rust_files(&root.join("crates"))? {
        let lines = std::fs::read_to_string(&file)?.lines().count();
        if lines > LINES {
            found.push((lines, relative(root, &file)));
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    Ok(found)
}

/// Each scaler is a file of an afternoon.
pub(super) fn scalers(root: &Path) -> Result<Vec<Problem>> {
    let folder = root.join("crates/scalers/src");
    let mut lines = BTreeMap::new();
    for file in rust_files(&folder)?.iter().filter(|file| file.parent() == Some(&folder)) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        lines.insert(name, std::fs::read_to_string(file)?.lines().count());
    }
    Ok(long_scalers(&std::fs::read_to_string(folder.join("catalog.rs"))?, &lines))
}

/// What is wrong with the files of the types in the catalogue. `lines` are those of each file, by its name without `.rs`.
fn long_scalers(catalogue: &str, lines: &BTreeMap<String, usize>) -> Vec<Problem> {
    let listed = catalogue.lines().map(str::trim).filter(|line| line.starts_with("TriggerType::"));
    // The HPA reads resources by itself.
    let listed = listed.filter(|line| !line.starts_with("TriggerType::resource"));
    let types: Vec<String> = listed.filter_map(|line| Some(line.split('"').nth(1)?.replace('-', "_"))).collect();
    if types.is_empty() {
        return vec!["crates/scalers/src/catalog.rs lists no scaler".to_owned()];
    }
    // Types that differ in a suffix only may be of one file.
    let own = |name: &&String| lines.keys().filter(|file| format!("{name}_").starts_with(&format!("{file}_"))).max();
    let (found, lost): (Vec<_>, Vec<_>) = types.iter().partition(|name| own(name).is_some());
    let files: BTreeSet<&String> = found.iter().filter_map(own).collect();
    let total = |file: &String| lines[file] + lines.get(&format!("{file}_tests")).copied().unwrap_or_default();
    let long = files.into_iter().map(|file| (file, total(file))).filter(|(_, total)| *total >= LINES_OF_A_SCALER);
    let lost = lost.into_iter().map(|name| format!("the scaler {name} has no file of its own in crates/scalers/src"));
    let long = long.map(|(file, total)| {
        format!(
            "crates/scalers/src/{file}.rs has {total} lines with its tests; a scaler has less than {LINES_OF_A_SCALER}"
        )
    });
    lost.chain(long).collect()
}

/// `crds/` is what the types say, and the chart carries the same files.
pub(super) fn crds(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut wanted = Vec::new();
    let chart = root.join("charts/tandem-crds/files");
    for crd in api::crds() {
        let (name, text) = (api::file_name(&crd), serde_saphyr::to_string(&crd)?);
        for folder in [&root.join("crds"), &chart] {
            let found = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            if found != text {
                problems.push(format!("{} is not what the types say; make crds", relative(root, &folder.join(&name))));
            }
        }
        wanted.push(name);
    }
    for folder in [&root.join("crds"), &chart] {
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_some_and(|extension| extension == "yaml") && !wanted.contains(&name) {
                problems.push(format!("{} belongs to no type", relative(root, &path)));
            }
        }
    }
    Ok(problems)
}

pub(super) fn map(root: &Path, metadata: &Metadata) -> Result<Vec<Problem>> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let missing =
        metadata.workspace_packages().into_iter().filter(|package| !text.contains(&format!("`{}`", package.name)));
    Ok(missing.map(|package| format!("ARCHITECTURE.md does not name `{}`", package.name)).collect())
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: &str = "
        TriggerType::of::<etcd::Etcd>(\"etcd\"),
        TriggerType::resource::<resource::Cpu>(\"cpu\"),
        TriggerType::of::<Redis<One, List>>(\"redis\"),
        TriggerType::of::<Redis<Several, List>>(\"redis-cluster\"),
    ";

    fn check(catalogue: &str, files: &[(&str, usize)], wanted: &[&str]) {
        let lines = files.iter().map(|(name, lines)| ((*name).to_owned(), *lines)).collect();
        let problems = long_scalers(catalogue, &lines);
        assert_eq!(problems.len(), wanted.len(), "{problems:?}");
        assert!(problems.iter().zip(wanted).all(|(problem, wanted)| problem.contains(wanted)), "{problems:?}");
    }

    #[test]
    fn a_scaler_with_150_lines_or_more_is_refused() {
        check(CATALOGUE, &[("etcd", 149), ("redis", 149), ("resource", 900), ("http", 900)], &[]);
        check(CATALOGUE, &[("etcd", 150), ("redis", 151)], &["etcd.rs has 150 lines", "redis.rs has 151 lines"]);
        check(CATALOGUE, &[("etcd", 90), ("etcd_tests", 60), ("redis", 1)], &["etcd.rs has 150 lines"]);
        check(CATALOGUE, &[("etcd", 1), ("re", 1)], &["redis has no file", "redis_cluster has no file"]);
        check("", &[("etcd", 900)], &["lists no scaler"]);
    }
}
