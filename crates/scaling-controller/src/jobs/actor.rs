//! One ScaledJob's own task: it looks, decides, acts, and says what it did.

use std::sync::Arc;
use std::time::Duration;

use api::FieldNotice;
use api::keda::annotations::PAUSED;
use api::keda::{FINALIZER, SCALED_JOB_LABEL, ScaledJob, ScaledJobStatus};
use api::unsupported::unsupported;
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use controller_runtime::status::{StatusError, patch_if_changed};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use rand::Rng;
use scaling::Pausing;
use scaling::jobs::history::JobRecord;
use scaling::jobs::{JobSettings, JobStrategy, Unfinished, condition, jobs};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use super::{count, make, status};
use crate::actor::{IDLE, RETRY, Shared, Stop};
use crate::credentials::Owner;
use crate::listener::Listener;
use crate::object::{ObjectKey, Subject, scalers_started, text};
use crate::source::{Asker, ObjectSource, Silent, asks};
use crate::wording::Wording;

/// The task of one object.
pub(super) struct JobActor {
    pub(super) shared: Arc<Shared>,
    pub(super) key: ObjectKey,
    uid: String,
    /// The status as last written, or as found in the beginning.
    status: ScaledJobStatus,
    source: Option<Arc<ObjectSource>>,
    /// The generation whose roll-out is done and whose start was published.
    pub(super) rolled: Option<i64>,
    silent: Silent,
    wording: Wording,
    listener: Listener,
    next_poll: Instant,
    failed_looks: u32,
    /// The generation that was polled for last.
    polled: Option<i64>,
}

impl JobActor {
    /// The actor of an object, whose first poll is due at `first_poll`.
    pub(super) fn new(shared: Arc<Shared>, object: &ScaledJob, first_poll: Instant) -> Self {
        Self {
            shared,
            key: ObjectKey::of(object),
            uid: object.uid().unwrap_or_default(),
            status: object.status.clone().unwrap_or_default(),
            source: None,
            rolled: None,
            silent: Silent::default(),
            wording: Wording::default(),
            listener: Listener::default(),
            next_poll: first_poll,
            failed_looks: 0,
            polled: None,
        }
    }

    /// Looks until the object is gone or `stop` is cancelled.
    pub(super) async fn run(mut self, wake: Arc<Notify>, stop: CancellationToken) {
        self.looks(&wake, &stop).await;
        if let Some(source) = &self.source {
            self.shared.sources.forget_series(source, None);
        }
    }

    async fn looks(&mut self, wake: &Notify, stop: &CancellationToken) {
        loop {
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
        let object = self.shared.jobs.get(&self.key.namespace, &self.key.name)?;
        if object.metadata.uid.as_deref() != Some(self.uid.as_str()) {
            return None;
        }
        let mut status = self.status.clone();
        let done = if object.metadata.deletion_timestamp.is_some() {
            self.set_finalizer(&object, false).await.map(|()| Instant::now() + IDLE)
        } else {
            self.reconcile(&object, &mut status).await
        };
        let next = match done {
            Ok(next) => {
                self.failed_looks = 0;
                self.wording.all_well();
                next
            }
            Err(Stop::Overtaken) => Instant::now() + RETRY.0,
            Err(Stop::Manifest(what)) => self.stopped(&what, IDLE, &mut status),
            Err(Stop::World(what) | Stop::Target(what)) => {
                let doubled = RETRY.0.saturating_mul(1 << self.failed_looks.min(6));
                self.failed_looks = self.failed_looks.saturating_add(1);
                self.stopped(&what, doubled.min(RETRY.1), &mut status)
            }
        };
        let generation = object.metadata.generation.unwrap_or_default();
        self.wording.steady(generation, &self.status.conditions, &mut status.conditions);
        for (kind, reason, note) in status::changes(&self.status, &status) {
            self.publish(&object, kind, reason, note).await;
        }
        self.save(status).await;
        Some(next)
    }

    fn stopped(&mut self, what: &str, wait: Duration, status: &mut ScaledJobStatus) -> Instant {
        if self.wording.is_news(what) {
            tracing::warn!(job = %self.key, what, retry_seconds = wait.as_secs(), "ScaledJob cannot be acted on");
        }
        self.shared.metrics.job_failed(&self.key);
        for condition in condition::check_failed(what) {
            status::set(status, &condition);
        }
        Instant::now() + wait
    }

    async fn reconcile(&mut self, object: &ScaledJob, status: &mut ScaledJobStatus) -> Result<Instant, Stop> {
        self.set_finalizer(object, true).await?;
        if is_paused(object) {
            for condition in condition::paused() {
                status::set(status, &condition);
            }
            // Whoever ends the pause does not wait for what the interval has left.
            self.next_poll = self.next_poll.min(Instant::now());
            return Ok(Instant::now() + IDLE);
        }
        status::set(status, &condition::unpaused());
        let settings = count::check(object).map_err(|wrong| Stop::Manifest(wrong.join("; ")))?;
        // Nor does who has changed something.
        if self.polled.is_some_and(|before| Some(before) != object.metadata.generation) {
            self.next_poll = self.next_poll.min(Instant::now());
        }
        let source = self.source(object).await?;
        self.listener.listen_to(&source);
        status::describe(status, object, &source);
        self.try_out(object).await?;
        self.roll_out(object).await?;
        self.tell_about(object, &source).await;
        self.poll(object, &settings, &source, status).await
    }

    /// Adds our finalizer, or takes it off. It holds nothing back; KEDA's users look for it.
    async fn set_finalizer(&self, object: &ScaledJob, wanted: bool) -> Result<(), Stop> {
        let mut finalizers = object.finalizers().to_vec();
        if finalizers.iter().any(|f| f == FINALIZER) == wanted {
            return Ok(());
        }
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        } else {
            finalizers.retain(|f| f != FINALIZER);
        }
        let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
        let api: Api<ScaledJob> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        match api.patch_metadata(&self.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            // The watch brings the object as it is now, and with it the next look.
            Ok(_) => Err(Stop::Overtaken),
            Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => Err(Stop::Overtaken),
            Err(error) => Err(Stop::World(format!("the finalizer could not be written: {}", chain(&error)))),
        }
    }

    /// The triggers; if a poll is due, with credentials as they are now.
    async fn source(&mut self, object: &ScaledJob) -> Result<Arc<ObjectSource>, Stop> {
        let template = object.spec.job_spec().map(|(job, _)| job.template).unwrap_or_default();
        let (subject, owner) = (Subject::job(object), Owner::of_job(object, &template));
        let max_age = if Instant::now() < self.next_poll { subject.interval * 6 / 5 } else { Duration::ZERO };
        let built = self.shared.sources.build(subject, owner, max_age, || self.source.clone()).await;
        let built = built.map_err(|wrong| {
            // What credentials come from, and servers that say which metrics they have, may change without the object.
            let what = wrong.join("; ");
            let world = owner.needs_any() || asks(&object.spec.triggers);
            if world { Stop::World(what) } else { Stop::Manifest(what) }
        })?;
        if let Some(old) = self.source.replace(Arc::clone(&built)) {
            self.shared.sources.forget_series(&old, Some(&built));
        }
        Ok(built)
    }

    /// Says once per generation that the triggers are watched, and what of the object has no effect.
    async fn tell_about(&mut self, object: &ScaledJob, source: &ObjectSource) {
        if self.rolled == object.metadata.generation && self.rolled.is_some() {
            return;
        }
        self.rolled = object.metadata.generation;
        for started in scalers_started(&object.spec.triggers) {
            self.publish(object, Kind::Normal, "KEDAScalersStarted", started).await;
        }
        let mut notices = unsupported(object);
        let unknown = object.spec.job_spec().map(|(_, unknown)| unknown).unwrap_or_default();
        let ignored = "unknown field; only a newer Kubernetes than this program was built for may know it";
        notices.extend(unknown.into_iter().map(|field| FieldNotice::new(field, ignored)));
        let of_triggers = source.triggers.iter().flat_map(|trigger| &trigger.notices);
        notices.extend(of_triggers.map(|n| FieldNotice::new(format!("spec.{}", n.field), n.message.clone())));
        if !notices.is_empty() {
            self.publish(object, Kind::Warning, "KEDAScalerInfo", text(&notices)).await;
        }
    }

    /// Polls if a poll is due; returns when the next one is.
    async fn poll(
        &mut self,
        object: &ScaledJob,
        settings: &JobSettings,
        source: &ObjectSource,
        status: &mut ScaledJobStatus,
    ) -> Result<Instant, Stop> {
        let (began, interval) = (Instant::now(), Subject::job(object).interval);
        if began < self.next_poll {
            return Ok(self.next_poll);
        }
        self.shared.metrics.poll_began("scaledjob", &self.key, began - self.next_poll);
        // Counted before the triggers are read: a Job that ends in between takes its message with it, and would otherwise be
        // missing here while its message is still there.
        let records = self.jobs().await?;
        let unfinished = self.unfinished(object, settings, &records).await?;
        let metrics = &self.shared.metrics;
        let readings = source.readings(metrics, Asker::Poll, |_, failed| u32::from(failed)).await;
        if let Some(note) = self.silent.notice(source) {
            self.publish(object, Kind::Warning, "KEDAScalerInfo", note).await;
        }
        let decision = jobs(settings, &readings, unfinished);
        if !decision.failing.is_empty() {
            metrics.job_failed(&self.key);
        }
        let (done, why) = match (decision.create, decision.failing.is_empty()) {
            (0, true) => ("hold", "Steady"),
            (0, false) => ("hold", "Unknown"),
            (_, _) => ("create", "Work"),
        };
        metrics.decided("scaledjob", &self.key, done, why);
        self.create(object, decision.create).await;
        self.clean_up(object, &records).await;
        status::decided(status, &readings, &decision, Timestamp::now());
        self.polled = object.metadata.generation;
        self.next_poll = began + interval.mul_f64(rand::rng().random_range(0.95..=1.05));
        Ok(self.next_poll)
    }

    /// The Jobs of this object, as the API server has them now.
    pub(super) async fn jobs(&self) -> Result<Vec<JobRecord>, Stop> {
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        let wanted = ListParams::default().labels(&format!("{SCALED_JOB_LABEL}={}", self.key.name));
        let _permit = self.shared.acting.acquire().await;
        let found = api.list(&wanted).await;
        let found = found.map_err(|error| Stop::World(format!("its Jobs cannot be counted: {}", chain(&error))))?;
        Ok(found.items.iter().filter_map(|job| count::record(job, &self.uid)).collect())
    }

    async fn unfinished(
        &self,
        object: &ScaledJob,
        settings: &JobSettings,
        records: &[JobRecord],
    ) -> Result<Unfinished, Stop> {
        let jobs: Vec<&JobRecord> = records.iter().filter(|job| job.ended.is_none()).collect();
        let running = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        // Only one strategy asks, and only if there is something to ask about.
        if settings.strategy != JobStrategy::Accurate || jobs.is_empty() {
            return Ok(Unfinished { running, pending: 0 });
        }
        let api: Api<Pod> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        let wanted = ListParams::default().labels(&format!("{SCALED_JOB_LABEL}={}", self.key.name));
        let _permit = self.shared.acting.acquire().await;
        let pods = api.list(&wanted).await;
        let pods =
            pods.map_err(|error| Stop::World(format!("the pods of its Jobs cannot be read: {}", chain(&error))))?;
        let conditions = object.spec.scaling_strategy.as_ref().map(|s| s.pending_pod_conditions.as_slice());
        Ok(Unfinished { running, pending: count::pending(&jobs, &pods.items, conditions.unwrap_or_default()) })
    }

    /// Makes Jobs, one by one. The first that cannot be made is the last that is tried; the next poll counts anew.
    async fn create(&self, object: &ScaledJob, wanted: u32) {
        if wanted == 0 {
            return;
        }
        let api = self.dynamic_jobs();
        let job: DynamicObject = match serde_json::from_value(make::job(object, env!("CARGO_PKG_VERSION"))) {
            Ok(job) => job,
            Err(error) => return tracing::error!(job = %self.key, %error, "a Job that cannot be written down"),
        };
        let _permit = self.shared.acting.acquire().await;
        let mut made = 0;
        // Until somebody pauses it, changes it or takes it away.
        let as_it_was = || {
            let now = self.shared.jobs.get(&self.key.namespace, &self.key.name);
            now.is_some_and(|now| {
                let same = |job: &ScaledJob| (job.uid(), job.metadata.generation);
                same(&now) == same(object) && now.metadata.deletion_timestamp.is_none() && !is_paused(&now)
            })
        };
        let mut pace = Pace::begin();
        while made < wanted && as_it_was() {
            if !pace.keeps() {
                tracing::warn!(job = %self.key, made, wanted, "this process stood still; the next poll counts anew");
                break;
            }
            if let Err(error) = api.create(&PostParams::default(), &job).await {
                let text = chain(&error);
                tracing::warn!(job = %self.key, error = text, made, wanted, "Job not made");
                let note = format!("Failed to create job: {text}");
                self.publish(object, Kind::Warning, "KEDAJobCreateFailed", note).await;
                break;
            }
            self.shared.metrics.job_made(&self.key);
            made += 1;
        }
        if made > 0 {
            tracing::info!(job = %self.key, made, wanted, "Jobs made");
            self.publish(object, Kind::Normal, "KEDAJobsCreated", format!("Created {made} jobs")).await;
        }
    }

    pub(super) async fn publish(&self, object: &ScaledJob, kind: Kind, reason: &str, note: String) {
        self.shared.announcer.publish(&object.object_ref(&()), kind, reason, "Scale", note).await;
    }

    async fn save(&mut self, status: ScaledJobStatus) {
        if status == self.status {
            return;
        }
        let _permit = self.shared.acting.acquire().await;
        let api: Api<ScaledJob> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        match patch_if_changed(&api, &self.key.name, Some(&self.status), &status).await {
            Ok(written) => {
                if written {
                    self.shared.metrics.status_written();
                }
                self.status = status;
            }
            Err(StatusError::Patch(kube::Error::Api(answer))) if answer.is_not_found() => {}
            // The next look compares with what was written last, and tries again.
            Err(error) => tracing::warn!(job = %self.key, error = %chain(&error), "status not written"),
        }
    }
}

/// Only one of the annotations that hold ScaledObjects holds a ScaledJob.
fn is_paused(object: &ScaledJob) -> bool {
    let get = |key: &str| (key == PAUSED).then(|| object.annotations().get(key).map(String::as_str)).flatten();
    Pausing::read(get).is_ok_and(|pausing| pausing.full.is_some())
}
