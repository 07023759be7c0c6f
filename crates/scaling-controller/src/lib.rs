//! Makes ScaledObjects come true: the shell around `scaling`, `scalers` and the Kubernetes API.
//!
//! ```text
//!   watches ── stores ──► supervisor ──► one actor per ScaledObject (leader only)
//!   (ScaledObject, HPA)                   ├─ finalizer, label, checks, target, HPA
//!                                         ├─ reads its triggers every pollingInterval, asks scaling::decide
//!                                         └─ writes /scale, status and events, each only on change
//!   HPA's question ──► Sources::answer ──► the same reads, shared and cached for a moment (every replica)
//! ```
//!
//! Guarantees: only the leader writes. An actor that panics or waits for a slow source delays nobody else. A source is
//! asked once for a poll and an HPA question that fall together. A status is written only when it changes, and the last
//! active time coarsely (see `scaling::activity`). The API server is not polled: `/scale` is read when an object is
//! first seen and before a write; in between the HPA's own status says whether the target is there, and whether it is at zero.
//!
//! Needs the rights that `tests/rights.rs` lists with their reasons, which are those of the chart. Admission (`admission`) judges
//! on every replica.
//!
//! What is told about objects also goes to the destinations of CloudEventSources (`cloud_events`). ScaledJobs have actors of their
//! own, which make Jobs (`jobs`).
//!
//! Left to others: election, serving TLS, and the aggregated API's protocol.

mod actor;
pub mod admission;
mod authentications;
mod cloud_events;
mod cluster;
mod conflict;
#[cfg(test)]
mod conformance_tests;
mod credentials;
pub mod external_metrics;
mod hpa;
mod jobs;
mod known_hpa;
mod listener;
mod metrics;
mod object;
mod read;
mod source;
mod sources;
mod status;
mod supervisor;
mod target;
mod wording;

pub use cloud_events::CloudEventSettings;
pub use credentials::CredentialSettings;
pub use metrics::Metrics;
pub use object::ObjectKey;
pub use sources::{Answer, AnswerError, Sources};
pub use supervisor::{Controller, Settings};
