//! The start of a program: logs, signals, crypto provider, Kubernetes client, metrics and probes.

use std::error::Error;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::cli::{CommonArgs, LogFormat};
use crate::health::Health;
use crate::metrics::Registry;

/// What a program has after its start.
#[derive(Clone)]
pub struct Runtime {
    /// The Kubernetes API.
    pub client: Client,
    /// Cancelled by SIGTERM or SIGINT, or by the program itself.
    pub shutdown: CancellationToken,
    /// Served at `--metrics-bind`.
    pub registry: Arc<Registry>,
    /// Served at `--health-bind`.
    pub health: Health,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("shutdown", &self.shutdown).finish_non_exhaustive()
    }
}

/// Starts a program: everything that is the same for all of them. Call once, inside a tokio runtime.
///
/// # Errors
/// A bad log filter, an unreadable kubeconfig, an address that cannot be bound: each a reason to end the program.
pub async fn start(args: &CommonArgs, program: &str) -> anyhow::Result<Runtime> {
    init_logs(args)?;
    install_crypto_provider();
    let shutdown = CancellationToken::new();
    cancel_on_signal(shutdown.clone())?;
    let client = client(args).await?;
    let (registry, health) = (Arc::new(Registry::default()), Health::default());
    serve_http(args.metrics_bind, registry.router(), shutdown.clone()).await.context("cannot serve /metrics")?;
    serve_http(args.health_bind, health.router(), shutdown.clone()).await.context("cannot serve the probes")?;
    tracing::info!(program, version = env!("CARGO_PKG_VERSION"), metrics = %args.metrics_bind, health = %args.health_bind, "started");
    Ok(Runtime { client, shutdown, registry, health })
}

/// Makes aws-lc-rs the process-wide rustls provider. Calling it again does nothing.
pub fn install_crypto_provider() {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The Kubernetes client: `--kubeconfig`, else in-cluster, else the default kubeconfig.
///
/// There is no client-side rate limit; the API server's priority and fairness is what limits us, and its 429 answers
/// are retried by `kube` with the delay the server asks for.
pub async fn client(args: &CommonArgs) -> anyhow::Result<Client> {
    let config = match &args.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("{} is not usable", path.display()))?
        }
        None => Config::infer().await.context("neither in-cluster configuration nor a kubeconfig was found")?,
    };
    Client::try_from(config).context("cannot build the Kubernetes client")
}

/// What a program tells the shell, and the log before that: why it ended, if it failed.
pub fn end(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    tracing::error!(error = format!("{error:#}"), "ended");
    // Logs may not have been set up yet.
    eprintln!("{program}: {error:#}");
    ExitCode::FAILURE
}

/// An error and everything below it in one line, each layer once. Of what the API server answers, only its message.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = said(error);
    let mut next = if is_answer(error) { None } else { error.source() };
    while let Some(source) = next {
        let layer = said(source);
        // Some libraries repeat the layer below in their own text.
        if !text.contains(&layer) {
            text.push_str(": ");
            text.push_str(&layer);
        }
        next = if is_answer(source) { None } else { source.source() };
    }
    text
}

fn is_answer(error: &(dyn Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(kube::Error::Api(_)))
}

fn said(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

/// A node of a Redis cluster that is down is no news at every read of the others.
const CALMER: &str = "redis::cluster_handling=error";

/// The filter of these levels; who names Redis in them decides about it.
fn log_filter(levels: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::try_new(levels)?;
    Ok(if levels.contains("redis") { filter } else { filter.add_directive(CALMER.parse()?) })
}

fn init_logs(args: &CommonArgs) -> anyhow::Result<()> {
    let filter =
        log_filter(&args.log_level).with_context(|| format!("--log-level {:?} is not a log filter", args.log_level))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let set = match args.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).with_current_span(false).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("logging is already set up: {error}"))
}

fn cancel_on_signal(shutdown: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "shutting down");
        shutdown.cancel();
    });
    Ok(())
}

async fn serve_http(address: SocketAddr, router: Router, shutdown: CancellationToken) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot bind {address}"))?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        // Probes and scrapes are short; they end with the program and need no draining.
        let serve = axum::serve(listener, router).into_future();
        tokio::select! {
            () = shutdown.cancelled() => {}
            result = serve => if let Err(error) = result {
                tracing::error!(%address, %error, "server ended");
            },
        }
    });
    Ok(bound)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("inner: {0}")]
    struct Inner(#[source] std::io::Error);

    #[test]
    fn a_node_of_a_redis_cluster_is_told_of_only_when_somebody_asks() {
        for (levels, calmer) in [("info", true), ("", true), ("info,redis=warn", false)] {
            let filter = log_filter(levels).unwrap().to_string();
            assert_eq!(filter.contains(CALMER), calmer, "{levels:?}: {filter}");
        }
        assert!(log_filter("info,=").is_err());
    }

    #[test]
    fn a_chain_has_every_layer_once() {
        // `Inner` repeats its source in its own text, as some libraries do.
        let error = Outer(Inner(std::io::Error::other("cause")));
        assert_eq!(chain(&error), "outer: inner: cause");
    }

    #[test]
    fn of_an_answer_only_the_message_is_told() {
        let status = kube::core::Status::failure("pods \"a\" not found", "NotFound").with_code(404);
        let error = kube::Error::Api(Box::new(status));
        assert_eq!(chain(&error), "pods \"a\" not found");
    }

    #[tokio::test]
    async fn probes_are_served_until_the_shutdown() {
        let shutdown = CancellationToken::new();
        let bind = "127.0.0.1:0".parse().unwrap();
        let address = serve_http(bind, Health::default().router(), shutdown.clone()).await.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{answer}");
        shutdown.cancel();
        // The listener closes soon; until then connections may still be accepted.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_in_the_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let occupied = TcpListener::bind(taken).await.unwrap();
        let result = serve_http(taken, Router::new(), CancellationToken::new()).await;
        assert!(result.unwrap_err().to_string().contains(&taken.to_string()));
        drop(occupied);
    }
}
