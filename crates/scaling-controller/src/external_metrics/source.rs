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
