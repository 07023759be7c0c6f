//! Which domains a spread is over: those in which a pool can make a node for one of the spread's pods.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::{Operator, Requirement, labels};

use super::{
    counting_tests::{app, evenly, plans, unplaced},
    solve,
    tests::{edited, edited_pool},
};
use crate::{InstanceType, Pod, Pool, Settings, Snapshot, testing::*};

/// A type of so many cpus that is sold in these zones alone, on demand.
fn sold_in(zones: &[&str], cpus: i64) -> InstanceType {
    let mut machine = machine(&format!("m{cpus}"), "amd64", cpus);
    let offering = machine.offerings[0].clone();
    machine.offerings =
        zones.iter().map(|zone| crate::Offering { zone: (*zone).to_owned(), ..offering.clone() }).collect();
    machine
}

/// A pool of 16 cpus in zones a and b, and of 4 in zone c.
fn small_in_c() -> Pool {
    edited_pool(pool("p"), |pool| pool.instance_types = [sold_in(&["a", "b"], 16), sold_in(&["c"], 4)].into())
}

fn daemon(milli_cpu: i64, edit: impl FnOnce(&mut Pod)) -> Arc<Pod> {
    on_daemon_set(edited(pod("agent", milli_cpu, 0), edit), "agent").into()
}

/// How many pods the plan and the greedy one leave out. If none of a few, the plan is proven to be the cheapest.
fn left(world: &Snapshot) -> [usize; 2] {
    let plans = plans(world);
    let bound = plans[0].lower_bound.as_ref().map(|bound| bound.cost);
    let few = world.pods.len() <= 6 && plans[0].unplaced.is_empty();
    assert!(!few || bound == Some(plans[0].cost), "{bound:?} {}", plans[0].cost);
    plans.each_ref().map(|plan| unplaced(plan).len())
}

#[test]
fn a_zone_counts_with_what_daemons_leave_of_its_machines() {
    let mut world = snapshot(app("web", 6, 3500, evenly("web")).collect(), Vec::new(), vec![small_in_c()]);
    let in_c = |world: &Snapshot| {
        let plan = solve(world, &Settings::default());
        plan.new_nodes.iter().filter(|node| node.offerings.iter().any(|one| one.key.zone == "c")).count()
    };
    assert_eq!((left(&world), in_c(&world)), ([0; 2], 2));
    world.daemons = vec![daemon(1000, |_| ())];
    assert_eq!((left(&world), in_c(&world)), ([0; 2], 0));
    // Elsewhere it takes nothing.
    world.daemons = vec![daemon(1000, |pod| pod.node_selector = labels_of(&[(labels::ZONE, "a")]))];
    assert_eq!((left(&world), in_c(&world)), ([0; 2], 2));
}

#[test]
fn a_zone_in_which_a_daemon_has_the_pods_port_does_not_count() {
    let listening = |pod: &mut Pod| {
        evenly("web")(pod);
        pod.host_ports = vec![port(80)];
    };
    let mut world = snapshot(app("web", 6, 500, listening).collect(), Vec::new(), vec![small_in_c()]);
    assert_eq!(left(&world), [0; 2]);
    world.daemons = vec![daemon(10, |pod| {
        pod.node_selector = labels_of(&[(labels::ZONE, "c")]);
        pod.host_ports = vec![port(80)];
    })];
    assert_eq!(left(&world), [0; 2]);
}

#[test]
fn a_zone_in_which_limits_let_no_pool_make_a_node_does_not_count() {
    let large = edited_pool(pool("large"), |pool| pool.instance_types = [sold_in(&["a", "b"], 16)].into());
    let limited = |cpus: i64, used: i64| {
        edited_pool(pool("limited"), |pool| {
            pool.instance_types = [sold_in(&["c"], 4)].into();
            pool.limits = Some(resources(cpus * 1000, 1000, 1000));
            pool.used = resources(used * 1000, 0, 0);
        })
    };
    let world =
        |limited| snapshot(app("web", 6, 3500, evenly("web")).collect(), Vec::new(), vec![large.clone(), limited]);
    for (cpus, used) in [(0, 0), (3, 0), (8, 5)] {
        assert_eq!(left(&world(limited(cpus, used))), [0; 2], "{used} of {cpus} cpus used");
    }
    // One node can be made there, so that one more pod than in it may be in each other zone.
    assert_eq!(left(&world(limited(8, 4))), [1; 2]);
}

#[test]
fn a_zone_counts_if_it_has_room_for_one_of_the_spreads_pods_as_they_are() {
    let sized = |name: &str, count, milli_cpu, gib| {
        let larger = move |pod: &mut Pod| pod.requests = resources(milli_cpu, gib, 1);
        let pods: Vec<Pod> = app("web", count, milli_cpu, evenly("web")).map(|pod| edited(pod, larger)).collect();
        let name = name.to_owned();
        pods.into_iter().map(move |pod| edited(pod, |pod| pod.key.name = pod.key.name.replace("web", &name)))
    };
    // Zone c has cpus enough for the one sort and memory enough for the other.
    let pods: Vec<Pod> = sized("lean", 3, 10_000, 1).chain(sized("fat", 3, 1000, 60)).collect();
    let mut world = snapshot(pods, Vec::new(), vec![small_in_c()]);
    assert_eq!(left(&world), [0; 2]);
    world.pods.extend(sized("tiny", 1, 100, 0).map(Into::into));
    assert_eq!(left(&world), [2; 2]);
}

/// A web pod on a leaving node in zone c, where the pool makes none, and pods to place.
fn one_in_c(old: impl Fn(&mut Pod), pods: impl Iterator<Item = Pod>) -> Snapshot {
    let pool = edited_pool(pool("p"), |pool| pool.instance_types = [sold_in(&["a"], 16)].into());
    let mut there = node("there", 2000);
    there.stage = crate::NodeStage::Leaving;
    there.labels.insert(labels::ZONE.to_owned(), "c".to_owned());
    there.pods = app("web", 1, 100, old).map(Arc::new).collect();
    there.pods.extend(app("other", 1, 100, |pod| pod.terminating = true).map(Arc::new));
    snapshot(pods.collect(), vec![there], vec![pool])
}

#[test]
fn the_zone_of_a_leaving_node_counts_for_a_spread_as_long_as_a_pod_holds_it() {
    let left_with = |old: fn(&mut Pod)| {
        let new = app("web", 4, 1000, evenly("web")).map(|pod| edited(pod, |pod| pod.key.name.insert_str(0, "new-")));
        left(&one_in_c(old, new))
    };
    // One in c: two in a are within the skew.
    assert_eq!(left_with(|_| ()), [2; 2]);
    // None that counts, but one that holds the node.
    assert_eq!(left_with(|pod| pod.labels.clear()), [3; 2]);
    assert_eq!(left_with(|pod| pod.terminating = true), [0; 2]);
}

#[test]
fn the_zone_of_a_leaving_node_that_a_pod_holds_is_one_of_those_that_are_demanded() {
    let demanding = |pod: &mut Pod| {
        evenly("web")(pod);
        pod.topology_spread[0].min_domains = Some(2);
        pod.key.name.insert_str(0, "new-");
    };
    assert_eq!(left(&one_in_c(|_| (), app("web", 2, 1000, demanding))), [0; 2]);
    assert_eq!(left(&one_in_c(|pod| pod.terminating = true, app("web", 2, 1000, demanding))), [1; 2]);
    // Where the policy looks at taints, a node that is closed is no domain.
    let mut closed = one_in_c(
        |_| (),
        app("web", 2, 1000, |pod| {
            demanding(pod);
            pod.topology_spread[0].node_taints_policy = crate::NodeInclusion::Honor;
        }),
    );
    closed.nodes[0].taints = vec![taint("karpenter.sh/disrupted")];
    assert_eq!(left(&closed), [1; 2]);
}

#[test]
fn a_pod_that_holds_a_leaving_node_is_company_in_its_zone() {
    let beside = |pod: &mut Pod| {
        pod.labels.clear();
        pod.pod_affinity = vec![near("web", labels::ZONE)];
    };
    let make_in_c = |mut world: Snapshot| {
        world.pools[0].instance_types = [sold_in(&["a", "c"], 16)].into();
        left(&world)
    };
    assert_eq!(make_in_c(one_in_c(|_| (), app("new", 2, 1000, beside))), [0; 2]);
    assert_eq!(make_in_c(one_in_c(|pod| pod.terminating = true, app("new", 2, 1000, beside))), [2; 2]);
}

#[test]
fn the_first_of_pods_that_must_be_together_goes_where_its_like_is_until_it_is_gone() {
    let together = |key: &'static str| {
        move |pod: &mut Pod| {
            pod.labels = labels_of(&[("app", "web")]);
            pod.pod_affinity = vec![near("web", key)];
            pod.key.name.insert_str(0, "new-");
        }
    };
    let going = |pod: &mut Pod| pod.terminating = true;
    // The cheapest zone is a.
    let zones = |sold: &[&str], key: &'static str| {
        let mut world = one_in_c(going, app("web", 3, 1000, together(key)));
        world.pools[0].instance_types = [sold_in(sold, 16)].into();
        plans(&world).map(|plan| {
            let zones = plan.new_nodes.iter().flat_map(|node| &node.offerings).map(|one| one.key.zone.clone());
            let told = plan.unplaced.values().map(|reasons| reasons[0].to_string());
            zones.chain(told).collect::<std::collections::BTreeSet<_>>()
        })
    };
    assert_eq!(zones(&["a", "b", "c"], labels::ZONE), [["c".to_owned()].into(), ["c".to_owned()].into()]);
    let nowhere = "NodePool/p: the pods it must share its topology.kubernetes.io/zone with are in c, where it can have no node of \
                   the pool";
    assert_eq!(zones(&["a", "b"], labels::ZONE), [[nowhere.to_owned()].into(), [nowhere.to_owned()].into()]);
    // The checker knows it by itself.
    let there = one_in_c(going, app("web", 1, 1000, together(labels::ZONE)));
    let mut gone = there.clone();
    gone.nodes.clear();
    let plan = solve(&gone, &Settings::default());
    assert_eq!(broken(&gone, &plan), []);
    assert!(matches!(broken(&there, &plan).as_slice(), [crate::check::Violation::NotNear { .. }]));
    // On the host of a node that takes no more pods nobody can be, so they need not wait for that.
    assert_eq!(zones(&["a"], labels::HOSTNAME), [["a".to_owned()].into(), ["a".to_owned()].into()]);
    // Once another one stays, it alone is company.
    let mut world = one_in_c(going, app("web", 1, 1000, together(labels::ZONE)));
    world.pools[0].instance_types = [sold_in(&["a", "b", "c"], 16)].into();
    let mut stays = node("stays", 100);
    stays.labels.insert(labels::ZONE.to_owned(), "b".to_owned());
    stays.pods = app("web", 1, 50, |pod| pod.key.name = "stays".to_owned()).map(Arc::new).collect();
    world.nodes.push(stays);
    assert_eq!(plans(&world).map(|plan| plan.new_nodes[0].offerings[0].key.zone.clone()), ["b", "b"]);
}

#[test]
fn who_must_be_on_one_host_stays_on_that_of_its_like_until_it_is_gone() {
    let together = |pod: &mut Pod| {
        pod.labels = labels_of(&[("app", "web")]);
        pod.pod_affinity = vec![near("web", labels::HOSTNAME)];
        pod.key.name.insert_str(0, "new-");
    };
    let outcome = |milli_cpu: i64| {
        let mut world = one_in_c(|pod| pod.terminating = true, app("web", 1, 1000, together));
        world.nodes[0].stage = crate::NodeStage::Ready;
        world.nodes[0].allocatable = resources(milli_cpu, 64, 100);
        plans(&world)
            .map(|plan| plan.placed.into_values().map(|placement| placement.node.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(outcome(2000), [["node there"]; 2]);
    assert_eq!(outcome(200), [[""; 0]; 2]);
}

#[test]
fn a_pod_that_can_be_nowhere_keeps_nobody_waiting() {
    let pods = app("web", 6, 3950, evenly("web")).chain(app("web", 1, 1, evenly("web")).map(|pod| {
        edited(pod, |pod| {
            pod.key.name = "fat".to_owned();
            pod.requests = resources(100, 1000, 1);
        })
    }));
    let world = snapshot(pods.collect(), Vec::new(), vec![small_in_c()]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [["fat"]; 2]);
}

#[test]
fn what_a_pod_that_can_be_nowhere_demands_of_others_is_nothing_to_them() {
    // A node decides for each label over which pods are spread what it is; with that it has one type left, and must have two.
    let mut pool = small_in_c();
    let tiers = |mut machine: InstanceType, tier| {
        machine.requirements.add(Requirement::one_of("tier", [tier]));
        machine
    };
    let types = [tiers(sold_in(&["a", "b"], 16), "gold"), tiers(sold_in(&["a", "b"], 4), "tin")];
    let named = types.iter().map(|one| one.name.clone());
    pool.requirements.add(Requirement::one_of(labels::INSTANCE_TYPE, named).with_min_values(Some(2)));
    pool.instance_types = types.into();
    let demands = |pod: &mut Pod| {
        evenly("web")(pod);
        pod.topology_spread.push(spread("web", "tier"));
        pod.pod_anti_affinity = vec![near("web", labels::HOSTNAME)];
    };
    let pods = app("web", 2, 500, |_| ())
        .chain(app("web", 1, 20_000, demands).map(|pod| edited(pod, |pod| pod.key.name = "huge".to_owned())));
    let world = snapshot(pods.collect(), Vec::new(), vec![pool]);
    let plans = plans(&world);
    assert_eq!(plans.each_ref().map(unplaced), [["huge"]; 2]);
    assert_eq!(plans.each_ref().map(|plan| plan.new_nodes.len()), [1; 2]);
    let told: Vec<String> = plans[0].unplaced.values().flatten().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("cpu"), "{told:?}");
}

#[test]
fn a_node_that_must_leave_a_choice_may_become_one_in_a_zone_that_does_not_count() {
    // Zone c has machines for the small pods alone, and without these a node has one type left.
    let choosy = |types: Vec<InstanceType>| {
        let named = types.iter().map(|one| one.name.clone());
        let mut pool = pool("p");
        pool.requirements.add(Requirement::one_of(labels::INSTANCE_TYPE, named).with_min_values(Some(2)));
        pool.instance_types = types.into();
        pool
    };
    let spread = |count| app("web", count, 3500, evenly("web"));
    for (free, count) in [(5, 6), (2, 3), (6, 8), (8, 3)] {
        let pool = choosy(vec![sold_in(&["a", "b"], 4), sold_in(&["a", "b"], 8), sold_in(&["c"], 2)]);
        let pods = app("free", free, 1500, |_| ()).chain(spread(count)).collect();
        assert_eq!(left(&snapshot(pods, Vec::new(), vec![pool])), [0; 2], "{free} and {count}");
    }
    // Without zone c a node would have one type only. With it nobody knows whether the zone will count; so far it may.
    let pool = choosy(vec![sold_in(&["a", "b"], 8), sold_in(&["c"], 2)]);
    let mine = |pod: &mut Pod| pod.node_selector = labels_of(&[("karpenter.sh/nodepool", "p")]);
    let others = edited_pool(pool.clone(), |pool| {
        pool.key.name = "q".to_owned();
        pool.requirements = requirements::Requirements::new();
    });
    let pods = app("free", 5, 1500, mine).chain(spread(2)).collect();
    assert_eq!(left(&snapshot(pods, Vec::new(), vec![pool.clone(), others.clone()])), [0; 2]);
    // Whoever comes after such a node must be even with a zone that it may turn out to be in.
    let first = |pod: &mut Pod| {
        mine(pod);
        pod.priority = 1;
    };
    let pods = app("free", 5, 1500, first).chain(spread(6)).collect();
    assert_eq!(left(&snapshot(pods, Vec::new(), vec![pool, others])), [4; 2]);
}

#[test]
fn a_zone_whose_machines_lack_a_label_that_the_pods_are_spread_over_does_not_count() {
    let tier = |mut machine: InstanceType, tier| {
        machine.requirements.add(Requirement::one_of("tier", [tier]));
        machine
    };
    let types = [tier(sold_in(&["a", "b"], 4), "gold"), tier(sold_in(&["a", "b"], 8), "tin"), sold_in(&["c"], 16)];
    let pool = edited_pool(pool("p"), |pool| pool.instance_types = types.into());
    let over_both = |pod: &mut Pod| {
        evenly("web")(pod);
        pod.topology_spread.push(spread("web", "tier"));
    };
    let mut pods: Vec<Pod> = app("web", 8, 500, over_both).collect();
    let world = snapshot(pods.clone(), Vec::new(), vec![pool.clone()]);
    assert_eq!(plans(&world).each_ref().map(unplaced), [[""; 0]; 2]);
    // Others may have nodes there all the same.
    pods.extend(app("large", 2, 10_000, |_| ()));
    assert_eq!(plans(&snapshot(pods, Vec::new(), vec![pool])).each_ref().map(unplaced), [[""; 0]; 2]);
}

fn some_terms() -> impl Strategy<Value = Vec<Vec<requirements::RequirementTerm>>> {
    let one = select(vec![
        term(labels::ZONE, Operator::In, &["a", "c"]),
        term(labels::ZONE, Operator::NotIn, &["c"]),
        term(labels::CAPACITY_TYPE, Operator::In, &["spot"]),
        term(labels::INSTANCE_TYPE, Operator::NotIn, &["m4"]),
        term("karpenter.k8s.aws/instance-cpu", Operator::Gt, &["4"]),
        term("team", Operator::In, &["red"]),
        term("team", Operator::DoesNotExist, &[]),
    ]);
    vec(vec(one, 1..3), 0..3)
}

/// Types that some zones do not sell, daemons on some of them, pools with limits and `minValues`, and pods of several sizes that are
/// spread together.
fn some_holes() -> impl Strategy<Value = Snapshot> {
    let ways = vec(prop::bool::weighted(0.6), 3 * 6);
    let pool_with = (option::of(0..20_i64), option::of(2..4_u32), any::<bool>(), any::<bool>());
    let daemon_with = (select(vec![100, 600, 1500]), some_terms(), prop::bool::weighted(0.3));
    let sometimes = prop::bool::weighted(0.2);
    let workload = (1..4_usize, select(vec![300, 1900, 3500, 7000]), some_terms(), [sometimes; 3]);
    let key = select(vec![labels::ZONE, labels::CAPACITY_TYPE, "team"]);
    let skews = (1..3_u32, key);
    (ways, vec(pool_with, 1..3), vec(daemon_with, 0..3), vec(workload, 1..4), skews).prop_map(
        |(ways, pools, daemons, workloads, (max_skew, key))| {
            let mut ways = ways.into_iter();
            let types: Vec<InstanceType> = [4, 8, 16]
                .map(|cpus| {
                    let mut machine = machine(&format!("m{cpus}"), "amd64", cpus);
                    let offering = machine.offerings[0].clone();
                    let paid = [crate::CapacityType::OnDemand, crate::CapacityType::Spot];
                    machine.offerings = ["a", "b", "c"]
                        .iter()
                        .flat_map(|zone| paid.map(|paid| (zone, paid)))
                        .filter(|_| ways.next() == Some(true))
                        .map(|(zone, paid)| crate::Offering {
                            zone: (*zone).to_owned(),
                            capacity_type: paid,
                            ..offering.clone()
                        })
                        .collect();
                    machine
                })
                .into();
            let with = |(index, (cpus, min_values, teams, tight)): (usize, (Option<i64>, Option<u32>, bool, bool))| {
                edited_pool(pool(&format!("p{index}")), |pool| {
                    pool.limits = cpus.map(|cpus| resources(cpus * 1000, 1000, 1000));
                    pool.used = resources(if tight { 3000 } else { 0 }, 0, 0);
                    let named = types.iter().map(|one| one.name.clone());
                    let wanted = Requirement::one_of(labels::INSTANCE_TYPE, named).with_min_values(min_values);
                    pool.requirements.add(wanted);
                    if teams {
                        pool.requirements.add(Requirement::one_of("team", ["red", "blue"]));
                    }
                    pool.instance_types = types.clone().into();
                })
            };
            let pools = pools.into_iter().enumerate().map(with).collect();
            let mut pods = Vec::new();
            for (index, (count, milli_cpu, terms, [listens, counts_for_none, goes_anywhere])) in
                workloads.into_iter().enumerate()
            {
                let edit = |pod: &mut Pod| {
                    pod.labels = labels_of(&[("app", if counts_for_none { "other" } else { "shared" })]);
                    pod.required_node_affinity = terms.clone();
                    pod.host_ports = if listens { vec![port(80)] } else { Vec::new() };
                    let spread = crate::TopologySpread { max_skew, ..spread("shared", key) };
                    pod.topology_spread = if goes_anywhere { Vec::new() } else { vec![spread] };
                };
                pods.extend(app(&format!("w{index}"), count, milli_cpu, edit));
            }
            let mut world = snapshot(pods, Vec::new(), pools);
            let daemon = |(index, (milli_cpu, terms, listens)): (usize, (i64, Vec<Vec<_>>, bool))| {
                let name = format!("agent-{index}");
                let daemon = edited(pod(&name, milli_cpu, 0), |pod| {
                    pod.required_node_affinity = terms;
                    pod.host_ports = if listens { vec![port(80)] } else { Vec::new() };
                });
                on_daemon_set(daemon, &name).into()
            };
            world.daemons = daemons.into_iter().enumerate().map(daemon).collect();
            world
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn plans_where_not_everything_is_sold_everywhere_are_sound(world in some_holes()) {
        let [plan, greedy] = plans(&world);
        prop_assert!(plan.unplaced.len() <= greedy.unplaced.len());
        prop_assert!(plan.unplaced.len() < greedy.unplaced.len() || plan.cost <= greedy.cost);
        prop_assert!(plan.lower_bound.is_none_or(|bound| bound.cost <= plan.cost));
    }
}
