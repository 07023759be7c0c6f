//! Which nodes are taken out of service for being empty or too old, and how far each removal has come. Pure part.
//!
//! A removal is written on the node (annotations and a taint) before anything else happens, so that a process that dies
//! in between leaves nothing half-known: the next one goes on, or takes it back.

use std::{collections::BTreeSet, time::Duration};

use api::convert::{self, SpanOrNever};
use disruption::{Candidate, RemoveReason};
use jiff::Timestamp;
use kube::ResourceExt as _;
use scheduling::{NodeKey, PoolKey, PoolKind};

use crate::{
    context::pod_name,
    draining,
    lifecycle::next::longest_drain,
    names,
    nominations::Nominations,
    pods,
    pools::Pools,
    world::{Member, World},
};

/// A removal that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Why, as written on the node.
    pub reason: Why,
    /// Since when.
    pub since: Timestamp,
}

/// Why a node is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has no pods of its own.
    Empty,
    /// It became too old.
    Expired,
}

impl Why {
    /// As written on the node and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Expired => "Expired",
        }
    }
}

impl From<RemoveReason> for Why {
    fn from(reason: RemoveReason) -> Self {
        match reason {
            RemoveReason::Empty { .. } => Self::Empty,
            RemoveReason::Expired { .. } => Self::Expired,
        }
    }
}

/// What to do about a removal that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Delete the claim: nobody is left, or everybody has a place to go to.
    Finish,
    /// Put the node back into service: it is not empty after all, or its pods found no other place in time.
    TakeBack,
    /// The replacements are not ready, or a disruption budget lets no pod go now.
    Wait {
        /// When to give up and put the node back into service.
        until: Timestamp,
        /// Pods without a ready place.
        without_place: usize,
    },
}

/// The removal written on a member's node.
pub fn begun(member: &Member) -> Option<Begun> {
    // A machine that several Nodes name is left as it is, so its removal rests too.
    let node = member.node.as_ref().filter(|_| member.rivals.is_empty())?;
    let reason = match node.annotations().get(names::REMOVAL)?.as_str() {
        "Empty" => Why::Empty,
        "Expired" => Why::Expired,
        _ => return None,
    };
    // A time that cannot be read is one long past: the removal must not wait for ever, and giving it up harms nobody.
    let since = node.annotations().get(names::REMOVAL_SINCE).and_then(|text| text.parse().ok());
    Some(Begun { reason, since: since.unwrap_or(Timestamp::UNIX_EPOCH) })
}

/// The next step of a removal.
pub fn step(
    begun: &Begun,
    member: &Member,
    world: &World,
    nominations: &Nominations,
    replacement_timeout: Duration,
    now: Timestamp,
) -> Step {
    match begun.reason {
        Why::Empty if member.pods.iter().any(|pod| pods::occupies(pod)) || is_promised(member, nominations) => {
            Step::TakeBack
        }
        Why::Empty => Step::Finish,
        // What came to hold them since could hold the node for ever, beside its replacement.
        Why::Expired if !is_forceful(member) && member.pods.iter().any(|pod| world.held_by(pod).is_some()) => {
            Step::TakeBack
        }
        Why::Expired => {
            let moving = member.pods.iter().filter(|pod| world.will_move(pod));
            let without_place =
                moving.filter(|pod| !has_ready_place(pods::uid(pod), member, world, nominations)).count();
            let until = begun.since + replacement_timeout;
            // A drain would be refused: the claim would be gone, and the machine stay for as long as that.
            let kept = !is_forceful(member) && member.pods.iter().any(|pod| world.kept_by(pod).is_some());
            match without_place {
                0 if !kept => Step::Finish,
                // Expiry is housekeeping: pods that would have nowhere to go keep their node, and it is tried again.
                _ if until <= now => Step::TakeBack,
                _ => Step::Wait { until, without_place },
            }
        }
    }
}

/// The candidates for removal: initialized or not, every member of a pool with a node of its own.
pub fn candidates(
    world: &World,
    pools: &Pools,
    nominations: &Nominations,
    leaving: &BTreeSet<String>,
    now: Timestamp,
) -> Vec<Candidate> {
    world.members.iter().filter_map(|member| candidate(member, pools, nominations, leaving, now)).collect()
}

fn candidate(
    member: &Member,
    pools: &Pools,
    nominations: &Nominations,
    leaving: &BTreeSet<String>,
    now: Timestamp,
) -> Option<Candidate> {
    // A node without a claim that has our finalizer is one that Karpenter v0.16 made.
    let node = member.node.as_ref().filter(|_| member.rivals.is_empty() && member.is_managed())?;
    let key: PoolKey = member.pool()?;
    let pool = pools.0.get(&key)?;
    // A Provisioner's nodes live as long as it says now; those of a NodePool as long as it said when they were made.
    let (created, ttl_until_expired) = match (key.kind, &member.claim) {
        (PoolKind::Provisioner, _) => (node.metadata.creation_timestamp.as_ref(), pool.ttl_until_expired),
        (PoolKind::NodePool, None) => return None,
        (PoolKind::NodePool, Some(claim)) => {
            let life = convert::parse_duration(&claim.spec.expire_after).ok().and_then(SpanOrNever::span);
            (claim.metadata.creation_timestamp.as_ref(), life)
        }
    };
    let annotated = |name: &str| node.annotations().get(name);
    Some(Candidate {
        node: NodeKey(node.name_any()),
        pool: key,
        created_at: created.map_or(now, |time| time.0),
        empty_since: annotated(names::EMPTINESS_TIMESTAMP).and_then(|text| text.parse().ok()),
        initialized: member.is_initialized(),
        deleting: crate::snapshot::is_leaving(member, leaving),
        nominated: is_promised(member, nominations),
        do_not_disrupt: annotated(requirements::labels::DO_NOT_DISRUPT).is_some_and(|value| value == "true"),
        non_daemon_pods: member.pods.iter().filter(|pod| pods::occupies(pod)).count(),
        ttl_after_empty: pool.ttl_after_empty,
        ttl_until_expired,
    })
}

/// Whether a pod that has not come yet was promised a place here.
pub fn is_promised(member: &Member, nominations: &Nominations) -> bool {
    nominations.is_promised(|place| member.is_called(place))
}

/// Whether its drain ends in time whoever is against it: `expireAfter` with a `terminationGracePeriod` bounds the life of a node,
/// as in Karpenter v1.
fn is_forceful(member: &Member) -> bool {
    longest_drain(member).is_some()
}

/// Pods of a member that forbid draining it, by themselves or by a budget that does not let them go now; none if that ends by
/// force.
pub fn blockers(member: &Member, world: &World, now: Timestamp) -> Vec<String> {
    if is_forceful(member) {
        return Vec::new();
    }
    let by_themselves = draining::plan(member, now);
    let by_themselves = by_themselves.blockers().map(|(pod, wait)| format!("pod {pod} {wait}"));
    let held =
        member.pods.iter().filter_map(|pod| Some(format!("pod {} is kept by {}", pod_name(pod), world.kept_by(pod)?)));
    by_themselves.chain(held).collect()
}

fn has_ready_place(pod_uid: &str, member: &Member, world: &World, nominations: &Nominations) -> bool {
    nominations.of(pod_uid).is_some_and(|place| {
        !member.is_called(place)
            && world.members.iter().any(|other| other.is_called(place) && other.is_initialized() && !other.is_leaving())
    })
}

#[cfg(test)]
#[path = "removal_tests.rs"]
mod tests;
