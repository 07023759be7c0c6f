//! A trigger as its manifest wrote it, and what surrounds it.

use std::any::Any;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use scaling::Target;
use units::Milli;

use crate::cluster::Cluster;
use crate::error::BuildError;
use crate::http::Http;

/// `triggers[].metricType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricType {
    /// The value is divided by the current replicas.
    AverageValue,
    /// The value is compared as it is.
    Value,
    /// Per cent of the request; cpu and memory only.
    Utilization,
}

impl MetricType {
    /// The type of that name.
    ///
    /// # Errors
    /// There is no such type.
    pub fn parse(text: &str) -> Result<Self, BuildError> {
        match text {
            "AverageValue" => Ok(Self::AverageValue),
            "Value" => Ok(Self::Value),
            "Utilization" => Ok(Self::Utilization),
            other => Err(BuildError::new(
                "metricType",
                format!("{other:?} is not a metric type; use AverageValue, Value or Utilization"),
            )),
        }
    }
}

/// Something that was accepted but has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The field of the trigger.
    pub field: String,
    /// What the owner should know.
    pub message: String,
}

/// Whose identity is shown to a cloud. `podIdentity.provider` of the TriggerAuthentication.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Identity {
    /// Nobody's; credentials are parameters, if any.
    #[default]
    None,
    /// `aws`: the role, or the program's own credentials.
    Aws {
        /// ARN of the role to take on.
        role: Option<String>,
        /// `externalID` for that.
        external_id: Option<String>,
    },
    /// `azure-workload`: the program's federated token.
    Azure {
        /// Client id, instead of the program's own.
        client: Option<String>,
        /// Tenant id, instead of the program's own.
        tenant: Option<String>,
        /// Authority host, instead of the program's own.
        authority: Option<String>,
    },
    /// `gcp`: application default credentials.
    Gcp,
}

/// What `authenticationRef` gives.
#[derive(Debug, Clone, Copy)]
pub enum Authentication<'a> {
    /// The trigger has none.
    None,
    /// The parameters of the TriggerAuthentication.
    Resolved {
        /// By name; values may be secrets.
        parameters: &'a BTreeMap<String, String>,
        /// Its `podIdentity`.
        identity: &'a Identity,
    },
}

/// What a scaler is built from.
#[derive(Debug, Clone, Copy)]
pub struct TriggerContext<'a> {
    /// The position among the object's triggers; part of the metric's name.
    pub index: usize,
    /// `metadata` as written.
    pub metadata: &'a BTreeMap<String, String>,
    /// `metricType`, if written.
    pub metric_type: Option<MetricType>,
    /// What `authenticationRef` gives.
    pub authentication: Authentication<'a>,
    /// The environment of the scale target's container, for `<parameter>FromEnv`; `None` when it is not known.
    pub environment: Option<&'a BTreeMap<String, String>>,
    /// Namespace of the object.
    pub namespace: &'a str,
    /// Name of the object.
    pub name: &'a str,
    /// The HTTP clients and whatever else triggers share.
    pub http: &'a Arc<Http>,
    /// The cluster, for triggers that count its objects; `None` when they cannot be counted.
    pub cluster: Option<&'a Arc<dyn Cluster>>,
}

impl<'a> TriggerContext<'a> {
    /// A trigger without authentication, environment or cluster, of no object.
    pub fn new(index: usize, metadata: &'a BTreeMap<String, String>, http: &'a Arc<Http>) -> Self {
        Self {
            index,
            metadata,
            metric_type: None,
            authentication: Authentication::None,
            environment: None,
            namespace: "",
            name: "",
            http,
            cluster: None,
        }
    }

    /// Whose identity is shown to a cloud.
    pub(crate) fn identity(&self) -> &'a Identity {
        match self.authentication {
            Authentication::Resolved { identity, .. } => identity,
            Authentication::None => &Identity::None,
        }
    }

    /// What all triggers share that show the same identity and `login`: whatever else decides what a connection may see.
    ///
    /// # Errors
    /// It could not be made.
    pub(crate) fn shared<T: Any + Send + Sync, E>(
        &self,
        login: &impl Hash,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        self.http.shared.get(&(self.identity(), login), make)
    }

    /// Makes the target of an external metric.
    pub(crate) fn target(&self) -> Result<fn(Milli) -> Target, BuildError> {
        match self.metric_type {
            None | Some(MetricType::AverageValue) => Ok(Target::AverageValue),
            Some(MetricType::Value) => Ok(Target::Value),
            Some(MetricType::Utilization) => {
                Err(BuildError::new("metricType", "Utilization is for cpu and memory only; use AverageValue or Value"))
            }
        }
    }
}
