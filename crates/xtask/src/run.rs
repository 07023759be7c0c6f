//! Commands with their names in front.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// Cargo, as the one that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(testkit::binaries::workspace());
    command
}

/// Says what it does, does it, and says how long it took.
pub(crate) fn step(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {what}");
    let started = Instant::now();
    work().with_context(|| what.to_owned())?;
    println!("== {what}: done in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs a command whose output goes to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| shown.clone())?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}
