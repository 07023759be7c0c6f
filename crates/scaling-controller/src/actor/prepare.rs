//! Everything around an object that has to be so before it is polled.

use std::sync::Arc;
use std::time::Duration;

use api::admission::irrelevant;
use api::keda::annotations::TRANSFER_HPA_OWNERSHIP;
use api::keda::{FINALIZER, SCALED_OBJECT_LABEL, ScaledObject, ScaledObjectStatus};
use api::unsupported::unsupported;
use api::{FieldNotice, joined};
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use scaling::{Condition, FullPause, Pausing, hpa as plan};
use serde_json::json;
use tokio::time::Instant;

use super::{Actor, IDLE, RETRY, Stop};
use crate::conflict::{conflict, same_target, scales};
use crate::credentials::Owner;
use crate::hpa::{self, Baseline, Found, compare, owned_by};
use crate::object::{check, fingerprint, pausing, polling_interval, scalers_started, text};
use crate::source::{ObjectSource, asks};
use crate::status;
use crate::target::TargetError;

/// Longest time the watch may take to show an HPA that we created.
const WATCH_LAG: Duration = Duration::from_secs(5);

impl From<TargetError> for Stop {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Conflict => Self::Overtaken,
            TargetError::ApiVersion(_) => Self::Manifest(error.to_string()),
            TargetError::Kind { .. } | TargetError::Missing { .. } | TargetError::NoScale { .. } => {
                Self::Target(error.to_string())
            }
            TargetError::Api { .. } => Self::World(format!("spec.scaleTargetRef: {}", chain(&error))),
        }
    }
}

impl Actor {
    pub(super) async fn reconcile(
        &mut self,
        object: &ScaledObject,
        status: &mut ScaledObjectStatus,
    ) -> Result<Instant, Stop> {
        self.ensure_metadata(object).await?;
        let pausing = pausing(object).map_err(|error| Stop::Manifest(error.to_string()))?;
        self.shared.metrics.set_paused(&self.key, pausing.any());
        if let Some(full) = pausing.full {
            return self.pause(object, &pausing, full, status).await;
        }
        status.paused_replica_count = None;
        let settings = check(object).map_err(|wrong| Stop::Manifest(joined(wrong)))?;
        let now = fingerprint(object);
        // Who has changed something does not wait for what the old interval has left.
        if self.polled.is_some_and(|before| before != now) {
            self.next_poll = self.next_poll.min(Instant::now());
        }
        let source = self.source(object).await?;
        self.listener.listen_to(&source);
        let own = self.shared.sources.hpas.get(&self.key.namespace, &object.spec.hpa_name(&self.key.name));
        let own = own.filter(|hpa| owned_by(hpa.as_ref(), object)).map(|hpa| hpa.whole());
        status::mirror_hpa(status, own.as_ref());
        let changed = self.prepared != Some(now);
        if (changed || self.shared.claims.may_concern(object))
            && let Err(taken) = self.check_masters(object)
        {
            self.leave(object, status).await?;
            return Err(taken);
        }
        if self.has_moved(object) {
            // What is given back some day is the size of the workload that is named now.
            status.original_replica_count = None;
        }
        // Targets are not watched. The HPA asks for its target's scale all the time, and says so when it gets none.
        if changed || own.as_ref().is_some_and(hpa::misses_its_target) {
            self.prepare_target(object, status).await?;
            // The HPA, and we, may scale from here on; then nobody can tell any more how large the workload was.
            if self.status_of(object).original_replica_count != status.original_replica_count {
                self.keep(object, status).await?;
            }
            // Not before that: an object that has moved is still to be seen as such if its new count could not be written.
            self.target_ref = Some(object.spec.scale_target_ref.clone());
        }
        let hpa_name = self.ensure_hpa(object, &settings, &pausing, &source, status).await?;
        status::describe(status, object, &source, &hpa_name);
        self.prepared = Some(now);
        self.tell_about(object, &source).await;
        status::set(status, &Condition::paused(&pausing));
        self.poll(object, &settings, pausing, &source, status).await
    }

    /// The triggers; if a poll is due, with credentials as they are now.
    async fn source(&self, object: &ScaledObject) -> Result<Arc<ObjectSource>, Stop> {
        let interval = polling_interval(object);
        let max_age = if Instant::now() < self.next_poll { interval * 6 / 5 } else { Duration::ZERO };
        let built = self.shared.sources.of(object, max_age).await;
        // What credentials come from, and servers that say which metrics they have, may change without the object.
        let world = Owner::of(object).needs_any() || asks(&object.spec.triggers);
        built.map_err(|wrong| if world { Stop::World(joined(wrong)) } else { Stop::Manifest(joined(wrong)) })
    }

    /// The finalizer and the label the HPA's selector names.
    async fn ensure_metadata(&self, object: &ScaledObject) -> Result<(), Stop> {
        let labelled = object.labels().get(SCALED_OBJECT_LABEL) == Some(&self.key.name);
        let mut finalizers = object.finalizers().to_vec();
        if labelled && finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(());
        }
        if !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        let mut labels = serde_json::Map::new();
        // A name that is too long for a label is refused by the checks, which come next.
        if self.key.name.len() <= 63 {
            labels.insert(SCALED_OBJECT_LABEL.to_owned(), json!(self.key.name));
        }
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version(), "finalizers": finalizers, "labels": labels,
        }});
        let _permit = self.shared.acting.acquire().await;
        let api: Api<ScaledObject> = Api::namespaced(self.shared.client.clone(), &self.key.namespace);
        match api.patch_metadata(&self.key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            // The watch brings the object as it is now, and with it the next look.
            Ok(_) => Err(Stop::Overtaken),
            Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => Err(Stop::Overtaken),
            Err(error) => Err(Stop::World(format!("finalizer and label could not be written: {}", chain(&error)))),
        }
    }

    /// The target must have no other master.
    pub(super) fn check_masters(&self, object: &ScaledObject) -> Result<(), Stop> {
        let sources = &self.shared.sources;
        let (objects, hpas) = (sources.objects.state(), sources.hpas.state());
        let found = conflict(object, objects.iter().map(AsRef::as_ref), hpas.iter().map(AsRef::as_ref));
        found.map_or(Ok(()), |what| Err(Stop::World(what.to_string())))
    }

    /// Lets go of the workload that the object no longer names, though it may not have the one that it names now: its HPA would
    /// scale the old one by what is measured for the new one, and two objects that change places would wait for each other.
    async fn leave(&mut self, object: &ScaledObject, status: &mut ScaledObjectStatus) -> Result<(), Stop> {
        let names = [Some(object.spec.hpa_name(&self.key.name)), status.hpa_name.clone()];
        for name in names.into_iter().flatten() {
            let Some(found) = self.shared.sources.hpas.get(&self.key.namespace, &name) else { continue };
            if !owned_by(found.as_ref(), object) || scales(&found.target, &object.spec.scale_target_ref) {
                continue;
            }
            self.delete_hpa(object, &name).await?;
            status.original_replica_count = None;
            let left = &found.target;
            let note = format!(
                "the HPA '{name}' is gone, for the ScaledObject no longer names {} '{}', which keeps its replicas",
                left.kind, left.name
            );
            self.publish(object, Kind::Normal, "HPADeleted", "Reconcile", note).await;
        }
        Ok(())
    }

    /// Whether the object has been pointed to another workload since it was last prepared.
    fn has_moved(&self, object: &ScaledObject) -> bool {
        let target = &object.spec.scale_target_ref;
        match &self.target_ref {
            Some(before) => !same_target(before, target),
            // It may have been while nobody looked.
            None => self.shared.sources.own_hpas(object).any(|hpa| !scales(&hpa.target, target)),
        }
    }

    /// Finds the target and its size.
    async fn prepare_target(&mut self, object: &ScaledObject, status: &mut ScaledObjectStatus) -> Result<(), Stop> {
        let sources = &self.shared.sources;
        let _permit = self.shared.acting.acquire().await;
        let target = sources.targets.resolve(&self.key.namespace, &object.spec.scale_target_ref).await?;
        let read = target.read().await?;
        self.replicas = Some(read.replicas());
        status.scale_target_kind = Some(target.kind.text());
        status.scale_target_gvkr = Some(target.kind.gvkr());
        if status.original_replica_count.is_none() {
            status.original_replica_count = i32::try_from(read.replicas()).ok();
        }
        self.target = Some(target);
        Ok(())
    }

    /// Makes the HPA as it should be; returns its name.
    pub(super) async fn ensure_hpa(
        &mut self,
        object: &ScaledObject,
        settings: &scaling::Settings,
        pausing: &Pausing,
        source: &ObjectSource,
        status: &ScaledObjectStatus,
    ) -> Result<String, Stop> {
        let name = object.spec.hpa_name(&self.key.name);
        let from = plan::Source {
            name: &self.key.name,
            labels: object.labels(),
            annotations: object.annotations(),
            hpa_name: Some(&name),
        };
        let found = self.shared.sources.hpas.get(&self.key.namespace, &name);
        // Whoever had the object before has left in its HPA whether the target rests.
        let was_at_rest = || found.as_ref().is_some_and(|hpa| hpa::at_rest(&hpa.whole(), settings.replicas));
        let bounds = settings.replicas.of_hpa(self.at_rest.unwrap_or_else(was_at_rest));
        let wanted = plan::plan(from, bounds, pausing, source.metrics.clone(), env!("CARGO_PKG_VERSION"))
            .map_err(|error| Stop::Manifest(error.to_string()))?;
        let desired = hpa::object(object, &wanted);
        match found {
            Some(found) => {
                self.created_hpa = None;
                if !self.baseline.is_some_and(|known| known.is(&desired, found.as_ref())) {
                    self.correct_hpa(object, &desired, &found.whole()).await?;
                }
            }
            None if self.created_hpa.is_some_and(|at| at.elapsed() < WATCH_LAG) => {}
            None => self.create_hpa(object, &desired).await?,
        }
        if let Some(old) = status.hpa_name.as_deref().filter(|old| *old != name) {
            self.delete_hpa(object, old).await?;
        }
        Ok(name)
    }

    async fn create_hpa(&mut self, object: &ScaledObject, desired: &HorizontalPodAutoscaler) -> Result<(), Stop> {
        let permit = self.shared.acting.acquire().await;
        match self.hpas().create(&PostParams::default(), desired).await {
            Ok(stored) => {
                self.baseline = Some(Baseline::of(desired, &stored));
                self.created_hpa = Some(Instant::now());
                Ok(())
            }
            Err(kube::Error::Api(answer)) if answer.is_already_exists() => {
                drop(permit);
                // The watch is behind; ask directly.
                let found = self.hpas().get_opt(&desired.name_any()).await;
                match found.map_err(|error| hpa_failed("read", &error))? {
                    Some(found) => self.correct_hpa(object, desired, &found).await,
                    None => Err(Stop::Overtaken),
                }
            }
            Err(error) => Err(hpa_failed("created", &error)),
        }
    }

    async fn correct_hpa(
        &mut self,
        object: &ScaledObject,
        desired: &HorizontalPodAutoscaler,
        found: &HorizontalPodAutoscaler,
    ) -> Result<(), Stop> {
        if found.metadata.deletion_timestamp.is_some() {
            return Err(Stop::Overtaken);
        }
        if owned_by(found, object) {
            match compare(self.baseline, desired, found) {
                Found::InSync(baseline) => {
                    self.baseline = Some(baseline);
                    return Ok(());
                }
                Found::Stale => return Ok(()),
                Found::Differs => {}
            }
        } else {
            may_adopt(object, found)?;
        }
        let mut replacement = desired.clone();
        replacement.metadata.resource_version.clone_from(&found.metadata.resource_version);
        let _permit = self.shared.acting.acquire().await;
        match self.hpas().replace(&desired.name_any(), &PostParams::default(), &replacement).await {
            Ok(stored) => {
                self.baseline = Some(Baseline::of(desired, &stored));
                Ok(())
            }
            Err(kube::Error::Api(answer)) if answer.is_conflict() || answer.is_not_found() => Err(Stop::Overtaken),
            Err(error) => Err(hpa_failed("updated", &error)),
        }
    }

    /// Deletes an HPA of this object, if it is there.
    pub(super) async fn delete_hpa(&self, object: &ScaledObject, name: &str) -> Result<(), Stop> {
        let Some(found) = self.shared.sources.hpas.get(&self.key.namespace, name) else { return Ok(()) };
        if !owned_by(found.as_ref(), object) || found.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let exactly = Preconditions { uid: found.uid(), ..Preconditions::default() };
        let _permit = self.shared.acting.acquire().await;
        match self.hpas().delete(name, &DeleteParams::default().preconditions(exactly)).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(answer)) if answer.is_not_found() || answer.is_conflict() => Ok(()),
            Err(error) => Err(hpa_failed("deleted", &error)),
        }
    }

    fn hpas(&self) -> Api<HorizontalPodAutoscaler> {
        Api::namespaced(self.shared.client.clone(), &self.key.namespace)
    }

    /// Holds everything: no HPA, no polls, and the replicas the annotation asks for, once.
    ///
    /// The workload must not be somebody else's: only who has it may hold it. That it is held is written down before the HPA goes,
    /// so that nobody takes the workload in between.
    async fn pause(
        &mut self,
        object: &ScaledObject,
        pausing: &Pausing,
        full: FullPause,
        status: &mut ScaledObjectStatus,
    ) -> Result<Instant, Stop> {
        self.check_masters(object)?;
        status::set(status, &Condition::ready_while_paused());
        status::set(status, &Condition::paused(pausing));
        if !object.status.as_ref().is_some_and(|status| status::is_true(status, "Paused")) {
            // The watch brings the status that is written now, and with it the next look.
            return Ok(Instant::now() + RETRY.0.saturating_mul(1 << self.unsaved.min(6)).min(RETRY.1));
        }
        self.prepared = None;
        self.baseline = None;
        self.created_hpa = None;
        self.delete_hpa(object, &object.spec.hpa_name(&self.key.name)).await?;
        if let FullPause::At(replicas) = full {
            let asked = i32::try_from(replicas).ok();
            if status.paused_replica_count != asked {
                self.scale_once(object, replicas, "PausedAt").await?;
                status.paused_replica_count = asked;
            }
        } else {
            status.paused_replica_count = None;
        }
        Ok(Instant::now() + IDLE)
    }

    /// Brings the target to a count, whatever it is at.
    pub(super) async fn scale_once(&mut self, object: &ScaledObject, replicas: u32, why: &str) -> Result<(), Stop> {
        let _permit = self.shared.acting.acquire().await;
        let target = self.shared.sources.targets.resolve(&self.key.namespace, &object.spec.scale_target_ref).await?;
        let read = target.read().await?;
        if read.replicas() != replicas {
            target.write(&read, replicas).await?;
            self.shared.metrics.scale_written(why);
        }
        self.replicas = Some(replicas);
        Ok(())
    }

    /// Says once per generation that the triggers are watched, and what of them has no effect.
    async fn tell_about(&mut self, object: &ScaledObject, source: &ObjectSource) {
        if self.announced == object.metadata.generation && self.announced.is_some() {
            return;
        }
        self.announced = object.metadata.generation;
        for started in scalers_started(&object.spec.triggers) {
            self.publish(object, Kind::Normal, "KEDAScalersStarted", "Watch", started).await;
        }
        for without_effect in irrelevant(&object.spec) {
            self.publish(object, Kind::Normal, "KEDAScalerInfo", "Check", without_effect).await;
        }
        let mut notices = unsupported(object);
        notices.extend(
            source
                .triggers
                .iter()
                .flat_map(|trigger| &trigger.notices)
                .map(|notice| FieldNotice::new(format!("spec.{}", notice.field), notice.message.clone())),
        );
        notices.extend(source.left_out().map(|index| {
            let message = "the formula in scalingModifiers does not name this trigger, so it has no effect";
            FieldNotice::new(format!("spec.triggers[{index}]"), message)
        }));
        if !notices.is_empty() {
            self.publish(object, Kind::Warning, "KEDAScalerInfo", "Check", text(&notices)).await;
        }
    }
}

/// Whether an HPA that is not ours may become ours: only if its object's annotation says so, and nobody else controls it.
fn may_adopt(object: &ScaledObject, found: &HorizontalPodAutoscaler) -> Result<(), Stop> {
    let asked = object.annotations().get(TRANSFER_HPA_OWNERSHIP).is_some_and(|value| value == "true");
    let controlled = found.owner_references().iter().any(|owner| owner.controller == Some(true));
    if asked && !controlled {
        return Ok(());
    }
    Err(Stop::World(format!(
        "an HPA named '{}' exists and does not belong to this ScaledObject; delete it, or take it over with the annotation \
         {TRANSFER_HPA_OWNERSHIP}: \"true\"",
        found.name_any()
    )))
}

fn hpa_failed(what: &str, error: &kube::Error) -> Stop {
    let field = written_as(error).map(|field| format!("{field}: ")).unwrap_or_default();
    let text = format!("{field}the HPA could not be {what}: {}", chain(error));
    // What the API server calls invalid stays so until its owner changes it.
    if matches!(error, kube::Error::Api(status) if status.code == 422) {
        Stop::Manifest(text)
    } else {
        Stop::World(text)
    }
}

/// Which field of a ScaledObject the API server means that does not take what the HPA has from it.
fn written_as(error: &kube::Error) -> Option<&'static str> {
    let kube::Error::Api(status) = error else { return None };
    status.details.as_ref()?.causes.iter().find_map(|cause| match cause.field.as_str() {
        "metadata.name" => Some("spec.advanced.horizontalPodAutoscalerConfig.name"),
        field if field.starts_with("spec.behavior") => Some("spec.advanced.horizontalPodAutoscalerConfig.behavior"),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_does_not_take_is_named_as_it_was_written() {
        let refused = |field: &str| {
            let causes = json!([{"reason": "FieldValueInvalid", "message": "Invalid value", "field": field}]);
            let status: Status = serde_json::from_value(json!({
                "status": "Failure", "code": 422, "reason": "Invalid", "details": {"causes": causes},
                "message": format!("HorizontalPodAutoscaler \"A\" is invalid: {field}: Invalid value"),
            }))
            .unwrap();
            match hpa_failed("created", &kube::Error::Api(Box::new(status))) {
                Stop::Manifest(text) => text,
                other => panic!("{other:?}"),
            }
        };
        for (field, written) in [
            ("metadata.name", "spec.advanced.horizontalPodAutoscalerConfig.name: "),
            ("spec.behavior.scaleUp.policies[0]", "spec.advanced.horizontalPodAutoscalerConfig.behavior: "),
            ("spec.metrics[0]", ""),
        ] {
            assert_eq!(
                refused(field),
                format!(
                    "{written}the HPA could not be created: HorizontalPodAutoscaler \"A\" is invalid: {field}: Invalid value"
                )
            );
        }
    }
}
