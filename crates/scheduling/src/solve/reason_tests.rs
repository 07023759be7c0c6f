//! Of each pool every reason is told, none hides another.

use requirements::{Operator, Requirement, labels};
use units::{Amount, ResourceList, ResourceName};

use super::{
    solve,
    tests::{edited, edited_node},
};
use crate::{Pod, PodKey, Pool, Settings, snapshot::Snapshot, testing::*};

/// Why the pod `p` has no place, in the only pool.
fn reasons(pod: Pod, pool: Pool) -> Vec<String> {
    let world: Snapshot = snapshot(vec![pod], Vec::new(), vec![pool]);
    let plan = solve(&world, &Settings::default());
    plan.unplaced
        .get(&PodKey::new("shop", "p"))
        .map_or_else(Vec::new, |all| all.iter().map(ToString::to_string).collect())
}

fn check(pod: Pod, pool: Pool, expected: &[&str]) {
    let found = reasons(pod, pool);
    let told = |part: &&str| found.iter().any(|reason| reason.contains(part));
    let missing: Vec<_> = expected.iter().filter(|part| !told(part)).collect();
    assert!(missing.is_empty() && found.len() == expected.len(), "{missing:?} not in {found:#?}");
}

/// With a limit that no machine of it keeps.
fn limited() -> Pool {
    Pool { limits: Some(resources(1000, 100, 100)), ..pool("p") }
}

#[test]
fn a_limit_is_told_whatever_else_is_in_the_way() {
    let limit = "limit of 1 cpu, 0 used";
    check(pod("p", 500, 1), limited(), &[limit]);
    check(pod("p", 500, 1), Pool { taints: vec![taint("gpu")], ..limited() }, &[limit, "taint gpu:NoSchedule"]);
    check(pod("p", 500_000, 1), limited(), &[limit, "asks for 500 of cpu"]);
    let mut sold_out = limited();
    let mut machines = sold_out.instance_types.to_vec();
    machines.iter_mut().flat_map(|one| &mut one.offerings).for_each(|one| one.available = false);
    sold_out.instance_types = machines.into();
    check(pod("p", 500, 1), sold_out, &[limit, "offerings that would do is available now"]);
}

#[test]
fn a_label_that_nothing_defines_does_not_hide_one_that_no_machine_has() {
    let mut picky = pod("p", 500, 1);
    picky.node_selector = labels_of(&[(labels::ZONE, "nowhere"), ("disk", "ssd")]);
    check(picky, pool("p"), &["wants topology.kubernetes.io/zone in [nowhere]", "wants disk in [ssd]"]);
}

#[test]
fn every_alternative_is_told() {
    let mut either = pod("p", 500, 1);
    let zone = |name| vec![term(labels::ZONE, Operator::In, &[name])];
    either.required_node_affinity = vec![zone("x"), zone("y")];
    check(either, pool("p"), &["wants topology.kubernetes.io/zone in [x]", "wants topology.kubernetes.io/zone in [y]"]);
}

#[test]
fn a_pool_that_nothing_suits_says_what_it_requires() {
    let mut mistyped = pool("p");
    mistyped.requirements.add(Requirement::one_of(labels::ZONE, ["us-esat-1a"]));
    let expected = "it requires topology.kubernetes.io/zone in [us-esat-1a], its instance types have";
    check(pod("p", 500, 1), mistyped, &[expected]);
    let mut empty = pool("p");
    empty.instance_types = [].into();
    check(pod("p", 500, 1), empty, &["no instance type is offered"]);
}

#[test]
fn a_daemon_that_leaves_no_room_is_named_as_the_reason() {
    let mut world = snapshot(vec![pod("p", 100, 1)], Vec::new(), vec![pool("p")]);
    world.daemons = vec![on_daemon_set(pod("d", 1_000_000, 0), "d").into()];
    let plan = solve(&world, &Settings::default());
    let told: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(told.iter().any(|reason| reason.contains("has 0 free: the DaemonSets on it ask for 1k")), "{told:?}");
}

#[test]
fn nodes_that_nobody_has_to_look_at_are_counted_all_the_same() {
    let named =
        |name: &str, team: &str| edited(pod(name, 500, 1), |pod| pod.node_selector = labels_of(&[("team", team)]));
    let of_team = |name: &str, team: &str, milli_cpu| {
        edited_node(node(name, milli_cpu), |node| node.labels.extend(labels_of(&[("team", team)])))
    };
    let tainted = edited_node(of_team("n0", "red", 1000), |node| node.taints = vec![taint("gpu")]);
    let nodes = vec![tainted, of_team("n1", "red", 100), of_team("n2", "red", 1000), of_team("n3", "blue", 100)];
    let snapshot = snapshot(vec![named("p", "blue"), named("q", "green"), named("r", "red")], nodes, Vec::new());
    let said = |name: &str| {
        let solution = solve(&snapshot, &Settings::default());
        let reasons = solution.unplaced.get(&PodKey::new("shop", name)).cloned().unwrap_or_default();
        reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let no_pools = "there is no Provisioner and no NodePool that could make a node";
    assert_eq!(
        [said("p"), said("q"), said("r")],
        [
            format!("{no_pools}; 0 of 4 nodes fit: 1 too full, 2 other labels, 1 taint not tolerated"),
            format!("{no_pools}; 0 of 4 nodes fit: 3 other labels, 1 taint not tolerated"),
            String::new(),
        ]
    );
}

/// The reasons of the pod `p` in these pools, in their order.
fn in_order(pod: Pod, pools: Vec<Pool>) -> Vec<String> {
    let plan = solve(&snapshot(vec![pod], Vec::new(), pools), &Settings::default());
    plan.unplaced.values().flatten().map(ToString::to_string).collect()
}

#[test]
fn of_reasons_of_one_kind_that_one_is_told_first_which_lacks_less() {
    let of = |name: &str, cpus| Pool { instance_types: [machine("m", "amd64", cpus)].into(), ..pool(name) };
    assert_eq!(
        in_order(pod("p", 8000, 60), vec![of("a", 2), of("b", 8), of("c", 4)]),
        [
            "NodePool/b: asks for 8 of cpu, the largest node has 7900m free",
            "NodePool/b: asks for 60Gi of memory, the largest node has 32Gi free",
            "NodePool/c: asks for 8 of cpu, the largest node has 3900m free",
            "NodePool/c: asks for 60Gi of memory, the largest node has 16Gi free",
            "NodePool/a: asks for 8 of cpu, the largest node has 1900m free",
            "NodePool/a: asks for 60Gi of memory, the largest node has 8Gi free",
        ]
    );
    let limited = |name, cpus: i64, used: i64| Pool {
        limits: Some(ResourceList::new().with(ResourceName::cpu(), Amount(cpus * 1000))),
        used: ResourceList::new().with(ResourceName::cpu(), Amount(used * 1000)),
        ..of(name, 8)
    };
    assert_eq!(
        in_order(pod("p", 7000, 1), vec![limited("a", 100, 98), limited("b", 6, 0), limited("c", 6, 7)]),
        [
            "NodePool/b: limit of 6 cpu, 0 used, the smallest node would add 8",
            "NodePool/a: limit of 100 cpu, 98 used, the smallest node would add 8",
            "NodePool/c: limit of 6 cpu, 7 used, the smallest node would add 8",
        ]
    );
}

#[test]
fn of_pools_that_are_equally_near_the_others_reasons_decide() {
    let tainted = |name: &str, cpus| Pool {
        taints: vec![taint("gpu")],
        instance_types: [machine("m", "amd64", cpus)].into(),
        ..pool(name)
    };
    let found = in_order(pod("p", 8000, 1), vec![tainted("a", 2), tainted("b", 4), tainted("c", 16)]);
    let pools: Vec<&str> = found.iter().filter_map(|reason| reason.split(':').next()).collect();
    assert_eq!(pools, ["NodePool/c", "NodePool/b", "NodePool/b", "NodePool/a", "NodePool/a"]);
}

#[test]
fn what_the_plan_uses_up_itself_is_not_called_unavailable() {
    let stock = |others_available| {
        let mut one = machine("m", "amd64", 2);
        one.offerings[0].remaining = Some(1);
        one.offerings.iter_mut().skip(1).for_each(|other| other.available = others_available);
        if others_available {
            one.offerings.truncate(1);
        }
        Pool { instance_types: [one].into(), ..pool("p") }
    };
    let reasons = |pool| {
        let pods = vec![pod("p", 1500, 1), pod("q", 1500, 1)];
        let plan = solve(&snapshot(pods, Vec::new(), vec![pool]), &Settings::default());
        plan.unplaced.values().flatten().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        reasons(stock(true)),
        ["NodePool/p: the one offering that would do is reserved, and other new nodes use it up"]
    );
    assert_eq!(
        reasons(stock(false)),
        [
            "NodePool/p: of the 3 offerings that would do, other new nodes use up the 1 reserved, and no other is available now"
        ]
    );
}

/// Which machines were left out of the new nodes for the sake of limits of 1000 cpu and so many GiB.
fn narrowed(pods: Vec<Pod>, gib: i64) -> Vec<String> {
    let limited = Pool { limits: Some(resources(1_000_000, gib, 1000)), ..pool("p") };
    let plan = solve(&snapshot(pods, Vec::new(), vec![limited]), &Settings::default());
    let said = plan.new_nodes.iter().flat_map(|node| &node.why).map(ToString::to_string);
    said.filter(|why| why.contains("left out")).collect()
}

#[test]
fn a_node_names_the_limit_that_left_larger_machines_out() {
    let alone = |name| edited(pod(name, 100, 1), |pod| pod.host_ports = vec![port(80)]);
    assert_eq!(narrowed(vec![alone("p")], 34), ["machines with more than 32Gi memory were left out by the limit"]);
    // One node leaves the other nothing as long as it may become so large.
    let more_than = |gib| format!("machines with more than {gib}Gi memory were left out by the limit");
    assert_eq!(narrowed(vec![alone("p"), alone("q")], 34), [more_than(8), more_than(16)]);
    assert_eq!(narrowed(vec![alone("p"), alone("q")], 3400), Vec::<String>::new());
}

#[test]
fn who_is_kept_away_by_others_is_told_so() {
    let shy = |zone: &str| {
        let shy =
            edited(pod(&format!("shy-{zone}"), 100, 0), |pod| pod.pod_anti_affinity = vec![near("web", labels::ZONE)]);
        edited_node(node(zone, 100), |node| {
            node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
            node.pods = vec![shy.into()];
        })
    };
    let web = edited(pod("p", 100, 0), |pod| pod.labels = labels_of(&[("app", "web")]));
    let plan = solve(&snapshot(vec![web], vec![shy("a"), shy("b")], vec![pool("p")]), &Settings::default());
    let said = plan.unplaced[&PodKey::new("shop", "p")].iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected =
        "NodePool/p: every topology.kubernetes.io/zone open to it has pods that must not share it with this one";
    assert_eq!(said[0], expected, "{said:?}");
}

#[test]
fn the_limit_that_leaves_too_few_different_types_is_told() {
    let mut choosy = Pool { limits: Some(resources(1_000_000, 10, 1000)), ..pool("p") };
    choosy.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(3)));
    assert_eq!(
        reasons(pod("p", 100, 1), choosy),
        [
            "NodePool/p: limit of 10Gi memory, 0 used, the smallest node would add 16Gi",
            "NodePool/p: minValues of node.kubernetes.io/instance-type is 3, only 2 remain possible",
        ]
    );
}

#[test]
fn what_keeps_a_pod_from_those_it_must_be_beside_is_told() {
    let gathered = |index| {
        edited(pod(&format!("x-{index}"), 100, 0), |pod| {
            pod.labels = labels_of(&[("app", "x")]);
            pod.pod_affinity = vec![near("x", labels::HOSTNAME)];
            pod.topology_spread = vec![crate::TopologySpread { max_skew: 3, ..spread("x", labels::ZONE) }];
        })
    };
    let plan = solve(&snapshot((0..4).map(gathered).collect(), Vec::new(), vec![pool("p")]), &Settings::default());
    let told: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(told[0].contains("keeps the spread within a skew of 3"), "{told:?}");
    assert!(told[1].contains("are on new node 1, where it may not be"), "{told:?}");
}

#[test]
fn who_is_counted_by_a_label_of_which_the_pool_demands_several_values_is_told_that() {
    let mut choosy = pool("p");
    choosy.requirements.add(Requirement::exists(labels::ZONE).with_min_values(Some(2)));
    let web = edited(pod("web", 100, 0), |pod| pod.labels = labels_of(&[("app", "web")]));
    let shy = edited(pod("shy", 100, 0), |pod| pod.pod_anti_affinity = vec![near("web", labels::ZONE)]);
    let plan = solve(&snapshot(vec![web, shy], Vec::new(), vec![choosy]), &Settings::default());
    let told: Vec<String> = plan.unplaced.values().map(|reasons| reasons[0].to_string()).collect();
    assert_eq!(told, ["NodePool/p: minValues of topology.kubernetes.io/zone is 2, only 1 remain possible"; 2]);
}
