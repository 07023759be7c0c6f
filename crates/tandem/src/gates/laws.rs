//! The gates that are laws: the same plan for the same input, and nothing that is easier costs more.

use std::sync::Arc;

use scheduling::{
    Opening, Settings, Snapshot, Solution, nominations, realise, realise_nominated, solve_after, solve_greedy,
};

use super::{Gate, Instance, Stopwatch, dollars, plan, repeatable};

/// Up to so many pods, an instance is played through the scheduler and changed in every way.
const MANY: usize = 12_000;
/// The seed of the played scheduler.
const SEED: u64 = 1;

pub(super) fn gates(instances: &[Instance]) -> Vec<Gate> {
    vec![repeatability(instances), easier(instances), realised(instances)]
}

fn repeatability(instances: &[Instance]) -> Gate {
    let mut misses = Vec::new();
    for instance in instances {
        let started = Stopwatch::start();
        let first = plan(&instance.snapshot);
        let took = started.elapsed().as_millis();
        if instance.snapshot.pods.len() >= 100_000 && took > 1000 {
            misses.push(format!("{}: {took} ms", instance.name));
        }
        if plan(&turned(&instance.snapshot)) != first {
            misses.push(format!("{}: another plan for another order", instance.name));
        }
    }
    Gate {
        name: "G5",
        demands: "plans for 100,000 pods within 1 s; the same plan whatever the order",
        misses,
        is_idle: false,
    }
}

/// The same in another order.
fn turned(snapshot: &Snapshot) -> Snapshot {
    let mut turned = snapshot.clone();
    turned.pods.reverse();
    turned.pools.reverse();
    turned.daemons.reverse();
    for pool in &mut turned.pools {
        pool.instance_types = pool.instance_types.iter().rev().cloned().collect();
    }
    turned
}

/// With the old plan to start from: more types, no constraints and twice the pods.
fn easier(instances: &[Instance]) -> Gate {
    let mut misses = Vec::new();
    let after = |snapshot: &Snapshot, previous: &Solution| solve_after(snapshot, &repeatable(), &|| false, previous);
    for instance in instances.iter().filter(|instance| instance.snapshot.pods.len() <= MANY) {
        let whole = plan(&instance.snapshot);
        let mut judge = |what: &str, harder: &Solution, easier: &Solution, factor: i64| {
            let (were, are) = (harder.unplaced.len(), easier.unplaced.len());
            if are > were || (are == were && easier.cost.0 > factor * harder.cost.0) {
                let (was, is) = (dollars(harder.cost.0), dollars(easier.cost.0));
                misses.push(format!("{}: {was} became {is} with {what}", instance.name));
            }
        };
        let few = plan(&fewer_types(&instance.snapshot));
        judge("more types", &few, &after(&instance.snapshot, &few), 1);
        judge("fewer constraints", &whole, &after(&unconstrained(&instance.snapshot), &whole), 1);
        let twice = after(&doubled(&instance.snapshot), &whole);
        judge("twice the pods", &whole, &twice, 2);
    }
    let demands = "more types or fewer constraints never cost more, twice the pods at most twice as much";
    Gate { name: "G6", demands, misses, is_idle: false }
}

/// Every other type is gone, the largest stays.
fn fewer_types(snapshot: &Snapshot) -> Snapshot {
    let mut fewer = snapshot.clone();
    for pool in &mut fewer.pools {
        let mut types = pool.instance_types.to_vec();
        types.sort_by(|a, b| a.name.cmp(&b.name));
        let mut odd = false;
        types.retain(|_| {
            odd = !odd;
            odd
        });
        pool.instance_types = types.into();
    }
    fewer
}

/// No pod minds where the others are.
fn unconstrained(snapshot: &Snapshot) -> Snapshot {
    let mut free = snapshot.clone();
    for pod in &mut free.pods {
        let pod = Arc::make_mut(pod);
        pod.topology_spread.clear();
        pod.pod_anti_affinity.clear();
        pod.pod_affinity.clear();
    }
    free
}

fn doubled(snapshot: &Snapshot) -> Snapshot {
    let mut doubled = snapshot.clone();
    for pod in &snapshot.pods {
        let mut other = pod.as_ref().clone();
        other.key.name.push_str("-too");
        doubled.pods.push(Arc::new(other));
    }
    doubled
}

/// What plans cost when the scheduler has placed the pods: with the plan's nominations, as the controller has it, and on the
/// instances that others have tried it on also as the scheduler likes. Of those two runs a small instance says little: one pod
/// that the scheduler strands is a machine more, which on sixty pods is as much as all that was saved.
fn realised(instances: &[Instance]) -> Gate {
    let mut misses = Vec::new();
    for instance in instances.iter().filter(|instance| instance.snapshot.pods.len() <= MANY) {
        let snapshot = &instance.snapshot;
        let plan = plan(snapshot);
        let nominated = nominations(snapshot, &plan);
        let with = realise_nominated(snapshot, &plan, &nominated, Opening::Together, SEED).realised_cost;
        let without = realise(snapshot, &plan, SEED).realised_cost;
        // Nobody nominates for it.
        let greedy = realise(snapshot, &solve_greedy(snapshot, &Settings::default()), SEED).realised_cost;
        let is_ours = super::own(&instance.name).is_some();
        for (cost, how) in [(Some(with), "with nominations"), ((!is_ours).then_some(without), "without")] {
            if let Some(cost) = cost.filter(|cost| *cost > greedy) {
                misses.push(format!("{}: {} {how} against {}", instance.name, dollars(cost.0), dollars(greedy.0)));
            }
        }
    }
    let demands = "played through the scheduler, no dearer than the greedy rule's plan: with nominations, on shared instances without, too";
    Gate { name: "G7", demands, misses, is_idle: false }
}
