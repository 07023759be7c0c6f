//! Which crate may lean on which. `ARCHITECTURE.md` says why.

use std::collections::BTreeSet;

use anyhow::Result;
use cargo_metadata::{DependencyKind, Metadata};

use super::{Problem, tree};

/// Crates that decide: values in, values out.
pub(crate) const CORE: [&str; 6] = ["units", "requirements", "packing", "scheduling", "disruption", "scaling"];

/// The edges between our crates, for what is built and for what builds it. Tests of shells may also use the test bed.
const MAY_DEPEND_ON: [(&str, &[&str]); 20] = [
    ("units", &[]),
    ("requirements", &["units"]),
    ("packing", &[]),
    ("scheduling", &["units", "requirements", "packing"]),
    ("disruption", &["units", "requirements", "scheduling"]),
    ("scaling", &["units"]),
    ("api", &CORE),
    ("scalers-derive", &[]),
    ("scalers", &["units", "scaling", "scalers-derive"]),
    ("cloud", &["units", "requirements", "scheduling"]),
    ("cloud-aws", &["units", "requirements", "scheduling", "cloud", "api"]),
    ("cloud-kwok", &["units", "requirements", "scheduling", "cloud", "api"]),
    ("controller-runtime", &[]),
    ("scaling-controller", &["units", "scaling", "scalers", "api", "controller-runtime"]),
    ("node-controller", &["units", "requirements", "scheduling", "disruption", "cloud", "api", "controller-runtime"]),
    // It is built and run where there is no cluster and no cloud.
    ("tandem", &["units", "requirements", "scheduling", "api"]),
    ("pod-autoscaler", &["scaling", "scalers", "api", "controller-runtime", "scaling-controller"]),
    (
        "node-provisioner",
        &["scheduling", "cloud", "cloud-aws", "cloud-kwok", "api", "controller-runtime", "node-controller"],
    ),
    ("testkit", &[]),
    ("xtask", &["api", "testkit"]),
];
/// What only tests of crates outside the core may use.
const TEST_BED: &str = "testkit";

/// What a core crate must not reach, not even through others. `jiff` is there for its types; its clock is looked for in
/// the sources. `log` is there through `microlp`, which says nothing unless a program sets a logger up; no core crate may name it.
const NOT_IN_CORE: [&str; 13] = [
    "tokio",
    "async-std",
    "kube",
    "kube-client",
    "kube-core",
    "k8s-openapi",
    "hyper",
    "http",
    "reqwest",
    "axum",
    "tracing",
    "rand",
    "getrandom",
];

pub(super) fn edges(metadata: &Metadata) -> Vec<Problem> {
    let ours: BTreeSet<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        let Some((name, allowed)) = MAY_DEPEND_ON.iter().find(|(name, _)| *name == package.name.as_str()) else {
            problems.push(format!("{} is not in the list of who may depend on whom", package.name));
            continue;
        };
        for dependency in &package.dependencies {
            let wanted = dependency.name.as_str();
            if CORE.contains(name) && wanted == "log" {
                problems.push(format!("{name} must not write logs"));
            }
            let in_tests = dependency.kind == DependencyKind::Development && !CORE.contains(name);
            if ours.contains(wanted) && !allowed.contains(&wanted) && !(in_tests && wanted == TEST_BED) {
                problems.push(format!("{name} must not depend on {wanted}"));
            }
        }
    }
    problems
}

pub(super) fn core_closure() -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for core in CORE {
        for (name, _) in tree(&["--package", core, "--edges=normal"])? {
            if NOT_IN_CORE.contains(&name.as_str()) || name.starts_with("aws-") {
                problems.push(format!("{core} reaches {name}"));
            }
        }
    }
    Ok(problems)
}

/// Its first build takes minutes and gigabytes; one crate pays that.
pub(super) fn aws_sdk(metadata: &Metadata) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in metadata.workspace_packages().into_iter().filter(|package| package.name.as_str() != "cloud-aws") {
        for dependency in
            package.dependencies.iter().filter(|d| d.name.starts_with("aws-sdk-") || d.name == "aws-config")
        {
            problems.push(format!("{} names {}; only cloud-aws may", package.name, dependency.name));
        }
    }
    problems
}
