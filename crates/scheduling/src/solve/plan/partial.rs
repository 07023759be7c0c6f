//! What is proven of a plan that leaves pods without a place: a minimum for those that it places.

use units::UsdMicrosPerHour;

use super::{
    super::{axis::Axis, prepare},
    bound,
    known::Known,
    stages::Stages,
    task::Task,
    wanted,
};
use crate::{LowerBound, Settings, Snapshot, Solution};

/// The proof gets one in so many parts of the work.
const SHARE: u64 = 8;

/// What any plan costs at least that places the pods which this one places. `stop`: at a glance, if there is no time.
pub(in super::super) fn bound_of_placed(
    snapshot: &Snapshot,
    settings: &Settings,
    stop: &dyn Fn() -> bool,
    solution: &Solution,
) -> LowerBound {
    if solution.new_nodes.is_empty() {
        return LowerBound { cost: UsdMicrosPerHour(0), ignores: Vec::new() };
    }
    let mut placed = snapshot.clone();
    placed.pods.retain(|pod| solution.placed.contains_key(&pod.key));
    let axis = Axis::of(&placed);
    let (start, ..) = prepare(&placed, settings, &axis);
    let unsure = start.search.templates.iter().flat_map(|one| one.unsure_daemons.iter().copied());
    let unsure: Vec<_> = unsure.cloned().collect();
    drop(start);
    placed.daemons.retain(|daemon| !unsure.contains(&daemon.key));

    let (mut start, queue, _) = prepare(&placed, settings, &axis);
    let stages = Stages::of(&mut start, &queue);
    let mut bound = if stop() {
        let nothing = || LowerBound { cost: UsdMicrosPerHour(0), ignores: Vec::new() };
        bound::at_a_glance(&start.search, &stages.counts(&queue)).unwrap_or_else(nothing)
    } else {
        let task = Task::new(&start, &queue, &stages, &start, Known::default(), stop);
        let wanted = wanted::unavoidable(&start.search, &task.reach, &task.all);
        let weighted = task.classes().len() > 1;
        task.bound(wanted, settings.search_work_units / SHARE, weighted, &Known::default(), &mut |_, _, _| ())
    };
    bound.cost = bound.cost.min(solution.cost);
    if !unsure.is_empty() {
        bound.ignores.push("DaemonSets that run on some of a pool's nodes only".to_owned());
    }
    if let left @ 1.. = solution.unplaced.len() {
        let pods = if left == 1 { "pod" } else { "pods" };
        bound.ignores.push(format!("the {left} {pods} without a place"));
    }
    bound
}
