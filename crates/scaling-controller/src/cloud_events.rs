//! CloudEvents: the life of `keda.sh` objects, told to the destinations that CloudEventSources name.
//!
//! ```text
//!   actors ─► Announcer ─► Kubernetes event
//!                └─ queue ─► dispatcher ─► queue of each source that takes it ─► courier: POST, a few tries
//!                                                                                 └─► Active in the source's status
//! ```
//!
//! Guarantees: telling never waits for a destination and never fails an actor. A destination gets its events one after the
//! other, and a slow one delays nobody else's. What does not fit into a queue, or cannot be delivered, is dropped, logged and
//! counted. Only the leader has anything to tell.
//!
//! Caveats: queues are in memory; what waits in them when the program ends is lost, as in KEDA.

mod courier;
mod event;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use api::eventing::{CloudEventSource, CloudEventSourceSpec, CloudEventSourceStatus, ClusterCloudEventSource};
use controller_runtime::events::{Kind, Recorder};
use controller_runtime::index::{Wakeup, Watched};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use scalers::Http;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::authentications::{WIDE, let_go};
use crate::metrics::Metrics;
use courier::{Courier, Place};
use event::Lifecycle;

/// Events that wait for one destination, or to be given out. KEDA's number.
const QUEUE: usize = 1024;

/// What `keda_resource_registered_total` calls the two kinds.
const KINDS: [&str; 2] = ["cloudevent_source", "cluster_cloudevent_source"];

/// What events call the cluster and us.
#[derive(Debug, Clone)]
pub struct CloudEventSettings {
    /// The cluster, for sources that do not say.
    pub cluster_name: String,
    /// The namespace of this program, part of every event's source.
    pub own_namespace: String,
}

/// Says what happens to objects: as Kubernetes events, and as CloudEvents to whoever subscribed. Clones say the same.
#[derive(Debug, Clone)]
pub(crate) struct Announcer {
    recorder: Recorder,
    queue: mpsc::Sender<Lifecycle>,
}

/// What was announced and is to be given out.
pub(crate) struct Announcements(mpsc::Receiver<Lifecycle>);

impl Announcer {
    pub(crate) fn new(recorder: Recorder) -> (Self, Announcements) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { recorder, queue }, Announcements(waiting))
    }

    /// See [`Recorder::publish`].
    pub(crate) async fn publish(
        &self,
        regarding: &ObjectReference,
        kind: Kind,
        reason: &str,
        action: &str,
        note: String,
    ) {
        if let Some(lifecycle) = Lifecycle::of(regarding, reason, &note, Timestamp::now())
            && self.queue.try_send(lifecycle).is_err()
        {
            tracing::warn!(reason, "too many CloudEvents wait; this one is dropped");
        }
        self.recorder.publish(regarding, kind, reason, action, note).await;
    }
}

/// What the dispatcher works with.
pub(crate) struct Dispatcher {
    pub(crate) client: Client,
    pub(crate) http: Arc<Http>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) settings: CloudEventSettings,
    /// The only namespace whose sources count; rights in one do not reach the cluster-wide kind.
    pub(crate) namespace: Option<String>,
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The queue of one source, and its spec as it is now.
struct Line {
    queue: mpsc::Sender<Arc<Lifecycle>>,
    spec: watch::Sender<CloudEventSourceSpec>,
}

impl Dispatcher {
    /// Gives out what is announced, once this replica leads, until `shutdown`.
    pub(crate) async fn run(
        self,
        mut waiting: Announcements,
        leading: watch::Receiver<bool>,
        shutdown: CancellationToken,
    ) {
        tokio::select! {
            () = shutdown.cancelled() => return,
            acquired = controller_runtime::lease::acquired(&leading) => if !acquired { return },
        }
        let wakeup = Wakeup::new();
        let mut changes = wakeup.listen();
        let api = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let config = watcher::Config::default;
        let sources: Watched<CloudEventSource> = Watched::spawn(api, config(), &wakeup, &shutdown);
        let wide: Option<Watched<ClusterCloudEventSource>> = (self.namespace.is_none())
            .then(|| Watched::spawn(Api::all(self.client.clone()), config(), &wakeup, &shutdown));
        let mut lines = HashMap::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = changes.changed() => {
                    if changed.is_err() { return }
                    let (near, wide) = (sources.state(), wide.iter().flat_map(Watched::state).collect::<Vec<_>>());
                    self.let_go(&near, &wide).await;
                    let wide = wide.iter().map(|s| (Place::wide(s.name_any()), &s.spec.0, s.status.as_ref()));
                    let near = near.iter().map(|s| {
                        (Place::within(s.namespace().unwrap_or_default(), s.name_any()), &s.spec, s.status.as_ref())
                    });
                    self.arrange(&mut lines, near.chain(wide), &shutdown);
                }
                // Whoever subscribed before something happened is told of it.
                next = waiting.0.recv(), if sources.is_synced() => match next {
                    Some(lifecycle) => self.give_out(&lines, lifecycle),
                    None => return,
                },
            }
        }
    }

    /// Lets those go that are about to.
    async fn let_go(&self, near: &[Arc<CloudEventSource>], wide: &[Arc<ClusterCloudEventSource>]) {
        for source in near.iter().filter(|source| source.metadata.deletion_timestamp.is_some()) {
            let api = Api::namespaced(self.client.clone(), &source.namespace().unwrap_or_default());
            let_go(&api, source.as_ref()).await;
        }
        for source in wide.iter().filter(|source| source.metadata.deletion_timestamp.is_some()) {
            let_go(&Api::all(self.client.clone()), source.as_ref()).await;
        }
    }

    /// Makes a line for each source and closes those of sources that went.
    fn arrange<'a>(
        &self,
        lines: &mut HashMap<Place, Line>,
        sources: impl Iterator<Item = (Place, &'a CloudEventSourceSpec, Option<&'a CloudEventSourceStatus>)>,
        shutdown: &CancellationToken,
    ) {
        let (mut gone, mut counts) = (std::mem::take(lines), BTreeMap::<(&'static str, String), i64>::new());
        for (place, spec, status) in sources {
            let line = gone.remove(&place).unwrap_or_else(|| self.open(&place, spec, status, shutdown));
            line.spec.send_if_modified(|old| {
                let changed = old != spec;
                old.clone_from(spec);
                changed
            });
            let counted = match &place.namespace {
                Some(namespace) => (KINDS[0], namespace.clone()),
                None => (KINDS[1], WIDE.to_owned()),
            };
            *counts.entry(counted).or_default() += 1;
            lines.insert(place, line);
        }
        self.metrics.count_resources(&KINDS, &counts);
        for place in gone.into_keys() {
            self.metrics.forget_cloud_events(place.metric_namespace(), &place.name);
        }
    }

    fn open(
        &self,
        place: &Place,
        spec: &CloudEventSourceSpec,
        status: Option<&CloudEventSourceStatus>,
        shutdown: &CancellationToken,
    ) -> Line {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (sender, spec) = watch::channel(spec.clone());
        let courier = Courier {
            client: self.client.clone(),
            http: Arc::clone(&self.http),
            metrics: Arc::clone(&self.metrics),
            settings: self.settings.clone(),
            place: place.clone(),
            spec,
            status: status.cloned().unwrap_or_default(),
        };
        let shutdown = shutdown.clone();
        tokio::spawn(async move { shutdown.run_until_cancelled(courier.run(waiting)).await });
        Line { queue, spec: sender }
    }

    fn give_out(&self, lines: &HashMap<Place, Line>, lifecycle: Lifecycle) {
        let lifecycle = Arc::new(lifecycle);
        for (place, line) in lines {
            let takes = {
                let spec = line.spec.borrow();
                let subscribed = spec.event_subscription.as_ref().is_none_or(|one| one.takes(lifecycle.event_type));
                subscribed && spec.errors().is_empty() && spec.destination.http.is_some()
            };
            if !takes || place.namespace.as_ref().is_some_and(|namespace| *namespace != lifecycle.namespace) {
                continue;
            }
            if line.queue.try_send(Arc::clone(&lifecycle)).is_err() {
                tracing::warn!(source = %place, "too many CloudEvents wait for this source; one is dropped");
                self.metrics.cloud_event(&lifecycle.namespace, &place.name, false);
            }
            self.metrics.cloud_events_queued(place.metric_namespace(), QUEUE - line.queue.capacity());
        }
    }
}

#[cfg(test)]
mod tests;
