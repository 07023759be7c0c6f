//! The whole counts of nodes by a solver of mixed integer programs, through `good_lp`.
//!
//! What comes of floating point proves nothing: counts are rounded, and looked at in whole numbers before anybody uses them.

use good_lp::{Expression, ProblemVariables, Solution as _, Solver, SolverModel as _, variable};

/// Nodes of the search tree that HiGHS may open. A count, not a time, so that the same input gives the same answer.
#[cfg(feature = "highs")]
const NODES: i32 = 2_000;
/// No more of one bin are asked for: beyond it, doubles and the solver's tolerances do not tell counts apart.
const MOST: u64 = 1 << 30;

/// `sum of most[at] * count[at] >= need`.
pub(super) type Row = (Vec<i64>, i64);

/// The cheapest counts from `low` to `high` that keep all rows, if the solver finds some.
pub(super) fn cheapest<S: Solver>(
    prices: &[i64],
    rows: &[Row],
    low: &[u64],
    high: &[u64],
    solver: S,
) -> Option<Vec<u64>> {
    if low.iter().any(|least| *least > MOST) {
        return None;
    }
    let mut problem = ProblemVariables::new();
    let whole = |(least, most): (&u64, &u64)| variable().integer().min(*least as f64).max((*most).min(MOST) as f64);
    let counts: Vec<_> = low.iter().zip(high).map(|range| problem.add(whole(range))).collect();
    let cost: Expression = counts.iter().zip(prices).map(|(count, price)| *price as f64 / 1e6 * *count).sum();
    let mut model = problem.minimise(cost).using(solver);
    for (most, need) in rows {
        // Rows are scaled: each is needed once.
        let held: Expression = counts.iter().zip(most).map(|(count, most)| *most as f64 / *need as f64 * *count).sum();
        model.add_constraint(held.geq(1.0));
    }
    let found = model.solve().ok()?;
    let counts: Vec<u64> = counts.iter().map(|count| found.value(*count).round().max(0.0) as u64).collect();
    let keeps = |(most, need): &Row| {
        let held: i128 = most.iter().zip(&counts).map(|(most, count)| i128::from(*most) * i128::from(*count)).sum();
        held >= i128::from(*need)
    };
    let is_within = |((count, low), high): ((&u64, &u64), &u64)| (low..=high).contains(&count);
    (rows.iter().all(keeps) && counts.iter().zip(low).zip(high).all(is_within)).then_some(counts)
}

/// HiGHS on one thread, as long as its tree is small.
#[cfg(feature = "highs")]
pub(super) fn highs(problem: variable::UnsolvedProblem) -> good_lp::solvers::highs::HighsProblem {
    let model = good_lp::highs(problem).set_threads(1).set_option("mip_max_nodes", NODES);
    model.set_option("mip_rel_gap", 0.0).set_option("random_seed", 0)
}
