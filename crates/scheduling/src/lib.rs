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
//! only the types with the solver.
//!
//! The solver promises that every placed pod fits on every machine its node may become, that no limit is passed even if
//! the largest of them comes, and that every pod is either placed or has all reasons of every pool. What pods demand of each
//! other's places holds for certain at each pod's turn. It does not promise the least cost.
//!
//! Left to others: reading the cluster, launching, and which nodes to take away.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod check;
mod pod;
mod realise;
mod snapshot;
mod solution;
mod solve;
#[cfg(test)]
mod testing;
mod unfit;

pub use crate::{
    pod::{
        HostPort, LabelSelector, NodeInclusion, OwnerKey, Pod, PodAffinityTerm, PodKey, Protocol, Strength, Taint,
        TaintEffect, Toleration, TolerationOperator, TopologySpread, WhenUnsatisfiable, tolerates, untolerated,
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
    unfit::{NodeRefusals, Unfit},
};
