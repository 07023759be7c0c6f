//! The length of a list, or the size of a set, a sorted set or a hash.

use async_trait::async_trait;

use super::Question;
use super::connection::Connection;
use crate::error::ScalerError;
use crate::metadata::{Number, TriggerMetadata};
use crate::source::Reading;

/// The length of a Redis list, or the size of a set, a sorted set or a hash. A key that is not there counts 0, as in Redis;
/// a key of another type is an error.
#[derive(Debug, TriggerMetadata)]
#[expect(clippy::struct_field_names, reason = "the fields are named as their parameters are")]
pub(crate) struct List {
    /// The key.
    list_name: String,
    /// How many elements one replica should have.
    #[param(default = "5", above = "0")]
    list_length: Number,
    /// Active when there are more elements than this.
    #[param(default = "0")]
    activation_list_length: Number,
}

#[async_trait]
impl Question for List {
    const LABEL: &'static str = "redisScaler";

    fn measure(&self) -> (String, Number, Number) {
        (format!("redis-{}", self.list_name), self.list_length, self.activation_list_length)
    }

    async fn ask(&self, connection: &mut Connection) -> Result<Reading, ScalerError> {
        let kind: String = connection.ask(redis::cmd("TYPE").arg(&self.list_name)).await?;
        let command = match kind.as_str() {
            "none" => return Reading::count(0),
            "list" => "LLEN",
            "set" => "SCARD",
            "zset" => "ZCARD",
            "hash" => "HLEN",
            other => {
                return Err(ScalerError::Misconfigured {
                    what: format!("{:?} is a {other}, which has no length to scale by", self.list_name),
                });
            }
        };
        Reading::count(connection.ask(redis::cmd(command).arg(&self.list_name)).await?)
    }
}
