//! What CloudWatch is asked.

use jiff::Timestamp;

use super::Settings;
use crate::error::BuildError;

/// Units that CloudWatch knows, each also per second where that makes sense.
const UNITS: [&str; 27] = [
    "Bits",
    "Bits/Second",
    "Bytes",
    "Bytes/Second",
    "Count",
    "Count/Second",
    "Gigabits",
    "Gigabits/Second",
    "Gigabytes",
    "Gigabytes/Second",
    "Kilobits",
    "Kilobits/Second",
    "Kilobytes",
    "Kilobytes/Second",
    "Megabits",
    "Megabits/Second",
    "Megabytes",
    "Megabytes/Second",
    "Microseconds",
    "Milliseconds",
    "None",
    "Percent",
    "Seconds",
    "Terabits",
    "Terabits/Second",
    "Terabytes",
    "Terabytes/Second",
];

/// The part of the question that does not change, as the fields of a form.
#[derive(Debug)]
pub(super) struct Question(Vec<(String, String)>);

/// Which values are looked at. Unit: seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    length: i64,
    period: i64,
    offset: i64,
}

impl Window {
    /// Where it begins and ends. It ends between two periods, because CloudWatch counts in whole ones.
    fn at(self, now: i64) -> (i64, i64) {
        let end = (now - self.offset).div_euclid(self.period) * self.period;
        (end - self.length, end)
    }
}

impl Question {
    /// The whole form.
    pub(super) fn fields(&self, window: Window, now: i64) -> Vec<(String, String)> {
        let (start, end) = window.at(now);
        let time = |seconds| Timestamp::from_second(seconds).unwrap_or_default().to_string();
        let mut fields = vec![
            ("Action".to_owned(), "GetMetricData".to_owned()),
            ("Version".to_owned(), "2010-08-01".to_owned()),
            ("ScanBy".to_owned(), "TimestampDescending".to_owned()),
            ("StartTime".to_owned(), time(start)),
            ("EndTime".to_owned(), time(end)),
        ];
        fields.extend(self.0.iter().cloned());
        fields
    }
}

impl Settings {
    pub(super) fn question(&self) -> Question {
        let period = self.metric_stat_period.to_string();
        let mut fields = Vec::new();
        let mut add = |name: &str, value: &str| {
            fields.push((format!("MetricDataQueries.member.1.{name}"), value.to_owned()));
        };
        if let Some(account) = &self.aws_account_id {
            add("AccountId", account);
        }
        if let Some(expression) = &self.expression {
            add("Id", "q1");
            add("Expression", expression);
            add("Period", &period);
            return Question(fields);
        }
        add("Id", "c1");
        add("ReturnData", "true");
        add("MetricStat.Metric.Namespace", self.namespace.as_deref().unwrap_or_default());
        add("MetricStat.Metric.MetricName", self.metric_name.as_deref().unwrap_or_default());
        for (index, (name, value)) in self.dimension_name.iter().zip(&self.dimension_value).enumerate() {
            let place = format!("MetricStat.Metric.Dimensions.member.{}", index + 1);
            add(&format!("{place}.Name"), name);
            add(&format!("{place}.Value"), value);
        }
        add("MetricStat.Period", &period);
        add("MetricStat.Stat", &self.metric_stat);
        if let Some(unit) = &self.metric_unit {
            add("MetricStat.Unit", unit);
        }
        Question(fields)
    }

    pub(super) fn window(&self) -> Window {
        Window {
            length: self.metric_collection_time,
            period: self.metric_stat_period,
            offset: self.metric_end_time_offset,
        }
    }

    pub(super) fn check(&self) -> Vec<BuildError> {
        let mut wrong = Vec::new();
        let mut must = |good: bool, field: &str, what: &str| {
            if !good {
                wrong.push(BuildError::new(field, what));
            }
        };
        if self.expression.is_none() && self.namespace.is_some() {
            must(self.metric_name.is_some(), "metricName", "is required with namespace");
            must(!self.dimension_name.is_empty(), "dimensionName", "is required with namespace");
            let same = self.dimension_name.len() == self.dimension_value.len();
            must(same, "dimensionValue", "must be as many as dimensionName");
        }
        let unit = self.metric_unit.as_deref().is_none_or(|unit| UNITS.contains(&unit));
        must(unit, "metricUnit", "is not a unit of CloudWatch");
        must(
            is_statistic(&self.metric_stat),
            "metricStat",
            "is not Average, Sum, SampleCount, Minimum, Maximum or pNN",
        );
        let period = self.metric_stat_period;
        let whole = matches!(period, 1 | 5 | 10 | 30) || period % 60 == 0;
        must(whole, "metricStatPeriod", "must be 1, 5, 10, 30, or a multiple of 60");
        must(self.metric_collection_time >= period, "metricCollectionTime", "must be at least metricStatPeriod");
        wrong
    }
}

fn is_statistic(text: &str) -> bool {
    let percentile = || text.strip_prefix('p').and_then(|text| text.parse::<f64>().ok());
    matches!(text, "Average" | "Sum" | "SampleCount" | "Minimum" | "Maximum")
        || percentile().is_some_and(|percentile| (0.0..=100.0).contains(&percentile))
}

#[cfg(test)]
mod tests {
    use super::super::CloudWatch;
    use super::*;
    use crate::testing::{Trigger, refusal};

    const REST: [(&str, &str); 4] = [
        ("targetMetricValue", "5"),
        ("minMetricValue", "1"),
        ("awsRegion", "eu-west-1"),
        ("identityOwner", "operator"),
    ];
    const METRIC: [(&str, &str); 4] = [
        ("namespace", "AWS/SQS"),
        ("metricName", "Sent"),
        ("dimensionName", "QueueName;Zone"),
        ("dimensionValue", "jobs;a"),
    ];

    #[test]
    fn a_window_ends_between_two_periods() {
        let window = |length, period, offset| Window { length, period, offset }.at(1_000);
        assert_eq!(window(300, 300, 0), (600, 900));
        assert_eq!(window(600, 60, 0), (360, 960));
        assert_eq!(window(60, 60, 100), (840, 900));
        assert_eq!(window(10, 1, 0), (990, 1_000));
    }

    #[test]
    fn statistics_are_named_or_percentiles() {
        for good in ["Average", "SampleCount", "p99", "p99.9", "p0"] {
            assert!(is_statistic(good), "{good}");
        }
        for bad in ["average", "p", "p101", "p-1", "pNaN", "99", ""] {
            assert!(!is_statistic(bad), "{bad}");
        }
    }

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
}
