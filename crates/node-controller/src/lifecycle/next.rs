//! The next step in a machine's life, from what the API server says about it. Pure.
//!
//! ```text
//!  claim ─► Launch ─► (joins) ─► Register ─► Open ─► Initialize ─► …    (its Node vanishes: NoteVanished ─► NoteFound, or the end)
//!  deleted: Cordon ─► DeleteNode ─► Drain ─► AwaitDetach ─► Terminate ─► finalizers off
//! ```
//!
//! Every step may be repeated: the process can die after any of them, and the next one is found again from the objects
//! alone.

use std::time::Duration;

use api::{
    condition,
    convert::{self, pool_of},
    karpenter_v1::{NodeClaim, claim_conditions},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::ResourceExt as _;

use super::{opening, patches};
use crate::{names, settings::Settings, world::Member};

/// What to do for one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something changes or that instant comes.
    Rest {
        /// When to look again even if nothing changed.
        until: Option<Timestamp>,
    },
    /// Put our finalizer on the claim.
    AddFinalizer,
    /// Ask the cloud for the machine and record it.
    Launch,
    /// Give the Node its claim's labels, taints, owner and finalizer, and record that it joined.
    Register,
    /// Nominate the pods that the Node is meant for, and let pods in.
    Open,
    /// Record why the Node is not ready for pods yet.
    Await {
        /// CamelCase word for the condition.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// Record that the Node is ready for pods.
    Initialize,
    /// Record that the Node object is gone though nobody asked for it; the machine may still be there.
    NoteVanished,
    /// Record that it is back.
    NoteFound,
    /// Delete the claim; the rest follows from its finalizer.
    DeleteClaim(Ending),
    /// Keep new pods off the Node, and keep the Node until we are done with it.
    Cordon,
    /// Delete the Node object, so that people see it leaving.
    DeleteNode,
    /// Ask the pods to leave.
    Drain,
    /// Wait for volumes to be detached.
    AwaitDetach {
        /// When to go on regardless.
        until: Timestamp,
    },
    /// End the machine, and take off the finalizers once it is gone.
    Terminate,
    /// Say that several Nodes name this machine. Nothing is launched, drained or ended as long as it is so.
    Dispute,
    /// Let go of a deleted Node whose machine another Node stands for. The machine stays.
    ReleaseNode,
}

/// Why a claim is deleted by its own life, not by a decision about cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Somebody deleted the Node.
    NodeDeleted,
    /// The cloud granted no machine in time.
    LaunchTimeout,
    /// The machine did not join in time.
    RegistrationTimeout,
    /// The Node object went away without us and did not come back in time.
    NodeVanished,
}

impl Ending {
    /// Label value of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NodeDeleted => "node_deleted",
            Self::LaunchTimeout => "launch_timeout",
            Self::RegistrationTimeout => "registration_timeout",
            Self::NodeVanished => "node_vanished",
        }
    }
}

/// How long volumes may take to be detached after the last pod has gone, before the machine is ended regardless.
///
/// The attach-detach controller forces a detach after six minutes; waiting longer cannot help.
pub const DETACH_TIMEOUT_SECONDS: i64 = 6 * 60;

/// The next step for `member`; `drained` says whether nobody is left to wait for on its node.
pub fn next(member: &Member, drained: bool, settings: &Settings, now: Timestamp) -> Step {
    if !member.rivals.is_empty() && member.is_managed() {
        return disputed(member);
    }
    match (&member.claim, &member.node) {
        (Some(claim), _) if claim.metadata.deletion_timestamp.is_some() => {
            if claim.finalizers().iter().any(|f| f == names::FINALIZER) { leave(member, drained, now) } else { rest() }
        }
        (Some(_), Some(node)) if node.metadata.deletion_timestamp.is_some() => Step::DeleteClaim(Ending::NodeDeleted),
        (Some(_), _) => live(member, settings, now),
        (None, Some(node)) if node.metadata.deletion_timestamp.is_some() && member.is_managed() => {
            leave(member, drained, now)
        }
        // A Node of Karpenter v0.16 that has become ready since; written down, it stays so when its kubelet falls silent.
        (None, Some(node)) if inherited(member, node) => Step::Initialize,
        (None, _) => rest(),
    }
}

/// Whether it takes pods, and no label says so yet.
fn inherited(member: &Member, node: &Node) -> bool {
    let ours = member.is_managed() && pool_of(node.labels()).is_some();
    ours && member.is_initialized() && patches::initialize(node).is_some()
}

const fn rest() -> Step {
    Step::Rest { until: None }
}

/// Several Nodes, one machine: to end it for one of them could end it under the pods of the other. Only what a person has
/// decided is carried out: a deleted Node goes if its kubelet is silent and that of another one is not.
fn disputed(member: &Member) -> Step {
    let Some(node) = &member.node else { return Step::Dispute };
    let ours = node.finalizers().iter().any(|f| f == names::FINALIZER);
    let living = |node: &Node| is_ready(node) && node.metadata.deletion_timestamp.is_none();
    let settled = node.metadata.deletion_timestamp.is_some() && ours && !is_ready(node);
    if settled && member.rivals.iter().any(|rival| living(rival)) { Step::ReleaseNode } else { Step::Dispute }
}

fn live(member: &Member, settings: &Settings, now: Timestamp) -> Step {
    let Some(claim) = &member.claim else { return rest() };
    if !claim.finalizers().iter().any(|f| f == names::FINALIZER) {
        return Step::AddFinalizer;
    }
    let conditions = claim.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let since = |kind: &str| conditions.iter().find(|c| c.type_ == kind).map(|c| c.last_transition_time.0);
    if !condition::is_true(conditions, claim_conditions::LAUNCHED) {
        let created = claim.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        return if created + settings.launch_timeout <= now {
            Step::DeleteClaim(Ending::LaunchTimeout)
        } else {
            Step::Launch
        };
    }
    let vanished_since = member.claim.as_deref().and_then(vanished_since);
    let Some(node) = &member.node else {
        let (since, ending) = if condition::is_true(conditions, claim_conditions::REGISTERED) {
            // The Node object went away without us. If its machine did too, the garbage collector finds out sooner.
            let Some(since) = vanished_since else { return Step::NoteVanished };
            (since, Ending::NodeVanished)
        } else {
            (since(claim_conditions::LAUNCHED).unwrap_or(now), Ending::RegistrationTimeout)
        };
        let until = since + settings.registration_timeout;
        return if until <= now { Step::DeleteClaim(ending) } else { Step::Rest { until: Some(until) } };
    };
    if vanished_since.is_some() {
        return Step::NoteFound;
    }
    let labelled = |key: &str| node.labels().get(key).is_some_and(|value| value == "true");
    if !condition::is_true(conditions, claim_conditions::REGISTERED) || !labelled(names::REGISTERED) {
        return Step::Register;
    }
    if opening::is_due(node) {
        return Step::Open;
    }
    if condition::is_true(conditions, claim_conditions::INITIALIZED) && labelled(names::INITIALIZED) {
        return rest();
    }
    match unready(member, node) {
        None => Step::Initialize,
        Some((reason, message)) => {
            let noted = conditions
                .iter()
                .any(|c| c.type_ == claim_conditions::INITIALIZED && c.reason == reason && c.message == message);
            if noted { rest() } else { Step::Await { reason, message } }
        }
    }
}

/// Reason of the condition `ConsistentStateFound` while the Node of a registered claim is gone.
pub const NODE_NOT_FOUND: &str = "NodeNotFound";

/// Since when it is on record that the Node of a registered claim is gone.
pub fn vanished_since(claim: &NodeClaim) -> Option<Timestamp> {
    let conditions = &claim.status.as_ref()?.conditions;
    let noted = conditions.iter().find(|one| one.type_ == claim_conditions::CONSISTENT_STATE_FOUND)?;
    (noted.status == "False" && noted.reason == NODE_NOT_FOUND).then_some(noted.last_transition_time.0)
}

fn leave(member: &Member, drained: bool, now: Timestamp) -> Step {
    let Some(node) = &member.node else { return Step::Terminate };
    if node.metadata.deletion_timestamp.is_none() {
        let kept = node.finalizers().iter().any(|f| f == names::FINALIZER);
        return if kept && is_cordoned(node) { Step::DeleteNode } else { Step::Cordon };
    }
    if !is_cordoned(node) {
        return Step::Cordon;
    }
    if is_overdue(member, now) {
        return Step::Terminate;
    }
    if !drained {
        return Step::Drain;
    }
    if !member.attachments.is_empty() {
        let started = node.metadata.deletion_timestamp.as_ref().map_or(now, |time| time.0);
        let until = started + jiff::SignedDuration::from_secs(DETACH_TIMEOUT_SECONDS);
        if now < until {
            return Step::AwaitDetach { until };
        }
    }
    Step::Terminate
}

/// When a NodePool's `terminationGracePeriod` ends, counted from the deletion of the claim: nothing is waited for then.
pub fn deadline(member: &Member) -> Option<Timestamp> {
    let deleted = member.claim.as_ref()?.metadata.deletion_timestamp.as_ref()?.0;
    deleted.checked_add(longest_drain(member)?).ok()
}

/// How long a drain may take at most, whoever is against it: the claim's `terminationGracePeriod`.
pub fn longest_drain(member: &Member) -> Option<Duration> {
    let written = member.claim.as_ref()?.spec.termination_grace_period.as_deref()?;
    convert::parse_duration(written).ok()?.span()
}

/// Whether the [`deadline`] has passed.
pub fn is_overdue(member: &Member, now: Timestamp) -> bool {
    deadline(member).is_some_and(|deadline| deadline <= now)
}

/// Whether new pods are kept off: marked unschedulable and tainted as leaving.
pub fn is_cordoned(node: &Node) -> bool {
    let Some(spec) = &node.spec else { return false };
    spec.unschedulable == Some(true)
        && spec.taints.as_ref().is_some_and(|taints| taints.iter().any(|taint| taint.key == names::DISRUPTED_TAINT))
}

/// Whether the kubelet says Ready.
pub fn is_ready(node: &Node) -> bool {
    node.status.as_ref().and_then(|status| status.conditions.as_ref()).is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// What keeps a registered node from being ready for pods, if anything.
pub fn unready(member: &Member, node: &Node) -> Option<(&'static str, String)> {
    if !is_ready(node) {
        return Some(("NodeNotReady", "the kubelet does not report Ready".to_owned()));
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let claim = member.claim.as_ref()?;
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    if let Some(taint) =
        claim.spec.startup_taints.iter().find(|startup| taints.iter().any(|taint| same(taint, startup)))
    {
        return Some(("StartupTaintsExist", format!("startup taint {}:{} is still there", taint.key, taint.effect)));
    }
    // What closes it until it is opened is no reason not to open it.
    if let Some(taint) = taints.iter().find(|taint| is_ephemeral(taint) && !patches::is_closing(taint)) {
        return Some(("KnownEphemeralTaintsExist", format!("taint {}:{} is still there", taint.key, taint.effect)));
    }
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let asked = claim.spec.resources.as_ref().map(|resources| &resources.requests);
    let missing = asked.into_iter().flatten().find(|(name, quantity)| {
        let wanted = !is_zero(&quantity.0);
        let there = allocatable.and_then(|list| list.get(*name)).is_some_and(|there| !is_zero(&there.0));
        wanted && !there
    });
    missing.map(|(name, _)| ("ResourceNotRegistered", format!("the node does not report resource {name} yet")))
}

/// Taints Kubernetes puts on a node while it starts.
pub fn is_ephemeral(taint: &Taint) -> bool {
    matches!(
        taint.key.as_str(),
        "node.kubernetes.io/not-ready"
            | "node.kubernetes.io/unreachable"
            | "node.cloudprovider.kubernetes.io/uninitialized"
            | names::UNREGISTERED_TAINT
    )
}

fn is_zero(quantity: &str) -> bool {
    quantity.parse::<units::Quantity>().is_ok_and(|quantity| quantity.to_milli_ceil().is_ok_and(|milli| milli == 0))
}

#[cfg(test)]
#[path = "next_tests.rs"]
mod tests;
