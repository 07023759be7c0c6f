//! Small problems with all sorts of demands and wishes, held against trying everything, and the laws of more and less.

use proptest::{collection::vec, option, prelude::*, sample::select};
use requirements::{Operator, Requirement, labels};
use units::UsdMicrosPerHour;

use crate::{CapacityType, InstanceType, Offering, Pod, Settings, Snapshot, Solution, check::check, solve, testing::*};

/// Plans that the trial looks at for one problem; problems that need more are left out.
const BUDGET: u32 = 20_000;

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
        2 => (select(vec![labels::ZONE, labels::ZONE, labels::HOSTNAME, labels::CAPACITY_TYPE]), 1..=2_u32)
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

/// Up to so many pods with demands on each other, up to two nodes, and a pool of up to so many types.
fn some_problem(pods: usize, kinds: usize) -> impl Strategy<Value = Snapshot> {
    (vec(some_pod(), 1..=pods), some_nodes(), vec(some_type(), 1..=kinds)).prop_map(|(pods, nodes, all)| {
        let mut pool = pool("p");
        pool.instance_types = types(all, "t").into();
        snapshot(named(pods), nodes, vec![pool])
    })
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
        snapshot in some_problem(4, 3),
    ) {
        let Some(best) = best(&snapshot, BUDGET) else { return Err(TestCaseError::reject("too large")) };
        let plan = plan(&snapshot);
        prop_assert_eq!((plan.placed.len(), plan.cost), (best.placed, best.cost));
        if plan.unplaced.is_empty() {
            prop_assert!(plan.proven_optimal(), "{:?}", plan.lower_bound);
        }
    }
}
