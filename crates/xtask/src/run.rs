//! Commands with their names in front.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The groups of what is being run just now.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

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
    let status = wait(command, |_| Ok(())).with_context(|| shown.clone())?;
    ensure!(status.success(), "{shown}: {status}");
    Ok(())
}

/// Starts a process, does something with it meanwhile, and waits for its end. It is the first of a group of its own, which
/// [`end_together`] ends with us.
pub(crate) fn wait(command: &mut Command, meanwhile: impl FnOnce(&mut Child) -> Result<()>) -> Result<ExitStatus> {
    let mut process = command.process_group(0).spawn()?;
    let group = Pid::from_raw(i32::try_from(process.id())?);
    running(|groups| groups.push(group));
    let read = meanwhile(&mut process);
    let status = process.wait();
    running(|groups| groups.retain(|other| *other != group));
    read?;
    Ok(status?)
}

/// Looks at, or changes, what is being run. A panic in between leaves nothing half done there.
fn running(change: impl FnOnce(&mut Vec<Pid>)) {
    change(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner));
}

/// From now on SIGINT and SIGTERM end what [`wait`] waits for, too, with all that it has started.
#[expect(clippy::exit, reason = "the main thread is busy with what was interrupted; a shell expects this code")]
pub(crate) fn end_together() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut terminate = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        });
        running(|groups| {
            for group in groups.iter() {
                let _ = killpg(*group, Signal::SIGTERM);
            }
        });
        eprintln!("\ninterrupted");
        std::process::exit(130);
    });
    Ok(())
}
