//! What we say on a claim about its progress.

use api::{
    condition::{self, Status},
    karpenter_v1::{NodeClaim, NodeClaimStatus, claim_conditions},
};
use cloud::Machine;
use controller_runtime::status::{StatusError, patch_if_changed};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;

use super::next::NODE_NOT_FOUND;
use crate::{claims, context::Context, world::Member};

pub(super) async fn launched(ctx: &Context, claim: &NodeClaim, machine: &Machine) -> kube::Result<()> {
    write(ctx, claim, |status| {
        status.provider_id = Some(machine.provider_id.clone());
        status.image_id.clone_from(&machine.image_id);
        status.capacity = claims::core_quantities(&machine.capacity);
        status.allocatable = claims::core_quantities(&machine.allocatable);
        set(status, claim_conditions::LAUNCHED, Status::True, "Launched", "");
        set(status, claim_conditions::REGISTERED, Status::Unknown, "NodeNotFound", "the machine has not joined yet");
        set(status, claim_conditions::INITIALIZED, Status::Unknown, "NodeNotFound", "the machine has not joined yet");
    })
    .await
}

pub(super) async fn not_launched(ctx: &Context, claim: &NodeClaim, reason: &str, message: &str) -> kube::Result<()> {
    write(ctx, claim, |status| set(status, claim_conditions::LAUNCHED, Status::False, reason, message)).await
}

pub(super) async fn registered(ctx: &Context, claim: &NodeClaim, node: &str) -> kube::Result<()> {
    write(ctx, claim, |status| {
        status.node_name = Some(node.to_owned());
        set(status, claim_conditions::REGISTERED, Status::True, "Registered", "");
    })
    .await
}

pub(super) async fn awaiting(ctx: &Context, member: &Member, reason: &str, message: &str) -> kube::Result<()> {
    let Some(claim) = &member.claim else { return Ok(()) };
    write(ctx, claim, |status| set(status, claim_conditions::INITIALIZED, Status::False, reason, message)).await
}

pub(super) async fn initialized(ctx: &Context, claim: &NodeClaim, node: &Node) -> kube::Result<()> {
    write(ctx, claim, |status| {
        if let Some(reported) = &node.status {
            for (list, reported) in
                [(&mut status.capacity, &reported.capacity), (&mut status.allocatable, &reported.allocatable)]
            {
                // What the kubelet reports is the truth; what it does not name may still be announced.
                list.extend(reported.iter().flatten().map(|(name, quantity)| (name.clone(), quantity.clone())));
            }
        }
        set(status, claim_conditions::INITIALIZED, Status::True, "Initialized", "");
    })
    .await
}

/// The Node is gone though nobody asked for it; that moment is the start of its time to come back.
pub(super) async fn vanished(ctx: &Context, claim: &NodeClaim, message: &str) -> kube::Result<()> {
    write(ctx, claim, |status| {
        // Whatever was found wrong before is another matter: its time does not count.
        status.conditions.retain(|one| one.type_ != claim_conditions::CONSISTENT_STATE_FOUND);
        set(status, claim_conditions::CONSISTENT_STATE_FOUND, Status::False, NODE_NOT_FOUND, message);
    })
    .await
}

pub(super) async fn found(ctx: &Context, claim: &NodeClaim) -> kube::Result<()> {
    write(ctx, claim, |status| {
        set(status, claim_conditions::CONSISTENT_STATE_FOUND, Status::True, "NodeFound", "");
    })
    .await
}

/// How far the end of the machine is: whether everybody has left, and what the cloud said when it was asked to end it, if it was:
/// that it does, or why it does not.
pub(super) async fn ending(
    ctx: &Context,
    claim: &NodeClaim,
    is_drained: bool,
    said: Option<Result<(), &str>>,
) -> kube::Result<()> {
    let (drained, reason) =
        if is_drained { (Status::True, "Drained") } else { (Status::False, "TerminationGracePeriodElapsed") };
    write(ctx, claim, |status| {
        set(status, claim_conditions::DRAINED, drained, reason, "");
        let kind = claim_conditions::INSTANCE_TERMINATING;
        match said {
            None => {}
            Some(Ok(())) => set(status, kind, Status::True, "InstanceTerminating", ""),
            Some(Err(why)) => set(status, kind, Status::False, "FailedTermination", why),
        }
    })
    .await
}

async fn write(ctx: &Context, claim: &NodeClaim, change: impl FnOnce(&mut NodeClaimStatus)) -> kube::Result<()> {
    let mut new = claim.status.clone().unwrap_or_default();
    change(&mut new);
    let stages = [claim_conditions::LAUNCHED, claim_conditions::REGISTERED, claim_conditions::INITIALIZED];
    match stages.iter().find(|stage| !condition::is_true(&new.conditions, stage)) {
        None => set(&mut new, claim_conditions::READY, Status::True, "Ready", ""),
        Some(stage) => set(&mut new, claim_conditions::READY, Status::False, &format!("Not{stage}"), ""),
    }
    let api = ctx.all::<NodeClaim>();
    match patch_if_changed(&api, &claim.name_any(), claim.status.as_ref(), &new).await {
        Ok(_) => Ok(()),
        Err(StatusError::Patch(error)) => Err(error),
        Err(StatusError::Serialize(error)) => Err(kube::Error::SerdeError(error)),
    }
}

fn set(status: &mut NodeClaimStatus, kind: &str, value: Status, reason: &str, message: &str) {
    condition::set(&mut status.conditions, kind, value, reason, message, None, Timestamp::now());
}
