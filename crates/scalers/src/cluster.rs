//! The port through which triggers count what is in the cluster.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::ScalerError;

/// A pod that is neither `Succeeded` nor `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LivePod {
    /// The node it is bound to.
    pub node: Option<String>,
}

/// What triggers may ask the cluster.
#[async_trait]
pub trait Cluster: Send + Sync + Debug {
    /// The pods that match a label selector, without those that have ended.
    ///
    /// # Errors
    /// See [`ScalerError`]: nothing is known then.
    async fn live_pods(&self, namespace: &str, selector: &str) -> Result<Vec<LivePod>, ScalerError>;

    /// The addresses (`10.0.0.7`) of a Service's ready endpoints.
    ///
    /// # Errors
    /// See [`ScalerError`]: nothing is known then.
    async fn ready_endpoints(&self, namespace: &str, service: &str) -> Result<Vec<String>, ScalerError>;
}
