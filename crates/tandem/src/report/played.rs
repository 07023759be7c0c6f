//! What a plan comes to when the kube-scheduler, not the plan, places the pods.

use std::{collections::BTreeMap, fmt};

use scheduling::{Opening, PodKey, Snapshot, Solution, Target, nominations, realise_nominated};
use serde::Serialize;
use units::UsdMicrosPerHour;

use super::{price::dearer, text::counted};

/// In so many orders the pods may come; the worst one counts.
const ORDERS: u64 = 5;

/// A plan played through the kube-scheduler's rules, at worst over some orders in which the pods may come.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Played {
    /// The scheduler scores the nodes as it likes.
    pub as_it_likes: Outcome,
    /// The pods of new nodes are nominated for them, as node-provisioner does.
    pub nominated: Outcome,
}

/// What became of the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Outcome {
    /// What is paid in the end: for the plan, and for the nodes that pods without a place on it need.
    #[serde(rename = "realised_usd_per_hour", serialize_with = "super::usd")]
    pub realised: UsdMicrosPerHour,
    /// Pods that found no place on the nodes of the plan.
    pub stranded: usize,
    /// Pods that are on another node than planned.
    pub elsewhere: usize,
}

impl Played {
    /// Plays the plan.
    pub fn new(snapshot: &Snapshot, plan: &Solution) -> Self {
        let worst = |nominated: &BTreeMap<PodKey, Target>| {
            let outcomes = (0..ORDERS).map(|seed| Outcome::of(snapshot, plan, nominated, seed));
            outcomes.max().expect("there is an order")
        };
        Self { as_it_likes: worst(&BTreeMap::new()), nominated: worst(&nominations(snapshot, plan)) }
    }
}

impl Outcome {
    fn of(snapshot: &Snapshot, plan: &Solution, nominated: &BTreeMap<PodKey, Target>, seed: u64) -> Self {
        let found = realise_nominated(snapshot, plan, nominated, Opening::Together, seed);
        let moved = |(pod, at): &(&PodKey, &Target)| plan.placed.get(*pod).is_some_and(|placed| placed.node != **at);
        Self {
            realised: found.realised_cost,
            stranded: found.stranded.len(),
            elsewhere: found.placed.iter().filter(moved).count(),
        }
    }
}

/// Two lines for people.
impl fmt::Display for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (how, outcome) in [("as it likes", self.as_it_likes), ("with nominations", self.nominated)] {
            let Outcome { realised, stranded, elsewhere } = outcome;
            let (cost, stranded) = (dearer(realised), counted(stranded, "pods"));
            writeln!(
                f,
                "  {how}: {cost}; {stranded} without a place on the plan's nodes, {elsewhere} elsewhere than planned"
            )?;
        }
        Ok(())
    }
}
