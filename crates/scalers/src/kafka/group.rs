//! What is asked about a consumer group, and in which order.

use async_trait::async_trait;

use super::Kafka;
use super::cluster::Line;
use super::lag::{Offsets, Reset};
use super::requests::{EARLIEST, LATEST};
use crate::error::ScalerError;
use crate::kept::Dial;
use crate::source::Reading;

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
                return Err(ScalerError::no_number(what));
            }
            (self.cluster.topics(line, &names).await?, committed)
        };
        let latest = self.cluster.offsets(line, &topics, LATEST).await?;
        let mut offsets = Offsets::new(&topics, &committed, latest)?;
        if self.policy.reset == Reset::Earliest && offsets.any_uncommitted() {
            offsets.earliest = self.cluster.offsets(line, &topics, EARLIEST).await?;
        }
        let lag = self.policy.lag(&offsets, &self.memory)?;
        Ok(Reading { active: Some(lag.active), ..Reading::count(lag.value)? })
    }
}
