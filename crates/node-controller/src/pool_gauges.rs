//! How much pools use of what they may, as series.

use std::collections::{BTreeMap, BTreeSet};

use scheduling::{PoolKey, PoolKind};
use units::{ResourceList, ResourceName};

use crate::metrics::{Metrics, NodePoolResource, ProvisionerResource};

/// The series that are there, so that they go with their pool, and a pool without nodes uses nothing.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    used: BTreeSet<(PoolKey, ResourceName)>,
    limited: BTreeSet<(PoolKey, ResourceName)>,
}

impl Gauges {
    /// Shows what each pool uses, and its limits if it has any; nothing of pools that are not among them.
    pub(crate) fn show(&mut self, metrics: &Metrics, pools: &BTreeMap<PoolKey, (ResourceList, Option<ResourceList>)>) {
        let mut limited = BTreeSet::new();
        self.used.retain(|(pool, name)| {
            let there = pools.contains_key(pool);
            if !there {
                remove(metrics, pool, name, Series::Usage);
            }
            there
        });
        for (pool, (used, limits)) in pools {
            let names = used.iter().chain(limits.iter().flat_map(ResourceList::iter));
            self.used.extend(names.map(|(name, _)| (pool.clone(), name.clone())));
            for (name, limit) in limits.iter().flat_map(ResourceList::iter) {
                show_limit(metrics, pool, name, value(name, limit.0), value(name, used.get(name).0));
                limited.insert((pool.clone(), name.clone()));
            }
        }
        for (pool, name) in &self.used {
            let used = pools.get(pool).map(|(used, _)| used.get(name).0).unwrap_or_default();
            show_usage(metrics, pool, name, value(name, used));
        }
        for (pool, name) in self.limited.difference(&limited) {
            remove(metrics, pool, name, Series::Limit);
        }
        self.limited = limited;
    }
}

#[derive(Clone, Copy)]
enum Series {
    Usage,
    Limit,
}

fn of_provisioner(pool: &PoolKey, name: &ResourceName) -> ProvisionerResource {
    ProvisionerResource { resource_type: name.to_string(), provisioner: pool.name.clone() }
}

fn of_node_pool(pool: &PoolKey, name: &ResourceName) -> NodePoolResource {
    NodePoolResource { resource_type: name.to_string(), nodepool: pool.name.clone() }
}

fn show_usage(metrics: &Metrics, pool: &PoolKey, name: &ResourceName, used: f64) {
    match pool.kind {
        PoolKind::Provisioner => metrics.provisioner_usage.get_or_create(&of_provisioner(pool, name)).set(used),
        PoolKind::NodePool => metrics.nodepool_usage.get_or_create(&of_node_pool(pool, name)).set(used),
    };
}

fn show_limit(metrics: &Metrics, pool: &PoolKey, name: &ResourceName, limit: f64, used: f64) {
    match pool.kind {
        PoolKind::Provisioner => {
            let labels = of_provisioner(pool, name);
            metrics.provisioner_limit.get_or_create(&labels).set(limit);
            let percent = if limit > 0.0 { used / limit * 100.0 } else { 0.0 };
            metrics.provisioner_usage_pct.get_or_create(&labels).set(percent);
        }
        PoolKind::NodePool => {
            metrics.nodepool_limit.get_or_create(&of_node_pool(pool, name)).set(limit);
        }
    }
}

fn remove(metrics: &Metrics, pool: &PoolKey, name: &ResourceName, series: Series) {
    let (provisioner, node_pool) = (of_provisioner(pool, name), of_node_pool(pool, name));
    match (series, pool.kind) {
        (Series::Usage, PoolKind::Provisioner) => _ = metrics.provisioner_usage.remove(&provisioner),
        (Series::Usage, PoolKind::NodePool) => _ = metrics.nodepool_usage.remove(&node_pool),
        (Series::Limit, PoolKind::Provisioner) => {
            metrics.provisioner_limit.remove(&provisioner);
            metrics.provisioner_usage_pct.remove(&provisioner);
        }
        (Series::Limit, PoolKind::NodePool) => _ = metrics.nodepool_limit.remove(&node_pool),
    }
}

/// In the units of Karpenter's gauges: cores, bytes, counts.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; sizes of clusters stay far below 2^53")]
fn value(name: &ResourceName, amount: i64) -> f64 {
    if name.is_cpu() { amount as f64 / 1000.0 } else { amount as f64 }
}

#[cfg(test)]
mod tests {
    use controller_runtime::metrics::Registry;
    use units::Amount;

    use super::*;

    #[test]
    fn series_follow_their_pool() {
        let registry = Registry::default();
        let metrics = Metrics::register(&registry);
        let lines = |registry: &Registry| {
            let ours =
                |line: &&str| ["karpenter_provisioner_", "karpenter_nodepools_"].iter().any(|of| line.starts_with(of));
            let mut lines: Vec<String> = registry.encode().unwrap().lines().filter(ours).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let cores = |cores: i64| ResourceList::new().with(ResourceName::cpu(), Amount(cores * 1000));
        let pods = |count| ResourceList::new().with(ResourceName::pods(), Amount(count));
        let old = PoolKey { kind: PoolKind::Provisioner, name: "old".to_owned() };
        let new = PoolKey { kind: PoolKind::NodePool, name: "new".to_owned() };
        let mut gauges = Gauges::default();
        let both = BTreeMap::from([(old.clone(), (cores(2), Some(cores(8)))), (new.clone(), (pods(10), None))]);
        gauges.show(&metrics, &both);
        let shown = [
            r#"karpenter_nodepools_usage{resource_type="pods",nodepool="new"} 10.0"#,
            r#"karpenter_provisioner_limit{resource_type="cpu",provisioner="old"} 8.0"#,
            r#"karpenter_provisioner_usage_pct{resource_type="cpu",provisioner="old"} 25.0"#,
            r#"karpenter_provisioner_usage{resource_type="cpu",provisioner="old"} 2.0"#,
        ];
        assert_eq!(lines(&registry), shown);
        // The last node is gone, and so is the limit.
        let idle = BTreeMap::from([(old, (ResourceList::new(), None)), (new, (ResourceList::new(), None))]);
        gauges.show(&metrics, &idle);
        let shown = [
            r#"karpenter_nodepools_usage{resource_type="pods",nodepool="new"} 0.0"#,
            r#"karpenter_provisioner_usage{resource_type="cpu",provisioner="old"} 0.0"#,
        ];
        assert_eq!(lines(&registry), shown);
        gauges.show(&metrics, &BTreeMap::new());
        assert_eq!(lines(&registry), Vec::<String>::new());
    }
}
