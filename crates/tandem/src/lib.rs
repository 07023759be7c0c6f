//! The command line: what a cluster would buy for its pods, at what price and why, without touching a cluster.
//!
//! ```text
//! folder, file, - ─▶ documents ─▶ objects ─▶ world ─▶ Snapshot ─▶ scheduling ─▶ Report ─▶ text, JSON
//! instance file ───▶ instance ───────────────────────┘
//! ```
//!
//! In: ordinary Kubernetes manifests with a catalogue of instance types, or a packing instance. Out: a plan with its
//! reasons. What cannot be understood is refused with file, document, object and field ([`Problem`]); what does not matter
//! is counted ([`Remarks`]). Conversion into core values is `api`'s, decisions are `scheduling`'s; the clock and the
//! terminal are the program's alone.

mod admission;
pub mod bench;
pub mod catalogue;
mod claims;
pub mod documents;
pub mod ec2;
mod fate;
mod faults;
pub mod fuzz;
pub mod gates;
pub mod generate;
mod in_time;
pub mod input;
pub mod instance;
mod kubelet;
pub mod objects;
mod problem;
pub mod report;
pub mod simulate;
mod workloads;
mod world;

pub use crate::{
    documents::Document,
    objects::Remarks,
    problem::{BadInput, Origin, Problem},
    world::{LeftOut, snapshot},
};
