//! `cargo xtask tidy`: the house rules that a machine can check.

pub(crate) mod house;
mod licences;
mod sources;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;

use crate::run::cargo;

/// One broken rule, said in a line.
pub(crate) type Problem = String;

pub(crate) fn tidy() -> Result<()> {
    let root = testkit::binaries::workspace();
    let metadata = MetadataCommand::new()
        .cargo_path(cargo().get_program())
        .manifest_path(root.join("Cargo.toml"))
        .other_options(vec!["--filter-platform".into(), "x86_64-unknown-linux-gnu".into(), "--locked".into()])
        .exec()?;
    let built = tree(&["--workspace", "--edges=normal,build,dev"])?;
    let mut problems = Vec::new();
    let mut rule = |name: &str, mut found: Vec<Problem>| {
        println!("   {name}: {}", if found.is_empty() { "ok".to_owned() } else { format!("{} problems", found.len()) });
        problems.append(&mut found);
    };
    rule("which crate may depend on which", house::edges(&metadata));
    rule("what core crates must not reach", house::core_closure()?);
    rule("who may name the AWS SDK", house::aws_sdk(&metadata));
    rule("no clock, environment or randomness in core crates", sources::impure(root)?);
    rule("banned crates", licences::banned(&built, root)?);
    rule("one major version of hyper, http, rustls, tokio", licences::duplicates(&built));
    rule("licences", licences::refused(&metadata, &built, root)?);
    rule("crds/ equals the Rust types, the chart equals crds/", sources::crds(root)?);
    rule("ARCHITECTURE.md names every crate", sources::map(root, &metadata)?);
    rule("scalers are short", sources::scalers(root)?);
    rule("unfinished code", sources::unfinished(root)?);
    for (lines, path) in sources::long_files(root)? {
        println!("   note: {path} has {lines} lines; a file settles around one or two hundred");
    }
    for problem in &problems {
        println!("   ! {problem}");
    }
    ensure!(problems.is_empty(), "{} tidy rules are broken", problems.len());
    Ok(())
}

/// Name and version of every crate that is really built. The resolve graph of `cargo metadata` also holds crates that only
/// a feature nobody asks for would bring in.
pub(crate) fn tree(arguments: &[&str]) -> Result<BTreeSet<(String, String)>> {
    let mut command = cargo();
    command
        .args(["tree", "--locked", "--prefix=none", "--format={p}", "--target=x86_64-unknown-linux-gnu"])
        .args(arguments);
    let output = command.output().context("cargo tree")?;
    ensure!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let pairs = text.lines().filter_map(|line| line.split_once(" v"));
    Ok(pairs.map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap_or_default().to_owned())).collect())
}
