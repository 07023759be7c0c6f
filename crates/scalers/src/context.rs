//! A trigger as its manifest wrote it, and how its settings are read.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use scaling::Target;
use units::Milli;

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

/// What a scaler is built from.
#[derive(Debug, Clone, Copy)]
pub struct TriggerContext<'a> {
    /// The position among the object's triggers; part of the metric's name.
    pub index: usize,
    /// `metadata` as written.
    pub metadata: &'a BTreeMap<String, String>,
    /// `metricType`, if written.
    pub metric_type: Option<MetricType>,
    /// The trigger has an `authenticationRef`. Credentials are not resolved yet, so such a trigger is refused: to ask
    /// without them could read another tenant's numbers.
    pub has_authentication: bool,
    /// The shared HTTP clients.
    pub http: &'a Arc<Http>,
}

/// Typed access to `metadata` that remembers what was asked for.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    metadata: &'a BTreeMap<String, String>,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> TriggerContext<'a> {
    /// Starts reading the settings.
    pub(crate) fn fields(&self) -> Result<Fields<'a>, BuildError> {
        if self.has_authentication {
            return Err(BuildError::new(
                "authenticationRef",
                "credentials from a TriggerAuthentication are not supported yet; the trigger is not asked without them",
            ));
        }
        Ok(Fields { metadata: self.metadata, read: RefCell::default() })
    }

    /// The target of an external metric.
    pub(crate) fn target(&self, amount: Milli) -> Result<Target, BuildError> {
        match self.metric_type {
            None | Some(MetricType::AverageValue) => Ok(Target::AverageValue(amount)),
            Some(MetricType::Value) => Ok(Target::Value(amount)),
            Some(MetricType::Utilization) => {
                Err(BuildError::new("metricType", "Utilization is for cpu and memory only; use AverageValue or Value"))
            }
        }
    }
}

impl<'a> Fields<'a> {
    /// A text that is not empty.
    pub(crate) fn text(&self, key: &'static str) -> Option<&'a str> {
        self.read.borrow_mut().insert(key);
        self.metadata.get(key).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    /// A text that has to be there.
    pub(crate) fn required(&self, key: &'static str) -> Result<&'a str, BuildError> {
        self.text(key).ok_or_else(|| BuildError::new(key, "is required"))
    }

    /// A boolean as Go reads it.
    pub(crate) fn flag(&self, key: &'static str, default: bool) -> Result<bool, BuildError> {
        match self.text(key) {
            None => Ok(default),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(other) => Err(BuildError::new(key, format!("{other:?} is not true or false"))),
        }
    }

    /// A finite number.
    pub(crate) fn number(&self, key: &'static str) -> Result<Option<Number>, BuildError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let error = |what: String| BuildError::new(key, what);
        let milli: Milli = text.parse().map_err(|e| error(format!("{e}")))?;
        // Quantities such as "500m" are not floats; their thousandths are exact enough.
        let float = text.parse::<f64>().unwrap_or_else(|_| milli.to_f64());
        Ok(Some(Number { milli, float }))
    }

    /// `k=v,k2=v2`.
    pub(crate) fn pairs(&self, key: &'static str) -> Result<Vec<(&'a str, &'a str)>, BuildError> {
        let Some(text) = self.text(key) else { return Ok(Vec::new()) };
        text.split(',')
            .map(|part| match part.split_once('=') {
                Some((name, value)) if !name.trim().is_empty() => Ok((name.trim(), value.trim())),
                _ => Err(BuildError::new(key, format!("{part:?} is not NAME=VALUE"))),
            })
            .collect()
    }

    /// Settings nobody asked for, which are most likely typing errors.
    pub(crate) fn unread(&self) -> Vec<Notice> {
        let read = self.read.borrow();
        self.metadata
            .keys()
            .filter(|key| !read.contains(key.as_str()))
            .map(|key| Notice {
                field: key.clone(),
                message: "is not a setting of this trigger type; it has no effect".into(),
            })
            .collect()
    }
}

/// A number both exactly and as it is compared with a source's floating point number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    pub(crate) milli: Milli,
    pub(crate) float: f64,
}
