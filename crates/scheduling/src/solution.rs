use std::{collections::BTreeMap, fmt};

use requirements::Requirements;
use serde::{Deserialize, Serialize};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

use crate::{NodeKey, OfferingKey, PodKey, PoolKey, Taint, Unfit};

/// Where each pod goes, which nodes to make, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Solution {
    /// The pods that have a place.
    pub placed: BTreeMap<PodKey, Placement>,
    /// The nodes to make, each with at least one pod.
    pub new_nodes: Vec<NewNode>,
    /// The pods that have none, with the reasons, nearest first.
    pub unplaced: BTreeMap<PodKey, Vec<Unfit>>,
    /// What the new nodes cost together, each at its cheapest offering.
    pub cost: UsdMicrosPerHour,
    /// Less than this no solution can cost. Every plan of the solver has one.
    pub lower_bound: Option<LowerBound>,
    /// What the greedy rule's plan would cost, if that was worked out too; it places the same number of pods or fewer.
    pub greedy_cost: Option<UsdMicrosPerHour>,
    /// How many pods the greedy rule's plan leaves without a place that have one here.
    #[serde(default)]
    pub greedy_leaves_out: usize,
    /// How much work the search for it took, in the unit of [`Settings::search_work_units`](crate::Settings::search_work_units);
    /// 0 if there was none.
    #[serde(default)]
    pub search_work_units: u64,
    /// What a reader should know about the solution as a whole.
    pub notes: Vec<Note>,
}

/// A proven bound on the cost of the new nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LowerBound {
    /// No solution is cheaper that places the pods which this one places, gives up no wish that the greedy rule grants, and puts no more pods
    /// on pools of less weight than it does.
    pub cost: UsdMicrosPerHour,
    /// The constraints the proof does not use.
    pub ignores: Vec<String>,
}

impl Solution {
    /// Whether nothing cheaper is possible.
    pub fn proven_optimal(&self) -> bool {
        self.unplaced.is_empty() && self.lower_bound.as_ref().is_some_and(|bound| bound.cost >= self.cost)
    }

    /// What the new nodes cost if the cloud takes the `m`-th cheapest offering of each (counted from 1), or its last one if
    /// it has fewer: the plan's guarantee when so many offerings must stay open.
    pub fn cost_with_alternatives(&self, m: usize) -> UsdMicrosPerHour {
        let price = |node: &NewNode| {
            let last = node.offerings.len().saturating_sub(1);
            node.offerings.get(m.saturating_sub(1).min(last)).map_or(node.price, |offering| offering.price)
        };
        self.new_nodes.iter().map(price).sum()
    }
}

/// Where one pod goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The node.
    pub node: Target,
    /// Why there.
    pub why: PlacementReason,
    /// When it was placed, counted from 0: bound in this order, every pod's spreads and affinities hold at its turn. The
    /// checker tries this order before it looks for another.
    #[serde(default)]
    pub turn: usize,
}

/// A node there is, or a new one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// A node of the snapshot.
    Existing(NodeKey),
    /// The new node at this index of [`Solution::new_nodes`].
    New(usize),
}

/// Why a pod goes where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlacementReason {
    /// A ready node has room.
    RoomOnReadyNode,
    /// No ready node has room, one under way will.
    RoomOnNodeInFlight,
    /// No node of the snapshot has room, one opened for other pods has.
    RoomOnNewNode,
    /// No node has room; a new one was opened for this pod.
    OpensNode,
    /// No node of the snapshot has room, and the cheapest plan found for all pods puts it here.
    CheapestPlan,
}

impl fmt::Display for PlacementReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoomOnReadyNode => "a ready node has room",
            Self::RoomOnNodeInFlight => "a node under way will have room",
            Self::RoomOnNewNode => "a new node opened for other pods has room",
            Self::OpensNode => "no node takes it, so a new one is opened",
            Self::CheapestPlan => "no node takes it, and the cheapest plan for all pods puts it on this new node",
        })
    }
}

/// A node to make. Any of its offerings will do for all its pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewNode {
    /// The pool it belongs to and is charged to.
    pub pool: PoolKey,
    /// What its labels must be: the pool's requirements and those of its pods.
    pub requirements: Requirements,
    /// What to buy: any one of these, the cheapest first; never empty.
    pub offerings: Vec<PricedOffering>,
    /// Labels to set on it whatever is bought, its pool's name included.
    pub labels: BTreeMap<String, String>,
    /// Taints it keeps.
    pub taints: Vec<Taint>,
    /// Taints it begins with.
    pub startup_taints: Vec<Taint>,
    /// What its pods ask for, daemons included; the most of what the daemons ask on any of the offerings.
    pub requests: ResourceList,
    /// The largest capacity among the offerings, resource by resource: what limits are charged with.
    pub capacity: ResourceList,
    /// Its pods.
    pub pods: Vec<PodKey>,
    /// What the cheapest offering costs.
    pub price: UsdMicrosPerHour,
    /// Why this pool and these offerings.
    pub why: Vec<NewNodeReason>,
}

/// An offering and its price.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PricedOffering {
    /// Which offering.
    pub key: OfferingKey,
    /// What it costs.
    pub price: UsdMicrosPerHour,
}

/// Why a new node is what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum NewNodeReason {
    /// The pod it was opened for.
    OpenedFor {
        /// That pod.
        pod: PodKey,
    },
    /// A pool that is tried earlier could not take that pod.
    PassedOver {
        /// Why not.
        why: Unfit,
    },
    /// A pool that is tried earlier could have taken that pod too, but the plan for all pods is not cheaper with it.
    Dearer {
        /// That pool.
        pool: PoolKey,
    },
    /// Only the cheapest offerings were kept.
    Truncated {
        /// How many were kept.
        kept: usize,
        /// How many would have done.
        of: usize,
    },
    /// What it costs, and the cheapest dearer machine that would do as well.
    Costs {
        /// The price of its cheapest offering.
        price: UsdMicrosPerHour,
        /// The next dearer of its offerings, if one is left.
        next: Option<PricedOffering>,
    },
    /// The greedy rule would have bought another machine for the pod it was opened for.
    InsteadOf {
        /// That machine.
        offering: PricedOffering,
        /// How many pods it would have put there.
        pods: usize,
    },
    /// Larger machines were left out so that the pool's limit holds whatever is bought.
    NarrowedByLimit {
        /// What is limited.
        resource: ResourceName,
        /// The most that any machine that was kept has of it.
        left: Amount,
    },
}

impl fmt::Display for NewNodeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OpenedFor { pod } => write!(f, "opened for pod {pod}"),
            Self::PassedOver { why } => write!(f, "passed over {why}"),
            Self::Dearer { pool } => write!(f, "{pool} would do too, and is not in the cheapest plan"),
            Self::Truncated { kept, of } => write!(f, "the {kept} cheapest of {of} offerings were kept"),
            Self::Costs { price, next: None } => write!(f, "it costs {price}"),
            Self::Costs { price, next: Some(next) } => {
                write!(f, "it costs {price}; next would be {} for {}", next.key, next.price)
            }
            Self::InsteadOf { offering, pods } => {
                let pods = counted(*pods, "pod");
                write!(f, "by the greedy rule it would be {} for {}, with {pods}", offering.key, offering.price)
            }
            Self::NarrowedByLimit { resource, left } => {
                let left = units::Quantity::about(resource, *left);
                write!(f, "machines with more than {left} {resource} were left out by the limit")
            }
        }
    }
}

/// Something about the solution as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Note {
    /// Wishes were left to the kube-scheduler.
    PreferencesIgnored {
        /// How many pods have wishes.
        pods: usize,
    },
    /// Wishes were given up because pods found no place with them.
    PreferencesRelaxed {
        /// How many pods were placed without some of their wishes.
        pods: usize,
    },
    /// Without the wishes of the pods there is a cheaper plan for as many of them.
    PreferencesCost {
        /// How much cheaper it is; there may be a cheaper one still.
        more: UsdMicrosPerHour,
    },
    /// Nodes are made from fewer kinds of machines than `minValues` demands, as the settings allow.
    MinValuesRelaxed {
        /// How many new nodes.
        nodes: usize,
    },
    /// The budget of work ended before all pods were tried.
    BudgetExhausted {
        /// How many pods were not tried.
        pods: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreferencesIgnored { pods } => {
                write!(f, "the preferences of {} are left to the kube-scheduler", counted(*pods, "pod"))
            }
            Self::PreferencesRelaxed { pods: 1 } => f.write_str("1 pod is placed without some of its preferences"),
            Self::PreferencesRelaxed { pods } => write!(f, "{pods} pods are placed without some of their preferences"),
            Self::PreferencesCost { more } => {
                write!(f, "preferences cost {more}: without them there is a plan for that much less")
            }
            Self::MinValuesRelaxed { nodes: 1 } => {
                f.write_str("1 new node has fewer alternatives than minValues asks for")
            }
            Self::MinValuesRelaxed { nodes } => {
                write!(f, "{nodes} new nodes have fewer alternatives than minValues asks for")
            }
            Self::BudgetExhausted { pods: 1 } => f.write_str("the work budget ended before 1 pod was tried"),
            Self::BudgetExhausted { pods } => write!(f, "the work budget ended before {pods} pods were tried"),
        }
    }
}

/// `1 pod`, `2 pods`
fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}
