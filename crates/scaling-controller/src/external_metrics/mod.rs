//! The `external.metrics.k8s.io` API, as the HPA controller and kubectl expect it.
//!
//! [`router`] speaks the protocol: discovery, OpenAPI, and the one question there is, *what is the value of this metric
//! for the objects this selector names?* What the answer is, a [`MetricSource`] knows. Who may ask is decided before
//! the router: see [`controller_runtime::aggregated`].
//!
//! Guarantees: a value that is not known is an error with its reason, never a zero. A question is answered within
//! [`ANSWER_WITHIN`]. A source that panics costs one answer.

mod discovery;
mod selector;
mod source;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use controller_runtime::aggregated::{Delegated, Reason, failure};
use controller_runtime::health::Health;
use futures::FutureExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use units::Milli;

pub use selector::{Selector, SelectorError};

/// The API group.
pub const GROUP: &str = "external.metrics.k8s.io";
/// Its only version.
pub const VERSION: &str = "v1beta1";
/// The name of the APIService through which the API server reaches us.
pub const API_SERVICE: &str = "v1beta1.external.metrics.k8s.io";

/// A question is answered within this time, by an error if need be: a third of the HPA controller's 15 s rhythm, so
/// that a slow source does not make it miss the next round.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One value of an external metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalMetricValue {
    /// As it was asked for.
    pub metric_name: String,
    /// Labels of this series; the HPA does not look at them, it adds up all values.
    pub labels: BTreeMap<String, String>,
    /// When the value was read.
    pub timestamp: Timestamp,
    /// The value.
    pub value: Milli,
}

/// Why there is no value. Each is an HTTP code; the text reaches the HPA's event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// There is no such object or metric: 404.
    #[error("{what}")]
    NotFound {
        /// Which.
        what: String,
    },
    /// The question makes no sense, e.g. it does not say which object: 400.
    #[error("{what}")]
    BadRequest {
        /// What is wrong.
        what: String,
    },
    /// The metric exists, its value is not known: 500, as KEDA answers, with the source's reason.
    #[error("{why}")]
    Unknown {
        /// What the source said.
        why: String,
    },
    /// This replica cannot say yet, e.g. its caches are not filled: 503.
    #[error("{why}")]
    Unavailable {
        /// What it waits for.
        why: String,
    },
}

impl MetricError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotFound { .. } => Reason::NotFound,
            Self::BadRequest { .. } => Reason::BadRequest,
            Self::Unknown { .. } => Reason::InternalError,
            Self::Unavailable { .. } => Reason::ServiceUnavailable,
        }
    }
}

/// Knows the values.
#[async_trait]
pub trait MetricSource: Send + Sync {
    /// The values of `metric` for the objects of `namespace` that `selector` names.
    ///
    /// Dropped when the answer takes longer than [`ANSWER_WITHIN`].
    async fn read(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<ExternalMetricValue>, MetricError>;
}

/// The API, open to anybody; the probes are `health`'s.
pub fn router(source: Arc<dyn MetricSource>, health: &Health) -> Router {
    Router::new()
        .route("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}", only_get(get(read)))
        .with_state(source)
        .merge(discovery::router())
        .merge(health.router())
        .fallback(async || failure(Reason::NotFound, "the server could not find the requested resource"))
        .layer(from_fn(bounded))
}

/// The API behind authentication and authorisation; what the program serves.
pub fn protected(source: Arc<dyn MetricSource>, health: &Health, delegated: &Delegated) -> Router {
    // The bound is outermost, so that asking who may ask counts too.
    delegated.protect(router(source, health)).layer(from_fn(bounded))
}

fn only_get<S: Clone + Send + Sync + 'static>(method: MethodRouter<S>) -> MethodRouter<S> {
    method.fallback(async || {
        failure(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
    })
}

async fn bounded(request: Request, next: Next) -> Response {
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            tracing::error!("a metric source panicked");
            failure(Reason::InternalError, "the metric source failed").into_response()
        }
        Err(_) => {
            let message = format!("the metric source did not answer within {} s", ANSWER_WITHIN.as_secs());
            failure(Reason::Timeout, message).into_response()
        }
    }
}

/// The options of a list; others (`watch`, `limit`, …) mean nothing here.
#[derive(Debug, Deserialize)]
struct ListOptions {
    #[serde(default, rename = "labelSelector")]
    label_selector: String,
}

async fn read(
    State(source): State<Arc<dyn MetricSource>>,
    path: Result<Path<(String, String)>, PathRejection>,
    options: Result<Query<ListOptions>, QueryRejection>,
) -> Response {
    let bad = |what: String| failure(Reason::BadRequest, what).into_response();
    let Path((namespace, metric)) = match path {
        Ok(path) => path,
        Err(error) => return bad(error.to_string()),
    };
    let options = match options {
        Ok(Query(options)) => options,
        Err(error) => return bad(error.to_string()),
    };
    let selector: Selector = match options.label_selector.parse() {
        Ok(selector) => selector,
        Err(error) => return bad(format!("unable to parse the label selector: {error}")),
    };
    match source.read(&namespace, &metric, &selector).await {
        Ok(values) => Json(list(&values)).into_response(),
        Err(error) => {
            tracing::debug!(%namespace, %metric, %selector, %error, "no value");
            failure(error.reason(), error.to_string()).into_response()
        }
    }
}

fn list(values: &[ExternalMetricValue]) -> Value {
    let items: Vec<Value> = values
        .iter()
        .map(|value| {
            json!({
                "metricName": value.metric_name,
                "metricLabels": value.labels,
                // metav1.Time has whole seconds.
                "timestamp": value.timestamp.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "value": value.value.to_quantity_string(),
            })
        })
        .collect();
    json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {},
        "items": items,
    })
}

#[cfg(test)]
mod tests;
