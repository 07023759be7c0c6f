//! What a source said, and what it was asked to be compared with.

use units::Milli;

/// What one trigger's source said about one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sample {
    /// A finite number, exact to a thousandth.
    Value(Milli),
    /// No number: the source failed, timed out, or said something that is not finite.
    ///
    /// This is not zero. It never scales anything in.
    Unknown {
        /// What went wrong, for people.
        why: String,
    },
}

impl Sample {
    /// The number, if there is one.
    pub fn value(&self) -> Option<Milli> {
        match self {
            Self::Value(value) => Some(*value),
            Self::Unknown { .. } => None,
        }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// What a metric is compared with by the HPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The value is divided by the current replicas first. The default of external triggers.
    AverageValue(Milli),
    /// The value is compared as it is.
    Value(Milli),
}

impl Target {
    /// The number itself, in thousandths.
    pub fn amount(self) -> Milli {
        match self {
            Self::AverageValue(amount) | Self::Value(amount) => amount,
        }
    }
}

/// One metric of one trigger, as one poll saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggerReading {
    /// The name the HPA asks by: `s0-prometheus`.
    pub metric_name: String,
    /// What the source said.
    pub sample: Sample,
    /// Whether the source wants at least one replica; `None` when it could not say.
    pub active: Option<bool>,
    /// What the HPA compares the value with.
    pub target: Target,
    /// Failures in a row, this reading included; 0 after a success.
    pub failures: u32,
    /// The number stands on a fallback: a trigger of the formula has none, and takes part as nil.
    pub substituted: bool,
}

/// Whether a value asks for at least one replica: strictly more than the activation threshold, as in KEDA.
pub fn is_active(value: Milli, activation: Milli) -> bool {
    value > activation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_at_the_activation_threshold_is_not_active() {
        assert!(!is_active(Milli::from_thousandths(5_000), Milli::from_thousandths(5_000)));
        assert!(is_active(Milli::from_thousandths(5_001), Milli::from_thousandths(5_000)));
        assert!(!is_active(Milli::from_thousandths(-1), Milli::from_thousandths(0)));
    }
}
