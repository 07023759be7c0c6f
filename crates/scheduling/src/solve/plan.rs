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
//! Where limits leave pods without a place, fewer are planned, dealt out anew (`fewer`), and some of the pods before the others
//! (`parts`). If nothing is proven, `exact` tries every way for the fewest pods, and `rearrange` changes the best plan node by
//! node. A plan counts as cheaper only if it gives up no more wishes than the greedy one and puts no more pods on pools of less
//! weight than these or others need (`kept`).
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
mod parts;
mod ports;
mod promote;
mod reach;
mod rearrange;
mod repeat;
mod stages;
mod together;
mod wanted;

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use packing::{Budget, Packing, Warm, pack};
use units::UsdMicrosPerHour;

use self::{
    best::{Best, ByRule},
    carry_out::{Plan, Way},
    kept::Kept,
    known::Known,
    model::Model,
    reach::Reach,
    stages::Stages,
    wanted::Wanted,
};
use super::{Greedy, Queue, Rank, Rest, axis::Axis, prepare};
use crate::{LowerBound, NodeKey, Note, PodKey, Settings, Snapshot, Solution, Target};

/// Up to so many pods, the search goes on until the plan is proven to be the cheapest or the budget ends.
const FEW: usize = 200;
/// If there are more kinds of pods and the guard says that time is up when the greedy plan is there, that plan is it.
const MANY: usize = 300;
/// Of so many nodes there are the bound takes account; if there are more, it leaves out the pods that fit on them.
const EXISTING: usize = 300;
/// A bound that is worked out by itself gets a third of the work, and no more than this.
const BOUND_WORK: u64 = 40_000_000;

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
    let left_out = |rest: &Rest<'_>| rest.refused.len() + rest.untried.len();
    let left_out_by_rule = left_out(&rest);
    let unsure: BTreeSet<&PodKey> =
        start.search.templates.iter().flat_map(|one| one.unsure_daemons.iter().copied()).collect();
    if previous.is_none() && !out_of_work && start.search.kinds.len() > MANY && stop() {
        let bound = bound::at_a_glance(&start.search, &stages.counts(&queue));
        let bound = bound.filter(|_| unsure.is_empty());
        greedy.merge(0);
        greedy.finish(rest, &mut solution);
        solution.greedy_cost = Some(by_rule.rank.1);
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
    let mut best = Best { rank: greedy.rank(&rest), kept: Kept::by(&greedy), plan: greedy, rest, is_by_rule };
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
            beginnings.extend(gathered::elsewhere(&task, &best, snapshot));
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
        let one_answer = task.classes().len() <= 1 || start.search.templates.iter().all(|one| one.limits.is_empty());
        bound = Some(if is_best && one_answer { exactly } else { proven }).filter(|_| task.has_placed_all(&best.rest));
        solution.search_work_units = task.spent.get();
        solution.greedy_cost = Some(by_rule.rank.1);
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

/// Takes plans in, with the ways of the pods and what the plan is for.
type Offer<'o> = &'o mut dyn FnMut(Plan, &[Way], Purpose);

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To be the answer, if it is the best.
    Answer,
    /// To say what would be paid without wishes.
    Comparison,
}

/// What is to be planned.
struct Task<'t, 'a> {
    start: &'t Greedy<'a>,
    queue: &'t Queue<'a>,
    stages: &'t Stages,
    reach: Reach,
    /// Where the greedy rule puts pods on nodes there are: kind and node, in the order of placing.
    kept: Vec<(usize, usize)>,
    /// By kind: how many pods are not on nodes there are.
    left: Vec<u64>,
    /// By kind: how many pods there are.
    as_planned: Vec<u64>,
    /// By kind, all wishes given up: how many pods there are.
    all: Vec<u64>,
    /// What an earlier plan tells.
    earlier: Known,
    stop: &'t dyn Fn() -> bool,
    /// How much work the searches have done.
    spent: Cell<u64>,
}

impl<'t, 'a> Task<'t, 'a> {
    fn new(
        start: &'t Greedy<'a>,
        queue: &'t Queue<'a>,
        stages: &'t Stages,
        greedy: &Greedy<'a>,
        earlier: Known,
        stop: &'t dyn Fn() -> bool,
    ) -> Self {
        let kinds = start.search.kinds.len();
        let there = start.search.existing.iter().enumerate().map(|(index, there)| (&there.node.key, index));
        let there: BTreeMap<&NodeKey, usize> = there.collect();
        let on_existing = greedy.placed.iter().filter_map(|(key, placement)| match &placement.node {
            Target::Existing(node) => Some((*key, there[node])),
            Target::New(_) => None,
        });
        let on_existing: BTreeMap<&PodKey, usize> = on_existing.collect();
        let (mut left, mut as_planned, mut all) = (vec![0; kinds], vec![0; kinds], vec![0; kinds]);
        let mut kept = Vec::new();
        for (pod, asked) in queue {
            let (kind, _) = stages.planned[*asked];
            as_planned[kind] += 1;
            all[stages.least[*asked]] += 1;
            match if on_existing.is_empty() { None } else { on_existing.get(&pod.key) } {
                Some(node) => kept.push((kind, *node)),
                None => left[kind] += 1,
            }
        }
        let (reach, spent) = (Reach::of(&start.search), Cell::new(0));
        Self { start, queue, stages, reach, kept, left, as_planned, all, earlier, stop, spent }
    }

    /// Offers plans and says what no plan can cost less than.
    ///
    /// `planned` is for the pods that are not on nodes there are, `everywhere` for all of them.
    fn solve(&self, planned: Vec<Wanted>, everywhere: Vec<Wanted>, offer: Offer<'_>) -> LowerBound {
        let search = &self.start.search;
        let work = search.settings.search_work_units;
        let classes = self.classes();
        let unavoidable = wanted::unavoidable(search, &self.reach, &self.all);
        let on_existing = unavoidable.iter().any(|wanted| !self.reach.existing(wanted.kind).is_empty());
        let is_plain = search.templates.iter().all(|template| template.min_values.is_empty());
        if classes.len() <= 1 && !on_existing && is_plain && planned == unavoidable {
            let model = Model::of(search, &self.reach, planned);
            let packing = self.pack(&model, work, self.warm(&model).as_ref());
            if self.has_broken_off(&packing) {
                return self.certificate(&model, packing::prove(&model.problem, &[]), false);
            }
            let mut plan = Plan::new(self.left.len());
            plan.add(&model, &packing);
            offer(plan, &self.stages.ways(), Purpose::Answer);
            return self.certificate(&model, proven(&model, &packing), false);
        }
        let share = (work / 3).min(BOUND_WORK);
        let weighted = classes.len() > 1;
        // Where the bound's model says the same of all pods, its plan will do.
        let differs = weighted || !is_plain || everywhere != unavoidable;
        let there = self.there(&everywhere).filter(|there| differs && !there.is_empty() && !(self.stop)());
        let first = if there.is_some() { (work - share) / 4 } else { work - share };
        let mut known =
            self.plan_by_weight(planned, &classes, first, &mut |plan, ways| offer(plan, ways, Purpose::Answer));
        if there.is_some() {
            let answer = &mut |plan: Plan, ways: &[Way]| offer(plan, ways, Purpose::Answer);
            self.plan_everywhere(everywhere, work - share - first, &mut known, answer);
        }
        self.bound(unavoidable, share, weighted, &known, offer)
    }

    /// Plans pool by pool, those of the largest weight first, with what the greedy rule put on nodes there are.
    fn plan_by_weight(
        &self,
        mut wanted: Vec<Wanted>,
        classes: &[u32],
        work: u64,
        offer: &mut dyn FnMut(Plan, &[Way]),
    ) -> Known {
        let mut known = Known::default();
        let search = &self.start.search;
        let mut plan = Plan::new(self.left.len());
        for &(kind, existing) in &self.kept {
            plan.keep(kind, existing);
        }
        for (index, weight) in classes.iter().enumerate() {
            let of_class = |template: &usize| search.templates[*template].pool.weight == *weight;
            let (now, later): (Vec<_>, Vec<_>) =
                wanted.into_iter().partition(|wanted| wanted.templates.iter().any(of_class));
            let only = |mut wanted: Wanted| {
                wanted.templates.retain(of_class);
                wanted
            };
            let model = Model::to_plan(search, &self.reach, now.iter().cloned().map(only).collect());
            let work = work / (classes.len() - index) as u64;
            let packing = self.pack(&model, work, self.warm(&model).as_ref());
            if self.has_broken_off(&packing) {
                return known;
            }
            plan.add(&model, &packing);
            known.learn(&model, &packing.warm);
            wanted = later;
            for (group, count) in &packing.unplaced {
                let mut left = now[*group].clone();
                left.count = *count;
                left.templates.retain(|template| !of_class(template));
                wanted.push(left);
            }
        }
        offer(plan, &self.stages.ways());
        known.left_out = wanted.iter().map(|wanted| (wanted.kind, wanted.count.saturating_mul(wanted.pods))).collect();
        known
    }

    /// Works the bound out by itself: for all pods, on the nodes there are too, in whichever pool, beginning with what is
    /// known. Its plan is one to look at: it may keep weights and wishes, too.
    fn bound(&self, mut wanted: Vec<Wanted>, work: u64, weighted: bool, known: &Known, offer: Offer<'_>) -> LowerBound {
        let search = &self.start.search;
        let all = self.there(&wanted).is_some();
        if !all {
            wanted.retain(|wanted| self.reach.existing(wanted.kind).is_empty());
        }
        let mut model = Model::of(search, &self.reach, wanted);
        model.add_existing(search, &self.reach);
        // Limits stop plans, not the proof.
        model.problem.limits.clear();
        let named = |mut bound: LowerBound| {
            bound.ignores.extend((!all).then(|| "pods that fit on nodes there are, for these are many".to_owned()));
            bound
        };
        let warm = known.of(&model);
        if (self.stop)() {
            let proven = packing::prove(&model.problem, &warm.prices);
            return named(self.certificate(&model, proven, weighted));
        }
        let packing = self.pack(&model, work, Some(&warm));
        let plan = || {
            let mut plan = Plan::new(self.left.len());
            plan.add(&model, &packing);
            plan
        };
        if all {
            offer(plan(), &self.stages.wishful_ways(self.start), Purpose::Answer);
        }
        if all && self.stages.have_wishes() {
            offer(plan(), &self.stages.wishless_ways(self.start), Purpose::Comparison);
        }
        named(self.certificate(&model, proven(&model, &packing), weighted))
    }

    /// The weights of pools that can have nodes for pods, the largest first.
    fn classes(&self) -> Vec<u32> {
        let kinds = (0..self.left.len()).filter(|kind| self.left[*kind] > 0);
        let templates: BTreeSet<usize> = kinds.flat_map(|kind| self.reach.templates(kind)).collect();
        let weights = templates.iter().map(|index| self.start.search.templates[*index].pool.weight);
        weights.collect::<BTreeSet<u32>>().into_iter().rev().collect()
    }

    fn pack(&self, model: &Model, work: u64, warm: Option<&Warm>) -> Packing {
        let settings = self.start.search.settings;
        let gap_ppm = if self.queue.len() <= FEW { 0 } else { settings.target_gap_ppm };
        let packing = pack(&model.problem, &Budget { work, stop: self.stop, gap_ppm }, warm);
        self.spent.set(self.spent.get() + packing.work_done);
        packing
    }

    /// What an earlier plan tells about a model.
    fn warm(&self, model: &Model) -> Option<Warm> {
        (!self.earlier.is_empty()).then(|| self.earlier.of(model))
    }

    /// Whether the guard has ended the work before there was a plan of all pods: the greedy one is better than any beginning.
    fn has_broken_off(&self, packing: &Packing) -> bool {
        !packing.unplaced.is_empty() && (self.stop)()
    }

    fn certificate(&self, model: &Model, proven: i128, weighted: bool) -> LowerBound {
        let cost = UsdMicrosPerHour(i64::try_from(proven).unwrap_or(i64::MAX));
        let mut ignores = bound::ignored(&self.start.search, &model.groups);
        ignores.extend(weighted.then(|| "weights of pools".to_owned()));
        LowerBound { cost, ignores }
    }

    /// Whether all pods have a place that could have one.
    fn has_placed_all(&self, rest: &Rest<'_>) -> bool {
        let could = |asked: usize| !self.reach.is_nowhere(self.stages.least[asked]);
        rest.untried.is_empty() && !rest.refused.iter().any(|(_, asked)| could(*asked))
    }
}

/// What any plan costs at least. Where the packing has left pods out, for a pool's limit, its prices prove it all the same.
fn proven(model: &Model, packing: &Packing) -> i128 {
    packing.lower_bound.unwrap_or_else(|| packing::prove(&model.problem, &packing.warm.prices))
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
