//! Commands with their names in front.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The group of what is being run just now; 0 when nothing is. There is one at a time.
static RUNNING: AtomicI32 = AtomicI32::new(0);

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
    RUNNING.store(i32::try_from(process.id())?, Ordering::SeqCst);
    let read = meanwhile(&mut process);
    let status = process.wait();
    RUNNING.store(0, Ordering::SeqCst);
    read?;
    Ok(status?)
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
        let running = RUNNING.load(Ordering::SeqCst);
        if running != 0 {
            let _ = killpg(Pid::from_raw(running), Signal::SIGTERM);
        }
        eprintln!("\ninterrupted");
        std::process::exit(130);
    });
    Ok(())
}
