//! ScaledJobs: one actor each, while this replica leads.
//!
//! ```text
//!   ScaledJob ─► count::check ─┐
//!   triggers ─► readings ──────┼─► scaling::jobs ─► so many Jobs ─► make::job ─► API server
//!   Jobs, pods: listed now ────┘                └─► which Jobs go
//! ```
//!
//! Guarantees: Jobs are counted by a list from the API server itself right before some are made, never from a watch, so that
//! what was made a moment ago counts, by whoever it was made. If they cannot be counted none is made. An unfinished Job is
//! deleted only by a roll-out that asks for it. A Job that the API server would not take is told before one is needed.

mod actor;
mod count;
mod make;
mod pace;
mod roll;
mod status;
mod trial;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actor::Shared;
use crate::object::{ObjectKey, Subject};
use crate::supervisor::SPREAD;
use actor::JobActor;

/// An actor that panicked starts again after this time.
const AFTER_PANIC: Duration = Duration::from_secs(30);
/// How long actors may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// Runs the actors of all ScaledJobs in these namespaces (all, if none is named) while `leading`, until `stop`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    namespaces: Vec<String>,
    mut leading: watch::Receiver<bool>,
    mut changes: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let mut crew = Crew {
        shared,
        actors: JoinSet::new(),
        members: HashMap::new(),
        by_task: HashMap::new(),
        rest: None,
        first_pass: true,
    };
    loop {
        changes.mark_unchanged();
        if *leading.borrow_and_update() {
            crew.pass(&namespaces, &stop);
        }
        let rested = rested(crew.rest);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = leading.changed() => if changed.is_err() { break },
            changed = changes.changed() => if changed.is_err() { break },
            Some(ended) = crew.actors.join_next_with_id() => crew.ended(ended),
            () = rested => crew.rest = None,
        }
    }
    stop.cancel();
    let all = async { while crew.actors.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
        crew.actors.shutdown().await;
    }
}

async fn rested(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

struct Crew {
    shared: Arc<Shared>,
    actors: JoinSet<()>,
    members: HashMap<ObjectKey, Member>,
    by_task: HashMap<Id, ObjectKey>,
    /// After a panic nobody is hired before this.
    rest: Option<Instant>,
    /// Objects that appear later are new, and polled at once.
    first_pass: bool,
}

struct Member {
    version: Option<String>,
    wake: Arc<Notify>,
}

impl Crew {
    /// Starts actors for new objects, and wakes those whose object changed or went.
    fn pass(&mut self, namespaces: &[String], stop: &CancellationToken) {
        let jobs = self.shared.jobs.state();
        let ours = |key: &ObjectKey| namespaces.is_empty() || namespaces.contains(&key.namespace);
        let there: HashMap<ObjectKey, _> =
            jobs.iter().map(|job| (ObjectKey::of(job.as_ref()), job)).filter(|(key, _)| ours(key)).collect();
        for (key, member) in &mut self.members {
            // An actor whose object went, or is another one of its name, ends by itself; then its place is free.
            let version = there.get(key).and_then(|job| job.metadata.resource_version.clone());
            if version.is_none() || member.version != version {
                member.version = version;
                member.wake.notify_one();
            }
        }
        for (key, job) in there {
            if self.rest.is_none() && !self.members.contains_key(&key) {
                let wake = Arc::new(Notify::new());
                let spread = if self.first_pass { SPREAD.min(Subject::job(job).interval) } else { Duration::ZERO };
                let first_poll = Instant::now() + spread.mul_f64(rand::rng().random_range(0.0..=1.0));
                let actor = JobActor::new(Arc::clone(&self.shared), job, first_poll);
                let task = self.actors.spawn(actor.run(Arc::clone(&wake), stop.child_token()));
                self.by_task.insert(task.id(), key.clone());
                self.members.insert(key, Member { version: job.metadata.resource_version.clone(), wake });
            }
        }
        self.first_pass = false;
    }

    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(key) = self.by_task.remove(&id) else { return };
        self.members.remove(&key);
        self.shared.metrics.forget_job(&key);
        if panicked {
            tracing::error!(job = %key, "the actor panicked; this is a defect of ours. Others go on, this one starts again");
            self.shared.metrics.panicked();
            self.rest = Some(Instant::now() + AFTER_PANIC);
        }
    }
}
