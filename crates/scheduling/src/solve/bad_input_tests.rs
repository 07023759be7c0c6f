//! Input that makes no sense: a clear reason on the pod or the pool concerned, and the others have their place.
//!
//! Every snapshot here has a pod `p` that is fine, and it must be placed.

use expect_test::{Expect, expect};
use requirements::{Operator, Requirement, RequirementTerm, labels};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

use super::tests::{edited, edited_node, edited_pool, summary};
use crate::{
    InstanceType, Node, NodeKey, Placement, Pod, PodKey, Pool, Settings, Snapshot, Target, TopologySpread,
    check::check as violations, solve, solve_greedy, testing::*,
};

/// What becomes of these pods and of one that is fine.
fn check(mut snapshot: Snapshot, expected: &Expect) {
    snapshot.pods.push(pod("p", 100, 0).into());
    let solution = solve(&snapshot, &Settings::default());
    assert_eq!(violations(&snapshot, &solution), [], "{solution:#?}");
    assert!(solution.placed.contains_key(&PodKey::new("shop", "p")));
    let greedy = solve_greedy(&snapshot, &Settings::default());
    assert_eq!(violations(&snapshot, &greedy), [], "{greedy:#?}");
    expected.assert_eq(&summary(&solution));
}

fn one_type(name: &str, edit: impl FnOnce(&mut InstanceType)) -> Pool {
    edited_pool(pool(name), |pool| {
        let mut only = machine("m.large", "amd64", 2);
        edit(&mut only);
        pool.instance_types = [only].into();
    })
}

fn only_cpu(milli: i64) -> ResourceList {
    ResourceList::new().with(ResourceName::cpu(), Amount(milli))
}

#[test]
fn a_sum_beyond_all_numbers_is_too_much_not_little() {
    // Two of these are just less than the largest number, three are more.
    let half = |name: &str| pod(name, i64::MAX / 2, 0);
    let endless = edited_node(node("endless", i64::MAX), |node| node.allocatable = resources(i64::MAX, 16, 20));
    check(
        snapshot(vec![half("x"), half("y"), half("z")], vec![endless], vec![pool("default")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        shop/x on node endless: a ready node has room
        shop/y on node endless: a ready node has room
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        shop/z unplaced: NodePool/default: asks for 4611686018427387903m of cpu, the largest node has 15900m free | 0 of 1 nodes fit: 1 too full
    "]],
    );
}

#[test]
fn daemons_beyond_all_numbers_leave_no_room() {
    let daemon = |name: &str| {
        edited(on_daemon_set(pod(name, i64::MAX - 5, 0), name), |pod| {
            pod.node_selector = labels_of(&[(labels::ARCH, "arm64")]);
        })
    };
    let mut world = snapshot(vec![], vec![], vec![pool("default")]);
    world.daemons = vec![daemon("x").into(), daemon("y").into()];
    world.pods.push(edited(pod("arm", 100, 0), |pod| pod.node_selector = labels_of(&[(labels::ARCH, "arm64")])).into());
    check(
        world,
        &expect![[r"
            shop/p on new node 0: no node takes it, so a new one is opened
            new 0 of NodePool/default: m.large in a (spot) $0.04/h, 9 offerings up to m.2xlarge in b (on-demand)
            shop/arm unplaced: NodePool/default: asks for 100m of cpu, the largest node has 0 free: the DaemonSets on it ask for 9223372036854775807m
        "]],
    );
}

#[test]
fn a_limit_that_is_used_up_beyond_all_numbers_is_used_up() {
    let full = edited_pool(pool("full"), |pool| {
        pool.limits = Some(only_cpu(i64::MAX));
        pool.used = only_cpu(i64::MAX);
        pool.labels = labels_of(&[("team", "red")]);
    });
    let below_nothing = edited_pool(pool("below"), |pool| {
        pool.limits = Some(only_cpu(-1));
        pool.labels = labels_of(&[("team", "red")]);
    });
    let red = edited(pod("red", 100, 0), |pod| pod.node_selector = labels_of(&[("team", "red")]));
    check(
        snapshot(vec![red], vec![], vec![full, below_nothing, pool("other")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/other: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        shop/red unplaced: NodePool/full: limit of 9223372036854775807m cpu, 9223372036854775807m used, the smallest node would add 2 | NodePool/below: limit of -1m cpu, 0 used, the smallest node would add 2 | NodePool/other: wants team in [red], which nothing defines
    "]],
    );
}

#[test]
fn a_node_with_less_than_nothing_takes_nothing() {
    let broken = edited_node(node("broken", -500), |node| node.allocatable = resources(-500, -3, i64::MIN));
    check(
        snapshot(vec![], vec![broken], vec![pool("default")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
    "]],
    );
}

#[test]
fn demands_that_contradict_each_other_are_told_apart() {
    let both = edited(pod("both", 100, 0), |pod| {
        pod.required_node_affinity =
            vec![vec![term(labels::ZONE, Operator::In, &["a"]), term(labels::ZONE, Operator::NotIn, &["a"])]];
    });
    let selector = edited(pod("selector", 100, 0), |pod| {
        pod.node_selector = labels_of(&[(labels::ARCH, "arm64")]);
        pod.required_node_affinity = vec![vec![term(labels::ARCH, Operator::In, &["amd64"])]];
    });
    let bounds = edited(pod("bounds", 100, 0), |pod| {
        let cpu = "karpenter.k8s.aws/instance-cpu";
        pod.required_node_affinity = vec![vec![term(cpu, Operator::Gt, &["8"]), term(cpu, Operator::Lt, &["4"])]];
    });
    let volume = edited(pod("volume", 100, 0), |pod| {
        pod.node_selector = labels_of(&[(labels::ZONE, "b")]);
        pod.volume_zones = vec![term(labels::ZONE, Operator::In, &["a"])];
    });
    let confused = edited_pool(pool("confused"), |pool| {
        pool.requirements.add(Requirement::absent("team"));
        pool.labels = labels_of(&[("team", "red")]);
    });
    check(
        snapshot(vec![both, selector, bounds, volume], vec![], vec![confused, pool("default")]),
        &expect![[r"
            shop/p on new node 0: no node takes it, so a new one is opened
            new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
            shop/both unplaced: the pod is not valid: its own demands leave no value of topology.kubernetes.io/zone: node affinity wants topology.kubernetes.io/zone in [a] and topology.kubernetes.io/zone not in [a]
            shop/bounds unplaced: the pod is not valid: its own demands leave no value of karpenter.k8s.aws/instance-cpu: node affinity wants karpenter.k8s.aws/instance-cpu at least 9 and karpenter.k8s.aws/instance-cpu at most 3
            shop/selector unplaced: the pod is not valid: its own demands leave no value of kubernetes.io/arch: nodeSelector wants kubernetes.io/arch in [arm64], node affinity wants kubernetes.io/arch in [amd64]
            shop/volume unplaced: the pod is not valid: its own demands leave no value of topology.kubernetes.io/zone: nodeSelector wants topology.kubernetes.io/zone in [b], its volumes want topology.kubernetes.io/zone in [a]
        "]],
    );
}

#[test]
fn a_circle_of_affinities_is_told_to_each_of_its_pods() {
    // Each is to be near the next, and the last one away from the first it is to be near to.
    let towards = |name: &str, to: &str| {
        edited(pod(name, 200, 0), |pod| {
            pod.labels = labels_of(&[("app", name)]);
            pod.pod_affinity = vec![near(to, labels::ZONE)];
        })
    };
    let torn = edited(towards("torn", "torn"), |pod| pod.pod_anti_affinity = vec![near("torn", labels::ZONE)]);
    let pods = vec![towards("x", "y"), towards("y", "z"), towards("z", "x"), torn];
    check(
        snapshot(pods, vec![], vec![pool("default")]),
        &expect![[r"
        shop/p on new node 0: a new node opened for other pods has room
        shop/torn on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 10 offerings up to g.4xlarge in a (on-demand)
        shop/x unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are nowhere yet
        shop/y unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are nowhere yet
        shop/z unplaced: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are nowhere yet
    "]],
    );
}

#[test]
fn a_type_that_nobody_sells_is_not_bought() {
    let unsold = one_type("unsold", |machine| {
        machine.offerings.clear();
    });
    let empty = edited_pool(pool("empty"), |pool| pool.instance_types = [].into());
    let wants =
        |name: &str| edited(pod(name, 100, 0), |pod| pod.node_selector = labels_of(&[(labels::NODEPOOL, name)]));
    check(
        snapshot(vec![wants("unsold"), wants("empty")], vec![], vec![unsold, empty, pool("default")]),
        &expect![[r"
            shop/p on new node 0: no node takes it, so a new one is opened
            new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
            shop/empty unplaced: NodePool/default: wants karpenter.sh/nodepool in [empty], has karpenter.sh/nodepool in [default] | NodePool/empty: no instance type is offered | NodePool/unsold: wants karpenter.sh/nodepool in [empty], has karpenter.sh/nodepool in [unsold] | NodePool/unsold: no instance type is offered
            shop/unsold unplaced: NodePool/default: wants karpenter.sh/nodepool in [unsold], has karpenter.sh/nodepool in [default] | NodePool/unsold: no instance type is offered | NodePool/empty: wants karpenter.sh/nodepool in [unsold], has karpenter.sh/nodepool in [empty] | NodePool/empty: no instance type is offered
        "]],
    );
}

#[test]
fn machines_may_be_free_and_prices_beyond_all_numbers() {
    let priced = |name: &str, micros: i64| {
        one_type(name, |machine| machine.offerings.iter_mut().for_each(|one| one.price = UsdMicrosPerHour(micros)))
    };
    let wants = |name: &str, pool: &str| {
        edited(pod(name, 1500, 0), |pod| pod.node_selector = labels_of(&[(labels::NODEPOOL, pool)]))
    };
    let pods = vec![wants("f", "free"), wants("x", "dear"), wants("y", "dear")];
    check(
        snapshot(pods, vec![], vec![priced("free", 0), priced("dear", i64::MAX)]),
        &expect![[r"
        shop/f on new node 0: no node takes it, so a new one is opened
        shop/p on new node 0: a new node opened for other pods has room
        shop/x on new node 1: no node takes it, so a new one is opened
        shop/y on new node 2: no node takes it, so a new one is opened
        new 0 of NodePool/free: m.large in a (spot) $0.00/h, 3 offerings up to m.large in b (on-demand)
        new 1 of NodePool/dear: m.large in a (spot) $9223372036854.775807/h, 3 offerings up to m.large in b (on-demand)
        new 2 of NodePool/dear: m.large in a (spot) $9223372036854.775807/h, 3 offerings up to m.large in b (on-demand)
    "]],
    );
}

#[test]
fn machines_without_capacity_hold_nothing() {
    let void = one_type("void", |machine| machine.capacity = resources(0, 0, 0));
    let eaten = one_type("eaten", |machine| machine.overhead = resources(i64::MAX, i64::MAX / GIB, i64::MAX));
    let wants = |name: &str| edited(pod(name, 1, 0), |pod| pod.node_selector = labels_of(&[(labels::NODEPOOL, name)]));
    check(
        snapshot(vec![wants("void"), wants("eaten")], vec![], vec![void, eaten, pool("default")]),
        &expect![[r"
        shop/p on new node 0: no node takes it, so a new one is opened
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        shop/eaten unplaced: NodePool/eaten: asks for 1m of cpu, the largest node has 0 free | NodePool/eaten: asks for 1 of pods, the largest node has 0 free | NodePool/default: wants karpenter.sh/nodepool in [eaten], has karpenter.sh/nodepool in [default] | NodePool/void: asks for 1m of cpu, the largest node has 0 free | NodePool/void: asks for 1 of pods, the largest node has 0 free | NodePool/void: wants karpenter.sh/nodepool in [eaten], has karpenter.sh/nodepool in [void]
        shop/void unplaced: NodePool/void: asks for 1m of cpu, the largest node has 0 free | NodePool/void: asks for 1 of pods, the largest node has 0 free | NodePool/default: wants karpenter.sh/nodepool in [void], has karpenter.sh/nodepool in [default] | NodePool/eaten: asks for 1m of cpu, the largest node has 0 free | NodePool/eaten: asks for 1 of pods, the largest node has 0 free | NodePool/eaten: wants karpenter.sh/nodepool in [void], has karpenter.sh/nodepool in [eaten]
    "]],
    );
}

#[test]
fn spreads_of_any_numbers_are_kept_or_told() {
    let spreading = |name: &str, edit: fn(&mut TopologySpread)| {
        edited(pod(name, 100, 0), |pod| {
            pod.labels = labels_of(&[("app", name)]);
            let mut even = spread(name, labels::ZONE);
            edit(&mut even);
            pod.topology_spread = vec![even];
        })
    };
    let pods = vec![
        spreading("any", |even| even.max_skew = u32::MAX),
        spreading("domains", |even| even.min_domains = Some(u32::MAX)),
        spreading("nameless", |even| even.topology_key = String::new()),
        spreading("unknown", |even| even.topology_key = "no-node-has-it".to_owned()),
    ];
    check(
        snapshot(pods, vec![], vec![pool("default")]),
        &expect![[r"
        shop/any on new node 0: no node takes it, so a new one is opened
        shop/domains on new node 0: a new node opened for other pods has room
        shop/p on new node 0: a new node opened for other pods has room
        new 0 of NodePool/default: g.large in a (spot) $0.04/h, 10 offerings up to g.4xlarge in a (on-demand)
        shop/nameless unplaced: NodePool/default: no  keeps the spread within a skew of 1, it has none
        shop/unknown unplaced: NodePool/default: no no-node-has-it keeps the spread within a skew of 1, it has none
    "]],
    );
}

#[test]
fn priorities_and_weights_of_any_size_are_compared() {
    let weighty = edited_pool(pool("weighty"), |pool| pool.weight = u32::MAX);
    let urgent = edited(pod("urgent", 1500, 0), |pod| pod.priority = i32::MAX);
    let idle = edited(pod("idle", 1500, 0), |pod| {
        pod.priority = i32::MIN;
        pod.created_at_unix_seconds = i64::MIN;
        pod.preferred_node_affinity = vec![(i32::MIN, vec![term(labels::ZONE, Operator::In, &["b"])])];
    });
    check(
        snapshot(vec![idle, urgent], vec![node("n", 1600)], vec![pool("default"), weighty]),
        &expect![[r"
            shop/idle on new node 0: no node takes it, so a new one is opened
            shop/p on node n: a ready node has room
            shop/urgent on node n: a ready node has room
            new 0 of NodePool/weighty: g.large in b (on-demand) $0.10/h, 5 offerings up to g.4xlarge in b (on-demand)
            note: preferences cost $0.06/h: without them there is a plan for that much less
        "]],
    );
}

#[test]
fn a_pod_with_ten_thousand_labels_and_a_pool_with_as_many_are_compared_once() {
    let many = |count: usize| (0..count).map(|index| (format!("label-{index}"), format!("value-{index}")));
    let wanting = |name: &str, count: usize| {
        edited(pod(name, 100, 0), |pod| {
            pod.labels = many(10_000).collect();
            pod.node_selector = many(count).collect();
            let values = many(10_000).map(|(_, value)| value);
            pod.required_node_affinity = vec![vec![RequirementTerm::new(labels::ZONE, Operator::NotIn, values)]];
        })
    };
    let labelled = edited_pool(pool("labelled"), |pool| pool.labels = many(10_000).collect());
    check(
        snapshot(vec![wanting("all", 10_000), wanting("more", 10_001)], vec![], vec![labelled]),
        &expect![[r"
        shop/all on new node 0: no node takes it, so a new one is opened
        shop/p on new node 0: a new node opened for other pods has room
        new 0 of NodePool/labelled: g.large in a (spot) $0.04/h, 15 offerings up to g.4xlarge in b (on-demand)
        shop/more unplaced: NodePool/labelled: wants label-10000 in [value-10000], which nothing defines
    "]],
    );
}

/// Ten steps of work for each pod and no search: to look at all nodes of the others would take two hundred times as many.
fn few_steps(pods: usize) -> Settings {
    Settings { budget_work_units: 10 * pods as u64, search_work_units: 0, ..Settings::default() }
}

#[test]
fn ten_thousand_pods_with_a_label_each_get_a_node_each_without_a_look_at_those_of_the_others() {
    let open = edited_pool(pool("open"), |pool| pool.requirements.add(Requirement::exists("team")));
    let of_team = |index: usize| {
        edited(pod(&format!("p{index}"), 100, 0), |pod| {
            pod.node_selector = [("team".to_owned(), format!("team-{index}"))].into();
        })
    };
    let world = snapshot((0..10_000).map(of_team).collect::<Vec<Pod>>(), vec![], vec![open]);
    let solution = solve(&world, &few_steps(10_000));
    assert_eq!((solution.placed.len(), solution.new_nodes.len(), solution.notes), (10_000, 10_000, vec![]));
}

/// What it is called, and what it makes of the pod of a number.
type Way<'a> = (&'a str, &'a dyn Fn(&mut Pod, usize));

#[test]
fn so_do_pods_that_name_their_label_in_other_ways() {
    const PODS: usize = 2000;
    let one_of = |values: &[String]| RequirementTerm::new("team", Operator::In, values.iter().map(String::as_str));
    let ways: [Way<'_>; 3] = [
        ("two values", &|pod, index| {
            pod.required_node_affinity = vec![vec![one_of(&[format!("a-{index}"), format!("b-{index}")])]];
        }),
        ("alternatives", &|pod, index| {
            let either = ["a", "b"].map(|letter| vec![one_of(&[format!("{letter}-{index}")])]);
            pod.required_node_affinity = either.into();
        }),
        ("a wish", &|pod, index| pod.preferred_node_affinity = vec![(1, vec![one_of(&[format!("a-{index}")])])]),
    ];
    let open = edited_pool(pool("open"), |pool| pool.requirements.add(Requirement::exists("team")));
    for (way, edit) in ways {
        let pods = (0..PODS).map(|index| edited(pod(&format!("p{index}"), 100, 0), |pod| edit(pod, index)));
        let world = snapshot(pods.collect::<Vec<Pod>>(), vec![], vec![open.clone()]);
        let solution = solve_greedy(&world, &few_steps(PODS));
        assert_eq!((solution.placed.len(), solution.notes), (PODS, vec![]), "{way}");
    }
}

#[test]
fn so_do_pods_that_name_a_node_there_is() {
    const PODS: usize = 2000;
    let there = |index: usize| {
        edited_node(node(&format!("n{index}"), 1000), |node| {
            node.labels.insert("team".to_owned(), format!("team-{index}"));
        })
    };
    let nodes: Vec<Node> = (0..PODS).map(there).collect();
    for (key, value) in [("team", "team"), (labels::HOSTNAME, "n")] {
        let value = |index| if key == "team" { format!("{value}-{index}") } else { format!("{value}{index}") };
        let pods = (0..PODS).map(|index| {
            edited(pod(&format!("p{index}"), 100, 0), |pod| pod.node_selector = labels_of(&[(key, &value(index))]))
        });
        let world = snapshot(pods.collect::<Vec<Pod>>(), nodes.clone(), vec![]);
        let solution = solve(&world, &few_steps(PODS));
        let own = |(pod, placement): (&PodKey, &Placement)| {
            placement.node == Target::Existing(NodeKey(format!("n{}", &pod.name[1..])))
        };
        assert!(solution.placed.len() == PODS && solution.placed.iter().all(own), "{key}: {:?}", solution.notes);
    }
}
