//! Work on many machines at once: at most one action per machine, a bounded number in all, back-off after failures.
//!
//! The owner looks at the world, decides a step for each machine and offers it; what is offered while the machine is
//! busy or backing off is simply not started. Looking again is cheap and forgets nothing.

use std::{collections::BTreeMap, future::Future, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// How an action ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the world will show it.
    Done,
    /// As expected not finished; the same action is due again after this time.
    Again(Duration),
    /// Failed; the same action is due again after a time that doubles with every failure.
    Failed,
    /// Failed, and the other side said how long to wait.
    FailedFor(Duration),
}

/// First and longest back-off after failures: half a second is what a conflict needs, half a minute what an outage does.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// After a success, the time the watch gets to show it before the same action may start again, and the longest such time: it
/// doubles, because a watch that is behind falls further behind for every repetition, which is one more change to show.
const ECHO: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));
/// A success after this long is no repetition of the last one.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// Actions in progress and pauses between them. `S` is what distinguishes actions on one machine.
#[derive(Debug)]
pub struct Workers<S> {
    tasks: JoinSet<(String, Outcome)>,
    busy: BTreeMap<String, S>,
    pauses: BTreeMap<String, Pause<S>>,
    limit: usize,
}

#[derive(Debug)]
struct Pause<S> {
    step: S,
    failures: u32,
    successes: u32,
    until: Instant,
}

impl<S: Clone + PartialEq> Workers<S> {
    /// At most `limit` actions at a time.
    pub fn new(limit: usize) -> Self {
        Self { tasks: JoinSet::new(), busy: BTreeMap::new(), pauses: BTreeMap::new(), limit }
    }

    /// Starts the action unless the machine is busy, the same action pauses, or too many run. Whether it was started.
    pub fn offer<F>(&mut self, key: &str, step: S, action: impl FnOnce() -> F) -> bool
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        if self.busy.contains_key(key) || self.busy.len() >= self.limit {
            return false;
        }
        if self.pauses.get(key).is_some_and(|pause| pause.step == step && pause.until > Instant::now()) {
            return false;
        }
        self.busy.insert(key.to_owned(), step);
        let (key, action) = (key.to_owned(), action());
        self.tasks.spawn(async move {
            // A panic in one action must not leave its machine busy for ever.
            // It ends with this task: nothing acts after the Lease is given back.
            let outcome = AbortOnDropHandle::new(tokio::spawn(action)).await.unwrap_or(Outcome::Failed);
            (key, outcome)
        });
        true
    }

    /// Waits until an action has ended; for ever if none runs.
    pub async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok((key, outcome))) => self.note(key, outcome),
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// When the first pause ends.
    pub fn next_due(&self) -> Option<Instant> {
        self.pauses.values().map(|pause| pause.until).filter(|until| *until > Instant::now()).min()
    }

    /// Forgets machines that are no longer there.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.pauses.retain(|key, _| exists(key));
    }

    fn note(&mut self, key: String, outcome: Outcome) {
        let Some(step) = self.busy.remove(&key) else { return };
        let now = Instant::now();
        let before = self.pauses.get(&key).filter(|pause| pause.step == step);
        let failed = before.map_or(0, |pause| pause.failures);
        let done = before.filter(|pause| pause.until + FORGOTTEN > now).map_or(0, |pause| pause.successes);
        let (failures, successes, pause) = match outcome {
            Outcome::Done => (0, done.saturating_add(1), doubled(ECHO, done)),
            Outcome::Again(after) => (0, 0, after),
            Outcome::Failed => (failed.saturating_add(1), 0, backoff(failed)),
            Outcome::FailedFor(after) => (failed.saturating_add(1), 0, after.max(backoff(failed))),
        };
        self.pauses.insert(key, Pause { step, failures, successes, until: now + pause });
    }
}

/// The pause after a failure that `failures` others came before.
pub fn backoff(failures: u32) -> Duration {
    doubled(BACKOFF, failures)
}

fn doubled((first, longest): (Duration, Duration), times: u32) -> Duration {
    first.saturating_mul(1 << times.min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_its_bound() {
        assert_eq!(backoff(0), Duration::from_millis(500));
        assert_eq!(backoff(1), Duration::from_secs(1));
        assert_eq!(backoff(3), Duration::from_secs(4));
        assert_eq!(backoff(60), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn one_machine_does_one_thing_at_a_time_and_pauses_after_a_failure() {
        let mut workers = Workers::new(10);
        assert!(workers.offer("a", "launch", || async { Outcome::Failed }));
        assert!(!workers.offer("a", "launch", || async { Outcome::Done }), "busy");
        workers.ended().await;
        assert!(!workers.offer("a", "launch", || async { Outcome::Done }), "pausing");
        assert!(workers.offer("a", "terminate", || async { Outcome::Done }), "another action need not wait");
        workers.ended().await;
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(workers.offer("a", "launch", || async { Outcome::Done }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_watch_does_not_show_is_repeated_ever_more_rarely() {
        let mut workers = Workers::new(1);
        let mut again = async |step, wait: f64| {
            tokio::time::advance(Duration::from_secs_f64(wait)).await;
            let started = workers.offer("a", step, || async { Outcome::Done });
            if started {
                workers.ended().await;
            }
            started
        };
        assert!(again("register", 0.0).await);
        for (wait, started) in [(0.9, false), (0.2, true), (1.8, false), (0.3, true), (3.9, false), (0.2, true)] {
            assert_eq!(again("register", wait).await, started, "{wait}");
        }
        assert!(again("open", 0.0).await, "it has come on");
        assert!(again("register", 0.0).await);
        assert!(again("register", 1.1).await, "from the beginning");
        assert!(again("register", 60.0).await);
        assert!(again("register", 1.1).await, "the one before is long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_run_and_a_panic_frees_its_machine() {
        let mut workers = Workers::new(1);
        assert!(workers.offer("a", 1, || async { panic!("on purpose") }));
        assert!(!workers.offer("b", 1, || async { Outcome::Done }));
        workers.ended().await;
        assert!(workers.offer("b", 1, || async { Outcome::Done }));
    }
}
