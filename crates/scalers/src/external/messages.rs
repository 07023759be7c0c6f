//! The messages of `proto/externalscaler.proto`, and what their numbers mean. They are few, so they are written by hand
//! instead of by a build script.

use std::collections::HashMap;

use prost::Message;
use units::Milli;

use crate::error::ScalerError;
use crate::source::Reading;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScaledObjectRef {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) namespace: String,
    #[prost(map = "string, string", tag = "3")]
    pub(super) scaler_metadata: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct IsActiveResponse {
    #[prost(bool, tag = "1")]
    pub(super) result: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMetricSpecResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) metric_specs: Vec<Spec>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Spec {
    #[prost(string, tag = "1")]
    pub(super) metric_name: String,
    #[prost(int64, tag = "2")]
    pub(super) target_size: i64,
    #[prost(double, tag = "3")]
    pub(super) target_size_float: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMetricsRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) scaled_object_ref: Option<ScaledObjectRef>,
    #[prost(string, tag = "2")]
    pub(super) metric_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMetricsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(super) metric_values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
#[expect(clippy::struct_field_names, reason = "the fields are named as in the .proto")]
pub(super) struct Value {
    #[prost(string, tag = "1")]
    pub(super) metric_name: String,
    #[prost(int64, tag = "2")]
    pub(super) metric_value: i64,
    #[prost(double, tag = "3")]
    pub(super) metric_value_float: f64,
}

impl Spec {
    /// What one replica should have: the newer field counts if it is above 0, else the older one.
    ///
    /// # Errors
    /// It is not a number above 0: [`ScalerError::Misconfigured`].
    pub(super) fn target(&self) -> Result<Milli, ScalerError> {
        let exact = if self.target_size_float > 0.0 {
            Milli::try_from_f64(self.target_size_float)
        } else {
            Milli::from_units(self.target_size)
        };
        let what = match exact {
            Ok(above) if above > Milli::ZERO => return Ok(above),
            Ok(_) => "is not above 0".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(ScalerError::Misconfigured { what: format!("the target of the metric {:?} {what}", self.metric_name) })
    }
}

/// The sum of all values of a metric; of each, the newer field counts if it is above 0, else the older one.
///
/// # Errors
/// There is none, or one is not finite: [`ScalerError::NoNumber`].
pub(super) fn sum(values: &[Value]) -> Result<Reading, ScalerError> {
    if values.is_empty() {
        return Err(ScalerError::no_number("the server gives no value"));
    }
    let mut sum = 0.0;
    for value in values {
        // NaN is not above 0 and must not hide behind the older field.
        sum += if value.metric_value_float > 0.0 || value.metric_value_float.is_nan() {
            value.metric_value_float
        } else {
            Reading::count(value.metric_value)?.float
        };
    }
    Reading::number(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(whole: i64, float: f64) -> Value {
        Value { metric_name: "m".into(), metric_value: whole, metric_value_float: float }
    }

    #[test]
    fn the_newer_field_counts_if_it_is_above_zero() {
        let said = |values: &[Value]| sum(values).map_or_else(|_| "none".into(), |reading| reading.milli.to_string());
        assert_eq!(said(&[value(3, 0.0)]), "3");
        assert_eq!(said(&[value(3, 2.5)]), "2.5");
        assert_eq!(said(&[value(-3, 0.0)]), "-3");
        assert_eq!(said(&[value(3, 0.0), value(0, 0.5)]), "3.5");
        for nothing in [vec![], vec![value(3, f64::NAN)], vec![value(3, f64::INFINITY)]] {
            assert_eq!(said(&nothing), "none");
        }
        let spec = |whole, float| Spec { metric_name: "m".into(), target_size: whole, target_size_float: float };
        assert_eq!(spec(5, 0.0).target().unwrap().to_string(), "5");
        assert_eq!(spec(5, 0.5).target().unwrap().to_string(), "0.5");
        for wrong in [spec(0, 0.0), spec(-1, 0.0), spec(1, f64::INFINITY)] {
            assert!(wrong.target().is_err(), "{wrong:?}");
        }
    }
}
