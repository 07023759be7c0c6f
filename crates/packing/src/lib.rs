//! Multi-dimensional packing into bins of different prices, with a proof of how good the packing is.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floating point is for guidance here; what is claimed is computed in integers"
)]

mod answer;
mod bound;
mod build;
mod coarse;
mod columns;
mod dominance;
mod exact;
mod fluid;
mod greedy;
mod improve;
mod integer;
mod knapsack;
mod meter;
mod model;
mod plan;
mod problem;
mod relax;
mod rounding;
mod separate;
mod simplex;
mod solve;
mod warm;

pub use answer::{Node, Packing, Warm};
pub use improve::Dice;
pub use meter::Budget;
pub use problem::{Bin, Bits, Group, Limit, Problem};
pub use solve::{first_fit, pack, pack_strictly, prove};
