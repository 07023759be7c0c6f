//! The gates that are laws: the same plan for the same input, and nothing that is easier costs more.

use std::sync::Arc;

use scheduling::{
    Opening, Settings, Snapshot, Solution, nominations, realise, realise_nominated, solve_after, solve_greedy,
};
use units::{Amount, ResourceList, ResourceName};

use super::{Gate, Instance, Stopwatch, dollars, plan, repeatable};

/// Up to so many pods, an instance is played through the scheduler and changed in every way.
const MANY: usize = 12_000;
/// The seed of the played scheduler.
const SEED: u64 = 1;

/// What Karpenter's plans cost when a scheduler like ours has placed the pods, as multiples of the best known bound
/// (`packing.md` §3.5).
const KARPENTER_REALISED: [(&str, f64); 6] = [
    ("web-1k-team", 1.16),
    ("ds-heavy-2k", 1.12),
    ("mem-heavy-3k", 1.81),
    ("batch-big-800", 1.49),
    ("web-10k-multiarch", 1.45),
    ("ha-spread-1500", 1.23),
];

pub(super) fn gates(instances: &[Instance], print: &mut dyn FnMut(&str)) -> Vec<Gate> {
    vec![repeatability(instances), easier(instances), realised(instances, print)]
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

/// With the old plan to start from: more types, no limits, no constraints and twice the pods.
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
        let limited = limited(&instance.snapshot, &whole);
        let tight = after(&limited, &whole);
        judge("a looser limit", &tight, &after(&instance.snapshot, &tight), 1);
        let twice = after(&doubled(&instance.snapshot), &whole);
        judge("twice the pods", &whole, &twice, 2);
        // Nobody pays less for more pods, and nobody has to pay more than for the plan twice.
        let bound = |plan: &Solution| plan.lower_bound.as_ref().map_or(0, |bound| bound.cost.0);
        if !(bound(&whole)..=2 * whole.cost.0).contains(&bound(&twice)) {
            let (once, twice) = (dollars(bound(&whole)), dollars(bound(&twice)));
            misses.push(format!("{}: the bound {once} became {twice} with twice the pods", instance.name));
        }
    }
    let demands = "more types, a looser limit or fewer constraints never cost more, twice the pods at most twice as much; the bound scales";
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

/// Each pool may have as many CPUs as a plan has bought of it, less an eighth.
fn limited(snapshot: &Snapshot, plan: &Solution) -> Snapshot {
    let mut limited = snapshot.clone();
    let cpu = ResourceName::cpu();
    for pool in &mut limited.pools {
        let bought = plan.new_nodes.iter().filter(|node| node.pool == pool.key);
        let bought: i64 = bought.map(|node| node.capacity.get(&cpu).0).sum();
        pool.limits = Some(ResourceList::new().with(cpu.clone(), Amount(bought - bought / 8)));
    }
    limited
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
fn realised(instances: &[Instance], print: &mut dyn FnMut(&str)) -> Gate {
    let mut misses = Vec::new();
    print(&format!(
        "\n{:<18} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>9}",
        "PLAYED", "PLANNED", "NOMINATED", "FREELY", "OURS", "FREELY", "GREEDY", "KARPENTER"
    ));
    for instance in instances.iter().filter(|instance| instance.snapshot.pods.len() <= MANY) {
        let snapshot = &instance.snapshot;
        let plan = plan(snapshot);
        let nominated = nominations(snapshot, &plan);
        let with = realise_nominated(snapshot, &plan, &nominated, Opening::Together, SEED).realised_cost;
        let without = realise(snapshot, &plan, SEED).realised_cost;
        // Nobody nominates for it.
        let greedy = realise(snapshot, &solve_greedy(snapshot, &Settings::default()), SEED).realised_cost;
        let karpenter = KARPENTER_REALISED.iter().find(|(name, _)| *name == instance.name).map(|(_, ratio)| *ratio);
        #[expect(clippy::cast_precision_loss, reason = "a ratio to print")]
        let ratio = |cost: i64| instance.known.map(|known| cost as f64 / known.lower_bound as f64);
        let told = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"));
        print(&format!(
            "{:<18} {:>10} {:>10} {:>10} {:>8} {:>8} {:>8} {:>9}",
            instance.name,
            dollars(plan.cost.0),
            dollars(with.0),
            dollars(without.0),
            told(ratio(with.0)),
            told(ratio(without.0)),
            told(ratio(greedy.0)),
            told(karpenter),
        ));
        if let (Some(ratio), Some(karpenter)) = (ratio(with.0), karpenter)
            && ratio > karpenter
        {
            misses.push(format!("{}: {ratio:.3} times the bound against Karpenter's {karpenter}", instance.name));
        }
        let is_ours = super::own(&instance.name).is_some();
        for (cost, how) in [(Some(with), "with nominations"), ((!is_ours).then_some(without), "without")] {
            if let Some(cost) = cost.filter(|cost| *cost > greedy) {
                misses.push(format!("{}: {} {how} against {}", instance.name, dollars(cost.0), dollars(greedy.0)));
            }
        }
    }
    let demands = "played through the scheduler, no dearer than Karpenter's, where that is known, nor than the greedy rule's plan: with nominations, on shared instances without, too";
    Gate { name: "G7", demands, misses, is_idle: false }
}
