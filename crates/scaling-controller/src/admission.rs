//! The validating webhook: tells the API server whether a `keda.sh` object may be written.
//!
//! What the object says about itself is judged by [`api::admission`]; here is what other objects say: who else has the
//! workload, whether its kind exists, what its containers request. The rules and texts are KEDA's.
//!
//! Guarantees: an answer within [`ANSWER_WITHIN`]. What cannot be found out does not refuse anything; the writer is warned,
//! and the controller looks again when it acts. Nothing is written. A change that leaves the spec alone is let through, so
//! that nobody is kept from pausing or deleting an object that has come to be wrong.

mod requests;
mod review;
mod world;

use std::sync::Arc;
use std::time::Duration;

use api::admission::{self as rules, Verdict};
use api::keda::{ScaleTrigger, ScaledJob, ScaledObject};
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::post;
use axum::{Json, Router};
use kube::Client;
use scalers::catalog;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::metrics::Metrics;
use crate::sources::Sources;
use review::{Request, answer};
use world::World;

/// A question is answered within this time; the API server waits twice as long by default.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The old and the new object of a change, each as large as etcd takes it.
const BODY_MAX: usize = 4 << 20;

/// Judges objects.
#[derive(Debug, Clone)]
pub struct Admission {
    world: Arc<World>,
    metrics: Arc<Metrics>,
    namespaces: Arc<[String]>,
}

impl Admission {
    /// Judges objects of `namespaces`, or of all if there are none.
    pub fn new(client: Client, sources: Arc<Sources>, namespaces: Vec<String>) -> Self {
        let metrics = Arc::clone(&sources.metrics);
        Self { world: Arc::new(World::new(client, sources)), metrics, namespaces: namespaces.into() }
    }

    /// The paths of KEDA's webhooks.
    pub fn router(self) -> Router {
        Router::new()
            .route("/validate-keda-sh-v1alpha1-scaledobject", post(scaled_object))
            .route("/validate-keda-sh-v1alpha1-scaledjob", post(scaled_job))
            .route("/validate-keda-sh-v1alpha1-triggerauthentication", post(trigger_authentication))
            .route("/validate-keda-sh-v1alpha1-clustertriggerauthentication", post(cluster_trigger_authentication))
            .route("/validate-eventing-keda-sh-v1alpha1-cloudeventsource", post(cloud_event_source))
            .route("/validate-eventing-keda-sh-v1alpha1-clustercloudeventsource", post(cluster_cloud_event_source))
            .layer(DefaultBodyLimit::max(BODY_MAX))
            .with_state(self)
    }

    /// The question and its object; or the answer, if there is nothing to judge.
    fn open<K: DeserializeOwned>(&self, body: Value) -> Result<(Request, K), Json<Value>> {
        let refused = |uid: &str, message: String| {
            let mut verdict = Verdict::default();
            verdict.refuse("unreadable", message);
            Json(answer(uid, &verdict))
        };
        let request = Request::read(body).map_err(|error| {
            tracing::warn!(%error, "a question of admission that cannot be read");
            refused("", format!("the AdmissionReview cannot be read: {error}"))
        })?;
        if !self.concerns(&request) {
            return Err(Json(answer(&request.uid, &Verdict::default())));
        }
        match K::deserialize(&request.object) {
            Ok(object) => Ok((request, object)),
            // Stored all the same, it would be an object that no program can read.
            Err(error) => Err(refused(&request.uid, format!("the object cannot be read: {error}"))),
        }
    }

    /// Answers a question that the object alone decides.
    fn answer<K: DeserializeOwned>(&self, body: Value, judge: impl FnOnce(&K) -> Verdict) -> Json<Value> {
        match self.open(body) {
            Ok((request, object)) => Json(answer(&request.uid, &judge(&object))),
            Err(answer) => answer,
        }
    }

    fn concerns(&self, request: &Request) -> bool {
        let ours = self.namespaces.is_empty() || request.namespace.as_ref().is_none_or(|n| self.namespaces.contains(n));
        ours && request.changes_spec()
    }
}

async fn scaled_object(State(admission): State<Admission>, Json(body): Json<Value>) -> Json<Value> {
    let (request, object): (_, ScaledObject) = match admission.open(body) {
        Ok(opened) => opened,
        Err(answer) => return answer,
    };
    let mut verdict = rules::scaled_object(&object);
    not_yet(&object.spec.triggers, &mut verdict);
    let look = admission.world.judge(&object, request.dry_run, &mut verdict);
    if tokio::time::timeout(ANSWER_WITHIN, look).await.is_err() {
        verdict.warnings.push("what the workload looks like could not be found out in time".to_owned());
    }
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let reasons = verdict.refusals.iter().map(|refusal| refusal.reason);
    admission.metrics.judged(namespace, &request.operation.to_lowercase(), reasons);
    Json(answer(&request.uid, &verdict))
}

async fn scaled_job(State(admission): State<Admission>, Json(body): Json<Value>) -> Json<Value> {
    admission.answer(body, |job: &ScaledJob| {
        let mut verdict = rules::scaled_job(job);
        not_yet(&job.spec.triggers, &mut verdict);
        verdict
    })
}

async fn trigger_authentication(State(admission): State<Admission>, Json(body): Json<Value>) -> Json<Value> {
    admission.answer(body, rules::trigger_authentication)
}

async fn cluster_trigger_authentication(State(admission): State<Admission>, Json(body): Json<Value>) -> Json<Value> {
    admission.answer(body, rules::cluster_trigger_authentication)
}

async fn cloud_event_source(State(admission): State<Admission>, Json(body): Json<Value>) -> Json<Value> {
    admission.answer(body, rules::cloud_event_source)
}

async fn cluster_cloud_event_source(State(admission): State<Admission>, Json(body): Json<Value>) -> Json<Value> {
    admission.answer(body, rules::cluster_cloud_event_source)
}

/// Refuses triggers of a type that KEDA has and we do not have yet. A type that nobody knows is told in the object's
/// condition, as in KEDA.
pub(crate) fn not_yet(triggers: &[ScaleTrigger], verdict: &mut Verdict) {
    for (index, trigger) in triggers.iter().enumerate() {
        let name = trigger.r#type.as_str();
        if catalog::KNOWN.contains(&name) && catalog::find(name).is_none() {
            let refusal = catalog::refusal(name).to_string();
            verdict.refuse("unsupported-trigger", format!("spec.triggers[{index}].{refusal}"));
        }
    }
}

#[cfg(test)]
mod tests;
