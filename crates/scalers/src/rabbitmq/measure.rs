//! What the numbers of queues amount to.

use serde::Deserialize;

use super::Settings;
use crate::error::ScalerError;
use crate::metadata::Choice;
use crate::source::Reading;

/// What is told of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Mode {
    QueueLength,
    MessageRate,
    DeliverGetRate,
    PublishedToDeliveredRatio,
    ExpectedQueueConsumptionTime,
}

/// What becomes of the numbers of several queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Operation {
    #[value("sum")]
    Sum,
    #[value("avg")]
    Average,
    #[value("max")]
    Max,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub(super) mode: Mode,
    pub(super) operation: Operation,
    pub(super) without_unacknowledged: bool,
    pub(super) activation: f64,
}

/// A queue as the management API describes it.
#[derive(Debug, Deserialize)]
pub(super) struct Queue {
    /// Missing until the server has gathered statistics.
    messages: Option<f64>,
    #[serde(default)]
    messages_unacknowledged: f64,
    /// Missing while nothing has happened.
    #[serde(default)]
    message_stats: Statistics,
}

#[derive(Debug, Default, Deserialize)]
struct Statistics {
    #[serde(default)]
    publish_details: Rate,
    #[serde(default)]
    deliver_get_details: Rate,
}

#[derive(Debug, Default, Deserialize)]
struct Rate {
    #[serde(default)]
    rate: f64,
}

impl Measure {
    /// What the settings say.
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            mode: settings.mode.unwrap_or(Mode::QueueLength),
            operation: settings.operation,
            without_unacknowledged: settings.exclude_unacknowledged,
            activation: settings.activation_value.float,
        }
    }

    /// The value of these queues; none at all have nothing in them.
    ///
    /// # Errors
    /// A queue has no statistics yet, or the value is not finite: [`ScalerError::NoNumber`].
    pub(super) fn of_queues(&self, queues: &[Queue]) -> Result<Reading, ScalerError> {
        let missing = || ScalerError::no_number("RabbitMQ has no statistics of the queue yet");
        let messages = queues.iter().map(|queue| queue.messages.ok_or_else(missing)).collect::<Result<Vec<_>, _>>()?;
        let messages = self.operation.of(messages.into_iter());
        let unacknowledged = self.operation.of(queues.iter().map(|queue| queue.messages_unacknowledged));
        let published = self.operation.of(queues.iter().map(|queue| queue.message_stats.publish_details.rate));
        let delivered = self.operation.of(queues.iter().map(|queue| queue.message_stats.deliver_get_details.rate));
        match self.mode {
            Mode::QueueLength if self.without_unacknowledged => Reading::number(messages - unacknowledged),
            Mode::QueueLength => Reading::number(messages),
            Mode::MessageRate => {
                let active = published > self.activation || messages > self.activation;
                Ok(Reading { active: Some(active), ..Reading::number(published)? })
            }
            Mode::DeliverGetRate => Reading::number(delivered),
            Mode::PublishedToDeliveredRatio => self.per_delivered(published, delivered, published),
            Mode::ExpectedQueueConsumptionTime => {
                self.per_delivered(published - delivered + messages, delivered, messages)
            }
        }
    }

    /// A quotient. When nothing is delivered although there is `work`, somebody has to begin: active, and no number above
    /// the threshold is made up.
    fn per_delivered(&self, amount: f64, delivered: f64, work: f64) -> Result<Reading, ScalerError> {
        if delivered > 0.0 {
            Reading::number(amount / delivered)
        } else if work > 0.0 {
            Ok(Reading { active: Some(true), ..Reading::number(self.activation)? })
        } else {
            Reading::number(0.0)
        }
    }
}

impl Operation {
    fn of(self, values: impl ExactSizeIterator<Item = f64>) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "there are fewer queues than a float has whole numbers")]
        let count = values.len().max(1) as f64;
        match self {
            Self::Sum => values.sum(),
            Self::Average => values.sum::<f64>() / count,
            Self::Max => values.fold(0.0, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: f64, unacknowledged: f64, published: f64, delivered: f64) -> Queue {
        let rate = |rate| Rate { rate };
        Queue {
            messages: Some(messages),
            messages_unacknowledged: unacknowledged,
            message_stats: Statistics { publish_details: rate(published), deliver_get_details: rate(delivered) },
        }
    }

    fn check(mode: Mode, operation: Operation, queues: &[Queue], wanted: f64, active: Option<bool>) {
        let measure = Measure { mode, operation, without_unacknowledged: false, activation: 3.0 };
        let reading = measure.of_queues(queues).unwrap();
        assert_eq!((reading.float, reading.active), (wanted, active), "{mode:?} {operation:?}");
    }

    #[test]
    fn each_mode_has_its_own_number_and_activity() {
        let sum = |mode, queues: &[Queue], wanted, active| check(mode, Operation::Sum, queues, wanted, active);
        sum(Mode::QueueLength, &[queue(10.0, 4.0, 1.0, 2.0)], 10.0, None);
        sum(Mode::QueueLength, &[], 0.0, None);
        sum(Mode::MessageRate, &[queue(0.0, 0.0, 4.0, 0.0)], 4.0, Some(true));
        sum(Mode::MessageRate, &[queue(4.0, 0.0, 0.0, 0.0)], 0.0, Some(true));
        sum(Mode::MessageRate, &[queue(3.0, 0.0, 3.0, 0.0)], 3.0, Some(false));
        sum(Mode::DeliverGetRate, &[queue(9.0, 0.0, 1.0, 2.5)], 2.5, None);
        sum(Mode::PublishedToDeliveredRatio, &[queue(9.0, 0.0, 6.0, 2.0)], 3.0, None);
        sum(Mode::PublishedToDeliveredRatio, &[queue(9.0, 0.0, 6.0, 0.0)], 3.0, Some(true));
        sum(Mode::PublishedToDeliveredRatio, &[queue(9.0, 0.0, 0.0, 0.0)], 0.0, None);
        sum(Mode::ExpectedQueueConsumptionTime, &[queue(10.0, 0.0, 6.0, 4.0)], 3.0, None);
        sum(Mode::ExpectedQueueConsumptionTime, &[queue(10.0, 0.0, 0.0, 0.0)], 3.0, Some(true));
        sum(Mode::ExpectedQueueConsumptionTime, &[queue(0.0, 0.0, 6.0, 0.0)], 0.0, None);
    }

    #[test]
    fn several_queues_are_summed_averaged_or_the_largest_counts() {
        let queues = [queue(1.0, 1.0, 0.0, 0.0), queue(5.0, 2.0, 0.0, 0.0)];
        check(Mode::QueueLength, Operation::Sum, &queues, 6.0, None);
        check(Mode::QueueLength, Operation::Average, &queues, 3.0, None);
        check(Mode::QueueLength, Operation::Max, &queues, 5.0, None);
        let measure = Measure {
            mode: Mode::QueueLength,
            operation: Operation::Sum,
            without_unacknowledged: true,
            activation: 0.0,
        };
        assert_eq!(measure.of_queues(&queues).unwrap().milli.to_string(), "3");
    }

    #[test]
    fn a_queue_without_statistics_is_not_empty() {
        let measure = Measure {
            mode: Mode::QueueLength,
            operation: Operation::Sum,
            without_unacknowledged: false,
            activation: 0.0,
        };
        let queue: Queue = serde_json::from_str(r#"{"name": "new"}"#).unwrap();
        assert!(matches!(measure.of_queues(&[queue]), Err(ScalerError::NoNumber { .. })));
    }
}
