//! Prices of amounts when pods are poured like water: the first guess at what a pod is worth.
//!
//! Pods that may use the same bins are a class; a class needs so much of each resource in total, and a node serves each
//! resource to one class. The dual prices say what one unit of a resource is worth to a class; a node's best use is, for
//! each of its resources, the class that values it most, so the columns price themselves.

use std::collections::BTreeMap;

use crate::meter::Meter;
use crate::model::{Model, UNLIMITED};
use crate::problem::Bits;
use crate::simplex::{Column, Cover};

/// Prices that are off by this much of themselves are good enough for a guess.
const GAIN: f64 = 1e-3;
/// More classes than this are not told apart.
const CLASSES: usize = 40;

#[derive(Clone, Debug)]
pub(crate) struct Fluid {
    /// What one pod of each group is worth, micro-USD per hour.
    pub(crate) prices: Vec<f64>,
    /// What one unit of each resource of a bin is worth, bin after bin.
    pub(crate) amounts: Vec<f64>,
}

pub(crate) fn fluid(model: &Model, demand: &[u64], meter: &Meter<'_>) -> Fluid {
    let (resources, bins) = (model.resources, model.bins.len());
    let endless: Vec<usize> = (0..bins).filter(|&bin| model.bins[bin].stock == UNLIMITED).collect();
    let (class_of, classes) = classes(model, demand, &endless);
    let mut total = vec![0.0; classes.len() * resources];
    for (group, pods) in model.groups.iter().enumerate() {
        if let Some(class) = class_of[group] {
            for (resource, asked) in pods.request.iter().enumerate() {
                total[class * resources + resource] += *asked as f64 * demand[group] as f64;
            }
        }
    }
    // One row per class and resource; a row is scaled so that 1 is needed.
    let mut row_of = vec![None; total.len()];
    let mut rows = Vec::new();
    for (at, needed) in total.iter().enumerate() {
        if *needed > 0.0 {
            row_of[at] = Some(rows.len());
            rows.push(at);
        }
    }
    let serves = |bin: usize, at: usize| model.bins[bin].capacity[at % resources] as f64 / total[at];
    let mut first = Vec::new();
    for &at in &rows {
        let takes = endless.iter().copied().filter(|&bin| classes[at / resources].has(bin) && serves(bin, at) > 0.0);
        let price = |bin: usize| model.bins[bin].price as f64 / serves(bin, at);
        let Some(bin) = takes.min_by(|&a, &b| price(a).total_cmp(&price(b))) else { continue };
        first.push(Column { cost: model.bins[bin].price as f64, rows: vec![(0, serves(bin, at))] });
    }
    let mut worth = vec![0.0; total.len()];
    if first.len() == rows.len() && !rows.is_empty() {
        for (row, column) in first.iter_mut().enumerate() {
            column.rows[0].0 = row;
        }
        let mut cover = Cover::new(&vec![1.0; rows.len()], first);
        // For each bin what it can serve: resource, row, and how much of it. Resource by resource.
        let options: Vec<Vec<(usize, usize, f64)>> = endless
            .iter()
            .map(|&bin| {
                let of = |resource: usize| {
                    let each = (0..classes.len()).filter(|&class| classes[class].has(bin));
                    let each = each.filter_map(|class| row_of[class * resources + resource]).collect::<Vec<usize>>();
                    each.into_iter().map(move |row| (resource, row))
                };
                let all = (0..resources).flat_map(of);
                all.map(|(resource, row)| (resource, row, serves(bin, rows[row]))).collect()
            })
            .collect();
        let looks: usize = options.iter().map(Vec::len).sum();
        for _ in 0..200 {
            cover.solve(meter);
            let mut found = Vec::new();
            for (&bin, options) in endless.iter().zip(&options) {
                let price = model.bins[bin].price as f64;
                let mut uses: Vec<(usize, f64)> = Vec::new();
                let mut gain = -price;
                for of_one in options.chunk_by(|a, b| a.0 == b.0) {
                    let (mut most, mut best) = (0.0, None);
                    for &(_, row, serves) in of_one {
                        let value = cover.duals()[row] * serves;
                        if value > most {
                            (most, best) = (value, Some((row, serves)));
                        }
                    }
                    gain += most;
                    uses.extend(best);
                }
                if gain > GAIN * (price + 1.0) {
                    found.push((gain / (price + 1.0), bin, uses));
                }
            }
            meter.spend(looks);
            if found.is_empty() || meter.over() {
                break;
            }
            found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            for (_, bin, rows) in found.into_iter().take(16) {
                cover.add(Column { cost: model.bins[bin].price as f64, rows });
            }
        }
        for (row, &at) in rows.iter().enumerate() {
            worth[at] = cover.duals()[row].max(0.0) / total[at];
        }
    }
    let mut prices = vec![0.0; model.groups.len()];
    for (group, pods) in model.groups.iter().enumerate() {
        if let Some(class) = class_of[group] {
            let each = pods.request.iter().enumerate();
            prices[group] = each.map(|(resource, asked)| *asked as f64 * worth[class * resources + resource]).sum();
        }
    }
    let mut amounts = vec![0.0; bins * resources];
    for bin in 0..bins {
        for resource in 0..resources {
            let of = (0..classes.len()).filter(|&class| classes[class].has(bin));
            amounts[bin * resources + resource] =
                of.map(|class| worth[class * resources + resource]).fold(0.0, f64::max);
        }
    }
    Fluid { prices, amounts }
}

/// Pods by the bins they may use: the class of each group, and the bins of each class.
fn classes(model: &Model, demand: &[u64], endless: &[usize]) -> (Vec<Option<usize>>, Vec<Bits>) {
    let mut sets: Vec<Bits> = vec![Bits::none(model.bins.len()); model.groups.len()];
    for &bin in endless {
        for &group in &model.bins[bin].groups {
            sets[group].insert(bin);
        }
    }
    let mut weight: BTreeMap<&Bits, u128> = BTreeMap::new();
    for (group, set) in sets.iter().enumerate() {
        if *set != Bits::none(model.bins.len()) && demand[group] > 0 {
            *weight.entry(set).or_default() += u128::from(demand[group]);
        }
    }
    let mut heavy: Vec<(&Bits, u128)> = weight.into_iter().collect();
    heavy.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut classes: Vec<Bits> = heavy.iter().take(CLASSES).map(|(set, _)| (*set).clone()).collect();
    if heavy.len() > CLASSES {
        // The rest may use anything that one of them may use.
        let mut any = Bits::none(model.bins.len());
        for &bin in endless {
            if heavy[CLASSES..].iter().any(|(set, _)| set.has(bin)) {
                any.insert(bin);
            }
        }
        classes.push(any);
    }
    let of = |set: &Bits| {
        let known = classes.iter().take(CLASSES).position(|class| class == set);
        known.or_else(|| (classes.len() > CLASSES).then_some(CLASSES))
    };
    let empty = Bits::none(model.bins.len());
    let class_of =
        sets.iter().zip(demand).map(|(set, count)| if *set == empty || *count == 0 { None } else { of(set) });
    (class_of.collect(), classes)
}
