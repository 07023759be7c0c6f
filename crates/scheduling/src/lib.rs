//! Which pods go where: on nodes there are, on nodes under way, or on new ones – and why.
//!
//! ```text
//!            ┌───────── solve ─────────┐
//! Snapshot ──┤ pods × nodes × pools    ├──▶ Solution ──▶ check ──▶ violations (none, or a bug)
//!            └─────────────────────────┘       placed, new nodes, unplaced with reasons
//! ```
//!
//! A [`Snapshot`] holds everything that is known at one instant; [`solve`] is a function of it and of [`Settings`] alone:
//! the same input, in any order, gives the same bytes. [`check::check`] verifies a solution against its snapshot and shares
//! only the types with the solver. [`realise`] plays through what the kube-scheduler would make of it.
//!
//! # Promises
//!
//! Every placed pod fits on every machine its node may become, no limit is passed even if the largest of them comes, and
//! every pod is either placed or has all reasons of every pool. What pods demand of each other's places holds for certain at
//! each pod's turn. A plan is never dearer than the one of the greedy rule, which is Karpenter's but for the differences that
//! `docs/differences.md` lists. How near it is to the cheapest there could be is said by [`LowerBound`], which no plan can
//! be below and which names the constraints that its proof leaves out. Up to ten pods are planned by trying every way: what
//! is proven then is the cheapest among the plans that place as many, give up no more wishes and put no more pods on pools
//! of less weight.
//!
//! # One pod, from the snapshot to the reason
//!
//! Three files tell it: `snapshot.rs` what is known, `solve.rs` the pod's turn and what is tried at it, `solve/reasons.rs` what is
//! asked of every pool when nothing takes the pod.
//!
//! ```
//! use scheduling::*;
//! use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};
//!
//! let cpus = |milli| {
//!     ResourceList::new().with(ResourceName::cpu(), Amount(milli)).with(ResourceName::pods(), Amount(10))
//! };
//! let sold = |milli_cpu, micros| InstanceType {
//!     name: format!("type-{milli_cpu}"),
//!     requirements: Default::default(),
//!     capacity: cpus(milli_cpu),
//!     overhead: ResourceList::new(),
//!     offerings: vec![Offering {
//!         zone: "a".to_owned(),
//!         capacity_type: CapacityType::OnDemand,
//!         price: UsdMicrosPerHour(micros),
//!         available: true,
//!         remaining: None,
//!     }],
//! };
//!
//! // What is known: a pod that asks for three CPUs, no node yet, and a pool that can make two kinds.
//! let mut pod = Pod::new(PodKey::new("shop", "web-0"));
//! pod.requests = cpus(3000).with(ResourceName::pods(), Amount(1));
//! let pool = Pool {
//!     key: PoolKey { kind: PoolKind::NodePool, name: "default".to_owned() },
//!     weight: 0,
//!     requirements: Default::default(),
//!     labels: Default::default(),
//!     taints: Vec::new(),
//!     startup_taints: Vec::new(),
//!     limits: None,
//!     used: ResourceList::new(),
//!     instance_types: [sold(2000, 100_000), sold(4000, 200_000)].into(),
//! };
//! let mut snapshot = Snapshot { pods: vec![pod.clone().into()], pools: vec![pool], ..Snapshot::default() };
//!
//! // It has a place, and the place says why.
//! let solution = solve(&snapshot, &Settings::default());
//! let placement = &solution.placed[&pod.key];
//! assert_eq!(placement.node, Target::New(0));
//! assert_eq!(placement.why.to_string(), "no node takes it, so a new one is opened");
//! let node = &solution.new_nodes[0];
//! assert_eq!(node.offerings[0].key.to_string(), "type-4000 in a (on-demand)");
//! assert_eq!(node.why[0].to_string(), "opened for pod shop/web-0");
//! assert!(solution.proven_optimal());
//! assert_eq!(check::check(&snapshot, &solution), []);
//!
//! // With a limit it has none, and is told so for every pool.
//! snapshot.pools[0].limits = Some(ResourceList::new().with(ResourceName::cpu(), Amount(3000)));
//! let solution = solve(&snapshot, &Settings::default());
//! let reasons: Vec<String> = solution.unplaced[&pod.key].iter().map(ToString::to_string).collect();
//! assert_eq!(reasons, ["NodePool/default: limit of 3 cpu, 0 used, the smallest node would add 4"]);
//! ```
//!
//! `snapshot.rs` has the pod among all that is known. In `solve.rs`, `prepare` puts it in a row with the others (`in_order`); pods
//! written alike share a number, so that what they ask for is worked out once. At its turn (`Greedy::place`) it goes to the first
//! node that takes it, as `anywhere` asks them: one there is, one this solve has opened, or a new one of the first pool by weight
//! that can have one within its limit. If none takes it, its wishes are given up one by one. `finish` has `solve/reasons.rs`
//! tell why none did: `reasons` asks every pool (`pool_reasons`) for each demand whether that was in the way, and sorts the
//! answers by how near they came. Each answer is an [`Unfit`]; its words are in `unfit.rs`.
//!
//! What these three call and do not show: `solve/wishes.rs` reads the pod's demands, `solve/find.rs` looks through the nodes
//! (`find_existing`, `find_open`), `solve/make.rs` opens new ones (`open_for`). All that is the greedy plan. For what it puts on
//! new nodes `solve/plan.rs` then looks for cheaper machines by price, with all pods in view, and carries the plan out by the
//! same rules; the cheaper of the two is the answer. If the pods are few and that is not proven to be the cheapest,
//! `solve/plan/exact.rs` tries every way for the fewest, and `solve/plan/rearrange.rs` changes the best plan node by node.
//!
//! Left to others: reading the cluster, launching, and which nodes to take away.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod check;
mod overlay;
mod pod;
mod realise;
mod snapshot;
mod solution;
mod solve;
#[cfg(test)]
mod testing;
mod unfit;

pub use crate::{
    overlay::{Conflict, Contested, Offered, Overlaid, Overlay, PriceChange, overlay},
    pod::{
        Gang, HostPort, LabelSelector, NodeInclusion, OwnerKey, Pod, PodAffinityTerm, PodKey, Protocol, Strength,
        Taint, TaintEffect, Toleration, TolerationOperator, TopologySpread, WhenUnsatisfiable, tolerates, untolerated,
    },
    realise::{Opening, Realised, nominations, realise, realise_nominated},
    snapshot::{
        CapacityType, InstanceType, Node, NodeKey, NodeStage, Offering, OfferingKey, Pool, PoolKey, PoolKind, Settings,
        Snapshot,
    },
    solution::{
        LowerBound, NewNode, NewNodeReason, Note, Placement, PlacementReason, PricedOffering, Solution, Target,
    },
    solve::{solve, solve_after, solve_greedy, solve_within},
    unfit::{NodeRefusals, Shortage, Unfit},
};
