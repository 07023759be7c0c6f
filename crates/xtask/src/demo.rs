//! `cargo xtask demo`: a traffic spike from the first request to the last machine's end, as it happens.
//!
//! Everything runs on this machine: a real control plane and Prometheus, our two programs as processes, the AWS double for
//! EC2, KWOK for kubelets. The manifests are those of `examples/walkthrough`.

mod stage;
mod stay;
mod timeline;
mod world;

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;

use stage::Stage;
use timeline::{Seen, Timeline};
use world::{Pace, World};

/// Requests per second of the spike: steep, so that several replicas are wanted at once.
const SPIKE: f64 = 300.0;
/// For each of the two halves. The rate of the example looks back one minute.
const DEADLINE: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(400);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How often to play it; more than once ends with the median of each stage.
    #[arg(long, default_value_t = 1)]
    times: usize,
    /// Start everything and apply the manifests, but play nothing: the cluster stays until Ctrl-C, to be tried by hand.
    #[arg(long, conflicts_with = "times")]
    stay: bool,
}

/// The manifests of `examples/walkthrough`, in their order.
const MANIFESTS: [&str; 4] = ["namespace.yaml", "provisioner.yaml", "scaledobject.yaml", "workload.yaml"];

pub(crate) fn demo(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        // Ctrl-C ends the demo like any error: everything that was started is stopped on the way out.
        tokio::select! {
            played = play_all(options.times), if !options.stay => played,
            stayed = stay::stay(), if options.stay => stayed,
            _ = tokio::signal::ctrl_c() => if options.stay { Ok(()) } else { bail!("interrupted") },
        }
    });
    // A build that goes on is ended when we are gone.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

async fn play_all(times: usize) -> Result<()> {
    let mut played = Vec::new();
    for time in 1..=times {
        if times > 1 {
            println!("\n==== {time} of {times} ====");
        }
        played.push(play().await?);
    }
    if times > 1 {
        timeline::medians(&played);
    }
    Ok(())
}

/// When each stage was first seen.
async fn play() -> Result<Seen> {
    println!(
        "Tandem: pods and nodes scale together. A control plane, Prometheus, a mesh and an AWS account start here."
    );
    let started = Instant::now();
    let world = World::start(Pace::default()).await?;
    println!(
        "Up after {:.1} s: one node of the cluster's own (2 CPUs), pod-autoscaler and node-provisioner.",
        started.elapsed().as_secs_f64()
    );
    let told = tell(&world, started).await;
    let seen = world.explain(told)?;
    drop(world);
    println!("\nEverything that was started is stopped; nothing is left but the cache of built programs.");
    Ok(seen)
}

async fn tell(world: &World, started: Instant) -> Result<Seen> {
    for file in MANIFESTS {
        world.apply_example(file).await?;
        println!("Applied examples/walkthrough/{file}");
    }
    let mut timeline = Timeline::new(started);
    follow(world, &mut timeline, &[Stage::FirstReplica], Duration::from_mins(1)).await?;
    world.keep_running_pods_longest().await?;

    timeline.heading(&format!("Load rises: {SPIKE} requests per second for nginx"));
    world.load(SPIKE);
    timeline.act(Stage::LoadRises);
    follow(world, &mut timeline, &Stage::RISING, DEADLINE).await?;

    timeline.heading("Load falls: no more requests");
    world.load(0.0);
    timeline.act(Stage::LoadFalls);
    follow(world, &mut timeline, &Stage::FALLING, DEADLINE).await?;

    timeline.table();
    timeline.is_the_story()?;
    Ok(timeline.into_seen())
}

/// Looks and tells until all of these stages have been seen.
async fn follow(world: &World, timeline: &mut Timeline, wanted: &[Stage], limit: Duration) -> Result<()> {
    let started = Instant::now();
    while !wanted.iter().all(|stage| timeline.has(*stage)) {
        let missing: Vec<_> = wanted.iter().filter(|stage| !timeline.has(**stage)).collect();
        ensure!(started.elapsed() < limit, "waited {limit:?} for {missing:?}");
        world.bed.check()?;
        timeline.see(&world.look().await?);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
