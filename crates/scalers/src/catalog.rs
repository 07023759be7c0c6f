//! The trigger types people may write, and which of them are there.

use crate::error::BuildError;

/// Trigger types that can be used.
pub const BUILT: &[&str] = &["cpu", "memory", "prometheus"];

/// Trigger types of KEDA that are not there yet. Source: KEDA 2.21's scaler builder; `external-mock` is for its tests.
pub const KNOWN: &[&str] = &[
    "activemq",
    "apache-kafka",
    "arangodb",
    "artemis-queue",
    "aws-cloudwatch",
    "aws-dynamodb",
    "aws-dynamodb-streams",
    "aws-kinesis-stream",
    "aws-sqs-queue",
    "azure-app-insights",
    "azure-blob",
    "azure-data-explorer",
    "azure-eventhub",
    "azure-log-analytics",
    "azure-monitor",
    "azure-pipelines",
    "azure-queue",
    "azure-servicebus",
    "beanstalkd",
    "cassandra",
    "clickhouse",
    "couchdb",
    "cron",
    "datadog",
    "dynatrace",
    "elastic-forecast",
    "elasticsearch",
    "etcd",
    "external",
    "external-push",
    "forgejo-runner",
    "gcp-cloudtasks",
    "gcp-pubsub",
    "gcp-spanner",
    "gcp-stackdriver",
    "gcp-storage",
    "github-runner",
    "graphite",
    "huawei-cloudeye",
    "ibmmq",
    "influxdb",
    "kafka",
    "kubernetes-resource",
    "kubernetes-workload",
    "liiklus",
    "loki",
    "metrics-api",
    "mongodb",
    "mssql",
    "mysql",
    "nats-jetstream",
    "new-relic",
    "nsq",
    "opensearch",
    "openstack-metric",
    "openstack-swift",
    "postgresql",
    "predictkube",
    "pulsar",
    "rabbitmq",
    "redis",
    "redis-cluster",
    "redis-cluster-streams",
    "redis-sentinel",
    "redis-sentinel-streams",
    "redis-streams",
    "selenium-grid",
    "solace-direct-messaging",
    "solace-event-queue",
    "solarwinds",
    "solr",
    "splunk",
    "splunk-observability",
    "sumologic",
    "temporal",
];

/// Why a trigger of this type cannot be built.
pub fn refusal(trigger_type: &str) -> BuildError {
    let message = if KNOWN.contains(&trigger_type) {
        format!(
            "trigger type {trigger_type:?} is a type of KEDA that is not supported yet; supported: {}",
            BUILT.join(", ")
        )
    } else {
        let near = nearest(trigger_type).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        // The first half is KEDA's text, which people search for.
        format!("no scaler found for type: {trigger_type}{near}")
    };
    BuildError::new("type", message)
}

/// A known name that is at most two edits away.
fn nearest(name: &str) -> Option<&'static str> {
    let close = |known: &&'static str| edits(name, known) <= 2.min(name.len().saturating_sub(1));
    BUILT.iter().chain(KNOWN).copied().filter(close).min_by_key(|known| edits(name, known))
}

/// Levenshtein's distance. Names have some twenty characters, so the plain table is enough.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_type_of_keda_is_listed_once() {
        let mut all: Vec<&str> = BUILT.iter().chain(KNOWN).copied().collect();
        assert_eq!(all.len(), 78);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 78);
    }

    #[test]
    fn a_known_type_and_a_typo_are_told_apart() {
        let known = refusal("rabbitmq").to_string();
        assert!(known.contains("not supported yet"), "{known}");
        let typo = refusal("promethues").to_string();
        assert!(typo.contains("no scaler found for type: promethues"), "{typo}");
        assert!(typo.contains("did you mean \"prometheus\"?"), "{typo}");
        let odd = refusal("teapot").to_string();
        assert!(!odd.contains("did you mean"), "{odd}");
    }
}
