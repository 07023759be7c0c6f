//! `kafka`: how far a consumer group lags behind.
//!
//! Six requests in versions that every broker since 0.11 and up to 4.x understands, over our own TLS and SASL.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; a partition without a leader is an error and not 0; with `offsetResetPolicy: earliest` a partition
//! without a committed offset lags by what is really in its log; a group that has committed nothing at all is an error when
//! no topic is named; asking for a topic never creates it.

mod cluster;
mod kerberos;
mod lag;
mod requests;
mod sasl;
mod scram;
mod settings;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use units::Milli;

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::kept::{Dial, Kept};
use crate::metadata::Number;
use crate::source::{Connected, Reading, Source};
use cluster::{Cluster, Line};
use lag::{Memory, Offsets, Policy};
use requests::LATEST;
use settings::{Reset, Settings};

/// How long one reading may take. It may have to log in to every broker of the cluster.
const TIMEOUT: Duration = Duration::from_secs(10);

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
        let cluster = settings.cluster(context)?;
        let kept = Kept::new(context, &settings.login(), TIMEOUT);
        let threshold = settings.lag_threshold;
        let milli = Milli::from_units(threshold).map_err(|error| BuildError::new("lagThreshold", error.to_string()))?;
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
        Ok(Connected {
            source,
            name,
            target: Number { milli, float: milli.to_f64() },
            // The policy decides.
            activation: 0.0,
            timeout: TIMEOUT,
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        self.kept.read(self).await
    }
}

#[async_trait]
impl Dial for Kafka {
    type Line = Line;

    async fn dial(&self) -> Result<Line, ScalerError> {
        self.cluster.dial().await
    }

    async fn ask(&self, line: &mut Line) -> Result<Reading, ScalerError> {
        let coordinator = self.cluster.coordinator(line, &self.group).await?;
        let (topics, committed) = if let Some(topic) = &self.topic {
            let topics = self.cluster.topics(line, std::slice::from_ref(topic)).await?;
            let topics = topics.iter().map(|topic| topic.with(&self.only)).collect::<Vec<_>>();
            let asked = topics.iter().map(|topic| (topic.name.clone(), topic.indexes())).collect::<Vec<_>>();
            let committed = self.cluster.committed(line, coordinator, &self.group, Some(&asked)).await?;
            (topics, committed)
        } else {
            let committed = self.cluster.committed(line, coordinator, &self.group, None).await?;
            let mut names: Vec<String> = committed.keys().map(|(topic, _)| topic.clone()).collect();
            names.dedup();
            if names.is_empty() {
                let what = format!("the consumer group {:?} has committed no offset; name its topic", self.group);
                return Err(ScalerError::NoNumber { what });
            }
            (self.cluster.topics(line, &names).await?, committed)
        };
        let latest = self.cluster.offsets(line, &topics, LATEST).await?;
        let mut offsets = Offsets::new(&topics, &committed, latest)?;
        if self.policy.reset == Reset::Earliest && offsets.any_uncommitted() {
            offsets.earliest = self.cluster.offsets(line, &topics, requests::EARLIEST).await?;
        }
        let lag = self.policy.lag(&offsets, &self.memory)?;
        Ok(Reading { active: Some(lag.active), ..Reading::count(lag.value)? })
    }
}

#[cfg(test)]
#[path = "kafka_tests.rs"]
mod tests;
