//! What is asked for and what is got.

use std::collections::BTreeMap;

use scheduling::{CapacityType, OfferingKey, PoolKey, PricedOffering, Taint};
use units::ResourceList;

/// The vendor's part of a pool: opaque to all but the adapter.
///
/// One of the adapter's own kinds (`AWSNodeTemplate`, `EC2NodeClass`), or the block `spec.provider` written inside a
/// v1alpha5 Provisioner: then `kind` is `Provisioner`, `name` and `uid` are the Provisioner's, and `spec` is that block.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeClass {
    /// API group of the object, `karpenter.k8s.aws` for instance.
    pub group: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// UID of the object.
    pub uid: String,
    /// The object's spec as it was written, unknown fields included.
    pub spec: serde_json::Value,
}

/// One machine to rent, for one claim that is already recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct LaunchRequest {
    /// Name of the NodeClaim.
    pub claim_name: String,
    /// UID of the NodeClaim: the machine's identity. Asking twice with one UID rents one machine.
    pub claim_uid: String,
    /// The pool the claim belongs to.
    pub pool: PoolKey,
    /// How the vendor should build it.
    pub class: NodeClass,
    /// Offerings any of which will do, cheapest first. Never empty.
    pub offerings: Vec<PricedOffering>,
    /// Labels the Node must register with.
    pub labels: BTreeMap<String, String>,
    /// Taints the Node must register with.
    pub taints: Vec<Taint>,
    /// Taints the Node must register with and that somebody else removes when it is ready.
    pub startup_taints: Vec<Taint>,
    /// `kubeletConfiguration` as it was written; `Null` if none was.
    pub kubelet: serde_json::Value,
    /// Sum of what the pods planned for it ask for.
    pub requests: ResourceList,
}

impl LaunchRequest {
    /// The offerings without their prices, in the same order.
    pub fn offering_keys(&self) -> Vec<OfferingKey> {
        self.offerings.iter().map(|offering| offering.key.clone()).collect()
    }
}

/// A machine that was rented.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// What the Node's `spec.providerID` will be: `aws:///us-east-1a/i-0123`, `kwok://name`.
    pub provider_id: String,
    /// Name of the claim it was rented for, if the vendor's record still says so.
    pub claim_name: Option<String>,
    /// UID of the claim it was rented for, if the vendor's record still says so.
    pub claim_uid: Option<String>,
    /// The type that was got.
    pub instance_type: String,
    /// The zone it stands in.
    pub zone: String,
    /// How it is paid for.
    pub capacity_type: CapacityType,
    /// The image it boots from, where there is such a thing.
    pub image_id: Option<String>,
    /// What it is doing now.
    pub state: MachineState,
    /// When the vendor started it, by the vendor's clock.
    pub launched_at: Option<jiff::Timestamp>,
    /// What the type should offer. A launch always tells; `get` and `list` leave it empty where it depends on the class,
    /// which the vendor's record does not hold.
    pub capacity: ResourceList,
    /// What pods may use of it; empty where `capacity` is.
    pub allocatable: ResourceList,
    /// Labels that follow from the offering that was got: type, zone, capacity type, architecture and the vendor's own.
    pub labels: BTreeMap<String, String>,
}

/// Life of a machine, as far as the caller must tell states apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MachineState {
    /// Granted, not running yet.
    Pending,
    /// Running, or believed to be.
    Running,
    /// On its way out; it cannot come back.
    Stopping,
    /// Gone. [`crate::CloudProvider::list`] leaves these out and `get` answers `NotFound`.
    Terminated,
}
