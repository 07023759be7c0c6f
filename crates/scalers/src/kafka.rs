//! `kafka`: how far a consumer group lags behind.
//!
//! Six requests in versions that every broker since 0.11 and up to 4.x understands, over our own TLS and SASL.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; a partition without a leader is an error and not 0; with `offsetResetPolicy: earliest` a partition
//! without a committed offset lags by what is really in its log; a group that has committed nothing at all is an error when
//! no topic is named; asking for a topic never creates it.

mod cluster;
mod group;
mod kerberos;
mod lag;
mod login;
mod requests;
mod sasl;
mod scram;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use units::Milli;

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::kept::Kept;
use crate::metadata::{Number, Timeout, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use cluster::{Cluster, Line};
use lag::{Memory, Policy, Reset};
use login::Login;

/// How long one reading may take. It may have to log in to every broker of the cluster.
const TIMEOUT: Timeout = Timeout(Duration::from_secs(10));

/// How far a Kafka consumer group lags behind: messages in the log that it has not committed.
///
/// More replicas than partitions are not asked for, unless `allowIdleConsumers` is `true`.
#[derive(Debug, TriggerMetadata)]
#[trigger(
    ignored("version", "requests are made in versions that every broker since 0.11 understands, so it has no effect"),
    ignored("fullMetadata", "only the topics in question are asked for, so it has no effect"),
    check = Settings::check
)]
pub(crate) struct Settings {
    /// Brokers to begin with, each `host:9092`; they are tried in turn.
    #[param(from(metadata, env), required)]
    bootstrap_servers: Vec<String>,
    /// The consumer group.
    #[param(from(metadata, env))]
    consumer_group: String,
    /// The topic. Without it, all topics count in which the group has committed offsets.
    #[param(from(metadata, env))]
    topic: Option<String>,
    /// Partitions that count; all of the topic otherwise.
    #[param(at_least = "0", ranges)]
    partition_limitation: Vec<i64>,
    /// By how many messages one replica may lag behind.
    #[param(default = "10", at_least = "1")]
    lag_threshold: i64,
    /// Active when the lag is above this.
    #[param(default = "0", at_least = "0")]
    activation_lag_threshold: i64,
    /// Where the group begins in a partition in which it has committed nothing: `latest` lags by one message, `earliest`
    /// by the whole log.
    #[param(default = "latest")]
    offset_reset_policy: Reset,
    /// Ask for more replicas than there are partitions, if the lag is that large.
    #[param(default = "false")]
    allow_idle_consumers: bool,
    /// A partition in which the group has committed nothing does not lag.
    #[param(default = "false")]
    scale_to_zero_on_invalid_offset: bool,
    /// A partition whose committed offset has not moved since the last reading does not count for the replicas, only for
    /// whether the trigger is active.
    #[param(default = "false")]
    exclude_persistent_lag: bool,
    /// Ask for no more replicas than there are partitions with a lag.
    #[param(default = "false")]
    limit_to_partitions_with_lag: bool,
    /// Ask for as many replicas as divide the partitions evenly.
    #[param(default = "false")]
    ensure_even_distribution_of_partitions: bool,
    #[param(nested)]
    login: Login,
}

/// A consumer group, and the topic or topics it reads.
#[derive(Debug)]
pub(crate) struct Kafka {
    cluster: Cluster,
    group: String,
    topic: Option<String>,
    /// Partitions that count; all when there are none.
    only: Vec<i64>,
    policy: Policy,
    memory: Memory,
    kept: Kept<Line>,
}

#[async_trait]
impl Source for Kafka {
    type Settings = Settings;
    const LABEL: &'static str = "kafkaScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let cluster = settings.login.cluster(&settings.bootstrap_servers, context)?;
        let kept = Kept::new(context, &(&settings.bootstrap_servers, settings.login.identity()), TIMEOUT.0);
        let threshold = Milli::from_units(settings.lag_threshold);
        let threshold = threshold.map_err(|error| BuildError::new("lagThreshold", error.to_string()))?;
        let name = match &settings.topic {
            Some(topic) => format!("kafka-{topic}"),
            None => format!("kafka-{}-topics", settings.consumer_group),
        };
        let source = Self {
            cluster,
            policy: settings.policy(),
            group: settings.consumer_group,
            topic: settings.topic,
            only: settings.partition_limitation,
            memory: Memory::default(),
            kept,
        };
        // The policy decides what is active.
        Ok(Connected::new(context, source, name, threshold.into(), Number::ZERO).within(TIMEOUT))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        self.kept.read(self).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, metric_name};

    const PLACE: [(&str, &str); 2] = [("bootstrapServers", "a:9092,b:9092"), ("consumerGroup", "my.group")];

    #[test]
    fn the_metric_is_named_after_the_topic_or_the_group() {
        assert_eq!(metric_name::<Kafka>(&[&PLACE[..], &[("topic", "orders")]].concat()), "s0-kafka-orders");
        assert_eq!(metric_name::<Kafka>(&PLACE), "s0-kafka-my-group-topics");
        let target = Trigger::new(&PLACE).connect::<Kafka>().unwrap().target.milli.thousandths();
        assert_eq!(target, 10_000);
    }
}
