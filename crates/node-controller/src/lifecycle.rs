//! The life of every machine, from its claim to its end: one loop that looks at the world, and one action at a time for
//! each machine.

mod launch;
mod leave;
pub mod next;
mod nominate;
pub mod opening;
pub mod patches;
mod status;
mod vanished;

use std::{collections::BTreeSet, mem::Discriminant, sync::Arc, time::Duration};

use api::karpenter_v1::NodeClaim;
use controller_runtime::{boot::chain, events::Kind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use units::{Excess, ResourceList};

use self::next::{Ending, Step, next};
use crate::{
    claims,
    context::{Context, Worlds},
    draining,
    metrics::ReasonAndPool,
    pools::Pools,
    work::{Outcome, Workers},
    world::{Member, World},
};

/// Machines worked on at the same time. Most of an action is waiting for an answer; the adapters limit their own calls,
/// and a hundred small requests are nothing to an API server.
const CONCURRENCY: usize = 100;
/// The loop looks again after this even if nothing told it to.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Runs until the shutdown. Only the leader may run it.
pub async fn run(ctx: Context, mut worlds: Worlds) {
    let mut workers: Workers<Discriminant<Step>> = Workers::new(CONCURRENCY);
    loop {
        let world = Arc::clone(&worlds.borrow_and_update());
        let now = Timestamp::now();
        let mut look_again = HEARTBEAT;
        let mut names = BTreeSet::new();
        for member in &world.value.members {
            let name = member.name();
            // Only a member that is leaving needs to know whether its pods have left.
            let drained = member.is_leaving() && draining::plan(member, now).is_drained();
            let step = next(member, drained, &ctx.settings, now);
            let until = match &step {
                Step::Rest { until } => *until,
                Step::AwaitDetach { until } => Some(*until),
                step => {
                    let (ctx, member, step) = (ctx.clone(), member.clone(), step.clone());
                    let world = Arc::clone(&world);
                    workers.offer(&name, std::mem::discriminant(&step), || async move {
                        act(&ctx, &world.value, &member, step).await
                    });
                    None
                }
            };
            if let Some(wait) = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok()) {
                look_again = look_again.min(wait);
            }
            names.insert(name);
        }
        workers.keep(|name| names.contains(name));
        let due = tokio::time::Instant::now() + look_again;
        let due = workers.next_due().map_or(due, |pause| pause.min(due));
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            changed = worlds.changed() => if changed.is_err() { return },
            () = workers.ended() => {}
            () = tokio::time::sleep_until(due) => {}
        }
    }
}

async fn act(ctx: &Context, world: &World, member: &Member, step: Step) -> Outcome {
    let name = member.name();
    tracing::debug!(machine = %name, ?step, "acting");
    let outcome = match step {
        Step::Rest { .. } | Step::AwaitDetach { .. } => return Outcome::Done,
        Step::AddFinalizer => add_finalizer(ctx, member).await,
        Step::Launch => return launch::launch(ctx, world, member).await,
        Step::Register => register(ctx, world, member).await,
        Step::Open => return nominate::open(ctx, world, member).await,
        Step::Await { reason, message } => status::awaiting(ctx, member, reason, &message).await,
        Step::Initialize => initialize(ctx, world, member).await,
        Step::NoteVanished => return vanished::note(ctx, member).await,
        Step::NoteFound => vanished::found(ctx, member).await,
        Step::DeleteClaim(Ending::NodeVanished) => return vanished::give_up(ctx, member).await,
        Step::DeleteClaim(ending) => give_up(ctx, member, ending).await,
        Step::Cordon => cordon(ctx, member, None).await,
        Step::DeleteNode => delete_node(ctx, member).await,
        Step::Drain => return leave::drain(ctx, member).await,
        Step::Terminate => return leave::terminate(ctx, member).await,
        Step::Dispute => return dispute(ctx, member).await,
        Step::ReleaseNode => leave::release_node(ctx, member).await,
    };
    settle(&name, outcome)
}

/// What an API server's refusal means for the same action: a conflict or a vanished object is looked at again at once.
fn settle(name: &str, result: kube::Result<()>) -> Outcome {
    match result {
        Ok(()) => Outcome::Done,
        Err(kube::Error::Api(status)) if status.is_not_found() => Outcome::Done,
        Err(kube::Error::Api(status)) if status.is_conflict() => Outcome::Failed,
        Err(error) => {
            tracing::warn!(machine = %name, error = %chain(&error), "could not act on a machine, trying again");
            Outcome::Failed
        }
    }
}

/// Time between two looks at Nodes that dispute a machine; the recorder counts what is said again.
const DISPUTE: Duration = Duration::from_mins(1);

async fn dispute(ctx: &Context, member: &Member) -> Outcome {
    let rivals = member.rivals.iter().map(|node| node.name_any());
    let names: Vec<String> = member.node.iter().map(|node| node.name_any()).chain(rivals).collect();
    let note = format!(
        "Nodes {} name the same machine {}: it is neither changed nor ended. Delete the Node whose kubelet is gone",
        names.join(" and "),
        member.provider_id().unwrap_or_default(),
    );
    tracing::warn!(machine = %member.name(), "{note}");
    ctx.event_on_member(
        member.claim.as_deref(),
        member.node.as_deref(),
        Kind::Warning,
        "MachineDisputed",
        "Check",
        &note,
    )
    .await;
    Outcome::Again(DISPUTE)
}

async fn add_finalizer(ctx: &Context, member: &Member) -> kube::Result<()> {
    let Some(claim) = &member.claim else { return Ok(()) };
    let mut all = claim.finalizers().to_vec();
    all.push(crate::names::FINALIZER.to_owned());
    let patch = json!({ "metadata": { "finalizers": all, "resourceVersion": claim.metadata.resource_version } });
    ctx.all::<NodeClaim>().patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

async fn register(ctx: &Context, world: &World, member: &Member) -> kube::Result<()> {
    let (Some(claim), Some(node)) = (&member.claim, &member.node) else { return Ok(()) };
    let hold = ctx.settings.nominate_pods && opening::stays_closed(&world.objects.daemon_sets, claim, node);
    patch_node(ctx, node, patches::register(claim, node, hold)).await?;
    status::registered(ctx, claim, &node.name_any()).await?;
    tracing::info!(nodeclaim = %claim.name_any(), node = %node.name_any(), "registered");
    Ok(())
}

async fn initialize(ctx: &Context, world: &World, member: &Member) -> kube::Result<()> {
    let Some(node) = &member.node else { return Ok(()) };
    let Some(claim) = &member.claim else { return patch_node(ctx, node, patches::initialize(node)).await };
    if let Some(lacking) = lacking(claim, node) {
        smaller_than_planned(ctx, world, member, &lacking).await;
    }
    // The label last: it is what the rest of the world goes by.
    status::initialized(ctx, claim, node).await?;
    patch_node(ctx, node, patches::initialize(node)).await?;
    let label = ReasonAndPool { reason: "initialized".to_owned(), nodepool: pool_name(member) };
    ctx.metrics.nodes_created.get_or_create(&label).inc();
    tracing::info!(nodeclaim = %claim.name_any(), node = %node.name_any(), "initialized");
    Ok(())
}

/// What a Node has less of than was asked for its pods.
fn lacking(claim: &NodeClaim, node: &Node) -> Option<Excess> {
    let asked = claims::resource_list(&claim.spec.resources.as_ref()?.requests).ok()?;
    let there = claims::resource_list(node.status.as_ref()?.allocatable.as_ref()?).ok()?;
    asked.first_excess(&there)
}

/// Its pods will not fit, so they would get another machine like it, and another: the pool is left alone for a while.
async fn smaller_than_planned(ctx: &Context, world: &World, member: &Member, lacking: &Excess) {
    let there = ResourceList::new().with(lacking.name.clone(), lacking.free);
    let asked = ResourceList::new().with(lacking.name.clone(), lacking.asked);
    let note = format!(
        "{} has come smaller than planned: {there}, where its pods need {asked}; no more machines are made for its pool for a while",
        member.node_key()
    );
    tracing::warn!(machine = %member.name(), "{note}");
    let (claim, node) = (member.claim.as_deref(), member.node.as_deref());
    ctx.event_on_member(claim, node, Kind::Warning, "SmallerThanPlanned", "Initialize", &note).await;
    let pools = Pools::of(world);
    if let Some(pool) = member.pool().and_then(|key| pools.0.get(&key)) {
        ctx.recorder.publish(&pool.reference, Kind::Warning, "SmallerThanPlanned", "Initialize", note.clone()).await;
        ctx.standings().refuse(pool, &note, Timestamp::now());
    }
}

async fn give_up(ctx: &Context, member: &Member, ending: Ending) -> kube::Result<()> {
    let Some(claim) = &member.claim else { return Ok(()) };
    let note = match ending {
        Ending::NodeDeleted => "the Node was deleted, so its machine ends too".to_owned(),
        Ending::LaunchTimeout => {
            format!("no machine was granted within {} s", ctx.settings.launch_timeout.as_secs())
        }
        Ending::RegistrationTimeout => {
            format!("the machine did not join within {} s", ctx.settings.registration_timeout.as_secs())
        }
        Ending::NodeVanished => {
            format!("its Node has been gone for {} s", ctx.settings.registration_timeout.as_secs())
        }
    };
    delete_claim(ctx, member, ending.as_str()).await?;
    tracing::info!(nodeclaim = %claim.name_any(), reason = ending.as_str(), %note, "deleting claim");
    let kind = if ending == Ending::NodeDeleted { Kind::Normal } else { Kind::Warning };
    ctx.event(&**claim, kind, "Disrupted", "Delete", note).await;
    Ok(())
}

/// Deletes exactly the claim that was looked at, not a later one of its name.
pub async fn delete_claim(ctx: &Context, member: &Member, reason: &str) -> kube::Result<()> {
    let Some(claim) = &member.claim else { return Ok(()) };
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: claim.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    ctx.all::<NodeClaim>().delete(&claim.name_any(), &params).await?;
    let label = ReasonAndPool { reason: reason.to_owned(), nodepool: pool_name(member) };
    ctx.metrics.claims_disrupted.get_or_create(&label).inc();
    Ok(())
}

/// Keeps new pods off a node, for `removal` if it is not deleted yet.
pub async fn cordon(ctx: &Context, member: &Member, removal: Option<&str>) -> kube::Result<()> {
    let Some(node) = &member.node else { return Ok(()) };
    patch_node(ctx, node, patches::cordon(node, removal.map(|reason| (reason, Timestamp::now())))).await
}

/// Deletes exactly the Node that was looked at.
pub async fn delete_node(ctx: &Context, member: &Member) -> kube::Result<()> {
    let Some(node) = &member.node else { return Ok(()) };
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: node.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    ctx.all::<Node>().delete(&node.name_any(), &params).await?;
    Ok(())
}

/// Sends a patch made in [`patches`], if there is one.
pub async fn patch_node(ctx: &Context, node: &Node, patch: Option<serde_json::Value>) -> kube::Result<()> {
    if let Some(patch) = patch {
        ctx.all::<Node>().patch(&node.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    }
    Ok(())
}

fn pool_name(member: &Member) -> String {
    member.pool().map(|pool| pool.name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cloud::fake::FakeCloud;
    use http::StatusCode;
    use scheduling::{PoolKey, PoolKind};
    use serde_json::Value;

    use super::*;
    use crate::{
        testing::{Answer, context_with},
        world::Objects,
    };

    fn from<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    /// The events when a machine with so much scratch space is ready for pods that need 60Gi, and why its pool is closed.
    async fn ready_with(scratch: &str) -> (Vec<String>, Option<String>) {
        let claim = json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodeClaim",
            "metadata": { "name": "c", "uid": "u", "labels": { "karpenter.sh/provisioner-name": "p" } },
            "spec": { "requirements": [], "resources": { "requests": { "ephemeral-storage": "60Gi" } },
                "nodeClassRef": { "group": "karpenter.sh", "kind": "Provisioner", "name": "p" } },
            "status": { "providerID": "x:///n", "nodeName": "n" } });
        let node = json!({ "metadata": { "name": "n", "uid": "n" }, "spec": { "providerID": "x:///n" },
            "status": { "allocatable": { "ephemeral-storage": scratch } } });
        let provisioner = json!({ "apiVersion": "karpenter.sh/v1alpha5", "kind": "Provisioner",
            "metadata": { "name": "p", "uid": "p", "generation": 1 },
            "spec": { "provider": { "subnetSelector": { "a": "b" }, "securityGroupSelector": { "a": "b" } } } });
        let answers = [claim.clone(), node.clone()];
        let (ctx, asked) = context_with(FakeCloud::default(), move |what| {
            Answer(StatusCode::OK, answers[usize::from(what.contains("/nodes/"))].clone())
        });
        let objects = Objects {
            claims: vec![from(claim)],
            nodes: vec![from(node)],
            provisioners: vec![from(provisioner)],
            ..Objects::default()
        };
        let world = World::new(objects);
        initialize(&ctx, &world, &world.members[0]).await.unwrap();
        let mut pools = Pools::of(&world);
        let key = PoolKey { kind: PoolKind::Provisioner, name: "p".to_owned() };
        let class = pools.0[&key].class.clone().unwrap();
        let mut standings = ctx.standings();
        standings.judge(class, &Ok(()), Timestamp::now());
        standings.apply(&mut pools, Timestamp::now());
        (asked.events(), pools.0[&key].closed.clone().map(|closed| closed.what))
    }

    #[tokio::test]
    async fn a_machine_that_comes_too_small_for_its_pods_has_no_twin() {
        let (events, closed) = ready_with("17Gi").await;
        let told = ["NodeClaim/c SmallerThanPlanned", "Node/n SmallerThanPlanned", "Provisioner/p SmallerThanPlanned"];
        assert_eq!(events, told);
        let what = closed.expect("the pool is left alone");
        assert!(
            what.starts_with("n has come smaller than planned: ephemeral-storage: 17Gi, where its pods need"),
            "{what}"
        );
        assert_eq!(ready_with("60Gi").await, (Vec::new(), None));
    }
}
