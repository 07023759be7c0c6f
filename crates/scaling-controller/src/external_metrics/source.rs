//! The ScaledObjects' triggers as a source of external metrics.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{ExternalMetricValue, MetricError, MetricSource, Selector};
use crate::{AnswerError, Sources};

/// The label by which an HPA says whose metric it wants.
const OBJECT_LABEL: &str = scaling::hpa::OBJECT_LABEL;

#[async_trait]
impl MetricSource for Sources {
    /// Other labels in the selector are ignored, as KEDA ignores them.
    async fn read(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<ExternalMetricValue>, MetricError> {
        let Some(name) = selector.exact(OBJECT_LABEL) else {
            let what = format!("scaledObject name is not specified: the label selector has no {OBJECT_LABEL}=NAME");
            return Err(MetricError::BadRequest { what });
        };
        let answer = self.answer(namespace, name, metric).await?;
        Ok(vec![ExternalMetricValue {
            metric_name: metric.to_owned(),
            labels: [(OBJECT_LABEL.to_owned(), name.to_owned())].into(),
            timestamp: Timestamp::now(),
            value: answer.value,
        }])
    }
}

impl From<AnswerError> for MetricError {
    fn from(error: AnswerError) -> Self {
        let text = error.to_string();
        match error {
            AnswerError::NotSynced => Self::Unavailable { why: text },
            AnswerError::NoObject(_) | AnswerError::NoMetric { .. } => Self::NotFound { what: text },
            AnswerError::Refused { .. } | AnswerError::Unknown { .. } => Self::Unknown { why: text },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectKey;

    #[test]
    fn what_the_controller_cannot_answer_keeps_its_reason_and_gets_the_right_kind() {
        let object = || ObjectKey { namespace: "shop".to_owned(), name: "cart".to_owned() };
        let (metric, what) = (|| "s0-prometheus".to_owned(), || "connection refused".to_owned());
        for (error, code, text) in [
            (AnswerError::NotSynced, 503, "does not know"),
            (AnswerError::NoObject(object()), 404, "shop/cart"),
            (AnswerError::NoMetric { object: object(), metric: metric() }, 404, "s0-prometheus"),
            (AnswerError::Refused { object: object(), what: what() }, 500, "connection refused"),
            (AnswerError::Unknown { metric: metric(), what: what() }, 500, "connection refused"),
        ] {
            let told = MetricError::from(error);
            assert_eq!(told.reason().code().as_u16(), code, "{told}");
            assert!(told.to_string().contains(text), "{told}");
        }
    }
}
