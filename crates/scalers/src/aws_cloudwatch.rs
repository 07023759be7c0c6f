//! `aws-cloudwatch`: the latest value of a metric, or of an expression, of Amazon CloudWatch.
//!
//! Asked with one signed request of CloudWatch's query API; no SDK is needed for that.

mod answer;
mod question;

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::Url;

use crate::auth::aws::AwsAuth;
use crate::auth::aws::service::Service;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::form_body;
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use question::{Question, Window};

/// The latest value of a metric, or of an expression, of Amazon CloudWatch.
#[derive(Debug, TriggerMetadata)]
#[trigger(some_of("expression", "namespace"), check = Settings::check)]
pub(crate) struct Settings {
    /// A metric math expression or a Metrics Insights query, instead of a metric.
    expression: Option<String>,
    /// Namespace of the metric: `AWS/SQS`.
    namespace: Option<String>,
    /// Name of the metric.
    metric_name: Option<String>,
    /// Names of its dimensions.
    #[param(separator = ";")]
    dimension_name: Vec<String>,
    /// Values of its dimensions, as many.
    #[param(separator = ";")]
    dimension_value: Vec<String>,
    /// The value one replica should have.
    #[param(above = "0")]
    target_metric_value: Number,
    /// Active when the value is above this.
    #[param(default = "0")]
    activation_target_metric_value: Number,
    /// What counts when there is no value.
    min_metric_value: Number,
    /// Take `minMetricValue` when there is no value; with `false`, that is an error.
    #[param(default = "true")]
    ignore_null_values: bool,
    /// How far back values are looked for, in seconds.
    #[param(default = "300", at_least = "1")]
    metric_collection_time: i64,
    /// `Average`, `Sum`, `SampleCount`, `Minimum`, `Maximum`, or a percentile such as `p99`.
    #[param(default = "Average")]
    metric_stat: String,
    /// The period of one value, in seconds: 1, 5, 10, 30, or a multiple of 60.
    #[param(default = "300", at_least = "1")]
    metric_stat_period: i64,
    /// How long ago the last value may be, in seconds, because the latest ones are often incomplete.
    #[param(default = "0", at_least = "0")]
    metric_end_time_offset: i64,
    /// Unit of the metric: `Count`, `Bytes/Second`.
    metric_unit: Option<String>,
    /// Account of the metric, when another account shares it.
    aws_account_id: Option<String>,
    /// Region of the metric.
    #[param(from(metadata, auth))]
    aws_region: String,
    /// Address of CloudWatch, instead of AWS's own in that region.
    aws_endpoint: Option<Url>,
    #[param(nested)]
    aws: AwsAuth,
}

/// A metric.
#[derive(Debug)]
pub(crate) struct CloudWatch {
    service: Service,
    question: Question,
    window: Window,
    /// What counts when there is no value.
    otherwise: Option<Number>,
}

#[async_trait]
impl Source for CloudWatch {
    type Settings = Settings;
    const LABEL: &'static str = "awsCloudwatchScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let source = Self {
            question: settings.question(),
            window: settings.window(),
            otherwise: settings.ignore_null_values.then_some(settings.min_metric_value),
            service: Service::new("monitoring", settings.aws_region, settings.aws_endpoint, settings.aws, context)?,
        };
        let (target, activation) = (settings.target_metric_value, settings.activation_target_metric_value);
        Ok(Connected::new(context, source, "aws-cloudwatch", target, activation))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let fields = self.question.fields(self.window, Timestamp::now().as_second());
        let fields = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let body = self.service.ask(form_body(self.service.post(), fields), answer::code).await?;
        answer::decode(&body, self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::metric_name;

    #[test]
    fn the_metric_has_a_name_of_its_own() {
        let metadata = [
            ("expression", "x"),
            ("targetMetricValue", "5"),
            ("minMetricValue", "1"),
            ("awsRegion", "r"),
            ("identityOwner", "operator"),
        ];
        assert_eq!(metric_name::<CloudWatch>(&metadata), "s0-aws-cloudwatch");
    }
}
