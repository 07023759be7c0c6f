//! Which nodes to take away, and in which order their pods leave.
//!
//! Three decisions, each a function of values and of `now`:
//!
//! - [`emptiness`]: mark, unmark or remove a node that has no pods of its own (`ttlSecondsAfterEmpty`);
//! - [`expiration`] and [`next_expired`]: replace nodes that are too old (`ttlSecondsUntilExpired`), one at a time and only
//!   if their pods have somewhere to go;
//! - [`drain::plan`]: what to evict now from a node that is going, and what is waited for.
//!
//! The semantics are those of Karpenter v0.16 for `v1alpha5` objects, with the differences named at each item. Left to
//! others: reading the cluster, writing annotations, evicting, terminating, and what the API server thinks of disruption
//! budgets for pods.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod candidate;
pub mod drain;
mod emptiness;
mod expiration;

pub use crate::{
    candidate::{Candidate, KeepReason, RemoveReason, Verdict},
    emptiness::emptiness,
    expiration::{Expirations, Replacement, expiration, next_expired},
};
