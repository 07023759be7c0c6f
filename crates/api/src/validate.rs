//! What is wrong with an object, beyond what its CRD refuses.
//!
//! The CRD holds what can be said in a schema; here is the rest, and again what older CRDs do not
//! refuse. Rules that need other objects (another ScaledObject on the same target, another HPA)
//! are the controllers'.

mod aws;
pub(crate) mod keda;
mod kubelet;
mod pools;

use crate::FieldError;

pub use aws::unknown_provider_fields;
pub use kubelet::kubelet_errors;

/// An object with rules of its own.
pub trait Validate {
    /// Everything that is wrong; empty if nothing is.
    fn errors(&self) -> Vec<FieldError>;
}

/// Everything that is wrong with an object; empty if nothing is.
pub fn validate<T: Validate>(object: &T) -> Vec<FieldError> {
    object.errors()
}

/// Checks `ok`, and otherwise remembers an error.
pub(crate) fn check(errors: &mut Vec<FieldError>, ok: bool, field: &str, message: impl Into<String>) {
    if !ok {
        errors.push(FieldError::new(field, message));
    }
}
