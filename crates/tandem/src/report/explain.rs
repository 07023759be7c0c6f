//! Why one pod is where it is, and what other places would cost.

use std::{collections::BTreeMap, fmt, sync::Arc};

use scheduling::{NodeKey, Placement, Pod, PodKey, Settings, Snapshot, Solution, Target, Unfit, solve, solve_greedy};
use serde::Serialize;
use units::UsdMicrosPerHour;

use super::{
    Content, Owners,
    price::dearer,
    text::{contents, new_name},
};

/// How many dearer machines are named.
const ALTERNATIVES_NAMED: usize = 5;

/// Why one pod is where it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Which pod.
    pub pod: PodKey,
    /// Where it goes; null if nowhere.
    pub place: Option<Place>,
    /// Why there, or why nowhere.
    pub why: Vec<String>,
    /// Why none of the nodes there are, if there are any and it is on none of them.
    pub not_on_existing: Option<String>,
    /// What else its new node may become, and what that costs.
    pub alternatives: Vec<Priced>,
    /// The cheapest node it could have for itself.
    pub alone: Option<Priced>,
}

/// A place for a pod.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The node's name, or which of the new nodes.
    pub node: Target,
    /// What is bought; null for a node that is there.
    pub bought: Option<Priced>,
    /// The pool of a new node.
    pub pool: Option<String>,
    /// The other pods that this plan puts there.
    pub shared_with: Vec<Content>,
}

/// A machine and its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Priced {
    /// `m5.large in us-east-1a (spot)`
    pub offering: String,
    /// What it costs.
    #[serde(rename = "price_usd_per_hour", serialize_with = "super::usd")]
    pub price: UsdMicrosPerHour,
}

impl Priced {
    /// An offering of a plan.
    pub(super) fn of(offering: &scheduling::PricedOffering) -> Self {
        Self { offering: offering.key.to_string(), price: offering.price }
    }
}

impl Explanation {
    /// What is known of this pod; `None` if the plan is not about it.
    pub fn new(snapshot: &Snapshot, solution: &Solution, key: &PodKey, settings: &Settings) -> Option<Self> {
        let owners = Owners::new(snapshot);
        let others = |node: &Target| {
            let on_it = solution.placed.iter().filter(|(other, placed)| *other != key && placed.node == *node);
            owners.contents(on_it.map(|(other, _)| other))
        };
        let mut found = Self {
            pod: key.clone(),
            place: None,
            why: Vec::new(),
            not_on_existing: None,
            alternatives: Vec::new(),
            alone: alone(snapshot, key, settings),
        };
        if let Some(reasons) = solution.unplaced.get(key) {
            found.why = reasons.iter().map(ToString::to_string).collect();
            return Some(found);
        }
        let placement = solution.placed.get(key)?;
        found.why.push(placement.why.to_string());
        let mut place =
            Place { node: placement.node.clone(), bought: None, pool: None, shared_with: others(&placement.node) };
        if let Target::New(index) = placement.node {
            let node = solution.new_nodes.get(index)?;
            found.why.extend(node.why.iter().map(ToString::to_string));
            place.bought = node.offerings.first().map(Priced::of);
            place.pool = Some(node.pool.to_string());
            found.alternatives = node.offerings.iter().skip(1).map(Priced::of).collect();
            found.not_on_existing = refused_by_nodes(snapshot, solution, key, settings);
        }
        found.place = Some(place);
        Some(found)
    }
}

/// The cheapest node for this pod alone, were there no others.
fn alone(snapshot: &Snapshot, key: &PodKey, settings: &Settings) -> Option<Priced> {
    let pods = snapshot.pods.iter().filter(|pod| pod.key == *key).cloned().collect();
    // By price, not by the first alternative that will do.
    let plan = solve(&Snapshot { pods, nodes: Vec::new(), ..snapshot.clone() }, settings);
    let offering = plan.new_nodes.first()?.offerings.first()?;
    Some(Priced::of(offering))
}

/// Why no node of the snapshot takes it, with what the plan has put there.
fn refused_by_nodes(snapshot: &Snapshot, solution: &Solution, key: &PodKey, settings: &Settings) -> Option<String> {
    let mut filled = Snapshot { pools: Vec::new(), ..snapshot.clone() };
    filled.pods.retain(|pod| pod.key == *key);
    let mut planned: BTreeMap<&NodeKey, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in &snapshot.pods {
        if let Some(Placement { node: Target::Existing(node), .. }) = solution.placed.get(&pod.key) {
            planned.entry(node).or_default().push(Arc::clone(pod));
        }
    }
    for node in &mut filled.nodes {
        node.pods.extend(planned.remove(&node.key).unwrap_or_default());
    }
    let plan = solve_greedy(&filled, settings);
    plan.unplaced.get(key)?.iter().find(|reason| matches!(reason, Unfit::Nodes(_))).map(ToString::to_string)
}

/// A few lines for people.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => writeln!(f, "{} has no place.", self.pod)?,
            Some(Place { node: Target::Existing(node), .. }) => writeln!(f, "{} goes on {node}.", self.pod)?,
            Some(Place { node: Target::New(index), bought, pool, .. }) => {
                write!(f, "{} goes on {}", self.pod, new_name(*index))?;
                if let (Some(bought), Some(pool)) = (bought, pool) {
                    write!(f, " of {pool}: {} at {}", bought.offering, bought.price)?;
                }
                writeln!(f, ".")?;
            }
        }
        for why in &self.why {
            writeln!(f, "  because: {why}")?;
        }
        if let Some(refused) = &self.not_on_existing {
            writeln!(f, "  because: {refused}")?;
        }
        match self.place.as_ref().map(|place| place.shared_with.as_slice()) {
            None => {}
            Some([]) => writeln!(f, "  It has that node for itself.")?,
            Some(others) => writeln!(f, "  It shares that node with {}.", contents(others))?,
        }
        if let Some(bought) = self.place.as_ref().and_then(|place| place.bought.as_ref()) {
            let dearer_ones: Vec<_> = self.alternatives.iter().filter(|other| other.price > bought.price).collect();
            if !dearer_ones.is_empty() {
                writeln!(f, "  Machines that would do too and cost more:")?;
            }
            for other in dearer_ones.iter().take(ALTERNATIVES_NAMED) {
                let more = other.price.saturating_sub(bought.price);
                writeln!(f, "    {} at {}, {} more", other.offering, other.price, dearer(more))?;
            }
            if let more @ 1.. = dearer_ones.len().saturating_sub(ALTERNATIVES_NAMED) {
                writeln!(f, "    and {more} more")?;
            }
        }
        if let Some(alone) = &self.alone {
            writeln!(f, "  The cheapest node for this pod alone: {} at {}.", alone.offering, alone.price)?;
        }
        Ok(())
    }
}
