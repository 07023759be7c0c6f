//! `mysql`: the number that a query gives, from MySQL or MariaDB.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; a query may take 15 s; a DSN that names its own TLS settings (`tls=custom`) is refused.

mod dsn;

use std::fmt;
use std::hash::Hash;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor, Row};

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::kept::{Dial, Kept};
use crate::metadata::{Number, Secret, TriggerMetadata};
use crate::net::host_port;
use crate::source::{Connected, Reading, Source};
use crate::sql;
use dsn::{Dsn, Tls};

/// The number that a query gives, from MySQL or MariaDB: one row with one column.
///
/// No row, and NULL, are errors. Of triggers that differ in nothing but the query and its values, at most 16 queries are under
/// way at a time, and four connections are kept between them, each for the trigger that made it.
#[derive(Debug, TriggerMetadata)]
#[trigger(some_of("connectionString", "host"))]
pub(crate) struct Settings {
    /// The server as a DSN of Go's driver: `user:password@tcp(host:3306)/db?tls=skip-verify`.
    #[param(from(auth, env))]
    connection_string: Option<Secret>,
    /// The server's host, instead of a DSN.
    #[param(from(auth, metadata, env))]
    host: Option<String>,
    /// Its port.
    #[param(from(auth, metadata, env))]
    port: Option<String>,
    /// User name.
    #[param(from(auth, metadata, env))]
    username: Option<String>,
    /// Password.
    #[param(from(auth, env))]
    password: Option<Secret>,
    /// Name of the database.
    #[param(from(auth, metadata, env))]
    db_name: Option<String>,
    /// The query.
    query: String,
    /// The value one replica should have.
    #[param(above = "0")]
    query_value: Number,
    /// Active when the number is above this.
    #[param(default = "0")]
    activation_query_value: Number,
}

impl Settings {
    /// What decides what a connection may see.
    fn login(&self) -> impl Hash {
        let Self { connection_string, host, port, username, password, db_name, .. } = self;
        (connection_string, host, port, username, password, db_name)
    }
}

/// A query to a database.
pub(crate) struct MySql {
    options: MySqlConnectOptions,
    /// `SET …`, when the DSN has variables.
    variables: Option<String>,
    query: String,
    kept: Kept<MySqlConnection>,
}

// The library's options would show the password.
impl fmt::Debug for MySql {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySql").field("query", &self.query).finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for MySql {
    type Settings = Settings;
    const LABEL: &'static str = "mySQLScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let (dsn, database) = place(&settings)?;
        let kept = Kept::new(context, &settings.login(), sql::QUERY_TIMEOUT);
        let source = Self { options: options(&dsn), variables: dsn.variables(), query: settings.query, kept };
        Ok(Connected {
            source,
            name: format!("mysql-{database}"),
            target: settings.query_value,
            activation: settings.activation_query_value.float,
            timeout: sql::QUERY_TIMEOUT,
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        self.kept.read(self).await
    }
}

#[async_trait]
impl Dial for MySql {
    type Line = MySqlConnection;

    // The library cannot reset a session, so what a query has set would be seen by another.
    const PASSED_ON: bool = false;

    async fn dial(&self) -> Result<MySqlConnection, ScalerError> {
        let mut connection = self.options.connect().await.map_err(|error| sql::failure(&error))?;
        if let Some(variables) = &self.variables {
            let set = sqlx::raw_sql(AssertSqlSafe(variables.as_str())).execute(&mut connection).await;
            set.map_err(|error| sql::failure(&error))?;
        }
        Ok(connection)
    }

    async fn ask(&self, connection: &mut MySqlConnection) -> Result<Reading, ScalerError> {
        // As plain text, every kind of number looks the same. The query is the manifest's own, and nothing is put into it.
        let asked = connection.fetch_optional(sqlx::raw_sql(AssertSqlSafe(self.query.as_str()))).await;
        let Some(row) = asked.map_err(|error| sql::failure(&error))? else { return Err(sql::no_row()) };
        sql::one_column(row.len())?;
        sql::decode(row.try_get_unchecked(0).map_err(|error| sql::failure(&error))?)
    }

    async fn hang_up(&self, connection: MySqlConnection) {
        // It is over either way.
        let _ = connection.close().await;
    }
}

/// The server, and the database's name as the metric has it.
fn place(settings: &Settings) -> Result<(Dsn, String), BuildError> {
    if let Some(text) = &settings.connection_string {
        let dsn = text.reveal().parse::<Dsn>();
        let dsn = dsn.map_err(|what| BuildError::new("authenticationRef connectionString", what))?;
        // As KEDA: whatever follows the last slash.
        let database = text.reveal().rsplit_once('/').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        return Ok((dsn, database));
    }
    let needs = |name: &str, value: &Option<String>| {
        value.clone().ok_or_else(|| BuildError::new(name, "is required, or connectionString"))
    };
    let (host, port) = (needs("host", &settings.host)?, needs("port", &settings.port)?);
    let (host, port) = host_port(&format!("{host}:{port}"), None).map_err(|what| BuildError::new("port", what))?;
    let database = needs("dbName", &settings.db_name)?;
    let dsn = Dsn {
        user: Some(needs("username", &settings.username)?),
        password: Some(settings.password.clone().ok_or_else(|| BuildError::new("password", "is required"))?),
        host,
        port,
        database: database.clone(),
        ..Dsn::default()
    };
    Ok((dsn, database))
}

fn options(dsn: &Dsn) -> MySqlConnectOptions {
    // The session is left as the server has it, so that a query means what it means to its writer.
    let mut options = MySqlConnectOptions::new()
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .timezone(None)
        .set_names(false)
        .database(&dsn.database)
        .ssl_mode(match dsn.tls {
            Tls::None => MySqlSslMode::Disabled,
            Tls::Preferred => MySqlSslMode::Preferred,
            Tls::Unverified => MySqlSslMode::Required,
            Tls::Verified => MySqlSslMode::VerifyIdentity,
        })
        .disable_statement_logging();
    options = match &dsn.socket {
        Some(path) => options.socket(path),
        None => options.host(&dsn.host).port(dsn.port),
    };
    if let Some(user) = &dsn.user {
        options = options.username(user);
    }
    if let Some(password) = &dsn.password {
        options = options.password(password.reveal());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, refusal};

    const QUESTION: [(&str, &str); 2] = [("query", "SELECT COUNT(*) FROM test;"), ("queryValue", "4")];

    #[test]
    fn a_server_is_named_in_one_of_two_ways() {
        let place = [("host", "db"), ("port", "3306"), ("username", "keda"), ("dbName", "stats")];
        let trigger = Trigger::new(&[&QUESTION[..], &place].concat()).auth(&[("password", "hunter2")]);
        let connected = trigger.connect::<MySql>().unwrap();
        assert_eq!((connected.name.as_str(), connected.target.float), ("mysql-stats", 4.0));
        assert!(!format!("{connected:?}").contains("hunter2"));
        let dsn = Trigger::new(&QUESTION).auth(&[("connectionString", "u:p/w@tcp(db:3306)/test?tls=true")]);
        assert_eq!(dsn.connect::<MySql>().unwrap().name, "mysql-test?tls=true");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(refusal::<MySql>(&[]), ["query", "queryValue", "connectionString"]);
        let missing = |place: &[(&str, &str)]| refusal::<MySql>(&[&QUESTION[..], place].concat());
        assert_eq!(missing(&[("host", "db")]), ["port"]);
        assert_eq!(missing(&[("host", "db"), ("port", "x")]), ["port"]);
        assert_eq!(missing(&[("host", "db"), ("port", "1")]), ["dbName"]);
        assert_eq!(missing(&[("host", "db"), ("port", "1"), ("dbName", "d")]), ["username"]);
        assert_eq!(missing(&[("host", "db"), ("port", "1"), ("dbName", "d"), ("username", "u")]), ["password"]);
        let dsn = Trigger::new(&QUESTION).auth(&[("connectionString", "hunter2")]);
        let error = dsn.build::<MySql>().expect_err("no DSN");
        assert_eq!(error.field, "authenticationRef connectionString");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn a_metric_is_named_after_the_database() {
        let place = [("host", "db"), ("port", "3306"), ("username", "keda"), ("dbName", "a.b")];
        let trigger = Trigger::new(&[&QUESTION[..], &place].concat()).auth(&[("password", "x")]);
        assert_eq!(trigger.build::<MySql>().unwrap().metrics()[0].name, "s0-mysql-a-b");
    }
}
