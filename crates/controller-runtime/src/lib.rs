//! What both controllers need around their decisions: the program's start and end, watches turned into indexes,
//! a Lease, events, status patches, serving over TLS and the rules of an aggregated API server.
//!
//! Nothing in here decides about pods or nodes. What comes in are command-line flags and a Kubernetes API; what goes
//! out are small values the shells build upon: a [`boot::Runtime`], an [`index::Watched`] store, a leadership signal.
//!
//! ```text
//!  flags ─► boot ─► client, shutdown, metrics, health
//!                     │
//!        ┌────────────┼─────────────┬──────────────┬─────────────┐
//!      index        lease        events          status     tls + aggregated
//!   (API → stores) (who acts)  (what people see) (what we say) (who may ask us)
//! ```
//!
//! Promises: every wait is bounded or ends with the shutdown token; every cache has a size; no lock is held across an
//! `.await`; the wall clock is used only for what people and other programs read (timestamps, certificate validity),
//! waiting is measured on the monotonic clock.

pub mod aggregated;
pub mod boot;
pub mod cli;
pub mod events;
pub mod health;
pub mod index;
pub mod lease;
pub mod metrics;
pub mod status;
pub mod tls;

#[cfg(test)]
mod fake_api;
