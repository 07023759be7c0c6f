//! How near to the best known bound plans for the shared packing instances come, within the controller's amount of work: as
//! near as the gate that looks at plans of a second demands, but for two that take a second to come so near. In a clone without them there is nothing to look at;
//! `own_instances.rs` looks at instances of the repository's own.
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use scheduling::{Settings, check, solve, solve_within};
use tandem::gates::{Instance, instances, to_bound_at_1_s};

/// What is wrong with the plan for an instance that something is known about.
fn missed(instance: &Instance) -> Vec<String> {
    let Some(known) = instance.known else { return Vec::new() };
    let plan = solve(&instance.snapshot, &Settings::default());
    let mut missed: Vec<String> = check::check(&instance.snapshot, &plan).iter().map(ToString::to_string).collect();
    let mut demand = |holds: bool, what: String| {
        if !holds {
            missed.push(what);
        }
    };
    demand(plan.unplaced.is_empty(), format!("{} pods are unplaced", plan.unplaced.len()));
    #[expect(clippy::cast_precision_loss, reason = "a ratio with three places")]
    let ratio = plan.cost.0 as f64 / known.lower_bound as f64;
    let most = match instance.name.as_str() {
        "ha-spread-1500" => 1.10,
        "kitchen-sink-12k" => 1.07,
        name => to_bound_at_1_s(name),
    };
    demand(ratio <= most, format!("{ratio:.4} times the best known bound, not {most}"));
    demand(plan.cost <= plan.greedy_cost.unwrap(), format!("{} is dearer than the greedy plan", plan.cost));
    demand(plan.cost.0 <= known.karpenter, format!("{} is dearer than Karpenter's rule", plan.cost));
    let bound = plan.lower_bound.as_ref().unwrap();
    demand(bound.cost.0 <= known.best, format!("the bound {bound:?} is above a plan that is known"));
    demand(bound.ignores.is_empty(), format!("{bound:?} ignores something"));
    let small = ["tiny-12", "small-40"].contains(&instance.name.as_str());
    demand(!small || plan.proven_optimal(), "it is not proven to be optimal".to_owned());
    missed
}

#[test]
fn plans_for_the_shared_instances_come_near_to_the_best_known_bound() {
    let (instances, whence) = instances().unwrap();
    println!("{} instances from {whence}", instances.len());
    let missed = instances.iter().flat_map(|instance| {
        missed(instance).into_iter().map(|what| format!("{}: {what}", instance.name)).collect::<Vec<_>>()
    });
    assert_eq!(missed.collect::<Vec<_>>(), [""; 0]);
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
