//! The end of an object.

use std::time::Duration;

use api::keda::{FINALIZER, ScaledObject};
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;

use super::{Actor, RETRY, Stop};

/// The delete event wakes us; this is only the wait if it were lost.
const GONE_SOON: Duration = Duration::from_secs(5);

impl Actor {
    /// Gives the target its old size back if asked, and lets the object go.
    pub(super) async fn finish(&mut self, object: &ScaledObject) -> Instant {
        if !object.finalizers().iter().any(|f| f == FINALIZER) {
            return Instant::now() + GONE_SOON;
        }
        match self.let_go(object).await {
            Ok(()) => Instant::now() + GONE_SOON,
            Err(Stop::Overtaken) => Instant::now() + RETRY.0,
            Err(Stop::Manifest(what) | Stop::World(what) | Stop::Target(what)) => {
                tracing::warn!(object = %self.key, what, "deletion has to wait");
                self.publish(object, Kind::Warning, "ScaledObjectUpdateFailed", "Delete", what).await;
                self.failed_looks = self.failed_looks.saturating_add(1);
                Instant::now() + RETRY.0.saturating_mul(1 << self.failed_looks.min(6)).min(RETRY.1)
            }
        }
    }

    async fn let_go(&mut self, object: &ScaledObject) -> Result<(), Stop> {
        let restore = object.spec.advanced.as_ref().is_some_and(|a| a.restore_to_original_replica_count);
        let original = self.status_of(object).original_replica_count.and_then(|n| u32::try_from(n).ok());
        // A workload that another one has is not ours to restore.
        let taken = self.check_masters(object).err();
        if let (true, Some(_), Some(Stop::World(what))) = (restore, original, &taken) {
            let note = format!("the workload keeps its replicas: {what}");
            self.publish(object, Kind::Warning, "ScaledObjectNotRestored", "Delete", note).await;
        }
        if let (true, Some(original), None) = (restore, original, taken) {
            // The HPA would otherwise scale on until the garbage collector comes.
            self.delete_hpa(object, &object.spec.hpa_name(&self.key.name)).await?;
            match self.scale_once(object, original, "Restored").await {
                // A target that is gone, or cannot be scaled any more, needs no size.
                Ok(()) | Err(Stop::Manifest(_) | Stop::Target(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
        let finalizers: Vec<&String> = object.finalizers().iter().filter(|f| *f != FINALIZER).collect();
        let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": finalizers}});
        let api: Api<ScaledObject> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        match api.patch_metadata(&self.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => {
                let note = "ScaledObject was deleted".to_owned();
                self.publish(object, Kind::Warning, "ScaledObjectDeleted", "Delete", note).await;
                Ok(())
            }
            Err(kube::Error::Api(answer)) if answer.is_not_found() => Ok(()),
            Err(kube::Error::Api(answer)) if answer.is_conflict() => Err(Stop::Overtaken),
            Err(error) => Err(Stop::World(format!("the finalizer could not be removed: {}", chain(&error)))),
        }
    }
}
