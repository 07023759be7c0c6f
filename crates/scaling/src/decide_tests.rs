//! The decision table, and the laws it obeys.

use jiff::SignedDuration;
use proptest::prelude::*;
use units::Milli;

use super::*;
use crate::condition::{ConditionKind, ConditionStatus, reason};
use crate::fallback::{Fallback, FallbackBehavior};
use crate::sample::{Sample, Target};
use crate::settings::Replicas;

const NOW: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn settings(min: u32, idle: Option<u32>) -> Settings {
    Settings {
        replicas: Replicas { min, max: 10, idle },
        cooldown: SignedDuration::from_secs(300),
        initial_cooldown: SignedDuration::from_secs(0),
        fallback: None,
    }
}

fn fallback(failure_threshold: u32, replicas: u32) -> Fallback {
    Fallback { failure_threshold, replicas, behavior: FallbackBehavior::Static }
}

fn reading(name: &str, active: Option<bool>, failures: u32) -> TriggerReading {
    let sample = match active {
        Some(active) => Sample::Value(Milli::from_thousandths(if active { 1_000 } else { 0 })),
        None => Sample::Unknown { why: "timed out".into() },
    };
    TriggerReading {
        metric_name: name.into(),
        sample,
        active,
        target: Target::AverageValue(Milli::from_thousandths(1_000)),
        failures,
        substituted: false,
    }
}

fn observed(current: u32, active: &[Option<bool>]) -> Observed {
    Observed {
        created: at(NOW - 10_000),
        last_active: None,
        current: Some(current),
        pausing: Pausing::default(),
        readings: active.iter().map(|a| reading("s0-prometheus", *a, u32::from(a.is_none()))).collect(),
        only_resource_triggers: false,
    }
}

fn check(settings: &Settings, observed: &Observed, wanted: &str) {
    let decision = decide(settings, observed, at(NOW));
    let action = match &decision.action {
        Action::ScaleTo { replicas, why } => format!("{why:?} {replicas}"),
        Action::Hold { why, .. } => format!("{why:?}"),
    };
    let condition = |kind| decision.conditions.iter().find(|c| c.kind == kind).map_or("-", |c| c.reason);
    let said = format!("{action} | {} {}", condition(ConditionKind::Ready), condition(ConditionKind::Active));
    assert_eq!(said, wanted, "{settings:?} {observed:?}");
}

const ON: Option<bool> = Some(true);
const OFF: Option<bool> = Some(false);
const FAILS: Option<bool> = None;

#[test]
fn an_active_target_at_zero_goes_to_its_minimum_or_to_one() {
    check(&settings(0, None), &observed(0, &[ON]), "Activated 1 | ScaledObjectReady ScalerActive");
    check(&settings(3, None), &observed(0, &[OFF, ON]), "Activated 3 | ScaledObjectReady ScalerActive");
    check(&settings(3, Some(1)), &observed(1, &[ON]), "Activated 3 | ScaledObjectReady ScalerActive");
}

#[test]
fn an_active_target_above_zero_is_left_to_the_hpa() {
    check(&settings(0, None), &observed(4, &[ON]), "Steady | ScaledObjectReady ScalerActive");
    check(&settings(3, None), &observed(2, &[ON]), "Steady | ScaledObjectReady ScalerActive");
}

#[test]
fn a_new_inactive_target_goes_to_zero_at_once_unless_it_has_an_initial_cooldown() {
    check(&settings(0, None), &observed(4, &[OFF]), "Deactivated 0 | ScaledObjectReady ScalerNotActive");
    let patient = Settings { initial_cooldown: SignedDuration::from_secs(10_001), ..settings(0, None) };
    check(&patient, &observed(4, &[OFF]), "CoolingDown | ScaledObjectReady ScalerCooldown");
}

#[test]
fn the_cooldown_counts_from_the_last_activity_and_ends_on_time() {
    let seen = |ago| Observed { last_active: Some(at(NOW - ago)), ..observed(4, &[OFF]) };
    check(&settings(0, None), &seen(299), "CoolingDown | ScaledObjectReady ScalerCooldown");
    check(&settings(0, None), &seen(300), "Deactivated 0 | ScaledObjectReady ScalerNotActive");
    let Action::Hold { look_again, .. } = decide(&settings(0, None), &seen(299), at(NOW)).action else { panic!() };
    assert_eq!(look_again, Some(at(NOW + 1)));
}

#[test]
fn a_clock_that_jumped_back_an_hour_keeps_the_target_and_still_wakes_it() {
    let later = Observed { last_active: Some(at(NOW + 3_600)), created: at(NOW + 3_000), ..observed(4, &[OFF]) };
    check(&settings(0, None), &later, "CoolingDown | ScaledObjectReady ScalerCooldown");
    let asleep = Observed { readings: observed(0, &[ON]).readings, current: Some(0), ..later };
    check(&settings(0, None), &asleep, "Activated 1 | ScaledObjectReady ScalerActive");
}

#[test]
fn a_clock_that_jumped_on_an_hour_does_not_make_an_unknown_load_none() {
    let long_ago = |active| Observed { last_active: Some(at(NOW - 3_600)), ..observed(4, &[active]) };
    check(&settings(0, None), &long_ago(FAILS), "Unknown | TriggerError UnknownState");
    check(&settings(0, None), &long_ago(ON), "Steady | ScaledObjectReady ScalerActive");
}

#[test]
fn a_minimum_above_zero_is_never_left_downwards() {
    check(&settings(2, None), &observed(4, &[OFF]), "Steady | ScaledObjectReady ScalerNotActive");
    check(&settings(2, None), &observed(2, &[OFF]), "Steady | ScaledObjectReady ScalerNotActive");
    check(&settings(2, None), &observed(1, &[OFF]), "BelowMinimum 2 | ScaledObjectReady ScalerNotActive");
}

#[test]
fn a_target_is_held_at_rest_from_its_deactivation_until_it_is_wanted() {
    let settings = settings(3, Some(1));
    let held = |observed: &Observed| decide(&settings, observed, at(NOW)).at_rest;
    assert_eq!(held(&observed(5, &[OFF])), Some(true), "deactivated");
    assert_eq!(held(&observed(1, &[OFF])), Some(true));
    assert_eq!(held(&observed(1, &[ON])), Some(false));
    assert_eq!(held(&observed(5, &[ON])), Some(false));
    assert_eq!(held(&Observed { last_active: Some(at(NOW - 1)), ..observed(5, &[OFF]) }), Some(false), "cools down");
    assert_eq!(held(&observed(1, &[FAILS])), None, "stays as it is");
    assert_eq!(held(&Observed { current: None, ..observed(1, &[OFF]) }), None);
    let no_scale_in = Pausing { scale_in: true, ..Pausing::default() };
    assert_eq!(held(&Observed { pausing: no_scale_in, ..observed(5, &[OFF]) }), Some(false));
}

#[test]
fn an_idle_count_is_where_an_inactive_target_rests() {
    check(&settings(3, Some(1)), &observed(5, &[OFF]), "Deactivated 1 | ScaledObjectReady ScalerNotActive");
    check(&settings(3, Some(1)), &observed(1, &[OFF]), "Steady | ScaledObjectReady ScalerNotActive");
    check(&settings(3, Some(0)), &observed(0, &[OFF]), "Steady | ScaledObjectReady ScalerNotActive");
}

#[test]
fn an_unknown_sample_holds_the_target() {
    check(&settings(0, None), &observed(4, &[FAILS]), "Unknown | TriggerError UnknownState");
    check(&settings(0, None), &observed(4, &[OFF, FAILS]), "Unknown | TriggerError UnknownState");
    check(&settings(0, None), &observed(0, &[FAILS, ON]), "Activated 1 | PartialTriggerError ScalerActive");
    check(&settings(0, None), &observed(4, &[]), "Unknown | ScaledObjectReady UnknownState");
}

#[test]
fn a_fallback_activates_once_its_threshold_is_passed() {
    let with = Settings { fallback: Some(fallback(3, 6)), ..settings(0, None) };
    let failing = |failures| Observed { readings: vec![reading("s0-prometheus", None, failures)], ..observed(0, &[]) };
    check(&with, &failing(3), "Unknown | TriggerError UnknownState");
    check(&with, &failing(4), "Activated 1 | ScaledObjectReady ScalerActive");
    let decision = decide(&with, &failing(4), at(NOW));
    assert!(decision.conditions.iter().any(|c| c.reason == reason::FALLBACK));
}

#[test]
fn a_fallback_to_zero_does_not_scale_to_zero_while_the_source_is_broken() {
    let with = Settings { fallback: Some(fallback(0, 0)), ..settings(0, None) };
    check(&with, &observed(4, &[FAILS]), "Unknown | TriggerError UnknownState");
}

#[test]
fn a_fallback_stays_in_force_while_the_replicas_it_depends_on_cannot_be_read() {
    let behavior = FallbackBehavior::CurrentReplicasIfLower;
    let with = Settings { fallback: Some(Fallback { behavior, ..fallback(0, 6) }), ..settings(0, None) };
    let blind = Observed { current: None, ..observed(0, &[FAILS]) };
    check(&with, &blind, "CurrentUnknown | ErrorGettingCurrentReplicas -");
    let decision = decide(&with, &blind, at(NOW));
    assert!(decision.conditions.iter().any(|c| c.reason == reason::FALLBACK), "{decision:?}");
    assert_eq!(decision.last_active, Some(at(NOW)), "the cooldown does not run while nobody knows");
}

#[test]
fn activity_beside_a_failing_trigger_counts_for_the_cooldown() {
    let decision = decide(&settings(0, None), &observed(4, &[ON, FAILS]), at(NOW));
    assert_eq!(decision.last_active, Some(at(NOW)));
}

#[test]
fn pauses_stop_what_they_name() {
    let paused = |pausing, current, active| Observed { pausing, ..observed(current, &[active]) };
    let scale_in = Pausing { scale_in: true, ..Pausing::default() };
    let scale_out = Pausing { scale_out: true, ..Pausing::default() };
    let stopped = Pausing { full: Some(FullPause::WhereItIs), ..Pausing::default() };
    let fixed = Pausing { full: Some(FullPause::At(7)), ..Pausing::default() };
    let zero = settings(0, None);
    check(&zero, &paused(scale_in, 4, OFF), "PausedScaleIn | ScaledObjectReady ScalerNotActive");
    check(&zero, &paused(scale_in, 0, ON), "Activated 1 | ScaledObjectReady ScalerActive");
    check(&zero, &paused(scale_out, 0, ON), "PausedScaleOut | ScaledObjectReady ScalerActive");
    check(&zero, &paused(scale_out, 4, OFF), "Deactivated 0 | ScaledObjectReady ScalerNotActive");
    check(&settings(2, None), &paused(scale_out, 1, OFF), "PausedScaleOut | ScaledObjectReady ScalerNotActive");
    check(&zero, &paused(stopped, 4, OFF), "Paused | ScaledObjectReady -");
    check(&zero, &paused(fixed, 4, OFF), "PausedAt 7 | ScaledObjectReady -");
    check(&zero, &paused(fixed, 7, OFF), "Paused | ScaledObjectReady -");
}

#[test]
fn forced_activation_beats_silent_triggers() {
    let forced = Pausing { force_activation: true, ..Pausing::default() };
    check(
        &settings(0, None),
        &Observed { pausing: forced, ..observed(0, &[OFF]) },
        "Activated 1 | ScaledObjectReady ScalerActive",
    );
}

#[test]
fn cpu_and_memory_alone_count_as_active() {
    let only = Observed { only_resource_triggers: true, ..observed(0, &[]) };
    check(&settings(0, None), &only, "Activated 1 | ScaledObjectReady ScalerActive");
}

#[test]
fn an_unreadable_target_is_left_alone() {
    let blind = Observed { current: None, ..observed(0, &[ON]) };
    check(&settings(0, None), &blind, "CurrentUnknown | ErrorGettingCurrentReplicas -");
}

prop_compose! {
    fn any_settings()(
        (min, max) in (0u32..20).prop_flat_map(|min| (Just(min), min.max(1)..30)),
        idle in proptest::option::of(0u32..20),
        cooldown in 0i64..1_000,
        initial in 0i64..1_000,
        fallback in proptest::option::of((0u32..4, 0u32..40)),
    ) -> Settings {
        Settings {
            replicas: Replicas { min, max, idle: idle.filter(|idle| *idle < min.max(1)) },
            cooldown: SignedDuration::from_secs(cooldown),
            initial_cooldown: SignedDuration::from_secs(initial),
            fallback: fallback.map(|(failure_threshold, replicas)| Fallback {
                failure_threshold, replicas, behavior: FallbackBehavior::Static,
            }),
        }
    }
}

prop_compose! {
    fn any_observed()(
        created in 0i64..2_000,
        last_active in proptest::option::of(0i64..2_000),
        current in 0u32..60,
        flags in any::<(bool, bool, bool, bool)>(),
        active in proptest::collection::vec(
            (prop_oneof![Just(None), Just(Some(true)), Just(Some(false))], 1u32..6), 0..4),
    ) -> Observed {
        Observed {
            created: at(NOW - created),
            last_active: last_active.map(|ago| at(NOW - ago)),
            current: Some(current),
            pausing: Pausing { full: None, scale_in: flags.0, scale_out: flags.1, force_activation: flags.2 },
            readings: active
                .iter()
                .enumerate()
                .map(|(i, (a, failures))| reading(&format!("s{i}-x"), *a, if a.is_none() { *failures } else { 0 }))
                .collect(),
            only_resource_triggers: flags.3 && active.is_empty(),
        }
    }
}

proptest! {
    #[test]
    fn a_decided_count_is_within_bounds_or_the_resting_one(settings in any_settings(), observed in any_observed()) {
        if let Action::ScaleTo { replicas, .. } = decide(&settings, &observed, at(NOW)).action {
            let bounds = settings.replicas;
            prop_assert!(
                replicas == settings.deactivated() || (bounds.min..=bounds.max).contains(&replicas),
                "{replicas} is outside {bounds:?}"
            );
        }
    }

    #[test]
    fn an_unknown_sample_never_leads_down(settings in any_settings(), observed in any_observed()) {
        let unknown = observed.readings.iter().any(|r| r.sample.is_unknown());
        if let (true, Action::ScaleTo { replicas, .. }) = (unknown, decide(&settings, &observed, at(NOW)).action) {
            prop_assert!(replicas >= observed.current.unwrap_or(0));
        }
    }

    #[test]
    fn a_direction_that_is_paused_is_not_taken(settings in any_settings(), observed in any_observed()) {
        if let Action::ScaleTo { replicas, .. } = decide(&settings, &observed, at(NOW)).action {
            let current = observed.current.unwrap_or(0);
            prop_assert!(!(observed.pausing.scale_in && replicas < current));
            prop_assert!(!(observed.pausing.scale_out && replicas > current));
        }
    }

    #[test]
    fn a_decision_that_was_carried_out_is_not_decided_again(settings in any_settings(), observed in any_observed()) {
        let first = decide(&settings, &observed, at(NOW));
        if let Action::ScaleTo { replicas, .. } = first.action {
            let after = Observed { current: Some(replicas), last_active: first.last_active, ..observed };
            let second = decide(&settings, &after, at(NOW)).action;
            prop_assert!(matches!(second, Action::Hold { .. }), "{second:?}");
        }
    }

    #[test]
    fn a_wait_ends_when_it_says(settings in any_settings(), observed in any_observed()) {
        if let Action::Hold { look_again: Some(until), .. } = decide(&settings, &observed, at(NOW)).action {
            prop_assert!(until > at(NOW));
            let then = decide(&settings, &observed, until).action;
            let is_deactivation = matches!(then, Action::ScaleTo { why: ScaleReason::Deactivated, .. });
            prop_assert!(is_deactivation, "{then:?}");
        }
    }

    #[test]
    fn a_failing_trigger_without_a_fallback_is_never_called_ready(settings in any_settings(), observed in any_observed()) {
        let failing = settings.fallback.is_none() && observed.readings.iter().any(|r| r.sample.is_unknown());
        let decision = decide(&settings, &observed, at(NOW));
        let ready = decision.conditions.iter().find(|c| c.kind == ConditionKind::Ready);
        prop_assert!(ready.is_some());
        prop_assert!(!(failing && ready.is_some_and(|c| c.status == ConditionStatus::True)));
    }
}
