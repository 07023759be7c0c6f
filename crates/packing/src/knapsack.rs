//! The most valuable content of one node, and a proof that there is no better one.
//!
//! Values are integers. For any prices `u >= 0` of the node's amounts, no content is worth more than
//! `u · capacity + sum over groups of max(0, value - u · request) * bound` (Lagrange); the linear relaxation supplies a
//! good `u`, and the sum is done in integers. Where that is not tight, a depth-first search over the counts closes it: a
//! count away from what `u` prefers costs its reduced value, and what the bound cannot afford is not visited.

use crate::meter::Meter;
use crate::model::{Model, take};
use crate::relax::Relaxation;

/// Binary digits of the fraction in `u`.
const FRACTION: u32 = 24;

/// Values of pods, as integers: 2^scale of them are one micro-USD per hour.
pub(crate) type Values = [i64];

#[derive(Debug, Default)]
pub(crate) struct Knapsack {
    relaxation: Relaxation,
    items: Vec<Item>,
    /// Rows in the relaxation: those that can be full, resources first, then labels.
    rows: Vec<Row>,
    /// For each resource, and behind them each label that can have a row: its index in `rows`, if it is one.
    row_of: Vec<usize>,
    /// For each of these how much all items together would take; of a label, how many of them have it.
    wanted: Vec<i128>,
    /// What all there is of each of these was worth when it was last priced: the guess for the next relaxation.
    worth: Vec<f64>,
    guess: Vec<f64>,
    /// Prices of amounts, times 2^FRACTION, one per entry of `rows`.
    duals: Vec<i64>,
    /// The relaxed bound, times 2^FRACTION.
    lagrange: i128,
    /// Best content found.
    pub(crate) content: Vec<(usize, u64)>,
    pub(crate) value: i128,
    /// No content is worth more.
    pub(crate) upper: i128,
    order: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Row {
    Resource(usize),
    /// By its index among those that can have a row.
    Label(usize),
}

/// No row.
const NONE: usize = usize::MAX;

#[derive(Clone, Copy, Debug)]
struct Item {
    group: usize,
    value: i64,
    bound: u64,
    /// Value less the price of what it takes, times 2^FRACTION.
    reduced: i128,
}

impl Knapsack {
    /// Relax, round down and fill up: sets `content`, `value` and `upper`.
    pub(crate) fn relax(&mut self, model: &Model, bin: usize, values: &Values, bounds: &[u64], meter: &Meter<'_>) {
        self.prepare(model, bin, values, bounds);
        let resources = model.resources;
        let place = |row: &Row| match *row {
            Row::Resource(at) => at,
            Row::Label(at) => resources + at,
        };
        self.guess.clear();
        self.guess.extend(self.rows.iter().map(|row| self.worth[place(row)]));
        let steps = self.relaxation.solve(&self.guess);
        for (row, dual) in self.rows.iter().zip(&self.relaxation.dual) {
            self.worth[place(row)] = dual.max(0.0);
        }
        meter.spend(steps + self.items.len() * 8);
        self.bound(model, bin);
        self.round(model, bin);
    }

    /// Fill by value per share taken, without solving anything. `upper` is not set.
    pub(crate) fn ratio(&mut self, model: &Model, bin: usize, values: &Values, bounds: &[u64], meter: &Meter<'_>) {
        self.prepare(model, bin, values, bounds);
        self.relaxation.solution.clear();
        self.relaxation.solution.resize(self.items.len(), 0.0);
        for (at, item) in self.items.iter_mut().enumerate() {
            let share: f64 = self.relaxation.takes(at).iter().map(|(_, amount)| amount).sum();
            item.reduced = -((share * 1e12) as i128).max(1);
        }
        meter.spend(self.items.len() * 12);
        self.round(model, bin);
    }

    /// An upper bound on any content's value from given prices of amounts, without solving anything.
    pub(crate) fn bound_at(
        &mut self,
        model: &Model,
        bin: usize,
        values: &Values,
        bounds: &[u64],
        amounts: &[f64],
        digits: u32,
    ) -> i128 {
        self.prepare(model, bin, values, bounds);
        let capacity = &model.bins[bin].capacity;
        let unit = f64::from(1_u32 << digits);
        let dual = self.rows.iter().map(|row| match *row {
            Row::Resource(at) => amounts[at] * capacity[at] as f64 * unit,
            Row::Label(_) => 0.0,
        });
        self.relaxation.dual = dual.collect();
        self.bound(model, bin);
        self.upper
    }

    fn prepare(&mut self, model: &Model, bin: usize, values: &Values, bounds: &[u64]) {
        let kind = &model.bins[bin];
        self.items.clear();
        for &group in &kind.groups {
            if values[group] > 0 && bounds[group] > 0 {
                let bound = model.room_in(&kind.capacity, group).min(bounds[group]);
                self.items.push(Item { group, value: values[group], bound, reduced: 0 });
            }
        }
        let (resources, labels) = (model.resources, model.label_rows.len());
        self.wanted.clear();
        self.wanted.resize(resources + labels, 0);
        self.worth.resize(resources + labels, 1.0);
        for item in &self.items {
            let pods = &model.groups[item.group];
            for &(resource, asked) in &pods.asks {
                self.wanted[resource] += i128::from(asked).saturating_mul(i128::from(item.bound));
            }
            for &label in &pods.label_rows {
                self.wanted[resources + label] += i128::from(item.bound);
            }
        }
        // A row that everything together cannot fill says nothing.
        self.rows.clear();
        let full = |at: &usize| self.wanted[*at] > kind.capacity.get(*at).map_or(1, |there| i128::from(*there));
        self.rows.extend((0..resources).filter(full).map(Row::Resource));
        self.rows.extend((resources..resources + labels).filter(full).map(|at| Row::Label(at - resources)));
        self.row_of.clear();
        self.row_of.resize(resources + labels, NONE);
        for (index, row) in self.rows.iter().enumerate() {
            match *row {
                Row::Resource(at) => self.row_of[at] = index,
                Row::Label(at) => self.row_of[resources + at] = index,
            }
        }
        let row_of = &self.row_of;
        self.relaxation.clear(self.rows.len());
        for item in &self.items {
            let pods = &model.groups[item.group];
            let share = |(at, asked): &(usize, i64)| (row_of[*at], *asked as f64 / kind.capacity[*at] as f64);
            let labels = pods.label_rows.iter().map(|at| (row_of[resources + at], 1.0));
            let takes = pods.asks.iter().map(share).chain(labels).filter(|(row, _)| *row != NONE);
            self.relaxation.column(item.value as f64, item.bound as f64, takes);
        }
    }

    /// The Lagrangian bound, in integers, at the relaxation's prices.
    fn bound(&mut self, model: &Model, bin: usize) {
        let kind = &model.bins[bin];
        self.duals.clear();
        self.lagrange = 0;
        for (row, dual) in self.rows.iter().zip(&self.relaxation.dual) {
            let there = match *row {
                Row::Resource(at) => kind.capacity[at],
                Row::Label(_) => 1,
            };
            let price = (dual.max(0.0) / there as f64 * f64::from(1_u32 << FRACTION)).round() as i64;
            self.duals.push(price);
            self.lagrange = self.lagrange.saturating_add(i128::from(price).saturating_mul(i128::from(there)));
        }
        for item in &mut self.items {
            let pods = &model.groups[item.group];
            let mut reduced = i128::from(item.value) << FRACTION;
            for &(resource, asked) in &pods.asks {
                if let Some(price) = self.duals.get(self.row_of[resource]) {
                    reduced = reduced.saturating_sub(i128::from(*price).saturating_mul(i128::from(asked)));
                }
            }
            for label in &pods.label_rows {
                if let Some(price) = self.duals.get(self.row_of[model.resources + label]) {
                    reduced = reduced.saturating_sub(i128::from(*price));
                }
            }
            item.reduced = reduced;
            self.lagrange = self.lagrange.saturating_add(reduced.max(0).saturating_mul(i128::from(item.bound)));
        }
        self.upper = self.lagrange >> FRACTION;
    }

    /// Round the relaxed content down, then add what brings most for what it takes.
    fn round(&mut self, model: &Model, bin: usize) {
        let kind = &model.bins[bin];
        let mut free = kind.capacity.clone();
        let mut labels: Vec<u32> = Vec::new();
        let mut counts: Vec<u64> = vec![0; self.items.len()];
        self.order.clear();
        self.order.extend(0..self.items.len());
        let relaxation = &self.relaxation;
        let items = &self.items;
        // What is worth most per price of its amounts, first; that is `value / (value - reduced)`.
        let worth: Vec<f64> = items.iter().map(|item| item.reduced as f64 / item.value as f64).collect();
        self.order.sort_unstable_by(|&a, &b| worth[b].total_cmp(&worth[a]).then(a.cmp(&b)));
        for whole in [true, false] {
            for &at in &self.order {
                let item = &items[at];
                let pods = &model.groups[item.group];
                if pods.labels.iter().any(|label| labels.contains(label)) {
                    continue;
                }
                let left = item.bound - counts[at];
                let wanted = if whole { ((relaxation.solution[at] + 1e-6) as u64).min(left) } else { left };
                let count = wanted.min(model.room_in(&free, item.group));
                if count > 0 {
                    take(&mut free, &pods.asks, count);
                    labels.extend_from_slice(&pods.labels);
                    counts[at] += count;
                }
            }
        }
        self.keep(&counts);
    }

    fn keep(&mut self, counts: &[u64]) {
        self.content.clear();
        self.value = 0;
        for (item, &count) in self.items.iter().zip(counts) {
            if count > 0 {
                self.content.push((item.group, count));
                self.value += i128::from(item.value) * i128::from(count);
            }
        }
    }

    /// After [`Self::relax`]: look for content worth more than `value` and more than `threshold`. Returns whether the
    /// search was complete; then nothing is worth more than the larger of the two. `upper` is right in any case.
    pub(crate) fn search(
        &mut self,
        model: &Model,
        bin: usize,
        threshold: i128,
        nodes: usize,
        meter: &Meter<'_>,
    ) -> bool {
        let floor = self.value.max(threshold);
        if self.upper <= floor {
            self.upper = self.upper.min(floor);
            return true;
        }
        // Decide first where the bound has a strong opinion.
        self.order.clear();
        self.order.extend(0..self.items.len());
        let items = &self.items;
        self.order.sort_by_key(|&at| (std::cmp::Reverse(items[at].reduced.abs()), at));
        let order = std::mem::take(&mut self.order);
        let mut search = Search {
            model,
            items: &self.items,
            order: &order,
            rows: &self.rows,
            duals: &self.duals,
            lagrange: self.lagrange,
            floor,
            free: model.bins[bin].capacity.clone(),
            labels: Vec::new(),
            counts: vec![0; self.items.len()],
            best: None,
            nodes,
        };
        let complete = search.descend(0, 0);
        let spent = nodes - search.nodes;
        let (floor, best) = (search.floor, search.best.take());
        meter.spend(spent * (16 + model.resources * 4));
        if let Some(counts) = best {
            self.keep(&counts);
        }
        self.order = order;
        if complete {
            self.upper = self.upper.min(floor);
        }
        complete
    }
}

struct Search<'a> {
    model: &'a Model,
    items: &'a [Item],
    order: &'a [usize],
    rows: &'a [Row],
    duals: &'a [i64],
    lagrange: i128,
    /// Only more than this is of interest.
    floor: i128,
    free: Vec<i64>,
    labels: Vec<u32>,
    counts: Vec<u64>,
    best: Option<Vec<u64>>,
    nodes: usize,
}

impl Search<'_> {
    /// What the bound can still lose and be of interest.
    fn slack(&self) -> i128 {
        self.lagrange.saturating_sub((self.floor + 1) << FRACTION)
    }

    fn descend(&mut self, depth: usize, lost: i128) -> bool {
        if self.nodes == 0 {
            return false;
        }
        self.nodes -= 1;
        let Some(&at) = self.order.get(depth) else {
            let idle = self.rows.iter().zip(self.duals).map(|(row, price)| match *row {
                Row::Resource(resource) => i128::from(*price).saturating_mul(i128::from(self.free[resource])),
                Row::Label(at) => i128::from(*price) * i128::from(!self.labels.contains(&self.model.label_rows[at])),
            });
            if idle.fold(lost, i128::saturating_add) <= self.slack() {
                let each = self.items.iter().zip(&self.counts);
                let value = each.map(|(item, count)| i128::from(item.value) * i128::from(*count)).sum::<i128>();
                if value > self.floor {
                    self.floor = value;
                    self.best = Some(self.counts.clone());
                }
            }
            return true;
        };
        let item = self.items[at];
        let model = self.model;
        let pods = &model.groups[item.group];
        let blocked = pods.labels.iter().any(|label| self.labels.contains(label));
        let most = if blocked { 0 } else { model.room_in(&self.free, item.group).min(item.bound) };
        let each = item.reduced.abs();
        let mut complete = true;
        for away in 0..=most {
            let count = if item.reduced > 0 { most - away } else { away };
            let distance = if item.reduced > 0 { item.bound - count } else { count };
            let lost = lost.saturating_add(each.saturating_mul(i128::from(distance)));
            if lost > self.slack() {
                break;
            }
            take(&mut self.free, &pods.asks, count);
            let known = self.labels.len();
            if count > 0 {
                self.labels.extend_from_slice(&pods.labels);
            }
            self.counts[at] = count;
            complete &= self.descend(depth + 1, lost);
            self.labels.truncate(known);
            for &(resource, asked) in &pods.asks {
                self.free[resource] += asked * i64::try_from(count).unwrap_or(i64::MAX);
            }
            self.counts[at] = 0;
            if !complete && self.nodes == 0 {
                return false;
            }
        }
        complete
    }
}
