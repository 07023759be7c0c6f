//! Waiting for something to become true, with a deadline and a last word.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How soon a condition is looked at again at first. Looks cost time on cores that others need, so they become rarer the longer
/// one waits, by this part of it.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PART: u32 = 20;

fn pause(waited: Duration) -> Duration {
    LOOK_EVERY.max(waited / PART)
}

/// What one look saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// It is so.
    Done(T),
    /// Not yet; this is what there is instead.
    NotYet(String),
    /// It can no longer become so; waiting ends here.
    Never(String),
}

/// Looks again and again until `look` says done. On failure the error says what was waited for and what was seen last.
///
/// An error from `look` counts as "not yet": servers that start, and watches that reconnect, refuse for a while.
pub async fn eventually<T, F, L>(what: impl Display, deadline: Duration, mut look: L) -> Result<T>
where
    L: FnMut() -> F,
    F: Future<Output = Result<Seen<T>>>,
{
    let started = Instant::now();
    loop {
        let last = match look().await {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(seen)) => seen,
            Ok(Seen::Never(seen)) => bail!("will not happen: {what}; seen: {seen}"),
            Err(error) => format!("error: {error:#}"),
        };
        if started.elapsed() >= deadline {
            bail!("waited {deadline:?} for: {what}; last seen: {last}");
        }
        tokio::time::sleep(pause(started.elapsed())).await;
    }
}

/// Looks during the whole of `period`; an error as soon as `look` says that it is no longer so.
pub async fn always<F, L>(what: impl Display, period: Duration, mut look: L) -> Result<()>
where
    L: FnMut() -> F,
    F: Future<Output = Result<Seen<()>>>,
{
    let started = Instant::now();
    while started.elapsed() < period {
        if let Seen::NotYet(seen) | Seen::Never(seen) = look().await? {
            bail!("after {:?} no longer so: {what}; seen: {seen}", started.elapsed());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

impl<T> Seen<T> {
    /// The same, with something else in hand when done; without it, not yet.
    pub fn found<U>(self, value: Option<U>) -> Seen<U> {
        match (self, value) {
            (Self::Done(_), Some(value)) => Seen::Done(value),
            (Self::Done(_), None) => Seen::NotYet("nothing".to_owned()),
            (Self::NotYet(seen), _) => Seen::NotYet(seen),
            (Self::Never(seen), _) => Seen::Never(seen),
        }
    }
}

/// Done when `condition` holds for `value`, else "not yet" with the value shown.
pub fn when<T: Debug>(condition: bool, value: T) -> Seen<T> {
    if condition { Seen::Done(value) } else { Seen::NotYet(format!("{value:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_names_what_was_waited_for_and_what_was_seen() {
        let error = eventually("the moon", Duration::ZERO, || async { Ok(when(false, "clouds")) }).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("the moon") && text.contains("clouds"), "{text}");
    }

    #[tokio::test]
    async fn an_error_is_only_not_yet() {
        let mut looks = 0;
        let value = eventually("the second look", Duration::from_secs(5), || {
            looks += 1;
            let second = looks == 2;
            async move { if second { Ok(Seen::Done(7)) } else { bail!("refused") } }
        });
        assert_eq!(value.await.unwrap(), 7);
    }
}
