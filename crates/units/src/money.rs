use std::{fmt, iter::Sum};

use serde::{Deserialize, Serialize};

/// A price.
///
/// Unit: millionths of a US dollar per hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsdMicrosPerHour(pub i64);

impl UsdMicrosPerHour {
    /// For nothing.
    pub const ZERO: Self = Self(0);

    /// The nearest price to a number of dollars per hour, as price lists write them; `None` when it is not finite or out
    /// of range.
    #[must_use]
    pub fn from_usd_per_hour(dollars: f64) -> Option<Self> {
        let micros = (dollars * 1e6).round();
        // Beyond 2^53 a float no longer tells neighbouring integers apart; no price comes near.
        if !micros.is_finite() || micros.abs() > 9_007_199_254_740_992.0 {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53, just checked")]
        Some(Self(micros as i64))
    }

    /// The sum, held at the ends of the range.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, held at the ends of the range.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Held at the ends of the range, so that adding up a fleet cannot wrap round.
impl Sum for UsdMicrosPerHour {
    fn sum<I: Iterator<Item = Self>>(prices: I) -> Self {
        prices.fold(Self::ZERO, Self::saturating_add)
    }
}

/// `$0.0416/h`: at least cents, at most millionths, no zeros beyond cents.
impl fmt::Display for UsdMicrosPerHour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0.unsigned_abs() / 1_000_000, self.0.unsigned_abs() % 1_000_000);
        let fraction = format!("{micros:06}");
        let (cents, rest) = fraction.split_at(2);
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}${whole}.{cents}{}/h", rest.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_read_like_price_lists() {
        let table = [
            (41_600, "$0.0416/h"),
            (0, "$0.00/h"),
            (13_350_000, "$13.35/h"),
            (4_000_000, "$4.00/h"),
            (1, "$0.000001/h"),
            (-41_600, "-$0.0416/h"),
        ];
        for (micros, text) in table {
            assert_eq!(UsdMicrosPerHour(micros).to_string(), text);
        }
    }

    #[test]
    fn a_sum_stays_in_range() {
        let sum: UsdMicrosPerHour = [UsdMicrosPerHour(i64::MAX), UsdMicrosPerHour(1)].into_iter().sum();
        assert_eq!(sum, UsdMicrosPerHour(i64::MAX));
    }

    #[test]
    fn dollars_become_the_nearest_millionth() {
        assert_eq!(UsdMicrosPerHour::from_usd_per_hour(0.0416), Some(UsdMicrosPerHour(41_600)));
        assert_eq!(UsdMicrosPerHour::from_usd_per_hour(f64::NAN), None);
        assert_eq!(UsdMicrosPerHour::from_usd_per_hour(f64::INFINITY), None);
    }
}
