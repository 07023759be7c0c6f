//! Answers that are kept for a time each says itself, and asked for once however many want them at that moment.

use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;

use super::found::Failure;

/// Most answers that are kept; more are asked for anew.
const MOST: u64 = 20_000;

/// Answers by question. Failures are not kept.
pub(super) struct Kept<K, V>(Cache<K, (V, Duration)>);

impl<K, V> Kept<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MOST).expire_after(AsTheySay).build())
    }

    /// The kept answer, or the one that `ask` gives, with how long it is good for.
    ///
    /// # Errors
    /// What `ask` says; all who wait for it get the same.
    pub(super) async fn get(
        &self,
        question: K,
        ask: impl Future<Output = Result<(V, Duration), Failure>>,
    ) -> Result<V, Failure> {
        match self.0.try_get_with(question, ask).await {
            Ok((answer, _)) => Ok(answer),
            Err(failure) => Err(Failure::clone(&failure)),
        }
    }

    /// Asks anew next time.
    pub(super) async fn forget(&self, question: &K) {
        self.0.invalidate(question).await;
    }
}

impl<K, V> fmt::Debug for Kept<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

struct AsTheySay;

impl<K, V> Expiry<K, (V, Duration)> for AsTheySay {
    fn expire_after_create(&self, _: &K, answer: &(V, Duration), _: Instant) -> Option<Duration> {
        Some(answer.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_is_good_for_its_time_and_a_failure_for_none() {
        let kept = Kept::new();
        let hour = Duration::from_hours(1);
        let failed = kept.get("a", async { Err::<(u8, _), _>(Failure::Missing("no".into())) }).await;
        assert_eq!(failed, Err(Failure::Missing("no".into())));
        assert_eq!(kept.get("a", async { Ok((1, hour)) }).await, Ok(1));
        assert_eq!(kept.get("a", async { Ok((2, hour)) }).await, Ok(1));
        kept.forget(&"a").await;
        assert_eq!(kept.get("a", async { Ok((3, Duration::ZERO)) }).await, Ok(3));
        assert_eq!(kept.get("a", async { Ok((4, hour)) }).await, Ok(4));
    }
}
