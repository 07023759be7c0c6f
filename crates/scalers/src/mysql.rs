//! `mysql`: the number that a query gives, from MySQL or MariaDB.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; a query may take 15 s; a DSN that names its own TLS settings (`tls=custom`) is refused.

mod dsn;

use std::hash::Hash;

use async_trait::async_trait;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, Secret, TriggerMetadata};
use crate::source::Connected;
use crate::sql::{Database, QUERY_TIMEOUT, Query, failure, needs, place};
use dsn::Dsn;

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

    /// The server, and the database's name as the metric has it.
    fn place(&self) -> Result<(Dsn, String), BuildError> {
        const OR: &str = "connectionString";
        if let Some(text) = &self.connection_string {
            let dsn = text.reveal().parse::<Dsn>();
            let dsn = dsn.map_err(|what| BuildError::new("authenticationRef connectionString", what))?;
            // As KEDA: whatever follows the last slash.
            let database = text.reveal().rsplit_once('/').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
            return Ok((dsn, database));
        }
        let (host, port) = place(self.host.as_ref(), self.port.as_ref(), OR)?;
        let database = needs("dbName", self.db_name.as_ref(), OR)?;
        let user = Some(needs("username", self.username.as_ref(), OR)?);
        let password = Some(self.password.clone().ok_or_else(|| BuildError::new("password", "is required"))?);
        Ok((Dsn { user, password, host, port, database: database.clone(), ..Dsn::default() }, database))
    }
}

/// MySQL or MariaDB.
pub(crate) struct MySql {
    options: MySqlConnectOptions,
    /// `SET …`, when the DSN has variables.
    variables: Option<String>,
}

#[async_trait]
impl Database for MySql {
    type Settings = Settings;
    type Line = MySqlConnection;
    const LABEL: &'static str = "mySQLScaler";
    // The library cannot reset a session, so what a query has set would be seen by another.
    const PASSED_ON: bool = false;

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Query<Self>>, BuildError> {
        let (dsn, database) = settings.place()?;
        let server = Self { options: dsn.options(), variables: dsn.variables() };
        let query = Query::new(context, server, &settings.login(), settings.query.clone());
        let (target, activation) = (settings.query_value, settings.activation_query_value);
        Ok(Connected::new(context, query, format!("mysql-{database}"), target, activation).within(QUERY_TIMEOUT))
    }

    async fn dial(&self) -> Result<MySqlConnection, ScalerError> {
        let mut connection = self.options.connect().await.map_err(|error| failure(&error))?;
        if let Some(variables) = &self.variables {
            let set = connection.execute(sqlx::raw_sql(AssertSqlSafe(variables.as_str()))).await;
            set.map_err(|error| failure(&error))?;
        }
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, refusal};

    const QUESTION: [(&str, &str); 2] = [("query", "SELECT COUNT(*) FROM test;"), ("queryValue", "4")];
    const PLACE: [(&str, &str); 4] = [("host", "db"), ("port", "3306"), ("dbName", "a.b"), ("username", "keda")];

    #[test]
    fn a_server_is_named_in_one_of_two_ways() {
        let trigger = Trigger::new(&[&QUESTION[..], &PLACE].concat()).auth(&[("password", "hunter2")]);
        assert_eq!(trigger.build::<Query<MySql>>().unwrap().metrics()[0].name, "s0-mysql-a-b");
        let connected = trigger.connect::<Query<MySql>>().unwrap();
        assert_eq!((connected.name.as_str(), connected.target.float), ("mysql-a.b", 4.0));
        assert!(!format!("{connected:?}").contains("hunter2"));
        let dsn = Trigger::new(&QUESTION).auth(&[("connectionString", "u:p/w@tcp(db:3306)/test?tls=true")]);
        assert_eq!(dsn.connect::<Query<MySql>>().unwrap().name, "mysql-test?tls=true");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |place: &[(&str, &str)]| refusal::<Query<MySql>>(&[&QUESTION[..], place].concat());
        for (given, wanted) in [(1, "port"), (2, "dbName"), (3, "username"), (4, "password")] {
            assert_eq!(missing(&PLACE[..given]), [wanted]);
        }
        assert_eq!(missing(&[("host", "db"), ("port", "x")]), ["port"]);
        let dsn = Trigger::new(&QUESTION).auth(&[("connectionString", "hunter2")]);
        let error = dsn.build::<Query<MySql>>().expect_err("no DSN");
        assert_eq!(error.field, "authenticationRef connectionString");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
