//! Connections that triggers with the same login share: one is taken out for a read, and put back when it is good for
//! another.

use std::convert::Infallible;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::context::TriggerContext;
use crate::error::ScalerError;
use crate::source::Reading;

/// Most reads with one login at a time.
///
/// Three replicas of this program hold less than half of the hundred connections that PostgreSQL allows when nobody says
/// otherwise; and of a thousand triggers that are all read when the program starts, each has its number within three
/// seconds if a read takes 48 ms.
const AT_ONCE: usize = 16;
/// Most connections that are kept between reads with one login. A thousand triggers that are read every 30 s need as many
/// if a read takes 120 ms.
const IDLE: usize = 4;
/// How long it may take to clean a connection or to end one. What takes longer is still busy with what it was asked before, or
/// broke without a word; a read must not miss its deadline for it.
const TIDYING: Duration = Duration::from_secs(1);

/// A server that is asked over a connection.
#[async_trait]
pub(crate) trait Dial: Sync {
    /// The connection.
    type Line: Send + 'static;

    /// Whether a trigger may be given the connection of another one.
    const PASSED_ON: bool = true;

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

    /// Makes the connection of another trigger like a new one.
    ///
    /// # Errors
    /// It cannot be done, or the connection broke.
    async fn clean(&self, _line: &mut Self::Line) -> Result<(), ScalerError> {
        Ok(())
    }

    /// Ends a connection that is in order, without the server taking it for a failure.
    async fn hang_up(&self, _line: Self::Line) {}
}

/// A trigger's part in the connections of its login.
///
/// A connection is taken out while it is used, so a read that is given up (its deadline has come) leaves no half-read answer
/// to the next one.
pub(crate) struct Kept<L> {
    pool: Arc<Pool<L>>,
    /// The trigger's number among those that had this login.
    trigger: u64,
    /// How long a read may wait for its turn.
    patience: Duration,
}

/// The connections of one login.
struct Pool<L> {
    turns: Semaphore,
    idle: Mutex<Vec<Idle<L>>>,
    triggers: AtomicU64,
}

/// A connection between two reads.
struct Idle<L> {
    line: L,
    /// Whose read was the last.
    trigger: u64,
}

impl<L: Send + 'static> Kept<L> {
    /// `login` is whatever decides what a connection may see; `deadline` is that of a read.
    pub(crate) fn new(context: &TriggerContext<'_>, login: &impl Hash, deadline: Duration) -> Self {
        let Ok(pool) = context.shared(login, || {
            let turns = Semaphore::new(AT_ONCE);
            Ok::<_, Infallible>(Pool { turns, idle: Mutex::default(), triggers: AtomicU64::new(0) })
        });
        let trigger = pool.triggers.fetch_add(1, Ordering::Relaxed);
        // What is left then is enough for an answer, or to say what was waited for.
        Self { pool, trigger, patience: deadline * 3 / 4 }
    }

    /// Reads over a kept connection, or a new one.
    ///
    /// # Errors
    /// See [`ScalerError`]; [`ScalerError::Unavailable`], too, if it is not this read's turn in time.
    pub(crate) async fn read<D: Dial<Line = L>>(&self, server: &D) -> Result<Reading, ScalerError> {
        let _turn = self.turn().await?;
        if let Some(mut line) = self.kept(server).await {
            match server.ask(&mut line).await {
                // It may have broken while nobody looked; a new one tells.
                Err(ScalerError::Unavailable(_)) => {}
                answer => return self.keep(server, line, answer).await,
            }
        }
        let mut line = server.dial().await?;
        let answer = server.ask(&mut line).await;
        self.keep(server, line, answer).await
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, ScalerError> {
        let waited = self.patience;
        let turn = timeout(waited, self.pool.turns.acquire()).await.ok().and_then(Result::ok);
        turn.ok_or_else(|| {
            let what = format!("{AT_ONCE} reads of this server are under way; another waited {waited:?} for its turn");
            ScalerError::Unavailable(what.into())
        })
    }

    /// A connection that is this trigger's own, or like a new one.
    async fn kept<D: Dial<Line = L>>(&self, server: &D) -> Option<L> {
        let Idle { mut line, trigger } = self.take(D::PASSED_ON)?;
        if trigger == self.trigger {
            return Some(line);
        }
        let cleaned = timeout(TIDYING, server.clean(&mut line)).await;
        matches!(cleaned, Ok(Ok(()))).then_some(line)
    }

    fn take(&self, passed_on: bool) -> Option<Idle<L>> {
        let mut idle = self.pool.idle();
        let own = idle.iter().rposition(|idle| idle.trigger == self.trigger);
        // Of the others' the one that was used last has had the least time to break.
        let at = own.or_else(|| idle.len().checked_sub(1).filter(|_| passed_on))?;
        Some(idle.remove(at))
    }

    async fn keep<D: Dial<Line = L>>(
        &self,
        server: &D,
        line: L,
        answer: Result<Reading, ScalerError>,
    ) -> Result<Reading, ScalerError> {
        if matches!(answer, Ok(_) | Err(ScalerError::NoNumber { .. })) {
            for surplus in self.put_back(line, D::PASSED_ON) {
                // It is gone then, too.
                let _ = timeout(TIDYING, server.hang_up(surplus.line)).await;
            }
        }
        answer
    }

    /// Keeps the connection; those that are too many then are returned.
    fn put_back(&self, line: L, passed_on: bool) -> Vec<Idle<L>> {
        let mut idle = self.pool.idle();
        idle.push(Idle { line, trigger: self.trigger });
        // Somebody may be waiting for one: then there are at most as many as reads at a time.
        let most = if passed_on && self.pool.turns.available_permits() == 0 { AT_ONCE } else { IDLE };
        let most = most.min(idle.len());
        idle.split_off(most)
    }
}

impl<L> Pool<L> {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle<L>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> Drop for Kept<L> {
    /// Nobody else may want the trigger's connection, and it would keep its place.
    fn drop(&mut self) {
        self.pool.idle().retain(|idle| idle.trigger != self.trigger);
    }
}

impl<L> fmt::Debug for Kept<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "kept_tests.rs"]
mod tests;
