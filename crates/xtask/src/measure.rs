//! `cargo xtask measure`: how long `pod-autoscaler` takes to serve many ScaledObjects, and what it and `node-provisioner`
//! cost at rest.
//!
//! The objects are created on a real control plane and ask a real Prometheus for a number that is always one; the targets
//! have one replica that no node takes and no pool grows for, as many pods as objects that node-provisioner looks at. It says which build it measured: run it
//! as `cargo run --release -p xtask -- measure` for figures of release builds.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{ListParams, PartialObjectMeta};
use serde_json::{Value, json};
use testkit::apply::{apply, apply_crds};
use testkit::aws::AwsDouble;
use testkit::bed::{Bed, Options as BedOptions};
use testkit::binaries::workspace;
use testkit::eventually::{eventually, when};
use testkit::programs::{Program, Provisioner};
use testkit::prometheus::Prometheus;

/// The namespace of the objects.
const NAMESPACE: &str = "many";
/// The cluster that the AWS double knows.
const CLUSTER: &str = "tandem-many";
/// Objects that are being created at the same time.
const AT_ONCE: usize = 16;
/// Clock ticks of `/proc/PID/stat` in a second: 100 on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many ScaledObjects: each number in turn, on top of those before.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    objects: Vec<usize>,
    /// How long to look at the programs at rest. Unit: seconds.
    #[arg(long, default_value_t = 60)]
    rest_seconds: u64,
}

pub(crate) fn measure(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<()> {
    ensure!(options.objects.is_sorted(), "--objects must rise");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("{build} build; the HPA controller asks every 15 s, as in clusters");
    let bed = Bed::start(BedOptions {
        hpa_sync_seconds: 15,
        hpa_downscale_stabilization_seconds: 300,
        ..BedOptions::default()
    })
    .await?;
    apply_crds(&bed.client(), &workspace().join("crds")).await?;
    bed.namespace(NAMESPACE).await?;
    let prometheus = Prometheus::start(bed.folder(), &[]).await?;
    let aws = AwsDouble::start(bed.folder()).await?;
    aws.control().seed(CLUSTER).await?;
    let autoscaler = bed.spawn_pod_autoscaler(&[]).await?;
    let provisioner = bed.spawn_node_provisioner(&aws, &Provisioner::of(CLUSTER)).await?;
    let programs = [&autoscaler, &provisioner];
    let period = Duration::from_secs(options.rest_seconds);
    at_rest("no objects", &programs, period).await?;
    let mut there = 0;
    for objects in &options.objects {
        grow(&bed, prometheus.url(), there..*objects).await?;
        there = *objects;
        at_rest(&format!("{objects} ScaledObjects"), &programs, period).await?;
    }
    Ok(())
}

/// Creates targets and ScaledObjects of these numbers and waits until each has its HPA.
async fn grow(bed: &Bed, prometheus: &str, numbers: Range<usize>) -> Result<()> {
    create(bed, numbers.clone(), target).await.context("creating targets")?;
    println!("{} more Deployments are there; creating their ScaledObjects", numbers.len());
    let started = Instant::now();
    create(bed, numbers.clone(), |number| scaled_object(number, prometheus)).await.context("creating ScaledObjects")?;
    let created = started.elapsed();
    let hpas: Api<PartialObjectMeta<HorizontalPodAutoscaler>> = Api::namespaced(bed.client(), NAMESPACE);
    eventually("an HPA for every ScaledObject", Duration::from_mins(15), || async {
        let there = hpas.list_metadata(&ListParams::default()).await?.items.len();
        Ok(when(there == numbers.end, there))
    })
    .await?;
    println!(
        "created in {:.1} s; all HPAs {:.1} s after the last create",
        created.as_secs_f64(),
        started.elapsed().saturating_sub(created).as_secs_f64()
    );
    Ok(())
}

/// Lets the first polls pass, then looks.
async fn at_rest(what: &str, programs: &[&Program], period: Duration) -> Result<()> {
    println!("{what}: {} s for it to settle, as long again to look", period.as_secs());
    tokio::time::sleep(period).await;
    let before = programs.iter().map(|program| cpu_seconds(pid(program)?)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    tokio::time::sleep(period).await;
    for (program, before) in programs.iter().zip(before) {
        let usage = usage(pid(program)?, before, started.elapsed())?;
        println!("    {:<17} {usage}", program.name());
    }
    Ok(())
}

fn pid(program: &Program) -> Result<u32> {
    program.id().with_context(|| format!("{} does not run", program.name()))
}

async fn create(bed: &Bed, numbers: Range<usize>, object: impl Fn(usize) -> Value) -> Result<()> {
    let mut running = tokio::task::JoinSet::new();
    for number in numbers {
        if running.len() == AT_ONCE
            && let Some(done) = running.join_next().await
        {
            done??;
        }
        let (client, object) = (bed.client(), object(number));
        running.spawn(async move { apply(&client, &object).await });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }
    Ok(())
}

fn target(number: usize) -> Value {
    let labels = json!({"app": format!("many-{number}")});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("many-{number}"), "namespace": NAMESPACE},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        }},
    })
}

fn scaled_object(number: usize, prometheus: &str) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": {"name": format!("many-{number}"), "namespace": NAMESPACE},
        "spec": {
            "scaleTargetRef": {"name": format!("many-{number}")}, "minReplicaCount": 1, "pollingInterval": 30,
            "triggers": [{"type": "prometheus", "metadata": {
                "serverAddress": prometheus, "query": "vector(1)", "threshold": "10",
            }}],
        },
    })
}

/// What a process used over some time.
struct Usage {
    millicores: f64,
    resident_mib: f64,
    anonymous_mib: f64,
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { millicores, resident_mib, anonymous_mib } = self;
        write!(f, "{millicores:.0} mCPU, {resident_mib:.0} MiB resident, of which {anonymous_mib:.0} MiB anonymous")
    }
}

fn usage(pid: u32, cpu_seconds_before: f64, period: Duration) -> Result<Usage> {
    let used = cpu_seconds(pid)? - cpu_seconds_before;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(Usage {
        millicores: used / period.as_secs_f64() * 1000.0,
        resident_mib: mib(&status, "VmRSS:")?,
        anonymous_mib: mib(&status, "RssAnon:")?,
    })
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in brackets may hold spaces; the twelfth and thirteenth fields after it are the times.
    let fields = stat.rsplit_once(')').context("no name in stat")?.1;
    let ticks = |index: usize| -> Result<f64> {
        Ok(fields.split_whitespace().nth(index).context("a short stat")?.parse::<f64>()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn mib(status: &str, name: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        assert_eq!(mib("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:").unwrap().to_string(), "2");
        assert!(mib("Name:\tx\n", "VmRSS:").is_err());
    }

    #[test]
    fn a_running_process_has_used_some_time() {
        assert!(cpu_seconds(std::process::id()).unwrap() >= 0.0);
    }
}
