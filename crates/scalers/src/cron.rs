//! `cron`: so many replicas between two moments that come again and again. Nothing is read but the clock.
//!
//! Differs from KEDA: a time zone or an expression that cannot be used is refused when the trigger is built, and so is one
//! that never comes. On the day a clock is put forward, a moment inside the gap comes at the end of the gap; on the day it
//! is put back, a moment comes once, the first time its hour passes.

mod window;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use units::Milli;

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use window::{Moments, Window, Zone};

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

/// A window that comes again and again.
#[derive(Debug)]
pub(crate) struct Cron {
    zone: TimeZone,
    window: Window,
    replicas: i64,
}

#[async_trait]
impl Source for Cron {
    type Settings = Settings;
    const LABEL: &'static str = "cronScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let Settings { timezone: Zone { text, zone }, start, end, desired_replicas } = settings;
        if start.text == end.text {
            return Err(BuildError::new("end", "is the same as start, so there is no window"));
        }
        let name = format!("cron-{text}-{}-{}", start.plain(), end.plain());
        let source = Self { zone, window: Window { start, end }, replicas: desired_replicas };
        source.window.is_open(&Timestamp::UNIX_EPOCH.to_zoned(source.zone.clone()))?;
        Ok(Connected::new(context, source, name, Milli::from_thousandths(1_000).into(), Number::ZERO))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let now = Timestamp::now().to_zoned(self.zone.clone());
        let open = self.window.is_open(&now);
        let open = open.map_err(|error| ScalerError::Misconfigured { what: error.to_string() })?;
        Reading::count(if open { self.replicas } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changed, metric_name, refusal};

    const OFFICE: [(&str, &str); 4] =
        [("timezone", "Europe/Berlin"), ("start", "0 8 * * 1-5"), ("end", "30 18 * * 1-5"), ("desiredReplicas", "4")];

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
        ] {
            assert_eq!(refusal::<Cron>(&changed(&OFFICE, key, text)), [key], "{key}={text}");
        }
        let everything = [("timezone", "Nowhere"), ("start", "x"), ("end", "y"), ("desiredReplicas", "1.5")];
        assert_eq!(refusal::<Cron>(&everything), ["timezone", "start", "end", "desiredReplicas"]);
    }
}
