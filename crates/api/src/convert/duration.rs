//! Durations as `karpenter.sh/v1` writes them: `30s`, `1h30m`, `720h`, `Never`.

use std::time::Duration;

/// A span of time, or no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanOrNever {
    /// So long.
    Span(Duration),
    /// For ever.
    Never,
}

impl SpanOrNever {
    /// The span; `None` is never.
    pub fn span(self) -> Option<Duration> {
        match self {
            Self::Span(span) => Some(span),
            Self::Never => None,
        }
    }
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write hours, minutes and seconds such as 1h30m, or Never")]
pub struct ParseDurationError(String);

/// Reads a duration of hours, minutes and seconds, or `Never`.
pub fn parse_duration(text: &str) -> Result<SpanOrNever, ParseDurationError> {
    if text == "Never" {
        return Ok(SpanOrNever::Never);
    }
    let wrong = || ParseDurationError(text.to_owned());
    let (mut seconds, mut number, mut digits) = (0_u64, 0_u64, 0_usize);
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            number = number.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0'))).ok_or_else(wrong)?;
            digits += 1;
            continue;
        }
        let unit = match byte {
            b'h' => 3600,
            b'm' => 60,
            b's' => 1,
            _ => return Err(wrong()),
        };
        if digits == 0 {
            return Err(wrong());
        }
        seconds = number.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
        (number, digits) = (0, 0);
    }
    if digits > 0 || text.is_empty() {
        return Err(wrong());
    }
    Ok(SpanOrNever::Span(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_hours_minutes_and_seconds() {
        for (text, seconds) in [("0s", 0), ("30s", 30), ("1h30m", 5400), ("720h", 2_592_000), ("1m1m", 120)] {
            assert_eq!(parse_duration(text), Ok(SpanOrNever::Span(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!(parse_duration("Never").unwrap().span(), None);
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "30", "s", "1d", "-1s", "1.5h", "never", " 1s", "99999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
