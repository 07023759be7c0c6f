//! `postgresql`: the number that a query gives.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; a query may take 15 s.

mod connection;

use std::fmt;
use std::hash::Hash;

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, Row};

use crate::auth::tokens::Tokens;
use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::kept::{Dial, Kept};
use crate::metadata::{Choice, Number, Secret, TriggerMetadata};
use crate::net::host_port;
use crate::source::{Connected, Reading, Source};
use crate::sql;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Choice)]
enum SslMode {
    #[value("disable")]
    Disable,
    #[value("allow")]
    Allow,
    #[value("prefer")]
    Prefer,
    #[value("require")]
    Require,
    #[value("verify-ca")]
    VerifyCa,
    #[value("verify-full")]
    VerifyFull,
}

impl Settings {
    /// What decides what a connection may see.
    fn login(&self) -> impl Hash {
        let Self { connection, host, port, user_name, password, db_name, ssl_mode, .. } = self;
        (connection, host, port, user_name, password, db_name, ssl_mode)
    }
}

impl From<SslMode> for PgSslMode {
    fn from(mode: SslMode) -> Self {
        match mode {
            SslMode::Disable => Self::Disable,
            SslMode::Allow => Self::Allow,
            SslMode::Prefer => Self::Prefer,
            SslMode::Require => Self::Require,
            SslMode::VerifyCa => Self::VerifyCa,
            SslMode::VerifyFull => Self::VerifyFull,
        }
    }
}

/// A query to a database.
pub(crate) struct PostgreSql {
    options: PgConnectOptions,
    /// Tokens that take the password's place.
    tokens: Option<Tokens>,
    query: String,
    kept: Kept<PgConnection>,
}

// The library's options would show the password.
impl fmt::Debug for PostgreSql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgreSql").field("query", &self.query).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for PostgreSql {
    type Settings = Settings;
    const LABEL: &'static str = "postgreSQLScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let tokens = tokens(context)?;
        let kept = Kept::new(context, &settings.login(), sql::QUERY_TIMEOUT);
        let source = Self {
            options: options(&settings, tokens.is_some())?.disable_statement_logging(),
            tokens,
            query: settings.query,
            kept,
        };
        Ok(Connected {
            source,
            name: "postgresql".into(),
            target: settings.target_query_value,
            activation: settings.activation_target_query_value.float,
            timeout: sql::QUERY_TIMEOUT,
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        self.kept.read(self).await
    }
}

#[async_trait]
impl Dial for PostgreSql {
    type Line = PgConnection;

    async fn dial(&self) -> Result<PgConnection, ScalerError> {
        let connected = match &self.tokens {
            Some(tokens) => self.options.clone().password(tokens.get().await?.reveal()).connect().await,
            None => self.options.connect().await,
        };
        connected.map_err(|error| sql::failure(&error))
    }

    async fn ask(&self, connection: &mut PgConnection) -> Result<Reading, ScalerError> {
        // As plain text, every kind of number looks the same. The query is the manifest's own, and nothing is put into it.
        let asked = connection.fetch_optional(sqlx::raw_sql(AssertSqlSafe(self.query.as_str()))).await;
        let Some(row) = asked.map_err(|error| sql::failure(&error))? else { return Err(sql::no_row()) };
        sql::one_column(row.len())?;
        sql::decode(row.try_get_unchecked(0).map_err(|error| sql::failure(&error))?)
    }

    async fn clean(&self, connection: &mut PgConnection) -> Result<(), ScalerError> {
        // It is refused within a transaction; such a connection is not used again.
        connection.execute("DISCARD ALL").await.map(drop).map_err(|error| sql::failure(&error))
    }

    async fn hang_up(&self, connection: PgConnection) {
        // It is over either way.
        let _ = connection.close().await;
    }
}

fn tokens(context: &TriggerContext<'_>) -> Result<Option<Tokens>, BuildError> {
    let Identity::Azure { client, tenant, authority } = context.identity() else { return Ok(None) };
    let http = context.http.client(true)?;
    Tokens::azure(http, client.as_deref(), tenant.as_deref(), authority.as_deref(), AZURE_SCOPE).map(Some)
}

fn options(settings: &Settings, has_tokens: bool) -> Result<PgConnectOptions, BuildError> {
    if let Some(text) = &settings.connection {
        return connection::options(text.reveal())
            .map_err(|what| BuildError::new("authenticationRef connection", what));
    }
    let needs = |name: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| BuildError::new(name, "is required, or connection"))
    };
    let (host, port) = (needs("host", &settings.host)?, needs("port", &settings.port)?);
    let (host, port) = host_port(&format!("{host}:{port}"), None).map_err(|what| BuildError::new("port", what))?;
    let (user, database) = (needs("userName", &settings.user_name)?, needs("dbName", &settings.db_name)?);
    let mode = settings.ssl_mode.ok_or_else(|| BuildError::new("sslmode", "is required, or connection"))?;
    let options = PgConnectOptions::new_without_pgpass().host(&host).port(port).username(&user).database(&database);
    let options = options.ssl_mode(mode.into());
    match &settings.password {
        Some(password) => Ok(options.password(password.reveal())),
        None if has_tokens => Ok(options),
        None => Err(BuildError::new("password", "is required, or a podIdentity")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, refusal};

    const QUESTION: [(&str, &str); 2] = [("query", "SELECT 1"), ("targetQueryValue", "2.2")];
    const PLACE: [(&str, &str); 5] =
        [("host", "db"), ("port", "5432"), ("userName", "keda"), ("dbName", "stats"), ("sslmode", "disable")];

    #[test]
    fn a_server_is_named_in_one_of_two_ways() {
        let trigger = Trigger::new(&[&QUESTION[..], &PLACE].concat()).auth(&[("password", "hunter2")]);
        let scaler = trigger.build::<PostgreSql>().unwrap();
        assert_eq!(scaler.metrics()[0].name, "s0-postgresql");
        for text in ["postgres://u:hunter2@db/stats", "host=db user=u password=hunter2"] {
            let connected = Trigger::new(&QUESTION).auth(&[("connection", text)]).connect::<PostgreSql>().unwrap();
            assert_eq!(connected.source.options.get_host(), "db");
            assert!(!format!("{connected:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(refusal::<PostgreSql>(&[]), ["query", "targetQueryValue", "connection"]);
        for (given, missing) in [(1, "port"), (2, "userName"), (3, "dbName"), (4, "sslmode"), (5, "password")] {
            let metadata = [&QUESTION[..], &PLACE[..given]].concat();
            assert_eq!(refusal::<PostgreSql>(&metadata), [missing]);
        }
        let mode = [&QUESTION[..], &PLACE[..4], &[("sslmode", "on")]].concat();
        assert_eq!(refusal::<PostgreSql>(&mode), ["sslmode"]);
        let odd = Trigger::new(&QUESTION).auth(&[("connection", "password=hunter2 port=x")]);
        let error = odd.build::<PostgreSql>().expect_err("a port that is none");
        assert_eq!(error.field, "authenticationRef connection");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
