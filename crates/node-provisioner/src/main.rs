//! `node-provisioner`: parses flags, chooses the cloud, elects a leader, runs the node controller.

mod args;
mod clouds;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use controller_runtime::{
    boot,
    lease::{Election, acquired, ended, identity},
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use node_controller::Controller;
use tokio_util::sync::CancellationToken;

use crate::args::Args;

/// Karpenter's own Lease: the two never act at the same time by mistake.
const LEASE: &str = "karpenter-leader-election";

#[tokio::main]
async fn main() -> ExitCode {
    boot::end("node-provisioner", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let runtime = boot::start(&args.common, "node-provisioner").await?;
    let config = config(&args).await?;
    let evictor = evictor(config.clone())?;
    let cloud = clouds::connect(&args, &runtime.client, &config).await?;
    tracing::info!(cloud = cloud.name(), cluster = %args.cluster_name, "machines come from this cloud");
    let controller = Controller::start(&runtime, evictor, cloud, args.settings());

    if !args.common.leader_elect {
        controller.act().await;
        return Ok(());
    }
    let election = Election {
        namespace: args.common.own_namespace(&runtime.client),
        name: LEASE.to_owned(),
        identity: identity(),
        client: runtime.client.clone(),
    };
    // The Lease is given back only after the last action has ended.
    let finished = CancellationToken::new();
    let leading = election.spawn(finished.clone());
    let led = tokio::select! {
        () = runtime.shutdown.cancelled() => false,
        led = acquired(&leading) => led,
    };
    let mut lost = false;
    if led {
        let mut still = leading.clone();
        tokio::select! {
            () = controller.act() => {}
            _ = still.wait_for(|leading| !*leading) => {
                lost = !runtime.shutdown.is_cancelled();
                runtime.shutdown.cancel();
            }
        }
    }
    finished.cancel();
    ended(&leading).await;
    if lost || (!led && !runtime.shutdown.is_cancelled()) {
        bail!("leadership lost: another replica acts now");
    }
    Ok(())
}

/// Where the API server is and how we reach it, as [`boot::client`] finds it.
async fn config(args: &Args) -> anyhow::Result<Config> {
    match &args.common.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("{} is not usable", path.display()))
        }
        None => Config::infer().await.context("neither in-cluster configuration nor a kubeconfig was found"),
    }
}

/// A client that does not retry by itself.
///
/// `kube` repeats a request that is answered 429 up to fifteen times, with the pause the server asks for. For an eviction
/// that a disruption budget refuses, that is minutes in which nobody would learn of it.
fn evictor(mut config: Config) -> anyhow::Result<Client> {
    config.default_retry = false;
    Client::try_from(config).context("cannot build the Kubernetes client for evictions")
}
