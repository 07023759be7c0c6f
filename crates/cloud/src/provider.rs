//! The trait itself.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use scheduling::InstanceType;

use crate::{CloudError, LaunchRequest, Machine, NodeClass};

/// A vendor of machines.
///
/// # Guarantees
/// - Every call may be repeated, and may be dropped half-way; the next call finds what the last one left.
/// - An implementation limits its own calls; callers need no limiter of theirs.
/// - All work is bounded in time by the implementation.
///
/// # Assumptions
/// - The claim named in a [`LaunchRequest`] exists in the API server before [`CloudProvider::launch`] is called.
/// - One process at a time acts (leader election); a second one, briefly, does no harm beyond wasted calls.
#[async_trait]
pub trait CloudProvider: Send + Sync + Debug {
    /// Short name for logs and metrics: `aws`, `kwok`, `fake`.
    fn name(&self) -> &'static str;

    /// Every type the class could launch, with an offering for each zone of the class's subnets.
    ///
    /// `kubelet` is the pool's `kubeletConfiguration` (`Null` if none): it changes how many pods fit and what is
    /// reserved. Offerings that were refused for capacity a short while ago are there with `available: false`.
    async fn instance_types(
        &self,
        class: &NodeClass,
        kubelet: &serde_json::Value,
    ) -> Result<Arc<[InstanceType]>, CloudError>;

    /// Whether the class can launch at all: its subnets, security groups and image are found, its fields make sense.
    ///
    /// # Errors
    /// [`CloudError::Misconfigured`] with the first field a person must change.
    async fn validate(&self, class: &NodeClass) -> Result<(), CloudError>;

    /// Rents one machine for a claim; for a claim UID that already has a live machine, returns that one.
    async fn launch(&self, request: &LaunchRequest) -> Result<Machine, CloudError>;

    /// One machine. [`CloudError::NotFound`] when it never was or is gone.
    async fn get(&self, provider_id: &str) -> Result<Machine, CloudError>;

    /// Every machine of this cluster that is not terminated, in the order of provider ids.
    async fn list(&self) -> Result<Vec<Machine>, CloudError>;

    /// Gives a machine back. `Ok` also when it is already going; [`CloudError::NotFound`] when it is gone.
    async fn terminate(&self, provider_id: &str) -> Result<(), CloudError>;

    /// Removes what launches left behind and none of `live_classes` needs any more (launch templates).
    async fn clean(&self, live_classes: &[NodeClass]) -> Result<(), CloudError>;
}
