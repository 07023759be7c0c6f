//! One plan in which everything occurs, broken in every way, one at a time.

use std::sync::Arc;

use requirements::{Operator, Requirement, labels};
use units::{Amount, Excess, UsdMicrosPerHour};

use super::{everything::*, orders::spread_over};
use crate::{
    Note, PodAffinityTerm, Snapshot, Solution, Strength, Target, WhenUnsatisfiable,
    check::{LabelDemand, LaunchFault, PoolFault, Sum, Violation, check},
    testing::*,
};

type Mutation = (&'static str, fn(&mut Snapshot, &mut Solution), fn(&Violation) -> bool);

macro_rules! is {
    ($pattern:pat $(if $guard:expr)?) => {
        |violation| matches!(violation, $pattern $(if $guard)?)
    };
}

const MUTATIONS: &[Mutation] = &[
    (
        "a pod is dropped",
        |snapshot, solution| {
            place(snapshot, solution, "apart-0", &existing("lonely"));
            solution.placed.remove(&key("apart-0"));
        },
        is!(Violation::Lost { pod } if pod.name == "apart-0"),
    ),
    (
        "a pod is not listed by its node",
        |_, solution| solution.new_nodes[0].pods.retain(|pod| pod.name != "here"),
        is!(Violation::Lost { pod } if pod.name == "here"),
    ),
    (
        "a pod is placed and unplaced",
        |snapshot, solution| {
            solution.unplaced.insert(key("here"), reason(&snapshot.pools[0]));
        },
        is!(Violation::Duplicated { pod } if pod.name == "here"),
    ),
    (
        "two nodes list a pod",
        |_, solution| solution.new_nodes[1].pods.push(key("here")),
        is!(Violation::Duplicated { pod } if pod.name == "here"),
    ),
    (
        "a pod is placed that nobody knows",
        |_, solution| {
            let placement = solution.placed[&key("disk")].clone();
            solution.placed.insert(key("ghost"), placement);
        },
        is!(Violation::UnknownPod { pod } if pod.name == "ghost"),
    ),
    (
        "a pod is placed that was not understood",
        |snapshot, _| pod_mut(snapshot, "disk").invalid.push("what".to_owned()),
        is!(Violation::InvalidPod { .. }),
    ),
    (
        "an unplaced pod has no reason",
        |_, solution| solution.unplaced.values_mut().for_each(Vec::clear),
        is!(Violation::NoReason { pool: None, .. }),
    ),
    (
        "an unplaced pod has no reason for one of the pools",
        |snapshot, _| snapshot.pools.push(pool("other")),
        is!(Violation::NoReason { pool: Some(_), .. }),
    ),
    (
        "a pod is moved to a node that is leaving",
        |snapshot, solution| place(snapshot, solution, "apart-0", &existing("leaving")),
        is!(Violation::NoSuchNode { .. }),
    ),
    (
        "a pod is moved to a node that is not there",
        |snapshot, solution| place(snapshot, solution, "apart-0", &existing("nowhere")),
        is!(Violation::NoSuchNode { .. }),
    ),
    (
        "a pod is moved to a new node that is not made",
        |_, solution| solution.placed.get_mut(&key("disk")).unwrap().node = Target::New(7),
        is!(Violation::NoSuchNode { .. }),
    ),
    (
        "the pool is gone",
        |snapshot, solution| {
            snapshot.pools[0].key.name = "other".to_owned();
            solution.unplaced.insert(key("big"), reason(&snapshot.pools[0]));
        },
        is!(Violation::WrongPool { what: PoolFault::Missing { .. }, .. }),
    ),
    (
        "a node is another pool's",
        |snapshot, solution| {
            snapshot.pools.push(pool("other"));
            let other = snapshot.pools[1].key.clone();
            solution.unplaced.get_mut(&key("big")).unwrap().extend(reason(&snapshot.pools[1]));
            solution.new_nodes[0].pool = other;
        },
        is!(Violation::WrongPool { node: 0, what: PoolFault::Label { .. } }),
    ),
    (
        "a taint is removed",
        |_, solution| solution.new_nodes[1].taints.clear(),
        is!(Violation::WrongPool { node: 1, what: PoolFault::Taints }),
    ),
    (
        "a startup taint is added",
        |_, solution| solution.new_nodes[1].startup_taints.push(taint("cni")),
        is!(Violation::WrongPool { node: 1, what: PoolFault::Taints }),
    ),
    (
        "a label of the pool is left out",
        |_, solution| {
            solution.new_nodes[1].labels.remove("team");
        },
        is!(Violation::WrongPool { what: PoolFault::Label { key, .. }, .. } if key == "team"),
    ),
    (
        "the requirements forget the pool's",
        |_, solution| {
            solution.new_nodes[0].requirements.remove(labels::ARCH);
        },
        is!(Violation::WrongRequirements { node: 0, .. }),
    ),
    (
        "the requirements exclude what is to be bought",
        |_, solution| solution.new_nodes[0].requirements.add(Requirement::one_of(labels::ZONE, ["b"])),
        is!(Violation::Unlaunchable { what: LaunchFault::AgainstRequirements, .. }),
    ),
    (
        "a node has nothing to buy",
        |_, solution| solution.new_nodes[0].offerings.clear(),
        is!(Violation::Unlaunchable { what: LaunchFault::NoOffering, .. }),
    ),
    (
        "the dearest offering comes first",
        |_, solution| solution.new_nodes[0].offerings.reverse(),
        is!(Violation::Unlaunchable { what: LaunchFault::NotCheapestFirst, .. }),
    ),
    (
        "an offering is listed twice",
        |_, solution| {
            let again = solution.new_nodes[0].offerings[0].clone();
            solution.new_nodes[0].offerings.insert(0, again);
        },
        is!(Violation::Unlaunchable { what: LaunchFault::Twice, .. }),
    ),
    (
        "an offering is in a zone that has none",
        |_, solution| solution.new_nodes[1].offerings[1].key.zone = "z".to_owned(),
        is!(Violation::Unlaunchable { node: 1, what: LaunchFault::NotOffered, .. }),
    ),
    (
        "an offering is sold out",
        |snapshot, _| machines(&mut snapshot.pools[0], |one| one.available &= one.zone != "b"),
        is!(Violation::Unlaunchable { node: 1, what: LaunchFault::NotAvailable, .. }),
    ),
    (
        "an offering has become dearer",
        |snapshot, _| machines(&mut snapshot.pools[0], |one| one.price.0 += 1),
        is!(Violation::Unlaunchable { what: LaunchFault::OtherPrice, .. }),
    ),
    (
        "a node has no pods",
        |snapshot, solution| {
            for name in ["spread-1", "apart-1"] {
                place(snapshot, solution, name, &Target::New(0));
            }
        },
        is!(Violation::Unlaunchable { node: 1, what: LaunchFault::NoPods, .. }),
    ),
    (
        "more is bought than there is",
        |snapshot, _| machines(&mut snapshot.pools[0], |one| one.remaining = Some(0)),
        is!(Violation::Overbooked { nodes: 1, remaining: 0, .. }),
    ),
    (
        "the cost is wrong",
        |_, solution| solution.cost = UsdMicrosPerHour(solution.cost.0 + 1),
        is!(Violation::WrongSum { what: Sum::Cost }),
    ),
    (
        "the bound is above the cost",
        |_, solution| solution.lower_bound.as_mut().unwrap().cost.0 += 1,
        is!(Violation::WrongSum { what: Sum::LowerBound }),
    ),
    (
        "a node's price is wrong",
        |_, solution| {
            solution.new_nodes[1].price.0 -= 1;
            solution.cost.0 -= 1;
        },
        is!(Violation::WrongSum { what: Sum::Price { node: 1 } }),
    ),
    (
        "a node's capacity is wrong",
        |_, solution| solution.new_nodes[1].capacity = resources(1, 1, 1),
        is!(Violation::WrongSum { what: Sum::Capacity { node: 1 } }),
    ),
    (
        "a node's requests are too small",
        |_, solution| solution.new_nodes[1].requests = resources(1, 1, 1),
        is!(Violation::WrongSum { what: Sum::Requests { node: 1 } }),
    ),
    (
        "a node's requests are too large",
        |_, solution| solution.new_nodes[1].requests.add(&resources(1, 0, 0)),
        is!(Violation::WrongSum { what: Sum::Requests { node: 1 } }),
    ),
    (
        "a smaller machine is taken",
        |snapshot, solution| {
            offer(snapshot, solution, 0, &[offering("m.large", "a"), offering("m.xlarge", "a")]);
        },
        is!(Violation::Overfull { node: Target::New(0), offering: Some(_), .. }),
    ),
    (
        "a pod is moved to a node that is full",
        |snapshot, solution| {
            pod_mut(snapshot, "here").node_selector.clear();
            pod_mut(snapshot, "here").required_node_affinity.clear();
            place(snapshot, solution, "here", &existing("full"));
        },
        is!(Violation::Overfull { offering: None, excess: Excess { name, .. }, .. } if name.is_cpu()),
    ),
    (
        "a daemon comes that needs its room",
        |snapshot, _| {
            let daemon = on_daemon_set(pod("log", 301, 0), "log");
            snapshot.daemons.push(Arc::new(daemon));
        },
        is!(Violation::Overfull { node: Target::Existing(_), .. }),
    ),
    (
        "a pod does not tolerate its new node",
        |snapshot, _| pod_mut(snapshot, "here").tolerations.clear(),
        is!(Violation::Untolerated { .. }),
    ),
    (
        "a pod does not tolerate its node",
        |snapshot, _| node_mut(snapshot, "full").taints.push(taint("gpu")),
        is!(Violation::Untolerated { pod, .. } if pod.name == "disk"),
    ),
    (
        "the zone is another",
        |snapshot, solution| {
            offer(snapshot, solution, 0, &[offering("m.xlarge", "b"), offering("m.2xlarge", "b")]);
        },
        is!(Violation::WrongLabels { what: LabelDemand::NodeSelector { .. }, .. }),
    ),
    (
        "the volume is in another zone",
        |snapshot, _| pod_mut(snapshot, "here").volume_zones = vec![term(labels::ZONE, Operator::NotIn, &["a"])],
        is!(Violation::WrongLabels { what: LabelDemand::VolumeTopology { .. }, .. }),
    ),
    (
        "the machine has too few cores for the node affinity",
        |snapshot, _| {
            let more = term("karpenter.k8s.aws/instance-cpu", Operator::Gt, &["4"]);
            pod_mut(snapshot, "here").required_node_affinity = vec![vec![more]];
        },
        is!(Violation::WrongLabels { what: LabelDemand::NodeAffinity, .. }),
    ),
    (
        "a pod is moved to a node with other labels",
        |snapshot, solution| place(snapshot, solution, "here", &existing("lonely")),
        is!(Violation::WrongLabels { offering: None, .. }),
    ),
    (
        "the pool has come to exclude what is to be bought",
        |snapshot, _| {
            snapshot.pools[0].requirements.add(Requirement::one_of(labels::ZONE, ["b"]));
        },
        is!(Violation::OutsidePool { node: 0, .. }),
    ),
    (
        "too few alternatives are left",
        |snapshot, solution| offer(snapshot, solution, 1, &[offering("m.large", "b")]),
        is!(Violation::TooFewValues { node: 1, needed: 2, found: 1, .. }),
    ),
    (
        "more nodes have too few alternatives than the note says",
        |snapshot, solution| {
            offer(snapshot, solution, 0, &[offering("m.xlarge", "a")]);
            offer(snapshot, solution, 1, &[offering("m.large", "b")]);
            solution.notes.push(Note::MinValuesRelaxed { nodes: 1 });
        },
        is!(Violation::TooFewValues { .. }),
    ),
    (
        "two pods of a new node take one port",
        |snapshot, _| pod_mut(snapshot, "close-0").host_ports = vec![port(80)],
        is!(Violation::PortClash { node: Target::New(0), .. }),
    ),
    (
        "a pod takes a port that is taken",
        |snapshot, _| pod_mut(snapshot, "disk").host_ports = vec![port(80)],
        is!(Violation::PortClash { node: Target::Existing(_), .. }),
    ),
    (
        "a daemon takes a pod's port",
        |snapshot, solution| {
            let mut daemon = on_daemon_set(pod("log", 0, 0), "log");
            daemon.tolerations = vec![toleration("gpu")];
            daemon.host_ports = vec![port(80)];
            solution.new_nodes.iter_mut().for_each(|node| node.requests.add(&daemon.requests));
            snapshot.daemons.push(Arc::new(daemon));
        },
        is!(Violation::PortClash { node: Target::New(0), .. }),
    ),
    (
        "a volume more is attached than can be",
        |snapshot, _| {
            let disk = pod_mut(snapshot, "disk");
            disk.volumes_by_driver.get_mut("csi").unwrap().insert("v2".to_owned());
        },
        is!(Violation::TooManyVolumes { attached: 3, limit: 2, .. }),
    ),
    (
        "the limit of cores is lower",
        |snapshot, _| snapshot.pools[0].limits = Some(resources(11_999, 1000, 1000)),
        is!(Violation::LimitPassed { excess: Excess { asked: Amount(12_000), .. }, .. }),
    ),
    (
        "the limit of nodes is used up",
        |snapshot, _| snapshot.pools[0].used.set("nodes".into(), Amount(1)),
        is!(Violation::LimitPassed { excess: Excess { name, .. }, .. } if name.as_str() == "nodes"),
    ),
    (
        "a pod is moved to one that it must be away from",
        |snapshot, solution| place(snapshot, solution, "apart-1", &Target::New(0)),
        is!(Violation::TooNear { pod, other, .. } if pod.name == "apart-1" && other.name == "apart-0"),
    ),
    (
        "a pod is moved to a bound one that must be away from it",
        |snapshot, solution| place(snapshot, solution, "apart-1", &existing("lonely")),
        is!(Violation::TooNear { pod, other, .. } if pod.name == "hermit" && other.name == "apart-1"),
    ),
    (
        "a pod is moved away from the one it must be near",
        |snapshot, solution| place(snapshot, solution, "close-1", &Target::New(1)),
        is!(Violation::NotNear { pod, .. } if pod.name.starts_with("close")),
    ),
    (
        "a pod is moved to where its like are already",
        |snapshot, solution| place(snapshot, solution, "spread-1", &Target::New(0)),
        is!(Violation::Uneven { there: 1, least: 0, max_skew: 1, .. }),
    ),
    (
        "a node may come to be in another zone",
        |snapshot, solution| {
            offer(snapshot, solution, 1, &[offering("m.large", "b"), offering("m.xlarge", "a")]);
        },
        is!(Violation::Uneven { .. }),
    ),
    (
        "a third domain comes, and nobody is there",
        |snapshot, solution| {
            let mut empty = node("c", 0);
            empty.labels.insert(labels::ZONE.to_owned(), "c".to_owned());
            snapshot.nodes.push(empty);
            let mut third = app("spread-2", "spread", 100);
            third.topology_spread = vec![spread_over(labels::ZONE, "spread", 1)];
            solution.new_nodes[1].pods.push(third.key.clone());
            solution.new_nodes[1].requests.add(&third.requests);
            let placement = solution.placed[&key("spread-1")].clone();
            solution.placed.insert(third.key.clone(), placement);
            snapshot.pods.push(Arc::new(third));
        },
        is!(Violation::Uneven { .. }),
    ),
    (
        "there are fewer domains than the spread demands",
        |snapshot, _| {
            for name in SPREAD {
                pod_mut(snapshot, name).topology_spread[0].min_domains = Some(3);
            }
            let lone = pod_mut(snapshot, "apart-0");
            lone.labels = labels_of(&[("app", "spread")]);
            lone.topology_spread = pod_spread();
        },
        is!(Violation::Uneven { least: 0, .. }),
    ),
    (
        "the nodes have no such label",
        |snapshot, _| {
            for name in SPREAD {
                pod_mut(snapshot, name).topology_spread = vec![spread_over("rack", "spread", 1)];
            }
        },
        is!(Violation::NoDomain { .. }),
    ),
];

fn pod_spread() -> Vec<crate::TopologySpread> {
    let mut spread = spread_over(labels::ZONE, "spread", 1);
    spread.min_domains = Some(3);
    vec![spread]
}

#[test]
fn a_plan_in_which_everything_occurs_passes() {
    let (snapshot, solution) = plan();
    assert_eq!(check(&snapshot, &solution), []);
}

#[test]
fn every_mutation_is_rejected_for_what_it_is() {
    let mut missed = Vec::new();
    for (name, mutate, expected) in MUTATIONS {
        let (mut snapshot, mut solution) = plan();
        mutate(&mut snapshot, &mut solution);
        let violations = check(&snapshot, &solution);
        if !violations.iter().any(expected) {
            missed.push(format!("{name}: {violations:?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(MUTATIONS.len() >= 20);
}

#[test]
fn what_a_note_gives_up_is_not_held_against_the_plan() {
    let (snapshot, mut solution) = plan();
    offer(&snapshot, &mut solution, 1, &[offering("m.large", "b")]);
    assert_ne!(check(&snapshot, &solution), []);
    solution.notes.push(Note::MinValuesRelaxed { nodes: 1 });
    assert_eq!(check(&snapshot, &solution), []);
}

#[test]
fn wishes_are_never_violated() {
    let (mut snapshot, solution) = plan();
    for pod in &mut snapshot.pods {
        let pod = Arc::make_mut(pod);
        let mut wish = spread_over(labels::ZONE, "close", 1);
        wish.when_unsatisfiable = WhenUnsatisfiable::ScheduleAnyway;
        pod.topology_spread.push(wish);
        let mut wished = near("close", labels::HOSTNAME);
        wished.strength = Strength::Preferred { weight: 100 };
        pod.pod_anti_affinity.push(wished.clone());
        pod.pod_affinity.push(PodAffinityTerm { topology_key: "rack".to_owned(), ..wished });
        pod.preferred_node_affinity = vec![(100, vec![term("no", Operator::Exists, &[])])];
    }
    assert_eq!(check(&snapshot, &solution), []);
}
