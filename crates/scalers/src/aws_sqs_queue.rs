//! `aws-sqs-queue`: how many messages a queue of Amazon SQS has.
//!
//! Asked with one signed request of SQS's JSON API; no SDK is needed for that.

use async_trait::async_trait;
use reqwest::Url;
use serde_json::{Value, json};

use crate::auth::aws::AwsAuth;
use crate::auth::aws::service::Service;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// How many messages a queue of Amazon SQS has, approximately.
///
/// Messages that somebody works on count, too, unless `scaleOnInFlight` is `false`.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Settings {
    /// The queue: its URL, or its name alone.
    #[param(name = "queueURL", from(metadata, env))]
    queue: String,
    /// How many messages one replica should have.
    #[param(default = "5", above = "0")]
    queue_length: Number,
    /// Active when there are more messages than this.
    #[param(default = "0")]
    activation_queue_length: Number,
    /// Count messages that somebody has received and not deleted.
    #[param(default = "true")]
    scale_on_in_flight: bool,
    /// Count messages whose delay is not over.
    #[param(default = "false")]
    scale_on_delayed: bool,
    /// Region of the queue.
    #[param(from(metadata, auth))]
    aws_region: String,
    /// Address of SQS, instead of AWS's own in that region.
    aws_endpoint: Option<Url>,
    #[param(nested)]
    aws: AwsAuth,
}

/// A queue.
#[derive(Debug)]
pub(crate) struct SqsQueue {
    service: Service,
    /// Its URL, or its name.
    queue: String,
    counted: Vec<&'static str>,
}

#[async_trait]
impl Source for SqsQueue {
    type Settings = Settings;
    const LABEL: &'static str = "awsSqsQueueScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let name = format!("aws-sqs-{}", name(&settings.queue)?);
        let mut counted = vec!["ApproximateNumberOfMessages"];
        counted.extend(settings.scale_on_in_flight.then_some("ApproximateNumberOfMessagesNotVisible"));
        counted.extend(settings.scale_on_delayed.then_some("ApproximateNumberOfMessagesDelayed"));
        let service = Service::new("sqs", settings.aws_region, settings.aws_endpoint, settings.aws, context)?;
        let source = Self { service, queue: settings.queue, counted };
        Ok(Connected::new(context, source, name, settings.queue_length, settings.activation_queue_length))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let mut url = self.queue.clone();
        if !url.contains("://") {
            let answer = self.service.ask_json("SQS", "AmazonSQS.GetQueueUrl", &json!({"QueueName": url})).await?;
            answer["QueueUrl"].as_str().ok_or_else(|| odd("has no QueueUrl"))?.clone_into(&mut url);
        }
        let question = json!({"QueueUrl": url, "AttributeNames": self.counted});
        decode(&self.service.ask_json("SQS", "AmazonSQS.GetQueueAttributes", &question).await?, &self.counted)
    }
}

/// The queue's name: the last part of its URL, or all of it.
fn name(queue: &str) -> Result<String, BuildError> {
    if !queue.contains("://") {
        return Ok(queue.to_owned());
    }
    let url = Url::parse(queue).ok();
    let parts: Vec<&str> = url.iter().flat_map(|url| url.path().split('/')).collect();
    match parts.as_slice() {
        ["", account, name] if !account.is_empty() && !name.is_empty() => Ok((*name).to_owned()),
        _ => Err(BuildError::new("queueURL", "is not a URL such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME")),
    }
}

fn decode(answer: &Value, counted: &[&str]) -> Result<Reading, ScalerError> {
    let sum = counted.iter().try_fold(0_i64, |sum, name| {
        let count = answer["Attributes"][*name].as_str().and_then(|text| text.parse().ok());
        Ok(sum.saturating_add(count.ok_or_else(|| odd(&format!("has no number {name}")))?))
    });
    Reading::count(sum?)
}

fn odd(what: &str) -> ScalerError {
    ScalerError::no_number(format!("the answer of SQS {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Texts, Trigger, ok, serve};

    fn trigger(metadata: Texts<'_>) -> Trigger {
        let all = [metadata, &[("awsRegion", "eu-west-1")]].concat();
        Trigger::new(&all).auth(&[("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2")])
    }

    #[test]
    fn the_metric_is_named_after_the_queue() {
        let metric = |queue: &str| {
            let built = trigger(&[("queueURL", queue)]).build::<SqsQueue>();
            built.map_or_else(|error| error.field, |scaler| scaler.metrics()[0].name.clone())
        };
        assert_eq!(metric("https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo"), "s0-aws-sqs-jobs-fifo");
        assert_eq!(metric("jobs"), "s0-aws-sqs-jobs");
        for bad in ["https://sqs/", "https://sqs/jobs", "https://sqs/1/2/jobs", "https://sqs/1/", "https://sqs//jobs"] {
            assert_eq!(metric(bad), "queueURL", "{bad}");
        }
    }

    #[test]
    fn what_is_counted_must_all_be_there() {
        let answer = json!({"Attributes": {"A": "3", "B": "4", "C": "many"}});
        let said = |counted: &[&str]| decode(&answer, counted).map_or_else(|e| e.text(), |r| r.milli.to_string());
        assert_eq!(said(&["A"]), "3");
        assert_eq!(said(&["A", "B"]), "7");
        assert_eq!(said(&["A", "C"]), "the answer of SQS has no number C");
        assert_eq!(said(&["A", "D"]), "the answer of SQS has no number D");
    }

    #[tokio::test]
    async fn the_question_is_signed_and_the_secret_stays_here() {
        let (address, served) = serve(vec![ok(r#"{"Attributes": {"ApproximateNumberOfMessages": "2"}}"#)]).await;
        let queue = [("queueURL", "https://sqs.eu-west-1.amazonaws.com/1/jobs"), ("awsEndpoint", address.as_str())];
        let counted = [("scaleOnInFlight", "false"), ("activationQueueLength", "2")];
        let sampled = trigger(&[queue, counted].concat()).sample::<SqsQueue>().await.unwrap();
        assert_eq!((sampled.value.thousandths(), sampled.active), (2_000, false));
        let asked = served.await.unwrap().remove(0);
        assert!(asked.contains("/eu-west-1/sqs/aws4_request") && asked.contains("AmazonSQS.GetQueueA"), "{asked}");
        assert!(!asked.contains("NotVisible") && !asked.contains("hunter2"), "{asked}");
    }
}
