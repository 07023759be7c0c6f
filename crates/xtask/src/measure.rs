//! `cargo xtask measure`: how long `pod-autoscaler` takes to serve many ScaledObjects, and what it and `node-provisioner`
//! cost at rest.
//!
//! The objects are created on a real control plane and ask a real Prometheus for a number that is always one; the targets
//! have one replica that no node takes and no pool grows for, as many pods as objects that node-provisioner looks at
//! (none with `--without-pods`). Then values are asked for. It says which build it measured: run it
//! as `cargo run --release -p xtask -- measure` for figures of release builds.

mod questions;
mod usage;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use kube::api::{ListParams, PartialObjectMeta};
use serde_json::{Value, json};
use testkit::apply::{apply_crds, apply_many};
use testkit::aws::AwsDouble;
use testkit::bed::{Bed, Options as BedOptions};
use testkit::binaries::workspace;
use testkit::eventually::{eventually, when};
use testkit::programs::{Program, Provisioner};
use testkit::prometheus::Prometheus;
use usage::{cpu_seconds, usage};

/// The namespace of the objects.
const NAMESPACE: &str = "many";
/// The cluster that the AWS double knows.
const CLUSTER: &str = "tandem-many";
/// Objects that are being created at the same time.
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many ScaledObjects: each number in turn, on top of those before.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000])]
    objects: Vec<usize>,
    /// How long to look at the programs at rest. Unit: seconds.
    #[arg(long, default_value_t = 60)]
    rest_seconds: u64,
    /// How many values are asked for in a second, for half a minute, when all are at rest. None: 0.
    #[arg(long, default_value_t = 100)]
    questions_per_second: u32,
    /// Targets whose Deployments are paused: no pods are made, so that scheduler and node-provisioner have nothing to look at.
    #[arg(long)]
    without_pods: bool,
}

/// How long questions are asked.
const QUESTIONS: Duration = Duration::from_secs(30);

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
    at_rest(0, programs, period).await?;
    let mut there = 0;
    for objects in &options.objects {
        grow(&bed, prometheus.url(), there..*objects, options.without_pods).await?;
        there = *objects;
        at_rest(*objects, programs, period).await?;
        if options.questions_per_second > 0 {
            questions::ask(&bed.client(), NAMESPACE, *objects, options.questions_per_second, QUESTIONS).await?;
        }
    }
    Ok(())
}

/// Creates targets and ScaledObjects of these numbers and waits until each has its HPA.
async fn grow(bed: &Bed, prometheus: &str, numbers: Range<usize>, without_pods: bool) -> Result<()> {
    let target = |number| target(number, without_pods);
    apply_many(&bed.client(), numbers.clone().map(target), AT_ONCE).await.context("creating targets")?;
    println!("{} more Deployments are there; creating their ScaledObjects", numbers.len());
    let started = Instant::now();
    let objects = numbers.clone().map(|number| scaled_object(number, prometheus));
    apply_many(&bed.client(), objects, AT_ONCE).await.context("creating ScaledObjects")?;
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
async fn at_rest(objects: usize, programs: [&Program; 2], period: Duration) -> Result<()> {
    println!("{objects} ScaledObjects: {} s for it to settle, as long again to look", period.as_secs());
    tokio::time::sleep(period).await;
    let written = status_writes(programs[0]).await?;
    let before = programs.iter().map(|program| cpu_seconds(pid(program)?)).collect::<Result<Vec<_>>>()?;
    let started = Instant::now();
    tokio::time::sleep(period).await;
    for (program, before) in programs.iter().zip(before) {
        let usage = usage(pid(program)?, before, started.elapsed())?;
        println!("    {:<17} {usage}", program.name());
    }
    let written = status_writes(programs[0]).await? - written;
    let per_hour = written / started.elapsed().as_secs_f64() * 3600.0 / count(objects);
    println!("    {written} statuses of ScaledObjects written: {per_hour:.1} per object and hour");
    Ok(())
}

fn pid(program: &Program) -> Result<u32> {
    program.id().with_context(|| format!("{} does not run", program.name()))
}

/// How many statuses `pod-autoscaler` has written.
async fn status_writes(autoscaler: &Program) -> Result<f64> {
    let page = autoscaler.metrics().await?;
    let line = page.lines().find_map(|line| line.strip_prefix("tandem_status_writes_total "));
    Ok(line.context("no tandem_status_writes_total")?.parse()?)
}

/// A count as a divisor; no figure here is anywhere near 2^52.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn count(objects: usize) -> f64 {
    objects.max(1) as f64
}

fn target(number: usize, paused: bool) -> Value {
    let labels = json!({"app": format!("many-{number}")});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": format!("many-{number}"), "namespace": NAMESPACE},
        "spec": {"paused": paused, "replicas": 1, "selector": {"matchLabels": labels}, "template": {
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
