//! From fractions of nodes to whole nodes.

use crate::build::{Fill, build};
use crate::columns::{Generation, Pattern};
use crate::knapsack::{Knapsack, Values};
use crate::meter::Meter;
use crate::model::{Model, UNLIMITED};
use crate::plan::{Opened, Plan, Supply};
use crate::simplex::{Column, Cover};

/// A fraction this large is rounded up.
const ALMOST_ONE: f64 = 0.75;
/// After so many plans that were no better than the best, there is none to be hoped for.
const VAIN: usize = 3;

/// Fill the nodes that run out, as far as they are worth their price.
pub(crate) fn prefill(
    model: &Model,
    values: &Values,
    digits: u32,
    missing: &mut [u64],
    supply: &mut Supply,
    knapsack: &mut Knapsack,
    meter: &Meter<'_>,
) -> Vec<Opened> {
    let finite: Vec<usize> = (0..model.bins.len()).filter(|&bin| model.bins[bin].stock != UNLIMITED).collect();
    if finite.is_empty() {
        return Vec::new();
    }
    let mut nodes = build(model, &finite, values, Fill::Relaxed, missing, supply, knapsack, meter);
    nodes.retain(|node| {
        let value: i128 =
            node.content.iter().map(|&(group, count)| i128::from(values[group]) * i128::from(count)).sum();
        let only_here = node.content.iter().any(|&(group, _)| values[group] == 0);
        let stays = only_here || i128::from(model.bins[node.bin].price) << digits <= value;
        if !stays {
            supply.close(model, node.bin, node.copies);
            for &(group, count) in &node.content {
                missing[group] += count * node.copies;
            }
        }
        stays
    });
    nodes
}

/// Take whole parts, round up what is almost whole, solve for the rest, again and again; complete the plan each time, and
/// return the best of these plans.
pub(crate) fn dive(
    generation: &Generation<'_>,
    model: &Model,
    values: &Values,
    digits: u32,
    knapsack: &mut Knapsack,
    meter: &Meter<'_>,
) -> Option<Plan> {
    let mut missing = model.demand();
    let mut supply = Supply::new(model);
    let mut nodes = prefill(model, values, digits, &mut missing, &mut supply, knapsack, meter);
    let mut solution = generation.cover.solution();
    let bins: Vec<usize> = (0..model.bins.len()).collect();
    let mut best: Option<Plan> = None;
    let mut vain = 0;
    let mut first = !nodes.is_empty();
    while !meter.over() {
        if first {
            first = false;
            solution = residual(model, &generation.patterns, &missing, meter);
        }
        let mut decided = 0;
        for &(at, amount) in &solution {
            let whole = (amount + 1e-6).floor() as u64;
            decided += open(model, &generation.patterns[at], whole, true, &mut nodes, &mut missing, &mut supply);
        }
        let mut parts: Vec<(f64, usize)> = solution.iter().map(|&(at, x)| (x - (x + 1e-6).floor(), at)).collect();
        parts.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (at, &(part, pattern)) in parts.iter().enumerate() {
            if part >= ALMOST_ONE || (at == 0 && decided == 0) {
                decided +=
                    open(model, &generation.patterns[pattern], 1, part < 0.5, &mut nodes, &mut missing, &mut supply);
            }
        }
        let done = missing.iter().all(|count| *count == 0);
        let (mut rest, mut supply_left) = (missing.clone(), supply.clone());
        let mut plan = nodes.clone();
        plan.extend(build(model, &bins, values, Fill::Relaxed, &mut rest, &mut supply_left, knapsack, meter));
        let mut plan = Plan { nodes: plan, missing: rest };
        plan.shrink(model);
        if best.as_ref().is_none_or(|best| plan.rank(model) < best.rank(model)) {
            best = Some(plan);
            vain = 0;
        } else {
            vain += 1;
        }
        if done || decided == 0 || vain >= VAIN {
            break;
        }
        solution = residual(model, &generation.patterns, &missing, meter);
    }
    best
}

/// Open nodes with a pattern's content, cut to what is missing unless it must fit whole. Returns how many.
fn open(
    model: &Model,
    (bin, content): &Pattern,
    copies: u64,
    whole: bool,
    nodes: &mut Vec<Opened>,
    missing: &mut [u64],
    supply: &mut Supply,
) -> u64 {
    let copies = copies.min(supply.nodes(model, *bin));
    if copies == 0 {
        return 0;
    }
    let full = content.iter().map(|(group, count)| missing[*group] / count).min().unwrap_or(0).min(copies);
    let mut opened = 0;
    let mut one = |content: Vec<(usize, u64)>, copies: u64| {
        for &(group, count) in &content {
            missing[group] -= count * copies;
        }
        supply.open(model, *bin, copies);
        nodes.push(Opened { bin: *bin, copies, content });
        opened += copies;
    };
    if full > 0 {
        one(content.clone(), full);
    }
    if full < copies && !whole {
        let cut: Vec<(usize, u64)> = content.iter().map(|&(group, count)| (group, count.min(missing[group]))).collect();
        let cut: Vec<(usize, u64)> = cut.into_iter().filter(|(_, count)| *count > 0).collect();
        if !cut.is_empty() {
            for &(group, count) in &cut {
                missing[group] -= count;
            }
            supply.open(model, *bin, 1);
            nodes.push(Opened { bin: *bin, copies: 1, content: cut });
            opened += 1;
        }
    }
    opened
}

/// The cheapest mix of known patterns for what is missing.
fn residual(model: &Model, patterns: &[Pattern], missing: &[u64], meter: &Meter<'_>) -> Vec<(usize, f64)> {
    let mut row_of = vec![None; missing.len()];
    let mut need = Vec::new();
    for (group, count) in missing.iter().enumerate().filter(|(_, count)| **count > 0) {
        row_of[group] = Some(need.len());
        need.push(*count as f64);
    }
    let column = |(bin, content): &Pattern| {
        let rows =
            content.iter().filter_map(|&(group, count)| Some((row_of[group]?, count.min(missing[group]) as f64)));
        Column { cost: model.bins[*bin].price as f64, rows: rows.collect() }
    };
    // The first patterns are one per group, each with that group alone.
    let mut first: Vec<Option<(usize, Column)>> = (0..need.len()).map(|_| None).collect();
    let mut others = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        let column = column(pattern);
        if pattern.1.len() == 1
            && let [(row, _)] = column.rows[..]
            && first[row].is_none()
        {
            first[row] = Some((at, column));
        } else if !column.rows.is_empty() {
            others.push((at, column));
        }
    }
    if need.is_empty() || first.iter().any(Option::is_none) {
        return Vec::new();
    }
    let mut names = Vec::new();
    let mut columns = Vec::new();
    for (at, column) in first.into_iter().flatten() {
        names.push(at);
        columns.push(column);
    }
    let mut cover = Cover::new(&need, columns);
    for (at, column) in others {
        names.push(at);
        cover.add(column);
    }
    cover.solve(meter);
    cover.solution().into_iter().map(|(column, amount)| (names[column], amount)).collect()
}
