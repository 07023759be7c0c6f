//! Made-up inputs for tests, benchmarks and demonstrations: the same number gives the same input on every machine.

mod instances;
mod mix;
mod wild;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

pub use self::{
    instances::{Kind, instance},
    mix::{karpenter_mix, karpenter_mix_snapshot},
    wild::wild_snapshot,
};

/// Prints an input for `tandem simulate`.
#[derive(Clone, Debug, Args)]
pub struct Generate {
    /// What to make.
    #[command(subcommand)]
    pub what: What,
    /// Where to write it instead of to standard output.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Which input.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum What {
    /// The pods of Karpenter's scheduling benchmark: plain ones, and ones with spread, affinity and anti-affinity, a fifth
    /// each, with its pool and its 400 made-up instance types.
    KarpenterMix {
        /// How many pods.
        #[arg(long, default_value_t = 1000, value_name = "N")]
        pods: usize,
        /// Another number gives other pods.
        #[arg(long, default_value_t = 42, value_name = "N")]
        seed: u64,
    },
    /// A packing instance with made-up instance types.
    Packing {
        /// What it is about.
        #[arg(long, value_enum, default_value_t = Kind::Web)]
        kind: Kind,
        /// How many pods, about.
        #[arg(long, default_value_t = 200, value_name = "N")]
        pods: usize,
        /// Another number gives other pods.
        #[arg(long, default_value_t = 42, value_name = "N")]
        seed: u64,
    },
}

/// The text of an input: a document each.
pub fn generate(what: What) -> String {
    match what {
        What::KarpenterMix { pods, seed } => {
            let parts = karpenter_mix(pods, seed).map(|part| format!("---\n{part}\n"));
            parts.concat()
        }
        What::Packing { kind, pods, seed } => pretty(&instance(kind, pods, seed)),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A generator of numbers that every language can have in four lines (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Another seed gives other numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end as u64).expect("it is less than a usize")
    }

    /// One of these; there must be one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The first outputs for seed 0, as published with the algorithm.
        let mut random = Random::new(0);
        assert_eq!([random.bits(), random.bits()], [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4]);
    }
}
