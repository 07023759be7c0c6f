//! What demands of pods on each other must not cost.

use std::sync::Arc;

use requirements::{Requirement, labels};
use units::UsdMicrosPerHour;

use crate::{Node, Pod, Pool, Settings, Snapshot, Solution, solve, testing::*};

/// So many pods of an app, of so many thousandths of a cpu.
fn app(name: &str, count: usize, milli_cpu: i64, edit: impl Fn(&mut Pod)) -> impl Iterator<Item = Pod> {
    let one = move |index| {
        let mut pod = pod(&format!("{name}-{index:02}"), milli_cpu, 0);
        pod.labels = labels_of(&[("app", name)]);
        edit(&mut pod);
        pod
    };
    (0..count).map(one)
}

/// A pool of on-demand machines of 2, 4, 8 and 16 cpus, the largest at `percent` of the price for as many cpus.
fn on_demand(name: &str, percent: i64) -> Pool {
    let mut pool = pool(name);
    let mut types = [2, 4, 8, 16].map(|cpus| machine(&format!("m.{cpus}"), "amd64", cpus));
    types[3].offerings.iter_mut().for_each(|one| one.price.0 = one.price.0 * percent / 100);
    pool.instance_types = types.into_iter().collect();
    pool.requirements.add(Requirement::one_of(labels::CAPACITY_TYPE, ["on-demand"]));
    pool
}

fn there(name: &str, zone: &str, milli_cpu: i64, pods: impl Iterator<Item = Pod>) -> Node {
    let mut node = node(name, milli_cpu);
    node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
    node.pods = pods.map(Arc::new).collect();
    node
}

/// The plan, which has to be sound and to place all pods, and its bound.
fn plan(world: &Snapshot) -> (Solution, UsdMicrosPerHour) {
    let plan = solve(world, &Settings::default());
    assert_eq!(broken(world, &plan), []);
    assert_eq!(plan.unplaced.len(), 0, "{:?}", plan.unplaced);
    let bound = plan.lower_bound.as_ref().expect("all have a place").cost;
    (plan, bound)
}

#[test]
fn pods_that_run_and_must_be_kept_away_from_cost_nothing() {
    // The greedy rule fills the largest machines, which are dear, and the zone to stay away from is the cheaper one.
    let mut pool = on_demand("p", 200);
    let mut types = pool.instance_types.to_vec();
    for one in &mut types {
        one.offerings[1].price.0 = one.offerings[1].price.0 * 97 / 100;
    }
    pool.instance_types = types.into();
    let by_selector = |pod: &mut Pod| pod.node_selector = labels_of(&[(labels::ZONE, "a")]);
    let by_affinity = |pod: &mut Pod| pod.pod_anti_affinity = vec![near("db", labels::ZONE)];
    let db = |edit: fn(&mut Pod)| app("db", 1, 900, edit);
    let avoiding_web = |pod: &mut Pod| pod.pod_anti_affinity = vec![near("web", labels::ZONE)];
    let cost = |pods: Vec<Pod>, db: Vec<Pod>| {
        let world = snapshot(pods, vec![there("n", "b", 1000, db.into_iter())], vec![pool.clone()]);
        let (plan, bound) = plan(&world);
        (plan.cost, bound)
    };
    let expected = cost(app("web", 11, 2500, by_selector).collect(), Vec::new());
    assert_eq!(cost(app("web", 11, 2500, by_affinity).collect(), db(|_| {}).collect()), expected);
    assert_eq!(cost(app("web", 11, 2500, |_| {}).collect(), db(avoiding_web).collect()), expected);
}

#[test]
fn pods_that_keep_to_themselves_do_not_take_the_nodes_there_are_from_others() {
    let noisy = |pod: &mut Pod| {
        pod.pod_anti_affinity = vec![near("noisy", labels::HOSTNAME), near("quiet", labels::HOSTNAME)];
    };
    let pods = app("noisy", 4, 1000, noisy).chain(app("quiet", 8, 900, |_| {}));
    let nodes = ["n1", "n2"].map(|name| there(name, "a", 8000, std::iter::empty()));
    let (plan, _) = plan(&snapshot(pods.collect(), nodes.into(), vec![on_demand("p", 100)]));
    // All quiet ones on one of the nodes, a noisy one on the other, and three machines of two cpus.
    assert_eq!((plan.greedy_cost, plan.cost), (Some(UsdMicrosPerHour(600_000)), UsdMicrosPerHour(300_000)));
}

#[test]
fn pods_that_others_are_spread_by_leave_them_their_choice() {
    let spread_by_v = |pod: &mut Pod| {
        let mut spread = spread("v", labels::ZONE);
        spread.max_skew = 3;
        pod.topology_spread = vec![spread];
    };
    // All in one zone would leave the others what the greedy rule takes, which is dear.
    let pods = app("v", 14, 1500, |_| {}).chain(app("u", 7, 2000, spread_by_v));
    let (plan, bound) = plan(&snapshot(pods.collect(), Vec::new(), vec![on_demand("p", 200)]));
    assert!(plan.cost.0 * 100 <= bound.0 * 106, "{} with a bound of {bound}", plan.cost);
}

#[test]
fn spreads_over_two_labels_are_planned_together() {
    let both = |pod: &mut Pod| {
        pod.topology_spread = [labels::ZONE, labels::CAPACITY_TYPE].map(|key| spread("w", key)).into();
    };
    let mut pool = on_demand("p", 100);
    pool.requirements = requirements::Requirements::new();
    let mut types: Vec<_> = pool.instance_types.to_vec();
    // Spot in zone b, too.
    for one in &mut types {
        let spot = one.offerings[2].clone();
        one.offerings.push(crate::Offering { zone: "b".to_owned(), ..spot });
    }
    pool.instance_types = types.into();
    // Twelve on spot and twelve on demand, six of each in a zone.
    let (plan, _) = plan(&snapshot(app("w", 24, 950, both).collect(), Vec::new(), vec![pool]));
    assert_eq!(plan.cost, UsdMicrosPerHour(2 * (6 * 50_000 + 6 * 20_000)));
}

#[test]
fn where_a_pool_demands_different_types_room_is_kept_for_pods_that_follow_others() {
    let following = |pod: &mut Pod| pod.pod_affinity = vec![near("host", labels::HOSTNAME)];
    // The cheapest machine by far is one that too few others can stand in for.
    let mut pool = on_demand("p", 30);
    pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(3)));
    let pods = app("host", 6, 1900, |_| {}).chain(app("guest", 30, 300, following));
    let (plan, _) = plan(&snapshot(pods.collect(), Vec::new(), vec![pool]));
    assert!(plan.new_nodes.iter().all(|node| node.offerings.len() >= 3));
}

#[test]
fn a_plan_that_a_limit_stands_in_the_way_of_has_a_bound_all_the_same() {
    // The greedy rule gives the pool that is limited, the first by name, to those that need not have it.
    let to_first = |pod: &mut Pod| pod.node_selector = labels_of(&[("karpenter.sh/nodepool", "first")]);
    let (mut first, second) = (on_demand("first", 100), on_demand("second", 100));
    first.limits = Some(resources(32_000, 1_000, 1_000));
    let pods = app("only", 14, 2000, to_first).chain(app("any", 14, 2000, |_| {}));
    let (plan, bound) = plan(&snapshot(pods.collect(), Vec::new(), vec![first, second]));
    assert!(bound <= plan.cost && bound.0 * 2 > plan.cost.0, "{bound} of {}", plan.cost);
}
