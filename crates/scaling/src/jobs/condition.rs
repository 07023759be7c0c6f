//! The conditions of a ScaledJob. Reasons and texts are KEDA's, unless a text can say more.

use super::JobDecision;
use crate::condition::{Condition, ConditionKind, ConditionStatus, reason};

/// Ready: all is well.
pub const READY: &str = "ScaledJobReady";
/// Ready: the object cannot be acted on as it is.
pub const CHECK_FAILED: &str = "ScaledJobCheckFailed";
/// Paused.
pub const PAUSED: &str = "ScaledJobPaused";
/// Not paused.
pub const UNPAUSED: &str = "ScaledJobUnpaused";

const READY_TEXT: &str = "ScaledJob is defined correctly and is ready for scaling";

/// Ready and Active after a decision.
pub fn decided(decision: &JobDecision) -> [Condition; 2] {
    let texts = decision.failing.join("; ");
    let ready = match (decision.failing.is_empty(), decision.active) {
        (true, _) => condition(ConditionKind::Ready, ConditionStatus::True, READY, READY_TEXT),
        (false, true) => Condition::partial_trigger_error(format!("Some triggers do not answer: {texts}")),
        (false, false) => Condition::trigger_error(format!("Triggers do not answer: {texts}")),
    };
    let active = if decision.active {
        let text = "Scaling is performed because triggers are active";
        condition(ConditionKind::Active, ConditionStatus::True, reason::ACTIVE, text)
    } else if decision.failing.is_empty() {
        Condition::not_active()
    } else {
        // A source that does not answer does not say that nothing waits.
        Condition::activity_unknown("Some triggers do not answer, so nobody knows what waits")
    };
    [ready, active]
}

/// Ready and Active when the object cannot be acted on.
pub fn check_failed(what: impl Into<String>) -> [Condition; 2] {
    [
        condition(ConditionKind::Ready, ConditionStatus::False, CHECK_FAILED, what),
        Condition::activity_unknown("ScaledJob check failed"),
    ]
}

/// Ready and Paused while an annotation holds the object.
pub fn paused() -> [Condition; 2] {
    [
        condition(ConditionKind::Ready, ConditionStatus::True, READY, "ScaledJob is paused, skipping reconcile loop"),
        condition(ConditionKind::Paused, ConditionStatus::True, PAUSED, "ScaledJob is paused"),
    ]
}

/// Paused while none does.
pub fn unpaused() -> Condition {
    condition(ConditionKind::Paused, ConditionStatus::False, UNPAUSED, "No pause annotation is set on this scaled job")
}

fn condition(
    kind: ConditionKind,
    status: ConditionStatus,
    reason: &'static str,
    message: impl Into<String>,
) -> Condition {
    Condition { kind, status, reason, message: message.into() }
}
