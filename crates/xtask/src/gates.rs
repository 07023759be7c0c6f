//! `cargo xtask gates`: the node solver against every packing instance, as a release build.
//!
//! What is measured and demanded is `tandem::gates`' own; it is run as an example, so that this crate need not be built
//! with the solver in it.

use anyhow::Result;

use crate::run::{cargo, run};

pub(crate) fn gates() -> Result<()> {
    run(cargo().args(["run", "--locked", "--release", "--package=tandem", "--example=gates"]))
}
