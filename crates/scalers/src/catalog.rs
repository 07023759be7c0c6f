//! The trigger types people may write, and which of them are there.

use std::sync::Arc;

use crate::context::TriggerContext;
use crate::error::BuildError;
use crate::external::External;
use crate::metadata::{Shape, TriggerMetadata, nearest, page, schema};
use crate::redis::place::{One, Sentinels, Several};
use crate::redis::{List, Redis, Stream};
use crate::source::{self, Source};
use crate::sql::Query;
use crate::{
    Scaler, aws_cloudwatch, aws_sqs_queue, cron, etcd, external, kafka, kubernetes_workload, metrics_api, mysql,
    nats_jetstream, postgresql, prometheus, rabbitmq, resource,
};

/// A trigger type that can be used.
#[derive(Debug, Clone, Copy)]
pub struct TriggerType {
    /// What a trigger has in `type`.
    pub name: &'static str,
    /// See [`Scaler::type_name`]; empty if the HPA reads the metric by itself.
    pub label: &'static str,
    /// Its settings.
    pub shape: &'static Shape,
    /// Only the source knows which metrics a trigger has.
    pub discovers: bool,
    build: Option<Build>,
}

type Build = fn(&TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError>;

/// Trigger types that can be used, by name.
pub const BUILT: &[TriggerType] = &[
    TriggerType::of::<aws_cloudwatch::CloudWatch>("aws-cloudwatch"),
    TriggerType::of::<aws_sqs_queue::SqsQueue>("aws-sqs-queue"),
    TriggerType::resource::<resource::Cpu>("cpu"),
    TriggerType::of::<cron::Cron>("cron"),
    TriggerType::of::<etcd::Etcd>("etcd"),
    TriggerType::external::<false>("external"),
    TriggerType::external::<true>("external-push"),
    TriggerType::of::<kafka::Kafka>("kafka"),
    TriggerType::of::<kubernetes_workload::KubernetesWorkload>("kubernetes-workload"),
    TriggerType::resource::<resource::Memory>("memory"),
    TriggerType::of::<metrics_api::MetricsApi>("metrics-api"),
    TriggerType::of::<Query<mysql::MySql>>("mysql"),
    TriggerType::of::<nats_jetstream::NatsJetStream>("nats-jetstream"),
    TriggerType::of::<Query<postgresql::PostgreSql>>("postgresql"),
    TriggerType::of::<prometheus::Prometheus>("prometheus"),
    TriggerType::of::<rabbitmq::RabbitMq>("rabbitmq"),
    TriggerType::of::<Redis<One, List>>("redis"),
    TriggerType::of::<Redis<Several, List>>("redis-cluster"),
    TriggerType::of::<Redis<Several, Stream>>("redis-cluster-streams"),
    TriggerType::of::<Redis<Sentinels, List>>("redis-sentinel"),
    TriggerType::of::<Redis<Sentinels, Stream>>("redis-sentinel-streams"),
    TriggerType::of::<Redis<One, Stream>>("redis-streams"),
];

impl TriggerType {
    const fn of<S: Source>(name: &'static str) -> Self {
        Self { name, label: S::LABEL, shape: S::Settings::SHAPE, discovers: false, build: Some(source::build::<S>) }
    }

    /// A type whose metrics only the source knows.
    const fn external<const PUSHES: bool>(name: &'static str) -> Self {
        let (label, build): (_, Build) = (External::<PUSHES>::LABEL, External::<PUSHES>::build);
        Self { name, label, shape: external::Settings::SHAPE, discovers: true, build: Some(build) }
    }

    /// A type that the HPA reads by itself.
    const fn resource<S: TriggerMetadata>(name: &'static str) -> Self {
        Self { name, label: "", shape: S::SHAPE, discovers: false, build: None }
    }

    /// The page and the JSON schema of `metadata`: names in `docs/scalers/`, and texts.
    pub fn files(&self) -> [(String, String); 2] {
        let schema = format!("{:#}\n", schema::schema(self.name, self.shape));
        [
            (format!("{}.md", self.name), page::page(self.name, self.shape)),
            (format!("{}.schema.json", self.name), schema),
        ]
    }
}

/// The type of that name.
pub fn find(trigger_type: &str) -> Option<&'static TriggerType> {
    BUILT.iter().find(|built| built.name == trigger_type)
}

pub(crate) fn build(trigger_type: &str, context: &TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError> {
    match find(trigger_type).and_then(|built| built.build) {
        Some(build) => build(context),
        None => Err(refusal(trigger_type)),
    }
}

/// Trigger types of KEDA, there or not. Source: KEDA 2.21's scaler builder, without `external-mock`, which is for its tests.
pub const KNOWN: [&str; 78] = [
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
    "cpu",
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
    "memory",
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
    "prometheus",
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
    let message = if KNOWN.contains(&trigger_type) && find(trigger_type).is_none() {
        format!(
            "trigger type {trigger_type:?} is a type of KEDA that is not supported yet; supported: {}",
            BUILT.iter().map(|built| built.name).collect::<Vec<_>>().join(", ")
        )
    } else {
        let near = nearest(trigger_type, KNOWN).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        // The first half is KEDA's text, which people search for.
        format!("no scaler found for type: {trigger_type}{near}")
    };
    BuildError::new("type", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order_and_what_is_built_is_known() {
        assert!(KNOWN.is_sorted_by(|a, b| a < b));
        assert!(BUILT.is_sorted_by(|a, b| a.name < b.name));
        for built in BUILT {
            assert!(KNOWN.contains(&built.name), "{}", built.name);
        }
    }

    #[test]
    fn every_known_type_is_built_or_refused_as_known() {
        for name in KNOWN {
            let refused = refusal(name).to_string().contains("not supported yet");
            assert_ne!(find(name).is_some(), refused, "{name}");
        }
    }

    #[test]
    fn a_known_type_and_a_typo_are_told_apart() {
        let known = refusal("temporal").to_string();
        assert!(known.contains("not supported yet"), "{known}");
        let typo = refusal("promethues").to_string();
        assert!(typo.contains("no scaler found for type: promethues"), "{typo}");
        assert!(typo.contains("did you mean \"prometheus\"?"), "{typo}");
        let odd = refusal("teapot").to_string();
        assert!(!odd.contains("did you mean"), "{odd}");
    }
}
