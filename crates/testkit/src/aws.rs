//! The AWS double (`tests/aws-double`) as a process, and its control endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::binaries::{self, workspace};
use crate::children::Child;
use crate::eventually::{Seen, eventually};
use crate::ports;

const START: Duration = Duration::from_mins(3);

/// moto with our additions, on a port of its own.
#[derive(Debug)]
pub struct AwsDouble {
    control: Control,
    region: String,
    child: Child,
}

/// Speaks to a running double.
#[derive(Clone, Debug)]
pub struct Control {
    url: String,
    http: reqwest::Client,
}

/// What the seeded account has.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    pub vpc: String,
    /// By zone.
    pub subnets: BTreeMap<String, String>,
    pub security_groups: BTreeSet<String>,
    pub instance_profile: String,
    /// By the tail of their parameter's name.
    pub images: BTreeMap<String, String>,
}

/// What an instance knows about itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    pub id: String,
    pub state: String,
    pub instance_type: String,
    pub zone: String,
    /// The id of its subnet.
    pub subnet: String,
    /// Their ids.
    pub security_groups: BTreeSet<String>,
    pub region: String,
    pub private_dns: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// `on-demand` or `spot`.
    pub lifecycle: String,
    /// Unix time. Unit: seconds.
    pub launched_at: f64,
    pub tags: BTreeMap<String, String>,
    /// Base64.
    pub user_data: String,
    pub hardware: Hardware,
}

impl Instance {
    /// Whether it costs money.
    pub fn is_alive(&self) -> bool {
        self.state == "pending" || self.state == "running"
    }
}

#[derive(Clone, Debug, Deserialize)]
pub struct Hardware {
    pub vcpus: u32,
    pub memory_mib: u64,
    pub interfaces: u32,
    pub ipv4_per_interface: u32,
    pub nvidia_gpus: u32,
}

/// One CreateFleet that was carried out.
#[derive(Clone, Debug, Deserialize)]
pub struct Fleet {
    pub fleet: String,
    pub token: String,
    pub instances: Vec<String>,
    pub errors: Vec<Value>,
    pub at: f64,
}

/// What the double has been asked so far.
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// Calls by action.
    pub counts: BTreeMap<String, u64>,
    pub fleets: Vec<Fleet>,
}

impl AwsDouble {
    pub async fn start(folder: &Path) -> Result<Self> {
        let python = tokio::task::spawn_blocking(binaries::python).await??;
        let (port, region) = (ports::free()?, "us-east-1");
        let mut command = Command::new(python);
        command
            .arg(workspace().join("tests/aws-double/main.py"))
            .args(["--port", &port.to_string(), "--region", region])
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = Child::start("aws-double", command, &folder.join("aws-double.log"))?;
        let control = Control { url: format!("http://127.0.0.1:{port}"), http: reqwest::Client::new() };
        eventually("the AWS double to answer", START, || {
            let alive = child.check();
            let control = control.clone();
            async move {
                if let Err(dead) = alive {
                    return Ok(Seen::Never(dead.to_string()));
                }
                Ok(Seen::Done(control.call("health", json!({})).await?))
            }
        })
        .await?;
        Ok(Self { control, region: region.to_owned(), child })
    }

    pub fn control(&self) -> &Control {
        &self.control
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The environment that points an AWS SDK at the double.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.control.url.as_str()),
            ("AWS_REGION", &self.region),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Kills the server, as when a region is unreachable.
    pub fn kill(&mut self) {
        self.child.kill();
    }

    pub fn last_lines(&self, count: usize) -> String {
        self.child.last_lines(count)
    }
}

impl Control {
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn call(&self, name: &str, body: Value) -> Result<Value> {
        let answer = self.http.post(format!("{}/tandem/{name}", self.url)).json(&body).send().await?;
        ensure!(answer.status().is_success(), "AWS double: {name}: {}", answer.text().await?);
        Ok(answer.json().await?)
    }

    /// A VPC with three subnets, security groups, the instance profile `CLUSTER-node` and the AMI parameters.
    pub async fn seed(&self, cluster: &str) -> Result<Account> {
        Ok(serde_json::from_value(self.call("seed", json!({"cluster": cluster})).await?)?)
    }

    /// The pools (capacity type, instance type, zone) that have nothing left; `*` matches anything.
    pub async fn exhaust(&self, pools: &[(&str, &str, &str)]) -> Result<()> {
        self.call("capacity", json!({"exhausted": pools})).await.map(drop)
    }

    pub async fn timing(&self, pending: Duration, shutting_down: Duration) -> Result<()> {
        let body =
            json!({"pending_seconds": pending.as_secs_f64(), "shutting_down_seconds": shutting_down.as_secs_f64()});
        self.call("timing", body).await.map(drop)
    }

    /// Carries out the next `count` calls of `action` but keeps their answers back until [`Control::release`].
    pub async fn hold(&self, action: &str, count: u32) -> Result<()> {
        self.call("hold", json!({"action": action, "count": count})).await.map(drop)
    }

    /// How many answers are kept back now.
    pub async fn held(&self) -> Result<u64> {
        self.call("held", json!({})).await?["held"].as_u64().context("a count")
    }

    pub async fn release(&self) -> Result<()> {
        self.call("release", json!({})).await.map(drop)
    }

    /// The next `times` calls of `action` fail without being carried out.
    pub async fn fail(&self, action: &str, code: &str, status: u16, times: u32) -> Result<()> {
        let body = json!({"action": action, "code": code, "status": status, "times": times});
        self.call("fail", body).await.map(drop)
    }

    pub async fn log(&self) -> Result<Log> {
        Ok(serde_json::from_value(self.call("log", json!({})).await?)?)
    }

    /// All instances ever launched, the dead ones too.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        let mut answer = self.call("instances", json!({})).await?;
        Ok(serde_json::from_value(answer["instances"].take())?)
    }

    /// Those that cost money.
    pub async fn alive(&self) -> Result<Vec<Instance>> {
        Ok(self.instances().await?.into_iter().filter(Instance::is_alive).collect())
    }

    /// Somebody terminates an instance in the console.
    pub async fn kill_instance(&self, id: &str) -> Result<()> {
        self.call("kill", json!({"id": id})).await.map(drop)
    }

    /// Names of the launch templates that are left, by an ordinary EC2 call.
    pub async fn launch_templates(&self) -> Result<Vec<String>> {
        let form = "Action=DescribeLaunchTemplates&Version=2016-11-15";
        let scope =
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
        let answer = self
            .http
            .post(&self.url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("Authorization", scope)
            .body(form)
            .send()
            .await?
            .text()
            .await?;
        let names = answer.split("<launchTemplateName>").skip(1).filter_map(|rest| rest.split('<').next());
        Ok(names.map(str::to_owned).collect())
    }
}
