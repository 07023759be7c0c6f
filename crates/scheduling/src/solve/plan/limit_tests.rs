//! Who has a place where not all have one, and in which pool.

use std::{collections::BTreeMap, sync::Arc};

use requirements::{Requirement, labels};

use super::price_tests::{app, on_demand, plan, there};
use crate::{
    InstanceType, LabelSelector, NewNode, Pod, PodKey, Pool, Settings, Snapshot, Solution, TopologySpread, solve,
    testing::*,
};

/// The plan, which has to be sound.
fn sound(world: &Snapshot) -> Solution {
    let plan = solve(world, &Settings::default());
    assert_eq!(broken(world, &plan), []);
    plan
}

fn beside(app: &'static str) -> impl Fn(&mut Pod) {
    move |pod| pod.pod_affinity = vec![near(app, labels::HOSTNAME)]
}

fn of_pool(name: &'static str) -> impl Fn(&mut Pod) {
    move |pod| pod.node_selector = labels_of(&[("karpenter.sh/nodepool", name)])
}

/// Limits of a pool, in thousandths of a cpu.
fn cpus(mut pool: Pool, milli_cpu: i64) -> Pool {
    pool.limits = Some(resources(milli_cpu, 100_000, 100_000));
    pool
}

fn named(plan: &Solution, app: &str) -> usize {
    plan.placed.keys().filter(|pod| pod.name.starts_with(app)).count()
}

#[test]
fn under_a_limit_whoever_takes_others_along_comes_first() {
    let roomy = |cpus: i64| InstanceType {
        capacity: resources(cpus * 1000, 1000, 200),
        ..machine(&format!("m.{cpus}"), "amd64", cpus)
    };
    let mut pool = cpus(pool("p"), 64_000);
    pool.instance_types = [2, 4, 8, 16, 32].map(roomy).into_iter().collect();
    for caches in [168, 220] {
        let pods = app("web", caches / 4, 1500, |_| {}).chain(app("cache", caches, 300, beside("web")));
        let plan = sound(&snapshot(pods.collect(), Vec::new(), vec![pool.clone()]));
        assert!(plan.placed.len() >= 170, "{} of {}", plan.placed.len(), caches * 5 / 4);
    }
}

#[test]
fn a_pod_that_needs_a_pool_of_less_weight_draws_no_others_there() {
    let (mut heavy, light) = (on_demand("heavy", 100), on_demand("light", 20));
    heavy.weight = 10;
    // One machine of the lighter pool holds what needs it, and the largest ones are cheaper there for all.
    let pods = app("bound", 4, 100, of_pool("light")).chain(app("free", 4, 7000, |_| {}));
    let (plan, _) = plan(&snapshot(pods.collect(), Vec::new(), vec![heavy, light]));
    let in_light = plan.new_nodes.iter().filter(|node| node.pool.name == "light");
    let in_light: Vec<&PodKey> = in_light.flat_map(|node| &node.pods).collect();
    assert_eq!(in_light.len(), 4, "{in_light:?}");
}

/// On how many nodes of the pool, for what together, and how many pods of each app are there.
fn in_pool(plan: &Solution, name: &str) -> (usize, i64, BTreeMap<String, usize>) {
    let nodes: Vec<&NewNode> = plan.new_nodes.iter().filter(|node| node.pool.name == name).collect();
    let mut apps = BTreeMap::new();
    for pod in nodes.iter().flat_map(|node| &node.pods) {
        let app = pod.name.split('-').next().unwrap_or_default();
        *apps.entry(app.to_owned()).or_default() += 1;
    }
    (nodes.len(), nodes.iter().map(|node| node.offerings[0].price.0).sum(), apps)
}

#[test]
fn pods_that_need_a_pool_of_less_weight_are_not_dealt_out_there_for_others_to_go_along() {
    let (mut heavy, light) = (on_demand("heavy", 100), on_demand("light", 20));
    heavy.weight = 10;
    for count in [3, 4, 10, 20, 50] {
        let pods = |free| app("bound", count, 100, of_pool("light")).chain(app("free", free, 1500, |_| {}));
        let cost = |free| {
            let (plan, _) = plan(&snapshot(pods(free).collect(), Vec::new(), vec![heavy.clone(), light.clone()]));
            in_pool(&plan, "light").1
        };
        assert!(cost(count) <= cost(0), "{count} of each: {} for {} alone", cost(count), cost(0));
    }
}

#[test]
fn where_the_greedy_rule_leaves_a_pod_out_weights_still_count_for_the_others() {
    let (mut heavy, mut light) = (on_demand("heavy", 100), on_demand("light", 20));
    heavy.weight = 10;
    light.requirements.add(Requirement::one_of(labels::ZONE, ["b"]));
    for (key, most) in [(labels::ZONE, 1), (labels::HOSTNAME, 2)] {
        let follows = |pod: &mut Pod| {
            pod.pod_affinity = vec![near("leader", key)];
            of_pool("light")(pod);
        };
        let pods = app("follower", 1, 300, follows).chain(app("leader", 1, 900, |_| {}));
        let pods = pods.chain(app("free", 20, 1500, |_| {})).collect();
        let (plan, _) = plan(&snapshot(pods, Vec::new(), vec![heavy.clone(), light.clone()]));
        let (_, _, apps) = in_pool(&plan, "light");
        assert!(apps.values().sum::<usize>() <= most && !apps.contains_key("free"), "{key}: {apps:?}");
    }
}

#[test]
fn a_group_that_keeps_together_goes_where_those_that_follow_it_can_be() {
    // The machines of the pool in a and c are cheaper.
    let mut cheap = pool("cheap");
    cheap.requirements.add(Requirement::one_of(labels::ZONE, ["a", "c"]));
    let mut dear = pool("dear");
    dear.requirements.add(Requirement::one_of(labels::ARCH, ["amd64"]));
    let together = |pod: &mut Pod| pod.pod_affinity = vec![near("w", labels::ZONE)];
    let in_b = |pod: &mut Pod| {
        together(pod);
        pod.node_selector = labels_of(&[(labels::ZONE, "b")]);
    };
    for pods in [app("w", 12, 500, together).chain(app("u", 1, 500, in_b)).collect::<Vec<_>>(), {
        let group = |pod: &mut Pod| pod.pod_affinity = vec![near("w", labels::HOSTNAME)];
        app("w", 7, 500, group).chain(app("u", 8, 900, in_b)).collect()
    }] {
        let world = snapshot(pods, Vec::new(), vec![cheap.clone(), dear.clone()]);
        assert_eq!(sound(&world).unplaced, [].into());
    }
}

#[test]
fn pods_of_no_priority_come_before_those_of_less_where_higher_ones_lack_a_place_too() {
    let with = |priority: i32, edit: fn(&mut Pod)| {
        move |pod: &mut Pod| {
            pod.priority = priority;
            edit(pod);
        }
    };
    let high = |pod: &mut Pod| pod.topology_spread = vec![spread("y", labels::HOSTNAME)];
    let served = |pod: &mut Pod| {
        pod.host_ports = vec![port(81)];
        pod.node_selector = labels_of(&[(labels::ARCH, "arm64")]);
        pod.topology_spread = vec![TopologySpread { max_skew: 2, ..spread("v", labels::ZONE) }];
        pod.pod_affinity = vec![near("y", labels::HOSTNAME)];
    };
    let follows = |pod: &mut Pod| {
        pod.pod_affinity = vec![near("y", labels::HOSTNAME)];
        of_pool("def")(pod);
    };
    let low =
        |pod: &mut Pod| pod.topology_spread = vec![TopologySpread { max_skew: 2, ..spread("u", labels::HOSTNAME) }];
    let pods = |lows: usize| {
        let high = app("y", 2, 1500, with(1000, high)).chain(app("v", 2, 1000, with(1000, served)));
        high.chain(app("x", 38, 2000, follows)).chain(app("u", lows, 100, with(-5, low)))
    };
    let types = || -> Arc<[InstanceType]> {
        [2, 4, 8, 16].map(|cpus| machine(&format!("g.{cpus}"), "arm64", cpus)).into_iter().collect()
    };
    let mut def = cpus(pool("def"), 32_000);
    def.instance_types = types();
    let mut two = on_demand("two", 100);
    two.instance_types = types();
    let mut there = there("n0", "c", 16_000, std::iter::empty());
    there.labels.insert(labels::ARCH.to_owned(), "amd64".to_owned());
    there.labels.insert("karpenter.sh/nodepool".to_owned(), "def".to_owned());
    there.labels.insert(labels::CAPACITY_TYPE.to_owned(), "on-demand".to_owned());
    let placed = |lows: usize| {
        let plan = sound(&snapshot(pods(lows).collect(), vec![there.clone()], vec![def.clone(), two.clone()]));
        named(&plan, "x")
    };
    let among = [16, 27, 35].map(placed);
    assert_eq!(among, [placed(0); 3]);
}

/// Two types of each size, on demand and on spot.
fn pairs(sizes: &[i64]) -> Arc<[InstanceType]> {
    sizes
        .iter()
        .flat_map(|cpus| ["m", "n"].map(|family| machine(&format!("{family}.{cpus}"), "amd64", *cpus)))
        .collect()
}

#[test]
fn different_values_and_a_limit_leave_the_cheapest_plan_for_few_pods() {
    let mut pool = pool("p");
    pool.instance_types = pairs(&[2, 4, 8]);
    pool.requirements.add(Requirement::exists(labels::INSTANCE_TYPE).with_min_values(Some(2)));
    pool.limits = Some(resources(1_000_000, 32, 1000));
    let twice = |pod: &mut Pod| {
        let by_type = TopologySpread { max_skew: 2, ..spread("v", labels::CAPACITY_TYPE) };
        pod.topology_spread = vec![by_type, spread("v", labels::HOSTNAME)];
    };
    let pods = app("u", 1, 500, |pod| pod.requests = resources(500, 6, 1)).chain(app("v", 2, 2000, twice));
    let (plan, bound) = plan(&snapshot(pods.collect(), Vec::new(), vec![pool]));
    assert_eq!(plan.cost, bound);
}

#[test]
fn no_minimum_is_above_a_plan_whose_nodes_a_spread_does_not_count() {
    let mut pool = pool("p");
    pool.instance_types = [2, 4, 8].map(|cpus| machine(&format!("m.{cpus}"), "amd64", cpus)).into_iter().collect();
    let of_app = |pod: &mut Pod| pod.labels = labels_of(&[("t", "1")]);
    let on_four = |pod: &mut Pod| {
        pod.node_selector = labels_of(&[(labels::INSTANCE_TYPE, "m.4")]);
        let selector = Some(LabelSelector { match_labels: labels_of(&[("t", "1")]), match_expressions: Vec::new() });
        pod.topology_spread = vec![TopologySpread { max_skew: 2, selector, ..spread("", labels::CAPACITY_TYPE) }];
    };
    let served = |pod: &mut Pod| {
        of_app(pod);
        pod.host_ports = vec![port(80)];
    };
    let pods = || app("u", 1, 2000, of_app).chain(app("w", 2, 2000, served)).chain(app("v", 2, 1000, on_four));
    let cost = |pods: Vec<Pod>| plan(&snapshot(pods, Vec::new(), vec![pool.clone()])).0.cost;
    let pinned = pods().map(|mut pod| {
        if pod.key.name == "w-00" {
            pod.node_selector = labels_of(&[(labels::INSTANCE_TYPE, "m.8")]);
        }
        pod
    });
    let (free, pinned) = (cost(pods().collect()), cost(pinned.collect()));
    assert!(free <= pinned, "{free} {pinned}");
}
