//! The conditions of a ScaledObject, as values. Reasons and their meaning are KEDA's.

/// Which condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionKind {
    /// The object is understood and its triggers answer.
    Ready,
    /// The target is wanted.
    Active,
    /// A source failed for so long that its value is replaced.
    Fallback,
    /// An annotation holds the object.
    Paused,
}

impl ConditionKind {
    /// The `type` of the condition.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Active => "Active",
            Self::Fallback => "Fallback",
            Self::Paused => "Paused",
        }
    }
}

/// A condition's `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows.
    Unknown,
}

impl ConditionStatus {
    /// The text in the object.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Which one.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word, for programs.
    pub reason: &'static str,
    /// A sentence, for people.
    pub message: String,
}

/// Reasons of conditions, as KEDA writes them.
pub mod reason {
    /// Ready: all is well.
    pub const READY: &str = "ScaledObjectReady";
    /// Ready: the object cannot be acted on as it is.
    pub const CHECK_FAILED: &str = "ScaledObjectCheckFailed";
    /// Ready: no trigger can be relied on.
    pub const TRIGGER_ERROR: &str = "TriggerError";
    /// Ready: one trigger is active, another one fails.
    pub const PARTIAL_TRIGGER_ERROR: &str = "PartialTriggerError";
    /// Ready: the target's replicas could not be read.
    pub const NO_CURRENT_REPLICAS: &str = "ErrorGettingCurrentReplicas";
    /// Active: a trigger is.
    pub const ACTIVE: &str = "ScalerActive";
    /// Active: no trigger is.
    pub const NOT_ACTIVE: &str = "ScalerNotActive";
    /// Active: no trigger is, but not for long enough.
    pub const COOLDOWN: &str = "ScalerCooldown";
    /// Active: nobody knows.
    pub const UNKNOWN: &str = "UnknownState";
    /// Fallback: at least one metric is replaced.
    pub const FALLBACK: &str = "FallbackExists";
    /// Fallback: none is.
    pub const NO_FALLBACK: &str = "NoFallbackFound";
    /// Paused.
    pub const PAUSED: &str = "ScaledObjectPaused";
    /// Not paused.
    pub const UNPAUSED: &str = "ScaledObjectUnpaused";
}

impl Condition {
    fn new(kind: ConditionKind, status: ConditionStatus, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status, reason, message: message.into() }
    }

    /// The object is understood, its triggers answer.
    pub fn ready() -> Self {
        Self::new(
            ConditionKind::Ready,
            ConditionStatus::True,
            reason::READY,
            "ScaledObject is defined correctly and is ready for scaling",
        )
    }

    /// The object is held, so that nothing about it is checked.
    pub fn ready_while_paused() -> Self {
        Self::new(ConditionKind::Ready, ConditionStatus::True, reason::READY, "ScaledObject is paused")
    }

    /// The object cannot be acted on.
    pub fn check_failed(what: impl Into<String>) -> Self {
        Self::new(ConditionKind::Ready, ConditionStatus::False, reason::CHECK_FAILED, what)
    }

    /// No trigger can be relied on.
    pub fn trigger_error(what: impl Into<String>) -> Self {
        Self::new(ConditionKind::Ready, ConditionStatus::False, reason::TRIGGER_ERROR, what)
    }

    /// One trigger fails, another one is active.
    pub fn partial_trigger_error(what: impl Into<String>) -> Self {
        Self::new(ConditionKind::Ready, ConditionStatus::Unknown, reason::PARTIAL_TRIGGER_ERROR, what)
    }

    /// The target could not be read.
    pub fn no_current_replicas(what: impl Into<String>) -> Self {
        Self::new(ConditionKind::Ready, ConditionStatus::False, reason::NO_CURRENT_REPLICAS, what)
    }

    /// The target is wanted.
    pub fn active(forced: bool) -> Self {
        let message = if forced {
            "Scaling is performed because activation is being forced by annotation"
        } else {
            "Scaling is performed because triggers are active"
        };
        Self::new(ConditionKind::Active, ConditionStatus::True, reason::ACTIVE, message)
    }

    /// The target is not wanted.
    pub fn not_active() -> Self {
        Self::new(
            ConditionKind::Active,
            ConditionStatus::False,
            reason::NOT_ACTIVE,
            "Scaling is not performed because triggers are not active",
        )
    }

    /// The target is not wanted, but was a short time ago.
    pub fn cooling_down() -> Self {
        Self::new(
            ConditionKind::Active,
            ConditionStatus::False,
            reason::COOLDOWN,
            "Scaler cooling down because triggers are not active",
        )
    }

    /// Nobody knows whether the target is wanted.
    pub fn activity_unknown(what: impl Into<String>) -> Self {
        Self::new(ConditionKind::Active, ConditionStatus::Unknown, reason::UNKNOWN, what)
    }

    /// Some metrics are replaced by the fallback.
    pub fn fallback() -> Self {
        Self::new(
            ConditionKind::Fallback,
            ConditionStatus::True,
            reason::FALLBACK,
            "At least one trigger is falling back on this scaled object",
        )
    }

    /// No metric is replaced.
    pub fn no_fallback() -> Self {
        Self::new(
            ConditionKind::Fallback,
            ConditionStatus::False,
            reason::NO_FALLBACK,
            "No fallbacks are active on this scaled object",
        )
    }

    /// An annotation holds the object, or none does.
    pub fn paused(pausing: &crate::Pausing) -> Self {
        if pausing.any() {
            let part = if pausing.full.is_some() { "" } else { "paused in part: " };
            let message = format!("ScaledObject is {part}{pausing}");
            Self::new(ConditionKind::Paused, ConditionStatus::True, reason::PAUSED, message)
        } else {
            Self::new(
                ConditionKind::Paused,
                ConditionStatus::False,
                reason::UNPAUSED,
                "No pause annotation is set on this scaled object",
            )
        }
    }
}
