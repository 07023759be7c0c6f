//! The best plan within so many milliseconds, where the solver itself counts work.

use std::{cell::Cell, time::Duration};

use scheduling::{Settings, Snapshot, Solution, solve_after, solve_within};

/// How much work the first round is given for every millisecond, in the unit of [`Settings::search_work_units`]: what a core of the
/// machine of `docs/measurements.md` does in it.
const WORK_PER_MILLISECOND: u64 = 100_000;

/// With less no round begins: where time is so short, the searches that come first find most.
const LEAST_WORK: u64 = 20_000_000;

/// For more pods the first search finds most however much time there is, so it gets all of it.
const MANY: usize = 10_000;

/// One in so many parts of the time is a good part of it.
const GOOD_PART: u32 = 8;

/// Plans for so many milliseconds of the clock `elapsed`, which begins at nothing. Time is the only bound: no plan is good enough
/// that is not proven to be the cheapest, as long as more work may find a cheaper one. The search ends early enough for its plan
/// to be carried out, where that takes a good part of the time: about as long as the greedy rule's plan did, which is there when the
/// solver first asks for the time.
///
/// The searches share out the work they may do, so they need to know how much it is: without an end the first of them would take
/// all the time. Therefore there are rounds: one with the work of `settings`, or with what can be done in the time if this is
/// less, and then twice as much each time, beginning with the plan that is there. So with enough time the plan is no dearer than
/// the one without a clock.
pub(crate) fn solve_in_time(
    snapshot: &Snapshot,
    settings: &Settings,
    budget_ms: u64,
    elapsed: &dyn Fn() -> Duration,
) -> Solution {
    let budget = Duration::from_millis(budget_ms);
    let carrying_out: Cell<Option<Duration>> = Cell::new(None);
    let is_over = || {
        let now = elapsed();
        let needed = carrying_out.get().unwrap_or(if now * GOOD_PART < budget { Duration::ZERO } else { now });
        carrying_out.set(Some(needed));
        now + needed >= budget
    };
    let mut work = if snapshot.pods.len() > MANY {
        u64::MAX
    } else {
        budget_ms.saturating_mul(WORK_PER_MILLISECOND).max(LEAST_WORK).min(settings.search_work_units)
    };
    let within =
        |work| Settings { budget_work_units: u64::MAX, search_work_units: work, target_gap_ppm: 0, ..*settings };
    let mut best = solve_within(snapshot, &within(work), &is_over);
    // A search that leaves most of its work undone has nothing more to try.
    while !best.proven_optimal() && !is_over() && best.search_work_units >= work / 4 && work < u64::MAX / 2 {
        work *= 2;
        let mut next = solve_after(snapshot, &within(work), &is_over, &best);
        // Both hold for all plans of the same pods; the larger says more.
        let says_more = |a: &Solution, b: &Solution| {
            a.lower_bound.as_ref().map(|bound| bound.cost) > b.lower_bound.as_ref().map(|bound| bound.cost)
        };
        if next.unplaced.keys().eq(best.unplaced.keys()) && says_more(&best, &next) {
            next.lower_bound = best.lower_bound;
        }
        best = next;
    }
    best
}

#[cfg(test)]
mod tests {
    use scheduling::{check::check, solve};

    use super::*;
    use crate::generate::karpenter_mix_snapshot;

    /// A clock that is asked so many times before all time is gone.
    fn clock(times: u32) -> impl Fn() -> Duration {
        let left = Cell::new(times);
        move || {
            left.set(left.get().saturating_sub(1));
            if left.get() > 0 { Duration::ZERO } else { Duration::MAX / 16 }
        }
    }

    #[test]
    fn where_nothing_is_left_to_try_it_ends_before_its_time() {
        let settings = Settings::default();
        let stands_still = || Duration::ZERO;
        for pods in [0, 1] {
            let snapshot = karpenter_mix_snapshot(pods, 1);
            let plan = solve_in_time(&snapshot, &settings, u64::MAX, &stands_still);
            assert!(plan.proven_optimal(), "{plan:?}");
        }
        // Nobody can have a place.
        let mut snapshot = karpenter_mix_snapshot(5, 1);
        snapshot.pools.clear();
        assert_eq!(solve_in_time(&snapshot, &settings, u64::MAX, &stands_still).unplaced.len(), 5);
    }

    #[test]
    fn with_more_time_no_plan_is_dearer_and_none_is_dearer_than_without_a_clock() {
        let snapshot = karpenter_mix_snapshot(40, 3);
        let settings = Settings { search_work_units: 2_000_000, ..Settings::default() };
        let plan = |times: u32| solve_in_time(&snapshot, &settings, 1000, &clock(times));
        let costs: Vec<_> = [1, 1000, 2000]
            .map(plan)
            .iter()
            .map(|plan| {
                assert_eq!(check(&snapshot, plan), []);
                assert!(plan.lower_bound.as_ref().is_some_and(|bound| bound.cost <= plan.cost));
                plan.cost
            })
            .collect();
        assert!(costs.is_sorted_by(|a, b| a >= b), "{costs:?}");
        let exact = Settings { target_gap_ppm: 0, ..settings };
        assert!(costs[1] <= solve(&snapshot, &exact).cost, "{costs:?}");
        assert!(costs[2] < costs[0], "{costs:?}");
    }
}
