//! `tandem simulate`: one plan for one snapshot.

use std::{fmt::Write as _, path::PathBuf, time::Instant};

use clap::{Args, ValueEnum};
use scheduling::{
    PodKey, PoolKey, Settings, Snapshot, Solution, Unfit, check, check::Refused, solve, solve_after, solve_greedy,
};
use serde::Serialize;

use crate::{
    BadInput, Problem, ec2,
    in_time::solve_in_time,
    input::{self, Input},
    report::{Detail, Explanation, Flexibility, Look, Played, Report, counted},
};

/// Prints what would be bought for the pods of a snapshot, at what price and why.
#[derive(Clone, Debug, Args)]
pub struct Simulate {
    /// A folder or file of Kubernetes YAML or JSON, a packing instance, a plan that node-provisioner refused and saved, or - for
    /// standard input.
    ///
    /// Read are Pods, Nodes, DaemonSets, Deployments, ReplicaSets, StatefulSets, Jobs, PersistentVolumes and their claims,
    /// StorageClasses, CSINodes, Namespaces, PriorityClasses, RuntimeClasses, LimitRanges, PodDisruptionBudgets, Provisioners,
    /// NodePools, the kubelet settings of EC2NodeClasses, NodeClaims, NodeOverlays and Lists of them. A workload counts with the
    /// pods that it has yet to make. These, the pods of DaemonSets and Pods without a UID get what the API server's admission
    /// would write into them for their RuntimeClass and LimitRanges.
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Instance types and prices: an array as Karpenter's KWOK provider takes it, or a packing instance that has some.
    ///
    /// Without it they are looked for among the objects; if there are none, EC2's on-demand types and list prices are taken.
    #[arg(long, visible_alias = "types", value_name = "FILE")]
    pub catalogue: Option<PathBuf>,
    /// For people, or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How long the search may go on, in milliseconds, without any other bound. Otherwise it ends after the amount of work that
    /// node-provisioner allows it, so that the same input gives the same plan on every machine; there it also ends after three
    /// seconds.
    #[arg(long, value_name = "N")]
    pub budget_ms: Option<u64>,
    /// Whether what pods prefer is planned for as if they demanded it, as far as that can be, or left to the kube-scheduler.
    #[arg(long, value_enum, default_value_t = PreferencePolicy::Respect)]
    pub preference_policy: PreferencePolicy,
    /// Whether `minValues` has to be met, or as far as it can be.
    #[arg(long, value_enum, default_value_t = MinValuesPolicy::Strict)]
    pub min_values_policy: MinValuesPolicy,
    /// Say of every pod where it goes and why; with `--format json` also what each new node may become, and why.
    #[arg(long)]
    pub verbose: bool,
    /// Say also what the plan costs at most when of each new node any of its N cheapest offerings may be bought.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "pod")]
    pub flexibility: Option<u16>,
    /// Play the plan through the kube-scheduler's rules too, as it likes and with the plan's nominations, and say what is paid
    /// in the end.
    #[arg(long, conflicts_with = "pod")]
    pub play: bool,
    /// Say of this pod alone why it is where it is, and what other places would cost.
    #[arg(long, value_name = "NAMESPACE/NAME", conflicts_with = "verbose")]
    pub pod: Option<PodKey>,
}

/// How the plan is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What becomes of the pods' preferences; the names are Karpenter's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum PreferencePolicy {
    /// They are planned for, and given up one by one for pods that find no place.
    #[default]
    Respect,
    /// They are left to the kube-scheduler.
    Ignore,
}

/// How strictly `minValues` is taken; the names are Karpenter's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum MinValuesPolicy {
    /// It is met or there is no node.
    #[default]
    Strict,
    /// It is met as far as it can be.
    BestEffort,
}

/// Why there is no plan to print.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The input has to be corrected.
    #[error(transparent)]
    Input(#[from] BadInput),
    /// There is a plan, and it breaks a promise: a bug.
    #[error("the plan is wrong, and this is a bug worth reporting:\n  {}", .0.join("\n  "))]
    WrongPlan(Vec<String>),
}

/// What to print, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// For standard output.
    pub result: String,
    /// For standard error: what of the input was not looked at.
    pub remarks: String,
    /// For standard error: what has to be corrected and is not in the plan, one a line.
    pub problems: Vec<String>,
    /// For standard error: what is wrong with the plan that is not told, because of a bug.
    pub rejected: Vec<String>,
}

/// Reads, solves, checks and renders.
pub fn simulate(arguments: &Simulate, look: Look) -> Result<Output, Failure> {
    let input = input::read(&arguments.input, arguments.catalogue.as_deref())?;
    let snapshot = &input.snapshot;
    if let Some(pod) = &arguments.pod
        && !snapshot.pods.iter().any(|one| one.key == *pod)
    {
        let message = format!("there is no pod {pod} to place in it");
        return Err(BadInput::from(Problem::of_file(arguments.input.display().to_string(), message)).into());
    }
    let saved = input.refused.as_deref();
    let settings = saved.map_or_else(Settings::default, |refused| refused.settings);
    let settings = Settings {
        ignore_preferences: arguments.preference_policy == PreferencePolicy::Ignore || settings.ignore_preferences,
        relax_min_values: arguments.min_values_policy == MinValuesPolicy::BestEffort || settings.relax_min_values,
        ..settings
    };
    let started = Instant::now();
    let solution = match arguments.budget_ms {
        None => planned(snapshot, &settings, saved),
        Some(budget) => solve_in_time(snapshot, &settings, budget, &|| started.elapsed()),
    };
    let milliseconds = (started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
    let (mut solution, rejected) = checked(snapshot, solution, || solve_greedy(snapshot, &settings))?;
    tell_refused_pools(&input, &mut solution);
    let result = if let Some(pod) = &arguments.pod {
        let explanation = Explanation::new(snapshot, &solution, pod, &settings)
            .expect("every pod of a checked plan is placed or has its reasons");
        match arguments.format {
            Format::Text => look.fitted(explanation.to_string()),
            Format::Json => json(&explanation),
        }
    } else {
        let detail = if arguments.verbose { Detail::EveryPod } else { Detail::Summary };
        let mut report = Report::new(snapshot, &solution, milliseconds, detail);
        report.flexibility = arguments.flexibility.map(|count| Flexibility::of(&solution, usize::from(count)));
        report.played = arguments.play.then(|| Played::new(snapshot, &solution));
        match arguments.format {
            Format::Text => report.text(look),
            Format::Json => json(&report),
        }
    };
    let problems = if input.problems.is_empty() { String::new() } else { BadInput(input.problems.clone()).to_string() };
    let problems = problems.lines().map(str::to_owned).collect();
    Ok(Output { result, remarks: remarks(&input), problems, rejected })
}

/// The plan within the budget of work; one that was refused as its maker made it.
fn planned(snapshot: &Snapshot, settings: &Settings, refused: Option<&Refused>) -> Solution {
    match refused {
        Some(refused) if refused.planner.starts_with("greedy") => solve_greedy(snapshot, settings),
        Some(Refused { earlier: Some(earlier), .. }) => solve_after(snapshot, settings, &|| false, earlier),
        _ => solve(snapshot, settings),
    }
}

/// The plan, or the greedy one if it breaks a promise and that one does not, and then what is wrong with the plan.
fn checked(
    snapshot: &Snapshot,
    solution: Solution,
    greedy: impl FnOnce() -> Solution,
) -> Result<(Solution, Vec<String>), Failure> {
    let wrong = |solution: &Solution| {
        let violations = check::check(snapshot, solution);
        violations.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let found = wrong(&solution);
    if found.is_empty() {
        return Ok((solution, Vec::new()));
    }
    let greedy = greedy();
    if !wrong(&greedy).is_empty() {
        return Err(Failure::WrongPlan(found));
    }
    let said = "the plan by price is wrong, which is a bug worth reporting; the greedy rule's is told instead";
    Ok((greedy, std::iter::once(said.to_owned()).chain(found.into_iter().map(|one| format!("  {one}"))).collect()))
}

/// Says to the pods without a place which pools take no part, and why: to their readers these are pools like others.
fn tell_refused_pools(input: &Input, solution: &mut Solution) {
    let is_used = |key: &PoolKey| input.snapshot.pools.iter().any(|pool| pool.key == *key);
    let refused = input.problems.iter().filter_map(Problem::of_pool).filter(|(pool, _)| !is_used(pool));
    let refused: Vec<Unfit> = refused.map(|(pool, why)| Unfit::PoolRefused { pool, why }).collect();
    // A pod that something is wrong with is not told of pools.
    let of_pools = |why: &Unfit| why.pool().is_some() || matches!(why, Unfit::NoPools | Unfit::Nodes(_));
    for reasons in solution.unplaced.values_mut().filter(|_| !refused.is_empty()) {
        if reasons.iter().any(of_pools) {
            reasons.retain(|why| *why != Unfit::NoPools);
            let before_nodes = reasons.iter().position(|why| matches!(why, Unfit::Nodes(_))).unwrap_or(reasons.len());
            reasons.splice(before_nodes..before_nodes, refused.iter().cloned());
        }
    }
}

fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value).expect("numbers, text and maps of text always serialise");
    format!("{text}\n")
}

/// How many reasons are named that keep pods where they are.
const HOLDS_NAMED: usize = 5;
/// How many objections to a plan are told.
const VIOLATIONS_NAMED: usize = 5;
/// How many unknown fields are named.
const FIELDS_NAMED: usize = 5;

/// What of the input was not looked at, a line each.
fn remarks(input: &Input) -> String {
    let Input { snapshot, remarks, left_out, refused, .. } = input;
    let mut said = String::new();
    let mut line = |text: String| writeln!(said, "{text}").expect("writing to a string cannot fail");
    if let Some(refused) = refused {
        refusal(refused, snapshot).into_iter().for_each(&mut line);
    }
    if input.shipped_types {
        line(format!("prices: {}; --catalogue FILE takes others", ec2::ABOUT));
    }
    if !remarks.skipped.is_empty() {
        let total: usize = remarks.skipped.values().sum();
        let kinds: Vec<String> = remarks.skipped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let total = counted(total, "objects");
        line(format!("skipped {total} of kinds that are not read: {}", kinds.join(", ")));
    }
    if let Some(first) = remarks.strange.first() {
        let documents = counted(remarks.strange.len(), "documents");
        line(format!("skipped {documents} with nothing of Kubernetes in it, such as {first}"));
    }
    for (field, first) in remarks.unknown_fields.iter().take(FIELDS_NAMED) {
        line(format!("warning: {field} is no field known here and has no effect (first in {first})"));
    }
    if let more @ 1.. = remarks.unknown_fields.len().saturating_sub(FIELDS_NAMED) {
        line(format!("warning: {more} more fields are not known here"));
    }
    let left = [
        (left_out.gated, "with scheduling gates"),
        (left_out.preempting, "with a node nominated by the scheduler"),
        (left_out.on_unknown_nodes, "bound to nodes that are not in the input"),
        (left_out.ownerless, "of nodes that are leaving, which nothing makes again"),
    ];
    for (count, what) in left {
        if count > 0 {
            line(format!("left out {} {what}", counted(count, "pods")));
        }
    }
    for (hold, count) in left_out.held.iter().take(HOLDS_NAMED) {
        line(format!("kept {} on nodes that are leaving: {hold}", counted(*count, "pods")));
    }
    if left_out.held.len() > HOLDS_NAMED {
        let more: usize = left_out.held.values().skip(HOLDS_NAMED).sum();
        line(format!("kept {} more for other reasons", counted(more, "pods")));
    }
    for pool in &left_out.pools {
        line(format!("left out {pool}"));
    }
    said
}

/// What was wrong with a plan that was refused, and whether the checker of today says so too.
fn refusal(refused: &Refused, snapshot: &Snapshot) -> Vec<String> {
    let planner = &refused.planner;
    let Some(plan) = &refused.solution else {
        return vec![format!("the planner {planner} panicked on this; what follows is planned anew")];
    };
    let told = |who: &str, violations: &[check::Violation]| {
        let first = violations.iter().take(VIOLATIONS_NAMED).map(|one| format!("  {one}"));
        let more = violations.len().saturating_sub(VIOLATIONS_NAMED);
        let more = (more > 0).then(|| format!("  and {more} more"));
        let head = format!("{who} {}", counted(violations.len(), "objections"));
        std::iter::once(head).chain(first).chain(more).collect::<Vec<_>>()
    };
    let mut lines =
        told(&format!("to the plan of {planner} that was saved here node-provisioner had"), &refused.violations);
    let now = check::check(snapshot, plan);
    if now != refused.violations {
        lines.extend(told("the checker of this version has to it", &now));
    }
    lines.push("what follows is planned anew".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::karpenter_mix_snapshot;

    #[test]
    fn a_plan_that_breaks_a_promise_is_not_told() {
        let (snapshot, settings) = (karpenter_mix_snapshot(20, 1), Settings::default());
        let greedy = || solve_greedy(&snapshot, &settings);
        let lost = || {
            let mut plan = greedy();
            plan.placed.pop_first();
            plan
        };
        assert_eq!(checked(&snapshot, greedy(), || unreachable!()).unwrap(), (greedy(), Vec::new()));
        let (told, rejected) = checked(&snapshot, lost(), greedy).unwrap();
        assert_eq!(told, greedy());
        assert!(rejected.len() > 1 && rejected[0].contains("the greedy rule's is told instead"), "{rejected:?}");
        assert!(matches!(checked(&snapshot, lost(), lost), Err(Failure::WrongPlan(_))));
    }
}
