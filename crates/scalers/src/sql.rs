//! What the SQL databases have in common: a query whose first row is one number, and what a refusal means.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, ColumnIndex, Connection, Decode, Executor, Row};

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::shorten;
use crate::kept::{Dial, Kept};
use crate::metadata::{Timeout, TriggerMetadata};
use crate::net::host_port;
use crate::source::{Connected, Reading, Source};

/// How long connecting and the query may take together. Queries count rows, so this is longer than for other sources.
pub(crate) const QUERY_TIMEOUT: Timeout = Timeout(Duration::from_secs(15));

/// A database: what a file of this crate implements. The source is [`Query`].
#[async_trait]
pub(crate) trait Database: Send + Sync + Sized + 'static {
    /// What may be written in the trigger.
    type Settings: TriggerMetadata;
    /// A connection.
    type Line: Ask;

    /// See [`Source::LABEL`].
    const LABEL: &'static str;

    /// See [`Dial::PASSED_ON`].
    const PASSED_ON: bool;

    /// See [`Source::connect`].
    ///
    /// # Errors
    /// What concerns several settings, or cannot be done.
    fn connect(settings: Self::Settings, context: &TriggerContext<'_>) -> Result<Connected<Query<Self>>, BuildError>;

    /// See [`Dial::dial`].
    ///
    /// # Errors
    /// See [`failure`].
    async fn dial(&self) -> Result<Self::Line, ScalerError>;

    /// See [`Dial::clean`].
    ///
    /// # Errors
    /// See [`failure`].
    async fn clean(&self, _line: &mut Self::Line) -> Result<(), ScalerError> {
        Ok(())
    }
}

/// A query to a database.
pub(crate) struct Query<D: Database> {
    pub(crate) database: D,
    text: String,
    kept: Kept<D::Line>,
}

impl<D: Database> Query<D> {
    /// `login` is whatever decides what a connection may see.
    pub(crate) fn new(context: &TriggerContext<'_>, database: D, login: &impl Hash, text: String) -> Self {
        Self { database, text, kept: Kept::new(context, login, QUERY_TIMEOUT.0) }
    }
}

// A library's options would show the password.
impl<D: Database> fmt::Debug for Query<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("text", &self.text).finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Database> Source for Query<D> {
    type Settings = D::Settings;
    const LABEL: &'static str = D::LABEL;

    fn connect(settings: D::Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        D::connect(settings, context)
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        self.kept.read(self).await
    }
}

#[async_trait]
impl<D: Database> Dial for Query<D> {
    type Line = D::Line;
    const PASSED_ON: bool = D::PASSED_ON;

    async fn dial(&self) -> Result<D::Line, ScalerError> {
        self.database.dial().await
    }

    async fn ask(&self, line: &mut D::Line) -> Result<Reading, ScalerError> {
        line.ask(&self.text).await
    }

    async fn clean(&self, line: &mut D::Line) -> Result<(), ScalerError> {
        self.database.clean(line).await
    }

    async fn hang_up(&self, line: D::Line) {
        line.hang_up().await;
    }
}

/// A connection that takes queries as plain text, so that every kind of number looks the same.
#[async_trait]
pub(crate) trait Ask: Send + 'static {
    /// The one number that a query gives.
    ///
    /// # Errors
    /// See [`failure`]; or the query gives something else.
    async fn ask(&mut self, query: &str) -> Result<Reading, ScalerError>;

    /// Ends the connection.
    async fn hang_up(self);
}

#[async_trait]
impl<C> Ask for C
where
    C: Connection + Send + 'static,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    usize: ColumnIndex<<C::Database as sqlx::Database>::Row>,
    for<'r> &'r str: Decode<'r, C::Database>,
{
    async fn ask(&mut self, query: &str) -> Result<Reading, ScalerError> {
        // The query is the manifest's own, and nothing is put into it.
        let asked = self.fetch_optional(sqlx::raw_sql(AssertSqlSafe(query))).await;
        let row = asked.map_err(|error| failure(&error))?;
        let row = row.ok_or_else(|| ScalerError::no_number("the query gives no row"))?;
        one_column(row.len())?;
        decode(row.try_get_unchecked(0).map_err(|error| failure(&error))?)
    }

    async fn hang_up(self) {
        // It is over either way.
        let _ = self.close().await;
    }
}

/// What a setting says that is required unless `or` is written.
///
/// # Errors
/// It says nothing.
pub(crate) fn needs(name: &str, value: Option<&String>, or: &str) -> Result<String, BuildError> {
    value.cloned().ok_or_else(|| BuildError::new(name, format!("is required, or {or}")))
}

/// What `host` and `port` say, which are required unless `or` is written.
///
/// # Errors
/// One of them is missing, or they are no address.
pub(crate) fn place(host: Option<&String>, port: Option<&String>, or: &str) -> Result<(String, u16), BuildError> {
    let (host, port) = (needs("host", host, or)?, needs("port", port, or)?);
    host_port(&format!("{host}:{port}"), None).map_err(|what| BuildError::new("port", what))
}

/// The number in a field; `None` for NULL.
///
/// # Errors
/// There is no number: [`ScalerError::NoNumber`].
fn decode(field: Option<&str>) -> Result<Reading, ScalerError> {
    field.map_or_else(|| Err(ScalerError::no_number("the query gives NULL")), Reading::text)
}

/// The query gives rows of another width.
///
/// # Errors
/// There is not exactly one column: [`ScalerError::Misconfigured`].
fn one_column(columns: usize) -> Result<(), ScalerError> {
    if columns == 1 {
        return Ok(());
    }
    Err(ScalerError::Misconfigured { what: format!("the query gives {columns} columns; it must give one number") })
}

/// What an error of a database means for the caller.
pub(crate) fn failure(error: &sqlx::Error) -> ScalerError {
    match error {
        sqlx::Error::Database(refusal) => refused(refusal.as_ref()),
        sqlx::Error::ColumnDecode { source, .. } | sqlx::Error::Decode(source) => {
            ScalerError::no_number(format!("the source gives no usable number: {source}"))
        }
        sqlx::Error::Configuration(cause) => ScalerError::Misconfigured { what: shorten(&cause.to_string()) },
        other => ScalerError::Unavailable(shorten(&other.to_string()).into()),
    }
}

fn refused(refusal: &dyn DatabaseError) -> ScalerError {
    by_state(refusal.code().as_deref(), refusal.message())
}

/// By SQLSTATE, which both databases use.
fn by_state(state: Option<&str>, message: &str) -> ScalerError {
    let what = shorten(message);
    let state = state.unwrap_or_default();
    match state.get(..2) {
        // Who are you; you may not.
        Some("28") => ScalerError::Unauthorized { what },
        Some("42") if state == "42501" => ScalerError::Unauthorized { what },
        // Syntax, names that are not there, values that do not fit.
        Some("42" | "3D" | "3F" | "22" | "21" | "0A" | "25") => ScalerError::Misconfigured { what },
        _ => ScalerError::Unavailable(what.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_number_is_a_number() {
        let said = |field: Option<&str>| decode(field).map_or_else(|e| e.text(), |reading| reading.milli.to_string());
        assert_eq!(said(Some("8")), "8");
        assert_eq!(said(Some("12.5000")), "12.5");
        assert_eq!(said(None), "the query gives NULL");
        for text in ["NaN", "many", "", "t"] {
            assert!(said(Some(text)).starts_with("the source gives no usable number"), "{text}");
        }
        assert!(one_column(1).is_ok() && one_column(0).is_err() && one_column(2).is_err());
    }

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let kind = |state: &str| match by_state(Some(state), "text") {
            ScalerError::Unauthorized { .. } => "credentials",
            ScalerError::Misconfigured { .. } => "question",
            _ => "later",
        };
        for (state, wanted) in [
            ("28P01", "credentials"),
            ("28000", "credentials"),
            ("42501", "credentials"),
            ("42601", "question"),
            ("42S02", "question"),
            ("42000", "question"),
            ("3D000", "question"),
            ("53300", "later"),
            ("57P03", "later"),
            ("08004", "later"),
            ("HY000", "later"),
            ("", "later"),
        ] {
            assert_eq!(kind(state), wanted, "{state}");
        }
    }
}
