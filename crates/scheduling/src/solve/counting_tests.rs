//! What spreads count that speak of other nodes than those their own pods go to.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::{Operator, Requirement, labels};

use super::{
    solve, solve_greedy,
    tests::{edited, edited_node, edited_pool},
};
use crate::{InstanceType, Node, Pod, Pool, Settings, Snapshot, Solution, check::Violation, testing::*};

/// So many pods of an app, of so many thousandths of a cpu.
pub(super) fn app(name: &str, count: usize, milli_cpu: i64, edit: impl Fn(&mut Pod)) -> impl Iterator<Item = Pod> {
    let one = move |index| {
        edited(pod(&format!("{name}-{index}"), milli_cpu, 0), |pod| {
            pod.labels = labels_of(&[("app", name)]);
            edit(pod);
        })
    };
    (0..count).map(one)
}

pub(super) fn evenly(of: &str) -> impl Fn(&mut Pod) {
    let spread = spread(of, labels::ZONE);
    move |pod| pod.topology_spread = vec![spread.clone()]
}

/// The plan and the greedy one, which have to be sound.
pub(super) fn plans(world: &Snapshot) -> [Solution; 2] {
    let plans = [solve(world, &Settings::default()), solve_greedy(world, &Settings::default())];
    for plan in &plans {
        assert_eq!(broken(world, plan), [], "{plan:#?}");
    }
    plans
}

pub(super) fn unplaced(plan: &Solution) -> Vec<&str> {
    plan.unplaced.keys().map(|pod| pod.name.as_str()).collect()
}

fn in_zone(mut machine: InstanceType, zone: &str, price: i64) -> InstanceType {
    machine.offerings.retain(|one| one.zone == zone);
    machine.offerings.iter_mut().for_each(|one| one.price.0 = price);
    machine
}

#[test]
fn a_node_that_may_be_of_two_architectures_is_counted_for_certain() {
    // The spread counts on arm64 alone. What is cheapest for the other pods is not arm64, and could become it in zone a.
    let (mut x86, mut arm) = (machine("x86", "amd64", 4), machine("arm", "arm64", 4));
    x86 = in_zone(x86, "a", 57_200);
    arm.offerings.truncate(2);
    (arm.offerings[0].price.0, arm.offerings[1].price.0) = (187_000, 68_000);
    for (arms, others) in [(1, 2), (6, 12)] {
        let to_arm = |pod: &mut Pod| {
            pod.labels = labels_of(&[("app", "v")]);
            pod.node_selector = labels_of(&[(labels::ARCH, "arm64")]);
            evenly("v")(pod);
        };
        let on_hosts = |pod: &mut Pod| {
            pod.labels = labels_of(&[("app", "v")]);
            pod.topology_spread = vec![spread("v", labels::HOSTNAME)];
        };
        let mut pool = pool("p");
        pool.instance_types = Arc::from([x86.clone(), arm.clone()]);
        let pods = app("arm", arms, 900, to_arm).chain(app("any", others, 1000, on_hosts));
        let world = snapshot(pods.collect(), Vec::new(), vec![pool]);
        assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
    }
}

/// A pool of zones a and b, whose taint the web pods do not tolerate, and one of zone b; with a pod for the first and a few web pods.
fn two_pools(zones: &[&str]) -> Snapshot {
    let zoned =
        |pool: &mut Pool, zones: &[&str]| pool.requirements.add(Requirement::one_of(labels::ZONE, zones.to_vec()));
    let gpu = edited_pool(pool("gpu"), |pool| {
        pool.taints = vec![taint("gpu")];
        zoned(pool, zones);
    });
    let web = edited_pool(pool("web"), |pool| zoned(pool, &["b"]));
    let train = app("train", 1, 3000, |pod| {
        pod.tolerations = vec![toleration("gpu")];
        pod.node_selector = labels_of(&[("karpenter.sh/nodepool", "gpu")]);
    });
    snapshot(train.chain(app("web", 6, 500, evenly("web"))).collect(), Vec::new(), vec![gpu, web])
}

#[test]
fn no_zone_is_opened_that_pods_placed_elsewhere_would_have_to_fill() {
    // The kube-scheduler counts zone a for the web pods as soon as a node is there, and none of them can go there.
    let [plan, greedy] = plans(&two_pools(&["a"]));
    assert_eq!(unplaced(&plan), ["train-0"]);
    let reasons: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(
        reasons.contains(
            &"NodePool/gpu: a first node in topology.kubernetes.io/zone a would leave pods that are placed elsewhere unevenly \
              spread; it can come when they run"
                .to_owned()
        ),
        "{reasons:?}"
    );
    // The greedy rule takes the larger pod first.
    assert_eq!(unplaced(&greedy).len(), 5);
}

#[test]
fn a_pool_that_a_pod_may_not_use_brings_it_no_zone() {
    let mut world = two_pools(&["a"]);
    world.pools[1].limits = Some(resources(2000, 100, 100));
    let [plan, _] = plans(&world);
    let web = plan.unplaced.iter().filter(|(pod, _)| pod.name.starts_with("web"));
    let told: Vec<String> = web.flat_map(|(_, reasons)| reasons).map(ToString::to_string).collect();
    assert!(!told.is_empty() && told.iter().all(|reason| !reason.contains("a first node")), "{told:?}");
}

#[test]
fn a_zone_that_a_node_must_not_bring_is_told_although_others_are_full() {
    // The pods for the pool of three zones are spread over these, and may come to b and c alone.
    let mut world = two_pools(&["a", "b", "c"]);
    let train = Arc::make_mut(&mut world.pods[0]).clone();
    world.pods.remove(0);
    for index in 0..4 {
        world.pods.push(Arc::new(edited(train.clone(), |pod| {
            pod.key.name = format!("train-{index}");
            pod.topology_spread = vec![spread("train", labels::ZONE)];
        })));
    }
    let on_demand: Vec<_> = world.pools[0]
        .instance_types
        .iter()
        .cloned()
        .map(|mut machine| {
            let again = machine.offerings[0].clone();
            machine.offerings.push(crate::Offering { zone: "c".to_owned(), ..again });
            machine
        })
        .collect();
    world.pools[0].instance_types = on_demand.into();
    let [plan, _] = plans(&world);
    let told: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(told.iter().any(|reason| reason.contains("a first node in topology.kubernetes.io/zone a")), "{told:?}");
}

#[test]
fn the_zone_is_opened_once_those_pods_run() {
    let mut world = two_pools(&["a"]);
    let (web, train) = world.pods.drain(..).partition(|pod| pod.key.name.starts_with("web"));
    world.pods = train;
    world.nodes = vec![edited_node(node("there", 8000), |node: &mut Node| {
        node.labels.insert(labels::ZONE.to_owned(), "b".to_owned());
        node.pods = web;
    })];
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
}

#[test]
fn a_node_stays_out_of_a_zone_that_would_count_where_it_has_another() {
    let plans = plans(&two_pools(&["a", "b"]));
    assert_eq!(plans.each_ref().map(unplaced), [[""; 0]; 2]);
    for plan in &plans {
        assert!(plan.new_nodes.iter().flat_map(|node| &node.offerings).all(|one| one.key.zone == "b"));
    }
}

#[test]
fn zones_in_which_a_pods_volume_is_not_do_not_count_until_a_node_is_there() {
    let held = |pod: &mut Pod| {
        pod.volume_zones = vec![term(labels::ZONE, Operator::In, &["a"])];
        evenly("db")(pod);
    };
    let mut world = snapshot(app("db", 3, 500, held).collect(), Vec::new(), vec![pool("p")]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
    world.nodes = vec![edited_node(node("there", 100), |node| {
        node.labels.insert(labels::ZONE.to_owned(), "b".to_owned());
    })];
    assert_eq!(plans(&world).each_ref().map(unplaced), [["db-1", "db-2"]; 2]);
}

#[test]
fn a_pod_whose_volume_is_nowhere_is_told_that_it_is_the_volume() {
    let held = |pod: &mut Pod| pod.volume_zones = vec![term(labels::ZONE, Operator::In, &["z"])];
    let world = snapshot(app("db", 1, 500, held).collect(), Vec::new(), vec![pool("p")]);
    let [plan, _] = plans(&world);
    let told: Vec<String> = plan.unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(told[0].contains("its volumes want topology.kubernetes.io/zone in [z], has"), "{told:?}");
}

fn small_ones_everywhere(machine: &InstanceType) -> InstanceType {
    let mut machine = machine.clone();
    machine.offerings.retain(|one| one.zone == "b" || machine.capacity.get(&units::ResourceName::cpu()).0 <= 2000);
    machine
}

/// Workloads that share a label, some bound to an architecture, a way to pay or a pool, and spread over this and that; in a world
/// of two pools, one of them tainted and in one zone, the other perhaps with large machines in one zone alone.
fn some_workloads() -> impl Strategy<Value = Snapshot> {
    let bound_to = option::of(select(vec![
        (labels::ARCH, "arm64"),
        (labels::ARCH, "amd64"),
        (labels::CAPACITY_TYPE, "spot"),
        (labels::ZONE, "b"),
        ("karpenter.sh/nodepool", "gpu"),
    ]));
    let spread_over = option::of(select(vec![labels::ZONE, labels::HOSTNAME, labels::CAPACITY_TYPE]));
    let workload = (1..7_usize, select(vec![300, 900, 1700, 3000]), bound_to, spread_over, 1..3_u32);
    (vec(workload, 2..5), prop::bool::ANY, prop::bool::ANY).prop_map(|(workloads, elsewhere, narrow)| {
        let mut pods = Vec::new();
        for (index, (count, milli_cpu, bound_to, key, max_skew)) in workloads.into_iter().enumerate() {
            let edit = |pod: &mut Pod| {
                pod.labels = labels_of(&[("app", "shared")]);
                if let Some((key, value)) = bound_to {
                    pod.node_selector = labels_of(&[(key, value)]);
                    pod.tolerations = if value == "gpu" { vec![toleration("gpu")] } else { Vec::new() };
                }
                pod.topology_spread = key.map(|key| spread("shared", key)).into_iter().collect();
                pod.topology_spread.iter_mut().for_each(|spread| spread.max_skew = max_skew);
            };
            pods.extend(app(&format!("w{index}"), count, milli_cpu, edit));
        }
        let gpu = edited_pool(pool("gpu"), |pool| {
            pool.taints = vec![taint("gpu")];
            pool.requirements.add(Requirement::one_of(labels::ZONE, ["a"]));
        });
        let web = edited_pool(pool("web"), |pool| {
            pool.requirements
                .add(Requirement::one_of(labels::ZONE, if elsewhere { vec!["b"] } else { vec!["a", "b"] }));
            if narrow {
                pool.instance_types = pool.instance_types.iter().map(small_ones_everywhere).collect();
            }
        });
        snapshot(pods, Vec::new(), vec![gpu, web])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn plans_for_workloads_that_count_each_other_are_sound(world in some_workloads()) {
        let [plan, greedy] = plans(&world);
        prop_assert!(plan.unplaced.len() <= greedy.unplaced.len());
        prop_assert!(plan.unplaced.len() < greedy.unplaced.len() || plan.cost <= greedy.cost);
        prop_assert!(plan.lower_bound.is_none_or(|bound| bound.cost <= plan.cost));
    }
}

#[test]
fn volumes_in_several_zones_do_not_wait_for_each_other_where_there_is_no_node_yet() {
    let held_in = |zone: &'static str| {
        move |pod: &mut Pod| {
            pod.labels = labels_of(&[("app", "db")]);
            pod.volume_zones = vec![term(labels::ZONE, Operator::In, &[zone])];
            evenly("db")(pod);
        }
    };
    let pods = app("a", 12, 500, held_in("a")).chain(app("b", 12, 500, held_in("b")));
    let world = snapshot(pods.collect(), Vec::new(), vec![pool("p")]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
}

#[test]
fn a_zone_in_which_no_machine_is_large_enough_does_not_count() {
    let mut pool = pool("p");
    pool.instance_types = pool.instance_types.iter().map(small_ones_everywhere).collect();
    let mut world = snapshot(app("large", 4, 3000, evenly("large")).collect(), Vec::new(), vec![pool]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
    // There is a node now, which the kube-scheduler counts: that zone may not fall behind.
    world
        .nodes
        .push(edited_node(node("n", 1000), |node| _ = node.labels.insert(labels::ZONE.to_owned(), "a".to_owned())));
    assert_eq!(plans(&world).each_ref().map(|plan| unplaced(plan).len()), [3; 2]);
}

#[test]
fn a_zone_with_no_machine_that_the_spreads_pods_select_may_be_used_by_others() {
    let zones = |mut machine: InstanceType, zones: &[&str]| {
        let offering = machine.offerings[0].clone();
        machine.offerings =
            zones.iter().map(|zone| crate::Offering { zone: (*zone).to_owned(), ..offering.clone() }).collect();
        machine
    };
    let mut pool = pool("p");
    pool.instance_types =
        [zones(machine("arm", "arm64", 4), &["b", "c"]), zones(machine("x86", "amd64", 4), &["a", "b", "c"])].into();
    let on_arm = |pod: &mut Pod| {
        pod.node_selector = labels_of(&[(labels::ARCH, "arm64")]);
        evenly("web")(pod);
    };
    let held = |pod: &mut Pod| pod.volume_zones = vec![term(labels::ZONE, Operator::In, &["a"])];
    let pods = app("web", 6, 500, on_arm).chain(app("db", 1, 500, held)).collect();
    let world = snapshot(pods, Vec::new(), vec![pool]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
}

#[test]
fn a_way_to_pay_that_a_volumes_zone_lacks_does_not_count() {
    let held = |pod: &mut Pod| {
        pod.volume_zones = vec![term(labels::ZONE, Operator::In, &["b"])];
        pod.topology_spread = vec![spread("db", labels::CAPACITY_TYPE)];
    };
    let world = snapshot(app("db", 6, 500, held).collect(), Vec::new(), vec![pool("p")]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
}

#[test]
fn each_node_of_a_pool_brings_its_zone_into_the_spreads_that_count_it() {
    // Of both architectures only small machines are sold in c, and pods of higher priority open it with one of each.
    let sold = |name: &str, arch: &str, cpus: i64, zones: &[&str]| {
        let mut machine = machine(name, arch, cpus);
        let offering = machine.offerings[0].clone();
        let there = |zone: &&str| crate::Offering { zone: (*zone).to_owned(), ..offering.clone() };
        machine.offerings = zones.iter().map(there).collect();
        machine
    };
    let mut pool = pool("p");
    pool.instance_types = ["arm64", "amd64"]
        .iter()
        .flat_map(|arch| {
            [sold(&format!("{arch}-s"), arch, 2, &["c"]), sold(&format!("{arch}-l"), arch, 4, &["a", "b"])]
        })
        .collect();
    let mut pods = Vec::new();
    for arch in ["amd64", "arm64"] {
        let on = move |pod: &mut Pod| pod.node_selector = labels_of(&[(labels::ARCH, arch)]);
        let large = format!("large-{arch}");
        pods.extend(app(&large, 4, 3000, |pod| {
            on(pod);
            evenly(&large)(pod);
        }));
        pods.extend(app(&format!("small-{arch}"), 1, 500, |pod| {
            on(pod);
            pod.priority = 10;
            pod.node_selector.insert(labels::ZONE.to_owned(), "c".to_owned());
        }));
    }
    let world = snapshot(pods, Vec::new(), vec![pool]);
    // One in a and one in b of each: c has none.
    assert_eq!(plans(&world).each_ref().map(|plan| unplaced(plan).len()), [4; 2]);
}

/// A web pod that was told to go in zone a and one that stays in zone b, where there is room; a new one has to come.
fn one_leaves_a(new: impl Fn(&mut Pod)) -> Snapshot {
    let there = |zone: &str, name: &str, milli_cpu: i64, terminating: bool| {
        edited_node(node(zone, milli_cpu), |node: &mut Node| {
            node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
            let mine = app("web", 1, 500, |pod| {
                pod.key.name = name.to_owned();
                pod.terminating = terminating;
            });
            node.pods = mine.map(Arc::new).collect();
        })
    };
    let nodes = vec![there("a", "old", 600, true), there("b", "stays", 2000, false)];
    snapshot(app("web", 1, 500, new).collect(), nodes, vec![pool("p")])
}

#[test]
fn no_spread_counts_who_was_told_to_go() {
    let world = one_leaves_a(evenly("web"));
    for plan in plans(&world) {
        let zones: Vec<_> = plan.new_nodes.iter().map(|node| node.offerings[0].key.zone.as_str()).collect();
        assert_eq!(zones, ["a"], "{plan:#?}");
    }
    // Where the one that stays is, a plan that is made while both stay would put it, too.
    let mut before = world.clone();
    before.nodes.iter_mut().flat_map(|node| &mut node.pods).for_each(|pod| Arc::make_mut(pod).terminating = false);
    let plan = solve(&before, &Settings::default());
    assert_eq!((plan.new_nodes.len(), broken(&before, &plan)), (0, vec![]));
    assert!(matches!(broken(&world, &plan).as_slice(), [Violation::Uneven { .. }]), "{:?}", broken(&world, &plan));
}

#[test]
fn who_was_told_to_go_keeps_others_away_and_is_no_company() {
    let in_a = |pod: &mut Pod| pod.node_selector = labels_of(&[(labels::ZONE, "a")]);
    let away = one_leaves_a(|pod| {
        in_a(pod);
        pod.pod_anti_affinity = vec![near("web", labels::ZONE)];
    });
    assert_eq!(plans(&away).each_ref().map(unplaced), [["web-0"]; 2]);
    // Not on its node, not in its zone, and not as the first of those that are near to each other.
    for key in [labels::HOSTNAME, labels::ZONE] {
        let mut beside = one_leaves_a(|pod| {
            in_a(pod);
            pod.pod_affinity = vec![near("web", key)];
        });
        beside.nodes[0].allocatable = resources(4000, 64, 100);
        assert_eq!(plans(&beside).each_ref().map(unplaced), [["web-0"]; 2], "{key}");
        // The checker knows it by itself.
        let mut before = beside.clone();
        before.nodes.iter_mut().flat_map(|node| &mut node.pods).for_each(|pod| Arc::make_mut(pod).terminating = false);
        let plan = solve(&before, &Settings::default());
        assert_eq!(broken(&before, &plan), []);
        assert!(matches!(broken(&beside, &plan).as_slice(), [Violation::NotNear { .. }]), "{key}");
    }
}
