//! One node at a time: what is on it, and whether that is possible.

use std::{collections::BTreeSet, sync::Arc};

use requirements::{Requirement, labels};
use units::ResourceList;

use super::{
    Violation,
    labels::{Labels, of_existing, of_new, unsatisfied},
    machine_of, pool_of, target_of,
};
use crate::{HostPort, NewNode, Node, OfferingKey, Pod, Pool, Snapshot, Taint, TaintEffect, Target};

/// The pods placed on a node of the snapshot.
pub(super) fn existing(snapshot: &Snapshot, node: &Node, placed: &[&Pod], violations: &mut Vec<Violation>) {
    let labels = of_existing(node);
    let taints: Vec<&Taint> = node.lasting_taints().collect();
    for pod in placed {
        untolerated(pod, taints.iter().copied(), violations);
        if let Some(what) = unsatisfied(pod, &labels) {
            violations.push(Violation::WrongLabels { pod: pod.key.clone(), offering: None, what });
        }
    }
    let missing = daemons(snapshot, &taints, &labels).filter(|daemon| !node.pods.iter().any(|pod| is_of(pod, daemon)));
    let there: Vec<&Pod> = node.pods.iter().map(Arc::as_ref).chain(missing).collect();
    let target = target_of(&node.key);
    overfull(&target, None, &there, placed, &node.allocatable, violations);
    ports(&target, &there, placed, violations);
}

/// A new node and the pods placed on it.
pub(super) fn new(snapshot: &Snapshot, index: usize, node: &NewNode, placed: &[&Pod], violations: &mut Vec<Violation>) {
    let Some(pool) = pool_of(snapshot, &node.pool) else {
        violations.push(Violation::WrongPool { node: index, what: format!("there is no {}", node.pool) });
        return;
    };
    as_its_pool(pool, index, node, violations);
    if placed.is_empty() {
        let what = "it has no pods".to_owned();
        violations.push(Violation::Unlaunchable { node: index, offering: None, what });
    }
    for pod in placed {
        untolerated(pod, &pool.taints, violations);
    }
    launchable(pool, index, node, violations);
    let target = Target::New(index);
    let taints: Vec<&Taint> = pool.taints.iter().collect();
    for offering in &node.offerings {
        let Some(machine) = machine_of(pool, &offering.key) else { continue };
        let labels = of_new(pool, node, &offering.key);
        for pod in placed {
            if let Some(what) = unsatisfied(pod, &labels) {
                let (pod, offering) = (pod.key.clone(), Some(offering.key.clone()));
                violations.push(Violation::WrongLabels { pod, offering, what });
            }
        }
        let outside = |wanted: &&Requirement| !wanted.allows(labels.get(wanted.key()).map(String::as_str));
        if let Some(wanted) = pool.requirements.iter().find(outside) {
            let (offering, what) = (offering.key.clone(), wanted.to_string());
            violations.push(Violation::OutsidePool { node: index, offering, what });
        }
        let there: Vec<&Pod> = daemons(snapshot, &taints, &labels).collect();
        overfull(&target, Some(&offering.key), &there, placed, &machine.allocatable(), violations);
        ports(&target, &there, placed, violations);
    }
    sums(pool, index, node, placed, violations);
}

fn as_its_pool(pool: &Pool, index: usize, node: &NewNode, violations: &mut Vec<Violation>) {
    let mut wrong = |what: String| violations.push(Violation::WrongPool { node: index, what });
    if node.taints != pool.taints || node.startup_taints != pool.startup_taints {
        wrong("its taints are not the pool's".to_owned());
    }
    let name = (pool.key.kind.label().to_owned(), pool.key.name.clone());
    for (key, value) in pool.labels.iter().chain([(&name.0, &name.1)]) {
        if node.labels.get(key) != Some(value) {
            wrong(format!("label {key}={value} is missing"));
        }
    }
}

/// Every offering is offered, available, at its price, and they come cheapest first; enough of them are different.
fn launchable(pool: &Pool, index: usize, node: &NewNode, violations: &mut Vec<Violation>) {
    let mut wrong = |offering: Option<&OfferingKey>, what: &str| {
        let (offering, what) = (offering.cloned(), what.to_owned());
        violations.push(Violation::Unlaunchable { node: index, offering, what });
    };
    if node.offerings.is_empty() {
        wrong(None, "it has no offering");
    }
    if !node.offerings.is_sorted_by_key(|offering| offering.price) {
        wrong(None, "its offerings do not come cheapest first");
    }
    let distinct: BTreeSet<_> = node.offerings.iter().map(|offering| &offering.key).collect();
    if distinct.len() < node.offerings.len() {
        wrong(None, "an offering is there twice");
    }
    for priced in &node.offerings {
        let found = machine_of(pool, &priced.key).and_then(|machine| {
            let same = |zone: &str, paid| zone == priced.key.zone && paid == priced.key.capacity_type;
            machine.offerings.iter().find(|offering| same(&offering.zone, offering.capacity_type))
        });
        match found {
            None => wrong(Some(&priced.key), "the pool does not offer it"),
            Some(offering) if !offering.available => wrong(Some(&priced.key), "it is not available"),
            Some(offering) if offering.price != priced.price => wrong(Some(&priced.key), "its price is another"),
            Some(_) => {}
        }
    }
    for requirement in pool.requirements.iter() {
        let Some(needed) = requirement.min_values() else { continue };
        let key = requirement.key();
        let values: BTreeSet<String> =
            node.offerings.iter().flat_map(|offering| values(pool, &offering.key, key)).collect();
        if values.len() < needed as usize {
            violations.push(Violation::TooFewValues { node: index, key: key.to_owned() });
        }
    }
}

fn values(pool: &Pool, offering: &OfferingKey, key: &str) -> Vec<String> {
    match key {
        labels::ZONE => vec![offering.zone.clone()],
        labels::CAPACITY_TYPE => vec![offering.capacity_type.to_string()],
        labels::INSTANCE_TYPE => vec![offering.instance_type.clone()],
        _ => machine_of(pool, offering)
            .and_then(|machine| machine.requirements.get(key))
            .and_then(Requirement::finite)
            .map_or(Vec::new(), |values| values.iter().cloned().collect()),
    }
}

fn sums(pool: &Pool, index: usize, node: &NewNode, placed: &[&Pod], violations: &mut Vec<Violation>) {
    let mut wrong = |what: &str| violations.push(Violation::WrongSum { what: format!("{what} of new node {index}") });
    if node.offerings.first().is_some_and(|cheapest| cheapest.price != node.price) {
        wrong("the price");
    }
    if largest(pool, node) != node.capacity {
        wrong("the capacity");
    }
    if !sum(placed.iter().copied()).fits_in(&node.requests) {
        wrong("the requests");
    }
}

/// The largest capacity among a node's offerings, resource by resource.
pub(super) fn largest(pool: &Pool, node: &NewNode) -> ResourceList {
    let mut largest = ResourceList::new();
    let machines = node.offerings.iter().filter_map(|offering| machine_of(pool, &offering.key));
    machines.for_each(|machine| largest.max_with(&machine.capacity));
    largest
}

fn overfull(
    target: &Target,
    offering: Option<&OfferingKey>,
    there: &[&Pod],
    placed: &[&Pod],
    allocatable: &ResourceList,
    violations: &mut Vec<Violation>,
) {
    let asked_now = sum(placed.iter().copied());
    let all = sum(there.iter().chain(placed).copied());
    // What was too much before this solve is not its doing.
    let concerned =
        all.iter().filter(|(name, _)| asked_now.get(name).0 > 0).map(|(name, amount)| (name.clone(), amount));
    let concerned: ResourceList = concerned.collect();
    if let Some(excess) = concerned.first_excess(allocatable) {
        violations.push(Violation::Overfull { node: target.clone(), offering: offering.cloned(), excess });
    }
}

fn ports(target: &Target, there: &[&Pod], placed: &[&Pod], violations: &mut Vec<Violation>) {
    let mut taken: Vec<&HostPort> = there.iter().flat_map(|pod| &pod.host_ports).collect();
    for port in placed.iter().flat_map(|pod| &pod.host_ports) {
        if taken.iter().any(|other| port.clashes_with(other)) {
            violations.push(Violation::PortClash { node: target.clone(), port: port.clone() });
        }
        taken.push(port);
    }
}

fn untolerated<'t>(pod: &Pod, taints: impl IntoIterator<Item = &'t Taint>, violations: &mut Vec<Violation>) {
    let lived_with = |taint: &Taint| pod.tolerations.iter().any(|toleration| toleration.tolerates(taint));
    let refused = |taint: &&Taint| taint.effect != TaintEffect::PreferNoSchedule && !lived_with(taint);
    if let Some(taint) = taints.into_iter().find(refused) {
        violations.push(Violation::Untolerated { pod: pod.key.clone(), taint: taint.clone() });
    }
}

/// The daemons that run on a node with these taints and labels.
fn daemons<'s>(snapshot: &'s Snapshot, taints: &'s [&Taint], labels: &'s Labels) -> impl Iterator<Item = &'s Pod> {
    let runs = move |daemon: &&Pod| {
        let mut held_against = Vec::new();
        untolerated(daemon, taints.iter().copied(), &mut held_against);
        held_against.is_empty() && unsatisfied(daemon, labels).is_none()
    };
    snapshot.daemons.iter().map(Arc::as_ref).filter(runs)
}

/// Whether a bound pod is the one that the daemon would make.
fn is_of(pod: &Pod, daemon: &Pod) -> bool {
    let set =
        daemon.owner.as_ref().filter(|owner| owner.kind == "DaemonSet").map_or(&daemon.key.name, |owner| &owner.name);
    let owner = pod.owner.as_ref().filter(|owner| owner.kind == "DaemonSet");
    pod.key.namespace == daemon.key.namespace && owner.is_some_and(|owner| owner.name == *set)
}

fn sum<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> ResourceList {
    let mut sum = ResourceList::new();
    pods.into_iter().for_each(|pod| sum.add(&pod.requests));
    sum
}
