//! The decision between zero (or idle) and active; the HPA does the rest.

use jiff::Timestamp;

use crate::condition::Condition;
use crate::pause::{FullPause, Pausing};
use crate::sample::TriggerReading;
use crate::settings::Settings;

/// What is known about an object and its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the object was created.
    pub created: Timestamp,
    /// When a trigger was last active, if ever.
    pub last_active: Option<Timestamp>,
    /// `spec.replicas` of the target's scale; `None` when it could not be read.
    pub current: Option<u32>,
    /// What the annotations ask for.
    pub pausing: Pausing,
    /// One reading per external metric; with a formula, that of the composite metric alone.
    pub readings: Vec<TriggerReading>,
    /// The object has cpu and memory triggers only: these are never polled, and always count as active.
    pub only_resource_triggers: bool,
}

/// What to do, and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// Ready, Active, Fallback, Paused; those that are absent stay as they are.
    pub conditions: Vec<Condition>,
    /// The last active moment after this look.
    pub last_active: Option<Timestamp>,
    /// Whether the target is wanted now.
    pub active: bool,
    /// Whether the target is to be held at its idle count; `None` if that stays as it was, because nobody knows.
    pub at_rest: Option<bool>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write this replica count.
    ScaleTo {
        /// The count.
        replicas: u32,
        /// Why.
        why: ScaleReason,
    },
    /// Leave the target alone.
    Hold {
        /// Why.
        why: HoldReason,
        /// When the answer may change by the passing of time alone.
        look_again: Option<Timestamp>,
    },
}

/// Why a replica count is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleReason {
    /// From zero or idle, because the target is wanted.
    Activated,
    /// To zero or idle, because it has not been wanted for long enough.
    Deactivated,
    /// Up to the minimum, which holds whether the target is wanted or not.
    BelowMinimum,
    /// To what a pause annotation says.
    PausedAt,
}

/// Why the target is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldReason {
    /// It is where it should be, or the HPA brings it there.
    Steady,
    /// It is not wanted, but was until recently.
    CoolingDown,
    /// Some source could not say whether it is wanted.
    Unknown,
    /// Its replicas could not be read.
    CurrentUnknown,
    /// An annotation stops everything.
    Paused,
    /// An annotation stops going down.
    PausedScaleIn,
    /// An annotation stops going up.
    PausedScaleOut,
}

/// Decides whether the target is scaled directly.
///
/// `observed.current` may be what the HPA last reported instead of a fresh read, if the caller reads again before it acts.
///
/// It follows KEDA's executor (`pkg/scaling/executor/scale_scaledobjects.go`), with these differences:
/// - An unknown sample never leads down, also with `fallback.replicas: 0`. KEDA then scales to zero while the source is
///   broken.
/// - A target that is active by one trigger while another one fails counts as active for the cooldown. KEDA does not
///   refresh `lastActiveTime` then, so one good poll later the target can go to zero at once.
/// - `paused-scale-out` also stops the lift to the minimum, and a pause is reported together with the other conditions.
/// - While a source fails and the fallback has not begun, Ready says so; KEDA leaves it as it was.
/// - The cooldown is over at its last instant, not one tick later.
pub fn decide(settings: &Settings, observed: &Observed, now: Timestamp) -> Decision {
    if let Some(full) = observed.pausing.full {
        return paused(full, observed);
    }
    let state = State::of(settings, observed);
    let last_active = if state.active { Some(now) } else { observed.last_active };
    let Some(current) = observed.current else {
        return Decision {
            action: hold(HoldReason::CurrentUnknown),
            conditions: vec![
                Condition::no_current_replicas("The current replicas of the scale target could not be read"),
                state.fallback_condition(),
                Condition::paused(&observed.pausing),
            ],
            last_active,
            active: state.active,
            at_rest: None,
        };
    };
    let (action, activity) = if state.active {
        wanted(settings, observed, current)
    } else {
        unwanted(settings, observed, &state, current, now)
    };
    let at_rest = match &action {
        _ if state.active => Some(false),
        Action::ScaleTo { why, .. } => Some(*why == ScaleReason::Deactivated),
        Action::Hold { why: HoldReason::Steady, .. } => Some(true),
        Action::Hold { why: HoldReason::Unknown, .. } => None,
        Action::Hold { .. } => Some(false),
    };
    Decision {
        action,
        conditions: vec![
            state.ready_condition(),
            activity,
            state.fallback_condition(),
            Condition::paused(&observed.pausing),
        ],
        last_active,
        active: state.active,
        at_rest,
    }
}

/// What the readings amount to.
struct State {
    active: bool,
    /// Readings without a number that no fallback replaces, as texts.
    failing: Vec<String>,
    /// Some reading has no number, replaced or not.
    unknown: bool,
    falls_back: bool,
}

impl State {
    fn of(settings: &Settings, observed: &Observed) -> Self {
        // A fallback to zero replaces nothing. One that is not known is not zero: it stays in force, and the target is left
        // alone until its replicas can be read.
        let to_zero = settings.fallback.and_then(|fallback| fallback.replicas_at(observed.current)) == Some(0);
        let replaced = |reading: &TriggerReading| {
            reading.sample.is_unknown() && !to_zero && settings.fallback.is_some_and(|f| f.applies(reading.failures))
        };
        let readings = &observed.readings;
        let replaces = readings.iter().any(replaced);
        let failing = readings
            .iter()
            .filter(|r| !replaced(r))
            .filter_map(|r| match &r.sample {
                crate::Sample::Unknown { why } => Some(format!("{}: {why}", r.metric_name)),
                crate::Sample::Value(_) => None,
            })
            .collect();
        Self {
            active: observed.pausing.force_activation
                || replaces
                || observed.only_resource_triggers
                || readings.iter().any(|r| r.active == Some(true)),
            failing,
            unknown: readings.iter().any(|r| r.sample.is_unknown() || r.active.is_none()) || readings.is_empty(),
            falls_back: replaces || readings.iter().any(|reading| reading.substituted),
        }
    }

    fn ready_condition(&self) -> Condition {
        if self.failing.is_empty() {
            Condition::ready()
        } else if self.active {
            Condition::partial_trigger_error(format!("Some triggers do not answer: {}", self.failing.join("; ")))
        } else {
            Condition::trigger_error(format!("Triggers do not answer: {}", self.failing.join("; ")))
        }
    }

    fn fallback_condition(&self) -> Condition {
        if self.falls_back { Condition::fallback() } else { Condition::no_fallback() }
    }
}

fn paused(full: FullPause, observed: &Observed) -> Decision {
    let action = match full {
        FullPause::At(replicas) if observed.current.is_some_and(|current| current != replicas) => {
            Action::ScaleTo { replicas, why: ScaleReason::PausedAt }
        }
        _ => hold(HoldReason::Paused),
    };
    Decision {
        action,
        conditions: vec![Condition::ready_while_paused(), Condition::paused(&observed.pausing)],
        last_active: observed.last_active,
        active: false,
        at_rest: None,
    }
}

fn wanted(settings: &Settings, observed: &Observed, current: u32) -> (Action, Condition) {
    let condition = Condition::active(observed.pausing.force_activation);
    let asleep = current == 0 || (settings.replicas.idle.is_some() && current < settings.replicas.min);
    let action = match (asleep, observed.pausing.scale_out) {
        (false, _) => hold(HoldReason::Steady),
        (true, true) => hold(HoldReason::PausedScaleOut),
        (true, false) => Action::ScaleTo { replicas: settings.activated(), why: ScaleReason::Activated },
    };
    (action, condition)
}

fn unwanted(
    settings: &Settings,
    observed: &Observed,
    state: &State,
    current: u32,
    now: Timestamp,
) -> (Action, Condition) {
    if state.unknown {
        let why = "Some triggers do not answer, so nothing is scaled in";
        return (hold(HoldReason::Unknown), Condition::activity_unknown(why));
    }
    let replicas = settings.replicas;
    let above_rest = current > settings.deactivated() && (replicas.idle.is_some() || replicas.min == 0);
    if above_rest {
        if observed.pausing.scale_in {
            return (hold(HoldReason::PausedScaleIn), Condition::not_active());
        }
        let until = rest_from(settings, observed);
        if until > now {
            let action = Action::Hold { why: HoldReason::CoolingDown, look_again: Some(until) };
            return (action, Condition::cooling_down());
        }
        let action = Action::ScaleTo { replicas: settings.deactivated(), why: ScaleReason::Deactivated };
        return (action, Condition::not_active());
    }
    let action = if replicas.idle.is_some() || current >= replicas.min {
        hold(HoldReason::Steady)
    } else if observed.pausing.scale_out {
        hold(HoldReason::PausedScaleOut)
    } else {
        Action::ScaleTo { replicas: replicas.min, why: ScaleReason::BelowMinimum }
    };
    (action, Condition::not_active())
}

/// The first instant at which an inactive target may rest.
fn rest_from(settings: &Settings, observed: &Observed) -> Timestamp {
    let (since, wait) = match observed.last_active {
        Some(at) => (at, settings.cooldown),
        None => (observed.created, settings.initial_cooldown),
    };
    // A wait beyond the end of time is a wait for ever.
    since.checked_add(wait).unwrap_or(Timestamp::MAX)
}

fn hold(why: HoldReason) -> Action {
    Action::Hold { why, look_again: None }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
