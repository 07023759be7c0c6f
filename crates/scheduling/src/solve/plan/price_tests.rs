//! What demands of pods on each other must not cost.

use std::sync::Arc;

use requirements::{Requirement, labels};
use units::UsdMicrosPerHour;

use crate::{Node, Pod, Pool, Settings, Snapshot, Solution, solve, testing::*};

/// So many pods of an app, of so many thousandths of a cpu.
pub(super) fn app(name: &str, count: usize, milli_cpu: i64, edit: impl Fn(&mut Pod)) -> impl Iterator<Item = Pod> {
    let one = move |index| {
        let mut pod = pod(&format!("{name}-{index:02}"), milli_cpu, 0);
        pod.labels = labels_of(&[("app", name)]);
        edit(&mut pod);
        pod
    };
    (0..count).map(one)
}

/// A pool of on-demand machines of 2, 4, 8 and 16 cpus, the largest at `percent` of the price for as many cpus.
pub(super) fn on_demand(name: &str, percent: i64) -> Pool {
    let mut pool = pool(name);
    let mut types = [2, 4, 8, 16].map(|cpus| machine(&format!("m.{cpus}"), "amd64", cpus));
    types[3].offerings.iter_mut().for_each(|one| one.price.0 = one.price.0 * percent / 100);
    pool.instance_types = types.into_iter().collect();
    pool.requirements.add(Requirement::one_of(labels::CAPACITY_TYPE, ["on-demand"]));
    pool
}

pub(super) fn there(name: &str, zone: &str, milli_cpu: i64, pods: impl Iterator<Item = Pod>) -> Node {
    let mut node = node(name, milli_cpu);
    node.labels.insert(labels::ZONE.to_owned(), zone.to_owned());
    node.pods = pods.map(Arc::new).collect();
    node
}

/// The plan, which has to be sound and to place all pods, and its bound.
pub(super) fn plan(world: &Snapshot) -> (Solution, UsdMicrosPerHour) {
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

#[test]
fn three_groups_that_may_not_all_be_together_share_nodes_all_the_same() {
    // On the node there is goes what may be with many others; the greedy rule gives it to one that must be alone there.
    let apart = |others: [&'static str; 1]| {
        move |pod: &mut Pod| pod.pod_anti_affinity = others.iter().map(|one| near(one, labels::HOSTNAME)).collect()
    };
    let pods = || {
        let (u, w) = (app("u", 6, 900, apart(["u"])), app("w", 9, 900, apart(["u"])));
        u.chain(w).chain(app("x", 8, 1400, apart(["x"])))
    };
    let running = |pod: &mut Pod| {
        apart(["x"])(pod);
        pod.key.name = "running".to_owned();
    };
    let nodes = || vec![there("n", "a", 8000, app("x", 1, 400, running))];
    let (free, _) = plan(&snapshot(pods().collect(), nodes(), vec![on_demand("p", 100)]));
    let pinned = pods().enumerate().map(|(index, mut pod)| {
        if (6..14).contains(&index) {
            pod.node_selector = labels_of(&[(labels::HOSTNAME, "n")]);
        }
        pod
    });
    let (pinned, _) = plan(&snapshot(pinned.collect(), nodes(), vec![on_demand("p", 100)]));
    assert!(free.cost <= pinned.cost, "{} where eight are on the node, else {}", pinned.cost, free.cost);
}

#[test]
fn a_spread_over_the_one_domain_that_its_pods_select_costs_nothing() {
    let on_demand_only = |pod: &mut Pod| pod.node_selector = labels_of(&[(labels::CAPACITY_TYPE, "on-demand")]);
    let spread_too = |pod: &mut Pod| {
        on_demand_only(pod);
        pod.topology_spread = vec![spread("w", labels::CAPACITY_TYPE)];
    };
    let alone = |pod: &mut Pod| pod.pod_anti_affinity = vec![near("u", labels::HOSTNAME)];
    let mut both = on_demand("p", 100);
    both.requirements = requirements::Requirements::new();
    let cost = |w: &dyn Fn(&mut Pod)| {
        let pods = app("u", 3, 300, alone).chain(app("v", 11, 950, |_| {})).chain(app("w", 11, 950, w));
        plan(&snapshot(pods.collect(), Vec::new(), vec![both.clone()])).0.cost
    };
    assert_eq!(cost(&spread_too), cost(&on_demand_only));
}

#[test]
fn the_more_pods_wait_the_more_have_a_place_under_a_limit() {
    let even = |pod: &mut Pod| pod.topology_spread = vec![spread("web", labels::ZONE)];
    let placed = |count: usize, cpus: i64| {
        let mut pool = on_demand("p", 100);
        pool.limits = Some(resources(cpus * 1_000, 100_000, 100_000));
        let world = snapshot(app("web", count, 1000, even).collect(), Vec::new(), vec![pool]);
        let plan = solve(&world, &Settings::default());
        assert_eq!(broken(&world, &plan), []);
        plan.placed.len()
    };
    for (limit, counts) in [(24, [24, 30, 40]), (240, [240, 300, 500])] {
        let [all, more, most] = counts.map(|count| placed(count, limit));
        assert!(
            all <= more && more <= most,
            "{all} of {}, {more} of {}, {most} of {}",
            counts[0],
            counts[1],
            counts[2]
        );
    }
}

#[test]
fn pods_that_others_are_spread_by_go_to_several_zones_where_that_is_cheaper() {
    // Only on arm64 do those count that are to be one on a host, and the cheapest zone is enough for all of these.
    let by_zone = |pod: &mut Pod| {
        pod.node_selector = labels_of(&[(labels::ARCH, "arm64")]);
        pod.topology_spread = vec![spread("v", labels::ZONE)];
    };
    let by_host = |pod: &mut Pod| pod.topology_spread = vec![spread("v", labels::HOSTNAME)];
    let large = |mut pod: Pod| {
        pod.requests.set(units::ResourceName::memory(), units::Amount(5 << 30));
        pod
    };
    let (mut pool, small) = (pool("p"), |name: &str, gib: i64, cents: i64| {
        let mut one = machine(name, "arm64", 2);
        one.capacity = resources(2000, gib, 20);
        one.offerings.iter_mut().for_each(|offering| offering.price = UsdMicrosPerHour(cents * 10_000));
        one
    });
    pool.instance_types = vec![small("c.2", 4, 5), small("m.2", 8, 6), machine("m.4", "arm64", 4)].into();
    let arm = app("v", 6, 900, by_zone).map(large);
    let any = app("v", 12, 1000, by_host).map(|mut pod| {
        pod.key.name.insert_str(0, "any-");
        pod
    });
    let (plan, _) = plan(&snapshot(arm.chain(any).collect(), Vec::new(), vec![pool]));
    assert_eq!(plan.cost, UsdMicrosPerHour(6 * 60_000 + 6 * 50_000));
}

#[test]
fn one_value_of_a_label_that_every_machine_has_is_not_a_demand() {
    let following = |pod: &mut Pod| pod.pod_affinity = vec![near("host", labels::HOSTNAME)];
    let pods = || app("host", 6, 1900, |_| {}).chain(app("guest", 30, 300, following));
    let mut demanding = on_demand("p", 100);
    demanding.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(1)));
    let of = |pool: Pool| plan(&snapshot(pods().collect(), Vec::new(), vec![pool])).0;
    let (one, other) = (of(on_demand("p", 100)), of(demanding));
    assert_eq!((one.cost, one.lower_bound), (other.cost, other.lower_bound));
    assert_eq!(one.new_nodes.len(), other.new_nodes.len());
}

#[test]
fn which_pod_comes_first_does_not_decide_what_weights_cost() {
    let (mut heavy, light) = (on_demand("heavy", 100), on_demand("light", 100));
    heavy.weight = 10;
    let to_light = |pod: &mut Pod| pod.node_selector = labels_of(&[("karpenter.sh/nodepool", "light")]);
    let cost = |bound: &str, free: &str, count: usize| {
        let pods = app(bound, count, 900, to_light).chain(app(free, count, 900, |_| {}));
        plan(&snapshot(pods.collect(), Vec::new(), vec![heavy.clone(), light.clone()]))
    };
    for (count, percent) in [(1, 0), (5, 0), (20, 0)] {
        let ((one, bound), (other, of_other)) = (cost("a", "b", count), cost("b", "a", count));
        let (least, most) = (one.cost.min(other.cost), one.cost.max(other.cost));
        assert!(most.0 * 100 <= least.0 * (100 + percent), "{count} of each: {least}, {most}");
        assert!(bound.max(of_other) <= least, "{count} of each: {bound}, {of_other}, {least}");
    }
}

#[test]
fn pods_that_wait_in_vain_take_no_place_from_others_of_several_kinds() {
    let even = |app: &'static str| move |pod: &mut Pod| pod.topology_spread = vec![spread(app, labels::ZONE)];
    let placed = |count: usize| {
        let mut pool = on_demand("p", 100);
        pool.limits = Some(resources(480_000, 100_000, 100_000));
        let pods = app("a", count, 900, even("a")).chain(app("b", count / 2, 1500, even("b")));
        let world = snapshot(pods.collect(), Vec::new(), vec![pool]);
        let plan = solve(&world, &Settings::default());
        assert_eq!(broken(&world, &plan), []);
        plan.placed.len()
    };
    let (few, many) = (placed(500), placed(1500));
    assert!(few * 100 <= many * 105, "{few} of 750, {many} of 2250");
}

#[test]
fn whom_others_follow_into_a_zone_goes_where_all_together_are_cheapest() {
    let sold = |name: &str, arch: &str, prices: [i64; 2]| {
        let mut machine = machine(name, arch, 4);
        machine.offerings.truncate(2);
        machine.offerings.iter_mut().zip(prices).for_each(|(one, price)| one.price.0 = price);
        machine
    };
    let mut pool = pool("p");
    // Where a leader costs least its followers cost most.
    pool.instance_types =
        [sold("x86", "amd64", [90_000, 100_000]), sold("arm", "arm64", [200_000, 100_000])].into_iter().collect();
    let on = |arch: &'static str| move |pod: &mut Pod| pod.node_selector = labels_of(&[(labels::ARCH, arch)]);
    let followers = |pod: &mut Pod| {
        on("arm64")(pod);
        pod.pod_affinity = vec![near("leader", labels::ZONE)];
    };
    // A node there holds all leaders, for nothing.
    for (leaders, count) in [(3, 40), (8, 60)] {
        let mut world = snapshot(
            Vec::new(),
            vec![there("n", "a", 1500 * i64::try_from(leaders).unwrap(), std::iter::empty())],
            vec![pool.clone()],
        );
        let pods = app("leader", leaders, 1500, on("amd64")).chain(app("follower", count, 900, followers));
        world.pods = pods.map(Arc::new).collect();
        let (plan, _) = plan(&world);
        let dear = plan.new_nodes.iter().filter(|node| node.offerings[0].price.0 == 200_000).count();
        assert_eq!(dear, 0, "{leaders} and {count}: {}", plan.cost);
    }
}
