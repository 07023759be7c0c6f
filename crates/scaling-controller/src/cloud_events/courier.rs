//! Brings the events of one source to its destination, one after the other, and keeps its condition.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use api::condition::{KedaCondition, Status, set_keda};
use api::eventing::{CloudEventSource, CloudEventSourceSpec, CloudEventSourceStatus, ClusterCloudEventSource};
use controller_runtime::boot::chain;
use controller_runtime::status::patch_if_changed;
use kube::{Api, Client};
use scalers::{Http, ScalerError};
use tokio::sync::{mpsc, watch};

use super::CloudEventSettings;
use super::event::Lifecycle;
use crate::metrics::Metrics;

/// Tries for one event. KEDA's number.
const TRIES: u32 = 5;
/// Wait before the second try; it doubles each time.
const PAUSE: Duration = Duration::from_millis(500);

/// Which source: cluster-wide ones have no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl Place {
    pub(super) fn within(namespace: String, name: String) -> Self {
        Self { namespace: Some(namespace), name }
    }

    pub(super) fn wide(name: String) -> Self {
        Self { namespace: None, name }
    }

    /// Its namespace in series; empty for a cluster-wide one.
    pub(super) fn metric_namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The task of one source.
pub(super) struct Courier {
    pub(super) client: Client,
    pub(super) http: Arc<Http>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) settings: CloudEventSettings,
    pub(super) place: Place,
    pub(super) spec: watch::Receiver<CloudEventSourceSpec>,
    /// As last written, or as found.
    pub(super) status: CloudEventSourceStatus,
}

impl Courier {
    /// Delivers until the source is gone, which closes both channels.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Arc<Lifecycle>>) {
        let first = standing(&self.spec.borrow_and_update());
        // What was said of a destination before this program started still counts, unless the spec is at fault.
        if first.status == "False" || self.status.conditions.iter().all(|c| c.r#type != "Active") {
            self.say(first).await;
        }
        loop {
            tokio::select! {
                changed = self.spec.changed() => {
                    if changed.is_err() { return }
                    let standing = standing(&self.spec.borrow_and_update());
                    self.say(standing).await;
                }
                next = waiting.recv() => {
                    let Some(lifecycle) = next else { return };
                    self.bring(&lifecycle).await;
                    self.metrics.cloud_events_queued(self.place.metric_namespace(), waiting.len());
                }
            }
        }
    }

    async fn bring(&mut self, lifecycle: &Lifecycle) {
        let spec = self.spec.borrow().clone();
        let Some(destination) = &spec.destination.http else { return };
        let named = spec.cluster_name.as_deref().filter(|name| !name.is_empty());
        let cluster = named.unwrap_or(&self.settings.cluster_name);
        let (headers, body) = lifecycle.request(rand::random(), cluster, &self.settings.own_namespace);
        let delivered = self.deliver(&destination.uri, &headers, &body).await;
        self.metrics.cloud_event(&lifecycle.namespace, &self.place.name, delivered.is_ok());
        match delivered {
            Ok(()) => self.say(active()).await,
            Err(error) => {
                // For a scaler it would be a source.
                let why = error.text().replacen("the source", "the destination", 1);
                tracing::warn!(source = %self.place, why, "CloudEvent not delivered, it is dropped");
                self.say(failed(format!("an event could not be delivered: {why}"))).await;
            }
        }
    }

    /// Asks again only where that can help.
    async fn deliver(&self, uri: &str, headers: &[(&'static str, String)], body: &str) -> Result<(), ScalerError> {
        let mut attempt = 1;
        loop {
            match self.http.post(uri, headers, body.to_owned()).await {
                Err(ScalerError::Unavailable(_)) if attempt < TRIES => {
                    tokio::time::sleep(PAUSE.saturating_mul(1 << (attempt - 1))).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    async fn say(&mut self, condition: KedaCondition) {
        let mut next = self.status.clone();
        set_keda(&mut next.conditions, condition);
        let (name, old) = (self.place.name.as_str(), Some(&self.status));
        let written = if let Some(namespace) = &self.place.namespace {
            let api: Api<CloudEventSource> = Api::namespaced(self.client.clone(), namespace);
            patch_if_changed(&api, name, old, &next).await
        } else {
            let api: Api<ClusterCloudEventSource> = Api::all(self.client.clone());
            patch_if_changed(&api, name, old, &next).await
        };
        match written {
            Ok(_) => self.status = next,
            Err(error) => {
                tracing::warn!(source = %self.place, error = %chain(&error), "status of a CloudEventSource not written");
            }
        }
    }
}

/// What the spec alone says.
fn standing(spec: &CloudEventSourceSpec) -> KedaCondition {
    let errors: Vec<String> = spec.errors().iter().map(ToString::to_string).collect();
    if !errors.is_empty() {
        return failed(errors.join("; "));
    }
    if spec.destination.azure_event_grid_topic.is_some() {
        return failed("spec.destination.azureEventGridTopic is not supported yet: nothing is sent".to_owned());
    }
    active()
}

fn active() -> KedaCondition {
    KedaCondition::new("Active", Status::True, "CloudEventSourceActive", "Events are sent to the destination")
}

fn failed(why: String) -> KedaCondition {
    KedaCondition::new("Active", Status::False, "CloudEventSourceFailed", why)
}
