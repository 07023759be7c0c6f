//! The registry of our own metrics and its endpoint.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{StatusCode, header};
use prometheus_client::registry::{Metric, Registry as Inner};

/// Where a program registers its metrics once, at start; the metric handles themselves are shared and lock-free.
///
/// Written as OpenMetrics text. The encoder adds `_total` to the name of a counter, so register counters without it.
#[derive(Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

impl Registry {
    /// Registers a metric under its full name, help text without a final full stop (the encoder adds it).
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.with(|registry| registry.register(name, help, metric));
    }

    /// Runs `f` on the underlying registry, for collectors and labelled sub-registries.
    pub fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything registered as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }

    /// The endpoint: `GET /metrics`.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/metrics", get(scrape)).with_state(Arc::clone(self))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

async fn scrape(State(registry): State<Arc<Registry>>) -> Response {
    const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match registry.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_registered_counter_is_scraped_with_its_value() {
        let registry = Arc::new(Registry::default());
        let launches: Counter = Counter::default();
        registry.register("tandem_launches", "Machines asked for", launches.clone());
        launches.inc_by(3);
        let answer = registry.router().oneshot(Request::get("/metrics").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(
            answer.headers()[header::CONTENT_TYPE].to_str().unwrap().split(';').next(),
            Some("application/openmetrics-text")
        );
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        assert!(String::from_utf8(body.to_vec()).unwrap().contains("tandem_launches_total 3\n"));
    }
}
