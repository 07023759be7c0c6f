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
    url: String,
    counted: Vec<&'static str>,
}

#[async_trait]
impl Source for SqsQueue {
    type Settings = Settings;
    const LABEL: &'static str = "awsSqsQueueScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let name = name(&settings.queue)?.to_owned();
        let mut counted = vec!["ApproximateNumberOfMessages"];
        counted.extend(settings.scale_on_in_flight.then_some("ApproximateNumberOfMessagesNotVisible"));
        counted.extend(settings.scale_on_delayed.then_some("ApproximateNumberOfMessagesDelayed"));
        let service = Service::new("sqs", settings.aws_region, settings.aws_endpoint, settings.aws, context)?;
        Ok(Connected {
            source: Self { service, url: settings.queue, counted },
            name: format!("aws-sqs-{name}"),
            target: settings.queue_length,
            activation: settings.activation_queue_length.float,
            timeout: context.http.timeout(),
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let question = json!({"QueueUrl": self.url().await?, "AttributeNames": self.counted});
        decode(&self.call("GetQueueAttributes", &question).await?, &self.counted)
    }
}

impl SqsQueue {
    /// The queue's URL; a name is looked up.
    async fn url(&self) -> Result<String, ScalerError> {
        if self.url.contains("://") {
            return Ok(self.url.clone());
        }
        let answer = self.call("GetQueueUrl", &json!({"QueueName": self.url})).await?;
        answer["QueueUrl"].as_str().map(str::to_owned).ok_or_else(|| odd("has no QueueUrl"))
    }

    async fn call(&self, action: &str, question: &Value) -> Result<Value, ScalerError> {
        let request = self
            .service
            .post()
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{action}"))
            .body(question.to_string());
        let body = self.service.ask(request, code).await?;
        serde_json::from_slice(&body).map_err(|_| odd("is not JSON"))
    }
}

/// The queue's name: the last part of its URL, or all of it.
fn name(queue: &str) -> Result<&str, BuildError> {
    if !queue.contains("://") {
        return Ok(queue);
    }
    let wrong = || BuildError::new("queueURL", "is not a URL such as https://sqs.REGION.amazonaws.com/ACCOUNT/NAME");
    let url = Url::parse(queue).map_err(|_| wrong())?;
    let parts: Vec<&str> = url.path().split('/').collect();
    match (parts.as_slice(), queue.rsplit_once('/')) {
        (["", account, last], Some((_, name))) if !account.is_empty() && !last.is_empty() => Ok(name),
        _ => Err(wrong()),
    }
}

fn decode(answer: &Value, counted: &[&str]) -> Result<Reading, ScalerError> {
    let count = |name: &&str| {
        let text = answer["Attributes"][*name].as_str();
        text.and_then(|text| text.parse::<i64>().ok()).ok_or_else(|| odd(&format!("has no number {name}")))
    };
    let counts = counted.iter().map(count).collect::<Result<Vec<_>, _>>()?;
    Reading::count(counts.into_iter().fold(0, i64::saturating_add))
}

fn code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(body).ok()?["__type"].as_str().map(str::to_owned)
}

fn odd(what: &str) -> ScalerError {
    ScalerError::NoNumber { what: format!("the answer of SQS {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, ok, refusal, serve};

    const KEYS: [(&str, &str); 2] = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2")];

    fn metric(queue: &str) -> String {
        let metadata = [("queueURL", queue), ("awsRegion", "eu-west-1")];
        let built = Trigger::new(&metadata).auth(&KEYS).build::<SqsQueue>();
        built.map_or_else(|error| error.field, |scaler| scaler.metrics()[0].name.clone())
    }

    #[test]
    fn the_metric_is_named_after_the_queue() {
        assert_eq!(metric("https://sqs.eu-west-1.amazonaws.com/123456789012/jobs.fifo"), "s0-aws-sqs-jobs-fifo");
        assert_eq!(metric("jobs"), "s0-aws-sqs-jobs");
        for bad in ["https://sqs/", "https://sqs/jobs", "https://sqs/1/2/jobs", "https://sqs/1/"] {
            assert_eq!(metric(bad), "queueURL", "{bad}");
        }
        assert_eq!(refusal::<SqsQueue>(&[]), ["queueURL", "awsRegion"]);
        assert_eq!(refusal::<SqsQueue>(&[("queueURL", "jobs"), ("awsRegion", "eu-west-1")]), ["authenticationRef"]);
    }

    #[test]
    fn what_is_counted_must_all_be_there() {
        let answer = json!({"Attributes": {"A": "3", "B": "4", "C": "many"}});
        assert_eq!(decode(&answer, &["A"]).unwrap().milli.to_string(), "3");
        assert_eq!(decode(&answer, &["A", "B"]).unwrap().milli.to_string(), "7");
        for missing in ["C", "D"] {
            assert!(matches!(decode(&answer, &["A", missing]), Err(ScalerError::NoNumber { .. })), "{missing}");
        }
    }

    #[tokio::test]
    async fn the_question_is_signed_and_the_secret_stays_here() {
        let (address, served) = serve(vec![ok(r#"{"Attributes": {"ApproximateNumberOfMessages": "2"}}"#)]).await;
        let metadata = [
            ("queueURL", "https://sqs.eu-west-1.amazonaws.com/1/jobs"),
            ("awsRegion", "eu-west-1"),
            ("awsEndpoint", address.as_str()),
            ("scaleOnInFlight", "false"),
            ("activationQueueLength", "2"),
        ];
        let sampled = Trigger::new(&metadata).auth(&KEYS).sample::<SqsQueue>().await.unwrap();
        assert_eq!((sampled.value.thousandths(), sampled.active), (2_000, false));
        let asked = served.await.unwrap().remove(0);
        assert!(
            asked.contains("/eu-west-1/sqs/aws4_request") && asked.contains("AmazonSQS.GetQueueAttributes"),
            "{asked}"
        );
        assert!(!asked.contains("NotVisible") && !asked.contains("hunter2"), "{asked}");
    }
}
