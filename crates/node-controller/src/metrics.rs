//! Counters, gauges and histograms: Karpenter's names where they mean the same, `tandem_*` for our own decisions.

use controller_runtime::metrics::Registry;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use std::sync::atomic::AtomicU64;

/// `reason`, `nodepool`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct ReasonAndPool {
    pub reason: String,
    pub nodepool: String,
}

/// `nodepool`, `capacity_type`, `zone`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct Place {
    pub nodepool: String,
    pub capacity_type: String,
    pub zone: String,
}

/// `resource_type` and the pool, named as the pool's kind is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct ProvisionerResource {
    pub resource_type: String,
    pub provisioner: String,
}

/// The same for NodePools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct NodePoolResource {
    pub resource_type: String,
    pub nodepool: String,
}

/// `controller`, `method`, `provider`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct CloudCall {
    pub controller: String,
    pub method: String,
    pub provider: String,
}

/// [`CloudCall`] and `error`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct CloudFailure {
    pub controller: String,
    pub method: String,
    pub provider: String,
    pub error: String,
}

/// `code`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct Code {
    pub code: String,
}

/// `outcome`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "labels are named after what they hold")]
pub struct OutcomeLabel {
    pub outcome: String,
}

/// A gauge of whole numbers or fractions.
pub type Float = Gauge<f64, AtomicU64>;

/// Every metric of this crate. Clones share their values.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is described where it is registered")]
pub struct Metrics {
    pub claims_created: Family<ReasonAndPool, Counter>,
    pub claims_terminated: Family<Place, Counter>,
    pub claims_disrupted: Family<ReasonAndPool, Counter>,
    pub nodes_created: Family<ReasonAndPool, Counter>,
    pub nodes_drained: Family<ReasonAndPool, Counter>,
    pub evictions: Family<Code, Counter>,
    pub scheduling_duration: Histogram,
    pub unschedulable_pods: Gauge,
    pub queue_depth: Gauge,
    pub node_count: Gauge,
    pub synced: Gauge,
    pub provisioner_limit: Family<ProvisionerResource, Float>,
    pub provisioner_usage: Family<ProvisionerResource, Float>,
    pub provisioner_usage_pct: Family<ProvisionerResource, Float>,
    pub nodepool_limit: Family<NodePoolResource, Float>,
    pub nodepool_usage: Family<NodePoolResource, Float>,
    pub cloud_duration: Family<CloudCall, Histogram>,
    pub cloud_errors: Family<CloudFailure, Counter>,
    pub plans: Family<OutcomeLabel, Counter>,
    pub plan_violations: Counter,
    pub nominations: Family<OutcomeLabel, Counter>,
    pub planned_cost: Float,
    pub garbage_machines: Counter,
}

impl Metrics {
    /// Makes and registers all of them.
    pub fn register(registry: &Registry) -> Self {
        let metrics = Self {
            claims_created: Family::default(),
            claims_terminated: Family::default(),
            claims_disrupted: Family::default(),
            nodes_created: Family::default(),
            nodes_drained: Family::default(),
            evictions: Family::default(),
            scheduling_duration: Histogram::new(BUCKETS),
            unschedulable_pods: Gauge::default(),
            queue_depth: Gauge::default(),
            node_count: Gauge::default(),
            synced: Gauge::default(),
            provisioner_limit: Family::default(),
            provisioner_usage: Family::default(),
            provisioner_usage_pct: Family::default(),
            nodepool_limit: Family::default(),
            nodepool_usage: Family::default(),
            cloud_duration: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            cloud_errors: Family::default(),
            plans: Family::default(),
            plan_violations: Counter::default(),
            nominations: Family::default(),
            planned_cost: Float::default(),
            garbage_machines: Counter::default(),
        };
        let m = metrics.clone();
        registry.register("karpenter_nodeclaims_created", "NodeClaims created", m.claims_created);
        registry.register("karpenter_nodeclaims_terminated", "NodeClaims whose machine has ended", m.claims_terminated);
        registry.register("karpenter_nodeclaims_disrupted", "NodeClaims deleted by a decision", m.claims_disrupted);
        registry.register("karpenter_nodes_created", "Nodes that became ready for pods", m.nodes_created);
        registry.register("karpenter_nodes_drained", "Nodes whose pods have all left", m.nodes_drained);
        registry.register("karpenter_pods_eviction_requests", "Evictions asked for, by HTTP status", m.evictions);
        registry.register("karpenter_scheduler_scheduling_duration_seconds", "Time of one plan", m.scheduling_duration);
        registry.register(
            "karpenter_scheduler_unschedulable_pods_count",
            "Pods the last plan found no place for",
            m.unschedulable_pods,
        );
        registry.register("karpenter_scheduler_queue_depth", "Pods that wait for a plan", m.queue_depth);
        registry.register("karpenter_cluster_state_node_count", "Nodes and claims known", m.node_count);
        registry.register("karpenter_cluster_state_synced", "1 when every watch has its first list", m.synced);
        registry.register("karpenter_provisioner_limit", "Limit of a Provisioner", m.provisioner_limit);
        registry.register("karpenter_provisioner_usage", "Capacity of a Provisioner's nodes", m.provisioner_usage);
        registry.register(
            "karpenter_provisioner_usage_pct",
            "Capacity of a Provisioner's nodes in percent of its limit",
            m.provisioner_usage_pct,
        );
        registry.register("karpenter_nodepools_limit", "Limit of a NodePool", m.nodepool_limit);
        registry.register("karpenter_nodepools_usage", "Capacity of a NodePool's nodes", m.nodepool_usage);
        registry.register("karpenter_cloudprovider_duration_seconds", "Time of a call to the cloud", m.cloud_duration);
        registry.register("karpenter_cloudprovider_errors", "Calls to the cloud that failed", m.cloud_errors);
        registry.register("tandem_plans", "Plans for pending pods, by what became of them", m.plans);
        registry.register(
            "tandem_plan_violations",
            "Broken promises the independent check found in plans; none was acted on",
            m.plan_violations,
        );
        registry.register(
            "tandem_pod_nominations",
            "Pods nominated to the kube-scheduler for a new node, by what became of the request",
            m.nominations,
        );
        registry.register(
            "tandem_planned_cost_usd_per_hour",
            "Cost of the new nodes of the last plan that had any",
            m.planned_cost,
        );
        registry.register(
            "tandem_garbage_machines_ended",
            "Machines without a claim that were ended",
            m.garbage_machines,
        );
        metrics
    }
}

/// Upper bounds in seconds, as Karpenter's.
const BUCKETS: [f64; 19] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 150.0, 300.0, 450.0, 600.0,
];
