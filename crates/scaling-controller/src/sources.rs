//! The reading side: every replica can answer the HPA's question.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::keda::ScaledObject;
use controller_runtime::index::Watched;
use kube::{Client, ResourceExt};
use scalers::{Cluster, Http};
use scaling::hpa::{HpaMetric, NoAnswer, answer};
use scaling::{COMPOSITE, Fallback, Sample, Target, TriggerReading};
use thiserror::Error;
use units::Milli;

use crate::cluster::ApiServer;
use crate::conflict::scales;
use crate::credentials::{Credentials, Owner, Resolver};
use crate::hpa::{compares_with, owned_by};
use crate::known_hpa::KnownHpa;
use crate::metrics::Metrics;
use crate::object::{ObjectKey, Subject, check, polling_interval};
use crate::source::{Asker, ObjectSource, remembered};
use crate::target::{TargetError, Targets};

/// A value for the HPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The value; never negative.
    pub value: Milli,
}

/// Why the HPA gets no value. It then leaves the target alone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// The watch has not delivered its first list.
    #[error("this replica does not know the ScaledObjects yet")]
    NotSynced,
    /// There is no such object.
    #[error("there is no ScaledObject {0}")]
    NoObject(ObjectKey),
    /// The object has no such metric.
    #[error("no matching metrics found for {metric} of ScaledObject {object}")]
    NoMetric {
        /// The object.
        object: ObjectKey,
        /// What was asked for.
        metric: String,
    },
    /// The object cannot be acted on as it is.
    #[error("ScaledObject {object} cannot be used: {what}")]
    Refused {
        /// The object.
        object: ObjectKey,
        /// What is wrong with it.
        what: String,
    },
    /// The source gave no number.
    #[error("metric {metric} encountered error: {what}")]
    Unknown {
        /// What was asked for.
        metric: String,
        /// What the source said.
        what: String,
    },
}

/// The triggers of all objects, built when they are first needed.
pub struct Sources {
    pub(crate) objects: Watched<ScaledObject>,
    pub(crate) hpas: Watched<KnownHpa>,
    pub(crate) targets: Targets,
    pub(crate) metrics: Arc<Metrics>,
    http: Arc<Http>,
    cluster: Arc<dyn Cluster>,
    resolver: Resolver,
    built: Mutex<HashMap<ObjectKey, Arc<ObjectSource>>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl Sources {
    pub(crate) fn new(
        client: Client,
        objects: Watched<ScaledObject>,
        hpas: Watched<KnownHpa>,
        metrics: Arc<Metrics>,
        http: Arc<Http>,
        resolver: Resolver,
    ) -> Self {
        let cluster = Arc::new(ApiServer::new(client.clone()));
        Self { objects, hpas, targets: Targets::new(client), metrics, http, cluster, resolver, built: Mutex::default() }
    }

    /// The triggers of the object's present generation, with credentials that were looked at within `max_age`.
    ///
    /// # Errors
    /// Every trigger that cannot be used, with the path of its field.
    pub(crate) async fn of(&self, object: &ScaledObject, max_age: Duration) -> Result<Arc<ObjectSource>, Vec<String>> {
        let key = ObjectKey::of(object);
        let (subject, owner) = (Subject::object(object), Owner::of(object));
        let found = || self.lock().get(&key).cloned();
        if let Some(found) = current(&subject, owner, max_age, &found) {
            return Ok(found);
        }
        let hpa = self.hpas.get(&key.namespace, &object.spec.hpa_name(&key.name));
        let remembered = remembered(object, hpa.as_deref());
        let built = self.build(subject.remembering(&remembered), owner, max_age, found).await?;
        let old = self.lock().insert(key, Arc::clone(&built));
        if let Some(old) = old.filter(|old| !Arc::ptr_eq(old, &built)) {
            self.forget_series(&old, Some(&built));
        }
        Ok(built)
    }

    /// The triggers of a subject, with credentials that were looked at within `max_age`. `found` says what was built last;
    /// of this it is asked twice, because another task may build the same in the meantime.
    ///
    /// # Errors
    /// Every trigger that cannot be used, with the path of its field.
    pub(crate) async fn build(
        &self,
        subject: Subject<'_>,
        owner: Owner<'_>,
        max_age: Duration,
        found: impl Fn() -> Option<Arc<ObjectSource>>,
    ) -> Result<Arc<ObjectSource>, Vec<String>> {
        if let Some(found) = current(&subject, owner, max_age, &found) {
            return Ok(found);
        }
        let given = if owner.needs_any() {
            self.resolver.resolve(owner, &self.targets).await
        } else {
            subject.triggers.iter().map(|_| Ok(Credentials::default())).collect()
        };
        let found = found().filter(|found| found.is_of(&subject));
        if let Some(found) = &found
            && found.settled(&given)
        {
            found.looked_now();
            return Ok(Arc::clone(found));
        }
        let built = ObjectSource::build(&subject, &given, found.as_deref(), &self.http, Some(&self.cluster))?;
        built.discover(&subject).await.map(Arc::new)
    }

    /// Drops what was built for objects that are gone.
    pub(crate) fn retain(&self, exists: impl Fn(&ObjectKey) -> bool) {
        let mut gone = Vec::new();
        self.lock().retain(|key, source| {
            let keep = exists(key);
            if !keep {
                gone.push((key.clone(), Arc::clone(source)));
            }
            keep
        });
        for (key, source) in gone {
            self.forget_series(&source, None);
            self.metrics.forget_object(&key);
        }
    }

    pub(crate) fn forget_series(&self, old: &ObjectSource, new: Option<&ObjectSource>) {
        for labels in old.forgettable(new) {
            self.metrics.forget_trigger(labels);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Arc<ObjectSource>>> {
        self.built.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the HPA's question for one metric of one object.
    ///
    /// # Errors
    /// See [`AnswerError`]; none of them scales anything.
    pub async fn answer(&self, namespace: &str, name: &str, metric: &str) -> Result<Answer, AnswerError> {
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        if !self.objects.is_synced() || !self.hpas.is_synced() {
            return Err(AnswerError::NotSynced);
        }
        let Some(object) = self.objects.get(namespace, name) else { return Err(AnswerError::NoObject(key)) };
        let refused = |wrong: Vec<String>| AnswerError::Refused { object: key.clone(), what: api::joined(wrong) };
        if let Some(left) = self.left_behind(&object) {
            let what =
                format!("spec.scaleTargetRef: the HPA still scales {left}, for which these triggers are not meant");
            return Err(refused(vec![what]));
        }
        let settings = check(&object).map_err(refused)?;
        // On the replica that polls, the last poll has looked at the credentials.
        let max_age = polling_interval(&object) * 6 / 5;
        let source = self.of(&object, max_age).await.map_err(refused)?;
        if !self.is_compared(&object, &source, metric) {
            let what = format!("the HPA still compares {metric} with what the object said before");
            return Err(refused(vec![what]));
        }
        let fallback = settings.fallback.as_ref();
        let Some(reading) = self.reading(&object, &source, metric, fallback).await else {
            return Err(AnswerError::NoMetric { object: key, metric: metric.to_owned() });
        };
        let fallback = fallback.map(|fallback| (fallback, reading.failures));
        let (current, ready) = self.pods(&object, &reading.sample, reading.target, fallback).await;
        answer(&reading.sample, reading.target, fallback, current, ready)
            .map(|value| Answer { value })
            .map_err(|error: NoAnswer| AnswerError::Unknown { metric: metric.to_owned(), what: error.to_string() })
    }

    /// Whether the object's HPA compares the metric with what the object says now. It may not have been written yet, or not be
    /// taken by the API server, and would divide a value of the new query by the old threshold.
    fn is_compared(&self, object: &ScaledObject, source: &ObjectSource, metric: &str) -> bool {
        let wanted = source.metrics.iter().find_map(|wanted| match wanted {
            HpaMetric::External { name, target } if name == metric => Some(*target),
            _ => None,
        });
        self.own_hpas(object).all(|hpa| compares_with(&hpa.whole(), metric, wanted))
    }

    /// The workload that an HPA of the object scales though the object names another one by now. The HPA asks by the object's
    /// name alone, and would scale the one workload by what is measured for the other.
    fn left_behind(&self, object: &ScaledObject) -> Option<String> {
        self.own_hpas(object).find_map(|hpa| {
            let scaled = &hpa.target;
            (!scales(scaled, &object.spec.scale_target_ref)).then(|| format!("{} '{}'", scaled.kind, scaled.name))
        })
    }

    /// The object's HPA, and the one that had its name before, if that is still there.
    pub(crate) fn own_hpas(&self, object: &ScaledObject) -> impl Iterator<Item = Arc<KnownHpa>> {
        let namespace = object.namespace().unwrap_or_default();
        let recorded = object.status.as_ref().and_then(|status| status.hpa_name.clone());
        let names = [Some(object.spec.hpa_name(&object.name_any())), recorded];
        let found = names.into_iter().flatten().filter_map(move |name| self.hpas.get(&namespace, &name));
        found.filter(|hpa| owned_by(hpa.as_ref(), object))
    }

    /// Reads the metric that the HPA controller asks for; nothing if the object has none of this name.
    ///
    /// With a formula there is the composite metric only, and it answers to the triggers' own names, too, as in KEDA.
    async fn reading(
        &self,
        object: &ScaledObject,
        source: &ObjectSource,
        metric: &str,
        fallback: Option<&Fallback>,
    ) -> Option<TriggerReading> {
        let found = source.find(metric);
        if source.modifiers.is_some() {
            if metric != COMPOSITE && found.is_none() {
                return None;
            }
            let recorded = |name: &str, failed: bool| if failed { failures(object, name) } else { 0 };
            let readings = source.readings(&self.metrics, Asker::Hpa, recorded).await;
            return source.decisive(readings, fallback).pop();
        }
        let (trigger, readable) = found?;
        let (sample, active) = match source.read(trigger, readable, Asker::Hpa, &self.metrics).await {
            Ok(sampled) => (Sample::Value(sampled.value), Some(sampled.active)),
            Err(why) => (Sample::Unknown { why: why.as_ref().to_owned() }, None),
        };
        Some(TriggerReading {
            metric_name: readable.spec.name.clone(),
            sample,
            active,
            target: readable.spec.target,
            failures: failures(object, &readable.spec.name),
            substituted: false,
        })
    }

    /// Current and ready pods, as far as a fallback in force needs to know them and they can be read.
    ///
    /// They are read from the target itself: the HPA's own report is as old as its last look, and would take back what
    /// somebody has scaled since.
    async fn pods(
        &self,
        object: &ScaledObject,
        sample: &Sample,
        target: Target,
        fallback: Option<(&Fallback, u32)>,
    ) -> (Option<u32>, Option<u32>) {
        let Some((fallback, _)) = fallback.filter(|(fallback, failures)| fallback.applies(*failures)) else {
            return (None, None);
        };
        if !sample.is_unknown() {
            return (None, None);
        }
        let told = |what, result: Result<Option<u32>, TargetError>| {
            result.unwrap_or_else(|error| {
                let error = controller_runtime::boot::chain(&error);
                tracing::warn!(object = %ObjectKey::of(object), error, what, "not known, so the fallback has no value");
                None
            })
        };
        let namespace = object.namespace().unwrap_or_default();
        let resolved = || self.targets.resolve(&namespace, &object.spec.scale_target_ref);
        let current = async {
            let read = async { Ok(Some(resolved().await?.read().await?.replicas())) };
            if fallback.needs_current() { told("current replicas", read.await) } else { None }
        };
        let ready = async {
            let read = async { resolved().await?.ready().await };
            if matches!(target, Target::Value(_)) { told("ready pods", read.await) } else { None }
        };
        tokio::join!(current, ready)
    }
}

/// What was built last, if it is still what the subject wants and its credentials were looked at within `max_age`.
fn current(
    subject: &Subject<'_>,
    owner: Owner<'_>,
    max_age: Duration,
    found: &impl Fn() -> Option<Arc<ObjectSource>>,
) -> Option<Arc<ObjectSource>> {
    found().filter(|found| found.is_of(subject) && (!owner.needs_any() || found.looked_within(max_age)))
}

/// Failures in a row that the leader has recorded for a metric.
pub(crate) fn failures(object: &ScaledObject, metric: &str) -> u32 {
    let health = object.status.as_ref().and_then(|status| status.health.get(metric));
    health.and_then(|health| health.number_of_failures).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}
