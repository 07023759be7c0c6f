//! Sources that speak up by themselves.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{BoxStream, SelectAll, select_all};
use tokio::time::{Instant, sleep_until};

use crate::source::ObjectSource;

/// Least time between two pushes that are passed on. A source that pushes for every message would otherwise be read, and
/// its object decided on, as often.
///
/// A read that is at most a second old is taken over by the next one, so this is a little longer: what is passed on again
/// after this time is read anew.
const APART: Duration = Duration::from_millis(1_100);

/// What the triggers of one object push.
#[derive(Default)]
pub(crate) struct Listener {
    of: Option<Arc<ObjectSource>>,
    /// Never locked; the mutex lets the actor be shared between awaits. Most objects have no trigger that pushes.
    streams: Option<Box<Mutex<SelectAll<BoxStream<'static, ()>>>>>,
    /// Something was pushed and is not passed on yet.
    heard: bool,
    /// What was passed on last may have met a read from before it, so it is passed on once more.
    again: bool,
    passed_on: Option<Instant>,
}

impl Listener {
    /// Listens to the triggers of this source, and to no others any more.
    pub(crate) fn listen_to(&mut self, source: &Arc<ObjectSource>) {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, source)) {
            self.of = Some(Arc::clone(source));
            let streams: Vec<_> = source.triggers.iter().filter_map(|trigger| trigger.scaler.pushes()).collect();
            self.streams = (!streams.is_empty()).then(|| Box::new(Mutex::new(select_all(streams))));
        }
    }

    /// Waits for a push; for ever if nobody pushes. Nothing is lost when the wait is given up.
    pub(crate) async fn pushed(&mut self) {
        if self.streams.is_none() && !self.heard && !self.again {
            return pending().await;
        }
        // What this needs is not part of every object's task.
        Box::pin(self.passed()).await;
    }

    async fn passed(&mut self) {
        let soonest = self.passed_on.map_or_else(Instant::now, |last| last + APART);
        if !self.heard {
            let streams = self.streams.as_mut().map(|all| all.get_mut().unwrap_or_else(PoisonError::into_inner));
            let next = async {
                let heard = match streams {
                    Some(streams) => streams.next().await,
                    None => None,
                };
                if heard.is_none() {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                () = next => self.heard = true,
                () = sleep_until(soonest), if self.again => {}
            }
        }
        sleep_until(soonest).await;
        self.again = self.heard;
        self.heard = false;
        self.passed_on = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, stream};

    use super::*;

    fn listener(streams: Vec<BoxStream<'static, ()>>) -> Listener {
        Listener { streams: Some(Box::new(Mutex::new(select_all(streams)))), ..Listener::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_passed_on_once_in_a_while_and_silence_never() {
        let mut flood = listener(vec![stream::repeat(()).boxed()]);
        let began = Instant::now();
        for _ in 0..3 {
            flood.pushed().await;
        }
        assert_eq!(began.elapsed(), APART * 2);
        assert!(listener(vec![]).pushed().now_or_never().is_none());
        assert!(listener(vec![stream::pending().boxed()]).pushed().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_that_was_heard_outlives_the_wait_and_is_passed_on_twice() {
        let mut two = listener(vec![stream::iter([(), ()]).chain(stream::pending()).boxed()]);
        let began = Instant::now();
        two.pushed().await;
        assert!(two.pushed().now_or_never().is_none(), "too early");
        two.pushed().await;
        two.pushed().await;
        assert_eq!(began.elapsed(), APART * 2, "the second one, and once more");
        assert!(tokio::time::timeout(APART * 10, two.pushed()).await.is_err(), "there is no third");
    }
}
