//! The algebra of node labels: what a pod, a pool and an instance type want of them, and whether these go together.
//!
//! ```text
//! RequirementTerm  as a manifest wrote it      {key: zone, operator: In, values: [a, b]}
//!      │ checked once
//!      ▼
//! Requirement      the set of values it means  zone ∈ {a, b}
//!      │ one per key
//!      ▼
//! Requirements     everything wanted of a node
//! ```
//!
//! A [`Requirement`] is a set over *what a label can be*: one of all strings, or absent. Intersection is exactly set
//! intersection, and the property tests hold it to that. Whether absence is fine is part of the set, so `NotIn` and
//! `DoesNotExist` need no special case: an absent label satisfies both.
//!
//! Left to others: which labels exist on which machine, and who sets them.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod labels;
mod requirement;
mod set;
mod term;

pub use crate::{
    requirement::Requirement,
    set::{Incompatible, Requirements},
    term::{Operator, RequirementTerm, TermError, TermProblem},
};
