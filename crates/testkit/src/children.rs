//! Processes that never outlive us.
//!
//! Every child runs in a process group of its own, so that a Ctrl-C at the terminal reaches only us. Dropping a [`Child`]
//! kills its group. When we die without unwinding (Ctrl-C, SIGKILL, an abort), the *undertaker* does it: a shell that
//! reads what to kill and what to remove from a pipe whose other end only we hold, and acts when that pipe closes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// A running program with its log file.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    log: PathBuf,
    exit: Option<ExitStatus>,
}

impl Child {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        Self::start_command(name, &mut command, log)
    }

    pub(crate) fn start_command(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out =
            File::options().create(true).append(true).open(log).with_context(|| format!("log {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
        let process =
            command.spawn().with_context(|| format!("starting {name}: {}", command.get_program().to_string_lossy()))?;
        tell_undertaker(&format!("watch {}", process.id()));
        Ok(Self { name: name.to_owned(), process, log: log.to_owned(), exit: None })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The exit status, if the program has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.exit.is_none() {
            self.exit = self.process.try_wait().ok().flatten();
        }
        self.exit
    }

    /// An error with the end of the log when the program is no longer running.
    pub fn check(&mut self) -> Result<()> {
        match self.exited() {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its last lines:\n{}", self.name, self.last_lines(25)),
        }
    }

    pub fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            let _ = killpg(group(self.process.id()), signal);
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if self.exit.is_none() {
            self.exit = self.process.wait().ok();
        }
        tell_undertaker(&format!("forget {}", self.process.id()));
    }

    /// SIGTERM, and the exit status; an error when it is still running after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let started = Instant::now();
        while started.elapsed() < limit {
            if let Some(status) = self.exited() {
                self.kill();
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("{} did not end within {limit:?} of SIGTERM; its last lines:\n{}", self.name, self.last_lines(25))
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of the log.
    pub fn last_lines(&self, count: usize) -> String {
        let text = tail(&self.log, 64 * 1024).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a command to its end, with our own outputs. Neither it nor its temporary files outlive us.
pub(crate) fn run_to_end(command: &mut Command) -> Result<ExitStatus> {
    let temporary = Folder::new()?;
    let mut process = temporary.keeps_temporary_files_of(command).stdin(Stdio::null()).process_group(0).spawn()?;
    tell_undertaker(&format!("watch {}", process.id()));
    let status = process.wait();
    tell_undertaker(&format!("forget {}", process.id()));
    Ok(status?)
}

/// A folder that disappears with us, whichever way we end.
#[derive(Debug)]
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("tandem-bed-").tempdir()?;
        tell_undertaker(&format!("remove {}", folder.path().display()));
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// What is killed does not clear up its temporary files; here somebody else does.
    pub(crate) fn keeps_temporary_files_of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("TMPDIR", self.path()).env("GOTMPDIR", self.path())
    }
}

fn tail(path: &Path, bytes: u64) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn group(id: u32) -> Pid {
    Pid::from_raw(i32::try_from(id).expect("process ids fit in i32"))
}

/// Reads `watch PID`, `forget PID`, `remove FOLDER`; at the end of input kills and removes what is left.
const UNDERTAKER: &str = r#"
trap '' INT TERM HUP
pids=" " folders=
while read -r what arg; do
  case $what in
    watch) pids="$pids$arg " ;;
    forget) rest=" "; for p in $pids; do [ "$p" = "$arg" ] || rest="$rest$p "; done; pids=$rest ;;
    remove) folders="$folders $arg" ;;
  esac
done
for p in $pids; do kill -KILL "-$p" 2>/dev/null; done
for f in $folders; do case $f in */tandem-bed-*)
  # Whoever was killed a moment ago may still be finishing a last write.
  for again in 1 2 3 4 5; do rm -rf "$f" && break; sleep 1; done ;;
esac; done
"#;

fn tell_undertaker(line: &str) {
    static PIPE: LazyLock<Mutex<Option<ChildStdin>>> = LazyLock::new(|| {
        let shell = Command::new("sh")
            .args(["-c", UNDERTAKER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        Mutex::new(shell.ok().and_then(|mut shell| shell.stdin.take()))
    });
    if let Ok(mut pipe) = PIPE.lock()
        && let Some(pipe) = pipe.as_mut()
    {
        // A lost undertaker only costs tidiness after a crash; the work goes on.
        let _ = writeln!(pipe, "{line}");
    }
}
