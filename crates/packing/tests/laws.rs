//! What holds for every problem, however small or odd.

use packing::{Bin, Bits, Budget, Group, Limit, Packing, Problem, Warm, first_fit, pack};
use proptest::prelude::*;

fn solve(problem: &Problem, warm: Option<&Warm>) -> Packing {
    pack(problem, &Budget { work: 3_000_000, stop: &|| false, gap_ppm: 0 }, warm)
}

/// Every promise a packing makes that can be checked without solving anything.
fn check(problem: &Problem, packing: &Packing) -> Result<(), TestCaseError> {
    let mut placed = vec![0_u64; problem.groups.len()];
    let mut opened = vec![0_u64; problem.bins.len()];
    let mut cost = 0_i128;
    for node in &packing.nodes {
        let bin = &problem.bins[node.bin];
        opened[node.bin] += node.copies;
        cost += i128::from(bin.price.max(0)) * i128::from(node.copies);
        let mut labels = bin.pre_taken.clone();
        let mut used = vec![0_i128; problem.resources];
        for &(group, count) in &node.pods {
            let pods = &problem.groups[group];
            placed[group] += count * node.copies;
            prop_assert!(count > 0 && count <= u64::from(pods.max_per_node), "too many on one node");
            prop_assert!(pods.eligible.has(node.bin), "not eligible");
            for label in &pods.exclusive {
                prop_assert!(count == 1 && !labels.contains(label), "label taken twice");
            }
            labels.extend_from_slice(&pods.exclusive);
            for (sum, asked) in used.iter_mut().zip(&pods.request) {
                *sum += i128::from(*asked) * i128::from(count);
            }
        }
        let within = used.iter().zip(&bin.capacity).all(|(used, there)| *used <= i128::from((*there).max(0)));
        prop_assert!(within, "more than the node has");
    }
    for (bin, count) in problem.bins.iter().zip(&opened) {
        prop_assert!(bin.available.is_none_or(|most| *count <= most), "more nodes than there are");
    }
    for limit in &problem.limits {
        let sum: i128 =
            limit.per_bin.iter().zip(&opened).map(|(each, count)| i128::from(*each) * i128::from(*count)).sum();
        prop_assert!(sum <= i128::from(limit.most), "over a limit");
    }
    for &(group, count) in &packing.unplaced {
        placed[group] += count;
    }
    let demand: Vec<u64> = problem.groups.iter().map(|group| group.demand).collect();
    prop_assert_eq!(&placed, &demand);
    prop_assert_eq!(cost, packing.cost);
    prop_assert!(packing.lower_bound.is_none_or(|bound| bound <= cost));
    prop_assert!(!packing.proven_optimal || packing.lower_bound.is_none_or(|bound| bound == cost));
    Ok(())
}

fn missing(packing: &Packing) -> u64 {
    packing.unplaced.iter().map(|(_, count)| count).sum()
}

prop_compose! {
    fn group(bins: usize, most: u64)(
        demand in 1..=most,
        request in prop::collection::vec(0..12_i64, 2),
        max_per_node in prop_oneof![3 => Just(u32::MAX), 1 => 1..3_u32],
        exclusive in prop_oneof![3 => Just(vec![]), 1 => prop::collection::vec(0..2_u32, 1)],
        eligible in prop::collection::vec(prop::bool::weighted(0.8), bins),
    ) -> Group {
        let eligible: Bits = eligible.iter().enumerate().filter(|(_, may)| **may).map(|(at, _)| at).collect();
        Group { demand, request, max_per_node, exclusive, eligible }
    }
}

prop_compose! {
    fn bin(endless: bool)(
        price in 0..30_i64,
        capacity in prop::collection::vec(0..25_i64, 2),
        available in if endless { Just(None).boxed() } else { prop::option::weighted(0.3, 0..3_u64).boxed() },
        pre_taken in prop_oneof![4 => Just(vec![]), 1 => prop::collection::vec(0..2_u32, 1)],
    ) -> Bin {
        Bin { price, capacity, available, pre_taken }
    }
}

fn problem(groups: usize, bins: usize, most: u64, endless: bool) -> impl Strategy<Value = Problem> {
    let bins = 1..=bins;
    bins.prop_flat_map(move |bins| {
        let limits = prop_oneof![
            3 => Just(vec![]),
            1 => (prop::collection::vec(0..5_i64, bins), 0..30_i64)
                .prop_map(|(per_bin, most)| vec![Limit { per_bin, most }]),
        ];
        let limits = if endless { Just(vec![]).boxed() } else { limits.boxed() };
        (prop::collection::vec(group(bins, most), 1..=groups), prop::collection::vec(bin(endless), bins), limits)
            .prop_map(|(groups, bins, limits)| Problem { resources: 2, groups, bins, limits })
    })
}

/// The least (pods left out, cost), by trying every node for every pod, one pod after the other.
fn brute_force(problem: &Problem) -> (u64, i128) {
    let pods: Vec<usize> = problem
        .groups
        .iter()
        .enumerate()
        .flat_map(|(at, group)| std::iter::repeat_n(at, usize::try_from(group.demand).expect("few pods")))
        .collect();
    let mut best = (u64::MAX, 0);
    place(problem, &pods, &mut Vec::new(), 0, &mut best);
    best
}

fn place(problem: &Problem, pods: &[usize], nodes: &mut Vec<(usize, Vec<usize>)>, out: u64, best: &mut (u64, i128)) {
    let cost: i128 = nodes.iter().map(|(bin, _)| i128::from(problem.bins[*bin].price)).sum();
    if (out, cost) >= *best {
        return;
    }
    let Some((&pod, rest)) = pods.split_first() else {
        *best = (out, cost);
        return;
    };
    for at in 0..nodes.len() {
        nodes[at].1.push(pod);
        if fits(problem, &nodes[at]) {
            place(problem, rest, nodes, out, best);
        }
        nodes[at].1.pop();
    }
    for (at, bin) in problem.bins.iter().enumerate() {
        nodes.push((at, vec![pod]));
        let count = |at: usize| nodes.iter().filter(|(bin, _)| *bin == at).count();
        let within = problem
            .limits
            .iter()
            .all(|limit| nodes.iter().map(|(bin, _)| limit.per_bin[*bin]).sum::<i64>() <= limit.most);
        if within && bin.available.is_none_or(|most| count(at) as u64 <= most) && fits(problem, &nodes[nodes.len() - 1])
        {
            place(problem, rest, nodes, out, best);
        }
        nodes.pop();
    }
    place(problem, rest, nodes, out + 1, best);
}

fn fits(problem: &Problem, (bin, pods): &(usize, Vec<usize>)) -> bool {
    let kind = &problem.bins[*bin];
    let mut labels = kind.pre_taken.clone();
    let once = pods.iter().flat_map(|pod| &problem.groups[*pod].exclusive).all(|label| {
        labels.push(*label);
        labels.iter().filter(|other| *other == label).count() == 1
    });
    once && pods.iter().all(|pod| {
        let group = &problem.groups[*pod];
        let same = pods.iter().filter(|other| *other == pod).count();
        group.eligible.has(*bin) && same <= group.max_per_node as usize
    }) && (0..problem.resources).all(|resource| {
        pods.iter().map(|pod| problem.groups[*pod].request[resource]).sum::<i64>() <= kind.capacity[resource]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_packing_keeps_every_rule_and_is_never_dearer_than_the_greedy(problem in problem(8, 8, 12, false)) {
        let (ours, greedy) = (solve(&problem, None), first_fit(&problem));
        check(&problem, &ours)?;
        check(&problem, &greedy)?;
        prop_assert!((missing(&ours), ours.cost) <= (missing(&greedy), greedy.cost));
    }

    #[test]
    fn a_very_small_problem_is_solved_to_the_end(problem in problem(3, 4, 2, false)) {
        let (ours, best) = (solve(&problem, None), brute_force(&problem));
        check(&problem, &ours)?;
        prop_assert_eq!((missing(&ours), ours.cost), best);
        prop_assert!(ours.proven_optimal);
        prop_assert!(ours.lower_bound.is_none_or(|bound| bound == ours.cost));
    }

    #[test]
    fn no_bound_is_above_what_is_possible(problem in problem(3, 4, 2, true), share in 0..60_u64) {
        // Stopped early, nothing is exact, and the bound must hold all the same.
        let best = brute_force(&problem);
        for work in [0, share * 100, share * 10_000] {
            let ours = pack(&problem, &Budget { work, stop: &|| false, gap_ppm: 0 }, None);
            prop_assert!(missing(&ours) > best.0 || ours.lower_bound.is_some_and(|bound| bound <= best.1));
        }
    }

    #[test]
    fn any_numbers_give_an_answer(
        mut problem in problem(4, 4, 3, false),
        numbers in prop::collection::vec(prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN), -2..2_i64], 24),
        demands in prop::collection::vec(any::<u64>(), 4),
    ) {
        let mut numbers = numbers.into_iter().cycle();
        let mut next = |number: &mut i64| *number = numbers.next().expect("it goes on");
        for (at, group) in problem.groups.iter_mut().enumerate() {
            group.demand = demands[at];
            group.request.iter_mut().take(1).for_each(&mut next);
        }
        for bin in &mut problem.bins {
            next(&mut bin.price);
            bin.capacity.iter_mut().take(1).for_each(&mut next);
            bin.available = bin.available.map(|_| demands[0]);
        }
        for limit in &mut problem.limits {
            limit.per_bin.iter_mut().for_each(&mut next);
            next(&mut limit.most);
        }
        let packing = pack(&problem, &Budget { work: 300_000, stop: &|| false, gap_ppm: 0 }, None);
        prop_assert!(packing.cost >= 0);
        prop_assert!(packing.lower_bound.is_none_or(|bound| bound <= packing.cost));
    }

    #[test]
    fn the_same_problem_has_the_same_answer(problem in problem(6, 6, 9, false)) {
        prop_assert_eq!(solve(&problem, None), solve(&problem, None));
    }

    #[test]
    fn an_old_plan_is_never_forgotten(problem in problem(6, 6, 9, false), more in bin(true)) {
        let old = solve(&problem, None);
        let mut wider = problem;
        for group in &mut wider.groups {
            group.eligible.insert(wider.bins.len());
        }
        wider.bins.push(more);
        for limit in &mut wider.limits {
            limit.most += 1;
        }
        let new = solve(&wider, Some(&old.warm));
        check(&wider, &new)?;
        prop_assert!((missing(&new), new.cost) <= (missing(&old), old.cost));
    }

    #[test]
    fn twice_the_pods_cost_at_most_twice(problem in problem(6, 6, 9, true)) {
        let once = solve(&problem, None);
        let mut double = problem;
        for group in &mut double.groups {
            group.demand *= 2;
        }
        let twice = solve(&double, Some(&once.warm));
        check(&double, &twice)?;
        prop_assert!(twice.cost <= 2 * once.cost);
    }
}
