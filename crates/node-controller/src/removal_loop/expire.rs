//! One expired node at a time: first a place for its pods, then its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use disruption::{Candidate, Expirations, Replacement, Verdict, next_expired};
use jiff::Timestamp;
use scheduling::{PodKey, Snapshot};

use super::{begin, blocked, member, node_uid};
use crate::{
    context::{Context, View},
    expiry::{self, Pauses, Tries},
    pods,
    provisioning::{
        PLANS, catalogue,
        patience::{self, Held},
    },
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
    let snapshot = Arc::new(read(ctx, view).await);
    let chosen = choose(ctx, view, old, &snapshot).await?;
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
        let dear = too_dear(ctx, view, &snapshot, replacement);
        if let Some(held) = its_own(&dear, &snapshot, replacement) {
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

async fn read(ctx: &Context, view: &View) -> Snapshot {
    let pools = ctx.pools(&view.world, Which::Unknown).await;
    let catalogue = catalogue::read(ctx, &view.world, &pools).await.catalogue;
    snapshot::build(&Input {
        sequence: view.sequence,
        world: &view.world,
        pools: &pools,
        catalogue: &catalogue,
        nominations: &view.nominations,
        leaving: &view.leaving,
    })
}

/// The new nodes of a plan that are not bought now.
fn too_dear(ctx: &Context, view: &View, on_sale: &Snapshot, replacement: &Replacement) -> BTreeMap<usize, Held> {
    let shortages = ctx.standings().shortages(view.at);
    patience::held_back(on_sale, &replacement.plan, &view.world.objects.pods, &shortages, view.at)
}

/// The first of them that is for a pod of the node that is replaced: pods that are pending are planned for with its own.
fn its_own<'a>(dear: &'a BTreeMap<usize, Held>, on_sale: &Snapshot, replacement: &Replacement) -> Option<&'a Held> {
    let pending: BTreeSet<&PodKey> = on_sale.pods.iter().map(|pod| &pod.key).collect();
    let is_its_own = |index: &usize| replacement.plan.new_nodes[*index].pods.iter().any(|pod| !pending.contains(pod));
    dear.iter().find_map(|(index, held)| is_its_own(index).then_some(held))
}

/// Simulates the removal of the old ones, the oldest first; again without what is too dear, as long as the same node can do
/// without it. None if the solver broke down.
async fn choose(ctx: &Context, view: &View, old: Vec<Candidate>, on_sale: &Arc<Snapshot>) -> Option<Expirations> {
    let mut given = Arc::clone(on_sale);
    let mut chosen = simulate(ctx, view, old.clone(), &given).await?;
    for _ in 1..PLANS {
        let Some(replacement) = &chosen.next else { break };
        let dear = too_dear(ctx, view, on_sale, replacement);
        if its_own(&dear, on_sale, replacement).is_none() {
            break;
        }
        let Some(cheaper) = patience::without_dear(&given, &replacement.plan, &dear) else { break };
        given = Arc::new(cheaper);
        let again = simulate(ctx, view, old.clone(), &given).await?;
        if again.next.as_ref().map(|next| &next.node) != Some(&replacement.node) {
            break;
        }
        chosen = again;
    }
    Some(chosen)
}

async fn simulate(ctx: &Context, view: &View, old: Vec<Candidate>, given: &Arc<Snapshot>) -> Option<Expirations> {
    let moving = view.world.objects.pods.iter().filter(|pod| view.world.will_move(pod));
    let moving: BTreeSet<String> = moving.map(|pod| pods::uid(pod).to_owned()).collect();
    let settings = ctx.settings.solver();
    let (at, given) = (view.at, Arc::clone(given));
    let chosen = tokio::task::spawn_blocking(move || {
        next_expired(&old, &given, &settings, |_, pod| moving.contains(&pod.uid), at)
    })
    .await;
    if chosen.is_err() {
        tracing::error!("the solver panicked; no expired node is replaced");
    }
    chosen.ok()
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
