//! The cheapest plan that can be found in time, and how cheap any plan could be at best.
//!
//! ```text
//! greedy plan ──▶ pods on new nodes ──model──▶ groups × bins ──pack──▶ nodes in numbers ──carry out──▶ plan ──┐
//!      │                                             └──────────────▶ lower bound                             │
//!      └─────────────────────────────────────────────────────────────────────────────────────▶ the cheaper ◀──┘
//! ```
//!
//! What goes on nodes there are costs nothing, so the greedy rule decides that first. For the other pods `wanted` says how
//! many are to be planned for and in which domains, and `model` writes down in numbers what each could start a node on, by
//! the engine's own answer for an empty node; crate `packing` looks for the cheapest nodes; `carry_out` opens them and puts
//! the pods on one by one, again by the engine's own rules, and what does not fit goes on by the greedy rule. So nothing is
//! feasible here that is not feasible there, and what the model does not know costs money at worst. If the greedy plan is
//! no dearer, it is the answer.
//!
//! Where the greedy rule leaves pods without a place that could have one, they come first the next time (`promote`), and the best
//! order is that of all plans.
//!
//! Where nodes there are may take pods, all pods are planned once more, with their wishes and on these nodes too
//! (`everywhere`): the greedy rule may have given their room to the wrong ones. A plan without any wishes tells what wishes
//! cost.
//!
//! Pods that must be on a node with others are planned once more with room kept for them (`company`) where pods are few, or where
//! some of them are left without a place because these others have filled their nodes.
//!
//! Groups that others follow are planned for in other domains as well, where some of these are left without a place, or pods are
//! few (`gathered`).
//!
//! Where limits leave pods without a place, fewer are planned, dealt out anew (`fewer`), and some of the pods before the others
//! (`parts`). If nothing is proven, `exact` tries every way for the fewest pods, and `rearrange` changes the best plan node by
//! node. A plan counts as cheaper only if it gives up no more wishes than the greedy one and puts no more pods on pools of less
//! weight than these or others need (`kept`). Of plans that place more than the greedy one that which departs least is taken.
//!
//! Pools of larger weight come first: a pod that one of them takes is not planned for others, unless limits stop it. The
//! bound knows nothing of weights, wishes and limits; where these matter it is worked out by itself.

mod best;
mod bound;
mod carry_out;
mod company;
mod everywhere;
mod exact;
mod fewer;
mod gathered;
mod kept;
mod known;
mod model;
mod orders;
mod partial;
mod parts;
mod ports;
mod promote;
mod reach;
mod rearrange;
mod repeat;
mod stages;
mod task;
mod together;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

use units::UsdMicrosPerHour;

pub(super) use self::partial::bound_of_placed;
use self::{
    best::{Best, ByRule},
    carry_out::{Plan, Way},
    kept::{Kept, Weights},
    known::Known,
    reach::Reach,
    stages::Stages,
    task::{FEW, Purpose, Task},
};
use super::{Rank, Rest, axis::Axis, prepare};
use crate::{LowerBound, Note, PodKey, Settings, Snapshot, Solution};

/// If there are more kinds of pods and the guard says that time is up when the greedy plan is there, that plan is it.
const MANY: usize = 300;
/// Of so many nodes there are the bound takes account; if there are more, it leaves out the pods that fit on them.
const EXISTING: usize = 300;

/// To know what the pods that need pools of less weight cost by themselves gets one in so many parts of the work.
const ALONE: u64 = 8;

/// The cheapest plan found within the budget: the greedy one, `previous` again, or one made by price.
pub(super) fn cheapest(
    snapshot: &Snapshot,
    settings: &Settings,
    stop: &dyn Fn() -> bool,
    previous: Option<&Solution>,
) -> Solution {
    cheapest_of(snapshot, settings, stop, previous, false)
}

/// As [`cheapest`]; `is_part`: of some of the pods that are planned for, to begin with.
fn cheapest_of(
    snapshot: &Snapshot,
    settings: &Settings,
    stop: &dyn Fn() -> bool,
    previous: Option<&Solution>,
    is_part: bool,
) -> Solution {
    let axis = Axis::of(snapshot);
    let (mut start, queue, mut solution) = prepare(snapshot, settings, &axis);
    let stages = Stages::of(&mut start, &queue);
    let mut greedy = start.clone();
    let rest = greedy.place_all(queue.clone());
    let out_of_work = !rest.untried.is_empty();
    let by_rule = ByRule::of(&greedy, &rest);
    solution.greedy_cost = Some(by_rule.rank.1);
    let left_out = |rest: &Rest<'_>| rest.refused.len() + rest.untried.len();
    let left_out_by_rule = left_out(&rest);
    let unsure: BTreeSet<&PodKey> =
        start.search.templates.iter().flat_map(|one| one.unsure_daemons.iter().copied()).collect();
    if previous.is_none() && !out_of_work && start.search.kinds.len() > MANY && stop() {
        let bound = bound::at_a_glance(&start.search, &stages.counts(&queue));
        let bound = bound.filter(|_| unsure.is_empty());
        greedy.merge(0);
        greedy.finish(rest, &mut solution);
        solution.lower_bound = bound.filter(|_| solution.unplaced.is_empty());
        return solution;
    }
    let mut is_by_rule = true;
    let (mut queue, mut rest) = (queue, rest);
    if !rest.refused.is_empty() && !out_of_work {
        let reach = Reach::of(&start.search);
        let is_nowhere = |asked: usize| reach.is_nowhere(stages.least[asked]);
        let better = promote::in_better_order(&start, &queue, (&greedy, &rest), is_nowhere, stop);
        if let Some(better) = better {
            (queue, greedy, rest) = better;
            is_by_rule = false;
        }
    }
    let kind_of: BTreeMap<&PodKey, usize> = previous.map_or_else(BTreeMap::new, |previous| {
        let of_earlier = queue.iter().filter(|(pod, _)| previous.placed.contains_key(&pod.key));
        of_earlier.map(|(pod, asked)| (&pod.key, stages.planned[*asked].0)).collect()
    });
    // A plan for other pods says nothing about these.
    let previous = previous.filter(|_| !kind_of.is_empty());
    let again = previous.map_or_else(Vec::new, |previous| repeat::same_again(&start.search, previous));
    let known = previous.map_or_else(Known::default, |previous| Known::earlier(&kind_of, previous, &again));
    let task = (!out_of_work).then(|| Task::new(&start, &queue, &stages, &greedy, known, stop));
    let wanted = task.as_ref().map(|task| {
        let planned =
            |counts: &[u64], evenly| wanted::planned(&start.search, &task.reach, counts, &greedy.search, evenly);
        let wanted = planned(&task.left, false);
        let is_few = start.search.kinds.len() <= MANY;
        let evenly = is_few.then(|| planned(&task.left, true)).filter(|evenly| *evenly != wanted);
        (wanted, planned(&task.as_planned, false), evenly)
    });
    let is_limited = !rest.refused.is_empty() && start.search.templates.iter().any(|one| !one.limits.is_empty());
    let limited = is_limited.then(|| greedy.search.clone());
    let weights = Weights::of(&start, &queue, &stages, |pods| {
        if stop() {
            return UsdMicrosPerHour(0);
        }
        if is_part {
            let mut alone = start.clone();
            let rest = alone.place_all(pods);
            return alone.rank(&rest).1;
        }
        let settings = Settings { search_work_units: settings.search_work_units / ALONE, ..*settings };
        cheapest_of(&parts::only(snapshot, &pods), &settings, stop, None, true).cost
    });
    let (rank, kept) = (greedy.rank(&rest), Kept::by(&greedy, &weights));
    let refused = |rest: &Rest<'_>| rest.refused.iter().map(|(_, asked)| *asked).collect::<BTreeSet<usize>>();
    let refused_by_rule = refused(&rest);
    let mut best = Best { rank, kept, weights, is_bound: true, plan: greedy, rest, is_by_rule };
    if let Some(previous) = previous {
        let ways = stages.ways();
        // Once as it was, and with its nodes once and twice more if about as many pods are new.
        let most = if (queue.len() - kind_of.len()) * 2 >= kind_of.len() { 2 } else { 0 };
        for copies in 0..=most {
            let mut attempt = start.clone();
            let left = attempt.repeat(&queue, previous, &again);
            let more = repeat::alike(&start.search, &kind_of, previous, &again, copies);
            let rest = attempt.carry_out(&left, &ways, more);
            best.consider_again(attempt, rest);
            if left.is_empty() || stop() {
                break;
            }
        }
    }
    let mut bound = None;
    let mut without_wishes: Option<Rank> = None;
    if let (Some(task), Some((wanted, all, evenly))) = (task, wanted) {
        let follows = |asked: usize| company::follows(&start.search, stages.least[asked]);
        let for_company = queue.iter().any(|(_, asked)| follows(*asked)).then(|| (wanted.clone(), all.clone()));
        let carried_out = |plan: Plan, ways: &[Way]| {
            let mut attempt = start.clone();
            let rest = attempt.carry_out(&queue, ways, plan);
            (attempt, rest)
        };
        let proven = task.solve(wanted, all, &mut |plan, ways, purpose| {
            let (attempt, rest) = carried_out(plan, ways);
            match purpose {
                Purpose::Answer => best.consider(attempt, rest),
                Purpose::Comparison => without_wishes = Some(attempt.rank(&rest)),
            }
        });
        let closed = |best: &Best<'_>| task.has_placed_all(&best.rest) && proven.cost >= best.rank.1;
        if let Some(evenly) = evenly.filter(|_| !closed(&best) && !stop()) {
            let work = settings.search_work_units / 4;
            task.plan_by_weight(evenly, &task.classes(), work, &mut |plan, ways| {
                let (attempt, rest) = carried_out(plan, ways);
                best.consider(attempt, rest);
            });
        }
        // Of few pods the cheapest plan is looked for, of many one that leaves none of these out.
        let to_mend = |best: &Best<'_>| {
            (queue.len() <= rearrange::PODS && !closed(best))
                || best.rest.refused.iter().any(|(_, asked)| follows(*asked))
        };
        if let Some((wanted, all)) = for_company
            && to_mend(&best)
        {
            task.plan_company(&wanted, &all, &mut |plan, ways| {
                let (attempt, rest) = carried_out(plan, ways);
                best.consider(attempt, rest);
                to_mend(&best)
            });
        }
        if let Some(greedy) = limited.filter(|_| !task.has_placed_all(&best.rest) && !stop()) {
            let planned = |counts: &[u64]| wanted::planned(&start.search, &task.reach, counts, &greedy, false);
            task.plan_fewer(planned, &mut |plan, ways| {
                let (attempt, rest) = carried_out(plan, ways);
                best.consider(attempt, rest);
            });
        }
        let mut beginnings = parts::first(&task, &best, snapshot, is_part);
        if !is_part {
            // A plan that places more may have given up more for it than it had to.
            let departs = !best.is_bound && best.kept.departure() > (0, &best.weights.nothing()[..]);
            let refused = if departs { refused_by_rule } else { refused(&best.rest) };
            beginnings.extend(gathered::elsewhere(&task, &refused, snapshot));
            if queue.len() <= FEW && task.has_placed_all(&best.rest) && !closed(&best) {
                beginnings.extend(gathered::anywhere(&task, snapshot));
            }
        }
        for beginning in beginnings.iter().filter(|_| !stop()) {
            // How many offerings of a node are told makes no difference to the plan.
            let work = settings.search_work_units * 3 / 4 / beginnings.len().max(3) as u64;
            let settings = Settings { search_work_units: work, max_alternatives: usize::MAX, ..*settings };
            let part = cheapest_of(beginning, &settings, stop, None, true);
            let mut attempt = start.clone();
            let again = repeat::same_again(&start.search, &part);
            let left = attempt.repeat(&queue, &part, &again);
            let rest = attempt.carry_out(&left, &stages.ways(), Plan::new(start.search.kinds.len()));
            best.consider(attempt, rest);
        }
        let is_best = !closed(&best) && !stop() && exact::improve(&task, &mut best);
        if !is_best && !closed(&best) && queue.len() <= rearrange::PODS && !stop() {
            let work = rearrange::improve(&task, &closed, &mut best);
            task.spent.set(task.spent.get() + work);
        }
        let exactly = LowerBound { cost: best.rank.1, ignores: Vec::new() };
        // Who has a limited pool of larger weight is by no rule but that the greedy one is not to be worse.
        let one_answer = task.classes().len() <= 1
            || best.is_bound && start.search.templates.iter().all(|one| one.limits.is_empty());
        bound = Some(if is_best && one_answer { exactly } else { proven }).filter(|_| task.has_placed_all(&best.rest));
        solution.search_work_units = task.spent.get();
        solution.greedy_leaves_out = left_out_by_rule.saturating_sub(left_out(&best.rest));
    }
    let less = without_wishes.filter(|(without, cost)| *without == best.rank.0 && *cost < best.rank.1);
    let more = less.map(|(_, cost)| UsdMicrosPerHour(best.rank.1.0.saturating_sub(cost.0)));
    solution.notes.extend(more.map(|more| Note::PreferencesCost { more }));
    best.plan.finish(best.rest, &mut solution);
    if !best.is_by_rule {
        by_rule.compare(&mut solution);
    }
    solution.lower_bound = bound;
    if solution.lower_bound.is_some() && !unsure.is_empty() {
        let mut without = snapshot.clone();
        without.daemons.retain(|daemon| !unsure.contains(&daemon.key));
        let roomier = cheapest(&without, settings, stop, None);
        // Only a bound for the same pods is one.
        let same = roomier.unplaced.keys().eq(solution.unplaced.keys());
        solution.lower_bound = roomier.lower_bound.filter(|_| same).map(|mut bound| {
            bound.cost = bound.cost.min(solution.cost);
            bound.ignores.push("DaemonSets that run on some of a pool's nodes only".to_owned());
            bound
        });
    }
    solution
}

#[cfg(test)]
mod after_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod price_tests;
#[cfg(test)]
mod rearrange_tests;
#[cfg(test)]
mod small_tests;
#[cfg(test)]
mod tests;
