//! The order of things: a plan at once, then prices, better plans and a better bound in turns.

use crate::answer::{Packing, Warm, answer};
use crate::bound;
use crate::build::{Fill, build};
use crate::coarse::{Coarse, MANY};
use crate::columns::{Generation, Pattern};
use crate::exact::exact;
use crate::fluid::{Fluid, fluid};
use crate::greedy;
use crate::improve::{Dice, improve};
use crate::integer::count_nodes;
use crate::knapsack::Knapsack;
use crate::meter::{Budget, Meter};
use crate::model::{Model, Pods};
use crate::plan::{Opened, Plan, Supply, fill};
use crate::problem::Problem;
use crate::rounding::{dive, prefill};
use crate::warm::Known;

/// Steps of the first turn of column generation; turns grow from there.
const TURN: u64 = 2_000_000;
/// Rounds of column generation in a turn at least, while it goes on: with less, what follows has nothing new to begin with.
/// But not for more than this part of the work that is left.
const ROUNDS: usize = 4;
const SHARE: u64 = 8;
/// Steps of improvement for the first plan.
const GLANCE: u64 = 1_000_000;
/// Steps of refinement for a small problem that comes when the time is over already, as behind many pods: some milliseconds.
const GRANTED: u64 = 12_000_000;

/// Up to so many groups times bins, nodes are counted in every turn, and not only when column generation is through.
const SMALL: usize = 3_000;
/// To prove a bound by given prices, so many bins are searched, with so many search nodes each.
const SEARCHED: usize = 20;
const EFFORT: usize = 500;
/// Up to so many groups times bins, the first plan is a matter of some milliseconds and is made whatever the guard says.
const QUICK: usize = 200_000;
/// So many contents of nodes, the youngest, are handed on to the next solve.
const PATTERNS: usize = 1000;

/// Pack pods into bins: the cheapest plan found within the budget, and a proven bound.
///
/// There is a plan of all pods that fit, whatever work is allowed; only if the guard says so before the first one is made,
/// and there are many groups and bins, pods remain without one. Where there are few, that plan is refined for some
/// milliseconds, whenever the guard says so.
pub fn pack(problem: &Problem, budget: &Budget<'_>, warm: Option<&Warm>) -> Packing {
    packed(problem, budget, warm, GRANTED)
}

/// As [`pack`], but nothing is refined any more once the guard says so: where the problem is a part of a larger one, whose plan
/// would hardly gain by it.
pub fn pack_strictly(problem: &Problem, budget: &Budget<'_>, warm: Option<&Warm>) -> Packing {
    packed(problem, budget, warm, 0)
}

fn packed(problem: &Problem, budget: &Budget<'_>, warm: Option<&Warm>, grant: u64) -> Packing {
    let meter = Meter::new(budget);
    let granted = Meter::new(&Budget { work: grant, stop: &|| false, gap_ppm: 0 });
    let model = Model::new(problem);
    let mut solve = Solve::blank(&model, budget.gap_ppm, &meter);
    if model.groups.len() > MANY {
        solve.roughly(warm);
    } else {
        solve.at_once(warm);
        if !solve.solve_small() {
            let before = meter.spent();
            solve.refine();
            let is_cut_short = meter.over() && meter.left() > 0 && meter.spent() - before < grant;
            if is_cut_short && solve.size() <= SMALL {
                solve.meter = &granted;
                solve.refine();
            }
        }
    }
    let mut packing = answer(problem, &model, &solve.best);
    solve.claim(&mut packing);
    packing.work_done = meter.spent() + granted.spent();
    packing
}

/// A lower bound as [`Packing::lower_bound`] that such prices of pods prove (by group, as [`Packing::prices`]), without
/// looking for a plan: what any placement of all pods that fit somewhere costs at least, if there is one. Where there are
/// many groups and bins the prices are not looked at: a weaker bound, and soon.
pub fn prove(problem: &Problem, prices: &[i64]) -> i128 {
    let meter = Meter::endless();
    let model = Model::new(problem);
    let mut solve = Solve::blank(&model, 0, &meter);
    if !solve.is_quick() {
        let demand = model.demand();
        let guide = roughly_poured(&model, &demand);
        let values = bound::values(&guide.prices, solve.digits, &solve.free);
        return solve.fluid_bound(&guide, &values, &demand);
    }
    let price = |pods: &Pods| prices.get(pods.id).copied().unwrap_or(0).max(0) as f64;
    let prices: Vec<f64> = model.groups.iter().map(price).collect();
    let values = bound::values(&prices, solve.digits, &solve.free);
    solve.bound_by(&values)
}

/// The rule Karpenter packs by, for comparison; no bound, and nothing proven.
pub fn first_fit(problem: &Problem) -> Packing {
    let meter = Meter::endless();
    let model = Model::new(problem);
    let plan = greedy::first_fit(&model, &meter);
    let mut packing = answer(problem, &model, &plan);
    packing.work_done = meter.spent();
    packing
}

/// Prices that are poured but once.
fn roughly_poured(model: &Model, demand: &[u64]) -> Fluid {
    fluid(model, demand, &Meter::new(&Budget { work: 0, stop: &|| true, gap_ppm: 0 }))
}

struct Solve<'a> {
    model: &'a Model,
    meter: &'a Meter<'a>,
    gap_ppm: u32,
    digits: u32,
    free: Vec<bool>,
    knapsack: Knapsack,
    best: Plan,
    /// Proven, for all pods of the model; micro-USD per hour.
    bound: i128,
    /// Micro-USD per hour of one more pod of each group.
    prices: Vec<f64>,
    patterns: Vec<Pattern>,
    /// No plan is better, whether or not it places everything.
    settled: bool,
}

impl<'a> Solve<'a> {
    /// Nothing is placed yet.
    fn blank(model: &'a Model, gap_ppm: u32, meter: &'a Meter<'a>) -> Self {
        Self {
            model,
            meter,
            gap_ppm,
            digits: bound::digits(model),
            free: bound::free_of_charge(model),
            knapsack: Knapsack::default(),
            best: Plan { nodes: Vec::new(), missing: model.demand() },
            bound: 0,
            prices: vec![0.0; model.groups.len()],
            patterns: Vec::new(),
            settled: false,
        }
    }

    /// Whether a plan is made so soon that nobody need be asked.
    fn is_quick(&self) -> bool {
        self.size() <= QUICK
    }

    /// Groups times bins.
    fn size(&self) -> usize {
        self.model.groups.len().saturating_mul(self.model.bins.len())
    }

    /// Whether a bound is close enough to the best plan.
    fn good(&self) -> bool {
        let cost = self.best.cost(self.model);
        self.best.unplaced() == 0
            && (cost - self.bound).saturating_mul(1_000_000) <= cost.saturating_mul(i128::from(self.gap_ppm))
    }

    /// The bound at which the best plan is good enough.
    fn target(&self) -> i128 {
        let cost = self.best.cost(self.model);
        cost - cost.saturating_mul(i128::from(self.gap_ppm)) / 1_000_000
    }

    fn offer(&mut self, plan: Plan) {
        // Of plans that cost the same, the one with fewer nodes.
        let rank = |plan: &Plan| (plan.rank(self.model), plan.nodes.iter().map(|node| node.copies).sum::<u64>());
        if rank(&plan) < rank(&self.best) {
            self.best = plan;
        }
    }

    /// Prices by pouring, plans by these prices and by memory, and the bound that comes with the prices.
    fn at_once(&mut self, warm: Option<&Warm>) {
        let demand = self.model.demand();
        // The first plan is made whatever work it takes: there is always one that looked at prices.
        let first = if self.is_quick() { Meter::endless() } else { self.meter.guarded() };
        if first.over() {
            return;
        }
        let guide = fluid(self.model, &demand, &first);
        let values = bound::values(&guide.prices, self.digits, &self.free);
        self.bound = self.fluid_bound(&guide, &values, &demand);
        self.construct(&values, Fill::Relaxed, &first);
        self.construct(&values, Fill::Ratio, &first);
        let spent = first.spent();
        self.meter.spend(usize::try_from(spent).unwrap_or(usize::MAX));
        if (self.meter.over() || self.meter.left() < spent) && !first.over() && !self.good() {
            // Little will be refined: prices that were poured but once are another quick try, and sometimes the better one. It
            // begins from nothing: with what the last prices have left in mind, nodes would be filled much the same again.
            self.knapsack = Knapsack::default();
            let values = bound::values(&roughly_poured(self.model, &demand).prices, self.digits, &self.free);
            self.construct(&values, Fill::Relaxed, &first);
            self.meter.spend(usize::try_from(first.spent() - spent).unwrap_or(usize::MAX));
        }
        if !self.meter.over() {
            let plan = greedy::first_fit(self.model, self.meter);
            self.offer(plan);
        }
        // Where pods keep each other away, these plans are far from good, and a little of this mends most of it.
        if !self.good() && !self.meter.over() {
            self.improve(&values, GLANCE, &mut Dice(0xF157));
        }
        if let Some(warm) = warm {
            let known = Known::new(self.model, warm);
            if !known.is_empty() {
                self.remember(&known, &values, &first);
            }
            self.patterns.extend(known.patterns);
            if known.prices.iter().all(|price| *price <= 0.0) {
                self.prices = guide.prices;
                return;
            }
            // Where there was a price, it is a better guess than pouring: it knows what fits beside what.
            let old = known.prices.iter().zip(&guide.prices);
            self.prices = old.map(|(old, poured)| if *old > 0.0 { *old } else { *poured }).collect();
            let values = bound::values(&self.prices, self.digits, &self.free);
            if !self.meter.over() {
                self.construct(&values, Fill::Relaxed, self.meter);
            }
            if !self.meter.over() {
                self.bound = self.bound.max(self.bound_by(&values));
            }
        } else {
            self.prices = guide.prices;
        }
    }

    /// Many groups: the bound from pouring, plans from memory and from rounder groups.
    fn roughly(&mut self, warm: Option<&Warm>) {
        let demand = self.model.demand();
        let first = self.meter.guarded();
        if first.over() {
            return;
        }
        let guide = fluid(self.model, &demand, &first);
        let values = bound::values(&guide.prices, self.digits, &self.free);
        self.bound = self.fluid_bound(&guide, &values, &demand);
        self.prices = guide.prices;
        if let Some(warm) = warm {
            let known = Known::new(self.model, warm);
            self.remember(&known, &values, &first);
        }
        let coarse = Coarse::new(self.model);
        let mut solve = Solve::blank(&coarse.model, self.gap_ppm, self.meter);
        solve.at_once(None);
        for turn in 0..2 {
            let mut plan = coarse.real(self.model, &solve.best);
            fill(self.model, &mut plan.nodes, &mut plan.missing);
            plan.shrink(self.model);
            self.offer(plan);
            // The bound of the round groups is not one of the pods, but it tells when to stop refining.
            if turn == 0 && !self.good() {
                solve.refine();
            }
        }
    }

    /// The old plan, once and twice, with what is missing beside it.
    fn remember(&mut self, known: &Known, values: &[i64], meter: &Meter<'_>) {
        let model = self.model;
        let mut supply = Supply::new(model);
        let mut missing = model.demand();
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.extend(known.again(model, &mut missing, &mut supply));
            let mut plan = Plan { nodes: nodes.clone(), missing: missing.clone() };
            fill(model, &mut plan.nodes, &mut plan.missing);
            self.complete(plan, supply.clone(), values, Fill::Relaxed, meter);
        }
    }

    /// Improve the best plan for so many steps; returns the nodes of what came of it.
    fn improve(&mut self, values: &[i64], steps: u64, dice: &mut Dice) -> Vec<Opened> {
        let (model, digits, target, meter) = (self.model, self.digits, self.bound, self.meter);
        let mut plan = self.best.clone();
        improve(model, &mut plan, values, digits, target, steps, dice, &mut self.knapsack, meter);
        let nodes = plan.nodes.clone();
        self.offer(plan);
        nodes
    }

    /// Open nodes for what a plan misses, and offer it.
    fn complete(&mut self, mut plan: Plan, mut supply: Supply, values: &[i64], way: Fill, meter: &Meter<'_>) {
        let model = self.model;
        let bins: Vec<usize> = (0..model.bins.len()).collect();
        let (knapsack, missing) = (&mut self.knapsack, &mut plan.missing);
        plan.nodes.extend(build(model, &bins, values, way, missing, &mut supply, knapsack, meter));
        self.patterns.extend(plan.nodes.iter().map(|node| (node.bin, node.content.clone())));
        plan.shrink(model);
        self.offer(plan);
    }

    fn fluid_bound(&mut self, guide: &Fluid, values: &[i64], demand: &[u64]) -> i128 {
        let (model, resources) = (self.model, self.model.resources);
        let mut uppers = Vec::with_capacity(model.bins.len());
        for bin in 0..model.bins.len() {
            let amounts = &guide.amounts[bin * resources..(bin + 1) * resources];
            uppers.push(self.knapsack.bound_at(model, bin, values, demand, amounts, self.digits));
            self.meter.spend(model.bins[bin].groups.len() * (resources + 4));
        }
        bound::certified(model, demand, values, &uppers, self.digits)
    }

    /// The bound that values of pods prove.
    fn bound_by(&mut self, values: &[i64]) -> i128 {
        let (model, demand) = (self.model, self.model.demand());
        let mut uppers = Vec::with_capacity(model.bins.len());
        for bin in 0..model.bins.len() {
            self.knapsack.relax(model, bin, values, &demand, self.meter);
            uppers.push(self.knapsack.upper);
        }
        // Where the relaxation of one bin makes all the others weaker, it is worth a search.
        let mut searched = vec![false; model.bins.len()];
        for _ in 0..SEARCHED {
            let Some(bin) = bound::tightest(model, &uppers).filter(|bin| !searched[*bin]) else { break };
            searched[bin] = true;
            self.knapsack.relax(model, bin, values, &demand, self.meter);
            self.knapsack.search(model, bin, 0, EFFORT, self.meter);
            uppers[bin] = self.knapsack.upper;
        }
        bound::certified(model, &demand, values, &uppers, self.digits)
    }

    fn construct(&mut self, values: &[i64], fill: Fill, meter: &Meter<'_>) {
        let model = self.model;
        let mut supply = Supply::new(model);
        let mut missing = model.demand();
        let knapsack = &mut self.knapsack;
        let nodes = prefill(model, values, self.digits, &mut missing, &mut supply, knapsack, meter);
        self.complete(Plan { nodes, missing }, supply, values, fill, meter);
    }

    /// Solve a very small problem exactly; says whether it was one.
    fn solve_small(&mut self) -> bool {
        if self.good() || self.meter.over() {
            return false;
        }
        let Some(plan) = exact(self.model, &self.best, self.meter) else { return false };
        self.offer(plan);
        self.settled = true;
        if self.best.unplaced() == 0 {
            self.bound = self.best.cost(self.model);
        }
        true
    }

    /// Improve plan and bound in turns until they meet, nothing helps or the budget ends.
    fn refine(&mut self) {
        if self.good() || self.meter.over() {
            return;
        }
        let mut dice = Dice(0x5EED);
        let generation = Generation::new(self.model, self.prices.clone(), &self.patterns);
        let mut turn = TURN;
        let mut more = generation.is_some();
        let Some(mut generation) = generation else { return };
        let mut idle = 0;
        while !self.good() && !self.meter.over() && idle < 3 {
            let before = (self.best.rank(self.model), self.bound);
            let end = self.meter.spent().saturating_add(turn);
            let enough = self.meter.spent().saturating_add(self.meter.left() / SHARE);
            let had_more = more;
            let target = self.target();
            let mut rounds = 0;
            while more && (self.meter.spent() < end || (rounds < ROUNDS && self.meter.spent() < enough)) {
                rounds += 1;
                more = generation.step(&mut self.knapsack, target, self.meter);
                self.bound = self.bound.max(generation.bound);
            }
            if !self.good() && (!more || self.size() <= SMALL) {
                self.count_nodes(&generation, turn, &mut dice);
            }
            if self.good() {
                break;
            }
            let values = generation.values(&generation.duals());
            if had_more
                && let Some(plan) = dive(&generation, self.model, &values, self.digits, &mut self.knapsack, self.meter)
            {
                self.offer(plan);
            }
            for node in &self.improve(&values, turn, &mut dice) {
                more |= generation.add(node.bin, &node.content);
            }
            turn = turn.saturating_mul(2).min(64 * TURN);
            idle = if (self.best.rank(self.model), self.bound) == before { idle + 1 } else { 0 };
        }
        if generation.bound > 0 {
            self.prices.clone_from(&generation.prices);
        }
        self.patterns = generation.patterns;
    }

    /// The bound that knows that nodes are whole; and if it names the nodes, a try to pack into just those.
    fn count_nodes(&mut self, generation: &Generation<'_>, steps: u64, dice: &mut Dice) {
        let model = self.model;
        let (best, bound, knapsack) = (self.best.cost(model), self.bound, &mut self.knapsack);
        if self.best.unplaced() > 0 {
            return;
        }
        let counts = count_nodes(model, &self.free, &generation.cuts, best, bound, steps, knapsack, self.meter);
        self.bound = self.bound.max(counts.bound);
        let Some(nodes) = counts.nodes else { return };
        let mut only = model.clone();
        for bin in &mut only.bins {
            bin.stock = 0;
        }
        for (bin, count) in nodes {
            only.bins[bin].stock = count;
        }
        let values = generation.values(&generation.prices);
        let bins: Vec<usize> = (0..only.bins.len()).collect();
        let mut missing = only.demand();
        let mut supply = Supply::new(&only);
        let nodes = build(&only, &bins, &values, Fill::Relaxed, &mut missing, &mut supply, knapsack, self.meter);
        let mut plan = Plan { nodes, missing };
        improve(&only, &mut plan, &values, self.digits, 0, steps / 4, dice, knapsack, self.meter);
        self.offer(plan);
    }

    fn claim(&self, packing: &mut Packing) {
        if self.best.unplaced() == 0 {
            let bound = self.bound.min(packing.cost);
            packing.lower_bound = Some(bound);
            packing.proven_optimal = bound == packing.cost;
        }
        packing.proven_optimal |= self.settled;
        for (pods, price) in self.model.groups.iter().zip(&self.prices) {
            packing.prices[pods.id] = price.round() as i64;
        }
        packing.warm.prices.clone_from(&packing.prices);
        let used = self.patterns.iter().rev().take(PATTERNS).rev();
        let named = |content: &[(usize, u64)]| {
            content.iter().map(|&(group, count)| (self.model.groups[group].id, count)).collect()
        };
        packing.warm.patterns = used.map(|(bin, content)| (self.model.bins[*bin].id, named(content))).collect();
    }
}
