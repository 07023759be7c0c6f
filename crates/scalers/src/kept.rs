//! One connection per trigger, made when it is first needed and again after it broke.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::ScalerError;
use crate::source::Reading;

/// A server that is asked over a connection.
#[async_trait]
pub(crate) trait Dial: Sync {
    /// The connection.
    type Line: Send;

    /// Connects and logs in.
    ///
    /// # Errors
    /// See [`ScalerError`].
    async fn dial(&self) -> Result<Self::Line, ScalerError>;

    /// Asks.
    ///
    /// # Errors
    /// See [`ScalerError`].
    async fn ask(&self, line: &mut Self::Line) -> Result<Reading, ScalerError>;
}

/// The connection of the last read, if it is good for another one.
///
/// It is taken out while it is used, so a read that is given up (its deadline has come) leaves no half-read answer to the
/// next one.
pub(crate) struct Kept<L>(Mutex<Option<L>>);

impl<L: Send> Kept<L> {
    pub(crate) fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// Reads over the kept connection, or a new one.
    ///
    /// # Errors
    /// See [`ScalerError`].
    pub(crate) async fn read<D: Dial<Line = L>>(&self, server: &D) -> Result<Reading, ScalerError> {
        let kept = self.lock().take();
        if let Some(mut line) = kept {
            match server.ask(&mut line).await {
                // It may have broken while nobody looked; a new one tells.
                Err(ScalerError::Unavailable(_)) => {}
                answer => return self.keep(line, answer),
            }
        }
        let mut line = server.dial().await?;
        let answer = server.ask(&mut line).await;
        self.keep(line, answer)
    }

    fn keep(&self, line: L, answer: Result<Reading, ScalerError>) -> Result<Reading, ScalerError> {
        if matches!(answer, Ok(_) | Err(ScalerError::NoNumber { .. })) {
            *self.lock() = Some(line);
        }
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<L>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> fmt::Debug for Kept<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// Every connection answers `good` times, then it is broken.
    struct Frail {
        dialled: AtomicU32,
        good: u32,
    }

    #[async_trait]
    impl Dial for Frail {
        type Line = u32;

        async fn dial(&self) -> Result<u32, ScalerError> {
            self.dialled.fetch_add(1, Ordering::SeqCst);
            Ok(self.good)
        }

        async fn ask(&self, left: &mut u32) -> Result<Reading, ScalerError> {
            *left = left.checked_sub(1).ok_or_else(|| ScalerError::Unavailable("broken".into()))?;
            Reading::count(1)
        }
    }

    async fn check(good: u32, reads: usize, dialled: u32) {
        let (kept, server) = (Kept::none(), Frail { dialled: AtomicU32::new(0), good });
        for _ in 0..reads {
            assert_eq!(kept.read(&server).await.is_ok(), good > 0);
        }
        assert_eq!(server.dialled.load(Ordering::SeqCst), dialled, "{good} {reads}");
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_it_breaks_and_then_made_again() {
        check(10, 5, 1).await;
        check(2, 5, 3).await;
        check(0, 2, 2).await;
    }
}
