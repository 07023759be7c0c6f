//! A window of time that comes again and again.

use croner::Cron as Pattern;
use croner::parser::{CronParser, Seconds, Year};
use jiff::Zoned;
use jiff::tz::TimeZone;

use crate::error::BuildError;
use crate::metadata::{FromParameter, Kind, Parameter};

/// A time zone, and how it was written.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) text: String,
    pub(super) zone: TimeZone,
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
pub(super) struct Moments {
    pub(super) text: String,
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

impl Moments {
    /// The expression as KEDA writes it in a metric's name.
    pub(super) fn plain(&self) -> String {
        self.text.replace(' ', "").replace('*', "x").replace('/', "Sl").replace('?', "Qm").replace(',', "Cm")
    }
}

/// From one moment to before another.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) start: Moments,
    pub(super) end: Moments,
}

impl Window {
    /// Whether `now` is in the window: its end is nearer than its next beginning.
    ///
    /// # Errors
    /// One of them never comes.
    pub(super) fn is_open(&self, now: &Zoned) -> Result<bool, BuildError> {
        let next = |field: &str, moments: &Moments| {
            let found = moments.pattern.find_next_occurrence(now, false);
            found.map_err(|error| BuildError::new(field, format!("never comes: {error}")))
        };
        Ok(next("end", &self.end)? <= next("start", &self.start)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cron;
    use crate::testing::connect;

    fn check(zone: &str, start: &str, end: &str, moments: &[(&str, bool)]) {
        let metadata = [("timezone", zone), ("start", start), ("end", end), ("desiredReplicas", "1")];
        let cron = connect::<Cron>(&metadata).unwrap().source;
        for (now, open) in moments {
            let now = now.parse::<jiff::Timestamp>().unwrap().to_zoned(cron.zone.clone());
            assert_eq!(cron.window.is_open(&now).unwrap(), *open, "{now}");
        }
    }

    #[test]
    fn the_window_is_open_from_its_start_to_before_its_end() {
        // Berlin is two hours ahead in June; 2026-06-05 is a Friday.
        let moments = [
            ("2026-06-05T05:59:59Z", false),
            ("2026-06-05T06:00:00Z", true),
            ("2026-06-05T16:29:59Z", true),
            ("2026-06-05T16:30:00Z", false),
            ("2026-06-06T10:00:00Z", false),
            // In winter it is one hour ahead.
            ("2026-12-04T06:30:00Z", false),
            ("2026-12-04T07:00:00Z", true),
        ];
        check("Europe/Berlin", "0 8 * * 1-5", "30 18 * * 1-5", &moments);
    }

    #[test]
    fn a_clock_that_is_put_forward_or_back_moves_the_window() {
        let moments = [
            // 2026-03-29: 02:00 becomes 03:00 (01:00Z), so 02:30 comes at 03:00.
            ("2026-03-29T00:59:59Z", false),
            ("2026-03-29T01:00:00Z", true),
            // 2026-10-25: 03:00 becomes 02:00 (01:00Z); the first 02:30 is 00:30Z.
            ("2026-10-25T00:29:59Z", false),
            ("2026-10-25T00:30:00Z", true),
            ("2026-10-25T01:15:00Z", true),
        ];
        check("Europe/Berlin", "30 2 * * *", "0 5 * * *", &moments);
    }

    #[test]
    fn a_window_may_cross_midnight() {
        let moments = [("2026-06-05T23:00:00Z", true), ("2026-06-06T05:59:00Z", true), ("2026-06-06T06:00:00Z", false)];
        check("UTC", "0 22 * * *", "0 6 * * *", &moments);
    }
}
