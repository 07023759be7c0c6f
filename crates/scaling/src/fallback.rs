//! What to tell the HPA while a source keeps failing.

use thiserror::Error;
use units::Milli;

use crate::sample::Target;

/// How the replica count of a fallback is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FallbackBehavior {
    /// The count of the manifest.
    #[default]
    Static,
    /// As many as there are.
    CurrentReplicas,
    /// The larger of what there is and the count of the manifest.
    CurrentReplicasIfHigher,
    /// The smaller of what there is and the count of the manifest.
    CurrentReplicasIfLower,
    /// The failing trigger enters the formula as nil. When that gives no number: the count of the manifest.
    ScalingModifiers,
}

/// The `fallback` block of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    /// The fallback begins when more failures than this follow each other.
    pub failure_threshold: u32,
    /// Replicas to hold while it lasts.
    pub replicas: u32,
    /// How `replicas` is combined with what is there.
    pub behavior: FallbackBehavior,
}

/// Why a fallback has no value to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoFallbackValue {
    /// A metric of type `Value` is spread over the ready pods, and there are none.
    #[error("the fallback of a metric of type Value needs at least one ready pod")]
    NoReadyPods,
    /// A metric of type `Value` is spread over the ready pods, and these could not be counted.
    #[error("the fallback of a metric of type Value needs the ready pods, and these are not known")]
    ReadyUnknown,
    /// The fallback holds no replica. An unknown metric does not scale anything in, so the HPA is told nothing.
    #[error("the fallback is to 0 replicas, and an unknown metric does not scale in")]
    NoReplicas,
    /// The fallback depends on the replicas there are, and these could not be read. Unknown is not zero.
    #[error("the fallback depends on the current replicas, and these are not known")]
    CurrentUnknown,
    /// The product does not fit.
    #[error("the fallback value is out of range")]
    OutOfRange,
}

impl Fallback {
    /// Whether a metric that failed this often in a row is replaced by the fallback.
    pub fn applies(&self, failures: u32) -> bool {
        failures > self.failure_threshold
    }

    /// Whether the replica count to hold depends on how many there are.
    pub fn needs_current(&self) -> bool {
        !matches!(self.behavior, FallbackBehavior::Static | FallbackBehavior::ScalingModifiers)
    }

    /// The replica count to hold, when the target has `current` replicas; `None` if it depends on them and they are unknown.
    pub fn replicas_at(&self, current: Option<u32>) -> Option<u32> {
        match self.behavior {
            FallbackBehavior::Static | FallbackBehavior::ScalingModifiers => Some(self.replicas),
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => Some(current?.max(self.replicas)),
            FallbackBehavior::CurrentReplicasIfLower => Some(current?.min(self.replicas)),
        }
    }

    /// The metric value that makes the HPA arrive at [`replicas_at`](Self::replicas_at).
    ///
    /// An average is multiplied by the wanted count. A plain value is compared by ratio with the ready pods, so it is
    /// also divided by them (rounded up, so that rounding never asks for fewer). `current` and `ready` are `None` when they
    /// are not known.
    ///
    /// Differs from KEDA: a fallback to 0 replicas has no value (there it is 0, and the HPA shrinks the target while nobody
    /// knows its load).
    ///
    /// # Errors
    /// See [`NoFallbackValue`].
    pub fn value(&self, target: Target, current: Option<u32>, ready: Option<u32>) -> Result<Milli, NoFallbackValue> {
        let replicas = i64::from(self.replicas_at(current).ok_or(NoFallbackValue::CurrentUnknown)?);
        if replicas == 0 {
            return Err(NoFallbackValue::NoReplicas);
        }
        let whole = target.amount().thousandths().checked_mul(replicas).ok_or(NoFallbackValue::OutOfRange)?;
        match target {
            Target::AverageValue(_) => Ok(Milli::from_thousandths(whole)),
            Target::Value(_) => {
                let ready = i64::from(ready.ok_or(NoFallbackValue::ReadyUnknown)?);
                if ready == 0 {
                    return Err(NoFallbackValue::NoReadyPods);
                }
                let up = i64::from(whole % ready > 0);
                Ok(Milli::from_thousandths(whole / ready + up))
            }
        }
    }
}

/// Failures in a row after one more reading.
///
/// It stops counting at one above the threshold: a longer outage changes nothing, so its record need not be written again.
/// Without a fallback nobody reads the count, and it stays at most 1.
pub fn count_failures(before: u32, failed: bool, fallback: Option<&Fallback>) -> u32 {
    let most = fallback.map_or(1, |f| f.failure_threshold.saturating_add(1));
    if failed { before.saturating_add(1).min(most) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FALLBACK: Fallback = Fallback { failure_threshold: 3, replicas: 6, behavior: FallbackBehavior::Static };

    #[test]
    fn the_fallback_begins_one_failure_after_the_threshold() {
        let mut failures = 0;
        let mut began = None;
        for poll in 1..10 {
            failures = count_failures(failures, true, Some(&FALLBACK));
            if FALLBACK.applies(failures) && began.is_none() {
                began = Some(poll);
            }
        }
        assert_eq!((began, failures), (Some(4), 4));
        assert_eq!(count_failures(failures, false, Some(&FALLBACK)), 0);
    }

    #[test]
    fn an_average_is_multiplied_by_the_replicas() {
        let value = FALLBACK.value(Target::AverageValue(Milli::from_thousandths(2_500)), None, None).unwrap();
        assert_eq!(value.to_quantity_string(), "15");
    }

    #[test]
    fn a_plain_value_is_spread_over_ready_pods() {
        let target = Target::Value(Milli::from_thousandths(10_000));
        assert_eq!(FALLBACK.value(target, None, Some(4)).unwrap(), Milli::from_thousandths(15_000));
        assert_eq!(FALLBACK.value(target, None, Some(7)).unwrap(), Milli::from_thousandths(8_572), "rounded up");
        assert_eq!(FALLBACK.value(target, None, Some(0)), Err(NoFallbackValue::NoReadyPods));
        assert_eq!(FALLBACK.value(target, None, None), Err(NoFallbackValue::ReadyUnknown));
    }

    #[test]
    fn behaviours_combine_with_what_is_there() {
        let with = |behavior| Fallback { behavior, ..FALLBACK };
        let table = [
            (FallbackBehavior::Static, 2, 6),
            (FallbackBehavior::CurrentReplicas, 2, 2),
            (FallbackBehavior::CurrentReplicasIfHigher, 2, 6),
            (FallbackBehavior::CurrentReplicasIfHigher, 9, 9),
            (FallbackBehavior::CurrentReplicasIfLower, 2, 2),
            (FallbackBehavior::CurrentReplicasIfLower, 9, 6),
        ];
        for (behavior, current, wanted) in table {
            assert_eq!(with(behavior).replicas_at(Some(current)), Some(wanted), "{behavior:?} at {current}");
        }
    }

    #[test]
    fn replicas_that_are_not_known_are_not_zero() {
        use FallbackBehavior::{CurrentReplicas, CurrentReplicasIfHigher, CurrentReplicasIfLower};
        let target = Target::AverageValue(Milli::from_thousandths(1_000));
        for behavior in [CurrentReplicas, CurrentReplicasIfHigher, CurrentReplicasIfLower] {
            let fallback = Fallback { behavior, ..FALLBACK };
            assert!(fallback.needs_current());
            assert_eq!(fallback.value(target, None, Some(1)), Err(NoFallbackValue::CurrentUnknown), "{behavior:?}");
        }
        assert!(!FALLBACK.needs_current());
    }
}
