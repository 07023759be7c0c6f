//! Jobs that go: those of an older spec, if the ScaledJob wants that, and those that ended long ago.

use api::keda::{RolloutPropagation, RolloutStrategy, ScaledJob};
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{DeleteParams, PropagationPolicy};
use scaling::jobs::history::{JobRecord, beyond, outdated};

use super::actor::JobActor;
use super::count;
use crate::actor::Stop;

impl JobActor {
    /// Deletes the Jobs of older generations once per generation, unless they may end by themselves.
    pub(super) async fn roll_out(&mut self, object: &ScaledJob) -> Result<(), Stop> {
        let Some(generation) = object.metadata.generation.filter(|generation| self.rolled != Some(*generation)) else {
            return Ok(());
        };
        if object.spec.effective_rollout_strategy() == RolloutStrategy::Gradual {
            return Ok(());
        }
        let records = self.jobs().await?;
        let old = outdated(&records, generation);
        if old.is_empty() {
            return Ok(());
        }
        let policy = match object.spec.rollout.as_ref().and_then(|rollout| rollout.propagation_policy) {
            Some(RolloutPropagation::Foreground) => PropagationPolicy::Foreground,
            Some(RolloutPropagation::Background) | None => PropagationPolicy::Background,
        };
        let note = format!("Deleting {} jobs of an older spec", old.len());
        self.publish(object, Kind::Normal, "ScaledJobRolloutCleanupStarted", note).await;
        match self.delete(&old, policy).await {
            Ok(()) => {
                let note = format!("Deleted {} jobs of an older spec", old.len());
                self.publish(object, Kind::Normal, "ScaledJobRolloutCleanupCompleted", note).await;
                Ok(())
            }
            Err(error) => {
                let text = format!("jobs of an older spec could not be deleted: {}", chain(&error));
                self.publish(object, Kind::Warning, "ScaledJobRolloutCleanupFailed", text.clone()).await;
                Err(Stop::World(text))
            }
        }
    }

    /// Deletes ended Jobs beyond the history limits.
    pub(super) async fn clean_up(&self, object: &ScaledJob, records: &[JobRecord]) {
        let old = beyond(records, count::limits(object));
        if let Err(error) = self.delete(&old, PropagationPolicy::Background).await {
            tracing::warn!(job = %self.key, error = chain(&error), "ended Jobs not deleted, trying again at the next poll");
        }
    }

    async fn delete(&self, jobs: &[&JobRecord], policy: PropagationPolicy) -> Result<(), kube::Error> {
        let api: Api<Job> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        let _permit = self.shared.acting.acquire().await;
        for job in jobs {
            match api.delete(&job.name, &params).await {
                Ok(_) => {}
                Err(kube::Error::Api(answer)) if answer.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
