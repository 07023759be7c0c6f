//! Secret stores outside the cluster, from which credentials of triggers come.
//!
//! In: what a TriggerAuthentication says about a store, and what is needed to log in. Out: parameters by name, and how long
//! they may be used before the store is asked again. Errors are those of sources: [`ScalerError`] says what to do next.
//!
//! Promises: an answer is bounded; redirects stay on their host; no text of a secret reaches an error.

mod aws;
mod azure;
mod google;
mod vault;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

pub use aws::{AwsKeys, AwsSecret, AwsSecrets};
pub use azure::{AzureCloud, AzureKeys, AzureSecret, AzureVault};
pub use google::{GoogleKeys, GoogleSecret, GoogleSecrets};
pub use vault::{Vault, VaultKind, VaultSecret};

use crate::error::ScalerError;

/// How long values are used that do not say how long they last. Shorter than the default polling interval, so that a
/// rotated secret usually counts at the next poll; long enough that fast polls do not become a load, or a bill.
pub const STORE_AGAIN: Duration = Duration::from_secs(25);

/// What a store gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    /// By name; the values are secrets.
    pub parameters: BTreeMap<String, String>,
    /// How long they may be used.
    pub lasts: Duration,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

/// Puts the secret's name before what went wrong with it.
fn about(what: &str, error: &ScalerError) -> ScalerError {
    let text = format!("{what}: {}", error.text());
    match error {
        ScalerError::Unavailable(_) | ScalerError::TimedOut { .. } => ScalerError::Unavailable(text.into()),
        ScalerError::Unauthorized { .. } => ScalerError::Unauthorized { what: text },
        ScalerError::Misconfigured { .. } | ScalerError::NoNumber { .. } => ScalerError::Misconfigured { what: text },
    }
}

/// A JSON value as the text of a parameter. Lists of texts, such as chains of certificates, are put below each other.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Array(items) => Some(items.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join("\n"))
            .filter(|text| !text.is_empty()),
        Value::Null | Value::Object(_) => None,
    }
}
