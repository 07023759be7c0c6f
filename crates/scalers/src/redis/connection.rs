//! One connection per trigger, made when it is first needed and again after it broke.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::sync::Mutex;

use crate::error::ScalerError;

/// Where connections come from.
pub(crate) struct Server {
    client: Mutex<Client>,
    kept: Mutex<Option<Connection>>,
}

enum Client {
    One(Box<redis::Client>),
    Cluster(Box<ClusterClient>),
    Sentinels(Box<SentinelClient>),
}

/// A connection that several tasks may use.
#[derive(Clone)]
pub(crate) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Server {
    pub(super) fn one(client: redis::Client) -> Self {
        Self::new(Client::One(Box::new(client)))
    }

    pub(super) fn cluster(client: ClusterClient) -> Self {
        Self::new(Client::Cluster(Box::new(client)))
    }

    pub(super) fn sentinels(client: SentinelClient) -> Self {
        Self::new(Client::Sentinels(Box::new(client)))
    }

    fn new(client: Client) -> Self {
        Self { client: Mutex::new(client), kept: Mutex::new(None) }
    }

    /// The kept connection, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection, ScalerError> {
        let mut kept = self.kept.lock().await;
        if let Some(connection) = &*kept {
            return Ok(connection.clone());
        }
        let made = match &mut *self.client.lock().await {
            Client::One(client) => client.get_multiplexed_async_connection().await.map(Connection::Node),
            Client::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            Client::Sentinels(client) => client.get_async_connection().await.map(Connection::Node),
        };
        let connection = made.map_err(|error| failure(&error))?;
        *kept = Some(connection.clone());
        Ok(connection)
    }

    /// The kept connection is broken.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl Connection {
    /// One command and its answer.
    pub(super) async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, ScalerError> {
        self.ask_or_refusal(command).await?.map_err(|error| failure(&error))
    }

    /// One command; a refusal by the server is for the caller to judge.
    pub(super) async fn ask_or_refusal<T: FromRedisValue>(
        &mut self,
        command: &Cmd,
    ) -> Result<Result<T, RedisError>, ScalerError> {
        let answer = match self {
            Self::Node(node) => node.req_packed_command(command).await,
            Self::Cluster(cluster) => cluster.req_packed_command(command).await,
        };
        match answer {
            Ok(value) => match value.extract_error() {
                Ok(value) => T::from_redis_value(value).map(Ok).map_err(|error| ScalerError::NoNumber {
                    what: format!("the answer is not what Redis gives: {error}"),
                }),
                Err(error) => Ok(Err(error)),
            },
            Err(error) if error.code().is_some() => Ok(Err(error)),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// What an error means for the caller.
pub(super) fn failure(error: &RedisError) -> ScalerError {
    let what = crate::http::shorten(&error.to_string());
    match error.code() {
        Some("NOAUTH" | "WRONGPASS" | "NOPERM") => ScalerError::Unauthorized { what },
        Some("WRONGTYPE" | "ERR") => ScalerError::Misconfigured { what },
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => ScalerError::Unauthorized { what },
        // LOADING, CLUSTERDOWN, MASTERDOWN and the like pass, and so does a silent server.
        _ => ScalerError::Unavailable(what.into()),
    }
}
