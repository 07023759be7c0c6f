use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Quantity;

/// A metric value, exact to the thousandth.
///
/// Unit: thousandths of whatever the metric counts; this is the finest that `external.metrics.k8s.io` and the
/// HorizontalPodAutoscaler reckon with. Always finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Milli(i64);

/// Why a number is not a metric value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MilliError {
    /// NaN or an infinity. Never a number to scale by.
    #[error("the value is not finite ({0})")]
    NotFinite(String),
    /// More than an `i64` of thousandths holds.
    #[error("the value {0} is out of range (at most 9.2e15 either side of zero)")]
    OutOfRange(String),
    /// No decimal number at all.
    #[error("{0:?} is not a number")]
    NotANumber(String),
}

impl Milli {
    /// Zero.
    pub const ZERO: Self = Self(0);

    /// So many thousandths.
    pub const fn from_thousandths(thousandths: i64) -> Self {
        Self(thousandths)
    }

    /// So many wholes.
    pub fn from_units(units: i64) -> Result<Self, MilliError> {
        units.checked_mul(1000).map(Self).ok_or_else(|| MilliError::OutOfRange(units.to_string()))
    }

    /// The nearest thousandth to a floating point number, halves away from zero.
    pub fn try_from_f64(value: f64) -> Result<Self, MilliError> {
        if !value.is_finite() {
            return Err(MilliError::NotFinite(value.to_string()));
        }
        let thousandths = (value * 1000.0).round();
        // 2^63 is a float exactly; every float below it fits.
        if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&thousandths) {
            #[expect(clippy::cast_possible_truncation, reason = "whole and within i64, just checked")]
            return Ok(Self(thousandths as i64));
        }
        Err(MilliError::OutOfRange(value.to_string()))
    }

    /// The value in thousandths.
    pub const fn thousandths(self) -> i64 {
        self.0
    }

    /// The nearest floating point number: for formulas and for display, not for comparing.
    #[expect(clippy::cast_precision_loss, reason = "the caller asked for an approximation")]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The value as a Kubernetes quantity: `12500m`, `12`.
    pub fn to_quantity_string(self) -> String {
        if self.0 % 1000 == 0 { (self.0 / 1000).to_string() } else { format!("{}m", self.0) }
    }

    /// The sum, or `None` when it leaves the range.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` when it leaves the range.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The product with a whole number, or `None` when it leaves the range.
    #[must_use]
    pub fn checked_mul(self, factor: i64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }
}

/// A plain decimal, as people read it: `12.5`, `-0.003`, `12`.
impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.unsigned_abs() / 1000, self.0.unsigned_abs() % 1000);
        let sign = if self.0 < 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let fraction = format!("{rest:03}");
        write!(f, "{sign}{whole}.{}", fraction.trim_end_matches('0'))
    }
}

/// Reads a decimal or a quantity (`5`, `0.25`, `1e3`, `500m`), rounding away from zero beyond the thousandth as
/// Kubernetes does.
impl FromStr for Milli {
    type Err = MilliError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
        if matches!(lower.as_str(), "nan" | "inf" | "infinity") {
            return Err(MilliError::NotFinite(text.to_owned()));
        }
        let quantity: Quantity = text.parse().map_err(|_| MilliError::NotANumber(text.to_owned()))?;
        quantity.to_milli_away().map(Self).ok_or_else(|| MilliError::OutOfRange(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_no_value() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(matches!(Milli::try_from_f64(value), Err(MilliError::NotFinite(_))), "{value}");
        }
        for text in ["NaN", "+Inf", "-inf", "Infinity"] {
            assert!(matches!(text.parse::<Milli>(), Err(MilliError::NotFinite(_))), "{text}");
        }
        for value in [1e16, -1e16, f64::MAX] {
            assert!(matches!(Milli::try_from_f64(value), Err(MilliError::OutOfRange(_))), "{value}");
        }
    }

    #[test]
    fn floats_become_the_nearest_thousandth() {
        for (value, thousandths) in
            [(0.29, 290), (4.35, 4350), (-0.0005, -1), (0.000_4, 0), (9e15, 9_000_000_000_000_000_000)]
        {
            assert_eq!(Milli::try_from_f64(value), Ok(Milli(thousandths)), "{value}");
        }
    }

    #[test]
    fn text_is_read_exactly_and_written_as_kubernetes_does() {
        for (text, thousandths, quantity, plain) in [
            ("12.5", 12_500, "12500m", "12.5"),
            ("12", 12_000, "12", "12"),
            ("500m", 500, "500m", "0.5"),
            ("1e3", 1_000_000, "1000", "1000"),
            ("-0.003", -3, "-3m", "-0.003"),
            ("0.0001", 1, "1m", "0.001"),
        ] {
            let value: Milli = text.parse().unwrap();
            assert_eq!(
                (value.thousandths(), value.to_quantity_string().as_str(), value.to_string().as_str()),
                (thousandths, quantity, plain)
            );
        }
        assert!(matches!("ten".parse::<Milli>(), Err(MilliError::NotANumber(_))));
        assert!(matches!("9223372036854775807".parse::<Milli>(), Err(MilliError::OutOfRange(_))));
    }
}
