//! How long plans take, on the workloads of [`tandem::bench`]: `cargo bench -p tandem`, or of one of them,
//! `cargo bench -p tandem -- mix-1k`. Here it is the clock that counts, over several samples; time on a core, memory, nodes and
//! costs of one run each are `cargo run --release -p xtask -- bench`'s.

use divan::Bencher;
use scheduling::{Settings, Snapshot, solve_greedy, solve_within};
use tandem::bench::CASES;

/// What people quote figures for. The others of `CASES` differ in size alone, or in what becomes of preferences.
const NAMES: [&str; 6] =
    ["mix-1k", "mix-10k", "mix-100k", "host-spread-2k", "nodes-5k-pending-500", "all-different-10k"];

fn main() {
    divan::main();
}

/// The first plan there is: the search is stopped at once.
#[divan::bench(args = NAMES, sample_count = 5, sample_size = 1)]
fn first_plan(bencher: Bencher<'_, '_>, case: &str) {
    let snapshot = world(case);
    bencher.bench_local(|| solve_within(&snapshot, &Settings::default(), &|| true));
}

/// The plan that the default budget of work gives.
#[divan::bench(args = NAMES, sample_count = 3, sample_size = 1)]
fn whole_plan(bencher: Bencher<'_, '_>, case: &str) {
    let snapshot = world(case);
    bencher.bench_local(|| solve_within(&snapshot, &Settings::default(), &|| false));
}

/// The plan of the greedy rule alone, to which the controller falls back.
#[divan::bench(args = NAMES, sample_count = 5, sample_size = 1)]
fn greedy_plan(bencher: Bencher<'_, '_>, case: &str) {
    let snapshot = world(case);
    bencher.bench_local(|| solve_greedy(&snapshot, &Settings::default()));
}

fn world(name: &str) -> Snapshot {
    let case = CASES.iter().find(|case| case.name == name).expect("every name is one of a case");
    (case.world)()
}
