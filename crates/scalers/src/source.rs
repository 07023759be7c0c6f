//! What all sources with one metric have in common: the deadline, the activation threshold, the name.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use scaling::name::metric_name;
use units::Milli;

use crate::context::{Notice, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::shorten;
use crate::metadata::{Number, Timeout, TriggerMetadata, parse};
use crate::{MetricSpec, Sampled, Scaler};

/// A source of one number: what a file of this crate implements.
#[async_trait]
pub(crate) trait Source: Send + Sync + Debug + Sized + 'static {
    /// What may be written in the trigger.
    type Settings: TriggerMetadata;

    /// See [`Scaler::type_name`].
    const LABEL: &'static str;

    /// Makes the source. Does no I/O.
    ///
    /// # Errors
    /// What concerns several settings, or cannot be done.
    fn connect(settings: Self::Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError>;

    /// Reads the number. The caller sees to the deadline.
    ///
    /// # Errors
    /// See [`ScalerError`]; every one of them means that nothing is known.
    async fn read(&self) -> Result<Reading, ScalerError>;
}

/// A source and what its number is compared with.
#[derive(Debug)]
pub(crate) struct Connected<S> {
    pub(crate) source: S,
    /// The metric's name after `s<index>-`, before it is normalised.
    pub(crate) name: String,
    /// What one replica should have.
    pub(crate) target: Number,
    /// Active when the value is above this.
    pub(crate) activation: f64,
    /// How long a read may take.
    pub(crate) timeout: Duration,
}

impl<S> Connected<S> {
    /// A source that is active above `activation` and is read within the program's own deadline.
    pub(crate) fn new(
        context: &TriggerContext<'_>,
        source: S,
        name: impl Into<String>,
        target: Number,
        activation: Number,
    ) -> Self {
        Self { source, name: name.into(), target, activation: activation.float, timeout: context.http.timeout() }
    }

    /// With another deadline, if there is one.
    pub(crate) fn within(mut self, timeout: impl Into<Option<Timeout>>) -> Self {
        self.timeout = timeout.into().map_or(self.timeout, |timeout| timeout.0);
        self
    }
}

/// What was asked for, if it is there in time.
///
/// # Errors
/// It is not: [`ScalerError::TimedOut`]; or what was asked for is an error.
pub(crate) async fn within<T>(
    after: Duration,
    asked: impl Future<Output = Result<T, ScalerError>>,
) -> Result<T, ScalerError> {
    tokio::time::timeout(after, asked).await.map_err(|_| ScalerError::TimedOut { after })?
}

/// One finite number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    /// Exact to a thousandth.
    pub(crate) milli: Milli,
    /// As the source said it, for the comparison with the activation threshold.
    pub(crate) float: f64,
    /// The source had no data, and the trigger says what that means.
    pub(crate) empty: bool,
    /// Whether the source is active, when that is not a matter of the activation threshold.
    pub(crate) active: Option<bool>,
}

impl Reading {
    /// A number of the source.
    ///
    /// # Errors
    /// It is not finite or out of range: [`ScalerError::NoNumber`].
    pub(crate) fn number(float: f64) -> Result<Self, ScalerError> {
        let milli = Milli::try_from_f64(float)
            .map_err(|error| ScalerError::no_number(format!("the source gives no usable number: {error}")))?;
        Ok(Self { milli, float, empty: false, active: None })
    }

    /// So many things.
    ///
    /// # Errors
    /// There are more than can be reckoned with: [`ScalerError::NoNumber`].
    pub(crate) fn count(things: i64) -> Result<Self, ScalerError> {
        let milli = Milli::from_units(things).map_err(|error| ScalerError::no_number(error.to_string()))?;
        Ok(Self { milli, float: milli.to_f64(), empty: false, active: None })
    }

    /// A number or quantity in a text of the source.
    ///
    /// # Errors
    /// The text is no finite number: [`ScalerError::NoNumber`].
    pub(crate) fn text(text: &str) -> Result<Self, ScalerError> {
        let Number { milli, float } = text.trim().parse::<Number>().map_err(|error| {
            ScalerError::no_number(format!("the source gives no usable number: {}", shorten(&error)))
        })?;
        Ok(Self { milli, float, empty: false, active: None })
    }

    /// The source had no data, which means 0.
    pub(crate) fn empty() -> Self {
        Self { milli: Milli::ZERO, float: 0.0, empty: true, active: None }
    }
}

/// A source behind the port.
#[derive(Debug)]
struct One<S> {
    connected: Connected<S>,
    metrics: [MetricSpec; 1],
    notices: Vec<Notice>,
}

/// Makes the scaler of a trigger.
pub(crate) fn build<S: Source>(context: &TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError> {
    let (settings, notices) = parse::<S::Settings>(context)?;
    let connected = S::connect(settings, context)?;
    let target = context.target()?(connected.target.milli);
    let metrics = [MetricSpec { name: metric_name(context.index, &connected.name), target }];
    Ok(Arc::new(One { connected, metrics, notices }))
}

#[async_trait]
impl<S: Source> Scaler for One<S> {
    fn type_name(&self) -> &'static str {
        S::LABEL
    }

    fn metrics(&self) -> &[MetricSpec] {
        &self.metrics
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    async fn sample(&self, _metric: &str) -> Result<Sampled, ScalerError> {
        let reading = within(self.connected.timeout, self.connected.source.read()).await?;
        Ok(Sampled {
            value: reading.milli,
            active: reading.active.unwrap_or(reading.float > self.connected.activation),
            empty: reading.empty,
        })
    }
}

#[cfg(test)]
mod tests {
    use scaling::Target;

    use super::*;
    use crate::context::MetricType;
    use crate::prometheus::Prometheus;
    use crate::testing::Trigger;

    const PLAIN: [(&str, &str); 3] =
        [("serverAddress", "http://prometheus:9090"), ("query", "up"), ("threshold", "2.5")];

    fn target(metric_type: Option<MetricType>) -> Result<Target, BuildError> {
        Ok(Trigger::new(&PLAIN).metric_type(metric_type).build::<Prometheus>()?.metrics()[0].target)
    }

    #[test]
    fn a_target_is_an_average_or_a_value_and_never_per_cent() {
        let amount = Milli::from_thousandths(2_500);
        assert_eq!(target(None), Ok(Target::AverageValue(amount)));
        assert_eq!(target(Some(MetricType::AverageValue)), Ok(Target::AverageValue(amount)));
        assert_eq!(target(Some(MetricType::Value)), Ok(Target::Value(amount)));
        assert_eq!(target(Some(MetricType::Utilization)).map_err(|error| error.field), Err("metricType".into()));
    }

    #[test]
    fn a_metric_is_named_after_its_place_among_the_triggers() {
        let third = |context: &TriggerContext<'_>| build::<Prometheus>(&TriggerContext { index: 2, ..*context });
        assert_eq!(Trigger::new(&PLAIN).with(third).unwrap().metrics()[0].name, "s2-prometheus");
    }
}
