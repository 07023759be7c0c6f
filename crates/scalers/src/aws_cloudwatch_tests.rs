//! What may be written and what is answered; `tests/it/aws.rs` asks moto.

use super::*;
use crate::testing::{Trigger, metric_name, refusal};

const REST: [(&str, &str); 4] =
    [("targetMetricValue", "5"), ("minMetricValue", "1"), ("awsRegion", "eu-west-1"), ("identityOwner", "operator")];
const METRIC: [(&str, &str); 4] = [
    ("namespace", "AWS/SQS"),
    ("metricName", "Sent"),
    ("dimensionName", "QueueName;Zone"),
    ("dimensionValue", "jobs;a"),
];

fn fields(more: &[(&str, &str)]) -> Vec<String> {
    let connected = Trigger::new(&[&REST[..], more].concat()).connect::<CloudWatch>().unwrap();
    let fields = connected.source.question.fields(connected.source.window, 1_000);
    fields
        .iter()
        .map(|(name, value)| format!("{}={value}", name.replace("MetricDataQueries.member.1.", "1.")))
        .collect()
}

#[test]
fn a_metric_and_an_expression_become_the_fields_of_a_form() {
    assert_eq!(
        fields(&METRIC)[3..],
        [
            "StartTime=1970-01-01T00:10:00Z",
            "EndTime=1970-01-01T00:15:00Z",
            "1.Id=c1",
            "1.ReturnData=true",
            "1.MetricStat.Metric.Namespace=AWS/SQS",
            "1.MetricStat.Metric.MetricName=Sent",
            "1.MetricStat.Metric.Dimensions.member.1.Name=QueueName",
            "1.MetricStat.Metric.Dimensions.member.1.Value=jobs",
            "1.MetricStat.Metric.Dimensions.member.2.Name=Zone",
            "1.MetricStat.Metric.Dimensions.member.2.Value=a",
            "1.MetricStat.Period=300",
            "1.MetricStat.Stat=Average",
        ]
    );
    let expression = [("expression", "SELECT MAX(x) FROM y"), ("metricStatPeriod", "60"), ("awsAccountId", "1")];
    assert_eq!(
        fields(&expression)[5..],
        ["1.AccountId=1", "1.Id=q1", "1.Expression=SELECT MAX(x) FROM y", "1.Period=60"]
    );
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(metric_name::<CloudWatch>(&[REST, METRIC].concat()), "s0-aws-cloudwatch");
    let wrong = |more: &[(&str, &str)]| refusal::<CloudWatch>(&[&REST[..], more].concat());
    assert_eq!(wrong(&[]), ["expression"]);
    assert_eq!(wrong(&METRIC[..1]), ["metricName", "dimensionName"]);
    assert_eq!(wrong(&METRIC[..3]), ["dimensionValue"]);
    for (name, value) in [
        ("metricUnit", "Apples"),
        ("metricStat", "Median"),
        ("metricStatPeriod", "45"),
        ("metricStatPeriod", "90"),
        ("metricCollectionTime", "299"),
    ] {
        assert_eq!(wrong(&[("expression", "x"), (name, value)])[0], name, "{value}");
    }
}

fn said(body: &str, otherwise: Option<&str>) -> String {
    let reading = decode(body.as_bytes(), otherwise.map(|text| text.parse().unwrap()));
    reading.map_or_else(|error| error.text(), |reading| format!("{} {}", reading.milli, reading.empty))
}

fn answer(result: &str) -> String {
    format!(
        "<GetMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><GetMetricDataResult>\
         <MetricDataResults>{result}</MetricDataResults></GetMetricDataResult></GetMetricDataResponse>"
    )
}

#[test]
fn the_first_value_is_the_latest() {
    let two = "<member><Id>c1</Id><StatusCode>Complete</StatusCode><Values><member>7.5</member><member>9</member>\
               </Values></member>";
    assert_eq!(said(&answer(two), Some("1")), "7.5 false");
    for none in ["", "<member><Values/></member>", "<member><Id>c1</Id></member>"] {
        assert_eq!(said(&answer(none), Some("1")), "1 true", "{none}");
        assert!(said(&answer(none), None).starts_with("the metric has no value"), "{none}");
    }
    let broken = "<member><StatusCode>InternalError</StatusCode><Values/></member>";
    assert!(said(&answer(broken), Some("1")).contains("InternalError"));
    for value in ["NaN", "many", "Infinity"] {
        let body = answer(&format!("<member><Values><member>{value}</member></Values></member>"));
        assert!(!said(&body, Some("1")).ends_with("false"), "{value}");
    }
    for body in ["", "<html>", "{}", "<Other/>"] {
        assert_eq!(said(body, Some("1")), "the answer is not that of CloudWatch", "{body}");
    }
}

#[test]
fn a_refusal_has_a_code() {
    let body = b"<ErrorResponse><Error><Code>Throttling</Code><Message>slow down</Message></Error></ErrorResponse>";
    assert_eq!(code(body).as_deref(), Some("Throttling"));
    assert_eq!(code(b"<html>"), None);
}
