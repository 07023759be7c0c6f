//! How near to the best known bound plans for the shared packing instances come, within an amount of work. In a clone
//! without them there is nothing to look at; `own_instances.rs` looks at instances of the repository's own.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use scheduling::{Settings, check, solve, solve_within};
use tandem::gates::{Instance, instances};

fn check_ratio(instance: &Instance, most: f64, proven: bool) {
    let Some(known) = instance.known else { return };
    let name = &instance.name;
    let plan = solve(&instance.snapshot, &Settings::default());
    assert_eq!(check::check(&instance.snapshot, &plan), [], "{name}");
    assert!(plan.unplaced.is_empty(), "{name}: {:?}", plan.unplaced);
    #[expect(clippy::cast_precision_loss, reason = "a ratio with three places")]
    let ratio = plan.cost.0 as f64 / known.lower_bound as f64;
    assert!(ratio <= most, "{name}: {ratio:.4}, not {most}");
    assert!(plan.cost <= plan.greedy_cost.unwrap(), "{name}");
    let bound = plan.lower_bound.as_ref().unwrap();
    assert!(bound.cost.0 <= known.best, "{name}: the bound {bound:?} is above a plan that is known");
    assert!(bound.ignores.is_empty(), "{name}: {bound:?}");
    assert!(!proven || plan.proven_optimal(), "{name} is not proven to be optimal");
}

#[test]
fn plans_for_the_shared_instances_come_near_to_the_best_known_bound() {
    let (instances, whence) = instances().unwrap();
    for (name, most, proven) in [
        ("tiny-12", 1.0, true),
        ("small-40", 1.0, true),
        ("awkward-pow2", 1.05, false),
        ("web-1k-team", 1.02, false),
        ("ds-heavy-2k", 1.02, false),
        ("tiny-pods-5k", 1.01, false),
        ("gpu-mix-2k", 1.03, false),
        ("ha-spread-1500", 1.15, false),
    ] {
        match instances.iter().find(|instance| instance.name == name) {
            Some(instance) => check_ratio(instance, most, proven),
            None => println!("skipped: {name} is not among the instances from {whence}"),
        }
    }
}

#[test]
fn a_small_problem_is_refined_even_if_time_is_up_before_it_is_looked_at() {
    let (instances, whence) = instances().unwrap();
    let name = "karpdist-100k";
    let Some(instance) = instances.iter().find(|instance| instance.name == name) else {
        println!("skipped: {name} is not among the instances from {whence}");
        return;
    };
    let plan = solve_within(&instance.snapshot, &Settings::default(), &|| true);
    let bound = instance.known.unwrap().lower_bound;
    assert!(plan.unplaced.is_empty() && plan.cost.0 * 100 <= bound * 103, "{} of {bound}", plan.cost);
}
