//! `cargo xtask demo --stay`: the cluster of the demo, to play with.

use std::io::BufRead as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use testkit::binaries;
use tokio::sync::mpsc;

use super::MANIFESTS;
use super::world::{Pace, World};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Starts everything, applies the walkthrough's manifests and stays until Ctrl-C. What is typed is the load.
pub(super) async fn stay() -> Result<()> {
    println!("A control plane, Prometheus, a mesh and an AWS account start here (some ten seconds once built).");
    let world = World::start(Pace::default()).await?;
    for file in MANIFESTS {
        world.apply_example(file).await?;
    }
    tell(&world)?;
    let mut typed = lines();
    loop {
        tokio::select! {
            line = typed.recv() => match line.as_deref().map(|line| line.trim().parse::<f64>()) {
                Some(Ok(rate)) if rate >= 0.0 && rate.is_finite() => {
                    world.load(rate);
                    println!("{rate} requests per second for nginx from now on");
                }
                Some(_) => println!("that is not a number of requests per second"),
                // Nobody can type any more; Ctrl-C and signals still end it.
                None => std::future::pending().await,
            },
            () = tokio::time::sleep(LOOK_EVERY) => world.bed.check()?,
        }
    }
}

fn tell(world: &World) -> Result<()> {
    // With ready-made binaries there may be none beside them; then it is the one that everybody has.
    let beside = binaries::control_plane()?.apiserver.with_file_name("kubectl");
    let kubectl = if beside.is_file() { beside.display().to_string() } else { "kubectl".to_owned() };
    println!(
        "\nIt stays until Ctrl-C. A number and Enter: so many requests per second for nginx (300 wants ten replicas).\n"
    );
    println!("    export KUBECONFIG={}", world.bed.admin_kubeconfig().display());
    println!("    alias kubectl={kubectl}");
    println!("    kubectl get scaledobjects,hpa,pods,provisioners,nodeclaims,nodes -A");
    println!("    kubectl get events -A --sort-by=.metadata.creationTimestamp\n");
    println!("logs        {}", world.bed.folder().display());
    println!("Prometheus  {}", world.prometheus.url());
    println!("EC2         {} (AWS_ENDPOINT_URL, region {})", world.aws.control().url(), world.aws.region());
    for program in [&world.autoscaler, &world.provisioner] {
        let id = program.id().with_context(|| format!("{} has ended", program.name()))?;
        println!("{:<18} process {id}", program.name());
    }
    Ok(())
}

/// What is typed, line by line. A thread of its own: reading from a terminal cannot be interrupted.
fn lines() -> mpsc::Receiver<String> {
    let (sender, typed) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    typed
}
