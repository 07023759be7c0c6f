//! Reads the triggers, decides between zero and active, and writes the scale.

use std::time::Duration;

use api::keda::annotations::FORCE_ACTIVATION;
use api::keda::{ScaledObject, ScaledObjectStatus};
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use jiff::Timestamp;
use rand::Rng;
use scaling::fallback::count_failures;
use scaling::{Action, Decision, HoldReason, Observed, Pausing, ScaleReason, Settings, TriggerReading, decide};
use tokio::time::Instant;

use super::{Actor, Stop};
use crate::hpa::owned_by;
use crate::object::{created, fingerprint, polling_interval};
use crate::source::{Asker, ObjectSource};
use crate::status;
use crate::target::{Read, TargetError};

/// Tries to write a scale that others write at the same moment (the HPA does, now and then).
const WRITE_TRIES: usize = 3;

impl Actor {
    /// Polls if a poll is due; returns when the next one is.
    pub(super) async fn poll(
        &mut self,
        object: &ScaledObject,
        settings: &Settings,
        pausing: Pausing,
        source: &ObjectSource,
        status: &mut ScaledObjectStatus,
    ) -> Result<Instant, Stop> {
        let began = Instant::now();
        if began < self.next_poll {
            return Ok(self.next_poll);
        }
        self.shared.metrics.poll_began("scaledobject", &self.key, began - self.next_poll);
        let read = self.read(source, settings, status).await;
        if let Some(note) = self.silent.notice(source) {
            self.publish(object, Kind::Warning, "KEDAScalerInfo", "Poll", note).await;
        }
        let observed = Observed {
            created: created(object),
            last_active: self.last_active,
            current: None,
            pausing,
            readings: source.decisive(read.clone(), settings.fallback.as_ref()),
            only_resource_triggers: source.triggers.is_empty() && source.modifiers.is_none(),
        };
        let decision = self.act(object, settings, &observed, source, status).await?;
        let (done, why) = match &decision.action {
            Action::ScaleTo { why, .. } => ("scale", scale_reason(*why)),
            Action::Hold { why, .. } => ("hold", hold_reason(*why)),
        };
        self.shared.metrics.decided("scaledobject", &self.key, done, why);
        self.last_active = decision.last_active;
        status::decided(status, settings, &read, &decision);
        self.polled = Some(fingerprint(object));
        self.next_poll = next_poll(began, polling_interval(object), &decision.action, Timestamp::now());
        Ok(self.next_poll)
    }

    /// One reading per external metric, all at the same time.
    async fn read(
        &self,
        source: &ObjectSource,
        settings: &Settings,
        status: &ScaledObjectStatus,
    ) -> Vec<TriggerReading> {
        let failures = |name: &str, failed: bool| {
            let before = status.health.get(name).and_then(|health| health.number_of_failures);
            let before = before.and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
            count_failures(before, failed, settings.fallback.as_ref())
        };
        source.readings(&self.shared.metrics, Asker::Poll, failures).await
    }

    /// Decides and carries out. The scale is read only if the HPA's view would lead to a write, or cannot be trusted.
    async fn act(
        &mut self,
        object: &ScaledObject,
        settings: &Settings,
        observed: &Observed,
        source: &ObjectSource,
        status: &mut ScaledObjectStatus,
    ) -> Result<Decision, Stop> {
        let with = |current| Observed { current, ..observed.clone() };
        if let Some(seen) = self.seen_replicas(object, settings) {
            let decision = decide(settings, &with(Some(seen)), Timestamp::now());
            if matches!(decision.action, Action::Hold { .. }) {
                return Ok(decision);
            }
        }
        let Some(target) = self.target.clone() else { return Err(Stop::Overtaken) };
        for _ in 0..WRITE_TRIES {
            let read = match target.read().await {
                Ok(read) => read,
                Err(TargetError::Api { what, source }) => {
                    tracing::warn!(object = %self.key, error = %chain(&source), what);
                    return Ok(decide(settings, &with(None), Timestamp::now()));
                }
                Err(error) => return Err(error.into()),
            };
            let current = read.replicas();
            self.replicas = Some(current);
            let decision = decide(settings, &with(Some(current)), Timestamp::now());
            self.rest(object, settings, observed, &decision, source, status).await?;
            let Action::ScaleTo { replicas, why } = decision.action else { return Ok(decision) };
            if why == ScaleReason::Activated {
                // Whoever takes over would see a workload that was never active, and end it at once.
                status::record_activity(status, decision.last_active);
                self.keep(object, status).await?;
            }
            match target.write(&read, replicas).await {
                Ok(()) => {
                    self.replicas = Some(replicas);
                    self.written(object, &read, replicas, why, observed).await;
                    return Ok(decision);
                }
                Err(TargetError::Conflict) => {}
                Err(error) => {
                    self.write_failed(object, replicas, why, &error).await;
                    return Ok(decision);
                }
            }
        }
        Err(Stop::Overtaken)
    }

    /// Has the HPA hold the target at the idle count while it rests there, before it is brought there; and sets it free
    /// before it is activated. Whatever is not done after that, the HPA does.
    async fn rest(
        &mut self,
        object: &ScaledObject,
        settings: &Settings,
        observed: &Observed,
        decision: &Decision,
        source: &ObjectSource,
        status: &ScaledObjectStatus,
    ) -> Result<(), Stop> {
        let Some(at_rest) = decision.at_rest else { return Ok(()) };
        let before = self.at_rest.replace(at_rest);
        if before != Some(at_rest) && settings.replicas.of_hpa(true) != settings.replicas.of_hpa(false) {
            self.ensure_hpa(object, settings, &observed.pausing, source, status).await?;
        }
        Ok(())
    }

    /// The replicas as the HPA last reported them, if that can be relied on.
    ///
    /// The HPA looks every 15 s, so its report may be from before our own last write, or before somebody set the target to
    /// zero. It is used only when it agrees with our own last reading about the target being at zero or not. With an idle
    /// count the exact number matters, so it is not used then.
    fn seen_replicas(&self, object: &ScaledObject, settings: &Settings) -> Option<u32> {
        if settings.replicas.idle.is_some() {
            return None;
        }
        let name = object.spec.hpa_name(&self.key.name);
        let hpa = self.shared.sources.hpas.get(&self.key.namespace, &name)?;
        let seen = hpa.seen_replicas.filter(|_| owned_by(hpa.as_ref(), object))?;
        let exact = self.replicas?;
        ((exact == 0) == (seen == 0)).then_some(seen)
    }

    async fn written(&self, object: &ScaledObject, read: &Read, replicas: u32, why: ScaleReason, observed: &Observed) {
        self.shared.metrics.scale_written(scale_reason(why));
        let kind = self.target.as_ref().map(|target| target.kind.text()).unwrap_or_default();
        let name = &object.spec.scale_target_ref.name;
        let (namespace, from) = (&self.key.namespace, read.replicas());
        tracing::info!(object = %self.key, kind, name, from, to = replicas, ?why, "scaled");
        let (reason, note) = match why {
            ScaleReason::Deactivated => (
                "KEDAScaleTargetDeactivated",
                format!("Deactivated {kind} {namespace}/{name} from {from} to {replicas}"),
            ),
            ScaleReason::Activated | ScaleReason::BelowMinimum | ScaleReason::PausedAt => {
                let by = triggered_by(why, observed);
                (
                    "KEDAScaleTargetActivated",
                    format!("Scaled {kind} {namespace}/{name} from {from} to {replicas}, triggered by {by}"),
                )
            }
        };
        self.publish(object, Kind::Normal, reason, "Scale", note).await;
    }

    async fn write_failed(&self, object: &ScaledObject, replicas: u32, why: ScaleReason, error: &TargetError) {
        let reason = match why {
            ScaleReason::Deactivated => "KEDAScaleTargetDeactivationFailed",
            _ => "KEDAScaleTargetActivationFailed",
        };
        let text = chain(error);
        tracing::warn!(object = %self.key, to = replicas, error = text, "scale not written");
        self.publish(object, Kind::Warning, reason, "Scale", format!("Failed to scale to {replicas}: {text}")).await;
    }
}

/// What a target is scaled up for: the metrics that are active; or those that do not answer, by their fallback; or what a person
/// has written down.
fn triggered_by(why: ScaleReason, observed: &Observed) -> String {
    let of = |wanted: &dyn Fn(&TriggerReading) -> bool| {
        let names = observed.readings.iter().filter(|reading| wanted(reading)).map(|r| r.metric_name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let active = of(&|reading| reading.active == Some(true));
    match why {
        ScaleReason::BelowMinimum => "minReplicaCount".to_owned(),
        _ if !active.is_empty() => active,
        _ if observed.pausing.force_activation => format!("the annotation {FORCE_ACTIVATION}"),
        _ if observed.only_resource_triggers => "cpu and memory, which always count as active".to_owned(),
        _ => of(&|reading| reading.sample.is_unknown()),
    }
}

/// When to poll again: one interval after this poll began, give or take a twentieth so that objects spread out, or when a
/// cooldown ends.
fn next_poll(began: Instant, interval: Duration, action: &Action, now: Timestamp) -> Instant {
    let next = began + interval.mul_f64(rand::rng().random_range(0.95..=1.05));
    let Action::Hold { look_again: Some(at), .. } = action else { return next };
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO);
    // A poll whose cooldown ends within this very instant still waits a moment, so that it cannot spin.
    next.min(Instant::now() + wait.max(Duration::from_millis(100)))
}

/// The word for it in our series.
fn scale_reason(why: ScaleReason) -> &'static str {
    match why {
        ScaleReason::Activated => "Activated",
        ScaleReason::Deactivated => "Deactivated",
        ScaleReason::BelowMinimum => "BelowMinimum",
        ScaleReason::PausedAt => "PausedAt",
    }
}

/// The word for it in our series.
fn hold_reason(why: HoldReason) -> &'static str {
    match why {
        HoldReason::Steady => "Steady",
        HoldReason::CoolingDown => "CoolingDown",
        HoldReason::Unknown => "Unknown",
        HoldReason::CurrentUnknown => "CurrentUnknown",
        HoldReason::Paused => "Paused",
        HoldReason::PausedScaleIn => "PausedScaleIn",
        HoldReason::PausedScaleOut => "PausedScaleOut",
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use scaling::{Sample, Target as Aim};
    use units::Milli;

    use super::*;

    #[test]
    fn what_a_target_is_scaled_up_for_is_said_in_words_that_people_wrote() {
        let reading = |active: Option<bool>| TriggerReading {
            metric_name: "s0-x".to_owned(),
            sample: active.map_or_else(|| Sample::Unknown { why: "away".to_owned() }, |_| Sample::Value(Milli::ZERO)),
            active,
            target: Aim::Value(Milli::ZERO),
            failures: 0,
            substituted: false,
        };
        let by = |why, active, force_activation| {
            triggered_by(
                why,
                &Observed {
                    created: Timestamp::UNIX_EPOCH,
                    last_active: None,
                    current: Some(0),
                    pausing: Pausing { force_activation, ..Pausing::default() },
                    readings: vec![reading(active)],
                    only_resource_triggers: false,
                },
            )
        };
        assert_eq!(by(ScaleReason::Activated, Some(true), true), "s0-x");
        assert_eq!(
            by(ScaleReason::Activated, Some(false), true),
            "the annotation autoscaling.keda.sh/force-activation"
        );
        assert_eq!(by(ScaleReason::Activated, None, false), "s0-x");
        assert_eq!(by(ScaleReason::BelowMinimum, Some(false), false), "minReplicaCount");
    }

    #[tokio::test(start_paused = true)]
    async fn polls_keep_their_interval_and_a_cooldown_ends_on_time() {
        let (began, interval, now) = (Instant::now(), Duration::from_secs(30), Timestamp::UNIX_EPOCH);
        let hold = |look_again| Action::Hold { why: HoldReason::CoolingDown, look_again };
        for _ in 0..100 {
            let wait = next_poll(began, interval, &hold(None), now) - began;
            assert!((Duration::from_millis(28_500)..=Duration::from_millis(31_500)).contains(&wait), "{wait:?}");
        }
        let soon = hold(Some(now + SignedDuration::from_secs(7)));
        assert_eq!(next_poll(began, interval, &soon, now) - began, Duration::from_secs(7));
        let past = hold(Some(now));
        assert_eq!(next_poll(began, interval, &past, now) - began, Duration::from_millis(100));
    }

    #[test]
    fn series_call_reasons_by_their_names() {
        use HoldReason::{CoolingDown, CurrentUnknown, Paused, PausedScaleIn, PausedScaleOut, Steady, Unknown};
        use ScaleReason::{Activated, BelowMinimum, Deactivated, PausedAt};
        for why in [Steady, CoolingDown, Unknown, CurrentUnknown, Paused, PausedScaleIn, PausedScaleOut] {
            assert_eq!(hold_reason(why), format!("{why:?}"));
        }
        for why in [Activated, Deactivated, BelowMinimum, PausedAt] {
            assert_eq!(scale_reason(why), format!("{why:?}"));
        }
    }
}
