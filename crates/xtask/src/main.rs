//! The project's own chores: `cargo xtask demo | test | tidy | gates | bench | measure`.

mod bench;
mod demo;
mod gates;
mod measure;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Chores of the workspace")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Play the walkthrough on this machine: load, replicas, pending pods, a plan, machines, and back to nothing.
    Demo(demo::Options),
    /// Everything CI checks: format, lints, tidy, unit tests, end-to-end tests.
    Test(test::Options),
    /// Dependency rules, licences, duplicate crates, file sizes, generated CRDs, the map.
    Tidy,
    /// What the node solver's plans cost against the greedy rule and the best known bound, at several budgets, and which
    /// gates that passes.
    Gates,
    /// How long the node solver takes for Karpenter's mix of pods and other workloads, and how much memory.
    Bench(bench::Options),
    /// How fast pod-autoscaler serves many ScaledObjects, and what both programs cost at rest.
    Measure(measure::Options),
}

fn main() -> ExitCode {
    let chore = Arguments::parse().chore;
    // These two clean up after themselves.
    if !matches!(chore, Chore::Demo(_) | Chore::Measure(_))
        && let Err(error) = run::end_together()
    {
        eprintln!("an interruption will not end what is started: {error:#}");
    }
    let done = match chore {
        Chore::Demo(options) => demo::demo(&options),
        Chore::Test(options) => {
            return if test::test(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
        Chore::Tidy => tidy::tidy(),
        Chore::Gates => gates::gates(),
        Chore::Bench(options) => bench::bench(&options),
        Chore::Measure(options) => measure::measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nfailed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
