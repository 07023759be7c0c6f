//! Reads event sources: the port [`Scaler`], its errors, and one file per source.
//!
//! In: a trigger of a manifest ([`TriggerContext`]). Out: the metrics it stands for ([`MetricSpec`]) and, on demand, one
//! exact number per metric ([`Sampled`]) or a [`ScalerError`] that says what to do next.
//!
//! Promises: every read has a deadline and a bounded answer; a number is finite; a setting that is not understood is
//! refused with the name of its field, never ignored.
//!
//! Left to others: when to read, what to do with the number, and resolving credentials.
//!
//! To add a source: one file with a `connect`, a `sample` and a pure decode function; one line in [`build`]; its name
//! moves from *known* to *built* in [`catalog`].

pub mod catalog;
mod context;
mod duration;
mod error;
mod http;
pub mod prometheus;
pub mod resource;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use scaling::Target;
use units::Milli;

pub use context::{MetricType, Notice, TriggerContext};
pub use error::{BoxError, BuildError, ScalerError};
pub use http::{HTTP_TIMEOUT, Http, HttpError};

/// One metric a trigger stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSpec {
    /// The name the HPA asks by: `s0-prometheus`.
    pub name: String,
    /// What its value is compared with.
    pub target: Target,
}

/// One number, read just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// The value, exact to a thousandth; may be negative.
    pub value: Milli,
    /// Whether the source wants at least one replica (the value is above the activation threshold).
    pub active: bool,
    /// The source had no data, and the trigger says that this means 0.
    pub empty: bool,
}

/// A source of numbers.
///
/// Guarantees of an implementation: `metrics` is constant and does no I/O; `sample` ends within the source's deadline
/// and may be called by several tasks at once.
#[async_trait]
pub trait Scaler: Send + Sync + Debug {
    /// The name in the `scaler` label of `keda_scaler_*` metrics when the trigger has none: `prometheusScaler`.
    fn type_name(&self) -> &'static str;

    /// The metrics of this trigger. Never empty.
    fn metrics(&self) -> &[MetricSpec];

    /// What was accepted but has no effect, for the object's owner to read.
    fn notices(&self) -> &[Notice] {
        &[]
    }

    /// Reads one of [`metrics`](Self::metrics).
    ///
    /// # Errors
    /// See [`ScalerError`]; every one of them means that nothing is known.
    async fn sample(&self, metric: &str) -> Result<Sampled, ScalerError>;
}

/// Makes the scaler of an external trigger. Does no I/O.
///
/// cpu and memory are not read by us; see [`resource::metric`].
///
/// # Errors
/// The type is unknown, known but not there yet, or a setting is wrong; the error names the field.
pub fn build(trigger_type: &str, context: &TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError> {
    match trigger_type {
        "prometheus" => Ok(Arc::new(prometheus::Prometheus::connect(context)?)),
        other => Err(catalog::refusal(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_type_that_is_called_built_can_be_built_or_is_a_resource() {
        let metadata = BTreeMap::new();
        let http = Arc::new(Http::new(HTTP_TIMEOUT));
        let context =
            TriggerContext { index: 0, metadata: &metadata, metric_type: None, has_authentication: false, http: &http };
        for name in catalog::BUILT {
            if resource::is_resource(name) {
                continue;
            }
            let error = build(name, &context).expect_err("no setting is given");
            assert_ne!(error.field, "type", "{name}: {error}");
        }
    }
}
