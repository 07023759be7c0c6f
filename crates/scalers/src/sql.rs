//! What the SQL databases have in common: one number in the first row, and what a refusal means.

use std::time::Duration;

use sqlx::error::DatabaseError;

use crate::error::ScalerError;
use crate::http::shorten;
use crate::source::Reading;

/// How long connecting and the query may take together. Queries count rows, so this is longer than for other sources.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(15);

/// The number in a field; `None` for NULL.
///
/// # Errors
/// There is no number: [`ScalerError::NoNumber`].
pub(crate) fn decode(field: Option<&str>) -> Result<Reading, ScalerError> {
    field.map_or_else(|| Err(no_number("the query gives NULL")), Reading::text)
}

/// The query gives no row.
pub(crate) fn no_row() -> ScalerError {
    no_number("the query gives no row")
}

/// The query gives rows of another width.
///
/// # Errors
/// There is not exactly one column: [`ScalerError::Misconfigured`].
pub(crate) fn one_column(columns: usize) -> Result<(), ScalerError> {
    if columns == 1 {
        return Ok(());
    }
    Err(ScalerError::Misconfigured { what: format!("the query gives {columns} columns; it must give one number") })
}

fn no_number(what: &str) -> ScalerError {
    ScalerError::NoNumber { what: what.to_owned() }
}

/// What an error of a database means for the caller.
pub(crate) fn failure(error: &sqlx::Error) -> ScalerError {
    match error {
        sqlx::Error::Database(refusal) => refused(refusal.as_ref()),
        sqlx::Error::ColumnDecode { source, .. } | sqlx::Error::Decode(source) => {
            ScalerError::NoNumber { what: format!("the source gives no usable number: {source}") }
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
