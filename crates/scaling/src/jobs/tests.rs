use proptest::prelude::*;

use super::*;
use crate::condition::ConditionStatus;

fn reading(value: i64, target: i64) -> TriggerReading {
    TriggerReading {
        metric_name: "s0-queue".into(),
        sample: Sample::Value(Milli::from_thousandths(value * 1_000)),
        active: Some(value > 0),
        target: Target::AverageValue(Milli::from_thousandths(target * 1_000)),
        failures: 0,
        substituted: false,
    }
}

fn failing() -> TriggerReading {
    TriggerReading { sample: Sample::Unknown { why: "refused".into() }, active: None, ..reading(0, 1) }
}

fn with(max: u32, strategy: JobStrategy) -> JobSettings {
    JobSettings { max: Some(max), strategy, ..JobSettings::default() }
}

fn made(settings: &JobSettings, queue: i64, running: u32, pending: u32) -> u32 {
    jobs(settings, &[reading(queue, 1)], Unfinished { running, pending }).create
}

/// The corpus of KEDA 2.20: a query of so much, one Job for every 10, six at most.
#[test]
fn a_queue_makes_as_many_jobs_as_keda_was_seen_to_make() {
    let settings = with(6, JobStrategy::Default);
    for (depth, wanted) in [(0, 0), (1, 1), (7, 1), (35, 4), (250, 6)] {
        let first = jobs(&settings, &[reading(depth, 10)], Unfinished::default()).create;
        assert_eq!(first, wanted, "{depth}");
        let again = jobs(&settings, &[reading(depth, 10)], Unfinished { running: first, pending: 0 }).create;
        assert_eq!(again, 0, "{depth}: they are running");
    }
}

#[test]
fn strategies_count_jobs_that_exist_in_their_own_way() {
    let custom = |deduction, share| JobStrategy::Custom { deduction, running_share: Milli::from_thousandths(share) };
    for (strategy, queue, running, pending, wanted) in [
        (JobStrategy::Default, 10, 3, 0, 7),
        (JobStrategy::Default, 30, 3, 0, 17),
        (JobStrategy::Default, 3, 5, 0, 0),
        (custom(2, 0), 10, 3, 0, 8),
        (custom(1, 500), 10, 5, 0, 7),
        (custom(1, 500), 1, 5, 0, 0),
        (JobStrategy::Accurate, 10, 3, 0, 10),
        (JobStrategy::Accurate, 10, 3, 2, 8),
        (JobStrategy::Accurate, 30, 15, 0, 5),
        (JobStrategy::Eager, 5, 3, 3, 5),
        (JobStrategy::Eager, 5, 18, 2, 2),
        (JobStrategy::Eager, 0, 3, 3, 0),
    ] {
        let made = made(&with(20, strategy), queue, running, pending);
        assert_eq!(made, wanted, "{strategy:?}: {queue} in the queue, {running} running, {pending} of them pending");
    }
}

/// The corpus of KEDA 2.20: 35 and 12, one Job for every 10, twenty at most.
#[test]
fn several_triggers_combine() {
    for (combination, wanted) in
        [(Combination::Max, 4), (Combination::Min, 2), (Combination::Average, 3), (Combination::Sum, 5)]
    {
        let settings = JobSettings { combination, ..with(20, JobStrategy::Default) };
        let readings = [reading(35, 10), reading(12, 10), reading(0, 10)];
        assert_eq!(jobs(&settings, &readings, Unfinished::default()).create, wanted, "{combination:?}");
    }
}

#[test]
fn the_longest_queue_counts_and_not_the_one_that_wants_most_jobs() {
    let settings = with(20, JobStrategy::Default);
    let readings = [reading(9, 1), reading(10, 10)];
    assert_eq!(jobs(&settings, &readings, Unfinished::default()).create, 1);
}

#[test]
fn those_that_always_run_come_first_and_do_not_count_as_work() {
    let settings = JobSettings { min: 3, ..with(10, JobStrategy::Default) };
    let decision = jobs(&settings, &[reading(0, 1)], Unfinished { running: 1, pending: 0 });
    assert_eq!((decision.create, decision.active), (2, true));
    assert_eq!(made(&settings, 4, 1, 0), 2, "the queue's turn comes at the next poll");
    assert_eq!(made(&settings, 4, 3, 0), 4);
    assert_eq!(made(&settings, 40, 3, 0), 7, "ten at most, with the three");
}

/// The corpus of KEDA 2.20: nine at least, six at most; six Jobs, then four for a queue of 35.
#[test]
fn a_minimum_above_the_maximum_is_the_maximum() {
    let settings = JobSettings { min: 9, ..with(6, JobStrategy::Default) };
    let run = |running| jobs(&settings, &[reading(35, 10)], Unfinished { running, pending: 0 }).create;
    assert_eq!((run(0), run(6), run(10)), (6, 4, 0));
}

#[test]
fn a_trigger_that_fails_is_told_and_the_others_count() {
    let settings = with(10, JobStrategy::Default);
    let partly = jobs(&settings, &[failing(), reading(2, 1)], Unfinished::default());
    assert_eq!((partly.create, partly.active, partly.failing.as_slice()), (2, true, &["s0-queue: refused".into()][..]));
    let all = jobs(&settings, &[failing()], Unfinished::default());
    assert_eq!((all.create, all.active), (0, false));
    let active = |decision: &JobDecision| condition::decided(decision)[1].status;
    assert_eq!((active(&partly), active(&all)), (ConditionStatus::True, ConditionStatus::Unknown));
    let none = jobs(&settings, &[reading(0, 1)], Unfinished::default());
    assert_eq!(active(&none), ConditionStatus::False);
}

#[test]
fn half_a_message_is_a_job() {
    let half = TriggerReading { sample: Sample::Value(Milli::from_thousandths(1)), ..reading(1, 3) };
    assert_eq!(jobs(&with(10, JobStrategy::Default), &[half], Unfinished::default()).create, 1);
}

fn strategy() -> impl Strategy<Value = JobStrategy> {
    prop_oneof![Just(JobStrategy::Default), Just(JobStrategy::Accurate), Just(JobStrategy::Eager)]
}

proptest! {
    #[test]
    fn there_are_never_more_jobs_than_the_maximum(
        strategy in strategy(), queue in 0i64..1_000, min in 0u32..20, above in 0u32..50, running in 0u32..100,
        waiting in 0u32..100,
    ) {
        let settings = JobSettings { min, ..with(min + above.max(1), strategy) };
        let unfinished = Unfinished { running, pending: waiting.min(running) };
        let made = jobs(&settings, &[reading(queue, 1)], unfinished).create;
        prop_assert!(made == 0 || running + made <= min + above.max(1));
    }

    /// However often it is asked, as long as Jobs are counted: nothing is made twice for one message.
    #[test]
    fn a_queue_that_stands_still_gets_its_jobs_once(queue in 0i64..200, max in 1u32..200, polls in 1usize..5) {
        let mut running = 0;
        for _ in 0..polls {
            running += made(&with(max, JobStrategy::Default), queue, running, 0);
        }
        prop_assert_eq!(i64::from(running), queue.min(i64::from(max)));
    }
}
