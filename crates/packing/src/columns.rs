//! Column generation: prices of pods and contents of nodes that improve each other, and the bound on the way.
//!
//! The covering program knows some contents of nodes and finds the cheapest mix; its dual prices say what pods are worth;
//! a knapsack per bin looks for content worth more than the bin costs, which becomes a new column. At any time the prices,
//! scaled down, give a proven bound, so the work may stop whenever it has to. Bins that run out are not in the program:
//! they are filled first, and only the bound counts them.

use std::collections::BTreeSet;

use crate::bound;
use crate::knapsack::Knapsack;
use crate::meter::Meter;
use crate::model::{Model, UNLIMITED};
use crate::simplex::{Column, Cover};

/// Every so many rounds all bins are priced, and a bound is computed.
const FULL_EVERY: usize = 6;
/// Search nodes for one knapsack in the beginning, and at most.
const EFFORT: (usize, usize) = (500, 200_000);
/// More columns are not kept in mind.
const COLUMNS: usize = 20_000;

pub(crate) type Pattern = (usize, Vec<(usize, u64)>);

/// Integer values of pods, and for each bin what no content of it exceeds.
pub(crate) type Cut = (Vec<i64>, Vec<i128>);

#[derive(Debug)]
pub(crate) struct Generation<'a> {
    model: &'a Model,
    demand: Vec<u64>,
    digits: u32,
    free: Vec<bool>,
    row_of: Vec<Option<usize>>,
    pub(crate) cover: Cover,
    /// Contents, in the order of the cover's columns.
    pub(crate) patterns: Vec<Pattern>,
    known: BTreeSet<Pattern>,
    /// Prices of the best bound, micro-USD per hour.
    pub(crate) prices: Vec<f64>,
    pub(crate) bound: i128,
    /// Values and uppers of the rounds that improved the bound, oldest first.
    pub(crate) cuts: Vec<Cut>,
    round: usize,
    /// How much of the best prices goes into the next ones.
    smoothing: f64,
    full_next: bool,
    effort: usize,
    /// Value over price of each bin when it was last priced: who is likely to bring a column.
    promise: Vec<f64>,
}

impl<'a> Generation<'a> {
    /// `None` when no group fits an endless bin.
    pub(crate) fn new(model: &'a Model, prices: Vec<f64>, patterns: &[Pattern]) -> Option<Self> {
        let demand = model.demand();
        let endless: Vec<usize> = (0..model.bins.len()).filter(|&bin| model.bins[bin].stock == UNLIMITED).collect();
        let mut row_of = vec![None; demand.len()];
        let (mut need, mut first, mut singles) = (Vec::new(), Vec::new(), Vec::new());
        for group in 0..demand.len() {
            let per_node = |bin: usize| model.room(bin, group).min(demand[group]);
            let each = endless.iter().copied().filter(|&bin| per_node(bin) > 0);
            let price = |bin: usize| model.bins[bin].price as f64 / per_node(bin) as f64;
            if let Some(bin) = each.min_by(|&a, &b| price(a).total_cmp(&price(b))) {
                row_of[group] = Some(need.len());
                first.push(Column {
                    cost: model.bins[bin].price as f64,
                    rows: vec![(need.len(), per_node(bin) as f64)],
                });
                singles.push((bin, vec![(group, per_node(bin))]));
                need.push(demand[group] as f64);
            }
        }
        if need.is_empty() {
            return None;
        }
        let cover = Cover::new(&need, first);
        let mut generation = Self {
            model,
            demand,
            digits: bound::digits(model),
            free: bound::free_of_charge(model),
            row_of,
            cover,
            known: singles.iter().cloned().collect(),
            patterns: singles,
            prices,
            bound: 0,
            cuts: Vec::new(),
            round: 0,
            smoothing: 0.5,
            full_next: true,
            effort: EFFORT.0,
            promise: vec![f64::INFINITY; model.bins.len()],
        };
        for (bin, content) in patterns {
            generation.add(*bin, content);
        }
        Some(generation)
    }

    /// Add a column unless it is known.
    pub(crate) fn add(&mut self, bin: usize, content: &[(usize, u64)]) -> bool {
        if self.model.bins[bin].stock != UNLIMITED
            || self.patterns.len() >= COLUMNS
            || !self.known.insert((bin, content.to_vec()))
        {
            return false;
        }
        let rows = content.iter().filter_map(|&(group, count)| Some((self.row_of[group]?, count as f64))).collect();
        self.cover.add(Column { cost: self.model.bins[bin].price as f64, rows });
        self.patterns.push((bin, content.to_vec()));
        true
    }

    /// The program's own prices.
    pub(crate) fn duals(&self) -> Vec<f64> {
        self.row_of.iter().map(|row| row.map_or(0.0, |row| self.cover.duals()[row].max(0.0))).collect()
    }

    pub(crate) fn values(&self, prices: &[f64]) -> Vec<i64> {
        bound::values(prices, self.digits, &self.free)
    }

    /// One round: solve, price, add columns. Returns whether another round can bring anything.
    pub(crate) fn step(&mut self, knapsack: &mut Knapsack, target: i128, meter: &Meter<'_>) -> bool {
        let model = self.model;
        if !self.cover.solve(meter) && meter.over() {
            return false;
        }
        let duals = self.duals();
        let mix = |(best, dual): (&f64, &f64)| self.smoothing * best + (1.0 - self.smoothing) * dual;
        let prices: Vec<f64> = self.prices.iter().zip(&duals).map(mix).collect();
        let values = self.values(&prices);
        let full = self.full_next || self.round.is_multiple_of(FULL_EVERY);
        self.round += 1;
        let mut bins: Vec<usize> = (0..model.bins.len()).collect();
        if !full {
            bins.sort_by(|&a, &b| self.promise[b].total_cmp(&self.promise[a]).then(a.cmp(&b)));
            bins.truncate(model.bins.len().div_ceil(FULL_EVERY).max(8));
        }
        let mut uppers = vec![0_i128; model.bins.len()];
        let mut achieved = 0.0_f64;
        let mut added = 0;
        for &bin in &bins {
            knapsack.relax(model, bin, &values, &self.demand, meter);
            uppers[bin] = knapsack.upper;
            added += self.consider(bin, &duals, knapsack);
            let share = self.share(bin, knapsack.value);
            self.promise[bin] = self.share(bin, knapsack.upper);
            if model.bins[bin].stock == UNLIMITED {
                achieved = achieved.max(share);
            }
            if meter.over() {
                return false;
            }
        }
        let mut exact = false;
        if full {
            exact = self.sharpen(&values, &duals, &mut uppers, achieved, &mut added, knapsack, meter);
            let bound = bound::certified(model, &self.demand, &values, &uppers, self.digits);
            if bound > self.bound {
                self.bound = bound;
                let worst = (0..model.bins.len()).filter(|&bin| model.bins[bin].stock == UNLIMITED);
                let worst = worst.map(|bin| self.share(bin, uppers[bin])).fold(0.0, f64::max);
                let scale = if worst > 0.0 { 1.0 / worst } else { 1.0 };
                self.prices = prices.iter().map(|price| price * scale).collect();
                self.cuts.push((values, uppers));
            }
        }
        if self.bound >= target {
            return false;
        }
        if added > 0 {
            self.full_next = false;
            self.smoothing = 0.5;
        } else if !full {
            self.full_next = true;
        } else if self.smoothing > 0.0 {
            self.smoothing = if self.smoothing > 0.3 { 0.25 } else { 0.0 };
        } else if exact || self.effort >= EFFORT.1 {
            return false;
        } else {
            self.effort *= 8;
        }
        true
    }

    /// Content worth more than its price, at the program's own prices, becomes a column.
    fn consider(&mut self, bin: usize, duals: &[f64], knapsack: &Knapsack) -> usize {
        let price = self.model.bins[bin].price as f64;
        let worth: f64 = knapsack.content.iter().map(|&(group, count)| duals[group] * count as f64).sum();
        let gains = worth > price + 1e-6 * price.max(1.0);
        usize::from(gains && self.add(bin, &knapsack.content.clone()))
    }

    fn share(&self, bin: usize, value: i128) -> f64 {
        let price = (i128::from(self.model.bins[bin].price) << self.digits) as f64;
        value as f64 / price.max(1.0)
    }

    /// Search the bins that scale the prices most, until the worst of them is exact. Returns whether that was reached.
    #[expect(clippy::too_many_arguments, reason = "one step of `step`, split off for reading")]
    fn sharpen(
        &mut self,
        values: &[i64],
        duals: &[f64],
        uppers: &mut [i128],
        mut achieved: f64,
        added: &mut usize,
        knapsack: &mut Knapsack,
        meter: &Meter<'_>,
    ) -> bool {
        let model = self.model;
        let mut done = vec![false; model.bins.len()];
        let mut misses = 0;
        while !meter.over() {
            let endless = (0..model.bins.len()).filter(|&bin| model.bins[bin].stock == UNLIMITED && !done[bin]);
            let shares = endless.map(|bin| (self.share(bin, uppers[bin]), bin));
            let Some((share, bin)) = shares.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) else { return true };
            if share <= achieved * (1.0 + 1e-9) {
                return true;
            }
            if misses >= 3 {
                return false;
            }
            let price = (i128::from(model.bins[bin].price) << self.digits) as f64;
            knapsack.relax(model, bin, values, &self.demand, meter);
            let complete = knapsack.search(model, bin, (price * achieved) as i128, self.effort, meter);
            uppers[bin] = knapsack.upper;
            *added += self.consider(bin, duals, knapsack);
            achieved = achieved.max(self.share(bin, knapsack.value));
            done[bin] = true;
            if !complete && self.share(bin, uppers[bin]) > achieved * (1.0 + 1e-9) {
                misses += 1;
            }
        }
        false
    }
}
