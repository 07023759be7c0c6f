//! The port between the node provisioner and whatever rents machines to it.
//!
//! In goes a [`LaunchRequest`]: a claim that was already recorded, a [`NodeClass`] and the priced offerings any of
//! which would do. Out comes a [`Machine`]. Everything about the vendor stays behind [`CloudProvider`]; what the
//! caller does next is named by [`CloudError`].
//!
//! ```text
//!  scheduling::Solution ──► NodeClaim (API server) ──► LaunchRequest ──► CloudProvider ──► Machine
//!                                  ▲                                                          │
//!                                  └───────────── found again by claim UID ◄──────────────────┘
//! ```
//!
//! Promises every adapter keeps, and [`conformance::run`] tests:
//! - a claim UID owns at most one machine, however often it is asked for and whoever died in between;
//! - [`CloudProvider::list`] shows every machine of this cluster which still costs money;
//! - what a person must repair comes back as [`CloudError::Misconfigured`] and names the field;
//! - what is sold out comes back as [`CloudError::InsufficientCapacity`] and names the offerings.
//!
//! Left to others: which machine to ask for (`scheduling`), when to remove it (`disruption`), the Node object and the
//! claim's status (`node-controller`).

pub mod catalogue;
pub mod conformance;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod machine;
mod provider;

pub use error::{BoxError, CloudError};
pub use machine::{LaunchRequest, Machine, MachineState, NodeClass};
pub use provider::CloudProvider;
