//! `karpenter.sh/v1`: NodeClaim.

mod node_claim;

pub use node_claim::*;

/// The finalizer on claims and nodes: the machine goes before the object does.
pub const TERMINATION_FINALIZER: &str = "karpenter.sh/termination";
