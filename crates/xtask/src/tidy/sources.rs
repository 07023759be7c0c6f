//! Rules about files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Metadata;

use super::Problem;
use super::house::CORE;

/// Longer files are mentioned.
const LINES: usize = 500;
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
