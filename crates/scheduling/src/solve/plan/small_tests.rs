//! Small problems with all sorts of demands and wishes, held against trying everything, and the laws of more and less.

use std::sync::Arc;

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::{Operator, Requirement, labels};
use units::UsdMicrosPerHour;

use crate::{
    CapacityType, InstanceType, Note, Offering, Pod, PodKey, Settings, Snapshot, Solution, Strength, WhenUnsatisfiable,
    check::check,
    realise::{Opening, nominations, realise_nominated},
    solve, solve_greedy,
    testing::*,
};

/// Plans that the trial looks at for one problem; problems that need more are left out.
const BUDGET: u32 = 3_000;

fn app() -> impl Strategy<Value = &'static str> {
    select(vec!["web", "db"])
}

/// A demand of a pod on others or on its node.
#[derive(Clone, Debug)]
enum Demand {
    None,
    Spread(&'static str, u32),
    Near(&'static str, &'static str),
    Apart(&'static str, &'static str),
    Zone(&'static str),
    /// One of two: a zone, or spot.
    ZoneOrSpot(&'static str),
}

fn some_demand() -> impl Strategy<Value = Demand> {
    let zone = || select(vec!["a", "b", "c"]);
    let key = || select(vec![labels::ZONE, labels::ZONE, labels::HOSTNAME]);
    prop_oneof![
        3 => Just(Demand::None),
        3 => (select(vec![labels::ZONE, labels::ZONE, labels::CAPACITY_TYPE, labels::HOSTNAME]), 1..=2_u32)
            .prop_map(|(key, skew)| Demand::Spread(key, skew)),
        2 => (app(), key()).prop_map(|(app, key)| Demand::Near(app, key)),
        2 => (app(), key()).prop_map(|(app, key)| Demand::Apart(app, key)),
        1 => zone().prop_map(Demand::Zone),
        1 => zone().prop_map(Demand::ZoneOrSpot),
    ]
}

impl Demand {
    fn put_on(&self, pod: &mut Pod, own: &str) {
        match self {
            Self::None => {}
            Self::Spread(key, max_skew) => {
                pod.topology_spread = vec![crate::TopologySpread { max_skew: *max_skew, ..spread(own, key) }];
            }
            Self::Near(app, key) => pod.pod_affinity = vec![near(app, key)],
            Self::Apart(app, key) => pod.pod_anti_affinity = vec![near(app, key)],
            Self::Zone(zone) => pod.node_selector = labels_of(&[(labels::ZONE, zone)]),
            Self::ZoneOrSpot(zone) => {
                pod.required_node_affinity = vec![
                    vec![term(labels::ZONE, Operator::In, &[zone])],
                    vec![term(labels::CAPACITY_TYPE, Operator::In, &["spot"])],
                ];
            }
        }
    }
}

fn some_pod() -> impl Strategy<Value = Pod> {
    (select(vec![500_i64, 1000, 1500, 1800, 3000]), select(vec![1_i64, 3, 7]), app(), some_demand()).prop_map(
        |(cpu, gib, own, demand)| {
            let mut pod = pod("", cpu, gib);
            pod.labels = labels_of(&[("app", own)]);
            demand.put_on(&mut pod, own);
            pod
        },
    )
}

fn named(pods: Vec<Pod>) -> Vec<Pod> {
    let name = |(index, mut pod): (usize, Pod)| {
        pod.key.name = format!("p{index}");
        pod
    };
    pods.into_iter().enumerate().map(name).collect()
}

/// A type of so many cpus, with prices in cents by zone, and whether it is on spot there.
fn some_type() -> impl Strategy<Value = InstanceType> {
    let offer = (option::weighted(0.8, 5_i64..16), option::weighted(0.3, 2_i64..9));
    (select(vec![2_i64, 4, 8]), select(vec![2_i64, 4]), [offer.clone(), offer.clone(), offer]).prop_map(
        |(cpus, memory, offers)| {
            let offering = |zone: &str, capacity_type, cents: i64| Offering {
                zone: zone.to_owned(),
                capacity_type,
                price: UsdMicrosPerHour(cents * cpus * 10_000),
                available: true,
                remaining: None,
            };
            let mut offerings: Vec<Offering> = Vec::new();
            for (zone, (on_demand, spot)) in ["a", "b", "c"].into_iter().zip(offers) {
                offerings.extend(on_demand.map(|cents| offering(zone, CapacityType::OnDemand, cents)));
                offerings.extend(spot.map(|cents| offering(zone, CapacityType::Spot, cents)));
            }
            InstanceType {
                name: String::new(),
                requirements: requirements::Requirements::new(),
                capacity: resources(cpus * 1000, cpus * memory, 20),
                overhead: resources(0, 0, 0),
                offerings,
            }
        },
    )
}

fn types(all: Vec<InstanceType>, prefix: &str) -> Vec<InstanceType> {
    let name = |(index, mut one): (usize, InstanceType)| {
        one.name = format!("{prefix}{index}");
        one.requirements = [Requirement::one_of(labels::INSTANCE_TYPE, [one.name.clone()])].into_iter().collect();
        one
    };
    all.into_iter().enumerate().map(name).collect()
}

fn some_nodes() -> impl Strategy<Value = Vec<crate::Node>> {
    vec((select(vec![1000_i64, 2000, 4000]), select(vec!["a", "b", "c"])), 0..=2).prop_map(|nodes| {
        let there = |(index, (cpu, zone)): (usize, (i64, &str))| {
            let mut there = node(&format!("n{index}"), cpu);
            there.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
            there.labels.insert(labels::CAPACITY_TYPE.to_owned(), "on-demand".to_owned());
            there
        };
        nodes.into_iter().enumerate().map(there).collect()
    })
}

/// Up to so many pods with demands on each other, up to two nodes, and pools of up to so many types, some with a limit.
fn some_problem(pods: usize, kinds: usize) -> impl Strategy<Value = Snapshot> {
    let all = (vec(some_type(), 1..=kinds), any::<prop::sample::Index>());
    let limit = option::weighted(0.2, select(vec![2000_i64, 4000, 6000, 8000]));
    (vec(some_pod(), 1..=pods), some_nodes(), all, limit).prop_map(|(pods, nodes, (all, at), limit)| {
        let mut all = types(all, "t");
        let (mut first, mut second) = (pool("p"), pool("q"));
        second.instance_types = all.split_off(at.index(all.len()) + 1).into();
        first.instance_types = all.into();
        first.limits = limit.map(|cpu| units::ResourceList::new().with(units::ResourceName::cpu(), units::Amount(cpu)));
        let mut pools = vec![first, second];
        pools.retain(|pool| !pool.instance_types.is_empty());
        snapshot(named(pods), nodes, pools)
    })
}

/// How many pods found no place, and the cost.
fn rank(solution: &Solution) -> (usize, UsdMicrosPerHour) {
    (solution.unplaced.len(), solution.cost)
}

/// The plan, which the checker has to accept.
fn plan(snapshot: &Snapshot) -> Solution {
    let plan = solve(snapshot, &Settings::default());
    assert_eq!(check(snapshot, &plan), []);
    plan
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn nothing_is_better_than_the_plan_for_few_pods_that_demand_all_sorts_of_each_other(
        snapshot in some_problem(6, 4),
    ) {
        let plan = plan(&snapshot);
        let known = Best { placed: plan.placed.len(), cost: plan.cost };
        let Some(best) = best_beyond(&snapshot, known, BUDGET) else { return Err(TestCaseError::reject("too large")) };
        prop_assert_eq!(best, known);
        assert_proven(&plan)?;
    }
}

/// No bound is above the plan, and of three pods every way is looked at within the budget.
fn assert_proven(plan: &Solution) -> Result<(), TestCaseError> {
    let few = plan.placed.len() <= 3 && plan.unplaced.is_empty();
    prop_assert!(!few || plan.proven_optimal(), "{:?}", plan.lower_bound);
    prop_assert!(plan.lower_bound.iter().all(|bound| bound.cost <= plan.cost), "{:?}", plan.lower_bound);
    Ok(())
}

/// What is offered where nothing had room for some pods before gives their spreads a domain more, and they may have to use it: it is
/// offered only where something as large is.
fn only_where_there_is_something(extra: &mut InstanceType, of: &Snapshot) {
    let machines = of.pools.iter().flat_map(|pool| pool.instance_types.iter());
    let as_large = machines.filter(|one| extra.capacity.fits_in(&one.capacity));
    let offered: Vec<(String, CapacityType)> = as_large
        .flat_map(|one| &one.offerings)
        .map(|offering| (offering.zone.clone(), offering.capacity_type))
        .collect();
    let is_spread = of.pods.iter().any(|pod| !pod.topology_spread.is_empty());
    extra.offerings.retain(|offering| !is_spread || offered.contains(&(offering.zone.clone(), offering.capacity_type)));
}

/// Demands on other pods. A demand on the node's labels says which domains a spread is over: dropped, there may be more. A pod that
/// others' spreads count and that drops its own, or its affinity, may come at any time, and they have to reckon with it.
const RELATIONS: [fn(&mut Pod); 3] =
    [|pod| pod.topology_spread.clear(), |pod| pod.pod_affinity.clear(), |pod| pod.pod_anti_affinity.clear()];

// The laws hold for `solve` by itself where every way is tried. They do not for pools of different weight, which come
// before the price, and for wishes: what can be granted now may cost more.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn one_type_more_costs_no_more(snapshot in some_problem(4, 3), extra in some_type()) {
        let few = plan(&snapshot);
        let mut extra = types(vec![extra], "extra").remove(0);
        only_where_there_is_something(&mut extra, &snapshot);
        let mut more = snapshot;
        more.pools[0].instance_types = more.pools[0].instance_types.iter().cloned().chain([extra]).collect();
        let many = plan(&more);
        prop_assert!(rank(&many) <= rank(&few), "{:?} > {:?}", rank(&many), rank(&few));
    }

    #[test]
    fn a_dropped_relation_costs_no_more(
        snapshot in some_problem(4, 3), which in 0..RELATIONS.len(), pod in any::<prop::sample::Index>(),
    ) {
        let strict = plan(&snapshot);
        let mut free = snapshot;
        let pod = pod.index(free.pods.len());
        let counts = |other: &Arc<Pod>| other.key != free.pods[pod].key && counts(other, &free.pods[pod]);
        prop_assume!(which == 2 || !free.pods.iter().any(counts));
        RELATIONS[which](Arc::make_mut(&mut free.pods[pod]));
        let free = plan(&free);
        prop_assert!(rank(&free) <= rank(&strict), "{:?} > {:?}", rank(&free), rank(&strict));
    }

    #[test]
    fn no_limit_costs_no_more(snapshot in some_problem(4, 3)) {
        // A limit below what a machine has may be all that keeps a domain out of a spread.
        let closes = |pool: &crate::Pool| {
            let limits = pool.limits.as_ref();
            limits.is_some_and(|limits| limits.iter().any(|(name, most)| {
                pool.instance_types.iter().any(|one| one.capacity.get(name) > most)
            }))
        };
        let is_spread = snapshot.pods.iter().any(|pod| !pod.topology_spread.is_empty());
        prop_assume!(!is_spread || !snapshot.pools.iter().any(closes));
        let tight = plan(&snapshot);
        let mut loose = snapshot;
        loose.pools.iter_mut().for_each(|pool| pool.limits = None);
        let loose = plan(&loose);
        prop_assert!(rank(&loose) <= rank(&tight), "{:?} > {:?}", rank(&loose), rank(&tight));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_global_rejects: 100_000, ..ProptestConfig::with_cases(100) })]

    /// Where the greedy rule grants every wish, the plan is the cheapest of those that do.
    #[test]
    fn wishes_that_can_be_granted_are_demands(mut wishing in some_problem(4, 3)) {
        let demanding = wishing.clone();
        for spread in wishing.pods.iter_mut().flat_map(|pod| &mut Arc::make_mut(pod).topology_spread) {
            spread.when_unsatisfiable = WhenUnsatisfiable::ScheduleAnyway;
        }
        let greedy = solve_greedy(&wishing, &Settings::default());
        let relaxed = greedy.notes.iter().any(|note| matches!(note, Note::PreferencesRelaxed { .. }));
        prop_assume!(!relaxed && greedy.unplaced.is_empty());
        let plan = plan(&wishing);
        let known = Best { placed: plan.placed.len(), cost: plan.cost };
        let Some(best) = best_beyond(&demanding, known, BUDGET) else { return Err(TestCaseError::reject("too large")) };
        prop_assert_eq!(best, known);
        assert_proven(&plan)?;
    }
}

/// A type of two cpus at these prices by zone, in cents.
fn twos(prices: &[(&str, i64)]) -> Arc<[InstanceType]> {
    let offering = |(zone, cents): &(&str, i64)| Offering {
        zone: (*zone).to_owned(),
        capacity_type: CapacityType::OnDemand,
        price: UsdMicrosPerHour(cents * 10_000),
        available: true,
        remaining: None,
    };
    let two = InstanceType {
        name: String::new(),
        requirements: requirements::Requirements::new(),
        capacity: resources(2000, 8, 20),
        overhead: resources(0, 0, 0),
        offerings: prices.iter().map(offering).collect(),
    };
    types(vec![two], "two").into()
}

/// One node with room for one pod in a dear zone: the pod that may go anywhere had better not take it.
fn one_place_in_the_dear_zone() -> Snapshot {
    let mut pool = pool("p");
    pool.instance_types = twos(&[("a", 10), ("c", 90)]);
    let mut bound_to_c = pod("b", 1500, 1);
    bound_to_c.node_selector = labels_of(&[(labels::ZONE, "c")]);
    let mut there = node("n1", 2000);
    there.labels.insert(labels::ZONE.to_owned(), "c".to_owned());
    snapshot(vec![pod("a", 1800, 1), bound_to_c], vec![there], vec![pool])
}

#[test]
fn a_wish_of_some_pod_does_not_make_the_others_dearer() {
    let mut snapshot = one_place_in_the_dear_zone();
    let mut wishing = pod("w", 50, 0);
    wishing.preferred_node_affinity = vec![(1, vec![term(labels::ZONE, Operator::In, &["a"])])];
    snapshot.pods.push(wishing.into());
    let plan = plan(&snapshot);
    assert_eq!((plan.cost, plan.proven_optimal()), (UsdMicrosPerHour(100_000), true));
}

/// Too many pods to try every way. Two of them wish for a zone where they need a node of their own; all others are planned by
/// price as if these were not there, and what must be in the dear zone gets the room that there is.
#[test]
fn a_wish_among_many_pods_does_not_make_the_others_dearer() {
    let mut pool = pool("p");
    pool.instance_types = twos(&[("a", 10), ("c", 90)]);
    let there = (0..6).map(|index| {
        let mut there = node(&format!("n{index}"), 2000);
        there.labels.insert(labels::ZONE.to_owned(), "c".to_owned());
        there
    });
    let anywhere = (0..6).map(|index| pod(&format!("a{index}"), 1900, 1));
    let in_c = (0..6).map(|index| {
        let mut pod = pod(&format!("c{index}"), 1500, 1);
        pod.node_selector = labels_of(&[(labels::ZONE, "c")]);
        pod
    });
    let wishing = (0..2).map(|index| {
        let mut pod = pod(&format!("w{index}"), 200, 1);
        pod.preferred_node_affinity = vec![(1, vec![term(labels::ZONE, Operator::In, &["a"])])];
        pod
    });
    let pods = anywhere.chain(in_c).chain(wishing).collect();
    let plan = plan(&snapshot(pods, there.collect(), vec![pool]));
    assert_eq!(plan.cost, UsdMicrosPerHour(700_000));
    assert_eq!(plan.notes, [Note::PreferencesCost { more: UsdMicrosPerHour(100_000) }]);
}

#[test]
fn a_plan_says_what_its_preferences_cost() {
    let mut pool = pool("p");
    pool.instance_types = twos(&[("a", 10)]);
    let alone = |index| {
        let mut pod = pod(&format!("w{index}"), 100, 1);
        pod.labels = labels_of(&[("app", "w")]);
        pod.pod_anti_affinity =
            vec![crate::PodAffinityTerm { strength: Strength::Preferred { weight: 1 }, ..near("w", labels::HOSTNAME) }];
        pod
    };
    for pods in [8, 12] {
        let plan = plan(&snapshot((0..pods).map(alone).collect(), Vec::new(), vec![pool.clone()]));
        let without = if pods == 8 { 100_000 } else { 200_000 };
        assert_eq!(plan.cost, UsdMicrosPerHour(pods * 100_000));
        let more = UsdMicrosPerHour(plan.cost.0 - without);
        assert_eq!(plan.notes, [Note::PreferencesCost { more }]);
    }
}

#[test]
fn a_pool_of_another_weight_does_not_make_the_first_one_dearer() {
    let mut snapshot = one_place_in_the_dear_zone();
    let mut other = pool("q");
    other.instance_types = twos(&[("a", 1), ("c", 1)]);
    snapshot.pools[0].weight = 10;
    snapshot.pools.push(other);
    let plan = plan(&snapshot);
    // Nothing is bought of the cheaper pool: the other one comes first.
    assert_eq!((plan.cost, plan.proven_optimal()), (UsdMicrosPerHour(100_000), true));
}

#[test]
fn a_spread_that_may_be_uneven_uses_the_cheap_zones_more() {
    let mut pool = pool("p");
    pool.instance_types = twos(&[("a", 10), ("b", 12), ("c", 20)]);
    let even = |index| {
        let mut pod = pod(&format!("w{index}"), 1500, 1);
        pod.labels = labels_of(&[("app", "w")]);
        pod.topology_spread = vec![crate::TopologySpread { max_skew: 2, ..spread("w", labels::ZONE) }];
        pod
    };
    let plan = plan(&snapshot((0..4).map(even).collect(), Vec::new(), vec![pool]));
    assert_eq!((plan.cost, plan.proven_optimal()), (UsdMicrosPerHour(440_000), true));
}

#[test]
fn the_pod_that_matters_more_gets_what_is_short() {
    let mut pool = pool("p");
    let mut four = twos(&[("a", 10)])[0].clone();
    four.name = "four".to_owned();
    four.capacity = resources(4000, 16, 20);
    four.offerings[0].price = UsdMicrosPerHour(200_000);
    pool.instance_types = twos(&[("a", 10)]).iter().cloned().chain([four]).collect();
    pool.limits = Some(units::ResourceList::new().with(units::ResourceName::cpu(), units::Amount(4000)));
    let mut high = pod("high", 3000, 1);
    high.priority = 1000;
    let plan = plan(&snapshot(vec![pod("low-1", 1500, 1), pod("low-2", 1500, 1), high], Vec::new(), vec![pool]));
    assert_eq!(plan.placed.keys().collect::<Vec<_>>(), [&PodKey::new("shop", "high")]);
}

/// Pods that must be in a zone, and older ones to be spread evenly that count them: the scheduler counts the former as soon as they
/// are nominated. A plan that had the latter see an empty zone would leave some of them behind.
#[test]
fn pods_that_a_spread_counts_are_there_when_it_is_planned() {
    for (in_zone, even) in [(2, 4), (6, 12)] {
        let mut pool = pool("p");
        pool.instance_types = twos(&[("a", 10), ("b", 10), ("c", 10)]);
        let web = |name: String, created: i64| {
            let mut pod = pod(&name, 1500, 1);
            pod.labels = labels_of(&[("app", "web")]);
            pod.created_at_unix_seconds = created;
            pod
        };
        let in_zone = (0..in_zone).map(|index| {
            let mut pod = web(format!("z{index}"), 9);
            pod.node_selector = labels_of(&[(labels::ZONE, "a")]);
            pod
        });
        let even = (0..even).map(|index| {
            let mut pod = web(format!("e{index}"), 0);
            pod.topology_spread = vec![spread("web", labels::ZONE)];
            pod
        });
        let snapshot = snapshot(in_zone.chain(even).collect(), Vec::new(), vec![pool]);
        for plan in [plan(&snapshot), solve_greedy(&snapshot, &Settings::default())] {
            let all = nominations(&snapshot, &plan);
            assert_eq!((plan.unplaced.len(), all.len()), (0, snapshot.pods.len()));
            for seed in 0..20 {
                let realised = realise_nominated(&snapshot, &plan, &all, Opening::Together, seed);
                assert_eq!(realised.stranded, [], "{} pods, seed {seed}", snapshot.pods.len());
            }
        }
    }
}

#[test]
fn who_is_planned_first_for_a_better_price_does_not_pass_those_that_its_spread_counts() {
    // Were db-1 put beside db-0 first, db-0 would have to be in zone b: whoever is nominated is counted.
    let labelled = |name: &str, app: &str, milli_cpu: i64, gib: i64| Pod {
        labels: labels_of(&[("app", app)]),
        ..pod(name, milli_cpu, gib)
    };
    let apart = |mut pod: Pod, app: &str| {
        pod.pod_anti_affinity = vec![near(app, labels::HOSTNAME)];
        pod
    };
    let even = |mut pod: Pod, app: &str| {
        pod.topology_spread = vec![spread(app, labels::ZONE)];
        pod
    };
    let pods = vec![
        apart(labelled("p0", "web", 1500, 1), "db"),
        apart(labelled("p1", "db", 500, 0), "web"),
        even(labelled("p2", "db", 1500, 2), "db"),
        even(labelled("p3", "web", 500, 1), "web"),
    ];
    let mut two = pool("p");
    two.instance_types = [machine("m.large", "amd64", 2), machine("m.xlarge", "amd64", 4)].into();
    let plan = solve(&snapshot(pods, vec![node("there", 2000)], vec![two]), &Settings::default());
    assert_eq!((plan.unplaced.len(), plan.cost), (0, UsdMicrosPerHour(200_000)));
}
