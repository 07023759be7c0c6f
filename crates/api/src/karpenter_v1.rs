//! `karpenter.sh/v1`: NodePool and NodeClaim.

mod node_claim;
mod node_pool;

pub use node_claim::*;
pub use node_pool::*;

/// The finalizer on claims and nodes: the machine goes before the object does.
pub const TERMINATION_FINALIZER: &str = "karpenter.sh/termination";
