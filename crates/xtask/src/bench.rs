//! `cargo xtask bench`: time and memory of the node solver, as a release build.
//!
//! The workloads are `tandem::bench`'s own; it is run as an example, as `gates` is.

use anyhow::Result;
use clap::Args;

use crate::run::{cargo, run};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

pub(crate) fn bench(options: &Options) -> Result<()> {
    let example = ["run", "--locked", "--release", "--package=tandem", "--example=bench", "--"];
    run(cargo().args(example).arg(&options.only))
}
