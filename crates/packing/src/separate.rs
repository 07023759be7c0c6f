//! Can all pods be packed into given nodes, counting fractions of contents? If not, which values of pods show it?
//!
//! A covering program with one row per group and one per kind of node: a pod without a node costs 1, contents cost
//! nothing, and there are only so many nodes of each kind. If some pods stay without a node, the dual prices are values
//! that the given nodes cannot hold together.

use crate::knapsack::Knapsack;
use crate::meter::Meter;
use crate::model::Model;
use crate::simplex::{Column, Cover};

/// Binary digits of a value; the price of a pod without a node is 1.
const DIGITS: u32 = 24;
const ROUNDS: usize = 200;
/// Search nodes per knapsack.
const EFFORT: usize = 5_000;

/// Values of pods that the nodes cannot hold, as far as floating point can tell; the caller checks.
pub(crate) fn values_too_large(
    model: &Model,
    nodes: &[(usize, u64)],
    free: &[bool],
    knapsack: &mut Knapsack,
    meter: &Meter<'_>,
) -> Option<Vec<i64>> {
    let groups = model.groups.len();
    let demand = model.demand();
    let mut need: Vec<f64> = demand.iter().map(|count| *count as f64).collect();
    let mut first: Vec<Option<Column>> = (0..groups)
        .map(|group| Some(Column { cost: f64::from(u8::from(!free[group])), rows: vec![(group, 1.0)] }))
        .collect();
    for (_, count) in nodes {
        need.push(-(*count as f64));
        first.push(None);
    }
    let mut cover = Cover::start(&need, first);
    for _ in 0..ROUNDS {
        if !cover.solve(meter) && meter.over() {
            return None;
        }
        let unit = f64::from(1_u32 << DIGITS);
        let duals = cover.duals();
        let values: Vec<i64> = (0..groups)
            .map(|group| if free[group] { 0 } else { (duals[group].clamp(0.0, 1.0) * unit) as i64 })
            .collect();
        let total: f64 = values.iter().zip(&demand).map(|(value, count)| *value as f64 * *count as f64).sum();
        let mut held = 0.0;
        let mut found = Vec::new();
        for (at, (bin, count)) in nodes.iter().enumerate() {
            let charged = duals[groups + at].max(0.0) * unit;
            knapsack.relax(model, *bin, &values, &demand, meter);
            if knapsack.value as f64 <= charged + unit * 1e-6 {
                knapsack.search(model, *bin, 0, EFFORT, meter);
            }
            held += knapsack.upper as f64 * *count as f64;
            if knapsack.value as f64 > charged + unit * 1e-6 {
                let mut rows: Vec<(usize, f64)> =
                    knapsack.content.iter().map(|&(group, count)| (group, count as f64)).collect();
                rows.push((groups + at, -1.0));
                found.push(Column { cost: 0.0, rows });
            }
        }
        if held < total {
            return Some(values);
        }
        if found.is_empty() {
            return None;
        }
        for column in found {
            cover.add(column);
        }
    }
    None
}
