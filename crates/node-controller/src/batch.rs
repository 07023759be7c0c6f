//! When a burst of pending pods is complete enough to be solved in one go.
//!
//! A window opens with the first trigger, closes when nothing new came for `idle`, and never stays open longer than
//! `max`. A trigger that was already in the window does not prolong it: the same pod reported again is no news.

use std::{collections::BTreeSet, time::Duration};

/// How long to wait for company. Karpenter's defaults are one second and ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Quiet time after the last new trigger.
    pub idle: Duration,
    /// Longest time from the first trigger.
    pub max: Duration,
}

/// What the owner of a [`Batch`] does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Nothing was asked for.
    Empty,
    /// Look again at this instant (time since the program's own epoch).
    Wait {
        /// The instant.
        until: Duration,
    },
    /// The batch is complete; call [`Batch::take`].
    Ready,
}

/// The triggers of one window. Times are durations since an epoch the caller chooses (a monotonic clock).
#[derive(Clone, Debug)]
pub struct Batch {
    window: Window,
    opened: Option<Duration>,
    last_new: Duration,
    seen: BTreeSet<String>,
}

impl Batch {
    /// An empty batch.
    pub fn new(window: Window) -> Self {
        Self { window, opened: None, last_new: Duration::ZERO, seen: BTreeSet::new() }
    }

    /// Notes a trigger (a pod's UID, or the name of another cause). Whether it was new to this window.
    pub fn trigger(&mut self, cause: &str, now: Duration) -> bool {
        if self.seen.contains(cause) {
            return false;
        }
        self.seen.insert(cause.to_owned());
        self.opened.get_or_insert(now);
        self.last_new = now;
        true
    }

    /// Whether the window is over.
    pub fn poll(&self, now: Duration) -> Poll {
        let Some(opened) = self.opened else { return Poll::Empty };
        let until = (self.last_new + self.window.idle).min(opened + self.window.max);
        if until <= now { Poll::Ready } else { Poll::Wait { until } }
    }

    /// Closes the window and returns how many triggers it had.
    pub fn take(&mut self) -> usize {
        self.opened = None;
        std::mem::take(&mut self.seen).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn batch() -> Batch {
        Batch::new(Window { idle: s(1), max: s(10) })
    }

    #[test]
    fn nothing_asked_means_nothing_to_do() {
        assert_eq!(batch().poll(s(100)), Poll::Empty);
    }

    #[test]
    fn a_single_trigger_fires_after_the_idle_time() {
        let mut b = batch();
        b.trigger("a", s(5));
        assert_eq!(b.poll(s(5)), Poll::Wait { until: s(6) });
        assert_eq!(b.poll(s(6)), Poll::Ready);
    }

    #[test]
    fn a_new_trigger_prolongs_the_window_and_a_repeated_one_does_not() {
        let mut b = batch();
        b.trigger("a", s(5));
        assert!(b.trigger("b", Duration::from_millis(5900)));
        assert_eq!(b.poll(s(6)), Poll::Wait { until: Duration::from_millis(6900) });
        assert!(!b.trigger("a", Duration::from_millis(6800)));
        assert_eq!(b.poll(Duration::from_millis(6900)), Poll::Ready);
    }

    #[test]
    fn an_endless_stream_is_cut_at_the_longest_time() {
        let mut b = batch();
        for i in 0..40 {
            b.trigger(&i.to_string(), Duration::from_millis(500 * i));
            if b.poll(Duration::from_millis(500 * i)) == Poll::Ready {
                assert_eq!(i, 20);
                return;
            }
        }
        panic!("never ready");
    }

    #[test]
    fn taking_starts_over() {
        let mut b = batch();
        b.trigger("a", s(1));
        b.trigger("b", s(1));
        assert_eq!(b.take(), 2);
        assert_eq!(b.poll(s(50)), Poll::Empty);
        assert!(b.trigger("a", s(50)));
    }
}
