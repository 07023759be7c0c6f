//! `postgresql`: the number that a query gives.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; a query may take 15 s.

mod connection;

use std::hash::Hash;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor};

use crate::auth::tokens::Tokens;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, Secret, TriggerMetadata};
use crate::source::Connected;
use crate::sql::{Database, QUERY_TIMEOUT, Query, failure};
use connection::SslMode;

/// What tokens for Azure's databases are for.
const AZURE_SCOPE: &str = "https://ossrdbms-aad.database.windows.net/.default";

/// The number that a query gives: one row with one column.
///
/// No row, and NULL, are errors. Triggers that differ in nothing but the query and its values share connections: at most 16
/// of their queries are under way at a time, and each finds a session in which nobody has set anything.
#[derive(Debug, TriggerMetadata)]
#[trigger(some_of("connection", "host"))]
pub(crate) struct Settings {
    /// The server as a URL (`postgresql://user:password@host:5432/db?sslmode=require`) or in words
    /// (`host=db user=keda dbname=stats sslmode=require`).
    #[param(from(auth, env))]
    connection: Option<Secret>,
    /// The server's host, instead of a connection.
    #[param(from(auth, metadata))]
    host: Option<String>,
    /// Its port.
    #[param(from(auth, metadata))]
    port: Option<String>,
    /// User name.
    #[param(from(auth, metadata))]
    user_name: Option<String>,
    /// Password; with podIdentity azure-workload, a token takes its place.
    #[param(from(auth, env))]
    password: Option<Secret>,
    /// Name of the database.
    #[param(from(auth, metadata))]
    db_name: Option<String>,
    /// How the connection is encrypted. `require` does not verify the server's certificate, `verify-full` does.
    #[param(name = "sslmode", from(auth, metadata))]
    ssl_mode: Option<SslMode>,
    /// The query.
    query: String,
    /// The value one replica should have.
    #[param(above = "0")]
    target_query_value: Number,
    /// Active when the number is above this.
    #[param(default = "0")]
    activation_target_query_value: Number,
}

impl Settings {
    /// What decides what a connection may see.
    fn login(&self) -> impl Hash {
        let Self { connection, host, port, user_name, password, db_name, ssl_mode, .. } = self;
        (connection, host, port, user_name, password, db_name, ssl_mode)
    }
}

/// PostgreSQL.
pub(crate) struct PostgreSql {
    options: PgConnectOptions,
    /// Tokens that take the password's place.
    tokens: Option<Tokens>,
}

#[async_trait]
impl Database for PostgreSql {
    type Settings = Settings;
    type Line = PgConnection;
    const LABEL: &'static str = "postgreSQLScaler";
    const PASSED_ON: bool = true;

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Query<Self>>, BuildError> {
        let tokens = Tokens::of_azure(context, AZURE_SCOPE)?;
        let server = Self { options: settings.options(tokens.is_some())?.disable_statement_logging(), tokens };
        let query = Query::new(context, server, &settings.login(), settings.query.clone());
        let (target, activation) = (settings.target_query_value, settings.activation_target_query_value);
        Ok(Connected::new(context, query, "postgresql", target, activation).within(QUERY_TIMEOUT))
    }

    async fn dial(&self) -> Result<PgConnection, ScalerError> {
        let connected = match &self.tokens {
            Some(tokens) => self.options.clone().password(tokens.get().await?.reveal()).connect().await,
            None => self.options.connect().await,
        };
        connected.map_err(|error| failure(&error))
    }

    async fn clean(&self, connection: &mut PgConnection) -> Result<(), ScalerError> {
        // It is refused within a transaction; such a connection is not used again.
        connection.execute("DISCARD ALL").await.map(drop).map_err(|error| failure(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Trigger;

    const QUESTION: [(&str, &str); 2] = [("query", "SELECT 1"), ("targetQueryValue", "2.2")];
    const PLACE: [(&str, &str); 5] =
        [("host", "db"), ("port", "5432"), ("userName", "keda"), ("dbName", "stats"), ("sslmode", "disable")];

    #[test]
    fn a_server_is_named_in_one_of_two_ways() {
        let trigger = Trigger::new(&[&QUESTION[..], &PLACE].concat()).auth(&[("password", "hunter2")]);
        let scaler = trigger.build::<Query<PostgreSql>>().unwrap();
        assert_eq!(scaler.metrics()[0].name, "s0-postgresql");
        for text in ["postgres://u:hunter2@db/stats", "host=db user=u password=hunter2"] {
            let connected =
                Trigger::new(&QUESTION).auth(&[("connection", text)]).connect::<Query<PostgreSql>>().unwrap();
            assert_eq!(connected.source.database.options.get_host(), "db");
            assert!(!format!("{connected:?}").contains("hunter2"));
        }
    }
}
