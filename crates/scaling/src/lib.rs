//! Decides how many replicas a workload should have. It touches nothing.
//!
//! ```text
//!  samples of the triggers ─┐
//!  settings of the object ──┼─► decide() ─► Decision { what to do, why, conditions, when to look again }
//!  what was seen, now ──────┘
//!  samples, a formula ────────► Modifiers::compose() ─► one composite reading in place of them
//!  settings + metric specs ───► hpa::plan() ─► HpaPlan    (the HPA that does 1..N)
//!  one sample + fallback ─────► hpa::answer() ─► the value the HPA controller is told
//!  samples, Jobs there are ───► jobs::jobs() ─► how many Jobs to make
//! ```
//!
//! Promises: no clock, no I/O, no randomness: equal arguments give equal results. A sample that is
//! [`Sample::Unknown`] never makes the replica count go down. A decided replica count lies within the
//! bounds of the [`Settings`], or is the idle count, or what a pause annotation asks for.
//!
//! Left to others: reading sources (`scalers`), reading and writing Kubernetes objects (`scaling-controller`).
//!
//! The behaviour is that of KEDA's ScaledObject and ScaledJob; each function lists where it departs from it.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod activity;
pub mod condition;
pub mod decide;
pub mod fallback;
pub mod formula;
pub mod hpa;
pub mod jobs;
pub mod modifiers;
pub mod name;
pub mod pause;
pub mod sample;
pub mod settings;

pub use condition::{Condition, ConditionKind, ConditionStatus};
pub use decide::{Action, Decision, HoldReason, Observed, ScaleReason, decide};
pub use fallback::{Fallback, FallbackBehavior};
pub use modifiers::{COMPOSITE, Modifiers};
pub use pause::{FullPause, Pausing};
pub use sample::{Sample, Target, TriggerReading};
pub use settings::{Bounds, BoundsError, Settings};
