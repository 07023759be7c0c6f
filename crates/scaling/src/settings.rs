//! What a manifest asks for, once it has been checked.

use jiff::SignedDuration;
use thiserror::Error;

use crate::fallback::Fallback;

/// Seconds between two polls, when a manifest gives none. KEDA's default.
pub const POLLING_INTERVAL_SECONDS: u32 = 30;
/// Seconds after the last activity before going to zero or idle, when a manifest gives none. KEDA's default.
pub const COOLDOWN_SECONDS: u32 = 300;
/// Most replicas, when a manifest gives none. KEDA's default.
pub const MAX_REPLICAS: u32 = 100;

/// The replica counts as a manifest wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// `minReplicaCount`. Unset and 0 differ, see [`Bounds::check`].
    pub min: Option<i32>,
    /// `maxReplicaCount`.
    pub max: Option<i32>,
    /// `idleReplicaCount`.
    pub idle: Option<i32>,
}

/// Replica counts that contradict each other. The first two texts are KEDA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BoundsError {
    /// More at least than at most.
    #[error("MinReplicaCount={min} must be less than MaxReplicaCount={max}")]
    MinAboveMax {
        /// `minReplicaCount`.
        min: u32,
        /// `maxReplicaCount` or its default.
        max: u32,
    },
    /// Idle is not below the minimum.
    #[error("IdleReplicaCount={idle} must be less than MinReplicaCount={min}")]
    IdleNotBelowMin {
        /// `idleReplicaCount`.
        idle: u32,
        /// `minReplicaCount` or its default.
        min: u32,
    },
    /// A count below zero, or no replica at most.
    #[error("{field}={value} must be at least {least}")]
    TooLow {
        /// The field's name.
        field: &'static str,
        /// What it says.
        value: i32,
        /// The least it may be.
        least: u32,
    },
}

/// Replica counts that agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// At least so many while active; 0 means that the target may go to zero.
    pub min: u32,
    /// At most so many. At least 1.
    pub max: u32,
    /// So many while inactive, if set; below `min`.
    pub idle: Option<u32>,
}

impl Bounds {
    /// The counts with defaults, if they agree.
    ///
    /// A minimum that is written as 0 counts as 1 when compared with `idleReplicaCount`, so `idle: 0, min: 0` passes while
    /// `idle: 0` alone does not. KEDA does the same.
    ///
    /// # Errors
    /// See [`BoundsError`].
    pub fn check(self) -> Result<Replicas, BoundsError> {
        let at_least = |field, value: Option<i32>, default: u32, least: u32| match value {
            None => Ok(default),
            Some(value) => {
                u32::try_from(value).ok().filter(|v| *v >= least).ok_or(BoundsError::TooLow { field, value, least })
            }
        };
        let min = at_least("MinReplicaCount", self.min, 0, 0)?;
        let max = at_least("MaxReplicaCount", self.max, MAX_REPLICAS, 1)?;
        let idle = self.idle.map(|idle| at_least("IdleReplicaCount", Some(idle), 0, 0)).transpose()?;
        if min > max {
            return Err(BoundsError::MinAboveMax { min, max });
        }
        let compared = if self.min == Some(0) { 1 } else { min };
        match idle {
            Some(idle) if idle >= compared => Err(BoundsError::IdleNotBelowMin { idle, min: compared }),
            _ => Ok(Replicas { min, max, idle }),
        }
    }
}

impl Replicas {
    /// The least and the most replicas that the HPA may choose. While the target rests at an idle count above zero both are
    /// that count: the HPA would take it from there, to its minimum or by a metric below the activation threshold, and would
    /// be taken back at every poll. At zero it does nothing anyway.
    pub fn of_hpa(self, at_rest: bool) -> (u32, u32) {
        match self.idle {
            Some(idle) if at_rest && idle > 0 => (idle, idle),
            _ => (self.min.max(1), self.max),
        }
    }
}

/// Everything of a manifest that a decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The replica counts.
    pub replicas: Replicas,
    /// Wait after the last activity before going to zero or idle.
    pub cooldown: SignedDuration,
    /// Wait after creation before going to zero or idle for the first time, while there was no activity yet.
    pub initial_cooldown: SignedDuration,
    /// What to do while a source keeps failing.
    pub fallback: Option<Fallback>,
}

impl Settings {
    /// Where activation leads: the minimum, but at least one.
    pub fn activated(&self) -> u32 {
        self.replicas.min.max(1)
    }

    /// Where deactivation leads.
    pub fn deactivated(&self) -> u32 {
        self.replicas.idle.unwrap_or(self.replicas.min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_rest_the_hpa_may_choose_nothing() {
        let idle = |idle| Replicas { min: 3, max: 9, idle };
        assert_eq!((idle(Some(1)).of_hpa(true), idle(Some(1)).of_hpa(false)), ((1, 1), (3, 9)));
        assert_eq!((idle(Some(0)).of_hpa(true), idle(None).of_hpa(true)), ((3, 9), (3, 9)));
        assert_eq!(Replicas { min: 0, max: 9, idle: None }.of_hpa(false), (1, 9));
    }

    #[test]
    fn bounds_agree_or_say_why_not() {
        let ok = |min, max, idle| Ok(Replicas { min, max, idle });
        let table = [
            (Bounds { min: None, max: None, idle: None }, ok(0, 100, None)),
            (Bounds { min: Some(2), max: Some(2), idle: Some(1) }, ok(2, 2, Some(1))),
            (Bounds { min: Some(0), max: None, idle: Some(0) }, ok(0, 100, Some(0))),
            (Bounds { min: None, max: None, idle: Some(0) }, Err(BoundsError::IdleNotBelowMin { idle: 0, min: 0 })),
            (Bounds { min: Some(0), max: None, idle: Some(1) }, Err(BoundsError::IdleNotBelowMin { idle: 1, min: 1 })),
            (Bounds { min: Some(101), max: None, idle: None }, Err(BoundsError::MinAboveMax { min: 101, max: 100 })),
            (
                Bounds { min: Some(-1), max: None, idle: None },
                Err(BoundsError::TooLow { field: "MinReplicaCount", value: -1, least: 0 }),
            ),
            (
                Bounds { min: None, max: Some(0), idle: None },
                Err(BoundsError::TooLow { field: "MaxReplicaCount", value: 0, least: 1 }),
            ),
        ];
        for (bounds, wanted) in table {
            assert_eq!(bounds.check(), wanted, "{bounds:?}");
        }
    }

    #[test]
    fn messages_are_those_people_search_for() {
        let error = BoundsError::MinAboveMax { min: 5, max: 3 };
        assert_eq!(error.to_string(), "MinReplicaCount=5 must be less than MaxReplicaCount=3");
    }
}
