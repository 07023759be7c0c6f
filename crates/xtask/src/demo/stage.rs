//! The stages of the story, and the order they have to come in.

use std::collections::BTreeMap;

/// The stages of a spike, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    FirstReplica,
    LoadRises,
    Metric,
    Replicas,
    Unschedulable,
    Planned,
    Launched,
    Joined,
    Initialized,
    AllRun,
    LoadFalls,
    OneReplica,
    Empty,
    Leaving,
    Gone,
}

impl Stage {
    pub(super) const ALL: [Self; 15] = [
        Self::FirstReplica,
        Self::LoadRises,
        Self::Metric,
        Self::Replicas,
        Self::Unschedulable,
        Self::Planned,
        Self::Launched,
        Self::Joined,
        Self::Initialized,
        Self::AllRun,
        Self::LoadFalls,
        Self::OneReplica,
        Self::Empty,
        Self::Leaving,
        Self::Gone,
    ];

    pub(super) const RISING: [Self; 8] = [
        Self::Metric,
        Self::Replicas,
        Self::Unschedulable,
        Self::Planned,
        Self::Launched,
        Self::Joined,
        Self::Initialized,
        Self::AllRun,
    ];

    /// What comes before what; of the rest either may be first. (A first machine may be empty, and be taken away, before the
    /// HPA is down at one replica.)
    const ORDER: [(Self, Self); 14] = [
        (Self::FirstReplica, Self::LoadRises),
        (Self::LoadRises, Self::Metric),
        (Self::Metric, Self::Replicas),
        (Self::Replicas, Self::Unschedulable),
        (Self::Unschedulable, Self::Planned),
        (Self::Planned, Self::Launched),
        (Self::Launched, Self::Joined),
        (Self::Joined, Self::Initialized),
        (Self::Initialized, Self::AllRun),
        (Self::AllRun, Self::LoadFalls),
        (Self::LoadFalls, Self::OneReplica),
        (Self::LoadFalls, Self::Empty),
        (Self::Empty, Self::Leaving),
        (Self::Leaving, Self::Gone),
    ];

    pub(super) const FALLING: [Self; 4] = [Self::OneReplica, Self::Empty, Self::Leaving, Self::Gone];

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::FirstReplica => "one replica runs on the cluster's own node",
            Self::LoadRises => "load rises at the mesh",
            Self::Metric => "the metric passes the threshold",
            Self::Replicas => "the HPA wants more replicas",
            Self::Unschedulable => "pods fit nowhere",
            Self::Planned => "a machine is planned and recorded",
            Self::Launched => "EC2 has launched it",
            Self::Joined => "it has joined as a node",
            Self::Initialized => "it is ready and initialized",
            Self::AllRun => "every wanted replica runs",
            Self::LoadFalls => "load falls at the mesh",
            Self::OneReplica => "the HPA wants one replica",
            Self::Empty => "a machine is empty",
            Self::Leaving => "a machine is being taken away",
            Self::Gone => "no claim, no node, no instance is left",
        }
    }
}

/// Numbers of looks. A look reads one thing after the other, so what it finds last may be younger than what it finds first:
/// two stages seen by looks that follow each other may have come in either order.
pub(super) type Look = u32;

/// What is missing, and what was seen out of its turn.
pub(super) fn wrong(looks: &BTreeMap<Stage, Look>) -> Vec<String> {
    let missing = Stage::ALL.iter().filter(|stage| !looks.contains_key(stage));
    let missing = missing.map(|stage| format!("not seen: {}", stage.words()));
    let turned = Stage::ORDER.iter().filter(|(first, then)| match (looks.get(first), looks.get(then)) {
        (Some(first), Some(then)) => *first > then + 1,
        _ => false,
    });
    missing.chain(turned.map(|(first, then)| format!("{}, and only then: {}", then.words(), first.words()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stage at a look of its own, three apart.
    fn in_order() -> BTreeMap<Stage, Look> {
        Stage::ALL.into_iter().zip((0..).step_by(3)).collect()
    }

    #[test]
    fn every_stage_must_be_seen() {
        assert_eq!(wrong(&in_order()), Vec::<String>::new());
        for stage in Stage::ALL {
            let mut looks = in_order();
            looks.remove(&stage);
            assert_eq!(wrong(&looks), [format!("not seen: {}", stage.words())]);
        }
    }

    #[test]
    fn a_stage_before_its_turn_is_told() {
        for (first, then) in Stage::ORDER {
            let mut looks = in_order();
            looks.insert(then, looks[&first].saturating_sub(1));
            looks.insert(first, looks[&then] + 1);
            assert_eq!(wrong(&looks), Vec::<String>::new(), "{first:?} and {then:?} in neighbouring looks");
            looks.insert(first, looks[&then] + 2);
            let told = format!("{}, and only then: {}", then.words(), first.words());
            assert!(wrong(&looks).contains(&told), "{first:?} after {then:?}");
        }
    }
}
