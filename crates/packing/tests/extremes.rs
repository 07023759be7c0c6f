//! Sizes and numbers that no cluster has.

use packing::{Bin, Bits, Budget, Group, Limit, Packing, Problem, first_fit, pack};

fn solve(problem: &Problem) -> Packing {
    pack(problem, &Budget { work: 200_000_000, stop: &|| false, gap_ppm: 0 }, None)
}

fn placed(packing: &Packing) -> u128 {
    let pods = |node: &packing::Node| node.pods.iter().map(|(_, count)| u128::from(*count)).sum::<u128>();
    packing.nodes.iter().map(|node| pods(node) * u128::from(node.copies)).sum()
}

fn group(demand: u64, request: &[i64], bins: usize) -> Group {
    let (request, eligible) = (request.to_vec(), Bits::all(bins));
    Group { demand, request, max_per_node: u32::MAX, exclusive: Vec::new(), eligible }
}

fn bin(price: i64, capacity: &[i64]) -> Bin {
    Bin { price, capacity: capacity.to_vec(), available: None, pre_taken: Vec::new() }
}

#[test]
fn ten_thousand_different_pods_are_all_placed() {
    let bins: Vec<Bin> = (1..=60).map(|n| bin(n * 40_000 + n % 7 * 900, &[n * 2_000 - 400, n * 7_800, 110])).collect();
    let pods = |n: i64| group(1, &[50 + n * 7_919 % 3_000, 64 + n * 104_729 % 9_000, 1], bins.len());
    let problem =
        Problem { resources: 3, groups: (0..10_000).map(pods).collect(), bins: bins.clone(), limits: Vec::new() };
    let packing = solve(&problem);
    assert_eq!((packing.unplaced.len(), placed(&packing)), (0, 10_000));
    let bound = packing.lower_bound.expect("everything is placed");
    assert!(packing.cost * 100 <= bound * 115, "{} against {bound}", packing.cost);
}

#[test]
fn a_million_pods_each_of_many_groups_are_all_placed() {
    let bins: Vec<Bin> = (1..=20).map(|n| bin(n * 40_000, &[n * 2_000 - 400, n * 7_800])).collect();
    let pods = |n: i64| group(1_000_000, &[50 + n * 7_919 % 3_000, 64 + n * 104_729 % 9_000], bins.len());
    let problem = Problem { resources: 2, groups: (0..30).map(pods).collect(), bins: bins.clone(), limits: Vec::new() };
    let packing = solve(&problem);
    assert_eq!((packing.unplaced.len(), placed(&packing)), (0, 30_000_000));
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let most = i64::MAX;
    let problem = Problem {
        resources: 2,
        groups: vec![group(u64::MAX, &[most, most], 3), group(3, &[most, 0], 3), group(2, &[-5, most], 3)],
        bins: vec![bin(most, &[most, most]), bin(0, &[-1, most]), bin(most, &[most])],
        limits: vec![Limit { per_bin: vec![most, most, most], most }],
    };
    let packing = solve(&problem);
    assert!(packing.cost >= 0);
    let problem = Problem { limits: Vec::new(), ..problem };
    let packing = solve(&problem);
    assert_eq!(packing.unplaced, [(0, u64::MAX - (1 << 48))]);
}

#[test]
fn a_kind_that_nearly_uses_a_limit_up_does_not_make_every_node_a_step_of_its_own() {
    // The node is charged as the first kind until its pods rule that out, and then as the second, a trillion times.
    let problem = Problem {
        resources: 1,
        groups: vec![group(1 << 40, &[1], 2)],
        bins: vec![bin(10, &[1]), bin(10, &[2])],
        limits: vec![Limit { per_bin: vec![1 << 62, 1], most: i64::MAX }],
    };
    for packing in [first_fit(&problem), solve(&problem)] {
        assert_eq!((packing.cost, placed(&packing), packing.nodes.len()), (10 << 39, 1 << 40, 1));
    }
}

#[test]
fn nothing_to_do_costs_nothing() {
    let packing = solve(&Problem::default());
    assert_eq!((packing.cost, packing.lower_bound, packing.proven_optimal), (0, Some(0), true));
    let packing = solve(&Problem { resources: 1, groups: vec![group(5, &[1], 0)], ..Problem::default() });
    assert_eq!((packing.cost, packing.unplaced), (0, vec![(0, 5)]));
}

#[test]
fn nodes_that_are_there_are_used_before_new_ones() {
    let there = Bin { available: Some(2), ..bin(0, &[4]) };
    let problem =
        Problem { resources: 1, groups: vec![group(5, &[2], 2)], bins: vec![bin(10, &[2]), there], limits: Vec::new() };
    let packing = solve(&problem);
    assert_eq!((packing.cost, packing.lower_bound, packing.proven_optimal), (10, Some(10), true));
}
