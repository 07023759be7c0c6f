//! Keys we write on objects. Those of `karpenter.sh` are the ones people's tools look for; ours start with `tandem.dev/`.

pub use requirements::labels::{DISRUPTED_TAINT, UNSCHEDULABLE_TAINT};

/// Finalizer on NodeClaims and Nodes: nothing goes before its pods and its machine are gone.
pub const FINALIZER: &str = "karpenter.sh/termination";
/// Label of a v1alpha5 Provisioner's nodes and claims.
pub const PROVISIONER_NAME: &str = "karpenter.sh/provisioner-name";
/// Label of a NodePool's nodes and claims.
pub const NODEPOOL: &str = "karpenter.sh/nodepool";
/// Label set to `true` once the Node's labels and taints are as its claim says.
pub const REGISTERED: &str = "karpenter.sh/registered";
/// Label set to `true` once the Node is ready for pods.
pub const INITIALIZED: &str = "karpenter.sh/initialized";
/// Node label that keeps us from writing taints on it.
pub const DO_NOT_SYNC_TAINTS: &str = "karpenter.sh/do-not-sync-taints";
/// Node annotation: since when it has been empty (v1alpha5).
pub const EMPTINESS_TIMESTAMP: &str = "karpenter.sh/emptiness-timestamp";
/// Taint that keeps pods off a new node: with NoExecute a machine may boot with it until it is registered, with NoSchedule
/// we hold a registered node closed until its pods are nominated.
pub const UNREGISTERED_TAINT: &str = "karpenter.sh/unregistered";

/// Claim annotation: the whole plan as JSON, see [`crate::plan::Plan`].
pub const PLAN: &str = "tandem.dev/plan";
/// Claim annotation: price expected, for people.
pub const PLAN_PRICE: &str = "tandem.dev/price";
/// Claim annotation: why the machine was asked for, for people.
pub const PLAN_REASON: &str = "tandem.dev/reason";
/// Claim annotation: the pods it was asked for, `namespace/name` separated by commas, for people.
pub const PLAN_PODS: &str = "tandem.dev/pods";
/// Node annotation: why we are taking it out of service before its claim is deleted (`Empty`, `Expired`).
pub const REMOVAL: &str = "tandem.dev/removal";
/// Node annotation: since when, RFC 3339.
pub const REMOVAL_SINCE: &str = "tandem.dev/removal-since";
/// Annotation of a Node that somebody had cordoned before its removal was begun: `true`. It stays so if it is taken back.
pub const CORDONED_BEFORE: &str = "tandem.dev/cordoned-before";
/// Node annotation: labels of this node were set by the claim of this name.
pub const CLAIM: &str = "tandem.dev/nodeclaim";

/// First part of every key of ours.
pub const OURS: &str = "tandem.dev/";
/// What `kubectl apply` remembers on an object.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
