//! How few nodes of which kind could do: a bound that knows that nodes are whole.
//!
//! For any values of pods, the nodes opened can hold together no more than the sum of what each can hold at most, and must
//! hold all pods. Each set of values gives one such row over the counts of nodes; the cheapest counts that satisfy all
//! rows bound every plan. They are found by branch and bound. A branch is left when its bound, computed in integers from
//! the relaxation's multipliers, leaves no room below the best plan, so the result needs no trust in floating point.

mod mip;

use std::collections::BinaryHeap;

use crate::bound::whole_prices;
use crate::columns::Cut;
use crate::knapsack::Knapsack;
use crate::meter::Meter;
use crate::model::{Kind, Model, UNLIMITED};
use crate::relax::Relaxation;
use crate::separate::values_too_large;

/// Binary digits of the fraction in a row's multiplier.
const FRACTION: u32 = 40;
/// Rows made from prices, and thresholds per resource.
const PRICE_ROWS: usize = 12;
const THRESHOLDS: usize = 8;
/// Multipliers may not exceed this, so that sums of products stay inside `i128`.
const MULTIPLIER: f64 = (1_u128 << 85) as f64;
/// What is nearer to a whole number is one.
const WHOLE: f64 = 1e-6;
/// Up to so many counts of the relaxation are rounded by a solver of mixed integer programs.
const TO_ROUND: usize = 12;
/// Search nodes per knapsack of a row.
const EFFORT: usize = 5_000;

/// `sum of most[bin] * count[bin] >= need`.
#[derive(Clone, Debug)]
struct Row {
    most: Vec<i64>,
    need: i64,
}

/// Lower and upper counts of a branch, and its bound.
#[derive(Debug, PartialEq, Eq)]
struct Branch {
    bound: i128,
    number: usize,
    /// Rows there were.
    rows: usize,
    low: Vec<u64>,
    high: Vec<u64>,
    /// Where to split: a bin and the count below; `None` when the counts are whole.
    split: Option<(usize, u64)>,
}

impl Ord for Branch {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.bound.cmp(&self.bound).then(self.number.cmp(&other.number))
    }
}
impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The outcome: a bound, and the counts of nodes (by bin) that reach it if that was found.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) bound: i128,
    pub(crate) nodes: Option<Vec<(usize, u64)>>,
}

/// Bound the cost of placing everything, given that a plan of cost `best` is known and that `bound` is proven.
#[expect(clippy::too_many_arguments, reason = "a solver's inner routine: its buffers and its state come from outside")]
pub(crate) fn count_nodes(
    model: &Model,
    free: &[bool],
    cuts: &[Cut],
    best: i128,
    bound: i128,
    steps: u64,
    knapsack: &mut Knapsack,
    meter: &Meter<'_>,
) -> Counts {
    let end = meter.spent().saturating_add(steps);
    let mut master = Master {
        model,
        bins: (0..model.bins.len()).filter(|&bin| i128::from(model.bins[bin].price) <= best).collect(),
        rows: Vec::new(),
        best,
        relaxation: Relaxation::default(),
        branches: 0,
    };
    for (values, uppers) in cuts.iter().rev().take(PRICE_ROWS) {
        master.row(values, uppers);
    }
    master.forget(meter);
    if !master.thresholds(free, knapsack, meter, end) {
        return Counts { bound, nodes: None };
    }
    master.forget(meter);
    let counts = master.search(bound, free, knapsack, meter, end);
    if counts.nodes.is_some() || counts.bound >= best {
        return counts;
    }
    // The bound is as good as it gets; counts that may lead to a better plan can be had more cheaply.
    #[cfg(feature = "highs")]
    let nodes = master.by_mip(mip::highs, &vec![0; master.bins.len()], &master.highest());
    #[cfg(not(feature = "highs"))]
    let nodes = master.by_rounding(meter);
    Counts { nodes, ..counts }
}

struct Master<'a> {
    model: &'a Model,
    /// Bins that a plan better than the best can use.
    bins: Vec<usize>,
    rows: Vec<Row>,
    best: i128,
    relaxation: Relaxation,
    branches: usize,
}

impl Master<'_> {
    /// The cheapest counts between these that keep all rows, as a solver of mixed integer programs finds them. They bound
    /// nothing.
    fn by_mip<S: good_lp::Solver>(&self, solver: S, low: &[u64], high: &[u64]) -> Option<Vec<(usize, u64)>> {
        let prices: Vec<i64> = self.bins.iter().map(|bin| self.model.bins[*bin].price).collect();
        let short = |row: &Row| (self.bins.iter().map(|bin| row.most[*bin]).collect(), row.need);
        let rows: Vec<mip::Row> = self.rows.iter().map(short).collect();
        let counts = mip::cheapest(&prices, &rows, low, high, solver)?;
        Some(self.bins.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect())
    }

    /// The cheapest way to round the relaxation's counts up or down so that all rows are kept, if that is cheaper than the best
    /// plan. Where many would have to be rounded, none: the solver knows no bound to its work but time.
    #[cfg_attr(feature = "highs", allow(dead_code, reason = "HiGHS, whose work is bounded, gets the whole problem"))]
    fn by_rounding(&mut self, meter: &Meter<'_>) -> Option<Vec<(usize, u64)>> {
        let (none, most) = (vec![0; self.bins.len()], self.highest());
        let _ = self.relax(&none, &most, meter);
        let counts: Vec<f64> = (0..self.bins.len()).map(|at| self.count(at)).collect();
        let is_whole = |count: &f64| (count - count.round()).abs() <= WHOLE;
        if counts.iter().filter(|count| !is_whole(count)).count() > TO_ROUND {
            return None;
        }
        let low: Vec<u64> = counts.iter().map(|count| (count + WHOLE).floor() as u64).collect();
        let high = |((count, low), most): ((&f64, &u64), &u64)| (low + u64::from(!is_whole(count))).min(*most);
        let high: Vec<u64> = counts.iter().zip(&low).zip(&most).map(high).collect();
        let nodes = self.by_mip(good_lp::solvers::microlp::microlp, &low, &high)?;
        let cost: i128 =
            nodes.iter().map(|(bin, count)| i128::from(self.model.bins[*bin].price) * i128::from(*count)).sum();
        (cost < self.best).then_some(nodes)
    }

    fn row(&mut self, values: &[i64], uppers: &[i128]) {
        let each = self.model.groups.iter().zip(values);
        let total: i128 = each.map(|(pods, value)| i128::from(*value) * i128::from(pods.demand)).sum();
        let most = uppers.iter().copied().max().unwrap_or(0).max(1);
        // Short numbers, rounded to the safe side.
        let shift = (128 - most.leading_zeros()).saturating_sub(30);
        let need = i64::try_from(total >> shift).unwrap_or(i64::MAX);
        let short = |upper: &i128| i64::try_from((upper.max(&0) + (1 << shift) - 1) >> shift).unwrap_or(i64::MAX);
        if need > 0 {
            self.rows.push(Row { most: uppers.iter().map(short).collect(), need });
        }
    }

    /// Rows that count pods of at least a certain size, and rows of one resource alone. `false` if time ran out.
    fn thresholds(&mut self, free: &[bool], knapsack: &mut Knapsack, meter: &Meter<'_>, end: u64) -> bool {
        let model = self.model;
        let mut sets: Vec<Vec<i64>> = Vec::new();
        for resource in 0..model.resources {
            let asked: Vec<i64> = model.groups.iter().map(|pods| pods.request[resource]).collect();
            let mut sizes: Vec<i64> = asked.iter().copied().filter(|size| *size > 0).collect();
            sizes.sort_unstable();
            sizes.dedup();
            if sizes.is_empty() {
                continue;
            }
            let shift = (64 - sizes[sizes.len() - 1].leading_zeros()).saturating_sub(40);
            sets.push(asked.iter().map(|size| size >> shift).collect());
            let stride = sizes.len().div_ceil(THRESHOLDS);
            for size in sizes.iter().rev().step_by(stride) {
                sets.push(asked.iter().map(|asked| i64::from(asked >= size)).collect());
            }
        }
        sets.sort_unstable();
        sets.dedup();
        let demand = model.demand();
        for mut values in sets {
            for (value, free) in values.iter_mut().zip(free) {
                if *free {
                    *value = 0;
                }
            }
            let mut uppers = vec![0_i128; model.bins.len()];
            for &bin in &self.bins {
                knapsack.relax(model, bin, &values, &demand, meter);
                knapsack.search(model, bin, 0, EFFORT, meter);
                uppers[bin] = knapsack.upper;
                if meter.over() || meter.spent() > end {
                    return false;
                }
            }
            self.row(&values, &uppers);
        }
        true
    }

    /// Forget bins that no plan better than the best can use: with one node of them, the rows' bound is too large.
    fn forget(&mut self, meter: &Meter<'_>) {
        let (low, high) = (vec![0; self.bins.len()], self.highest());
        let (_, multipliers) = self.relax(&low, &high, meter);
        let root = self.exact(&low, &high, &multipliers);
        let useful = |at: usize| {
            let reduced = self.reduced(at, &multipliers);
            reduced <= 0 || whole_prices(self.model, up(root.saturating_add(reduced))) < self.best
        };
        let useful: Vec<usize> = (0..self.bins.len()).filter(|&at| useful(at)).map(|at| self.bins[at]).collect();
        self.bins = useful;
    }

    /// No better plan has more nodes of a bin than this.
    fn highest(&self) -> Vec<u64> {
        let each = self.bins.iter().map(|&bin| {
            let kind = &self.model.bins[bin];
            let affordable = match i128::from(kind.price) {
                0 => UNLIMITED,
                price => u64::try_from(self.best / price).unwrap_or(UNLIMITED),
            };
            let useful =
                kind.groups.iter().fold(0_u64, |sum, &group| sum.saturating_add(self.model.groups[group].demand));
            affordable.min(kind.stock).min(useful)
        });
        each.collect()
    }

    /// Price of one node less what the rows' multipliers say it is worth, times 2^FRACTION.
    fn reduced(&self, at: usize, multipliers: &[i128]) -> i128 {
        let bin = self.bins[at];
        let worth = self.rows.iter().zip(multipliers).map(|(row, by)| i128::from(row.most[bin]) * by);
        (i128::from(self.model.bins[bin].price) << FRACTION) - worth.sum::<i128>()
    }

    /// How many nodes the relaxation that was solved last has, beyond the fewest.
    fn count(&self, at: usize) -> f64 {
        self.relaxation.dual[at].max(0.0) / price_of(&self.model.bins[self.bins[at]])
    }

    /// The bound that multipliers prove for a branch, times 2^FRACTION.
    fn exact(&self, low: &[u64], high: &[u64], multipliers: &[i128]) -> i128 {
        let needs = self.rows.iter().zip(multipliers).map(|(row, by)| i128::from(row.need).saturating_mul(*by));
        (0..self.bins.len()).fold(needs.fold(0, i128::saturating_add), |sum, at| {
            let reduced = self.reduced(at, multipliers);
            let count = if reduced >= 0 { low[at] } else { high[at] };
            sum.saturating_add(reduced.saturating_mul(i128::from(count)))
        })
    }

    /// Solve the relaxation of a branch through its dual: multipliers of rows are the unknowns, counts of nodes the duals.
    fn relax(&mut self, low: &[u64], high: &[u64], meter: &Meter<'_>) -> (Branch, Vec<i128>) {
        let model = self.model;
        let price = |at: usize| price_of(&model.bins[self.bins[at]]);
        let bins = self.bins.len();
        self.relaxation.clear(bins);
        // With multipliers this large, a row that cannot be met by a ten-millionth already proves too much.
        let most = self.best as f64 * 1e7;
        for row in &self.rows {
            let settled: f64 = (0..bins).map(|at| row.most[self.bins[at]] as f64 * low[at] as f64).sum();
            // Rows and bins are scaled: one row is needed once, one bin costs once.
            let need = row.need as f64;
            let takes = |at: usize| row.most[self.bins[at]] as f64 / need / price(at);
            self.relaxation.column(1.0 - settled / need, most, (0..bins).map(|at| (at, takes(at))));
        }
        for at in 0..bins {
            let room = (high[at] - low[at]) as f64;
            self.relaxation.column(-room, most, std::iter::once((at, -1.0 / price(at))));
        }
        let steps = self.relaxation.solve(&[]);
        let unit = (1_u64 << FRACTION) as f64;
        meter.spend(steps);
        let each = self.rows.iter().zip(&self.relaxation.solution);
        let multipliers: Vec<i128> =
            each.map(|(row, by)| (by / row.need as f64 * unit).clamp(0.0, MULTIPLIER) as i128).collect();
        let bound = whole_prices(model, up(self.exact(low, high, &multipliers)));
        // The most fractional count splits.
        let mut split = None;
        let mut most = WHOLE;
        for (at, low) in low.iter().enumerate() {
            let count = *low as f64 + self.count(at);
            let part = (count - count.round()).abs();
            if part > most {
                most = part;
                split = Some((at, count.floor() as u64));
            }
        }
        let (low, high) = (low.to_vec(), high.to_vec());
        self.branches += 1;
        (Branch { bound, number: self.branches, rows: self.rows.len(), low, high, split }, multipliers)
    }

    fn search(&mut self, proven: i128, free: &[bool], knapsack: &mut Knapsack, meter: &Meter<'_>, end: u64) -> Counts {
        let mut open = BinaryHeap::new();
        let (low, high) = (vec![0; self.bins.len()], self.highest());
        open.push(self.relax(&low, &high, meter).0);
        while let Some(branch) = open.pop() {
            // Branches come by bound, so this one's bounds all that is open.
            let bound = branch.bound.max(proven);
            if bound >= self.best {
                break;
            }
            if meter.over() || meter.spent() > end {
                return Counts { bound, nodes: None };
            }
            if branch.rows < self.rows.len() {
                // Rows have come since; the branch may be worth less than it seemed.
                let (again, _) = self.relax(&branch.low, &branch.high, meter);
                if again.bound < self.best {
                    open.push(Branch { bound: again.bound.max(bound), ..again });
                }
                continue;
            }
            let Some((at, below)) = branch.split else {
                let counts = self.whole(&branch, meter);
                if self.refute(&counts, free, knapsack, meter) {
                    open.push(branch);
                    continue;
                }
                return Counts { bound, nodes: Some(counts) };
            };
            let mut less = branch.high.clone();
            less[at] = below.max(branch.low[at]).min(branch.high[at]);
            let mut more = branch.low.clone();
            more[at] = (below + 1).min(branch.high[at]);
            for (low, high) in [(branch.low.clone(), less), (more, branch.high)] {
                let (child, _) = self.relax(&low, &high, meter);
                let child = Branch { bound: child.bound.max(bound), ..child };
                if child.bound < self.best {
                    open.push(child);
                }
            }
        }
        Counts { bound: self.best, nodes: None }
    }

    /// Add a row that these counts break, if there is one.
    fn refute(&mut self, nodes: &[(usize, u64)], free: &[bool], knapsack: &mut Knapsack, meter: &Meter<'_>) -> bool {
        let model = self.model;
        let Some(values) = values_too_large(model, nodes, free, knapsack, meter) else { return false };
        let demand = model.demand();
        let mut uppers = vec![0_i128; model.bins.len()];
        for &bin in &self.bins {
            knapsack.relax(model, bin, &values, &demand, meter);
            knapsack.search(model, bin, 0, EFFORT, meter);
            uppers[bin] = knapsack.upper;
        }
        let rows = self.rows.len();
        self.row(&values, &uppers);
        let breaks = |row: &Row| {
            let held = nodes.iter().map(|(bin, count)| i128::from(row.most[*bin]) * i128::from(*count));
            held.sum::<i128>() < i128::from(row.need)
        };
        if self.rows.len() > rows && !self.rows.last().is_some_and(breaks) {
            self.rows.pop();
        }
        self.rows.len() > rows
    }

    /// The whole counts of a branch whose relaxation came out whole.
    fn whole(&mut self, branch: &Branch, meter: &Meter<'_>) -> Vec<(usize, u64)> {
        let _ = self.relax(&branch.low, &branch.high, meter);
        let count = |at: usize| branch.low[at] + self.count(at).round() as u64;
        (0..self.bins.len()).map(|at| (self.bins[at], count(at))).filter(|(_, count)| *count > 0).collect()
    }
}

/// What the relaxation divides by: never zero.
fn price_of(bin: &Kind) -> f64 {
    (bin.price as f64).max(1e-3)
}

fn up(scaled: i128) -> i128 {
    let unit = 1_i128 << FRACTION;
    scaled.max(0) / unit + i128::from(scaled > 0 && scaled % unit != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Bin, Bits, Group, Problem};

    /// What the master of these prices and rows says; 60 nodes of each bin are more than the best plan has.
    fn of_master<R>(prices: &[i64], rows: &[(Vec<i64>, i64)], ask: impl FnOnce(&mut Master<'_>) -> R) -> R {
        let bin = |price: &i64| Bin { price: *price, capacity: vec![1], ..Bin::default() };
        let problem = Problem {
            resources: 1,
            // Pods that ask for nothing: the rows alone say how many nodes there have to be.
            groups: vec![Group {
                demand: 60,
                request: vec![0],
                max_per_node: u32::MAX,
                exclusive: Vec::new(),
                eligible: Bits::all(prices.len()),
            }],
            bins: prices.iter().map(bin).collect(),
            limits: Vec::new(),
        };
        let mut model = Model::new(&problem);
        // Without rows the dearer ones would do no good, and are gone; here they do.
        let kind = model.bins[0].clone();
        model.bins = prices.iter().map(|price| Kind { price: *price, ..kind.clone() }).collect();
        let rows: Vec<Row> = rows.iter().map(|(most, need)| Row { most: most.clone(), need: *need }).collect();
        let best = dearest(prices);
        let bins = (0..prices.len()).collect();
        ask(&mut Master { model: &model, bins, rows, best, relaxation: Relaxation::default(), branches: 0 })
    }

    /// Beyond every plan.
    fn dearest(prices: &[i64]) -> i128 {
        60 * prices.iter().map(|price| i128::from(*price)).sum::<i128>() + 1
    }

    fn cost(prices: &[i64], counts: &[(usize, u64)]) -> i128 {
        counts.iter().map(|(bin, count)| i128::from(prices[*bin]) * i128::from(*count)).sum()
    }

    /// The least that counts of nodes cost which keep these rows, by the search here, in whole numbers; `None` where 60 of each
    /// do not keep the rows.
    fn searched(prices: &[i64], rows: &[(Vec<i64>, i64)]) -> Option<i128> {
        of_master(prices, rows, |master| {
            let counts = master.search(0, &[true], &mut Knapsack::default(), &Meter::endless(), u64::MAX);
            (counts.bound < master.best).then_some(counts.bound)
        })
    }

    /// The same by a solver of mixed integer programs.
    fn solved<S: good_lp::Solver>(prices: &[i64], rows: &[(Vec<i64>, i64)], solver: S) -> Option<i128> {
        of_master(prices, rows, |master| {
            let found = master.by_mip(solver, &vec![0; prices.len()], &master.highest());
            found.map(|counts| cost(prices, &counts))
        })
    }

    fn some_rows() -> impl Strategy<Value = (Vec<i64>, Vec<(Vec<i64>, i64)>)> {
        (2..6_usize).prop_flat_map(|bins| {
            let row = (prop::collection::vec(1..40_i64, bins), 1..200_i64);
            (prop::collection::vec(1..1000_i64, bins), prop::collection::vec(row, 1..5))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        #[test]
        fn a_solver_of_mixed_integer_programs_finds_the_same_cost((prices, rows) in some_rows()) {
            prop_assert_eq!(searched(&prices, &rows), solved(&prices, &rows, good_lp::solvers::microlp::microlp));
        }

        #[test]
        fn rounding_keeps_the_rows_and_is_at_most_a_node_of_each_row_dearer((prices, rows) in some_rows()) {
            let least = searched(&prices, &rows);
            let rounded = of_master(&prices, &rows, |master| master.by_rounding(&Meter::endless()));
            prop_assert_eq!(least.is_some(), rounded.is_some());
            let (Some(least), Some(rounded)) = (least, rounded) else { return Ok(()) };
            for (most, need) in &rows {
                let held: i64 = rounded.iter().map(|(bin, count)| most[*bin] * i64::try_from(*count).unwrap()).sum();
                prop_assert!(held >= *need, "{rounded:?} hold {held}");
            }
            // No more counts are broken than there are rows.
            let dearest = i128::from(*prices.iter().max().unwrap());
            let cost = cost(&prices, &rounded);
            prop_assert!((least..=least + dearest * rows.len() as i128).contains(&cost), "{cost} for {least}");
        }

        #[cfg(feature = "highs")]
        #[test]
        fn highs_finds_the_same_cost((prices, rows) in some_rows()) {
            prop_assert_eq!(searched(&prices, &rows), solved(&prices, &rows, mip::highs));
        }
    }
}
