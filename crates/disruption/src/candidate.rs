use std::{fmt, time::Duration};

use jiff::Timestamp;
use scheduling::{NodeKey, PoolKey};
use serde::{Deserialize, Serialize};

/// A node that might be taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Which node.
    pub node: NodeKey,
    /// The pool it belongs to.
    pub pool: PoolKey,
    /// When the node object was created.
    pub created_at: Timestamp,
    /// What its annotation `karpenter.sh/emptiness-timestamp` says; `None` without one, or with one that is no time.
    pub empty_since: Option<Timestamp>,
    /// Whether it is ready to take pods (label `karpenter.sh/initialized`).
    pub initialized: bool,
    /// Whether it is being deleted already.
    pub deleting: bool,
    /// Whether pods were promised to it a moment ago and may still arrive.
    pub nominated: bool,
    /// Whether a person asked to leave the node in peace (annotation `karpenter.sh/do-not-disrupt` on the node).
    pub do_not_disrupt: bool,
    /// Its pods without daemons, static pods and pods that have ended.
    pub non_daemon_pods: usize,
    /// How long it may stand empty; `None` for ever.
    pub ttl_after_empty: Option<Duration>,
    /// How old it may become; `None` as old as it likes.
    pub ttl_until_expired: Option<Duration>,
}

/// What to do about a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// Nothing.
    Keep {
        /// When the answer changes if nothing else does; `None`: only when something happens.
        next_look: Option<Timestamp>,
        /// Why it stays.
        why: KeepReason,
    },
    /// Write down that it is empty.
    MarkEmpty {
        /// Since when: the value of the annotation.
        since: Timestamp,
        /// When it will have been empty for long enough.
        next_look: Option<Timestamp>,
    },
    /// Take the annotation away: it is not empty, or emptiness no longer matters.
    ClearEmpty,
    /// Delete it.
    Remove {
        /// Why.
        reason: RemoveReason,
    },
}

/// Why a node stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeepReason {
    /// No time to live is set.
    NoTtl,
    /// It is going already.
    Deleting,
    /// It cannot take pods yet, so having none says nothing.
    NotInitialized,
    /// It has pods.
    HasPods,
    /// Pods were promised to it.
    Nominated,
    /// A person asked for it.
    DoNotDisrupt,
    /// Its time is not over.
    NotYet,
}

/// Why a node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RemoveReason {
    /// It stood empty for too long.
    Empty {
        /// Since when.
        since: Timestamp,
        /// How long it might have.
        ttl: Duration,
    },
    /// It became too old.
    Expired {
        /// When it was created.
        created: Timestamp,
        /// How old it might become.
        ttl: Duration,
    },
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTtl => "no time to live is set",
            Self::Deleting => "it is being deleted already",
            Self::NotInitialized => "it is not initialized yet",
            Self::HasPods => "it has pods",
            Self::Nominated => "pods are nominated to it",
            Self::DoNotDisrupt => "it is annotated karpenter.sh/do-not-disrupt",
            Self::NotYet => "its time is not over",
        })
    }
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { since, ttl } => write!(f, "empty since {since}, longer than {} s", ttl.as_secs()),
            Self::Expired { created, ttl } => write!(f, "created {created}, older than {} s", ttl.as_secs()),
        }
    }
}

/// The end of a time span, held at the end of time.
pub(crate) fn after(start: Timestamp, span: Duration) -> Timestamp {
    start.checked_add(span).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use scheduling::PoolKind;

    use super::*;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Initialized, without pods, and without a time to live.
    pub(crate) fn node() -> Candidate {
        Candidate {
            node: NodeKey("a".to_owned()),
            pool: PoolKey { kind: PoolKind::Provisioner, name: "default".to_owned() },
            created_at: at(0),
            empty_since: None,
            initialized: true,
            deleting: false,
            nominated: false,
            do_not_disrupt: false,
            non_daemon_pods: 0,
            ttl_after_empty: None,
            ttl_until_expired: None,
        }
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        assert_eq!(after(at(0), Duration::MAX), Timestamp::MAX);
    }
}
