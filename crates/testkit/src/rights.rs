//! What a chart lets its program do, against a table of what the program does.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::charts::render;

/// Whether a chart grants what `needed` lists, and nothing else.
///
/// Each line of `needed` says where a right holds (`cluster` or a namespace; the chart is installed in `here`), the resource with its group, its names if it is
/// for some alone, and the verbs in alphabetical order; what follows `#` says who needs it. Roles whose name ends with one of
/// `others` are for other programs.
///
/// # Errors
///
/// Lists what is granted and not used, and what is not granted.
pub fn grants(chart: &Path, values: &[(&str, &str)], needed: &str, others: &[&str]) -> Result<()> {
    let lines = needed.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let needed: BTreeSet<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let granted = granted(&render(chart, "release", "here", values)?, others);
    let too_many: Vec<_> = granted.difference(&needed).collect();
    let too_few: Vec<_> = needed.difference(&granted).collect();
    ensure!(
        too_many.is_empty() && too_few.is_empty(),
        "granted but not used: {too_many:#?}\nnot granted: {too_few:#?}"
    );
    Ok(())
}

/// What the roles among a chart's objects grant, one line for each resource. Verbs of several rules for one resource are one line.
fn granted(objects: &[Value], others: &[&str]) -> BTreeSet<String> {
    let mut verbs = std::collections::BTreeMap::<String, BTreeSet<String>>::new();
    for role in objects {
        let (kind, name) = (role["kind"].as_str(), role["metadata"]["name"].as_str().unwrap_or_default());
        if !matches!(kind, Some("Role" | "ClusterRole")) || others.iter().any(|end| name.ends_with(end)) {
            continue;
        }
        let place = role["metadata"]["namespace"].as_str().unwrap_or("cluster");
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = texts(&rule["resourceNames"]).join(",");
            let names = if names.is_empty() { names } else { format!(" [{names}]") };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    verbs
                        .entry(format!("{place} {group}/{resource}{names}"))
                        .or_default()
                        .extend(texts(&rule["verbs"]));
                }
            }
        }
    }
    let line = |(what, verbs): (String, BTreeSet<String>)| {
        format!("{what} {}", verbs.into_iter().collect::<Vec<_>>().join(" "))
    };
    verbs.into_iter().map(line).collect()
}

fn texts(of: &Value) -> Vec<String> {
    let texts = of.as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut texts: Vec<String> = texts.map(str::to_owned).collect();
    texts.sort();
    texts
}
