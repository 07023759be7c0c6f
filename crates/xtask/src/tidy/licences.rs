//! Third-party crates: what `deny.toml` says, without needing cargo-deny.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cargo_metadata::Metadata;

use super::Problem;

const ONE_MAJOR: [&str; 4] = ["hyper", "http", "rustls", "tokio"];

type Built = BTreeSet<(String, String)>;

pub(super) fn banned(built: &Built, root: &Path) -> Result<Vec<Problem>> {
    let text = std::fs::read_to_string(root.join("deny.toml"))?;
    let banned: BTreeSet<&str> = text.split("{ crate = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    ensure!(banned.contains("ring"), "deny.toml bans nothing");
    let found = built.iter().filter(|(name, _)| banned.contains(name.as_str()));
    Ok(found.map(|(name, version)| format!("{name} {version} is banned by deny.toml")).collect())
}

pub(super) fn duplicates(built: &Built) -> Vec<Problem> {
    let mut majors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (name, version) in built {
        let mut parts = version.split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let compatible = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
        majors.entry(name).or_default().insert(compatible);
    }
    let several = ONE_MAJOR.iter().filter(|name| majors.get(**name).is_some_and(|versions| versions.len() > 1));
    several.map(|name| format!("{name} is there in several versions: {:?}", majors[name])).collect()
}

pub(super) fn refused(metadata: &Metadata, built: &Built, root: &Path) -> Result<Vec<Problem>> {
    let text = std::fs::read_to_string(root.join("deny.toml"))?;
    let list = text
        .split("[licenses]")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .context("no licence list in deny.toml")?;
    let allowed: BTreeSet<&str> = list.split('"').skip(1).step_by(2).collect();
    let mut problems = Vec::new();
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        let used = built.contains(&(package.name.to_string(), package.version.to_string()));
        let stated = package.license.as_deref().unwrap_or_default();
        if used && !satisfied(stated, &allowed) {
            problems.push(format!("{} {} has the licence {stated:?}", package.name, package.version));
        }
    }
    Ok(problems)
}

/// Whether an SPDX expression can be met with the allowed licences alone. `/` is the old way to write OR.
fn satisfied(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at, allowed) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut met = all_of(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<&str>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any_of(words, at, allowed);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        // An exception only gives more rights than the licence alone.
        return allowed.contains(format!("{word} WITH {exception}").as_str()) || allowed.contains(word);
    }
    allowed.contains(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_needs_one_of_or_and_each_of_and() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0"]);
        for good in [
            "MIT",
            "MIT OR GPL-3.0",
            "GPL-3.0/MIT",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND ISC"] {
            assert!(!satisfied(bad, &allowed), "{bad}");
        }
    }
}
