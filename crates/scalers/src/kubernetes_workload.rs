//! `kubernetes-workload`: how many pods match a selector.
//!
//! Differs from KEDA: a selector that cannot be read is refused when the trigger is built.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;

use crate::cluster::{Cluster, LivePod};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// How many pods of the object's namespace match a selector, without those that have succeeded or failed.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Settings {
    /// Label selector, `app=web,tier in (a, b)`.
    pod_selector: String,
    /// How many pods one replica should have.
    #[param(above = "0")]
    value: Number,
    /// Active when there are more pods than this.
    #[param(default = "0")]
    activation_value: Number,
    /// Count the nodes that run such pods instead of the pods.
    #[param(default = "false")]
    group_by_node: bool,
}

/// The pods of one namespace that match a selector.
#[derive(Debug)]
pub(crate) struct KubernetesWorkload {
    cluster: Arc<dyn Cluster>,
    namespace: String,
    selector: String,
    group_by_node: bool,
}

#[async_trait]
impl Source for KubernetesWorkload {
    type Settings = Settings;
    const LABEL: &'static str = "kubernetesWorkloadScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let cluster = context.cluster.ok_or_else(|| {
            BuildError::new("type", "pods cannot be counted here: this program has no access to the cluster's pods")
        })?;
        let source = Self {
            cluster: Arc::clone(cluster),
            namespace: context.namespace.to_owned(),
            selector: settings.pod_selector,
            group_by_node: settings.group_by_node,
        };
        let name = format!("workload-{}", context.namespace);
        Ok(Connected::new(context, source, name, settings.value, settings.activation_value))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let pods = self.cluster.live_pods(&self.namespace, &self.selector).await?;
        Reading::count(count(&pods, self.group_by_node))
    }
}

/// Pods, or the nodes they are on; a pod that is on no node yet is on none.
fn count(pods: &[LivePod], group_by_node: bool) -> i64 {
    let things = if group_by_node {
        pods.iter().filter_map(|pod| pod.node.as_deref()).collect::<BTreeSet<_>>().len()
    } else {
        pods.len()
    };
    i64::try_from(things).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, refusal};

    /// A namespace with three pods.
    #[derive(Debug)]
    struct Three;

    #[async_trait]
    impl Cluster for Three {
        async fn live_pods(&self, namespace: &str, selector: &str) -> Result<Vec<LivePod>, ScalerError> {
            assert_eq!((namespace, selector), ("shop", "app=web"));
            Ok([Some("n1"), Some("n1"), None].map(|node| LivePod { node: node.map(str::to_owned) }).into())
        }

        async fn ready_endpoints(&self, _: &str, _: &str) -> Result<Vec<String>, ScalerError> {
            Err(ScalerError::Unavailable("not asked here".into()))
        }
    }

    #[tokio::test]
    async fn pods_or_their_nodes_are_counted() {
        for (group_by_node, activation, things, active) in
            [("false", "2", 3, true), ("false", "3", 3, false), ("true", "0", 1, true)]
        {
            let trigger = Trigger::new(&[
                ("podSelector", "app=web"),
                ("value", "2"),
                ("groupByNode", group_by_node),
                ("activationValue", activation),
            ])
            .cluster(Arc::new(Three));
            let sampled = trigger.sample::<KubernetesWorkload>().await.unwrap();
            assert_eq!((sampled.value.thousandths(), sampled.active), (things * 1_000, active), "{group_by_node}");
            assert_eq!(trigger.build::<KubernetesWorkload>().unwrap().metrics()[0].name, "s0-workload-shop");
        }
    }

    #[test]
    fn without_a_cluster_nothing_is_counted() {
        assert_eq!(refusal::<KubernetesWorkload>(&[("podSelector", "app=web"), ("value", "2")]), ["type"]);
        assert_eq!(refusal::<KubernetesWorkload>(&[("podSelector", "a"), ("value", "0")]), ["value"]);
    }
}
