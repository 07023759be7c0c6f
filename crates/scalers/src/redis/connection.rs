//! One connection for all triggers with the same login, made when it is first needed and again after it broke. It takes many
//! commands at a time, and none of ours changes what the next one means.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::sentinel::SentinelClient;
use redis::{Cmd, FromRedisValue, RedisError};
use tokio::sync::Mutex;

use crate::error::ScalerError;

/// Where the connection comes from.
pub(crate) struct Server(Mutex<State>);

struct State {
    client: Client,
    kept: Option<Connection>,
    /// How many connections there have been.
    dialled: u64,
}

enum Client {
    One(Box<redis::Client>),
    Cluster(Box<ClusterClient>),
    Sentinels(Box<SentinelClient>),
}

/// A connection, and which one it is.
pub(super) struct Line {
    pub(super) connection: Connection,
    pub(super) is_new: bool,
    number: u64,
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
        Self(Mutex::new(State { client, kept: None, dialled: 0 }))
    }

    /// The kept connection, or a new one.
    ///
    /// # Errors
    /// See [`ScalerError`].
    pub(super) async fn line(&self) -> Result<Line, ScalerError> {
        // Who comes while one connects waits for that connection.
        let mut state = self.0.lock().await;
        if let Some(connection) = state.kept.clone() {
            return Ok(Line { connection, is_new: false, number: state.dialled });
        }
        let made = match &mut state.client {
            Client::One(client) => client.get_multiplexed_async_connection().await.map(Connection::Node),
            Client::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            Client::Sentinels(client) => client.get_async_connection().await.map(Connection::Node),
        };
        let connection = made.map_err(|error| failure(&error))?;
        state.kept = Some(connection.clone());
        state.dialled += 1;
        Ok(Line { connection, is_new: true, number: state.dialled })
    }

    /// This connection is broken; somebody may have made another one already.
    pub(super) async fn forget(&self, line: &Line) {
        let mut state = self.0.lock().await;
        if state.dialled == line.number {
            state.kept = None;
        }
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
