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
    /// The fallback holds no replica. An unknown metric does not scale anything in, so the HPA is told nothing.
    #[error("the fallback is to 0 replicas, and an unknown metric does not scale in")]
    NoReplicas,
    /// The product does not fit.
    #[error("the fallback value is out of range")]
    OutOfRange,
}

impl Fallback {
    /// Whether a metric that failed this often in a row is replaced by the fallback.
    pub fn applies(&self, failures: u32) -> bool {
        failures > self.failure_threshold
    }

    /// The replica count to hold, when the target has `current` replicas.
    pub fn replicas_at(&self, current: u32) -> u32 {
        match self.behavior {
            FallbackBehavior::Static => self.replicas,
            FallbackBehavior::CurrentReplicas => current,
            FallbackBehavior::CurrentReplicasIfHigher => current.max(self.replicas),
            FallbackBehavior::CurrentReplicasIfLower => current.min(self.replicas),
        }
    }

    /// The metric value that makes the HPA arrive at [`replicas_at`](Self::replicas_at).
    ///
    /// An average is multiplied by the wanted count. A plain value is compared by ratio with the ready pods, so it is
    /// also divided by them (rounded up, so that rounding never asks for fewer).
    ///
    /// Differs from KEDA: a fallback to 0 replicas has no value (there it is 0, and the HPA shrinks the target while nobody
    /// knows its load).
    ///
    /// # Errors
    /// See [`NoFallbackValue`].
    pub fn value(&self, target: Target, current: u32, ready: u32) -> Result<Milli, NoFallbackValue> {
        let replicas = i64::from(self.replicas_at(current));
        if replicas == 0 {
            return Err(NoFallbackValue::NoReplicas);
        }
        let whole = target.amount().thousandths().checked_mul(replicas).ok_or(NoFallbackValue::OutOfRange)?;
        match target {
            Target::AverageValue(_) => Ok(Milli::from_thousandths(whole)),
            Target::Value(_) if ready == 0 => Err(NoFallbackValue::NoReadyPods),
            Target::Value(_) => {
                let ready = i64::from(ready);
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
        let value = FALLBACK.value(Target::AverageValue(Milli::from_thousandths(2_500)), 1, 0).unwrap();
        assert_eq!(value.to_quantity_string(), "15");
    }

    #[test]
    fn a_plain_value_is_spread_over_ready_pods() {
        let target = Target::Value(Milli::from_thousandths(10_000));
        assert_eq!(FALLBACK.value(target, 1, 4).unwrap(), Milli::from_thousandths(15_000));
        assert_eq!(FALLBACK.value(target, 1, 7).unwrap(), Milli::from_thousandths(8_572), "rounded up");
        assert_eq!(FALLBACK.value(target, 1, 0), Err(NoFallbackValue::NoReadyPods));
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
            assert_eq!(with(behavior).replicas_at(current), wanted, "{behavior:?} at {current}");
        }
    }
}
