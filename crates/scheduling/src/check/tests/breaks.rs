//! Random plans, broken in ways that break any plan.

use std::sync::Arc;

use proptest::prelude::*;
use requirements::labels;
use units::{Amount, ResourceList};

use super::everything::{existing, pod_mut};
use crate::{Settings, Snapshot, Solution, Target, Unfit, check::check, solve, testing::*};

/// Breaks the plan at a place that the number picks; `None` if there is nothing to break in it.
type Break = fn(&mut Snapshot, &mut Solution, usize) -> Option<()>;

/// Breaks that break any plan in which they find something to break.
const BREAKS: &[(&str, Break)] = &[
    ("drop", |_, solution, which| {
        let pod = nth(solution.placed.keys(), which)?.clone();
        solution.placed.remove(&pod);
        solution.new_nodes.iter_mut().for_each(|node| node.pods.retain(|one| *one != pod));
        Some(())
    }),
    ("forget an unplaced pod", |_, solution, which| {
        let pod = nth(solution.unplaced.keys(), which)?.clone();
        solution.unplaced.remove(&pod).map(|_| ())
    }),
    ("double", |_, solution, which| {
        let pod = nth(solution.placed.keys(), which)?.clone();
        solution.unplaced.insert(pod, vec![Unfit::NotTried]);
        Some(())
    }),
    ("silence", |_, solution, which| {
        let pod = nth(solution.unplaced.keys(), which)?.clone();
        solution.unplaced.insert(pod, Vec::new()).map(|_| ())
    }),
    ("send away", |_, solution, which| {
        let pod = nth(solution.placed.keys(), which)?.clone();
        solution.placed.get_mut(&pod)?.node = existing("nowhere");
        Some(())
    }),
    ("sell out", |snapshot, solution, which| {
        let node = nth(solution.new_nodes.iter(), which)?;
        let sold = nth(node.offerings.iter(), which / 7)?.key.clone();
        for pool in snapshot.pools.iter_mut().filter(|pool| pool.key == node.pool) {
            let mut machines = pool.instance_types.to_vec();
            for machine in machines.iter_mut().filter(|machine| machine.name == sold.instance_type) {
                machine.offerings.retain(|one| one.zone != sold.zone || one.capacity_type != sold.capacity_type);
            }
            pool.instance_types = Arc::from(machines);
        }
        Some(())
    }),
    ("misprice", |_, solution, which| {
        let count = solution.new_nodes.len();
        solution.new_nodes.get_mut(which.checked_rem(count)?)?.price.0 += 1;
        Some(())
    }),
    ("overcharge", |_, solution, which| {
        solution.cost.0 += i64::try_from(which).ok()? + 1;
        Some(())
    }),
    ("shrink", |snapshot, solution, which| {
        let pod = nth(solution.placed.keys(), which)?;
        let pod = snapshot.pods.iter_mut().find(|one| one.key == *pod)?;
        // More than any machine has.
        Arc::make_mut(pod).requests.add(&resources(1_000_000, 0, 0));
        Some(())
    }),
    ("taint", |snapshot, solution, which| {
        let placed = nth(solution.placed.iter(), which)?;
        match &placed.1.node {
            Target::Existing(node) => {
                snapshot.nodes.iter_mut().find(|one| one.key == *node)?.taints.push(taint("new"));
            }
            Target::New(index) => {
                let pool = &solution.new_nodes[*index].pool;
                snapshot.pools.iter_mut().find(|one| one.key == *pool)?.taints.push(taint("new"));
            }
        }
        Some(())
    }),
    ("select what is not there", |snapshot, solution, which| {
        let pod = nth(solution.placed.keys(), which)?.clone();
        pod_mut(snapshot, &pod.name).node_selector.insert("no".to_owned(), "such".to_owned());
        Some(())
    }),
    ("clash", |snapshot, solution, which| {
        let node = nth(solution.placed.values(), which)?.node.clone();
        let there = solution.placed.iter().filter(|(_, one)| one.node == node).map(|(pod, _)| pod.name.clone());
        let there: Vec<String> = there.take(2).collect();
        let [a, b] = there.as_slice() else { return None };
        for name in [a, b] {
            pod_mut(snapshot, name).host_ports.push(port(9999));
        }
        Some(())
    }),
    ("repel", |snapshot, solution, which| {
        let node = nth(solution.placed.values(), which)?.node.clone();
        let there = solution.placed.iter().filter(|(_, one)| one.node == node).map(|(pod, _)| pod.name.clone());
        let there: Vec<String> = there.take(2).collect();
        let [a, b] = there.as_slice() else { return None };
        let other = pod_mut(snapshot, b).labels["app"].clone();
        pod_mut(snapshot, a).pod_anti_affinity.push(near(&other, labels::HOSTNAME));
        Some(())
    }),
    ("forbid", |snapshot, solution, which| {
        let node = nth(solution.new_nodes.iter(), which)?;
        let pool = snapshot.pools.iter_mut().find(|pool| pool.key == node.pool)?;
        pool.limits = Some(ResourceList::new().with("cpu".into(), Amount(1)));
        Some(())
    }),
];

fn nth<T>(mut all: impl ExactSizeIterator<Item = T>, which: usize) -> Option<T> {
    let position = which.checked_rem(all.len())?;
    all.nth(position)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn a_random_plan_that_is_broken_is_rejected(mut snapshot in some_snapshot(), how in 0..BREAKS.len(), which in 0usize..1000) {
        let mut plan = solve(&snapshot, &Settings::default());
        let (name, mutate) = BREAKS[how];
        prop_assume!(mutate(&mut snapshot, &mut plan, which).is_some());
        prop_assert!(!check(&snapshot, &plan).is_empty(), "{}", name);
    }
}
