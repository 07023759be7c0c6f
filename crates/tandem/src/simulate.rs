//! `tandem simulate`: one plan for one snapshot.

use std::{fmt::Write as _, path::PathBuf, time::Instant};

use clap::{Args, ValueEnum};
use scheduling::{PodKey, PoolKey, Settings, Snapshot, Solution, Unfit, check, solve_greedy, solve_within};
use serde::Serialize;

use crate::{
    BadInput, Problem, ec2,
    input::{self, Input},
    report::{Detail, Explanation, Flexibility, Look, Played, Report, counted},
};

/// Prints what would be bought for the pods of a snapshot, at what price and why.
#[derive(Clone, Debug, Args)]
pub struct Simulate {
    /// A folder or file of Kubernetes YAML or JSON, a packing instance, or - for standard input.
    ///
    /// Read are Pods, Nodes, DaemonSets, Deployments, ReplicaSets, StatefulSets, Jobs, PersistentVolumes and their claims,
    /// StorageClasses, CSINodes, Namespaces, PriorityClasses, RuntimeClasses, LimitRanges, PodDisruptionBudgets, Provisioners,
    /// NodePools, NodeClaims, NodeOverlays and Lists of them. A workload counts with the pods that it has yet to make. These, the pods of DaemonSets and
    /// Pods without a UID get what the API server's admission would write into them for their RuntimeClass and LimitRanges.
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
    let settings = Settings {
        ignore_preferences: arguments.preference_policy == PreferencePolicy::Ignore,
        relax_min_values: arguments.min_values_policy == MinValuesPolicy::BestEffort,
        ..settings(arguments.budget_ms)
    };
    let started = Instant::now();
    let is_over = || arguments.budget_ms.is_some_and(|budget| started.elapsed().as_millis() >= u128::from(budget));
    let solution = solve_within(snapshot, &settings, &is_over);
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

/// How to solve: within so many milliseconds, time is the only bound and no plan is good enough that is not proven to be the
/// cheapest; without a number of milliseconds an amount of work is.
pub fn settings(budget_ms: Option<u64>) -> Settings {
    let settings = Settings::default();
    match budget_ms {
        None => settings,
        Some(_) => Settings { budget_work_units: u64::MAX, search_work_units: u64::MAX, target_gap_ppm: 0, ..settings },
    }
}

fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value).expect("numbers, text and maps of text always serialise");
    format!("{text}\n")
}

/// How many disruption budgets are named that keep pods where they are.
const HOLDS_NAMED: usize = 5;
/// How many unknown fields are named.
const FIELDS_NAMED: usize = 5;

/// What of the input was not looked at, a line each.
fn remarks(input: &Input) -> String {
    let Input { remarks, left_out, .. } = input;
    let mut said = String::new();
    let mut line = |text: String| writeln!(said, "{text}").expect("writing to a string cannot fail");
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
        line(format!("kept {} more for other disruption budgets", counted(more, "pods")));
    }
    for pool in &left_out.pools {
        line(format!("left out {pool}"));
    }
    said
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
