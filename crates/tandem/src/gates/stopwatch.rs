//! What a solve takes: time on a core, so that what else the machine does counts as little as possible.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Counts from now on: the time this thread has had on a core where the system tells it, or else the time that passes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    on_core: Option<Duration>,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), on_core: on_core() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let on_core = self.on_core.and_then(|before| on_core()?.checked_sub(before));
        on_core.unwrap_or_else(|| self.started.elapsed())
    }
}

/// Linux writes it down in nanoseconds, if it was built so.
fn on_core() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split(' ').next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds)).filter(|time| !time.is_zero())
}
