//! Reads event sources: the port [`Scaler`], its errors, and one file per source.
//!
//! In: a trigger of a manifest ([`TriggerContext`]). Out: the metrics it stands for ([`MetricSpec`]) and, on demand, one
//! exact number per metric ([`Sampled`]) or a [`ScalerError`] that says what to do next.
//!
//! Promises: every read has a deadline and a bounded answer; a number is finite; a setting that is not understood is
//! refused with the name of its field, never ignored.
//!
//! Left to others: when to read, what to do with the number, and resolving credentials. [`stores`] reads those that are
//! kept outside the cluster.
//!
//! # Adding a source
//!
//! One file, `src/<name>.rs`, of less than 150 lines (`cargo xtask tidy` counts), and two lines: `mod <name>;` below, and
//! `TriggerType::of::<…>("<type>")` in the list `BUILT` of [`catalog`] (in alphabetical order). The file has, in this order
//! (`kubernetes_workload.rs` is a short example; `etcd.rs` asks over HTTP, `mysql.rs` in SQL):
//!
//! 1. `//!`: what is counted, and how that differs from KEDA.
//! 2. `Settings` with `#[derive(TriggerMetadata)]`: one field per parameter, in the words of its documentation. The
//!    attributes are listed in the crate `scalers-derive`. Credentials are `Secret`; groups that others have too are nested:
//!    `auth::HttpAuth` (basic, bearer, API key, …), `auth::tls::Certificates`, `auth::aws::AwsAuth`.
//! 3. A struct with what is needed to ask, and `impl Source` for it: `connect` makes it without any I/O and names the metric
//!    as KEDA does, `Connected::new` takes what one replica should have and the activation threshold; `read` asks. The
//!    deadline, the comparison with the threshold and notices are taken care of.
//! 4. A pure decode function from bytes or rows to a `source::Reading`. Whatever is not one finite number is an error.
//! 5. Tests: decode with good, odd and hostile answers; `testing::metric_name`; `testing::refusal` for settings that are wrong
//!    in a way of this source. What every source does with its settings (what is required is asked for, what is no number, no
//!    URL or none of the words is refused by name, rules about several parameters hold) `settings_tests.rs` tries with all.
//!
//! A protocol has a file of its own with its own tests, `src/<name>/<part>.rs`: what is asked and answered (`decode.rs`,
//! `gateway.rs`), where a server is when that is written in many ways (`place.rs`, `dsn.rs`), or arithmetic (`window.rs`). What
//! another source could need goes beside the sources instead: `http::ask` sends and reads, `http::json` decodes; `members`
//! asks one server after the other; `sql::Database` is all that differs between two databases; `auth::aws::service` signs for
//! AWS; `query`, `duration` and `net` read what Go writes.
//!
//! Then `cargo run -p scalers --example docs` writes its page and JSON schema into `docs/scalers/` (a test compares), and a
//! file in `tests/it/` asks the real server: `support::Server::start` runs a program on a free port in a folder of its own,
//! `support::build` makes the scaler as the controller does, `support::read` reads it. A source with several metrics, or
//! whose metrics are not known beforehand, implements [`Scaler`] itself (`external.rs`).
//!
//! A protocol that is not HTTP: `net::Address` connects, with TLS if it has to; `kept::Kept` keeps connections between reads
//! for all triggers with the same login, and makes them again when they broke (`rabbitmq/amqp.rs` is a short example). Every
//! setting that decides what a connection may see is a part of that login: tenants must not meet on one.
//! `shared_tests.rs` looks at each setting.
//!
//! Errors: a server that is silent or busy is `Unavailable`; one that knows us and says no is `Unauthorized`; a question that
//! will fail again is `Misconfigured`; an answer that is not a number is `NoNumber`. `http::answer` maps HTTP statuses. No
//! text of a credential may reach an error; [`http`](Http) keeps redirects on their host and answers small.

mod auth;
mod aws_cloudwatch;
mod aws_sqs_queue;
#[cfg(test)]
mod bad_days_tests;
pub mod catalog;
mod cluster;
mod context;
mod cron;
mod duration;
mod error;
mod etcd;
mod external;
mod http;
mod kafka;
mod kept;
mod kubernetes_workload;
mod members;
mod metadata;
mod metrics_api;
mod mysql;
mod nats_jetstream;
mod net;
mod postgresql;
mod prometheus;
mod query;
mod rabbitmq;
mod redis;
pub mod resource;
#[cfg(test)]
mod settings_tests;
mod shared;
mod source;
mod sql;
pub mod stores;
#[cfg(test)]
mod testing;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use scaling::Target;
use units::Milli;

pub use cluster::{Cluster, LivePod};
pub use context::{Authentication, Identity, MetricType, Notice, TriggerContext};
pub use error::{BoxError, BuildError, ScalerError};
pub use http::{HTTP_TIMEOUT, Http, HttpError, HttpObserver, observed};
pub use metadata::{Entry, Kind, Origin, Parameter, Shape};

/// One metric a trigger stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSpec {
    /// The name the HPA asks by: `s0-prometheus`.
    pub name: String,
    /// What its value is compared with.
    pub target: Target,
}

/// One number, read just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// The value, exact to a thousandth; may be negative.
    pub value: Milli,
    /// Whether the source wants at least one replica (the value is above the activation threshold).
    pub active: bool,
    /// The source had no data, and the trigger says that this means 0.
    pub empty: bool,
}

/// A source of numbers.
///
/// Guarantees of an implementation: `metrics` is constant and does no I/O; `discover` and `sample` end within the source's
/// deadline and may be called by several tasks at once.
#[async_trait]
pub trait Scaler: Send + Sync + Debug {
    /// The name in the `scaler` label of `keda_scaler_*` metrics when the trigger has none: `prometheusScaler`.
    fn type_name(&self) -> &'static str;

    /// The metrics of this trigger. Empty if only the source knows them; [`discover`](Self::discover) asks it then.
    fn metrics(&self) -> &[MetricSpec];

    /// The metrics of this trigger, from the source if only it knows them. Never empty.
    ///
    /// # Errors
    /// See [`ScalerError`]; the metrics are not known then.
    async fn discover(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        Ok(self.metrics().to_vec())
    }

    /// For a source that speaks up by itself: one item each time it says that it wants replicas. Whoever listens then reads
    /// the metrics at once instead of waiting for the next poll. The stream never ends and sees to its connection itself;
    /// it listens as long as it is kept and polled.
    fn pushes(&self) -> Option<BoxStream<'static, ()>> {
        None
    }

    /// What was accepted but has no effect, for the object's owner to read.
    fn notices(&self) -> &[Notice] {
        &[]
    }

    /// Reads one of [`metrics`](Self::metrics), or of what [`discover`](Self::discover) told.
    ///
    /// # Errors
    /// See [`ScalerError`]; every one of them means that nothing is known.
    async fn sample(&self, metric: &str) -> Result<Sampled, ScalerError>;
}

/// Makes the scaler of an external trigger. Does no I/O.
///
/// cpu and memory are not read by us; see [`resource::metric`].
///
/// # Errors
/// The type is unknown, known but not there yet, or a setting is wrong; the error names the field.
pub fn build(trigger_type: &str, context: &TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError> {
    catalog::build(trigger_type, context)
}
