//! Durations as Go writes them.

use std::time::Duration;

/// Reads `300ms`, `1.5s`, `1m30s`, or a bare number of milliseconds. `None` if it is neither, is zero, or is over a day.
pub(crate) fn timeout(text: &str) -> Option<Duration> {
    const LONGEST: f64 = 86_400.0;
    let text = text.trim();
    let seconds = match text.parse::<u32>() {
        Ok(milliseconds) => f64::from(milliseconds) / 1_000.0,
        Err(_) => go_seconds(text)?,
    };
    (seconds > 0.0 && seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

fn go_seconds(mut text: &str) -> Option<f64> {
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..end].parse().ok()?;
        let rest = &text[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit_end] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return None,
            };
        text = &rest[unit_end..];
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_a_go_duration_or_milliseconds() {
        for (text, milliseconds) in [
            ("500", Some(500)),
            ("2s", Some(2_000)),
            ("1m30s", Some(90_000)),
            ("1.5s", Some(1_500)),
            ("250ms", Some(250)),
        ] {
            assert_eq!(timeout(text), milliseconds.map(Duration::from_millis), "{text}");
        }
        for bad in ["", "s", "5 s", "-1s", "0", "1d", "1e400h", "25h", "1.2.3s"] {
            assert_eq!(timeout(bad), None, "{bad}");
        }
    }
}
