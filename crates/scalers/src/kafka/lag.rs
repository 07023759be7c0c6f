//! How far a group lags behind, and how much of that asks for replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::Settings;
use super::requests::{ByPartition, Topic};
use crate::error::{BuildError, ScalerError};
use crate::metadata::Choice;

/// Where a group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Reset {
    #[value("latest")]
    Latest,
    #[value("earliest")]
    Earliest,
}

/// What the settings say about lag. Unit of all numbers: messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    pub(super) threshold: i64,
    pub(super) activation: i64,
    pub(super) reset: Reset,
    pub(super) zero_without_commit: bool,
    pub(super) without_persistent: bool,
    pub(super) limit: Limit,
    pub(super) even: bool,
}

/// How many replicas the lag may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// Any number.
    None,
    /// As many as there are partitions.
    Partitions,
    /// As many as there are partitions with a lag.
    PartitionsWithLag,
}

/// Committed offsets of the last reading.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<ByPartition>);

/// What the cluster knows of the partitions that count.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    /// Where the group is; `None` where it has committed nothing.
    committed: BTreeMap<(String, i32), Option<i64>>,
    /// After the last message.
    latest: ByPartition,
    /// At the first message that is still there; only where it is needed.
    pub(super) earliest: ByPartition,
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lag {
    /// What is compared with the threshold.
    pub(super) value: i64,
    /// Whether the whole lag is above the activation threshold.
    pub(super) active: bool,
}

impl Settings {
    /// What does not go together.
    pub(super) fn check(&self) -> Vec<BuildError> {
        let wrong = |bad: bool, field: &str, what: &str| bad.then(|| BuildError::new(field, what));
        let (limited, even) = (self.limit_to_partitions_with_lag, self.ensure_even_distribution_of_partitions);
        let checks = [
            wrong(limited && self.topic.is_none(), "limitToPartitionsWithLag", "needs a topic"),
            wrong(limited && self.allow_idle_consumers, "limitToPartitionsWithLag", "excludes allowIdleConsumers"),
            wrong(even && self.topic.is_none(), "ensureEvenDistributionOfPartitions", "needs a topic"),
            wrong(even && limited, "ensureEvenDistributionOfPartitions", "excludes limitToPartitionsWithLag"),
            wrong(
                !self.partition_limitation.is_empty() && self.topic.is_none(),
                "partitionLimitation",
                "needs a topic",
            ),
        ];
        checks.into_iter().flatten().collect()
    }

    /// What they say about lag.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            threshold: self.lag_threshold,
            activation: self.activation_lag_threshold,
            reset: self.offset_reset_policy,
            zero_without_commit: self.scale_to_zero_on_invalid_offset,
            without_persistent: self.exclude_persistent_lag,
            limit: match (self.allow_idle_consumers, self.limit_to_partitions_with_lag) {
                (_, true) => Limit::PartitionsWithLag,
                (true, _) => Limit::None,
                _ => Limit::Partitions,
            },
            even: self.ensure_even_distribution_of_partitions,
        }
    }
}

impl Offsets {
    /// # Errors
    /// There is no partition, or the group's coordinator says nothing about one: [`ScalerError::NoNumber`].
    pub(super) fn new(topics: &[Topic], committed: &ByPartition, latest: ByPartition) -> Result<Self, ScalerError> {
        let no_number = |what: String| ScalerError::NoNumber { what };
        let mut all = BTreeMap::new();
        let told: BTreeSet<&str> = committed.keys().map(|(topic, _)| topic.as_str()).collect();
        for topic in topics {
            for index in topic.indexes() {
                let key = (topic.name.clone(), index);
                let offset = match committed.get(&key) {
                    Some(offset) => Some(*offset).filter(|offset| *offset >= 0),
                    // Of a group's own topics only those partitions are told in which it has committed something.
                    None if told.contains(topic.name.as_str()) => None,
                    None => return Err(no_number(format!("topic {:?}, partition {index}: no answer", topic.name))),
                };
                all.insert(key, offset);
            }
        }
        if all.is_empty() {
            return Err(no_number("none of the partitions in partitionLimitation exists".into()));
        }
        Ok(Self { committed: all, latest, earliest: ByPartition::new() })
    }

    pub(super) fn any_uncommitted(&self) -> bool {
        self.committed.values().any(Option::is_none)
    }
}

impl Policy {
    /// The lag of all partitions together.
    ///
    /// # Errors
    /// The end of a partition is not known: [`ScalerError::NoNumber`].
    pub(super) fn lag(&self, offsets: &Offsets, memory: &Memory) -> Result<Lag, ScalerError> {
        let mut before = memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut counted, mut whole, mut lagging) = (0_i64, 0_i64, 0_i64);
        for (key, committed) in &offsets.committed {
            let lag = self.of_partition(offsets, key, *committed)?;
            let stuck = self.without_persistent && committed.is_some() && before.get(key) == committed.as_ref();
            whole = whole.saturating_add(lag);
            counted = counted.saturating_add(if stuck { 0 } else { lag });
            lagging += i64::from(lag > 0 && !stuck);
        }
        *before = offsets.committed.iter().filter_map(|(key, offset)| Some((key.clone(), (*offset)?))).collect();
        let partitions = i64::try_from(offsets.committed.len()).unwrap_or(i64::MAX);
        Ok(Lag { value: self.limited(counted, partitions, lagging), active: whole > self.activation })
    }

    fn of_partition(&self, offsets: &Offsets, key: &(String, i32), committed: Option<i64>) -> Result<i64, ScalerError> {
        let unknown =
            || ScalerError::NoNumber { what: format!("topic {:?}, partition {}: its end is not known", key.0, key.1) };
        let latest = *offsets.latest.get(key).ok_or_else(unknown)?;
        Ok(match (committed, self.reset) {
            // A topic that was made anew is shorter than what was read of the old one.
            (Some(offset), _) => latest.saturating_sub(offset).max(0),
            (None, _) if self.zero_without_commit => 0,
            (None, Reset::Latest) => 1,
            (None, Reset::Earliest) => {
                let earliest = *offsets.earliest.get(key).ok_or_else(unknown)?;
                latest.saturating_sub(earliest).max(0)
            }
        })
    }

    fn limited(&self, lag: i64, partitions: i64, lagging: i64) -> i64 {
        let most = match self.limit {
            Limit::None if self.even => partitions,
            Limit::None => return lag,
            Limit::Partitions => partitions,
            Limit::PartitionsWithLag => lagging,
        };
        let lag = if self.even && lag > 0 {
            let replicas = (1..=partitions).find(|n| partitions % n == 0 && n.saturating_mul(self.threshold) >= lag);
            replicas.unwrap_or(partitions).saturating_mul(self.threshold)
        } else {
            lag
        };
        // As KEDA: a lag that is above the limit by less than one threshold stays as it is.
        if lag / self.threshold > most { most.saturating_mul(self.threshold) } else { lag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Policy = Policy {
        threshold: 10,
        activation: 0,
        reset: Reset::Latest,
        zero_without_commit: false,
        without_persistent: false,
        limit: Limit::Partitions,
        even: false,
    };

    /// Partitions of one topic: committed, earliest, latest.
    fn offsets(partitions: &[(Option<i64>, i64, i64)]) -> Offsets {
        let key = |index: usize| ("t".to_owned(), i32::try_from(index).unwrap());
        let each = || partitions.iter().enumerate();
        Offsets {
            committed: each().map(|(index, (committed, _, _))| (key(index), *committed)).collect(),
            earliest: each().map(|(index, (_, earliest, _))| (key(index), *earliest)).collect(),
            latest: each().map(|(index, (_, _, latest))| (key(index), *latest)).collect(),
        }
    }

    fn check(policy: Policy, partitions: &[(Option<i64>, i64, i64)], value: i64, active: bool) {
        let lag = policy.lag(&offsets(partitions), &Memory::default()).unwrap();
        assert_eq!(lag, Lag { value, active }, "{policy:?} {partitions:?}");
    }

    #[test]
    fn a_lag_is_what_is_not_committed() {
        check(PLAIN, &[(Some(5), 0, 8), (Some(8), 0, 8)], 3, true);
        check(PLAIN, &[(Some(8), 0, 8)], 0, false);
        check(PLAIN, &[(Some(100), 0, 8)], 0, false);
        check(Policy { activation: 3, ..PLAIN }, &[(Some(5), 0, 8)], 3, false);
    }

    #[test]
    fn where_nothing_is_committed_the_policy_decides() {
        let nothing = [(None, 20, 60), (None, 0, 0)];
        check(PLAIN, &nothing, 2, true);
        check(Policy { reset: Reset::Earliest, limit: Limit::None, ..PLAIN }, &nothing, 40, true);
        for reset in [Reset::Latest, Reset::Earliest] {
            check(Policy { reset, zero_without_commit: true, ..PLAIN }, &nothing, 0, false);
        }
    }

    #[test]
    fn replicas_that_would_idle_are_not_asked_for() {
        let large = [(Some(0), 0, 500), (Some(0), 0, 0), (Some(0), 0, 0)];
        check(PLAIN, &large, 30, true);
        check(Policy { limit: Limit::None, ..PLAIN }, &large, 500, true);
        check(Policy { limit: Limit::PartitionsWithLag, ..PLAIN }, &large, 10, true);
        check(PLAIN, &[(Some(0), 0, 19)], 19, true);
    }

    #[test]
    fn partitions_are_shared_evenly() {
        let even = Policy { even: true, ..PLAIN };
        let six = |lag| {
            [(Some(0), 0, lag), (Some(0), 0, 0), (Some(0), 0, 0), (Some(0), 0, 0), (Some(0), 0, 0), (Some(0), 0, 0)]
        };
        for (lag, value) in [(0, 0), (5, 10), (11, 20), (25, 30), (31, 60), (1_000, 60)] {
            check(even, &six(lag), value, lag > 0);
        }
        check(Policy { limit: Limit::None, ..even }, &six(1_000), 60, true);
    }

    #[test]
    fn a_partition_that_is_stuck_counts_for_activity_only() {
        let (policy, memory) = (Policy { without_persistent: true, ..PLAIN }, Memory::default());
        let read =
            |first, second| policy.lag(&offsets(&[(Some(first), 0, 10), (Some(second), 0, 10)]), &memory).unwrap();
        assert_eq!(read(4, 4), Lag { value: 12, active: true });
        assert_eq!(read(4, 5), Lag { value: 5, active: true });
        assert_eq!(read(4, 5), Lag { value: 0, active: true });
        assert_eq!(read(10, 10), Lag { value: 0, active: false });
    }

    #[test]
    fn what_is_not_known_is_not_zero() {
        let mut unknown = offsets(&[(Some(0), 0, 5)]);
        unknown.latest.clear();
        assert!(PLAIN.lag(&unknown, &Memory::default()).is_err());
        let topic = Topic { name: "t".into(), partitions: vec![(0, 1), (1, 1)] };
        let key = |name: &str, index| (name.to_owned(), index);
        let committed = ByPartition::from([(key("t", 0), 4)]);
        let own = Offsets::new(std::slice::from_ref(&topic), &committed, ByPartition::new()).unwrap();
        assert!(own.any_uncommitted());
        assert!(Offsets::new(&[topic], &ByPartition::new(), ByPartition::new()).is_err());
        assert!(Offsets::new(&[], &ByPartition::new(), ByPartition::new()).is_err());
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        const PLACE: [(&str, &str); 2] = [("bootstrapServers", "a:9092"), ("consumerGroup", "g")];
        const TOPIC: (&str, &str) = ("topic", "orders");
        let wrong =
            |more: &[(&str, &str)]| crate::testing::refusal::<super::super::Kafka>(&[&PLACE[..], more].concat());
        assert_eq!(wrong(&[("limitToPartitionsWithLag", "true")]), ["limitToPartitionsWithLag"]);
        assert_eq!(wrong(&[("ensureEvenDistributionOfPartitions", "true")]), ["ensureEvenDistributionOfPartitions"]);
        assert_eq!(wrong(&[("partitionLimitation", "1-3")]), ["partitionLimitation"]);
        let limited = ("limitToPartitionsWithLag", "true");
        assert_eq!(wrong(&[TOPIC, limited, ("allowIdleConsumers", "true")]), ["limitToPartitionsWithLag"]);
        let even = ("ensureEvenDistributionOfPartitions", "true");
        assert_eq!(wrong(&[TOPIC, limited, even]), ["ensureEvenDistributionOfPartitions"]);
    }
}
