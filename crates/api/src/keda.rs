//! `keda.sh/v1alpha1`: ScaledObject, ScaledJob and where their credentials come from.

mod scaled_job;
mod scaled_object;
mod trigger;
mod trigger_authentication;

pub use scaled_job::*;
pub use scaled_object::*;
pub use trigger::*;
pub use trigger_authentication::*;

/// Seconds between two looks at the triggers, when a manifest gives none (KEDA's default).
pub const POLLING_INTERVAL_SECONDS_DEFAULT: i32 = 30;
/// Seconds after the last active trigger before going to zero, when a manifest gives none (KEDA's default).
pub const COOLDOWN_PERIOD_SECONDS_DEFAULT: i32 = 300;
/// Replicas at most, when a manifest gives none (KEDA's default).
pub const MAX_REPLICA_COUNT_DEFAULT: i32 = 100;
/// The finalizer on every `keda.sh` object.
pub const FINALIZER: &str = "finalizer.keda.sh";
/// Label on a ScaledObject, and the selector of its external metrics.
pub const SCALED_OBJECT_LABEL: &str = "scaledobject.keda.sh/name";
/// Label of the Jobs of a ScaledJob and of their pods; its value is the ScaledJob's name.
pub const SCALED_JOB_LABEL: &str = "scaledjob.keda.sh/name";

/// Annotations that change how an object is scaled.
pub mod annotations {
    /// Stops all scaling; anything but `"false"` counts as yes.
    pub const PAUSED: &str = "autoscaling.keda.sh/paused";
    /// Stops all scaling at this many replicas; its presence alone pauses.
    pub const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";
    /// Forbids scaling in.
    pub const PAUSED_SCALE_IN: &str = "autoscaling.keda.sh/paused-scale-in";
    /// Forbids scaling out.
    pub const PAUSED_SCALE_OUT: &str = "autoscaling.keda.sh/paused-scale-out";
    /// Treats the object as active whatever its triggers say.
    pub const FORCE_ACTIVATION: &str = "autoscaling.keda.sh/force-activation";
    /// Takes over an existing HPA of the configured name.
    pub const TRANSFER_HPA_OWNERSHIP: &str = "scaledobject.keda.sh/transfer-hpa-ownership";
    /// Comma list of labels that are not copied to the HPA.
    pub const HPA_EXCLUDED_LABELS: &str = "scaledobject.keda.sh/hpa-excluded-labels";
    /// Comma list of labels that are not copied to Jobs.
    pub const JOB_EXCLUDED_LABELS: &str = "scaledjob.keda.sh/job-excluded-labels";
    /// On a Job: the generation of the ScaledJob that made it.
    pub const JOB_GENERATION: &str = "scaledjob.keda.sh/generation";
    /// On somebody else's HPA: `"false"` means it does not count as managing the workload.
    pub const HPA_OWNERSHIP: &str = "validations.keda.sh/hpa-ownership";
}
