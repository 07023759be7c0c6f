//! From pending pods to claims: collect, plan, check, record.

mod act;
pub(crate) mod catalogue;
mod note;
pub(crate) mod patience;
mod rejected;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use scheduling::{PodKey, Settings, Snapshot, check::Refused};
use tokio::time::Instant;

use crate::{
    batch::{Batch, Poll},
    context::{Context, Worlds},
    fingerprint::fingerprint,
    metrics::OutcomeLabel,
    planning::{self, Choice, Made, PLANNERS, Planner, Rejected},
    pods,
    pools::Pools,
    snapshot::{self, Input},
    standing::Which,
    world::World,
};

/// Time between two looks at places that are kept.
const PROMISES: Duration = Duration::from_secs(1);

/// After so long a search for a cheaper plan ends with the best it has. Its budget of work is a fraction of a second on most
/// machines; pods wait meanwhile.
const SEARCH: Duration = Duration::from_secs(3);

/// How many plans a round makes at most, each without what was too dear in the one before.
pub(crate) const PLANS: usize = 4;

/// What a plan was made from, and what it says.
#[derive(Debug)]
struct Planned {
    world: Arc<World>,
    pools: Pools,
    made: Arc<Made>,
    /// New nodes that are not bought yet, by index, with the reason.
    held: BTreeMap<usize, String>,
    /// Pods without a place that wait for a pool to be cheaper, with the reason.
    waits: BTreeMap<PodKey, String>,
}

/// Runs until the shutdown. Only the leader may run it.
pub(crate) async fn run(ctx: Context, mut worlds: Worlds) {
    let epoch = Instant::now();
    let mut batch = Batch::new(ctx.settings.batch);
    // Pods the last plan has looked at, and the circumstances it was made in.
    let mut considered = BTreeSet::new();
    let mut circumstances = None;
    // The plans of the last round, to begin the next one with.
    let mut earlier = Vec::new();
    let mut told = act::Told::default();
    let mut retry_at = Instant::now();
    let mut rings = ctx.wakeup.listen();
    loop {
        rings.borrow_and_update();
        let waiting = waiting(&ctx, &mut worlds);
        ctx.metrics.queue_depth.set(i64::try_from(waiting.pods.len()).unwrap_or(i64::MAX));
        let now = epoch.elapsed();
        for pod in &waiting.pods {
            let uid = pods::uid(pod);
            if !considered.contains(uid) {
                batch.trigger(uid, now);
            }
        }
        if !waiting.pods.is_empty() {
            if circumstances != Some(waiting.circumstances) {
                batch.trigger(&format!("circumstances {}", waiting.circumstances), now);
            }
            if retry_at <= Instant::now() {
                batch.trigger("retry", now);
            }
        }
        let look_at = match batch.poll(now) {
            Poll::Ready => {
                let triggers = batch.take();
                let started = Instant::now();
                tracing::debug!(triggers, pods = waiting.pods.len(), "planning");
                considered = round(&ctx, &mut worlds, &mut earlier, &mut told).await;
                circumstances = Some(waiting.circumstances);
                // Planning again and again for pods that fit nowhere may take a tenth of the time, not more.
                retry_at = Instant::now() + ctx.settings.retry_interval.max(started.elapsed() * 10);
                continue;
            }
            Poll::Wait { until } => epoch + until,
            Poll::Empty if waiting.promises => retry_at.clamp(Instant::now() + PROMISES, Instant::now() + 2 * PROMISES),
            Poll::Empty if waiting.pods.is_empty() => Instant::now() + Duration::from_mins(1),
            Poll::Empty => retry_at,
        };
        tokio::select! {
            () = ctx.shutdown.cancelled() => return,
            changed = worlds.changed() => if changed.is_err() { return },
            changed = rings.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(look_at) => {}
        }
    }
}

struct Waiting {
    pods: Vec<Arc<Pod>>,
    /// Whether places are kept for pods: some of them will not come, and no event says when a place is given up.
    promises: bool,
    circumstances: u64,
}

fn waiting(ctx: &Context, worlds: &mut Worlds) -> Waiting {
    let view = ctx.view(worlds);
    Waiting {
        pods: snapshot::homeless(&view.world, &view.nominations, &view.leaving),
        promises: !view.nominations.is_empty(),
        circumstances: fingerprint(&view.world),
    }
}

/// One plan, from the newest world to its claims, that begins with the plans of the round before and leaves its own in their
/// place. Returns the UIDs of the pods it looked at.
async fn round(
    ctx: &Context,
    worlds: &mut Worlds,
    earlier: &mut Vec<Arc<Made>>,
    told: &mut act::Told,
) -> BTreeSet<String> {
    // What can be bought may take a while to ask for; the world is read after that.
    let before = Arc::clone(&worlds.borrow());
    let asked = ctx.pools(&before.value, Which::Unknown).await;
    let catalogue::Offers { catalogue, unreadable, .. } = catalogue::read(ctx, &before.value, &asked).await;
    for (pool, why) in unreadable.iter().filter(|(pool, _)| asked.usable().any(|(key, _)| key == *pool)) {
        tracing::warn!(%pool, error = %why, "what the pool can buy is not known");
    }
    let view = ctx.view(worlds);
    let mut pools = Pools::of(&view.world);
    ctx.standings().apply(&mut pools, Timestamp::now());
    ctx.standings().on_sale(&catalogue, Timestamp::now());
    let snapshot = snapshot::build(&Input {
        sequence: view.sequence,
        world: &view.world,
        pools: &pools,
        catalogue: &catalogue,
        nominations: &view.nominations,
        leaving: &view.leaving,
    });
    let considered = snapshot.pods.iter().map(|pod| pod.uid.clone()).collect();
    if snapshot.pods.is_empty() {
        ctx.metrics.unschedulable_pods.set(0);
        earlier.clear();
        told.clear();
        return considered;
    }
    let start = Instant::now();
    let last_round = earlier.len();
    let Some(mut made) = plan(ctx, snapshot, earlier, start).await else { return considered };
    earlier.push(Arc::clone(&made));
    let now = Timestamp::now();
    let shortages = ctx.standings().shortages(now);
    let mut waits = BTreeMap::new();
    let pods = &view.world.objects.pods;
    let mut held = patience::held_back(&made.snapshot, &made.solution, pods, &shortages, now);
    // What is struck from a later plan was not refused by anybody.
    let on_sale = (!held.is_empty()).then(|| made.snapshot.clone());
    if let Some(on_sale) = &on_sale {
        for _ in 1..PLANS {
            let Some(cheaper) = patience::without_dear(&made.snapshot, &made.solution, &held) else { break };
            let Some(again) = plan(ctx, cheaper, earlier, start).await else { break };
            earlier.push(Arc::clone(&again));
            for (index, one) in &held {
                let waiting = made.solution.new_nodes[*index].pods.iter();
                waits.extend(waiting.map(|pod| (pod.clone(), one.why.clone())));
            }
            made = again;
            held = patience::held_back(on_sale, &made.solution, pods, &shortages, now);
        }
    }
    let held: BTreeMap<usize, String> = held.into_iter().map(|(index, one)| (index, one.why)).collect();
    earlier.drain(..last_round);
    // The next round begins with what was planned, not with what is left of it for this one. What is left was checked: each
    // offering that a node keeps holds its pods, and who waits for a dearer node is counted by nobody as being there.
    let mut bought = Made::clone(&made);
    let on_sale = on_sale.as_ref().unwrap_or(&made.snapshot);
    patience::keep_affordable(on_sale, &mut bought.solution, pods, &shortages, now);
    let made = Arc::new(bought);
    let solution = &made.solution;
    waits.retain(|pod, _| solution.unplaced.contains_key(pod));
    ctx.metrics.scheduling_duration.observe(start.elapsed().as_secs_f64());
    if !solution.new_nodes.is_empty() {
        tracing::info!(
            snapshot = made.snapshot.sequence,
            planner = made.planner,
            nodes = solution.new_nodes.len(),
            cost = %solution.cost,
            lower_bound = solution.lower_bound.as_ref().map(|bound| bound.cost.to_string()),
            greedy_cost = solution.greedy_cost.map(|cost| cost.to_string()),
            proven_optimal = solution.proven_optimal(),
            search_work_units = solution.search_work_units,
            milliseconds = start.elapsed().as_millis(),
            "planned"
        );
    }
    let waiting: usize = held.keys().map(|index| solution.new_nodes[*index].pods.len()).sum();
    ctx.metrics.unschedulable_pods.set(i64::try_from(solution.unplaced.len() + waiting).unwrap_or(i64::MAX));
    outcome(ctx, if solution.unplaced.is_empty() && held.is_empty() { "complete" } else { "partial" });
    act::act(ctx, &Planned { world: view.world, pools, made, held, waits }, &unreadable, told).await;
    considered
}

/// Plans, and reports what was refused. None if no plan is sound.
async fn plan(ctx: &Context, snapshot: Snapshot, earlier: &[Arc<Made>], start: Instant) -> Option<Arc<Made>> {
    let settings = ctx.settings.solver();
    let folder = ctx.settings.rejected_plans.clone();
    let earlier = earlier.to_vec();
    let planned = tokio::task::spawn_blocking(move || {
        let late = || start.elapsed() > SEARCH;
        let choice = choose(&folder, &snapshot, &settings, &PLANNERS, &earlier, &late);
        (snapshot, choice, late())
    })
    .await;
    let Ok((snapshot, choice, broken_off)) = planned else {
        tracing::error!("planning panicked; no machine is launched for this plan");
        outcome(ctx, "panic");
        return None;
    };
    for rejected in &choice.rejected {
        ctx.metrics.plan_violations.inc_by(u64::try_from(rejected.violations.len()).unwrap_or(u64::MAX));
        outcome(ctx, if rejected.solution.is_some() { "refused" } else { "panic" });
    }
    let Some((planner, solution)) = choice.accepted else {
        tracing::error!(snapshot = snapshot.sequence, "no plan is sound; no machine is launched for these pods");
        return None;
    };
    if !choice.rejected.is_empty() {
        tracing::warn!(snapshot = snapshot.sequence, planner, "going on with another plan");
    }
    Some(Arc::new(Made { snapshot, settings, planner, solution, broken_off }))
}

/// The plan to carry out; those that were refused before it are logged, and saved below `folder`.
fn choose(
    folder: &Path,
    snapshot: &Snapshot,
    settings: &Settings,
    planners: &[Planner],
    earlier: &[Arc<Made>],
    late: &dyn Fn() -> bool,
) -> Choice {
    let choice = planning::choose(snapshot, settings, planners, earlier, late);
    for rejected in &choice.rejected {
        report(folder, snapshot, settings, earlier, rejected);
    }
    choice
}

/// Says what is wrong with a plan that is not carried out, and where to find it.
fn report(folder: &Path, snapshot: &Snapshot, settings: &Settings, earlier: &[Arc<Made>], rejected: &Rejected) {
    let refused = Refused {
        format: Refused::FORMAT.to_owned(),
        planner: rejected.planner.to_owned(),
        snapshot: snapshot.clone(),
        settings: *settings,
        earlier: earlier.last().map(|made| made.solution.clone()),
        solution: rejected.solution.clone(),
        violations: rejected.violations.clone(),
    };
    let saved = match rejected::save(folder, &refused, Timestamp::now()) {
        Ok(path) => path.display().to_string(),
        Err(error) => format!("not saved: {error}"),
    };
    let (sequence, planner) = (snapshot.sequence, rejected.planner);
    if rejected.solution.is_none() {
        tracing::error!(snapshot = sequence, planner, saved, "the planner panicked");
    }
    for violation in &rejected.violations {
        tracing::error!(
            snapshot = sequence,
            planner,
            saved,
            ?violation,
            "the plan breaks a promise and is not carried out"
        );
    }
}

fn outcome(ctx: &Context, outcome: &str) {
    ctx.metrics.plans.get_or_create(&OutcomeLabel { outcome: outcome.to_owned() }).inc();
}

#[cfg(test)]
mod tests {
    use scheduling::{Pod, Solution, check};

    use super::*;

    fn forgetful(_: &planning::Question<'_>) -> Solution {
        Solution::default()
    }

    #[test]
    fn a_refused_plan_is_saved_with_all_that_it_was_made_from_and_another_is_carried_out() {
        let folder = tempfile::tempdir().unwrap();
        let pod = Pod::new(PodKey::new("d", "a"));
        let snapshot = Snapshot { pods: vec![pod.into()], ..Snapshot::default() };
        let settings = Settings { max_alternatives: 7, ..Settings::default() };
        let sound = scheduling::solve_greedy(&snapshot, &settings);
        let before = Made {
            snapshot: Snapshot::default(),
            settings,
            planner: "optimiser",
            solution: sound.clone(),
            broken_off: false,
        };
        let planners = [Planner { name: "first", plan: forgetful }, PLANNERS[1]];
        let choice = choose(folder.path(), &snapshot, &settings, &planners, &[before.into()], &|| false);
        assert_eq!(choice.accepted.unwrap().0, "greedy");

        let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        let refused: Refused = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!((refused.planner.as_str(), refused.settings), ("first", settings));
        assert_eq!((refused.earlier, refused.solution.as_ref()), (Some(sound), Some(&Solution::default())));
        assert_eq!(refused.snapshot.pods, snapshot.pods);
        assert!(!refused.violations.is_empty());
        assert_eq!(check::check(&refused.snapshot, &Solution::default()), refused.violations);
    }
}
