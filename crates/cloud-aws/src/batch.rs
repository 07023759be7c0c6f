//! Joins calls about single instances that arrive together into one call about all of them.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// How long the first caller waits for others. Karpenter's figures: done when nobody came for the idle time, at the
/// latest after the whole.
const IDLE: Duration = Duration::from_millis(100);
const WHOLE: Duration = Duration::from_secs(1);

/// Callers that may wait at once. Beyond it they wait for a place; more nodes than that are never looked up together.
const WAITING_MAX: usize = 4096;

type Waiting<V> = (String, oneshot::Sender<V>);

/// A queue in front of a call that takes many ids.
#[derive(Debug)]
pub(crate) struct Batcher<V> {
    queue: mpsc::Sender<Waiting<V>>,
}

impl<V: Clone + Send + 'static> Batcher<V> {
    /// Starts the task that makes the calls; it ends with the batcher. `call` gets at most `size_max` different ids and
    /// answers for each; an id it does not answer for gets `None`.
    pub(crate) fn start<F, R>(size_max: usize, call: F) -> Self
    where
        F: Fn(Vec<String>) -> R + Send + Sync + 'static,
        R: Future<Output = HashMap<String, V>> + Send,
    {
        let (queue, mut waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let batch = gather(first, &mut waiting, size_max).await;
                let answers = call(batch.keys().cloned().collect()).await;
                for (id, callers) in batch {
                    if let Some(answer) = answers.get(&id) {
                        for caller in callers {
                            // A caller that has gone needs no answer.
                            let _ = caller.send(answer.clone());
                        }
                    }
                }
            }
        });
        Self { queue }
    }

    /// Waits for a batch to answer; `None` if it had nothing to say about the id.
    pub(crate) async fn ask(&self, id: &str) -> Option<V> {
        let (sender, answer) = oneshot::channel();
        self.queue.send((id.to_owned(), sender)).await.ok()?;
        answer.await.ok()
    }
}

async fn gather<V>(
    first: Waiting<V>,
    waiting: &mut mpsc::Receiver<Waiting<V>>,
    size_max: usize,
) -> HashMap<String, Vec<oneshot::Sender<V>>> {
    let latest = Instant::now() + WHOLE;
    let mut batch: HashMap<String, Vec<_>> = HashMap::from([(first.0, vec![first.1])]);
    while batch.len() < size_max {
        let until = latest.min(Instant::now() + IDLE);
        match timeout_at(until, waiting.recv()).await {
            Ok(Some((id, caller))) => batch.entry(id).or_default().push(caller),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_that_come_together_share_a_call() {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&calls);
        let batcher = Batcher::start(200, move |ids: Vec<String>| {
            log.lock().unwrap().push(ids.len());
            async move { ids.into_iter().filter(|id| id != "gone").map(|id| (id.clone(), id)).collect() }
        });
        let (a, b, again, gone) =
            tokio::join!(batcher.ask("a"), batcher.ask("b"), batcher.ask("a"), batcher.ask("gone"));
        assert_eq!((a.as_deref(), b.as_deref(), again.as_deref(), gone), (Some("a"), Some("b"), Some("a"), None));
        assert_eq!(*calls.lock().unwrap(), [3]);
        assert_eq!(batcher.ask("c").await.as_deref(), Some("c"));
        assert_eq!(*calls.lock().unwrap(), [3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_no_larger_than_allowed() {
        let largest = Arc::new(Mutex::new(0));
        let log = Arc::clone(&largest);
        let batcher = Batcher::start(2, move |ids: Vec<String>| {
            let mut largest = log.lock().unwrap();
            *largest = ids.len().max(*largest);
            async move { ids.into_iter().map(|id| (id, ())).collect() }
        });
        tokio::join!(batcher.ask("a"), batcher.ask("b"), batcher.ask("c"), batcher.ask("d"));
        assert_eq!(*largest.lock().unwrap(), 2);
    }
}
