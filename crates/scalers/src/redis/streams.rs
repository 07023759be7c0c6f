//! The length of a stream, what is pending in a consumer group, or how far the group lags behind.

use async_trait::async_trait;
use redis::streams::{StreamInfoGroupsReply, StreamPendingReply};

use super::Question;
use super::connection::{Connection, failure};
use crate::error::ScalerError;
use crate::metadata::{Number, TriggerMetadata};
use crate::source::Reading;

/// What waits in a Redis stream.
///
/// With `consumerGroup` and `lagCount`: the entries that the group has not been given yet (Redis 7 and later). With
/// `consumerGroup` only: the entries given out and not acknowledged. With neither: the length of the stream.
#[derive(Debug, TriggerMetadata)]
#[expect(clippy::struct_field_names, reason = "the fields are named as their parameters are")]
pub(crate) struct Stream {
    /// The key of the stream.
    stream: String,
    /// The consumer group.
    consumer_group: Option<String>,
    /// How many pending entries one replica should have.
    #[param(default = "5", above = "0")]
    pending_entries_count: Number,
    /// How many entries one replica should have.
    #[param(default = "5", above = "0")]
    stream_length: Number,
    /// By how many entries one replica may lag behind.
    #[param(above = "0")]
    lag_count: Option<Number>,
    /// Active when the lag is above this.
    #[param(default = "0")]
    activation_lag_count: Number,
}

#[async_trait]
impl Question for Stream {
    const LABEL: &'static str = "redisStreamsScaler";

    fn measure(&self) -> (String, Number, Number) {
        let (target, activation) = match (&self.consumer_group, self.lag_count) {
            (Some(_), Some(lag)) => (lag, self.activation_lag_count),
            (Some(_), None) => (self.pending_entries_count, Number::ZERO),
            (None, _) => (self.stream_length, Number::ZERO),
        };
        (format!("redis-streams-{}", self.stream), target, activation)
    }

    async fn ask(&self, connection: &mut Connection) -> Result<Reading, ScalerError> {
        match (&self.consumer_group, self.lag_count) {
            (Some(group), Some(_)) => self.lag(connection, group).await,
            (Some(group), None) => self.pending(connection, group).await,
            (None, _) => self.length(connection).await,
        }
    }
}

impl Stream {
    async fn length(&self, connection: &mut Connection) -> Result<Reading, ScalerError> {
        Reading::count(connection.ask(redis::cmd("XLEN").arg(&self.stream)).await?)
    }

    async fn pending(&self, connection: &mut Connection, group: &str) -> Result<Reading, ScalerError> {
        let pending: StreamPendingReply = connection.ask(redis::cmd("XPENDING").arg(&self.stream).arg(group)).await?;
        Reading::count(i64::try_from(pending.count()).unwrap_or(i64::MAX))
    }

    async fn lag(&self, connection: &mut Connection, group: &str) -> Result<Reading, ScalerError> {
        let command = redis::cmd("XINFO").arg("GROUPS").arg(&self.stream).to_owned();
        let groups: StreamInfoGroupsReply = match connection.ask_or_refusal(&command).await? {
            Ok(groups) => groups,
            // A stream that nobody has written to has nothing to catch up with.
            Err(error) if error.to_string().to_lowercase().contains("no such key") => return Reading::count(0),
            Err(error) => return Err(failure(&error)),
        };
        let Some(group) = groups.groups.iter().find(|known| known.name == group) else {
            // A group that does not exist yet will have to read everything.
            return self.length(connection).await;
        };
        let lag = group.lag.ok_or_else(|| ScalerError::NoNumber {
            what: "Redis does not know the lag: it is older than 7, or entries in the middle were deleted".into(),
        })?;
        Reading::count(i64::try_from(lag).unwrap_or(i64::MAX))
    }
}
