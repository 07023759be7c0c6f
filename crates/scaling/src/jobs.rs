//! Decides how many Jobs a ScaledJob makes, and which of them go.
//!
//! Nothing here ends a Job that has work: a queue that shrinks makes no Jobs, and the others end by themselves.

pub mod condition;
pub mod history;

use units::Milli;

use crate::sample::{Sample, Target, TriggerReading};
use crate::settings::MAX_REPLICAS;

/// How running and pending Jobs count against a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JobStrategy {
    /// A Job's message stays in the queue until the Job ends: running Jobs are subtracted.
    #[default]
    Default,
    /// A part of the running Jobs and a fixed number are subtracted.
    Custom {
        /// `customScalingQueueLengthDeduction`.
        deduction: i64,
        /// `customScalingRunningJobPercentage`, in thousandths: 500 is half of them.
        running_share: Milli,
    },
    /// A Job takes its message off the queue when it starts: only pending Jobs are subtracted.
    Accurate,
    /// All free places are used as long as there is work, again at every poll.
    Eager,
}

/// How several triggers become one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Combination {
    /// The longest queue.
    #[default]
    Max,
    /// The shortest queue that is not empty.
    Min,
    /// The mean of the active ones.
    Average,
    /// The sum of the active ones.
    Sum,
}

/// What a ScaledJob asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JobSettings {
    /// `minReplicaCount`: Jobs that run whether there is work or not.
    pub min: u32,
    /// `maxReplicaCount`, if given.
    pub max: Option<u32>,
    /// How Jobs that exist count.
    pub strategy: JobStrategy,
    /// How triggers combine.
    pub combination: Combination,
}

impl JobSettings {
    /// Jobs at least, never more than at most.
    fn at_least(&self) -> u32 {
        self.min.min(self.max.unwrap_or(MAX_REPLICAS))
    }

    /// Jobs at most beside those that always run.
    ///
    /// KEDA's numbers: the default maximum is not reduced by the minimum, and neither is a maximum below the minimum.
    fn at_most(&self) -> i64 {
        let max = match self.max {
            None => MAX_REPLICAS,
            Some(max) => max.checked_sub(self.min).unwrap_or(max),
        };
        i64::from(max)
    }
}

/// Jobs that have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unfinished {
    /// All of them.
    pub running: u32,
    /// Those of `running` whose pods have not begun. Counts for [`JobStrategy::Accurate`] only.
    pub pending: u32,
}

/// How many Jobs to make, and what to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDecision {
    /// Jobs to make now.
    pub create: u32,
    /// Whether there is work, or Jobs that always run.
    pub active: bool,
    /// What the triggers that failed said, by metric.
    pub failing: Vec<String>,
}

/// Decides how many Jobs are made at this poll.
///
/// A trigger that fails is left out, and the others count; so a failure makes fewer Jobs and never ends one. It follows
/// KEDA's executor (`pkg/scaling/executor/scale_jobs.go`), with one difference: `eager` subtracts pending Jobs once, as part
/// of those that run.
pub fn jobs(settings: &JobSettings, readings: &[TriggerReading], unfinished: Unfinished) -> JobDecision {
    let failing = readings.iter().filter_map(|reading| match &reading.sample {
        Sample::Unknown { why } => Some(format!("{}: {why}", reading.metric_name)),
        Sample::Value(_) => None,
    });
    let failing: Vec<String> = failing.collect();
    let active = settings.at_least() > 0 || readings.iter().any(|reading| reading.active == Some(true));
    let create = match settings.at_least().checked_sub(unfinished.running) {
        Some(missing) if missing > 0 => missing,
        _ if active => wanted(settings, Queue::of(settings, readings), unfinished),
        _ => 0,
    };
    JobDecision { create, active, failing }
}

/// Jobs for a queue, when those that always run are there.
fn wanted(settings: &JobSettings, queue: Queue, unfinished: Unfinished) -> u32 {
    let most = settings.at_most();
    let running = i64::from(unfinished.running.saturating_sub(settings.at_least()));
    let pending = i64::from(unfinished.pending);
    let jobs = queue.jobs();
    let (length, jobs) = match settings.strategy {
        JobStrategy::Default => (queue.length(), jobs - running),
        JobStrategy::Custom { deduction, running_share } => {
            let share = running.saturating_mul(running_share.thousandths()) / 1_000;
            (queue.length(), jobs.saturating_sub(deduction).saturating_sub(share).min(most))
        }
        JobStrategy::Accurate if jobs + running - pending > most => (queue.length(), most - running),
        JobStrategy::Accurate => (queue.length(), jobs - pending),
        JobStrategy::Eager => (most, jobs.min(most - running)),
    };
    u32::try_from(jobs.max(0).min(length)).unwrap_or(u32::MAX)
}

/// Two measures of the work there is. Unit of both: millionths, rounded up, so that what is left over is a Job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Queue {
    /// What the triggers count.
    length: i128,
    /// That by what one Job should have, at most the Jobs there may be.
    jobs: i128,
}

const MILLION: i128 = 1_000_000;

impl Queue {
    /// The combined queue of the active triggers.
    fn of(settings: &JobSettings, readings: &[TriggerReading]) -> Self {
        let most = i128::from(settings.at_most()) * MILLION;
        let active = readings.iter().filter(|reading| reading.active == Some(true));
        let queues: Vec<Self> = active.filter_map(|reading| Self::one(reading, most)).collect();
        let count = i128::try_from(queues.len().max(1)).unwrap_or(1);
        let sum = queues.iter().fold(Self::default(), |sum, queue| Self {
            length: sum.length + queue.length,
            jobs: sum.jobs + queue.jobs,
        });
        let full = queues.into_iter().filter(|queue| queue.length > 0);
        let combined = match settings.combination {
            // The first of several that are as long counts.
            Combination::Max => full.reduce(|a, b| if b.length > a.length { b } else { a }).unwrap_or_default(),
            Combination::Min => full.reduce(|a, b| if b.length < a.length { b } else { a }).unwrap_or_default(),
            Combination::Average => Self { length: ceil(sum.length, count), jobs: ceil(sum.jobs, count) },
            Combination::Sum => sum,
        };
        Self { jobs: combined.jobs.min(most), ..combined }
    }

    fn one(reading: &TriggerReading, most: i128) -> Option<Self> {
        let value = i128::from(reading.sample.value()?.thousandths());
        let target = match reading.target {
            Target::AverageValue(target) | Target::Value(target) => i128::from(target.thousandths()),
        };
        let jobs = if target > 0 { ceil(value * MILLION, target) } else { 0 };
        Some(Self { length: value * (MILLION / 1_000), jobs: jobs.min(most) })
    }

    fn length(self) -> i64 {
        whole(self.length)
    }

    fn jobs(self) -> i64 {
        whole(self.jobs)
    }
}

fn whole(millionths: i128) -> i64 {
    i64::try_from(ceil(millionths, MILLION)).unwrap_or(i64::MAX)
}

/// Divides by a positive number, rounding up.
fn ceil(dividend: i128, divisor: i128) -> i128 {
    dividend.div_euclid(divisor) + i128::from(dividend.rem_euclid(divisor) > 0)
}

#[cfg(test)]
#[path = "jobs/tests.rs"]
mod tests;
