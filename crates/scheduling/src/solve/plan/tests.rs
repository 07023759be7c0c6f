//! What plans by price promise, held against trying everything.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::{Requirement, labels};
use units::UsdMicrosPerHour;

use crate::{
    CapacityType, InstanceType, LabelSelector, Note, Offering, Pod, Pool, Settings, Snapshot, Solution, Strength,
    WhenUnsatisfiable, check::check, solve, solve_after, solve_greedy, solve_within, testing::*,
};

/// A pod of a small world: what it asks for and where it may be.
#[derive(Clone, Debug)]
struct Small {
    cpu: i64,
    gib: i64,
    zone: Option<&'static str>,
    spot: bool,
    port: Option<u16>,
    alone: bool,
}

/// A type of a small world: cpus, GiB, and its price in zones a and b and on spot in a.
type Type = (i64, i64, [i64; 3]);

const WAYS: [(&str, CapacityType); 3] =
    [("a", CapacityType::OnDemand), ("b", CapacityType::OnDemand), ("a", CapacityType::Spot)];

fn some_small() -> impl Strategy<Value = Small> {
    let size = (select(vec![200, 500, 900, 1000, 1500, 2000, 3000]), 1..9_i64);
    let place = (option::weighted(0.2, select(vec!["a", "b"])), prop::bool::weighted(0.2));
    (size, place, option::weighted(0.15, Just(80)), prop::bool::weighted(0.2)).prop_map(
        |((cpu, gib), (zone, spot), port, alone)| {
            // There is no spot in b.
            Small { cpu, gib, zone: if spot { None } else { zone }, spot, port, alone }
        },
    )
}

fn some_types() -> impl Strategy<Value = Vec<Type>> {
    vec((1..7_i64, 2..17_i64, [10..90_i64, 10..90_i64, 10..90_i64]), 1..=4)
}

fn world(pods: &[Small], types: &[Type]) -> Snapshot {
    let machine = |(index, (cpus, gib, prices)): (usize, &Type)| {
        let offered = WAYS.iter().zip(prices).map(|((zone, capacity_type), price)| Offering {
            zone: (*zone).to_owned(),
            capacity_type: *capacity_type,
            price: UsdMicrosPerHour(price * 1000),
            available: true,
            remaining: None,
        });
        InstanceType {
            name: format!("t{index}"),
            requirements: [Requirement::one_of(labels::INSTANCE_TYPE, [format!("t{index}")])].into_iter().collect(),
            capacity: resources(cpus * 1000, *gib, 4),
            overhead: resources(0, 0, 0),
            offerings: offered.collect(),
        }
    };
    let mut pool: Pool = pool("p");
    pool.instance_types = types.iter().enumerate().map(machine).collect();
    let pod = |(index, small): (usize, &Small)| {
        let mut pod = pod(&format!("pod-{index}"), small.cpu, small.gib);
        pod.node_selector.extend(small.zone.map(|zone| (labels::ZONE.to_owned(), zone.to_owned())));
        if small.spot {
            pod.node_selector.insert(labels::CAPACITY_TYPE.to_owned(), "spot".to_owned());
        }
        pod.host_ports = small.port.map(port).into_iter().collect();
        if small.alone {
            pod.labels = labels_of(&[("app", "alone")]);
            pod.pod_anti_affinity = vec![near("alone", labels::HOSTNAME)];
        }
        pod
    };
    snapshot(pods.iter().enumerate().map(pod).collect::<Vec<Pod>>(), Vec::new(), vec![pool])
}

/// The most pods that can be placed, and the least that it costs then, by trying every set of nodes.
fn by_trying(pods: &[Small], types: &[Type]) -> (usize, i64) {
    let fits_alone = |pod: &&Small| (0..types.len() * 3).any(|node| fits(&[pod], node, types));
    let placeable: Vec<&Small> = pods.iter().filter(fits_alone).collect();
    let mut least = i64::MAX;
    place(&placeable, types, &mut Vec::new(), &mut least);
    (placeable.len(), least)
}

fn place<'p>(pods: &[&'p Small], types: &[Type], nodes: &mut Vec<Vec<&'p Small>>, least: &mut i64) {
    let Some((pod, rest)) = pods.split_first() else {
        let cheapest = |node: &Vec<&Small>| {
            (0..types.len() * 3).filter(|kind| fits(node, *kind, types)).map(|kind| price(kind, types)).min()
        };
        if let Some(cost) = nodes.iter().map(cheapest).sum::<Option<i64>>() {
            *least = (*least).min(cost);
        }
        return;
    };
    for index in 0..=nodes.len() {
        if index == nodes.len() {
            nodes.push(Vec::new());
        }
        nodes[index].push(pod);
        place(rest, types, nodes, least);
        nodes[index].pop();
        if nodes[index].is_empty() {
            nodes.pop();
        }
    }
}

fn price(node: usize, types: &[Type]) -> i64 {
    types[node / 3].2[node % 3] * 1000
}

fn fits(pods: &[&Small], node: usize, types: &[Type]) -> bool {
    let ((cpus, gib, _), (zone, capacity_type)) = (types[node / 3], WAYS[node % 3]);
    let allowed =
        |pod: &&Small| pod.zone.is_none_or(|one| one == zone) && (!pod.spot || capacity_type == CapacityType::Spot);
    pods.iter().map(|pod| pod.cpu).sum::<i64>() <= cpus * 1000
        && pods.iter().map(|pod| pod.gib).sum::<i64>() <= gib
        && pods.len() <= 4
        && pods.iter().filter(|pod| pod.port.is_some()).count() <= 1
        && pods.iter().filter(|pod| pod.alone).count() <= 1
        && pods.iter().all(allowed)
}

/// How many pods found no place, and the cost.
fn rank(solution: &Solution) -> (usize, UsdMicrosPerHour) {
    (solution.unplaced.len(), solution.cost)
}

fn as_much_as_it_takes() -> Settings {
    Settings { search_work_units: u64::MAX, target_gap_ppm: 0, ..Settings::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn small_problems_are_solved_as_well_as_by_trying_everything(
        pods in vec(some_small(), 1..=6), types in some_types(),
    ) {
        let (snapshot, (placed, least)) = (world(&pods, &types), by_trying(&pods, &types));
        let plan = solve(&snapshot, &as_much_as_it_takes());
        prop_assert_eq!(check(&snapshot, &plan), []);
        prop_assert_eq!((plan.placed.len(), plan.cost.0), (placed, least));
        let bound = plan.lower_bound.expect("nothing is limited");
        prop_assert_eq!((bound.cost.0, bound.ignores), (least, Vec::<String>::new()));
    }

    #[test]
    fn with_the_old_plan_at_hand_more_types_cost_no_more(
        pods in vec(some_small(), 1..=12), types in some_types(), more in some_types(),
    ) {
        let few = solve(&world(&pods, &types), &Settings::default());
        let all: Vec<Type> = types.into_iter().chain(more).collect();
        let many = solve_after(&world(&pods, &all), &Settings::default(), &|| false, &few);
        prop_assert!(rank(&many) <= rank(&few), "{:?} > {:?}", rank(&many), rank(&few));
    }

    #[test]
    fn with_the_old_plan_at_hand_twice_the_pods_cost_at_most_twice_as_much(
        pods in vec(some_small(), 1..=10), types in some_types(),
    ) {
        let (once, types) = (world(&pods, &types), types);
        let few = solve(&once, &Settings::default());
        let mut twice = world(&[pods.clone(), pods].concat(), &types);
        let again = solve_after(&twice, &Settings::default(), &|| false, &few);
        prop_assert_eq!(again.unplaced.len(), 2 * few.unplaced.len());
        prop_assert!(again.cost.0 <= 2 * few.cost.0, "{} > 2 x {}", again.cost, few.cost);
        twice.pods.clear();
        prop_assert_eq!(solve(&twice, &Settings::default()).cost, UsdMicrosPerHour::ZERO);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_plan_is_dearer_than_the_greedy_one_or_cheaper_than_the_bound(snapshot in some_related_snapshot()) {
        let (plan, greedy) = (solve(&snapshot, &Settings::default()), solve_greedy(&snapshot, &Settings::default()));
        prop_assert!(rank(&plan) <= rank(&greedy), "{:?} > {:?}", rank(&plan), rank(&greedy));
        prop_assert_eq!(plan.greedy_cost, Some(greedy.cost));
        if let Some(bound) = &plan.lower_bound {
            prop_assert!(bound.cost <= plan.cost, "{bound:?} > {}", plan.cost);
            prop_assert!(greedy.unplaced.len() > plan.unplaced.len() || bound.cost <= greedy.cost);
        }
        let exhausted = plan.notes.iter().any(|note| matches!(note, Note::BudgetExhausted { .. }));
        prop_assert!(!exhausted);
    }

    #[test]
    fn a_looser_limit_costs_no_more_with_the_old_plan_at_hand(snapshot in some_snapshot()) {
        let tight = solve(&snapshot, &Settings::default());
        let mut loose = snapshot;
        loose.pools.iter_mut().for_each(|pool| pool.limits = None);
        let after = solve_after(&loose, &Settings::default(), &|| false, &tight);
        prop_assert_eq!(check(&loose, &after), []);
        prop_assert!(rank(&after) <= rank(&tight), "{:?} > {:?}", rank(&after), rank(&tight));
    }
}

/// What a pod may demand of its node and of the pods around it.
const DEMANDS: [fn(&mut Pod); 7] = [
    |pod| pod.node_selector.clear(),
    |pod| pod.required_node_affinity.clear(),
    |pod| pod.pod_anti_affinity.clear(),
    |pod| pod.pod_affinity.clear(),
    |pod| pod.topology_spread.clear(),
    |pod| pod.host_ports.clear(),
    |pod| pod.volume_zones.clear(),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_dropped_demand_costs_no_more_with_the_old_plan_at_hand(
        snapshot in some_related_snapshot(), which in 0..DEMANDS.len(),
    ) {
        let mut strict = snapshot;
        for pod in strict.pods.iter_mut().map(Arc::make_mut) {
            // What is only wished may become possible, and then costs more.
            pod.topology_spread.retain(|spread| spread.when_unsatisfiable == WhenUnsatisfiable::DoNotSchedule);
            pod.pod_affinity.retain(|term| term.strength == Strength::Required);
            pod.pod_anti_affinity.retain(|term| term.strength == Strength::Required);
            // Whoever may go to more domains has to be spread over more, and the old plan may be none any more.
            if which < 2 {
                pod.topology_spread.clear();
            }
        }
        let before = solve(&strict, &Settings::default());
        let mut free = strict;
        free.pods.iter_mut().map(Arc::make_mut).for_each(DEMANDS[which]);
        let after = solve_after(&free, &Settings::default(), &|| false, &before);
        prop_assert_eq!(check(&free, &after), []);
        prop_assert!(rank(&after) <= rank(&before), "{:?} > {:?}", rank(&after), rank(&before));
    }
}

/// Six pods of this size in three zones, one more in each at most than in the emptiest.
fn spread(cpu: i64) -> Snapshot {
    let pods = (0..6).map(|index| {
        let mut pod = pod(&format!("pod-{index}"), cpu, 1);
        pod.labels = labels_of(&[("app", "spread")]);
        pod.topology_spread = vec![crate::TopologySpread {
            max_skew: 1,
            topology_key: labels::ZONE.to_owned(),
            when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
            selector: Some(LabelSelector {
                match_labels: labels_of(&[("app", "spread")]),
                match_expressions: Vec::new(),
            }),
            min_domains: None,
            node_affinity_policy: crate::NodeInclusion::Honor,
            node_taints_policy: crate::NodeInclusion::Ignore,
            match_label_keys: Vec::new(),
        }];
        pod
    });
    snapshot(pods.collect(), Vec::new(), vec![pool("p")])
}

#[test]
fn pods_that_must_be_spread_are_planned_zone_by_zone_and_proven() {
    let snapshot = spread(1800);
    let plan = solve(&snapshot, &Settings::default());
    assert_eq!(check(&snapshot, &plan), []);
    // Three pods in a, on spot at $0.02 for each cpu, and three in b on demand: two on four cpus and one on two, each time.
    assert_eq!((plan.cost, plan.proven_optimal()), (UsdMicrosPerHour(6 * 20_000 + 6 * 50_000), true));
}

#[test]
fn a_plan_that_leaves_pods_out_has_the_minimum_of_those_it_places() {
    let mut limited = spread(1800);
    limited.pools[0].limits = Some(resources(8000, 1000, 1000));
    let settings = Settings::default();
    for plan in
        [solve(&limited, &settings), solve_greedy(&limited, &settings), solve_within(&limited, &settings, &|| true)]
    {
        assert!(!plan.unplaced.is_empty());
        let mut free = spread(1800);
        free.pods.retain(|pod| plan.placed.contains_key(&pod.key));
        let cheapest = solve(&free, &settings);
        assert!(cheapest.proven_optimal());
        let bound = plan.lower_bound.unwrap();
        assert!(bound.cost > UsdMicrosPerHour(0) && bound.cost <= cheapest.cost, "{bound:?} {}", cheapest.cost);
        assert_eq!(bound.ignores.last().unwrap(), &format!("the {} pods without a place", plan.unplaced.len()));
    }
}

#[test]
fn what_would_be_cheaper_by_one_more_pod_is_not_bought_beyond_a_limit() {
    let mut snapshot = spread(1800);
    snapshot.pools[0].limits = Some(resources(8000, 1000, 1000));
    let plan = solve(&snapshot, &Settings::default());
    assert_eq!(check(&snapshot, &plan), []);
    // What is told is a minimum for those that have a place.
    assert!(!plan.proven_optimal(), "pods that could have a place have none: {plan:?}");
}

#[test]
fn a_node_says_what_it_costs_and_what_the_greedy_rule_would_have_bought() {
    let snapshot = snapshot(vec![pod("large", 3500, 1), pod("small", 1000, 1)], Vec::new(), vec![pool("p")]);
    let plan = solve(&snapshot, &Settings::default());
    let why: Vec<String> = plan.new_nodes[0].why.iter().map(ToString::to_string).collect();
    let expected = [
        "opened for pod shop/large",
        "it costs $0.08/h; next would be m.2xlarge in a (spot) for $0.16/h",
        "by the greedy rule it would be m.2xlarge in a (spot) for $0.16/h, with 2 pods",
    ];
    assert_eq!((why, plan.cost), (expected.map(str::to_owned).to_vec(), UsdMicrosPerHour(120_000)));
}

#[test]
fn a_pool_that_would_do_too_is_passed_over_for_its_price_and_not_for_want_of_machines() {
    let mut dear = pool("a-dear");
    let mut only = machine("m.large", "amd64", 2);
    only.offerings.iter_mut().for_each(|one| one.price = UsdMicrosPerHour(one.price.0 * 3));
    dear.instance_types = [only].into();
    let snapshot = snapshot(vec![pod("p", 1000, 1)], Vec::new(), vec![dear, pool("b-any")]);
    let plan = solve(&snapshot, &Settings::default());
    let why: Vec<String> = plan.new_nodes[0].why.iter().map(ToString::to_string).collect();
    assert_eq!(why[1], "NodePool/a-dear would do too, and is not in the cheapest plan");
}

/// A DaemonSet that takes 500m of the nodes of team a only, and a pod for team b that a node of two cpus holds without it.
#[test]
fn no_bound_reckons_with_a_daemon_that_a_nodes_label_may_keep_away() {
    let mut teams = pool("p");
    teams.requirements.add(Requirement::one_of("team", ["a", "b"]));
    let mut small = pod("small", 1600, 1);
    small.node_selector = labels_of(&[("team", "b")]);
    let mut world = snapshot(vec![small], Vec::new(), vec![teams]);
    let mut daemon = on_daemon_set(pod("d", 500, 0), "d");
    let without = solve(&world, &Settings::default());
    daemon.node_selector = labels_of(&[("team", "a")]);
    world.daemons = vec![daemon.clone().into()];
    let plan = solve(&world, &Settings::default());
    let bound = plan.lower_bound.expect("the pod has a place");
    assert_eq!(bound.cost, without.cost, "what a node of team b costs, which the daemon does not run on");
    assert!(bound.ignores.iter().any(|one| one.contains("DaemonSets")), "{bound:?}");
    // One that runs on all nodes is reckoned with.
    daemon.node_selector.clear();
    world.daemons = vec![daemon.into()];
    let plan = solve(&world, &Settings::default());
    assert!(plan.proven_optimal() && plan.cost > without.cost, "{plan:?}");
}
