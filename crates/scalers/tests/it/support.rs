//! A real server for a test, and a trigger that reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;
use scalers::{Authentication, HTTP_TIMEOUT, Http, Identity, Sampled, Scaler, ScalerError, TriggerContext};
use testkit::children::{Child, Folder};
use testkit::eventually::{Seen, eventually, when};
use testkit::ports;
use tokio::net::TcpStream;

/// How long a server may take until it listens. The machine may be busy.
const START: Duration = Duration::from_mins(2);

/// A server process with a folder of its own; both end with the test.
pub(crate) struct Server {
    child: Child,
    folder: Folder,
    port: u16,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    /// Starts `program` with what `arguments` makes of its folder and its port, and waits until it listens.
    pub(crate) async fn start(program: &Path, arguments: impl FnOnce(&Path, u16) -> Vec<String>) -> Result<Self> {
        let (folder, port) = (Folder::new()?, ports::free()?);
        let arguments = arguments(folder.path(), port);
        let child = run(program, &arguments, &folder)?;
        let mut server = Self { child, folder, port, program: program.to_owned(), arguments };
        server.listens().await?;
        Ok(server)
    }

    /// Ends the program, as Ctrl-C does, and starts it again in the same place.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.child.signal(Signal::SIGINT);
        eventually("the server to end", START, || {
            let status = self.child.exited();
            async move { Ok(when(status.is_some(), status)) }
        })
        .await?;
        self.child = run(&self.program, &self.arguments, &self.folder)?;
        self.listens().await
    }

    async fn listens(&mut self) -> Result<()> {
        let port = self.port;
        eventually(format!("{} to listen on {port}", self.child.name()), START, || {
            let alive = self.child.check();
            async move {
                if let Err(dead) = alive {
                    return Ok(Seen::Never(dead.to_string()));
                }
                Ok(when(TcpStream::connect(("127.0.0.1", port)).await.is_ok(), port))
            }
        })
        .await?;
        Ok(())
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn run(program: &Path, arguments: &[String], folder: &Folder) -> Result<Child> {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder.path());
    Child::start(&name, command, &folder.path().join("log"))
}

/// A program of a Debian package. `None` where it is not installed: the test that needs it is skipped, with a line that
/// says so.
pub(crate) fn installed(program: &str, package: &str) -> Option<PathBuf> {
    installed_in(program, package, &[])
}

/// The same, looked for in these folders, too. (Debian keeps some servers out of `PATH`.)
pub(crate) fn installed_in(program: &str, package: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(more.iter().map(PathBuf::from));
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("skipped: {program} is not installed; apt-get install {package} makes this test run");
    }
    found
}

/// Runs a program that prepares something, to its end.
pub(crate) fn prepare(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

/// Waits until a scaler reads this. Servers say of themselves that they are there before they are.
pub(crate) async fn until(scaler: &Arc<dyn Scaler>, wanted: (i64, bool)) {
    let _ = eventually(format!("a reading of {wanted:?}"), START, || async {
        let read = read(scaler).await;
        Ok(when(read == Ok(wanted), read))
    })
    .await
    .unwrap();
}

/// What triggers of one program share.
pub(crate) fn program() -> Arc<Http> {
    Arc::new(Http::new(HTTP_TIMEOUT))
}

/// A scaler, built as the controller builds it, in a program of its own.
pub(crate) fn build(trigger_type: &str, metadata: &[(&str, &str)], auth: &[(&str, &str)]) -> Arc<dyn Scaler> {
    build_in(&program(), trigger_type, metadata, auth)
}

/// A scaler that shares with the others of this program.
pub(crate) fn build_in(
    http: &Arc<Http>,
    trigger_type: &str,
    metadata: &[(&str, &str)],
    auth: &[(&str, &str)],
) -> Arc<dyn Scaler> {
    let map = |texts: &[(&str, &str)]| -> BTreeMap<String, String> {
        texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    };
    let (metadata, parameters) = (map(metadata), map(auth));
    let authentication = Authentication::Resolved { parameters: &parameters, identity: &Identity::None };
    let context = TriggerContext { authentication, ..TriggerContext::new(0, &metadata, http) };
    let scaler = scalers::build(trigger_type, &context).expect("a trigger that can be built");
    assert_eq!(scaler.notices(), [], "no setting is without effect");
    scaler
}

/// Reads the one metric of a scaler.
pub(crate) async fn sample(scaler: &Arc<dyn Scaler>) -> Result<Sampled, ScalerError> {
    scaler.sample(&scaler.metrics()[0].name).await
}

/// Reads them all at once.
pub(crate) async fn read_all(scalers: &[Arc<dyn Scaler>]) -> Vec<Result<(i64, bool), String>> {
    futures::future::join_all(scalers.iter().map(read)).await
}

/// The value in thousandths and whether the source is active, or the error's text.
pub(crate) async fn read(scaler: &Arc<dyn Scaler>) -> Result<(i64, bool), String> {
    sample(scaler).await.map(|sampled| (sampled.value.thousandths(), sampled.active)).map_err(|error| error.text())
}
