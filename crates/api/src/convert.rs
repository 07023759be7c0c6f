//! Kubernetes objects → values of the core crates, once.
//!
//! What cannot be understood is never dropped in silence: a pod carries it in `invalid`, a pool is
//! refused with every [`FieldError`](crate::FieldError) it has.

mod affinity;
mod daemon;
mod duration;
mod modifiers;
mod node;
mod overlay;
mod pod;
mod pool;
mod resources;
mod volume;

pub use daemon::daemon_set;
pub use duration::{ParseDurationError, SpanOrNever, parse_duration};
pub use modifiers::modifiers;
pub use node::{node, pool_of, taint};
pub use overlay::overlay;
pub use pod::{pod, replacement};
pub use pool::{PoolTemplate, claim_requirement, nodepool, provisioner};
pub use resources::{pod_requests, quantities_floor};
pub use volume::{
    any_volume_zones, attaching_driver, attachment, persistent_volume_zones, storage_class_zones, volume_limits,
};

/// Group and kind of the class reference of a v1alpha5 Provisioner with an inline `provider`.
pub const INLINE_CLASS: (&str, &str) = ("karpenter.sh", "Provisioner");
/// Group and kind of the class reference of a v1alpha5 Provisioner with a `providerRef`.
pub const TEMPLATE_CLASS: (&str, &str) = ("karpenter.k8s.aws", "AWSNodeTemplate");
