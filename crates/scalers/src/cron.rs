//! `cron`: so many replicas between two moments that come again and again. Nothing is read but the clock.
//!
//! Differs from KEDA: a time zone or an expression that cannot be used is refused when the trigger is built, and so is one
//! that never comes. On the day a clock is put forward, a moment inside the gap comes at the end of the gap; on the day it
//! is put back, a moment comes once, the first time its hour passes.

use std::str::FromStr;

use async_trait::async_trait;
use croner::Cron as Pattern;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{FromParameter, Kind, Number, Parameter, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// So many replicas between two moments that come again and again: every working day from 8 to 18, for example.
///
/// Between `start` and `end` the value is `desiredReplicas`, outside it is 0. It is a floor and not a cap: other triggers may
/// ask for more. Several windows are several triggers. Expressions have five fields: minute, hour, day of the month, month,
/// day of the week; when both days are restricted, either is enough.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Settings {
    /// Name in the IANA time zone database, `Europe/Berlin`; clock changes are followed.
    timezone: Zone,
    /// When the window begins, as a cron expression.
    start: Moments,
    /// When the window ends, as a cron expression.
    end: Moments,
    /// How many replicas there should be in the window.
    #[param(above = "0")]
    desired_replicas: i64,
}

/// A time zone, and how it was written.
#[derive(Debug)]
struct Zone {
    text: String,
    zone: TimeZone,
}

impl FromParameter for Zone {
    const KIND: Kind = Kind::Text;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        let zone = TimeZone::get(text).map_err(|_| format!("{text:?} is no time zone"))?;
        Ok(Self { text: text.to_owned(), zone })
    }
}

/// Moments that come again and again, and how they were written.
#[derive(Debug)]
struct Moments {
    text: String,
    pattern: Pattern,
}

impl FromParameter for Moments {
    const KIND: Kind = Kind::Text;

    fn from_text(text: &str, _: &Parameter) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let shorthand = text.starts_with('@');
        let error = match parser.parse(text) {
            Ok(pattern) if !shorthand => return Ok(Self { text: text.to_owned(), pattern }),
            Ok(_) => "words with @ are not five fields".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(format!("{text:?} is not a cron expression with five fields: {error}"))
    }
}

/// A window that comes again and again.
#[derive(Debug)]
pub(crate) struct Cron {
    zone: TimeZone,
    start: Pattern,
    end: Pattern,
    replicas: i64,
}

#[async_trait]
impl Source for Cron {
    type Settings = Settings;
    const LABEL: &'static str = "cronScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let Settings { timezone, start, end, desired_replicas } = settings;
        if start.text == end.text {
            return Err(BuildError::new("end", "is the same as start, so there is no window"));
        }
        let name = format!("cron-{}-{}-{}", timezone.text, plain(&start.text), plain(&end.text));
        let target = Number::from_str("1").map_err(|what| BuildError::new("desiredReplicas", what))?;
        let source = Self { zone: timezone.zone, start: start.pattern, end: end.pattern, replicas: desired_replicas };
        source.active(&Timestamp::UNIX_EPOCH.to_zoned(source.zone.clone()))?;
        Ok(Connected { source, name, target, activation: 0.0, timeout: context.http.timeout() })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let now = Timestamp::now().to_zoned(self.zone.clone());
        let active = self.active(&now).map_err(|error| ScalerError::Misconfigured { what: error.to_string() })?;
        Reading::count(if active { self.replicas } else { 0 })
    }
}

impl Cron {
    /// Whether `now` is in the window: its end is nearer than its next beginning.
    fn active(&self, now: &Zoned) -> Result<bool, BuildError> {
        let next = |field: &str, pattern: &Pattern| {
            let found = pattern.find_next_occurrence(now, false);
            found.map_err(|error| BuildError::new(field, format!("never comes: {error}")))
        };
        Ok(next("end", &self.end)? <= next("start", &self.start)?)
    }
}

/// An expression as KEDA writes it in a metric's name.
fn plain(expression: &str) -> String {
    expression.replace(' ', "").replace('*', "x").replace('/', "Sl").replace('?', "Qm").replace(',', "Cm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{connect, metric_name, refusal};

    const OFFICE: [(&str, &str); 4] =
        [("timezone", "Europe/Berlin"), ("start", "0 8 * * 1-5"), ("end", "30 18 * * 1-5"), ("desiredReplicas", "4")];

    fn changed<'a>(key: &'a str, text: &'a str) -> Vec<(&'a str, &'a str)> {
        OFFICE.into_iter().map(|(name, old)| (name, if name == key { text } else { old })).collect()
    }

    fn active(metadata: &[(&str, &str)], now: &str) -> bool {
        let cron = connect::<Cron>(metadata).unwrap().source;
        cron.active(&now.parse::<Timestamp>().unwrap().to_zoned(cron.zone.clone())).unwrap()
    }

    #[test]
    fn the_window_is_open_from_its_start_to_before_its_end() {
        // Berlin is two hours ahead in June; 2026-06-05 is a Friday.
        for (now, open) in [
            ("2026-06-05T05:59:59Z", false),
            ("2026-06-05T06:00:00Z", true),
            ("2026-06-05T16:29:59Z", true),
            ("2026-06-05T16:30:00Z", false),
            ("2026-06-06T10:00:00Z", false),
            // In winter it is one hour ahead.
            ("2026-12-04T06:30:00Z", false),
            ("2026-12-04T07:00:00Z", true),
        ] {
            assert_eq!(active(&OFFICE, now), open, "{now}");
        }
    }

    #[test]
    fn a_clock_that_is_put_forward_or_back_moves_the_window() {
        let night = [OFFICE[0], ("start", "30 2 * * *"), ("end", "0 5 * * *"), OFFICE[3]];
        // 2026-03-29: 02:00 becomes 03:00 (01:00Z), so 02:30 comes at 03:00.
        assert!(!active(&night, "2026-03-29T00:59:59Z"));
        assert!(active(&night, "2026-03-29T01:00:00Z"));
        // 2026-10-25: 03:00 becomes 02:00 (01:00Z); the first 02:30 is 00:30Z.
        assert!(!active(&night, "2026-10-25T00:29:59Z"));
        assert!(active(&night, "2026-10-25T00:30:00Z"));
        assert!(active(&night, "2026-10-25T01:15:00Z"));
    }

    #[test]
    fn a_window_may_cross_midnight() {
        let night = [("timezone", "UTC"), ("start", "0 22 * * *"), ("end", "0 6 * * *"), ("desiredReplicas", "1")];
        for (now, open) in
            [("2026-06-05T23:00:00Z", true), ("2026-06-06T05:59:00Z", true), ("2026-06-06T06:00:00Z", false)]
        {
            assert_eq!(active(&night, now), open, "{now}");
        }
    }

    #[test]
    fn the_metric_is_named_as_in_keda() {
        let metadata = [("start", "0 */2 ? * 1,3"), ("end", "5 6 * * *"), OFFICE[0], OFFICE[3]];
        assert_eq!(metric_name::<Cron>(&metadata), "s0-cron-Europe-Berlin-0xSl2Qmx1Cm3-56xxx");
    }

    #[test]
    fn what_cannot_be_a_window_is_refused() {
        for (key, text) in [
            ("timezone", "Europe/Berlun"),
            ("start", "0 8 * *"),
            ("start", "0 0 8 * * 1"),
            ("start", "@daily"),
            ("end", "61 8 * * *"),
            ("end", "0 8 * * 1-5"),
            ("end", "0 0 30 2 *"),
            ("desiredReplicas", "0"),
            ("desiredReplicas", "1.5"),
        ] {
            assert_eq!(refusal::<Cron>(&changed(key, text)), [key], "{key}={text}");
        }
        let everything = [("timezone", "Nowhere"), ("start", "x"), ("end", "y"), ("desiredReplicas", "0")];
        assert_eq!(refusal::<Cron>(&everything), ["timezone", "start", "end", "desiredReplicas"]);
    }
}
