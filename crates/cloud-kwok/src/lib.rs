//! Machines that are nothing but Node objects.
//!
//! A launch makes, after a boot delay, a Node as a kubelet would register it; [KWOK](https://kwok.sigs.k8s.io) then
//! keeps it ready. For local clusters and for tests of everything but the vendor.
//!
//! ```text
//!  launch ─► booting (memory) ─ boot delay ─► Node (API server) ─► KWOK: Ready
//!                                                │
//!  terminate ──────────────────────────────► marked, deleted
//! ```
//!
//! Machines are read back from the Nodes, so nothing else is stored. What is booting when the process dies is gone, like
//! a machine whose host broke before its kubelet spoke. A claim's name is its machine's name: asking twice cannot make
//! two.
//!
//! Types and prices are those of [`cloud::catalogue`], or of a file ([`mod@catalogue`]). Of a KWOKNodeClass the registration
//! delay counts; every other class is accepted as it is, for there is nothing to look up.

pub mod catalogue;
mod machine;
mod provider;
mod store;

pub use provider::{KwokCloud, Settings};
pub use store::{ApiServer, NodeStore, StoreError};
