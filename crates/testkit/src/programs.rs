//! Our own programs as processes of a test, each with its chart's ServiceAccount and nothing more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::aws::AwsDouble;
use crate::bed::Bed;
use crate::binaries::workspace;
use crate::children::{Child, run_to_end};
use crate::eventually::{Seen, eventually, when};
use crate::{charts, ports};

/// Where both programs live in a bed.
pub const NAMESPACE: &str = "tandem-system";
/// With this environment variable our programs are taken as they are.
pub const PROGRAMS_ARE_BUILT: &str = "TANDEM_TESTBED_PROGRAMS_BUILT";
const START: Duration = Duration::from_secs(90);

/// How to run one of our programs, again and again.
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: PathBuf,
    health_port: u16,
    metrics_port: u16,
    child: Option<Child>,
    starts: u32,
    /// Objects of the chart, as rendered.
    pub chart: Vec<Value>,
}

/// How node-provisioner runs in a test.
#[derive(Clone, Debug)]
pub struct Provisioner {
    pub cluster: String,
    /// Unit: as the flag takes it, such as `1s`.
    pub batch_idle: String,
    pub batch_max: String,
    pub arguments: Vec<String>,
}

impl Provisioner {
    pub fn of(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), batch_idle: "1s".into(), batch_max: "5s".into(), arguments: Vec::new() }
    }
}

impl Bed {
    /// Applies the chart's RBAC, Service and APIService, and starts `pod-autoscaler`.
    pub async fn spawn_pod_autoscaler(&self, arguments: &[&str]) -> Result<Program> {
        self.spawn_pod_autoscaler_with(&[], arguments).await
    }

    /// The same with values of the chart. Namespaces that these name must be there.
    pub async fn spawn_pod_autoscaler_with(&self, values: &[(&str, &str)], arguments: &[&str]) -> Result<Program> {
        let api_port = ports::free()?;
        let mut program = self.prepare("pod-autoscaler", values, api_port, arguments).await?;
        program.arguments.push(format!("--api-bind=127.0.0.1:{api_port}"));
        program.arguments.push(format!("--api-service={NAMESPACE}/pod-autoscaler"));
        let webhooks = program.chart.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration");
        if let Some(name) = webhooks.and_then(|webhooks| webhooks["metadata"]["name"].as_str()) {
            program.arguments.push(format!("--webhook-configuration={name}"));
        }
        program.start().await?;
        Ok(program)
    }

    /// Applies the chart's RBAC and starts `node-provisioner` against the AWS double.
    pub async fn spawn_node_provisioner(&self, aws: &AwsDouble, options: &Provisioner) -> Result<Program> {
        let extra: Vec<&str> = options.arguments.iter().map(String::as_str).collect();
        let values = [("clusterName", options.cluster.as_str()), ("clusterEndpoint", self.endpoint())];
        let mut program = self.prepare("node-provisioner", &values, ports::free()?, &extra).await?;
        program.arguments.extend([
            "--cloud=aws".to_owned(),
            format!("--rejected-plans={}", self.rejected_plans().display()),
            format!("--cluster-name={}", options.cluster),
            format!("--cluster-endpoint={}", self.endpoint()),
            format!("--batch-idle={}", options.batch_idle),
            format!("--batch-max={}", options.batch_max),
        ]);
        program.environment.extend(aws.environment());
        program.start().await?;
        Ok(program)
    }

    /// Applies the chart's RBAC and starts `node-provisioner` with machines that are nothing but Nodes.
    pub async fn spawn_node_provisioner_on_kwok(&self, options: &Provisioner) -> Result<Program> {
        let extra: Vec<&str> = options.arguments.iter().map(String::as_str).collect();
        let values = [("clusterName", options.cluster.as_str()), ("cloud", "kwok")];
        let mut program = self.prepare("node-provisioner", &values, ports::free()?, &extra).await?;
        program.arguments.extend([
            "--cloud=kwok".to_owned(),
            format!("--rejected-plans={}", self.rejected_plans().display()),
            format!("--cluster-name={}", options.cluster),
            format!("--batch-idle={}", options.batch_idle),
            format!("--batch-max={}", options.batch_max),
        ]);
        program.start().await?;
        Ok(program)
    }

    /// Where node-provisioner leaves the plans that its checker refused.
    fn rejected_plans(&self) -> PathBuf {
        self.folder().join("rejected-plans")
    }

    /// An error if the checker had to refuse a plan: another one took its place, but there should be no need to.
    pub fn no_plan_was_rejected(&self) -> Result<()> {
        let Ok(plans) = std::fs::read_dir(self.rejected_plans()) else { return Ok(()) };
        let Some(plan) = plans.flatten().map(|entry| entry.path()).min() else { return Ok(()) };
        let saved: Value = serde_json::from_slice(&std::fs::read(&plan)?)?;
        anyhow::bail!("the checker refused a plan of the {}: {}", saved["planner"], saved["violations"])
    }

    async fn prepare(
        &self,
        name: &'static str,
        values: &[(&str, &str)],
        service_port: u16,
        arguments: &[&str],
    ) -> Result<Program> {
        let path = built(name).await?;
        let chart = workspace().join("charts").join(name);
        let chart = charts::apply_chart(self, &chart, name, NAMESPACE, values, service_port).await?;
        let account = charts::service_account(&chart)?;
        let kubeconfig = self.service_account_kubeconfig(NAMESPACE, &account).await?;
        let (health_port, metrics_port) = (ports::free()?, ports::free()?);
        let mut all = vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--health-bind=127.0.0.1:{health_port}"),
            format!("--metrics-bind=127.0.0.1:{metrics_port}"),
            format!("--leader-elect-namespace={NAMESPACE}"),
            "--log-level=info".to_owned(),
        ];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Ok(Program {
            name,
            path,
            arguments: all,
            environment: Vec::new(),
            folder: self.folder().to_owned(),
            health_port,
            metrics_port,
            child: None,
            starts: 0,
            chart,
        })
    }
}

impl Program {
    /// Starts it and waits until it says that it is alive. Every start has a log of its own.
    pub async fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        self.starts += 1;
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).current_dir(&self.folder).env("HOME", &self.folder).env_remove("KUBECONFIG");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = self.folder.join(format!("{}.{}.log", self.name, self.starts));
        let mut child = Child::start(self.name, command, &log)?;
        let url = format!("http://127.0.0.1:{}/healthz", self.health_port);
        eventually(format!("{} to be healthy", self.name), START, || {
            let alive = child.check();
            let url = url.clone();
            async move {
                if let Err(dead) = alive {
                    return Ok(Seen::Never(dead.to_string()));
                }
                let status = reqwest::get(url).await?.status();
                Ok(when(status.is_success(), status))
            }
        })
        .await?;
        self.child = Some(child);
        Ok(())
    }

    /// SIGKILL, as when the machine under it dies.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill();
        }
    }

    /// SIGTERM, as when its pod is deleted; an error when it does not end by itself.
    pub fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        self.child.take().context("it does not run")?.terminate(Duration::from_secs(30))
    }

    pub async fn restart(&mut self) -> Result<()> {
        self.kill();
        self.start().await
    }

    /// An error with the last lines of the log when it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        self.child.as_mut().with_context(|| format!("{} does not run", self.name))?.check()
    }

    /// Its name, as of its binary.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            child.signal(signal);
        }
    }

    /// Everything it has logged since its first start.
    pub fn log(&self) -> String {
        let logs = (1..=self.starts).map(|start| self.folder.join(format!("{}.{start}.log", self.name)));
        logs.map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect()
    }

    pub fn last_lines(&self, count: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Its metrics page.
    pub async fn metrics(&self) -> Result<String> {
        Ok(reqwest::get(format!("http://127.0.0.1:{}/metrics", self.metrics_port)).await?.text().await?)
    }
}

impl Drop for Program {
    /// A failing test shows what the program said last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "--- last lines of {}\n{}", self.name, self.last_lines(40));
        }
    }
}

/// The program's binary, built from this workspace in the profile that the caller was built in.
async fn built(name: &'static str) -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let folder = tokio::task::spawn_blocking(|| BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))))
        .await?
        .as_ref()
        .map_err(|error| anyhow!("{error}"))?;
    Ok(folder.join(name))
}

fn build() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "debug" || name == "release"))
        .with_context(|| format!("{} is not in a target folder", own.display()))?;
    if std::env::var_os(PROGRAMS_ARE_BUILT).is_some() {
        return Ok(profile.to_owned());
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        // The whole workspace, as `cargo xtask test` builds it: another choice of packages would unify features
        // differently and build half the dependencies again.
        .args(["build", "--workspace", "--bins"])
        .current_dir(workspace());
    command.arg("--target-dir").arg(profile.parent().unwrap_or(Path::new("target")));
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = run_to_end(&mut command).context("running cargo")?;
    ensure!(status.success(), "our programs do not build");
    Ok(profile.to_owned())
}
