//! Named readiness checks and the probe endpoints.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::StatusCode;

/// The readiness of this process: ready when every named check is.
///
/// Cheap to clone; all clones see the same checks. Without any check the process is ready.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// One named part of the readiness; starts as not ready.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    name: String,
}

impl Health {
    /// Adds a check, not ready until [`Check::ready`] is called. The same name twice is the same check.
    pub fn check(&self, name: impl Into<String>) -> Check {
        let check = Check { health: self.clone(), name: name.into() };
        check.not_ready("not started");
        check
    }

    /// Every check that is not ready, with its reason.
    pub fn not_ready(&self) -> BTreeMap<String, String> {
        let checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.iter().filter_map(|(name, why)| why.clone().map(|why| (name.clone(), why))).collect()
    }

    /// The probe endpoints: `/healthz` and `/livez` answer as long as the process serves, `/readyz` as the checks say.
    pub fn router(&self) -> Router {
        let alive = || async { "ok" };
        Router::new()
            .route("/healthz", get(alive))
            .route("/livez", get(alive))
            .route("/readyz", get(readyz))
            .with_state(self.clone())
    }
}

impl Check {
    /// This part works.
    pub fn ready(&self) {
        self.set(None);
    }

    /// This part does not work (yet), and why; the reason is what `/readyz` prints.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, why: Option<String>) {
        let mut checks = self.health.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.insert(self.name.clone(), why);
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let not_ready = health.not_ready();
    if not_ready.is_empty() {
        return (StatusCode::OK, "ok".to_owned());
    }
    let mut text = String::new();
    for (name, why) in not_ready {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[-] {name}: {why}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn readyz(health: &Health) -> (StatusCode, String) {
        let request = Request::get("/readyz").body(Body::empty()).unwrap();
        let answer = health.router().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_process_is_ready_when_all_its_checks_are() {
        let health = Health::default();
        let (cache, certificate) = (health.check("cache"), health.check("certificate"));
        cache.ready();
        assert_eq!(
            readyz(&health).await,
            (StatusCode::SERVICE_UNAVAILABLE, "[-] certificate: not started\n".to_owned())
        );
        certificate.ready();
        assert_eq!(readyz(&health).await, (StatusCode::OK, "ok".to_owned()));
        cache.not_ready("watch broken");
        assert_eq!(readyz(&health).await.1, "[-] cache: watch broken\n");
    }
}
