//! Judges random snapshots until there have been so many: `cargo run --release -p tandem --example fuzz -- COUNT [SEED]`.
//!
//! A snapshot that breaks a promise is named by its seed and the run goes on; one that panics ends it. `-- show SEED` prints
//! the snapshot of a seed.

use std::process::ExitCode;

use tandem::{
    fuzz::judge_snapshot,
    generate::{Random, wild_snapshot},
};

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (count, first) = (numbers.first().copied().unwrap_or(10_000), numbers.get(1).copied().unwrap_or(0));
    if std::env::args().nth(1).as_deref() == Some("show") {
        println!("{:#}", serde_json::json!(wild_snapshot(&bytes(count))));
        return ExitCode::SUCCESS;
    }
    let mut found = 0;
    for seed in first..first.saturating_add(count) {
        for broken in judge_snapshot(&bytes(seed)) {
            found += 1;
            println!("seed {seed}: {broken}");
        }
    }
    println!("{count} snapshots from seed {first}: {found} promises broken");
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bytes(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let words = random.below(250);
    (0..words).flat_map(|_| random.bits().to_le_bytes()).collect()
}
