//! One read at a time per metric, shared by everybody who wants it at that moment.

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use scalers::Sampled;
use tokio::time::{Instant, timeout};

/// How long somebody who can do with the last value waits for a new one. The HPA controller is told after five seconds that there
/// is none, and a query may take longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a read gave, or why it gave nothing.
pub(crate) type Outcome = Result<Sampled, Arc<str>>;

/// The last outcome of a read, and the read that is under way, if any.
///
/// A read runs in a task of its own: a caller that goes away does not stop it, and a panic in it is an outcome.
#[derive(Default)]
pub(crate) struct Cell {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: Option<(Instant, Outcome)>,
    pending: Option<Shared<BoxFuture<'static, Outcome>>>,
}

impl Cell {
    /// The last outcome, if it is at most `max_age` old; otherwise that of a new read, shared with others who wait.
    pub(crate) async fn read<F>(self: &Arc<Self>, max_age: Duration, ask: impl FnOnce() -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let pending = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, outcome)) = &state.last
                && at.elapsed() <= max_age
            {
                return outcome.clone();
            }
            // The read itself takes the lock only in its own task, so starting it here cannot deadlock.
            state.pending.get_or_insert_with(|| self.start(ask())).clone()
        };
        pending.await
    }

    /// As [`read`](Self::read). Whoever says how old a value may be to `keep` it gets the last one if a new one takes longer than
    /// [`PATIENCE`]; the read goes on, and the next one who asks gets what it gave.
    pub(crate) async fn read_or_last<F>(
        self: &Arc<Self>,
        max_age: Duration,
        keep: Option<Duration>,
        ask: impl FnOnce() -> F,
    ) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut read = pin!(self.read(max_age, ask));
        let Some(keep) = keep else { return read.await };
        if let Ok(outcome) = timeout(PATIENCE, &mut read).await {
            return outcome;
        }
        match self.value_within(keep) {
            Some(sampled) => Ok(sampled),
            None => read.await,
        }
    }

    fn value_within(&self, age: Duration) -> Option<Sampled> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, outcome) = state.last.as_ref().filter(|(at, _)| at.elapsed() <= age)?;
        outcome.as_ref().ok().copied()
    }

    /// Whether the last read gave an answer with nothing in it.
    pub(crate) fn is_silent(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.as_ref().is_some_and(|(_, outcome)| outcome.as_ref().is_ok_and(|sampled| sampled.empty))
    }

    fn start<F>(self: &Arc<Self>, asked: F) -> Shared<BoxFuture<'static, Outcome>>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let cell = Arc::clone(self);
        let read = tokio::spawn(async move {
            let outcome = match tokio::spawn(asked).await {
                Ok(outcome) => outcome,
                Err(error) if error.is_panic() => Err("the scaler panicked; this is a defect of ours".into()),
                Err(_) => Err(stopping()),
            };
            let mut state = cell.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.last = Some((Instant::now(), outcome.clone()));
            state.pending = None;
            outcome
        });
        async move { read.await.unwrap_or_else(|_| Err(stopping())) }.boxed().shared()
    }
}

fn stopping() -> Arc<str> {
    "the program is stopping".into()
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use units::Milli;

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a source's outcome stands")]
    fn sampled(value: i64) -> Outcome {
        Ok(Sampled { value: Milli::from_thousandths(value), active: true, empty: false })
    }

    #[tokio::test(start_paused = true)]
    async fn reads_that_fall_together_ask_once() {
        let (cell, asked) = (Arc::new(Cell::default()), Arc::new(AtomicUsize::new(0)));
        let read = || {
            let asked = Arc::clone(&asked);
            cell.read(Duration::ZERO, move || async move {
                asked.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_secs(1)).await;
                sampled(7)
            })
        };
        let (a, b, c) = tokio::join!(read(), read(), read());
        assert_eq!((a, b, c), (sampled(7), sampled(7), sampled(7)));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_outcome_is_kept_for_its_time_and_no_longer() {
        let cell = Arc::new(Cell::default());
        let keep = Duration::from_secs(5);
        assert_eq!(cell.read(keep, || async { sampled(1) }).await, sampled(1));
        tokio::time::advance(keep).await;
        assert_eq!(cell.read(keep, || async { sampled(2) }).await, sampled(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(cell.read(keep, || async { sampled(3) }).await, sampled(3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_wait_gets_the_last_value_and_the_next_one_the_new() {
        let cell = Arc::new(Cell::default());
        let keep = Some(Duration::from_secs(36));
        let slow = |value| {
            cell.read_or_last(Duration::from_secs(5), keep, move || async move {
                tokio::time::sleep(Duration::from_secs(7)).await;
                sampled(value)
            })
        };
        assert_eq!(slow(1).await, sampled(1), "there is no other");
        tokio::time::advance(Duration::from_secs(15)).await;
        let began = Instant::now();
        assert_eq!(slow(2).await, sampled(1));
        assert_eq!(began.elapsed(), PATIENCE);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(slow(3).await, sampled(2), "the read went on");
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(slow(4).await, sampled(4), "the last one is too old");
    }

    #[tokio::test]
    async fn a_panic_is_an_outcome_and_the_next_read_works() {
        let cell = Arc::new(Cell::default());
        let outcome = cell.read(Duration::ZERO, || async { panic!("as a defect would") }).await;
        assert!(outcome.is_err_and(|why| why.contains("panicked")));
        assert_eq!(cell.read(Duration::ZERO, || async { sampled(1) }).await, sampled(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_does_not_stop_the_read() {
        let cell = Arc::new(Cell::default());
        let read = cell.read(Duration::ZERO, || async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            sampled(9)
        });
        assert!(timeout(Duration::from_secs(1), read).await.is_err());
        let other = cell.read(Duration::ZERO, || async { sampled(1) }).await;
        assert_eq!(other, sampled(9), "the read under way is used");
    }
}
