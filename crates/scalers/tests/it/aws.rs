//! `aws-sqs-queue` and `aws-cloudwatch` against moto.

use std::sync::Arc;

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use scalers::Scaler;
use serde_json::{Value, json};
use testkit::aws::AwsDouble;
use testkit::children::Folder;

use crate::support::{build, read};

const KEYS: [(&str, &str); 2] = [("awsAccessKeyID", "AKID"), ("awsSecretAccessKey", "hunter2")];

fn scope(aws: &AwsDouble, service: &str) -> String {
    let scope = format!("Credential=test/20260101/{}/{service}/aws4_request", aws.region());
    format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=none")
}

/// A call that only names its service: moto believes every signature.
async fn sqs(aws: &AwsDouble, action: &str, question: &Value) -> Result<Value> {
    let request = Client::new()
        .post(aws.control().url())
        .header("authorization", scope(aws, "sqs"))
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", format!("AmazonSQS.{action}"))
        .body(question.to_string());
    let answer = request.send().await?;
    ensure!(answer.status().is_success(), "{action}: {}", answer.text().await?);
    Ok(serde_json::from_slice(&answer.bytes().await?).unwrap_or_default())
}

fn queue(aws: &AwsDouble, queue: &str, more: &[(&str, &str)]) -> Arc<dyn Scaler> {
    let metadata = [("queueURL", queue), ("awsRegion", aws.region()), ("awsEndpoint", aws.control().url())];
    build("aws-sqs-queue", &[&metadata[..], more].concat(), &KEYS)
}

#[tokio::test]
async fn a_queues_messages_are_counted_as_the_trigger_says() {
    let folder = Folder::new().unwrap();
    let aws = AwsDouble::start(folder.path()).await.unwrap();
    let created = sqs(&aws, "CreateQueue", &json!({"QueueName": "jobs"})).await.unwrap();
    let url = created["QueueUrl"].as_str().unwrap();
    assert_eq!(read(&queue(&aws, url, &[])).await, Ok((0, false)));
    for delay in [0, 0, 0, 600] {
        let message = json!({"QueueUrl": url, "MessageBody": "x", "DelaySeconds": delay});
        sqs(&aws, "SendMessage", &message).await.unwrap();
    }
    sqs(&aws, "ReceiveMessage", &json!({"QueueUrl": url, "MaxNumberOfMessages": 1})).await.unwrap();
    assert_eq!(read(&queue(&aws, url, &[])).await, Ok((3_000, true)));
    assert_eq!(read(&queue(&aws, "jobs", &[])).await, Ok((3_000, true)));
    assert_eq!(read(&queue(&aws, url, &[("scaleOnInFlight", "false")])).await, Ok((2_000, true)));
    assert_eq!(read(&queue(&aws, url, &[("scaleOnDelayed", "true")])).await, Ok((4_000, true)));
    assert_eq!(read(&queue(&aws, url, &[("activationQueueLength", "3")])).await, Ok((3_000, false)));
    let missing = read(&queue(&aws, &url.replace("jobs", "nothing"), &[])).await.unwrap_err();
    assert!(missing.contains("refuses the question") && !missing.contains("hunter2"), "{missing}");
}

async fn put_metric(aws: &AwsDouble, value: &str, minutes_ago: i64) -> Result<()> {
    let at = Timestamp::now() - SignedDuration::from_mins(minutes_ago);
    let at = at.to_string();
    let form = [
        ("Action", "PutMetricData"),
        ("Version", "2010-08-01"),
        ("Namespace", "shop"),
        ("MetricData.member.1.MetricName", "Orders"),
        ("MetricData.member.1.Dimensions.member.1.Name", "Kind"),
        ("MetricData.member.1.Dimensions.member.1.Value", "new"),
        ("MetricData.member.1.Value", value),
        ("MetricData.member.1.Timestamp", &at),
    ];
    let mut url = reqwest::Url::parse("http://x")?;
    url.query_pairs_mut().extend_pairs(form);
    let request = Client::new()
        .post(aws.control().url())
        .header("authorization", scope(aws, "monitoring"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(url.query().unwrap_or_default().to_owned());
    let answer = request.send().await?;
    ensure!(answer.status().is_success(), "{}", answer.text().await?);
    Ok(())
}

#[tokio::test]
async fn the_latest_value_of_a_metric_is_read() {
    let folder = Folder::new().unwrap();
    let aws = AwsDouble::start(folder.path()).await.unwrap();
    let scaler = |dimension: &str, more: &[(&str, &str)]| {
        let metadata = [
            ("namespace", "shop"),
            ("metricName", "Orders"),
            ("dimensionName", "Kind"),
            ("dimensionValue", dimension),
            ("targetMetricValue", "2.5"),
            ("minMetricValue", "1.5"),
            ("metricStat", "Sum"),
            ("metricStatPeriod", "60"),
            ("metricCollectionTime", "1800"),
            ("awsRegion", aws.region()),
            ("awsEndpoint", aws.control().url()),
        ];
        build("aws-cloudwatch", &[&metadata[..], more].concat(), &KEYS)
    };
    assert_eq!(read(&scaler("new", &[])).await, Ok((1_500, true)));
    put_metric(&aws, "9", 20).await.unwrap();
    put_metric(&aws, "7.25", 5).await.unwrap();
    assert_eq!(read(&scaler("new", &[])).await, Ok((7_250, true)));
    assert_eq!(read(&scaler("new", &[("activationTargetMetricValue", "7.25")])).await, Ok((7_250, false)));
    assert_eq!(read(&scaler("new", &[("metricEndTimeOffset", "600")])).await, Ok((9_000, true)));
    assert_eq!(read(&scaler("old", &[("activationTargetMetricValue", "1.5")])).await, Ok((1_500, false)));
    let none = read(&scaler("old", &[("ignoreNullValues", "false")])).await.unwrap_err();
    assert!(none.contains("no value in that time"), "{none}");
}
