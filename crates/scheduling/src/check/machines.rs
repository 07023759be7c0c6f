//! One node at a time: what is on it, and whether that is possible.

use std::collections::{BTreeMap, BTreeSet};

use requirements::{Requirement, labels};
use units::{Amount, Excess, ResourceList};

use super::{
    Violation,
    ground::{Ground, Look, Placed, missing_daemons},
    labels::{Labels, Present, is_subset},
    ledger,
    offers::tolerating,
    violation::{LaunchFault, PoolFault, Sum},
};
use crate::{HostPort, Node, NodeStage, OfferingKey, Pod, Pool, Taint, Target, untolerated};

/// The pods placed on the nodes of the snapshot.
pub(super) fn existing(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for (node, placed) in ground.snapshot.nodes.iter().zip(&ground.on_existing) {
        if node.stage == NodeStage::Leaving || placed.is_empty() {
            continue;
        }
        let labels = Present::new(node);
        let taints: Vec<&Taint> = node.lasting_taints().collect();
        for Placed { pod, demand } in placed {
            let suit = &ground.demands[*demand];
            if let Some(taint) = untolerated(suit.tolerations, taints.iter().copied()) {
                violations.push(Violation::Untolerated { pod: pod.key.clone(), taint: taint.clone() });
            }
            if let Some(what) = suit.labels.unsatisfied(&labels) {
                violations.push(Violation::WrongLabels { pod: pod.key.clone(), offering: None, what });
            }
        }
        let missing = missing_daemons(ground.snapshot, node, &labels);
        let there: Vec<&Pod> = node.pods.iter().map(AsRef::as_ref).chain(missing).collect();
        let target = Target::Existing(node.key.clone());
        if let Some(excess) = overfull(&there, &sum(pods(placed)), &node.allocatable) {
            violations.push(Violation::Overfull { node: target.clone(), offering: None, excess });
        }
        ports(&target, &there, placed, violations);
        volumes(node, &target, placed, violations);
    }
}

/// The new nodes and the pods placed on them.
pub(super) fn new(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let faults: Vec<Vec<Violation>> = ground.looks.iter().map(of_look).collect();
    let capacities: Vec<ResourceList> = ground.looks.iter().map(largest).collect();
    // What a look holds against a demand is found once, however many pods make it on however many nodes.
    let mut suits = BTreeMap::new();
    let mut may_relax = ledger::relaxed(ground);
    for (index, (node, placed)) in ground.solution.new_nodes.iter().zip(&ground.on_new).enumerate() {
        let look_index = ground.look_of[index];
        let look = &ground.looks[look_index];
        let too_few = |fault: &&Violation| matches!(fault, Violation::TooFewValues { .. });
        let relaxed = may_relax > 0 && faults[look_index].iter().any(|fault| too_few(&fault));
        may_relax -= usize::from(relaxed);
        let held = faults[look_index].iter().filter(|fault| !(relaxed && too_few(fault)));
        violations.extend(held.map(|fault| fault.clone().of_node(index)));
        let wrong = |offering: Option<&OfferingKey>, what| {
            let offering = offering.cloned();
            Violation::Unlaunchable { node: index, offering, what }
        };
        if placed.is_empty() {
            violations.push(wrong(None, LaunchFault::NoPods));
        }
        for Placed { pod, demand } in placed {
            let held = suits.entry((look_index, *demand)).or_insert_with(|| unsuited(ground, look, *demand));
            violations.extend(held.iter().map(|fault| fault.of(pod)));
        }
        let target = Target::New(index);
        let asked = sum(pods(placed));
        let mut most = ResourceList::new();
        for shape in &look.shapes {
            if let Some(excess) = overfull(&shape.daemons, &asked, &shape.allocatable) {
                let offering = Some(shape.offering.clone());
                violations.push(Violation::Overfull { node: target.clone(), offering, excess });
            }
            if !shape.daemons.is_empty() {
                most.max_with(&sum(shape.daemons.iter().copied()));
            }
            ports(&target, &shape.daemons, placed, violations);
        }
        if capacities[look_index] != node.capacity {
            violations.push(Violation::WrongSum { what: Sum::Capacity { node: index } });
        }
        // Room may be kept for a daemon that the pods' own demands keep away, but for none that cannot tolerate the node.
        // A pod that asks for less than nothing may be reckoned with as asking for nothing.
        let (mut least, mut largest) = (asked, ResourceList::new());
        least.add(&most);
        for pod in pods(placed).chain(look.pool.into_iter().flat_map(|pool| tolerating(ground.snapshot, pool))) {
            largest.add(&pod.requests.iter().map(|(name, amount)| (name.clone(), amount.max(Amount::ZERO))).collect());
        }
        if !(least.fits_in(&node.requests) && node.requests.fits_in(&largest)) {
            violations.push(Violation::WrongSum { what: Sum::Requests { node: index } });
        }
    }
}

/// What is wrong with a new node whatever its pods are.
fn of_look(look: &Look<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let Some(pool) = look.pool else {
        let what = PoolFault::Missing { pool: look.node.pool.clone() };
        return vec![Violation::WrongPool { node: 0, what }];
    };
    as_its_pool(pool, look, &mut violations);
    launchable(pool, look, &mut violations);
    for form in &look.forms {
        let outside = |wanted: &&Requirement| !form.labels.label(wanted.key()).is_within(wanted);
        if let Some(wanted) = pool.requirements.iter().find(outside) {
            let (offering, wanted) = (form.offering.clone(), wanted.clone());
            violations.push(Violation::OutsidePool { node: 0, offering, wanted });
        }
    }
    enough_values(pool, look, &mut violations);
    if look.node.offerings.first().is_some_and(|cheapest| cheapest.price != look.node.price) {
        violations.push(Violation::WrongSum { what: Sum::Price { node: 0 } });
    }
    violations
}

fn as_its_pool(pool: &Pool, look: &Look<'_>, violations: &mut Vec<Violation>) {
    let node = look.node;
    let mut wrong = |what| violations.push(Violation::WrongPool { node: 0, what });
    if node.taints != pool.taints || node.startup_taints != pool.startup_taints {
        wrong(PoolFault::Taints);
    }
    let name = (pool.key.kind.label().to_owned(), pool.key.name.clone());
    for (key, value) in pool.labels.iter().chain([(&name.0, &name.1)]) {
        if node.labels.get(key) != Some(value) {
            wrong(PoolFault::Label { key: key.clone(), value: value.clone() });
        }
    }
    for wanted in pool.requirements.iter() {
        let held = node.requirements.get(wanted.key()).is_some_and(|own| is_subset(own, wanted));
        if !held {
            violations.push(Violation::WrongRequirements { node: 0, wanted: wanted.clone() });
        }
    }
}

/// Every offering is offered, available, at its price and not excluded, and they come cheapest first.
fn launchable(pool: &Pool, look: &Look<'_>, violations: &mut Vec<Violation>) {
    let node = look.node;
    let mut wrong = |offering: Option<&OfferingKey>, what| {
        violations.push(Violation::Unlaunchable { node: 0, offering: offering.cloned(), what });
    };
    if node.offerings.is_empty() {
        wrong(None, LaunchFault::NoOffering);
    }
    if !node.offerings.is_sorted_by_key(|offering| offering.price) {
        wrong(None, LaunchFault::NotCheapestFirst);
    }
    let distinct: BTreeSet<_> = node.offerings.iter().map(|offering| &offering.key).collect();
    if distinct.len() < node.offerings.len() {
        wrong(None, LaunchFault::Twice);
    }
    let machines: BTreeMap<&OfferingKey, _> = look.forms.iter().map(|form| (form.offering, form)).collect();
    for priced in &node.offerings {
        let form = machines.get(&priced.key);
        let found = form.and_then(|form| form.labels.machine).and_then(|machine| {
            let same = |zone: &str, paid| zone == priced.key.zone && paid == priced.key.capacity_type;
            machine.offerings.iter().find(|offering| same(&offering.zone, offering.capacity_type))
        });
        match found {
            None => wrong(Some(&priced.key), LaunchFault::NotOffered),
            Some(offering) if !offering.available => wrong(Some(&priced.key), LaunchFault::NotAvailable),
            Some(offering) if offering.price != priced.price => wrong(Some(&priced.key), LaunchFault::OtherPrice),
            Some(_) => {}
        }
        // A node has its pool's name and a name of its own; what its requirements say of these decides nothing.
        let decided = |wanted: &&Requirement| ![labels::HOSTNAME, pool.key.kind.label()].contains(&wanted.key());
        let excludes =
            |wanted: &Requirement| form.is_some_and(|form| !form.labels.label(wanted.key()).may_be_within(wanted));
        if node.requirements.iter().filter(decided).any(excludes) {
            wrong(Some(&priced.key), LaunchFault::AgainstRequirements);
        }
    }
}

fn enough_values(pool: &Pool, look: &Look<'_>, violations: &mut Vec<Violation>) {
    for requirement in pool.requirements.iter() {
        let Some(needed) = requirement.min_values() else { continue };
        let key = requirement.key();
        let mut found: BTreeSet<String> = BTreeSet::new();
        for form in &look.forms {
            match key {
                labels::ZONE => found.extend([form.offering.zone.clone()]),
                labels::CAPACITY_TYPE => found.extend([form.offering.capacity_type.to_string()]),
                labels::INSTANCE_TYPE => found.extend([form.offering.instance_type.clone()]),
                _ => {
                    let can = form.labels.machine.and_then(|machine| machine.requirements.get(key));
                    found.extend(can.and_then(Requirement::finite).into_iter().flatten().cloned());
                }
            }
        }
        if found.len() < needed as usize {
            violations.push(Violation::TooFewValues { node: 0, key: key.to_owned(), needed, found: found.len() });
        }
    }
}

/// What a new node holds against the pods of one demand.
enum Unsuited {
    Taint(Taint),
    Labels(OfferingKey, super::violation::LabelDemand),
}

impl Unsuited {
    fn of(&self, pod: &Pod) -> Violation {
        let pod = pod.key.clone();
        match self {
            Self::Taint(taint) => Violation::Untolerated { pod, taint: taint.clone() },
            Self::Labels(offering, what) => {
                Violation::WrongLabels { pod, offering: Some(offering.clone()), what: what.clone() }
            }
        }
    }
}

fn unsuited(ground: &Ground<'_>, look: &Look<'_>, demand: usize) -> Vec<Unsuited> {
    let suit = &ground.demands[demand];
    let taints = look.pool.iter().flat_map(|pool| &pool.taints);
    let mut held: Vec<Unsuited> =
        untolerated(suit.tolerations, taints).map(|taint| Unsuited::Taint(taint.clone())).into_iter().collect();
    if !suit.labels.is_nothing() {
        let against = |form: &super::ground::Form<'_>| {
            Some(Unsuited::Labels(form.offering.clone(), suit.labels.unsatisfied(&form.labels)?))
        };
        held.extend(look.forms.iter().filter_map(against));
    }
    held
}

/// The largest capacity among a node's offerings, resource by resource.
pub(super) fn largest(look: &Look<'_>) -> ResourceList {
    let mut largest = ResourceList::new();
    let machines = look.forms.iter().filter_map(|form| form.labels.machine);
    machines.for_each(|machine| largest.max_with(&machine.capacity));
    largest
}

/// The first resource that was asked for now and of which there is too little. What was too much before is not its doing.
fn overfull(there: &[&Pod], asked_now: &ResourceList, allocatable: &ResourceList) -> Option<Excess> {
    let before = (!there.is_empty()).then(|| sum(there.iter().copied()));
    asked_now.iter().filter(|(_, asked)| asked.0 > 0).find_map(|(name, asked)| {
        let asked = before.as_ref().map_or(asked, |before| before.get(name).saturating_add(asked));
        let free = allocatable.get(name);
        (asked > free).then(|| Excess { name: name.clone(), asked, free })
    })
}

/// Ports that two pods take. What one pod asks for twice is its own affair: the kube-scheduler does not look at that.
fn ports(target: &Target, there: &[&Pod], placed: &[Placed<'_>], violations: &mut Vec<Violation>) {
    let mut taken: Option<BTreeMap<u16, Vec<&HostPort>>> = None;
    for pod in pods(placed).filter(|pod| !pod.host_ports.is_empty()) {
        let taken = taken.get_or_insert_with(|| {
            let mut by_number: BTreeMap<u16, Vec<&HostPort>> = BTreeMap::new();
            for port in there.iter().flat_map(|pod| &pod.host_ports) {
                by_number.entry(port.port).or_default().push(port);
            }
            by_number
        });
        let clashes = |port: &&HostPort| {
            taken.get(&port.port).is_some_and(|others| others.iter().any(|other| port.clashes_with(other)))
        };
        let clashes = pod.host_ports.iter().filter(clashes);
        violations.extend(clashes.map(|port| Violation::PortClash { node: target.clone(), port: port.clone() }));
        for port in &pod.host_ports {
            taken.entry(port.port).or_default().push(port);
        }
    }
}

/// What pods attach that a node of the snapshot cannot hold besides what is attached.
fn volumes(node: &Node, target: &Target, placed: &[Placed<'_>], violations: &mut Vec<Violation>) {
    for (driver, limit) in &node.volume_limits {
        let of = |pod: &Pod| pod.volumes_by_driver.get(driver).cloned().unwrap_or_default();
        let before: BTreeSet<String> = node.pods.iter().flat_map(|pod| of(pod)).collect();
        let after: BTreeSet<String> = pods(placed).flat_map(of).chain(before.iter().cloned()).collect();
        if after.len() > before.len() && after.len() > *limit as usize {
            let (node, driver, attached) = (target.clone(), driver.clone(), after.len());
            violations.push(Violation::TooManyVolumes { node, driver, attached, limit: *limit });
        }
    }
}

fn pods<'p, 'a>(placed: &'p [Placed<'a>]) -> impl Iterator<Item = &'a Pod> + use<'p, 'a> {
    placed.iter().map(|one| one.pod)
}

fn sum<'p>(pods: impl IntoIterator<Item = &'p Pod>) -> ResourceList {
    let mut sum = ResourceList::new();
    pods.into_iter().for_each(|pod| sum.add(&pod.requests));
    sum
}
