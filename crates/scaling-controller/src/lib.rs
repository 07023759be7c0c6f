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
//! first seen and before a write; in between the HPA's own status says whether the target is at zero.
//!
//! Needs these rights: get, list, watch, update, patch on `scaledobjects`, `scaledjobs` and their
//! `/status`; everything on
//! `horizontalpodautoscalers`; get and update on `*/scale`, get on the targets; create and patch on events; get, list and
//! watch on the two kinds of TriggerAuthentication; get on the Secrets, ConfigMaps and ServiceAccounts they name.
//!
//! What is told about objects also goes to the destinations of CloudEventSources (`cloud_events`); for these: get, list, watch
//! and patch on both kinds, patch on their `/status`.
//!
//! ScaledJobs have actors of their own, which make Jobs (`jobs`); for these: get, list, create, delete on Jobs, list on pods.
//!
//! Admission (`admission`) needs list on limitranges, and judges on every replica.
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
mod listener;
mod metrics;
mod object;
mod read;
mod source;
mod sources;
mod status;
mod supervisor;
mod target;

pub use cloud_events::CloudEventSettings;
pub use credentials::CredentialSettings;
pub use metrics::Metrics;
pub use object::ObjectKey;
pub use sources::{Answer, AnswerError, Sources};
pub use supervisor::{Controller, Settings};
