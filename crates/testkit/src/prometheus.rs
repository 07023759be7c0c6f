//! The real Prometheus, scraping every second.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::children::Child;
use crate::eventually::{Seen, eventually, when};
use crate::{binaries, ports};

const START: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    url: String,
}

impl Prometheus {
    /// Starts it with its data in `folder`, scraping `/metrics` of each target.
    pub async fn start(folder: &Path, targets: &[SocketAddr]) -> Result<Self> {
        let program = tokio::task::spawn_blocking(binaries::prometheus).await??;
        let port = ports::free()?;
        let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let config = folder.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n- job_name: mesh\n  static_configs:\n  - targets: [{}]\n",
                targets.join(", ")
            ),
        )?;
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--storage.tsdb.retention.time=2h", "--log.level=warn"]);
        let child = Child::start("prometheus", command, &folder.join("prometheus.log"))?;
        let mut prometheus = Self { child, url: format!("http://127.0.0.1:{port}") };
        let ready = format!("{}/-/ready", prometheus.url);
        let child = &mut prometheus.child;
        eventually("Prometheus to be ready", START, || {
            let alive = child.check();
            let ready = ready.clone();
            async move {
                if let Err(dead) = alive {
                    return Ok(Seen::Never(dead.to_string()));
                }
                let status = reqwest::get(ready).await?.status();
                Ok(when(status.is_success(), status))
            }
        })
        .await?;
        Ok(prometheus)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Kills the server, as when it crashes.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    /// Stops it where it is; it takes connections and answers none.
    pub fn pause(&self) {
        self.child.signal(Signal::SIGSTOP);
    }

    /// Lets it go on where it was.
    pub fn resume(&self) {
        self.child.signal(Signal::SIGCONT);
    }

    /// The value of an instant query with one result; `None` without a result.
    pub async fn query(&self, query: &str) -> Result<Option<f64>> {
        let url = format!("{}/api/v1/query", self.url);
        let answer: Value = reqwest::Client::new().get(url).query(&[("query", query)]).send().await?.json().await?;
        let Some(value) = answer.pointer("/data/result/0/value/1") else { return Ok(None) };
        Ok(Some(value.as_str().context("a value that is no string")?.parse()?))
    }
}
