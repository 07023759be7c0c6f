//! Conditions, in the three shapes the original APIs use.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition of a `keda.sh` object: no transition time, no observed generation, as in KEDA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KedaCondition {
    /// `Ready`, `Active`, `Fallback`, `Paused` or `HPAActive`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One CamelCase word.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl KedaCondition {
    /// A condition from its four parts.
    pub fn new(
        r#type: impl Into<String>,
        status: Status,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            r#type: r#type.into(),
            status: status.as_str().to_owned(),
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// A condition of a `v1alpha5` object, where only type and status are always there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LivingCondition {
    /// `Active` for a Provisioner.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Empty means an error, `Warning` and `Info` are milder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// One CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The three values of every condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Status {
    /// The text in the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Puts a Kubernetes condition in a list, keeping the transition time while the status stays.
///
/// Returns whether anything changed.
pub fn set(
    conditions: &mut Vec<Condition>,
    r#type: &str,
    status: Status,
    reason: &str,
    message: &str,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let mut wanted = Condition {
        type_: r#type.to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation,
        last_transition_time: Time(now),
    };
    let Some(found) = conditions.iter_mut().find(|c| c.type_ == r#type) else {
        conditions.push(wanted);
        return true;
    };
    if found.status == wanted.status {
        wanted.last_transition_time = found.last_transition_time.clone();
    }
    let changed = *found != wanted;
    *found = wanted;
    changed
}

/// Puts a `keda.sh` condition in a list. Returns whether anything changed.
pub fn set_keda(conditions: &mut Vec<KedaCondition>, wanted: KedaCondition) -> bool {
    match conditions.iter_mut().find(|c| c.r#type == wanted.r#type) {
        Some(found) if *found == wanted => false,
        Some(found) => {
            *found = wanted;
            true
        }
        None => {
            conditions.push(wanted);
            true
        }
    }
}

/// Whether the condition of this type is there and `True`.
pub fn is_true(conditions: &[Condition], r#type: &str) -> bool {
    conditions.iter().any(|c| c.type_ == r#type && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap());
        let mut list = Vec::new();
        assert!(set(&mut list, "Ready", Status::False, "Why", "text", None, early));
        assert!(!set(&mut list, "Ready", Status::False, "Why", "text", None, late), "nothing changed");
        assert!(set(&mut list, "Ready", Status::False, "Other", "text", None, late));
        assert_eq!(list[0].last_transition_time, Time(early));
        assert!(set(&mut list, "Ready", Status::True, "Other", "text", None, late));
        assert_eq!(list[0].last_transition_time, Time(late));
        assert!(is_true(&list, "Ready"));
    }

    #[test]
    fn a_keda_condition_replaces_its_own_type_only() {
        let mut list = vec![KedaCondition::new("Active", Status::Unknown, "", "")];
        assert!(set_keda(&mut list, KedaCondition::new("Ready", Status::True, "R", "m")));
        assert!(!set_keda(&mut list, KedaCondition::new("Ready", Status::True, "R", "m")));
        assert_eq!(list.len(), 2);
    }
}
