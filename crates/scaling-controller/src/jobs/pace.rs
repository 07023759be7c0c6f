//! Whether this process has stood still between two steps of one piece of work.
//!
//! A process that was stopped, swapped out or on a machine that was paused goes on where it was, and does one step more before
//! the task that keeps the lease finds out that another replica leads. For most steps that is no matter: who comes second does
//! nothing. A Job that is made twice is work that is done twice.

use std::time::{Duration, Instant, SystemTime};

/// A step that comes later may be another leader's: a lease that was not renewed for ten seconds is given up, and taken after
/// fifteen.
const IN_TIME: Duration = Duration::from_secs(5);

/// When the last step was, by the clock that never jumps and by the one that goes on while a machine is paused.
#[derive(Debug)]
pub(super) struct Pace {
    steady: Instant,
    wall: SystemTime,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// Whether this step comes in time after the last one.
    pub(super) fn keeps(&mut self) -> bool {
        let now = Self::begin();
        let by_wall = now.wall.duration_since(self.wall).unwrap_or_default();
        let longest = now.steady.duration_since(self.steady).max(by_wall);
        *self = now;
        longest < IN_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_after_a_standstill_is_too_late_and_the_next_is_not() {
        let mut pace = Pace::begin();
        assert!(pace.keeps());
        for (steady, wall) in [(6, 0), (0, 6)] {
            pace.steady = pace.steady.checked_sub(Duration::from_secs(steady)).unwrap();
            pace.wall = pace.wall.checked_sub(Duration::from_secs(wall)).unwrap();
            assert!(!pace.keeps());
            assert!(pace.keeps());
        }
        // A clock that was put back says nothing.
        pace.wall = pace.wall.checked_add(Duration::from_hours(1)).unwrap();
        assert!(pace.keeps());
    }
}
