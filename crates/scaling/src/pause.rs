//! The annotations with which people hold an object still.

use std::fmt;

use thiserror::Error;

/// Stops everything; the HPA goes away.
pub const PAUSED: &str = "autoscaling.keda.sh/paused";
/// Stops everything at a given replica count.
pub const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
/// Stops going down.
pub const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
/// Stops going up.
pub const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
/// Behaves as if a trigger were active.
pub const FORCE_ACTIVATION: &str = "autoscaling.keda.sh/force-activation";

/// A pause of the whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullPause {
    /// The target keeps the replicas it has.
    WhereItIs,
    /// The target is brought to this count once, and kept there.
    At(u32),
}

/// What the annotations of an object ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pausing {
    /// Everything stops. `paused-replicas` beats `paused`.
    pub full: Option<FullPause>,
    /// Nothing goes down.
    pub scale_in: bool,
    /// Nothing goes up.
    pub scale_out: bool,
    /// The target counts as active whatever the triggers say.
    pub force_activation: bool,
}

/// The value of `paused-replicas` is not a replica count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("annotation {PAUSED_REPLICAS}: {value:?} is not a replica count (a whole number from 0 to 2147483647)")]
pub struct PauseError {
    /// What the annotation says.
    pub value: String,
}

impl Pausing {
    /// Reads the annotations through `get`.
    ///
    /// A boolean annotation that is present and is not a boolean counts as true; presence of `paused-replicas` alone
    /// pauses. Both as in KEDA.
    ///
    /// # Errors
    /// `paused-replicas` is not a whole number, or is negative (KEDA takes a negative number and fails when it writes it).
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, PauseError> {
        let flag = |key: &str| get(key).is_some_and(is_true_unless_false);
        let full = match get(PAUSED_REPLICAS) {
            Some(text) => match text.parse::<i32>().ok().and_then(|n| u32::try_from(n).ok()) {
                Some(replicas) => Some(FullPause::At(replicas)),
                None => return Err(PauseError { value: text.to_owned() }),
            },
            None => flag(PAUSED).then_some(FullPause::WhereItIs),
        };
        Ok(Self {
            full,
            scale_in: flag(PAUSED_SCALE_IN),
            scale_out: flag(PAUSED_SCALE_OUT),
            force_activation: flag(FORCE_ACTIVATION),
        })
    }

    /// Whether any pause is in force; what the `Paused` condition says.
    pub fn any(&self) -> bool {
        self.full.is_some() || self.scale_in || self.scale_out
    }
}

impl fmt::Display for Pausing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.full, self.scale_in, self.scale_out) {
            (Some(FullPause::At(replicas)), ..) => write!(f, "paused at {replicas} replicas"),
            (Some(FullPause::WhereItIs), ..) => f.write_str("paused"),
            (None, true, true) => f.write_str("scale in and scale out are paused"),
            (None, true, false) => f.write_str("scale in is paused"),
            (None, false, true) => f.write_str("scale out is paused"),
            (None, false, false) => f.write_str("not paused"),
        }
    }
}

/// Go's `strconv.ParseBool`, with anything else read as true.
fn is_true_unless_false(text: &str) -> bool {
    !matches!(text, "0" | "f" | "F" | "false" | "FALSE" | "False")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(annotations: &[(&str, &'static str)]) -> Result<Pausing, PauseError> {
        Pausing::read(|key| annotations.iter().find(|(k, _)| *k == key).map(|(_, v)| *v))
    }

    #[test]
    fn an_unreadable_boolean_pauses_and_false_does_not() {
        for (value, paused) in [("true", true), ("yes", true), ("", true), ("false", false), ("0", false)] {
            let found = read(&[(PAUSED, value)]).unwrap();
            assert_eq!(found.full.is_some(), paused, "{value:?}");
        }
    }

    #[test]
    fn paused_replicas_beats_paused() {
        let found = read(&[(PAUSED, "false"), (PAUSED_REPLICAS, "4")]).unwrap();
        assert_eq!(found.full, Some(FullPause::At(4)));
    }

    #[test]
    fn paused_replicas_must_be_a_replica_count() {
        for bad in ["many", "-1", "1.5", "3000000000", " 3"] {
            let error = read(&[(PAUSED_REPLICAS, bad)]).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn directions_pause_on_their_own() {
        let found = read(&[(PAUSED_SCALE_IN, "true")]).unwrap();
        assert_eq!((found.full, found.scale_in, found.scale_out, found.any()), (None, true, false, true));
        assert_eq!(found.to_string(), "scale in is paused");
    }
}
