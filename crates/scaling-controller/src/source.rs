//! The triggers of one object, ready to be read.

mod discover;
mod remembered;
mod silent;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::convert;
use api::keda::ScaleTrigger;
use futures::future::join_all;
use scalers::{
    Authentication, BuildError, Cluster, Http, HttpObserver, MetricSpec, MetricType, Notice, Scaler, TriggerContext,
    observed, resource,
};
use scaling::hpa::HpaMetric;
use scaling::modifiers::Input;
use scaling::{COMPOSITE, Fallback, Modifiers, Sample, TriggerReading};
use tokio::time::Instant;

use crate::credentials::{Credentials, Failure, Resolved};
use crate::metrics::{Metrics, TriggerLabels};
use crate::object::Subject;
use crate::read::{Cell, Outcome};
pub(crate) use discover::asks;
pub(crate) use remembered::remembered;
pub(crate) use silent::Silent;

/// Oldest value an HPA question is answered with, unless the trigger asks for cached metrics. The HPA controller asks
/// every 15 s, so this only joins a question with a poll that happened to be near.
const FRESH: Duration = Duration::from_secs(5);

/// The triggers of one generation of one object.
#[derive(Debug)]
pub(crate) struct ObjectSource {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) triggers: Vec<Arc<Trigger>>,
    /// All metrics of the HPA, in trigger order.
    pub(crate) metrics: Vec<HpaMetric>,
    /// The formula that makes one metric of the external ones.
    pub(crate) modifiers: Option<Modifiers>,
    interval: Duration,
    /// When the credentials of the triggers were last looked at.
    looked: Mutex<Instant>,
}

/// One trigger that we read.
#[derive(Debug)]
pub(crate) struct Trigger {
    pub(crate) scaler: Arc<dyn Scaler>,
    pub(crate) readable: Vec<Readable>,
    pub(crate) notices: Vec<Notice>,
    use_cached: bool,
    /// What a formula calls it, if it has a name.
    name: Option<String>,
    /// The position among the object's triggers.
    index: usize,
    /// What it was made with, or why there was nothing to make it with.
    given: Result<Credentials, Failure>,
    /// Why it must not be read: its credentials are gone, or not such that it can be made with them.
    blocked: Option<Arc<str>>,
}

/// One metric that we read.
#[derive(Debug)]
pub(crate) struct Readable {
    pub(crate) spec: MetricSpec,
    pub(crate) labels: Arc<TriggerLabels>,
    cell: Arc<Cell>,
}

/// Who wants a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The poll of the object's actor.
    Poll,
    /// The HPA controller.
    Hpa,
}

impl ObjectSource {
    /// Builds the triggers, each with its credentials. Does no I/O.
    ///
    /// `old` is what was built for the same generation before. A trigger of it whose credentials are as they were is taken
    /// over; one whose credentials are gone is kept, but not read. So is one that the subject remembers.
    ///
    /// # Errors
    /// Every trigger that cannot be used, with the path of its field.
    pub(crate) fn build(
        subject: &Subject<'_>,
        given: &[Result<Credentials, Failure>],
        old: Option<&Self>,
        http: &Arc<Http>,
        cluster: Option<&Arc<dyn Cluster>>,
    ) -> Result<Self, Vec<String>> {
        let (mut triggers, mut metrics, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (written, given)) in subject.triggers.iter().zip(given).enumerate() {
            let old = old.and_then(|old| old.triggers.iter().find(|trigger| trigger.index == index));
            let built = match (old, given) {
                (Some(old), given) if old.settled(given) => Ok(Built::External(Arc::clone(old))),
                (_, Ok(credentials)) => build_trigger(subject, index, written, credentials, http, cluster),
                (_, Err(failure)) => {
                    let field = if written.authentication_ref.is_some() { "authenticationRef" } else { "FromEnv" };
                    Err(BuildError::new(field, failure.to_string()))
                }
            };
            match (built, old) {
                (Ok(Built::Resource(metric)), _) => metrics.push(metric),
                (Ok(Built::External(trigger)), _) => {
                    metrics.extend(trigger.metrics());
                    triggers.push(trigger);
                }
                (Err(error), Some(old)) => {
                    metrics.extend(old.metrics());
                    triggers.push(Arc::new(old.blocked(given.clone(), &error)));
                }
                (Err(error), None) => {
                    let failure = given.as_ref().err();
                    match failure.and_then(|failure| Trigger::remembered(subject, index, written, failure, &error)) {
                        Some(trigger) => {
                            metrics.extend(trigger.metrics());
                            triggers.push(Arc::new(trigger));
                        }
                        None => wrong.extend(located(index, &error)),
                    }
                }
            }
        }
        let modifiers = subject.object.map_or(Ok(None), |object| convert::modifiers(&object.spec));
        let modifiers = modifiers.unwrap_or_else(|errors| {
            wrong.extend(errors.iter().map(ToString::to_string));
            None
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if let Some(modifiers) = &modifiers {
            metrics.retain(|metric| !matches!(metric, HpaMetric::External { .. }));
            metrics.insert(0, HpaMetric::External { name: COMPOSITE.to_owned(), target: modifiers.target() });
        }
        Ok(Self {
            uid: subject.uid().to_owned(),
            generation: subject.generation(),
            triggers,
            metrics,
            modifiers,
            interval: subject.interval,
            looked: Mutex::new(Instant::now()),
        })
    }

    /// Whether this is what was built for the subject's present generation.
    pub(crate) fn is_of(&self, subject: &Subject<'_>) -> bool {
        self.uid == subject.uid() && self.generation == subject.generation()
    }

    /// Whether these credentials change nothing.
    pub(crate) fn settled(&self, given: &[Result<Credentials, Failure>]) -> bool {
        self.triggers.iter().all(|trigger| given.get(trigger.index).is_some_and(|given| trigger.settled(given)))
    }

    /// Whether the credentials were looked at within this time.
    pub(crate) fn looked_within(&self, time: Duration) -> bool {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).elapsed() <= time
    }

    /// The credentials were looked at just now.
    pub(crate) fn looked_now(&self) {
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The trigger and its part that give this metric. The HPA controller asks in lower case, whatever case it was told.
    pub(crate) fn find(&self, metric: &str) -> Option<(&Trigger, &Readable)> {
        self.triggers.iter().map(AsRef::as_ref).find_map(|t: &Trigger| {
            t.readable.iter().find(|r| r.spec.name.eq_ignore_ascii_case(metric)).map(|r| (t, r))
        })
    }

    /// The labels of which `new` has none: their series are of the past.
    pub(crate) fn forgettable<'a>(&'a self, new: Option<&'a Self>) -> impl Iterator<Item = &'a Arc<TriggerLabels>> {
        let kept = move |labels: &Arc<TriggerLabels>| new.is_some_and(|new| new.labels().any(|known| known == labels));
        self.labels().filter(move |labels| !kept(labels))
    }

    fn labels(&self) -> impl Iterator<Item = &Arc<TriggerLabels>> {
        self.triggers.iter().flat_map(|trigger| &trigger.readable).map(|readable| &readable.labels)
    }

    /// Reads one metric, or takes the value that was read a moment ago.
    pub(crate) async fn read(
        &self,
        trigger: &Trigger,
        readable: &Readable,
        asker: Asker,
        metrics: &Arc<Metrics>,
    ) -> Outcome {
        if let Some(why) = &trigger.blocked {
            let outcome = Err(Arc::clone(why));
            metrics.read(&readable.labels, &outcome, Duration::ZERO);
            return outcome;
        }
        let (scaler, name, labels, metrics) = (
            Arc::clone(&trigger.scaler),
            readable.spec.name.clone(),
            Arc::clone(&readable.labels),
            Arc::clone(metrics),
        );
        // The value of the last poll is as good as one that a poll would give now.
        let keep = (asker == Asker::Hpa).then(|| self.interval + self.interval / 5);
        readable
            .cell
            .read_or_last(self.max_age(trigger, asker), keep, move || async move {
                let began = Instant::now();
                let requests = Requests { metrics: Arc::clone(&metrics), labels: Arc::clone(&labels) };
                let sampled = observed(Arc::new(requests), scaler.sample(&name)).await;
                let outcome = sampled.map_err(|error| Arc::from(error.text()));
                metrics.read(&labels, &outcome, began.elapsed());
                outcome
            })
            .await
    }

    /// Reads at the same time everything that has an effect. `failures` says how often a metric has failed in a row, this
    /// time (`true`) included.
    pub(crate) async fn readings(
        &self,
        metrics: &Arc<Metrics>,
        asker: Asker,
        failures: impl Fn(&str, bool) -> u32,
    ) -> Vec<TriggerReading> {
        let failures = &failures;
        let reads = self.triggers.iter().filter(|trigger| self.counts(trigger)).flat_map(|trigger| {
            trigger.readable.iter().map(move |readable| async move {
                let outcome = self.read(trigger, readable, asker, metrics).await;
                let name = &readable.spec.name;
                let failures = failures(name, outcome.is_err());
                let (sample, active) = match outcome {
                    Ok(sampled) => (Sample::Value(sampled.value), Some(sampled.active)),
                    Err(why) => (Sample::Unknown { why: why.as_ref().to_owned() }, None),
                };
                TriggerReading {
                    metric_name: name.clone(),
                    sample,
                    active,
                    target: readable.spec.target,
                    failures,
                    substituted: false,
                }
            })
        });
        join_all(reads).await
    }

    /// The triggers whose last answer had nothing in it, by index.
    pub(crate) fn silent(&self) -> impl Iterator<Item = usize> {
        let silent = |trigger: &Trigger| trigger.readable.iter().any(|readable| readable.cell.is_silent());
        self.triggers.iter().filter(move |trigger| silent(trigger)).map(|trigger| trigger.index)
    }

    /// Whether the trigger has an effect: a formula leaves those out that it does not name.
    fn counts(&self, trigger: &Trigger) -> bool {
        let used = |modifiers: &Modifiers| trigger.name.as_deref().is_some_and(|name| modifiers.uses(name));
        self.modifiers.as_ref().is_none_or(used)
    }

    /// The triggers that have no effect, by index.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = usize> {
        self.triggers.iter().filter(|trigger| !self.counts(trigger)).map(|trigger| trigger.index)
    }

    /// What a decision is made from: the readings themselves, or the one composite metric that a formula makes of them.
    pub(crate) fn decisive(&self, readings: Vec<TriggerReading>, fallback: Option<&Fallback>) -> Vec<TriggerReading> {
        let Some(modifiers) = &self.modifiers else { return readings };
        let named = readings.iter().filter_map(|reading| {
            let (trigger, _) = self.find(&reading.metric_name)?;
            Some(Input { name: trigger.name.as_deref()?, reading })
        });
        vec![modifiers.compose(&named.collect::<Vec<_>>(), fallback)]
    }

    fn max_age(&self, trigger: &Trigger, asker: Asker) -> Duration {
        match asker {
            // A poll is wanted now; it only joins a read that is under way or has just ended.
            Asker::Poll => (self.interval / 4).min(Duration::from_secs(1)),
            Asker::Hpa if trigger.use_cached => self.interval + self.interval / 5,
            Asker::Hpa => (self.interval / 2).min(FRESH),
        }
    }
}

impl Trigger {
    fn metrics(&self) -> impl Iterator<Item = HpaMetric> {
        self.readable
            .iter()
            .map(|readable| HpaMetric::External { name: readable.spec.name.clone(), target: readable.spec.target })
    }

    /// Whether the trigger stays as it is with these credentials. Nothing has changed as long as nobody can be asked.
    fn settled(&self, given: &Result<Credentials, Failure>) -> bool {
        matches!(given, Err(Failure::Unavailable(_))) || *given == self.given
    }

    /// The same trigger, not to be read.
    fn blocked(&self, given: Result<Credentials, Failure>, error: &BuildError) -> Self {
        Self {
            scaler: Arc::clone(&self.scaler),
            readable: self.readable.iter().map(Readable::unread).collect(),
            notices: self.notices.clone(),
            use_cached: self.use_cached,
            name: self.name.clone(),
            index: self.index,
            given,
            blocked: Some(located(self.index, error).join("; ").into()),
        }
    }
}

impl Readable {
    /// The same without the value that was read last.
    fn unread(&self) -> Self {
        Self { spec: self.spec.clone(), labels: Arc::clone(&self.labels), cell: Arc::default() }
    }
}

/// Counts the HTTP requests of one read.
struct Requests {
    metrics: Arc<Metrics>,
    labels: Arc<TriggerLabels>,
}

impl HttpObserver for Requests {
    fn request(&self, status: Option<u16>, took: Duration) {
        self.metrics.http_request(&self.labels, status, took);
    }
}

enum Built {
    Resource(HpaMetric),
    External(Arc<Trigger>),
}

fn build_trigger(
    subject: &Subject<'_>,
    index: usize,
    written: &ScaleTrigger,
    credentials: &Credentials,
    http: &Arc<Http>,
    cluster: Option<&Arc<dyn Cluster>>,
) -> Result<Built, BuildError> {
    let key = &subject.key();
    let authentication = match &credentials.authentication {
        Some(Resolved { parameters, identity }) => Authentication::Resolved { parameters, identity },
        None => Authentication::None,
    };
    let context = TriggerContext {
        metric_type: written.metric_type.as_deref().map(MetricType::parse).transpose()?,
        authentication,
        environment: credentials.environment.as_ref(),
        cluster,
        namespace: &key.namespace,
        name: &key.name,
        ..TriggerContext::new(index, &written.metadata, http)
    };
    if resource::is_resource(&written.r#type) {
        return resource::metric(&written.r#type, &context).map(Built::Resource);
    }
    let scaler = scalers::build(&written.r#type, &context)?;
    let given_name = written.name.clone().filter(|name| !name.is_empty());
    let name = given_name.clone().unwrap_or_else(|| scaler.type_name().to_owned());
    let readable = scaler
        .metrics()
        .iter()
        .map(|spec| Readable {
            spec: spec.clone(),
            labels: Arc::new(TriggerLabels::new(subject.kind, key, &spec.name, scaler.type_name(), &name, index)),
            cell: Arc::default(),
        })
        .collect();
    let notices = scaler
        .notices()
        .iter()
        .map(|n| Notice { field: format!("triggers[{index}].{}", path(&n.field)), message: n.message.clone() })
        .collect();
    Ok(Built::External(Arc::new(Trigger {
        scaler,
        readable,
        notices,
        use_cached: written.use_cached_metrics,
        name: given_name,
        index,
        given: Ok(credentials.clone()),
        blocked: None,
    })))
}

/// What is wrong with a trigger, each with its place in the manifest.
fn located(index: usize, error: &BuildError) -> Vec<String> {
    error.each().map(|(field, what)| format!("spec.triggers[{index}].{}: {what}", path(field))).collect()
}

/// Where a field of a scaler is in a trigger.
fn path(field: &str) -> String {
    match field {
        "type" | "metricType" | "authenticationRef" => field.to_owned(),
        // A parameter of the TriggerAuthentication: `authenticationRef password`.
        other if other.starts_with("authenticationRef ") => other.to_owned(),
        "FromEnv" => "metadata".to_owned(),
        other => format!("metadata.{other}"),
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
