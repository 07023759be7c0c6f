//! The watches, and the one task that turns their stores into worlds.

use std::{sync::Arc, time::Duration};

use api::{
    karpenter_aws::{AWSNodeTemplate, EC2NodeClass},
    karpenter_kwok::KWOKNodeClass,
    karpenter_v1::{NodeClaim, NodePool},
    karpenter_v1alpha1::NodeOverlay,
    karpenter_v1alpha5::Provisioner,
};
use controller_runtime::{
    health::Check,
    index::{Snapshots, Wakeup, Watched, watch_all},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{StorageClass, VolumeAttachment},
};
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    world::{Objects, World},
};

/// Changes that come within this time make one world: a rollout changes hundreds of pods at once, and building a world
/// is linear in the cluster.
const GATHER: Duration = Duration::from_millis(50);

/// Every watch of this controller.
#[derive(Clone, Debug)]
pub(crate) struct Watches {
    pods: Watched<Pod>,
    nodes: Watched<Node>,
    claims: Watched<NodeClaim>,
    provisioners: Watched<Provisioner>,
    node_pools: Watched<NodePool>,
    node_overlays: Watched<NodeOverlay>,
    node_templates: Watched<AWSNodeTemplate>,
    node_classes: Watched<EC2NodeClass>,
    /// Only where machines are KWOK's: other clusters need not have the kind.
    kwok_classes: Option<Watched<KWOKNodeClass>>,
    daemon_sets: Watched<DaemonSet>,
    namespaces: Watched<Namespace>,
    volume_attachments: Watched<VolumeAttachment>,
    volume_claims: Watched<PersistentVolumeClaim>,
    volumes: Watched<PersistentVolume>,
    storage_classes: Watched<StorageClass>,
}

impl Watches {
    /// Starts all of them; those of KWOK's classes if they are wanted.
    pub(crate) fn start(client: &Client, kwok_classes: bool, wakeup: &Wakeup, shutdown: &CancellationToken) -> Self {
        Self {
            pods: watch_all(client, wakeup, shutdown),
            nodes: watch_all(client, wakeup, shutdown),
            claims: watch_all(client, wakeup, shutdown),
            provisioners: watch_all(client, wakeup, shutdown),
            node_pools: watch_all(client, wakeup, shutdown),
            node_overlays: watch_all(client, wakeup, shutdown),
            node_templates: watch_all(client, wakeup, shutdown),
            node_classes: watch_all(client, wakeup, shutdown),
            kwok_classes: kwok_classes.then(|| watch_all(client, wakeup, shutdown)),
            daemon_sets: watch_all(client, wakeup, shutdown),
            namespaces: watch_all(client, wakeup, shutdown),
            volume_attachments: watch_all(client, wakeup, shutdown),
            volume_claims: watch_all(client, wakeup, shutdown),
            volumes: watch_all(client, wakeup, shutdown),
            storage_classes: watch_all(client, wakeup, shutdown),
        }
    }

    /// Kinds whose first list has not come, for the readiness probe.
    fn missing(&self) -> Vec<&'static str> {
        let all = [
            ("pods", self.pods.is_synced()),
            ("nodes", self.nodes.is_synced()),
            ("nodeclaims", self.claims.is_synced()),
            ("provisioners", self.provisioners.is_synced()),
            ("nodepools", self.node_pools.is_synced()),
            ("nodeoverlays", self.node_overlays.is_synced()),
            ("awsnodetemplates", self.node_templates.is_synced()),
            ("ec2nodeclasses", self.node_classes.is_synced()),
            ("kwoknodeclasses", self.kwok_classes.as_ref().is_none_or(Watched::is_synced)),
            ("daemonsets", self.daemon_sets.is_synced()),
            ("namespaces", self.namespaces.is_synced()),
            ("volumeattachments", self.volume_attachments.is_synced()),
            ("persistentvolumeclaims", self.volume_claims.is_synced()),
            ("persistentvolumes", self.volumes.is_synced()),
            ("storageclasses", self.storage_classes.is_synced()),
        ];
        all.into_iter().filter(|(_, synced)| !synced).map(|(kind, _)| kind).collect()
    }

    fn objects(&self) -> Objects {
        // Nodes and claims before pods: a pod bound in between is then seen on its node, not as pending.
        let (nodes, claims) = (self.nodes.state(), self.claims.state());
        Objects {
            nodes,
            claims,
            provisioners: self.provisioners.state(),
            node_pools: self.node_pools.state(),
            node_overlays: self.node_overlays.state(),
            node_templates: self.node_templates.state(),
            node_classes: self.node_classes.state(),
            kwok_classes: self.kwok_classes.as_ref().map(Watched::state).unwrap_or_default(),
            daemon_sets: self.daemon_sets.state(),
            namespaces: self.namespaces.state(),
            volume_attachments: self.volume_attachments.state(),
            volume_claims: self.volume_claims.state(),
            volumes: self.volumes.state(),
            storage_classes: self.storage_classes.state(),
            pods: self.pods.state(),
        }
    }

    /// Publishes worlds until the shutdown, the first one only when every watch has its first list.
    pub(crate) async fn publish(
        self,
        wakeup: Wakeup,
        snapshots: Arc<Snapshots<Arc<World>>>,
        ready: Check,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) {
        let mut rings = wakeup.listen();
        loop {
            rings.borrow_and_update();
            let missing = self.missing();
            if missing.is_empty() {
                ready.ready();
                metrics.synced.set(1);
                let world = World::new(self.objects());
                metrics.node_count.set(i64::try_from(world.members.len()).unwrap_or(i64::MAX));
                snapshots.publish(Arc::new(world));
            } else {
                ready.not_ready(format!("waiting for the first list of {}", missing.join(", ")));
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = rings.changed() => if changed.is_err() { return },
            }
            tokio::time::sleep(GATHER).await;
        }
    }
}
