//! Cost, bound and time on stored instances: `cargo run --release --example gates -- FOLDER [NAME…]`.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for a table")]

mod instance;

use std::path::Path;
use std::time::Duration;

use packing::{Budget, Packing, Problem, first_fit, pack};

/// Instances of which more is asked.
const FIRST: [&str; 10] = [
    "web-1k-team",
    "web-10k-multiarch",
    "web-100k",
    "karpdist-100k",
    "mem-heavy-3k",
    "batch-big-800",
    "ephemeral-4k",
    "ds-heavy-2k",
    "tiny-pods-5k",
    "",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "../shared/packing".to_owned());
    let only: Vec<String> = arguments.collect();
    let found = instance::instances(Path::new(&folder));
    if found.is_empty() {
        println!("no instances in {folder}");
        return;
    }
    println!(
        "{:18} {:>6} {:>6} {:>6} {:>7} {:>7} {:>7} {:>8} {:>6} {:>6} {:>6}  verdict (ratios to the stored bound)",
        "instance", "5ms", "100ms", "1s", "greedy", "Karp.", "best", "bound", "ms", "ms", "ms"
    );
    let mut broken = 0;
    for instance in found.iter().filter(|instance| only.is_empty() || only.contains(&instance.name)) {
        let greedy = first_fit(&instance.problem);
        let runs: Vec<(Packing, f64)> = [5, 100, 1000].into_iter().map(|ms| timed(&instance.problem, ms)).collect();
        let ratio = |cost: i128| cost as f64 / instance.bound as f64;
        let mut verdict = Vec::new();
        for (run, limit) in runs.iter().zip(["5ms", "100ms", "1s"]) {
            if run.0.cost > instance.karpenter.min(greedy.cost) || !run.0.unplaced.is_empty() {
                verdict.push(format!("G1 at {limit}"));
            }
            if run.0.lower_bound.is_none_or(|bound| bound > instance.best) {
                verdict.push(format!("BOUND at {limit}"));
            }
        }
        let name = instance.name.as_str();
        let first = FIRST.contains(&name);
        let (at_100, at_1000) = match name {
            _ if first => (1.03, 1.01),
            "karp-diverse-500" => (1.20, 1.08),
            "ha-spread-1500" => (1.12, 1.05),
            _ => (1.12, 1.03),
        };
        if ratio(runs[1].0.cost) > at_100 {
            verdict.push(format!("G2 {at_100}"));
        }
        if ratio(runs[2].0.cost) > at_1000 {
            verdict.push(format!("G3 {at_1000}"));
        }
        let bound = runs[2].0.lower_bound.unwrap_or(0);
        if first && ratio(bound) < 0.97 {
            verdict.push("G3 bound".to_owned());
        }
        let proven = match name {
            "tiny-12" | "small-40" => Some(200),
            "tiny-pods-5k" => Some(5000),
            _ => None,
        };
        if let Some(ms) = proven {
            let (run, took) = timed(&instance.problem, ms);
            let text = if run.proven_optimal { "optimal" } else { "G4 not proven" };
            verdict.push(format!("{text} in {took:.0} ms"));
            broken += usize::from(!run.proven_optimal);
        }
        broken += verdict.iter().filter(|text| !text.starts_with("optimal")).count();
        println!(
            "{name:18} {:6.4} {:6.4} {:6.4} {:7.4} {:7.4} {:7.4} {:8.4} {:6.0} {:6.0} {:6.0}  {}",
            ratio(runs[0].0.cost),
            ratio(runs[1].0.cost),
            ratio(runs[2].0.cost),
            ratio(greedy.cost),
            ratio(instance.karpenter),
            ratio(instance.best),
            ratio(bound),
            runs[0].1,
            runs[1].1,
            runs[2].1,
            if verdict.is_empty() { "ok".to_owned() } else { verdict.join(", ") },
        );
    }
    println!("{broken} gates missed");
}

/// Budgets are in time of this thread, not on the wall: others use the machine, too.
fn timed(problem: &Problem, ms: u64) -> (Packing, f64) {
    let start = thread_time();
    let limit = Duration::from_millis(ms);
    let stop = || thread_time() >= start + limit;
    let packing = pack(problem, &Budget { work: u64::MAX, stop: &stop, gap_ppm: 0 }, None);
    (packing, thread_time().saturating_sub(start).as_secs_f64() * 1e3)
}

fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts the time of a thread");
    Duration::from_nanos(text.split(' ').next().and_then(|text| text.parse().ok()).expect("nanoseconds first"))
}
