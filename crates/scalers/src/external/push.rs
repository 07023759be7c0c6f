//! What a plug-in tells without being asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::time::Instant;
use tonic::Streaming;

use super::messages::IsActiveResponse;
use super::plugin::Plugin;

/// Pause before the first attempt to reach a plug-in again. KEDA's numbers.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long a pushed "active" counts. It makes somebody look at once; this is long enough for that look, and shorter than
/// any cooldown.
const COUNTS_FOR: Duration = Duration::from_secs(10);

/// When the plug-in last pushed "active".
#[derive(Debug, Default)]
pub(super) struct Pushed(Mutex<Option<Instant>>);

impl Pushed {
    pub(super) fn is_fresh(&self) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() <= COUNTS_FOR)
    }

    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// One item per pushed "active". Never ends: a connection that broke is made again, after a pause that grows.
///
/// "Inactive" gives nothing: going down is for polls to decide.
pub(super) fn pushes(plugin: Plugin, pushed: Arc<Pushed>) -> BoxStream<'static, ()> {
    let state = State { plugin, pushed, open: None, pause: PAUSE };
    stream::unfold(state, |mut state| async {
        state.next().await;
        Some(((), state))
    })
    .boxed()
}

struct State {
    plugin: Plugin,
    pushed: Arc<Pushed>,
    open: Option<Streaming<IsActiveResponse>>,
    pause: Duration,
}

impl State {
    /// Waits for the next "active".
    async fn next(&mut self) {
        loop {
            if self.open.is_none() {
                self.open = self.plugin.stream().await.ok();
            }
            let message = match &mut self.open {
                Some(open) => open.message().await.ok().flatten(),
                None => None,
            };
            let Some(message) = message else {
                self.open = None;
                tokio::time::sleep(self.pause).await;
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                continue;
            };
            self.pause = PAUSE;
            if message.result {
                self.pushed.now();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_pushed_counts_for_a_moment() {
        let pushed = Pushed::default();
        assert!(!pushed.is_fresh());
        pushed.now();
        assert!(pushed.is_fresh());
        tokio::time::advance(COUNTS_FOR + Duration::from_millis(1)).await;
        assert!(!pushed.is_fresh());
    }
}
