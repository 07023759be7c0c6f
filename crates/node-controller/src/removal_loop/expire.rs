//! One expired node at a time: first a place for its pods, then its end.

use std::{collections::BTreeSet, sync::Arc};

use disruption::{Candidate, Expirations, Verdict, next_expired};
use jiff::Timestamp;
use scheduling::{PodKey, Snapshot};

use super::{begin, blocked, member, node_uid};
use crate::{
    context::{Context, View},
    expiry::{self, Pauses, Tries},
    pods,
    provisioning::{catalogue, patience},
    removal::{self, Why},
    snapshot::{self, Input},
    standing::Which,
    world::Member,
};

/// Chooses at most one node that is too old. When to look again.
pub(super) async fn expire(
    ctx: &Context,
    view: &View,
    candidates: &[Candidate],
    pauses: &mut Pauses,
) -> Option<Timestamp> {
    let nodes: BTreeSet<String> = view.world.members.iter().map(node_uid).collect();
    pauses.keep(|uid| nodes.contains(uid));
    let pairs: Vec<(Candidate, &Member)> =
        candidates.iter().filter_map(|one| Some((one.clone(), member(view, &one.node)?))).collect();
    let tries = expiry::tries(&pairs, pauses, ctx.settings.replacement_timeout, view.at);
    say_stuck(ctx, view, &tries).await;
    let mut old = Vec::new();
    for mut candidate in tries.candidates {
        if matches!(disruption::expiration(&candidate, view.at), Verdict::Remove { .. })
            && let Some(member) = member(view, &candidate.node)
        {
            let blockers = removal::blockers(member, &view.world, view.at);
            if !blockers.is_empty() {
                blocked(ctx, member, &format!("expired, but cannot be drained: {}", blockers.join("; "))).await;
                candidate.do_not_disrupt = true;
            }
        }
        old.push(candidate);
    }
    let verdicts: Vec<Verdict> = old.iter().map(|candidate| disruption::expiration(candidate, view.at)).collect();
    if !verdicts.iter().any(|verdict| matches!(verdict, Verdict::Remove { .. })) {
        let looks = verdicts.iter().filter_map(|verdict| match verdict {
            Verdict::Keep { next_look, .. } => *next_look,
            _ => None,
        });
        return looks.chain(tries.next_look).min();
    }
    let (chosen, snapshot) = choose(ctx, view, old).await?;
    for (node, homeless) in &chosen.stuck {
        let Some(member) = member(view, node) else { continue };
        let reasons: Vec<String> = homeless
            .iter()
            .map(|(pod, reasons)| {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("pod {pod}: {}", reasons.join(", "))
            })
            .collect();
        pauses.failed(&node_uid(member), view.at);
        blocked(ctx, member, &format!("expired, but its pods fit nowhere else: {}", reasons.join("; "))).await;
    }
    if let Some(replacement) = &chosen.next
        && let Some(member) = member(view, &replacement.node)
    {
        // Nobody is closed for a machine that would not be bought.
        let shortages = ctx.standings().shortages(view.at);
        let pods = &view.world.objects.pods;
        let dear = patience::held_back(&snapshot, &replacement.plan, pods, &shortages, view.at);
        // Pods that are pending are planned for with its own.
        let pending: BTreeSet<&PodKey> = snapshot.pods.iter().map(|pod| &pod.key).collect();
        let is_its_own =
            |index: &usize| replacement.plan.new_nodes[*index].pods.iter().any(|pod| !pending.contains(pod));
        if let Some((_, held)) = dear.iter().find(|(index, _)| is_its_own(index)) {
            pauses.failed(&node_uid(member), view.at);
            let why = &held.why;
            blocked(ctx, member, &format!("expired, but a machine for its pods is too dear now: {why}")).await;
            return chosen.next_look.into_iter().chain(tries.next_look).min();
        }
        tracing::info!(
            node = %replacement.node,
            reason = %replacement.reason,
            new_nodes = replacement.plan.new_nodes.len(),
            cost = %replacement.plan.cost,
            "replacing an expired node",
        );
        begin(ctx, member, Why::from(replacement.reason), &replacement.reason.to_string()).await;
    }
    chosen.next_look.into_iter().chain(tries.next_look).min()
}

/// Simulates the removal of the old ones, the oldest first. None if the solver broke down.
async fn choose(ctx: &Context, view: &View, old: Vec<Candidate>) -> Option<(Expirations, Arc<Snapshot>)> {
    let pools = ctx.pools(&view.world, Which::Unknown).await;
    let catalogue = catalogue::read(ctx, &view.world, &pools).await.catalogue;
    let snapshot = Arc::new(snapshot::build(&Input {
        sequence: view.sequence,
        world: &view.world,
        pools: &pools,
        catalogue: &catalogue,
        nominations: &view.nominations,
        leaving: &view.leaving,
    }));
    let moving = view.world.objects.pods.iter().filter(|pod| view.world.will_move(pod));
    let moving: BTreeSet<String> = moving.map(|pod| pods::uid(pod).to_owned()).collect();
    let settings = ctx.settings.solver();
    let at = view.at;
    let given = Arc::clone(&snapshot);
    let chosen = tokio::task::spawn_blocking(move || {
        next_expired(&old, &given, &settings, |_, pod| moving.contains(&pod.uid), at)
    })
    .await;
    if chosen.is_err() {
        tracing::error!("the solver panicked; no expired node is replaced");
    }
    Some((chosen.ok()?, snapshot))
}

async fn say_stuck(ctx: &Context, view: &View, tries: &Tries) {
    for node in &tries.stuck {
        let Some(member) = member(view, node) else { continue };
        let minutes = expiry::patience(ctx.settings.replacement_timeout).as_secs() / 60;
        let then = if tries.too_many_stuck {
            format!("{} nodes are, so no expired node is replaced until one of them is gone", tries.stuck.len())
        } else {
            "expired nodes are replaced without waiting for it".to_owned()
        };
        blocked(ctx, member, &format!("has been leaving for more than {minutes} min; {then}")).await;
    }
}
