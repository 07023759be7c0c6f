//! One ScaledObject's own task: it looks, decides, acts, and says what it did.
//!
//! A look reads everything it needs from the stores and may run at any time: when something changed, when a poll is due, or
//! for no reason. It sends a request only when something is not as it should be.

mod finish;
mod poll;
mod prepare;

use std::sync::Arc;
use std::time::Duration;

use api::keda::{ScaleTarget, ScaledJob, ScaledObject, ScaledObjectStatus, TriggerAuthentication};
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use controller_runtime::index::Watched;
use controller_runtime::status::{StatusError, patch_if_changed};
use jiff::Timestamp;
use kube::{Api, Client, ResourceExt};
use scaling::{Condition, activity};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cloud_events::Announcer;
use crate::conflict::Claims;
use crate::hpa::Baseline;
use crate::listener::Listener;
use crate::metrics::Metrics;
use crate::object::{ObjectKey, check, pausing, reference};
use crate::source::Silent;
use crate::sources::Sources;
use crate::status;
use crate::target::Target;
use crate::wording::Wording;

/// What all actors share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) sources: Arc<Sources>,
    pub(crate) jobs: Watched<ScaledJob>,
    pub(crate) authentications: Arc<Watched<TriggerAuthentication>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) announcer: Announcer,
    pub(crate) claims: Claims,
    /// Bounds the requests under way when many objects change at once.
    pub(crate) acting: Semaphore,
}

/// First and longest wait before something that failed is tried again.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// Wait when only a change of the object can help; a look costs nothing then.
pub(crate) const IDLE: Duration = Duration::from_mins(10);

/// Why a look ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The object has to be changed by its owner.
    Manifest(String),
    /// The cluster is not as it has to be; it may become so without the object changing.
    World(String),
    /// The target is not there, or has no replicas; it may come to be so without the object changing.
    Target(String),
    /// We were overtaken; look again at once. Nothing to tell.
    Overtaken,
}

/// The task of one object.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    key: ObjectKey,
    uid: String,
    /// The status as last written, while the watch does not show it.
    unseen: Option<Box<ScaledObjectStatus>>,
    last_active: Option<Timestamp>,
    target: Option<Target>,
    /// What the manifest said when the target was found.
    target_ref: Option<ScaleTarget>,
    /// The target's replicas as last read from, or written to, its scale.
    replicas: Option<u32>,
    baseline: Option<Baseline>,
    /// When we created an HPA that the watch may not have shown yet.
    created_hpa: Option<Instant>,
    /// Whether the target rests at its idle count; nothing before that is known.
    at_rest: Option<bool>,
    /// The fingerprint of the object for which all preparations succeeded.
    prepared: Option<u64>,
    /// The fingerprint of the object that was polled for last.
    polled: Option<u64>,
    /// The generation whose start and notices were published.
    announced: Option<i64>,
    silent: Silent,
    wording: Wording,
    listener: Listener,
    next_poll: Instant,
    failed_looks: u32,
    /// How often in a row a status could not be written.
    unsaved: u32,
}

impl Actor {
    /// The actor of an object, whose first poll is due at `first_poll`.
    pub(crate) fn new(shared: Arc<Shared>, object: &ScaledObject, first_poll: Instant) -> Self {
        let status = object.status.as_ref();
        let recorded = status.and_then(|status| status.last_active_time.as_ref()).map(|time| time.0);
        let was_active = status.is_some_and(|status| status::is_true(status, "Active"));
        // A manifest that is wrong now has a cooldown again when it is corrected.
        let cooldown = check(object).map(|settings| settings.cooldown).unwrap_or_default();
        let last_active = activity::resume(recorded, was_active, cooldown, Timestamp::now());
        Self {
            shared,
            key: ObjectKey::of(object),
            uid: object.uid().unwrap_or_default(),
            unseen: None,
            last_active,
            target: None,
            target_ref: None,
            replicas: None,
            baseline: None,
            created_hpa: None,
            at_rest: None,
            prepared: None,
            polled: None,
            announced: None,
            silent: Silent::default(),
            wording: Wording::default(),
            listener: Listener::default(),
            next_poll: first_poll,
            failed_looks: 0,
            unsaved: 0,
        }
    }

    /// Looks until the object is gone or `stop` is cancelled. Boxed, for a task would hold it twice.
    pub(crate) async fn run(mut self: Box<Self>, wake: Arc<Notify>, stop: CancellationToken) {
        loop {
            // Most objects rest most of the time; what a look needs is taken for its time only.
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = Box::pin(self.look()) => next,
            };
            let Some(next) = next else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wake.notified() => {}
                () = self.listener.pushed() => self.next_poll = Instant::now(),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// One look; returns when the next one is due at the latest, or nothing when the object is gone.
    async fn look(&mut self) -> Option<Instant> {
        let object = self.shared.sources.objects.get(&self.key.namespace, &self.key.name)?;
        if object.metadata.uid.as_deref() != Some(self.uid.as_str()) {
            return None;
        }
        if object.metadata.deletion_timestamp.is_some() {
            return Some(self.finish(&object).await);
        }
        // With ten thousand objects a second copy of each status counts.
        self.unseen.take_if(|written| object.status.as_ref() == Some(written.as_ref()));
        let old = self.status_of(&object);
        let mut status = old.clone();
        status::complete(&mut status);
        let next = match self.reconcile(&object, &mut status).await {
            Ok(next) => {
                self.failed_looks = 0;
                self.wording.all_well();
                next
            }
            Err(stop) => self.stopped(&object, stop, &mut status),
        };
        let generation = object.metadata.generation.unwrap_or_default();
        self.wording.steady(generation, &old.conditions, &mut status.conditions);
        self.announce(&object, &old, &status).await;
        // Some of it may have been written down on the way.
        let old = self.status_of(&object);
        self.save(&old, status).await;
        Some(next)
    }

    fn stopped(&mut self, object: &ScaledObject, stop: Stop, status: &mut ScaledObjectStatus) -> Instant {
        let of_manifest = matches!(stop, Stop::Manifest(_));
        let (what, wait) = match stop {
            Stop::Overtaken => return Instant::now() + RETRY.0,
            Stop::Manifest(what) => (what, IDLE),
            Stop::World(what) | Stop::Target(what) => {
                let doubled = RETRY.0.saturating_mul(1 << self.failed_looks.min(6));
                self.failed_looks = self.failed_looks.saturating_add(1);
                (what, doubled.min(RETRY.1))
            }
        };
        if self.wording.is_news(&what) {
            tracing::warn!(object = %self.key, what, retry_seconds = wait.as_secs(), "ScaledObject cannot be acted on");
        }
        self.shared.metrics.object_failed(&self.key);
        self.prepared = None;
        status::set(status, &Condition::check_failed(what));
        status::set(status, &Condition::activity_unknown("ScaledObject check failed"));
        // What was paused and cannot be resumed is not paused any more, and keeps the workload from nobody.
        if of_manifest
            && let Ok(pausing) = pausing(object)
            && pausing.full.is_none()
            && status::is_true(status, "Paused")
        {
            status::set(status, &Condition::paused(&pausing));
        }
        // Whoever comes after us takes nothing for activity but what `Active` says.
        status::record_activity(status, self.last_active);
        Instant::now() + wait
    }

    /// Publishes what changed between the status that was and the one that will be.
    async fn announce(&self, object: &ScaledObject, old: &ScaledObjectStatus, new: &ScaledObjectStatus) {
        for (kind, reason, note) in changes(old, new) {
            self.publish(object, kind, reason, "Reconcile", note).await;
        }
    }

    async fn publish(&self, object: &ScaledObject, kind: Kind, reason: &str, action: &str, note: String) {
        self.shared.announcer.publish(&reference(object), kind, reason, action, note).await;
    }

    /// The status as it is in the API server, as far as we know.
    fn status_of(&self, object: &ScaledObject) -> ScaledObjectStatus {
        self.unseen.as_deref().or(object.status.as_ref()).cloned().unwrap_or_default()
    }

    /// Writes down what must not be forgotten, before anything is done that would hide it: whoever takes over knows nothing else.
    async fn keep(&mut self, object: &ScaledObject, status: &ScaledObjectStatus) -> Result<(), Stop> {
        let old = self.status_of(object);
        self.save(&old, status.clone()).await;
        if self.unsaved == 0 { Ok(()) } else { Err(Stop::Overtaken) }
    }

    async fn save(&mut self, old: &ScaledObjectStatus, status: ScaledObjectStatus) {
        if status == *old {
            self.unsaved = 0;
            return;
        }
        self.unsaved = self.unsaved.saturating_add(1);
        let _permit = self.shared.acting.acquire().await;
        let api: Api<ScaledObject> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        match patch_if_changed(&api, &self.key.name, Some(old), &status).await {
            Ok(written) => {
                if written {
                    self.shared.metrics.status_written();
                }
                self.unsaved = 0;
                self.unseen = Some(Box::new(status));
            }
            Err(StatusError::Patch(kube::Error::Api(answer))) if answer.is_not_found() => {}
            // The next look compares with what was written last, and tries again.
            Err(error) => tracing::warn!(object = %self.key, error = %chain(&error), "status not written"),
        }
    }
}

/// The events that follow from a change of conditions.
fn changes(old: &ScaledObjectStatus, new: &ScaledObjectStatus) -> Vec<(Kind, &'static str, String)> {
    use scaling::condition::reason;
    let find = |status: &ScaledObjectStatus, kind: &str| status.conditions.iter().find(|c| c.r#type == kind).cloned();
    let mut events = Vec::new();
    if let Some(ready) = find(new, "Ready").filter(|now| find(old, "Ready").as_ref() != Some(now)) {
        events.extend(match ready.reason.as_str() {
            // Pausing changes the text, and has an event of its own.
            reason::READY if find(old, "Ready").is_none_or(|before| before.reason != reason::READY) => {
                Some((Kind::Normal, "ScaledObjectReady", "ScaledObject is ready for scaling".to_owned()))
            }
            reason::CHECK_FAILED => Some((Kind::Warning, "ScaledObjectCheckFailed", ready.message)),
            reason::TRIGGER_ERROR | reason::PARTIAL_TRIGGER_ERROR => {
                Some((Kind::Warning, "KEDAScalerFailed", ready.message))
            }
            reason::NO_CURRENT_REPLICAS => Some((Kind::Warning, "ScaledObjectUpdateFailed", ready.message)),
            _ => None,
        });
    }
    for (kind, on, off) in [
        (
            "Fallback",
            ("ScaledObjectFallbackActivated", "ScaledObject fallback is active"),
            ("ScaledObjectFallbackDeactivated", "ScaledObject fallback is not active any more"),
        ),
        ("Paused", ("ScaledObjectPaused", ""), ("ScaledObjectUnpaused", "")),
    ] {
        // A pause says which annotation it is, and whether there is none.
        let message = |text: &str| match text {
            "" => find(new, kind).map(|condition| condition.message).unwrap_or_default(),
            text => text.to_owned(),
        };
        match (status::is_true(old, kind), status::is_true(new, kind)) {
            (false, true) => events.push((Kind::Normal, on.0, message(on.1))),
            (true, false) => events.push((Kind::Normal, off.0, message(off.1))),
            _ => {}
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use scaling::Pausing;

    use super::*;

    fn status_with(conditions: &[Condition]) -> ScaledObjectStatus {
        let mut status = ScaledObjectStatus::default();
        for condition in conditions {
            status::set(&mut status, condition);
        }
        status
    }

    fn reasons(old: &[Condition], new: &[Condition]) -> Vec<&'static str> {
        changes(&status_with(old), &status_with(new)).into_iter().map(|(_, reason, _)| reason).collect()
    }

    #[test]
    fn events_follow_changes_and_nothing_else() {
        let paused = Condition::paused(&Pausing { scale_in: true, ..Pausing::default() });
        let unpaused = Condition::paused(&Pausing::default());
        assert_eq!(reasons(&[], &[Condition::ready(), unpaused.clone()]), ["ScaledObjectReady"]);
        assert!(reasons(&[Condition::ready()], &[Condition::ready()]).is_empty());
        assert_eq!(reasons(&[Condition::ready()], &[Condition::check_failed("x")]), ["ScaledObjectCheckFailed"]);
        assert_eq!(reasons(&[Condition::ready()], &[Condition::trigger_error("x")]), ["KEDAScalerFailed"]);
        assert_eq!(reasons(std::slice::from_ref(&unpaused), std::slice::from_ref(&paused)), ["ScaledObjectPaused"]);
        assert_eq!(reasons(&[paused], &[unpaused]), ["ScaledObjectUnpaused"]);
        assert_eq!(reasons(&[], &[Condition::fallback()]), ["ScaledObjectFallbackActivated"]);
        assert_eq!(reasons(&[Condition::fallback()], &[Condition::no_fallback()]), ["ScaledObjectFallbackDeactivated"]);
    }
}
