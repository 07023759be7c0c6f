//! In which order the pods of a node that is going are evicted, and what is waited for.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use scheduling::PodKey;
use serde::{Deserialize, Serialize};

use crate::candidate::after;

/// The lowest priority of `system-cluster-critical` and `system-node-critical`.
pub const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// How long past the end of its grace a pod may still be there before nobody waits for it any more: its kubelet is gone.
///
/// Karpenter's bound (`pkg/utils/pod`, *stuck terminating*).
pub const STUCK_AFTER: Duration = Duration::from_mins(1);

/// Whose rules a node is drained by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rules {
    /// Provisioners: as long as one pod must not be evicted or belongs to nothing, no pod is (Karpenter v0.16
    /// `pkg/controllers/termination/terminate.go`).
    V1Alpha5,
    /// NodePools: protected pods are waited for while the others leave; pods that belong to nothing leave too.
    V1,
}

/// A pod of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainPod {
    /// Which pod.
    pub key: PodKey,
    /// Its priority.
    pub priority: i32,
    /// What it is besides a plain pod.
    pub kind: DrainKind,
    /// Whether it has ended (phase `Succeeded` or `Failed`).
    pub terminal: bool,
    /// Its `deletionTimestamp`: when its grace ends. `None` while nobody has asked it to go.
    pub deleted_at: Option<Timestamp>,
    /// Annotated `karpenter.sh/do-not-evict` or `karpenter.sh/do-not-disrupt`.
    pub protected: bool,
    /// Tolerates what keeps new pods off the node, so it would be put back at once.
    pub tolerates_removal: bool,
    /// How long it may take to stop, its `terminationGracePeriodSeconds`.
    pub grace: Duration,
}

/// What kind of pod a pod is to a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DrainKind {
    /// Something will make it again elsewhere.
    Owned,
    /// Nothing will make it again.
    Ownerless,
    /// A DaemonSet's: it lives and dies with the node.
    Daemon,
    /// Made by the kubelet from a file: it cannot be evicted.
    Static,
}

/// What to do about the pods of a node now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Evict these now, in this order.
    pub evict: Vec<PodKey>,
    /// Delete these now, whatever forbids their eviction, each with what is left for it to stop: at least a second.
    pub delete: Vec<(PodKey, Duration)>,
    /// Everything that must be gone before the machine may be, and why it is still there.
    pub waiting: Vec<(PodKey, Wait)>,
    /// When a pod that is terminating will no longer be waited for.
    pub next_look: Option<Timestamp>,
}

impl Plan {
    /// Whether the machine may go.
    pub fn is_drained(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The pods that keep the drain from going on until a person or their work's end releases them.
    pub fn blockers(&self) -> impl Iterator<Item = &(PodKey, Wait)> {
        self.waiting.iter().filter(|(_, wait)| matches!(wait, Wait::Protected | Wait::Ownerless))
    }
}

/// Why a pod is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Wait {
    /// It is to be evicted now.
    Eviction,
    /// It is to be deleted now: the node's end is near.
    Deletion,
    /// It was asked to go and is still stopping.
    Termination,
    /// Less important pods go first.
    Turn,
    /// Under [`Rules::V1Alpha5`]: another pod keeps the whole drain from starting.
    Refused,
    /// Its annotation forbids eviction.
    Protected,
    /// Nothing would make it again.
    Ownerless,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Eviction => "is being evicted",
            Self::Deletion => "is deleted, because the termination grace period of its node ends",
            Self::Termination => "is terminating",
            Self::Turn => "waits for pods of lower priority to go",
            Self::Refused => "waits until no pod forbids the drain",
            Self::Protected => "is annotated do-not-evict or do-not-disrupt",
            Self::Ownerless => "has no controller that would make it again",
        })
    }
}

/// Plans the next step of a drain; ask again after every change.
///
/// `deadline` is when the machine ends whoever is still there (a NodePool's `terminationGracePeriod`). A pod is deleted as long
/// before as it may take to stop, for nothing asks it to stop when the machine goes (Karpenter v1's behaviour).
///
/// # Guarantees
/// Daemons, static pods, pods that have ended and pods that tolerate the node's going are neither evicted nor waited for.
/// No critical pod is evicted while another pod of the drain is there. Pods in one step come lowest priority first, then by
/// name.
///
/// # Caveats
/// Karpenter v1 evicts daemons too, after the others; here they stop with the machine under both rules.
pub fn plan(pods: &[DrainPod], rules: Rules, deadline: Option<Timestamp>, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut leaving: Vec<&DrainPod> = pods.iter().filter(|pod| must_leave(pod, now)).collect();
    leaving.sort_by(|a, b| (a.priority, &a.key).cmp(&(b.priority, &b.key)));
    let refused = rules == Rules::V1Alpha5 && leaving.iter().any(|pod| block(pod, rules).is_some());
    // Terminating and blocked pods hold the later group back as well: they are still there.
    let critical_turn = leaving.iter().all(|pod| is_critical(pod));
    for pod in leaving {
        let wait = if let Some(deleted_at) = pod.deleted_at {
            let look = after(deleted_at, STUCK_AFTER);
            plan.next_look = Some(plan.next_look.map_or(look, |earlier| earlier.min(look)));
            Wait::Termination
        } else if let Some(left) = deadline.and_then(|deadline| time_left(pod, deadline, now)) {
            plan.delete.push((pod.key.clone(), left));
            Wait::Deletion
        } else if let Some(block) = block(pod, rules) {
            block
        } else if refused {
            Wait::Refused
        } else if is_critical(pod) && !critical_turn {
            Wait::Turn
        } else {
            plan.evict.push(pod.key.clone());
            Wait::Eviction
        };
        plan.waiting.push((pod.key.clone(), wait));
    }
    plan
}

/// A drain is looked at every few seconds. Who may take less than that to stop is told so long before the end, or might never be.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// What a pod has left to stop, if it has to begin now.
fn time_left(pod: &DrainPod, deadline: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(deadline.duration_since(now)).unwrap_or(Duration::ZERO);
    (left <= pod.grace.max(LAST_LOOK)).then(|| left.min(pod.grace).max(Duration::from_secs(1)))
}

fn must_leave(pod: &DrainPod, now: Timestamp) -> bool {
    let stuck = pod.deleted_at.is_some_and(|end| after(end, STUCK_AFTER) <= now);
    matches!(pod.kind, DrainKind::Owned | DrainKind::Ownerless) && !pod.terminal && !pod.tolerates_removal && !stuck
}

fn block(pod: &DrainPod, rules: Rules) -> Option<Wait> {
    if pod.deleted_at.is_some() {
        None
    } else if pod.protected {
        Some(Wait::Protected)
    } else {
        (rules == Rules::V1Alpha5 && pod.kind == DrainKind::Ownerless).then_some(Wait::Ownerless)
    }
}

fn is_critical(pod: &DrainPod) -> bool {
    pod.priority >= CRITICAL_PRIORITY
}

#[cfg(test)]
mod tests;
