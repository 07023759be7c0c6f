//! The pod autoscaler: reads flags, wires the parts, runs until it is told to stop or loses its lease.
//!
//! ```text
//! boot ─► election ─► scaling controller (acts while it leads)
//!    └──► certificate authority ─► external metrics API, admission (every replica) ◄─ sources of the controller
//! ```

mod args;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use args::{Args, Service};
use clap::Parser;
use controller_runtime::aggregated::Delegated;
use controller_runtime::boot::{self, Runtime};
use controller_runtime::events::Recorder;
use controller_runtime::health::Check;
use controller_runtime::lease::{self, Election};
use controller_runtime::tls::{Authority, CaTarget, ClientCerts, keep_ca_bundle_injected, serve_tls};
use scaling_controller::admission::Admission;
use scaling_controller::external_metrics::{self, API_SERVICE};
use scaling_controller::{CloudEventSettings, Controller, Metrics, Settings, Sources};
use tikv_jemallocator::Jemalloc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Who our events come from; people filter by KEDA's name.
const COMPONENT: &str = "keda-operator";
/// The Lease's name.
const LEASE: &str = "pod-autoscaler";

/// After ten thousand objects were created at once, the system's allocator kept a quarter more from the system.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    boot::end("pod-autoscaler", run(Args::parse()).await)
}

async fn run(args: Args) -> anyhow::Result<()> {
    let runtime = boot::start(&args.common, "pod-autoscaler").await?;
    // Not ready before anything is known, however long that takes.
    let (ready, trusted) = (runtime.health.check("scaled-objects"), runtime.health.check("api-authentication"));
    let namespace = args.common.own_namespace(&runtime.client);
    let metrics = Arc::new(Metrics::new(&runtime.registry));
    let recorder = Recorder::new(runtime.client.clone(), COMPONENT);
    let settings = Settings {
        namespaces: args.namespaces(),
        http_timeout: args.http_timeout(),
        credentials: args.credentials(&namespace),
        cloud_events: CloudEventSettings {
            cluster_name: args.k8s_cluster_name.clone(),
            own_namespace: namespace.clone(),
        },
    };
    let controller = Controller::start(&runtime.client, recorder, metrics, settings, &runtime.shutdown);

    let api = serve_api(&args, &runtime, &namespace, controller.sources(), trusted).await?;
    // The lease is given back only after the actors have stopped.
    let work_done = CancellationToken::new();
    let (alone, elected) = watch::channel(true);
    let leading = if args.common.leader_elect {
        let election =
            Election { namespace, name: LEASE.to_owned(), identity: lease::identity(), client: runtime.client.clone() };
        election.spawn(work_done.clone())
    } else {
        elected
    };
    controller.run(leading.clone(), ready, runtime.shutdown.clone()).await;

    let told_to_stop = runtime.shutdown.is_cancelled();
    runtime.shutdown.cancel();
    work_done.cancel();
    drop(alone);
    lease::ended(&leading).await;
    api.await.context("the external metrics API ended badly")??;
    anyhow::ensure!(told_to_stop, "leadership was lost; a new process is a new candidate");
    Ok(())
}

/// Serves the external metrics API and the admission webhooks, and lets the API server trust them.
async fn serve_api(
    args: &Args,
    runtime: &Runtime,
    namespace: &str,
    sources: Arc<Sources>,
    trusted: Check,
) -> anyhow::Result<tokio::task::JoinHandle<anyhow::Result<()>>> {
    let default = || Service { namespace: namespace.to_owned(), name: "pod-autoscaler".to_owned() };
    let service = args.api_service.clone().unwrap_or_else(default);
    let names = Authority::service_names(&service.namespace, &service.name);
    let cert = Authority::new(runtime.client.clone(), namespace, &args.certificate_secret, names)
        .start(runtime.shutdown.clone())
        .await
        .with_context(|| format!("no certificate in Secret {namespace}/{}", args.certificate_secret))?;
    let Service { namespace: service_namespace, name: service } = service;
    let mut targets =
        vec![CaTarget::ApiService { name: API_SERVICE.to_owned(), namespace: service_namespace, service }];
    targets.extend(args.webhook().map(|name| CaTarget::ValidatingWebhook(name.to_owned())));
    tokio::spawn(keep_ca_bundle_injected(runtime.client.clone(), targets, cert.ca_bundle(), runtime.shutdown.clone()));
    let delegated = Delegated::start(&runtime.client, trusted, &runtime.shutdown);
    // The API server comes to a webhook without any credentials of its own.
    let admission = Admission::new(runtime.client.clone(), Arc::clone(&sources), args.namespaces());
    let mut router = external_metrics::protected(sources, &runtime.health, &delegated);
    if args.webhook().is_some() {
        router = router.merge(admission.router());
    }
    let listener = TcpListener::bind(args.api_bind).await.with_context(|| format!("cannot bind {}", args.api_bind))?;
    let shutdown = runtime.shutdown.clone();
    Ok(tokio::spawn(async move {
        serve_tls(listener, router, cert, ClientCerts::Asked, shutdown).await.context("cannot serve over TLS")
    }))
}
