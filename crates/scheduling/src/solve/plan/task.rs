//! What is to be planned, and the searches by price for all of it.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
};

use packing::{Budget, Packing, Warm, pack, pack_strictly};
use units::UsdMicrosPerHour;

use super::{
    super::{Greedy, Queue, Rest},
    MANY, bound,
    carry_out::{Plan, Way},
    known::Known,
    model::Model,
    reach::Reach,
    stages::Stages,
    wanted::{self, Wanted},
};
use crate::{LowerBound, NodeKey, PodKey, Target};

/// Up to so many pods, the search goes on until the plan is proven to be the cheapest or the budget ends.
pub(super) const FEW: usize = 200;
/// A bound that is worked out by itself gets a third of the work, and no more than this.
const BOUND_WORK: u64 = 40_000_000;

/// Takes plans in, with the ways of the pods and what the plan is for.
pub(super) type Offer<'o> = &'o mut dyn FnMut(Plan, &[Way], Purpose);

/// What a plan is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be the answer, if it is the best.
    Answer,
    /// To say what would be paid without wishes.
    Comparison,
}

/// What is to be planned.
pub(super) struct Task<'t, 'a> {
    pub(super) start: &'t Greedy<'a>,
    pub(super) queue: &'t Queue<'a>,
    pub(super) stages: &'t Stages,
    pub(super) reach: Reach,
    /// Where the greedy rule puts pods on nodes there are: kind and node, in the order of placing.
    pub(super) kept: Vec<(usize, usize)>,
    /// By kind: how many pods are not on nodes there are.
    pub(super) left: Vec<u64>,
    /// By kind: how many pods there are.
    pub(super) as_planned: Vec<u64>,
    /// By kind, all wishes given up: how many pods there are.
    pub(super) all: Vec<u64>,
    /// What an earlier plan tells.
    pub(super) earlier: Known,
    pub(super) stop: &'t dyn Fn() -> bool,
    /// How much work the searches have done.
    pub(super) spent: Cell<u64>,
}

impl<'t, 'a> Task<'t, 'a> {
    pub(super) fn new(
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
    pub(super) fn solve(&self, planned: Vec<Wanted>, everywhere: Vec<Wanted>, offer: Offer<'_>) -> LowerBound {
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
                return self
                    .at_a_glance()
                    .unwrap_or_else(|| self.certificate(&model, packing::prove(&model.problem, &[]), false));
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
    pub(super) fn plan_by_weight(
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
    pub(super) fn bound(
        &self,
        mut wanted: Vec<Wanted>,
        work: u64,
        weighted: bool,
        known: &Known,
        offer: Offer<'_>,
    ) -> LowerBound {
        if let Some(bound) = (self.stop)().then(|| self.at_a_glance()).flatten() {
            return bound;
        }
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

    /// A bound for when time is up, if there are so many kinds of pods that a better one takes long.
    fn at_a_glance(&self) -> Option<LowerBound> {
        let search = &self.start.search;
        let somewhere =
            |(kind, count): (usize, &u64)| (*count > 0 && !self.reach.is_nowhere(kind)).then_some((kind, *count));
        let counts = || self.all.iter().enumerate().filter_map(somewhere).collect();
        if search.kinds.len() > MANY { bound::at_a_glance(search, &counts()) } else { None }
    }

    /// The weights of pools that can have nodes for pods, the largest first.
    pub(super) fn classes(&self) -> Vec<u32> {
        let kinds = (0..self.left.len()).filter(|kind| self.left[*kind] > 0);
        let templates: BTreeSet<usize> = kinds.flat_map(|kind| self.reach.templates(kind)).collect();
        let weights = templates.iter().map(|index| self.start.search.templates[*index].pool.weight);
        weights.collect::<BTreeSet<u32>>().into_iter().rev().collect()
    }

    pub(super) fn pack(&self, model: &Model, work: u64, warm: Option<&Warm>) -> Packing {
        let settings = self.start.search.settings;
        let gap_ppm = if self.queue.len() <= FEW { 0 } else { settings.target_gap_ppm };
        // Of many kinds only some are in the model.
        let pack = if self.start.search.kinds.len() > MANY { pack_strictly } else { pack };
        let packing = pack(&model.problem, &Budget { work, stop: self.stop, gap_ppm }, warm);
        self.spent.set(self.spent.get() + packing.work_done);
        packing
    }

    /// What an earlier plan tells about a model.
    pub(super) fn warm(&self, model: &Model) -> Option<Warm> {
        (!self.earlier.is_empty()).then(|| self.earlier.of(model))
    }

    /// Whether the guard has ended the work before there was a plan of all pods: the greedy one is better than any beginning.
    pub(super) fn has_broken_off(&self, packing: &Packing) -> bool {
        !packing.unplaced.is_empty() && (self.stop)()
    }

    pub(super) fn certificate(&self, model: &Model, proven: i128, weighted: bool) -> LowerBound {
        let cost = UsdMicrosPerHour(i64::try_from(proven).unwrap_or(i64::MAX));
        let mut ignores = bound::ignored(&self.start.search, &self.reach, &model.groups);
        ignores.extend(weighted.then(|| "weights of pools".to_owned()));
        LowerBound { cost, ignores }
    }

    /// Whether all pods have a place that could have one.
    pub(super) fn has_placed_all(&self, rest: &Rest<'_>) -> bool {
        let could = |asked: usize| !self.reach.is_nowhere(self.stages.least[asked]);
        rest.untried.is_empty() && !rest.refused.iter().any(|(_, asked)| could(*asked))
    }
}

/// What any plan costs at least. Where the packing has left pods out, for a pool's limit, its prices prove it all the same.
fn proven(model: &Model, packing: &Packing) -> i128 {
    packing.lower_bound.unwrap_or_else(|| packing::prove(&model.problem, &packing.warm.prices))
}
