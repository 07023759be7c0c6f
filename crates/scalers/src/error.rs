//! Errors named after what to do next.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::time::Duration;

use thiserror::Error;

/// An error of some library, as a cause.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a source gave no number. Nothing is known then.
#[derive(Debug, Error)]
pub enum ScalerError {
    /// Ask again later.
    #[error("the source is not available")]
    Unavailable(#[source] BoxError),
    /// Ask again later; if it stays so, raise the trigger's `timeout`.
    #[error("the source did not answer within {after:?}")]
    TimedOut {
        /// The deadline.
        after: Duration,
    },
    /// Get other credentials.
    #[error("the source refuses us: {what}")]
    Unauthorized {
        /// What it said.
        what: String,
    },
    /// Tell a person: the same question will fail again.
    #[error("the source refuses the question: {what}")]
    Misconfigured {
        /// What it said, in its own words.
        what: String,
    },
    /// Tell a person if it stays so: the answer is understood, and is not one finite number.
    #[error("{what}")]
    NoNumber {
        /// What the answer is instead.
        what: String,
    },
}

impl ScalerError {
    /// [`NoNumber`](Self::NoNumber).
    pub(crate) fn no_number(what: impl Into<String>) -> Self {
        Self::NoNumber { what: what.into() }
    }

    /// The error and its causes in one line.
    pub fn text(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a string does not fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}

/// Why a trigger cannot be used as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildError {
    /// The field of the trigger: `type`, `authenticationRef`, `metricType`, or a key of `metadata`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// What else is wrong. These have no further errors in them.
    pub more: Vec<BuildError>,
}

impl BuildError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into(), more: Vec::new() }
    }

    /// All errors in one; `None` when there are none.
    pub fn several(errors: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        first.more.extend(errors);
        Some(first)
    }

    /// Every field that is wrong, with what is wrong with it.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        std::iter::once(self).chain(&self.more).map(|error| (error.field.as_str(), error.message.as_str()))
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, message)) in self.each().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            write!(f, "{between}{field}: {message}")?;
        }
        Ok(())
    }
}

impl Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_are_printed_once_and_in_order() {
        let cause: BoxError = "connection refused".into();
        assert_eq!(ScalerError::Unavailable(cause).text(), "the source is not available: connection refused");
    }
}
