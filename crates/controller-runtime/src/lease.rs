//! Leader election on a `coordination.k8s.io/v1` Lease.
//!
//! [`next_step`] decides, [`Election`] acts. The times are client-go's: a lease lasts 15 s, a leader that could not
//! renew for 10 s steps down, everybody tries every 2 s. Whether a lease has run out is judged by how long *we* have
//! seen its renewTime unchanged on our monotonic clock, never by comparing wall clocks of two machines.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, PostParams};
use kube::{Client, Resource as _};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The three times of an election; `renew_deadline` < `lease` is what keeps two leaders apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait after the last renewal they saw before they take over. Default 15 s.
    pub lease: Duration,
    /// How long a leader acts on its last successful renewal. Default 10 s.
    pub renew_deadline: Duration,
    /// Time between two attempts. Default 2 s.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew_deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// A candidate for one Lease.
#[derive(Clone)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are, different for every process: see [`identity`].
    pub identity: String,
    /// The API server; needs get, create and update on the Lease.
    pub client: Client,
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { namespace, name, identity, .. } = self;
        write!(f, "Election({namespace}/{name} as {identity})")
    }
}

/// What a candidate does after reading the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: create it with us as holder.
    Create,
    /// Nobody holds it, or the holder has not renewed for a whole lease duration: write ourselves in.
    Take,
    /// It is ours: write a new renewTime.
    Renew,
    /// Somebody else holds it.
    Wait {
        /// The holder's identity.
        holder: String,
    },
}

/// Decides the next step from the Lease as read, and for how long its record has been seen unchanged.
///
/// A lease without a duration of its own is taken to last `timing.lease`.
pub fn next_step(lease: Option<&LeaseSpec>, unchanged_for: Duration, identity: &str, timing: &Timing) -> Step {
    let Some(lease) = lease else { return Step::Create };
    let holder = lease.holder_identity.as_deref().unwrap_or_default();
    let lasts = lease
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(timing.lease, Duration::from_secs);
    if holder == identity {
        Step::Renew
    } else if holder.is_empty() || unchanged_for >= lasts {
        Step::Take
    } else {
        Step::Wait { holder: holder.to_owned() }
    }
}

/// The record a candidate writes when it takes or renews the lease at `now` (wall clock, for people to read).
pub fn held(old: Option<&LeaseSpec>, identity: &str, timing: &Timing, now: Timestamp) -> LeaseSpec {
    let same_holder = old.is_some_and(|old| old.holder_identity.as_deref() == Some(identity));
    let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(timing.lease.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: match old {
            Some(old) if same_holder => old.acquire_time.clone(),
            _ => Some(MicroTime(now)),
        },
        renew_time: Some(MicroTime(now)),
        // Counted as client-go does: the first holder of a new Lease is no transition.
        lease_transitions: Some(if old.is_none() || same_holder { transitions } else { transitions.saturating_add(1) }),
        ..LeaseSpec::default()
    }
}

/// The record a leader leaves behind: nobody holds it, the next candidate may take it at once.
pub fn released(old: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..old.clone()
    }
}

/// A name for this process: the pod's (or host's) name and a random part, so that a restarted pod is a new candidate.
pub fn identity() -> String {
    let host = ["POD_NAME", "HOSTNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok().map(|name| name.trim().to_owned()))
        .unwrap_or_else(|| "unknown".to_owned());
    // RandomState is keyed from the operating system's entropy.
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), std::process::id());
    format!("{host}_{random:016x}")
}

impl Election {
    /// Runs the election in a task until `shutdown`. The receiver says whether we lead.
    ///
    /// # Guarantees
    /// It turns true at most once. When leadership is lost it turns false and the task ends: the program must stop
    /// acting and end non-zero, a new process is a new candidate. It is false at the latest `renew_deadline` after the
    /// last successful renewal *began*, which is before anybody else may take over.
    ///
    /// On `shutdown` the lease is given back, so that another replica takes over within a retry; the sender is
    /// dropped after that, see [`ended`].
    ///
    /// # Assumptions
    /// `shutdown` is cancelled after the work of the leader has stopped; what still acts then acts beside the next one.
    pub fn spawn(self, shutdown: CancellationToken) -> watch::Receiver<bool> {
        self.spawn_with(Timing::default(), shutdown)
    }

    /// [`Election::spawn`] with other times.
    pub fn spawn_with(self, timing: Timing, shutdown: CancellationToken) -> watch::Receiver<bool> {
        let (leading, receiver) = watch::channel(false);
        let mut candidate = Candidate {
            api: Api::namespaced(self.client.clone(), &self.namespace),
            election: self,
            timing,
            seen: None,
            renewed: None,
        };
        tokio::spawn(async move {
            candidate.run(&leading, &shutdown).await;
            leading.send_replace(false);
            if shutdown.is_cancelled() {
                candidate.release().await;
            }
        });
        receiver
    }
}

/// Ends when we lead (true), or when we never will because the election has ended (false).
pub async fn acquired(leading: &watch::Receiver<bool>) -> bool {
    leading.clone().wait_for(|leading| *leading).await.is_ok()
}

/// Ends when the election task has ended: leadership lost, or given back after the shutdown.
pub async fn ended(leading: &watch::Receiver<bool>) {
    let mut leading = leading.clone();
    while leading.changed().await.is_ok() {}
}

struct Candidate {
    election: Election,
    api: Api<Lease>,
    timing: Timing,
    /// The record as last read, and when we first saw it so.
    seen: Option<(LeaseSpec, Instant)>,
    /// When the last successful renewal began, while we lead.
    renewed: Option<Instant>,
}

enum Attempt {
    Held,
    NotHeld,
    Failed(String),
}

impl Candidate {
    async fn run(&mut self, leading: &watch::Sender<bool>, shutdown: &CancellationToken) {
        loop {
            let began = Instant::now();
            let deadline = self.renewed.unwrap_or(began) + self.timing.renew_deadline;
            let attempt = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                attempt = timeout_at(deadline, self.attempt()) => {
                    attempt.unwrap_or_else(|_| Attempt::Failed("no answer in time".to_owned()))
                }
            };
            match attempt {
                Attempt::Held => {
                    if self.renewed.is_none() {
                        tracing::info!(lease = ?self.election, "leading");
                        leading.send_replace(true);
                    }
                    self.renewed = Some(began);
                }
                Attempt::NotHeld if self.renewed.is_some() => {
                    tracing::error!(lease = ?self.election, "leadership lost: another replica holds the lease");
                    return;
                }
                Attempt::NotHeld => {}
                Attempt::Failed(why) => {
                    tracing::warn!(lease = ?self.election, %why, "lease not read or written");
                    if self.renewed.is_some() && Instant::now() >= deadline {
                        tracing::error!(lease = ?self.election, "leadership lost: not renewed in time");
                        return;
                    }
                }
            }
            let pause = if self.renewed.is_some() { self.timing.retry } else { self.follower_pause() };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// The retry time spread by up to a fifth, different for each candidate, so that they do not try in step.
    fn follower_pause(&self) -> Duration {
        let mut hasher = DefaultHasher::new();
        self.election.identity.hash(&mut hasher);
        let percent = u32::try_from(hasher.finish() % 20).unwrap_or(0);
        self.timing.retry + self.timing.retry * percent / 100
    }

    async fn attempt(&mut self) -> Attempt {
        match self.try_attempt().await {
            Ok(attempt) => attempt,
            // Somebody wrote between our read and our write. A leader nobody should have overtaken does not guess who
            // it was: it steps down.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Attempt::NotHeld,
            Err(error) => Attempt::Failed(crate::boot::chain(&error)),
        }
    }

    async fn try_attempt(&mut self) -> kube::Result<Attempt> {
        let current = self.api.get_opt(&self.election.name).await?;
        let spec = current.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let unchanged_for = self.observe(spec.as_ref());
        let step = next_step(spec.as_ref(), unchanged_for, &self.election.identity, &self.timing);
        match step {
            Step::Wait { holder } => {
                tracing::debug!(lease = ?self.election, %holder, "waiting for the lease");
                return Ok(Attempt::NotHeld);
            }
            // A leader whose lease was taken by hand, or was given away: it no longer leads.
            Step::Take if self.renewed.is_some() => return Ok(Attempt::NotHeld),
            Step::Create | Step::Take | Step::Renew => {}
        }
        let now = Timestamp::now();
        let mut lease = current.unwrap_or_default();
        lease.meta_mut().name = Some(self.election.name.clone());
        lease.spec = Some(held(spec.as_ref(), &self.election.identity, &self.timing, now));
        let written = if step == Step::Create {
            self.api.create(&PostParams::default(), &lease).await?
        } else {
            // Carries the resourceVersion we read.
            self.api.replace(&self.election.name, &PostParams::default(), &lease).await?
        };
        self.observe(written.spec.as_ref());
        Ok(Attempt::Held)
    }

    /// Remembers the record; returns for how long it has been the same.
    fn observe(&mut self, spec: Option<&LeaseSpec>) -> Duration {
        let now = Instant::now();
        match (&self.seen, spec) {
            (Some((seen, since)), Some(spec)) if seen == spec => now.duration_since(*since),
            (_, spec) => {
                self.seen = spec.map(|spec| (spec.clone(), now));
                Duration::ZERO
            }
        }
    }

    /// Gives the lease back if it is still ours. A failure costs the next leader one lease duration, nothing else.
    async fn release(&self) {
        match tokio::time::timeout(self.timing.retry, self.try_release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = %crate::boot::chain(&error), "lease not released"),
            Err(_) => tracing::warn!("lease not released: no answer in time"),
        }
    }

    async fn try_release(&self) -> kube::Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.election.name).await? else { return Ok(()) };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(self.election.identity.as_str()) {
            return Ok(());
        }
        lease.spec = Some(released(&spec, Timestamp::now()));
        self.api.replace(&self.election.name, &PostParams::default(), &lease).await?;
        tracing::info!(lease = ?self.election, "lease released");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
