//! The numbers by which the kube-scheduler prefers one node to another, as its default plugins work them out.
//!
//! Every plugin gives each node that passed the filters from 0 to [`MOST`] points; the sum of the points, each times its
//! plugin's weight, decides. Formulas and weights: kube-scheduler 1.36, `pkg/scheduler/framework/plugins`.

/// The most points one plugin gives (`MaxNodeScore`).
pub(super) const MOST: i64 = 100;
/// Weight of the plugin TaintToleration.
pub(super) const TAINT_TOLERATION: i64 = 3;
/// Weight of the plugin NodeAffinity.
pub(super) const NODE_AFFINITY: i64 = 2;
/// Weight of the plugin PodTopologySpread.
pub(super) const TOPOLOGY_SPREAD: i64 = 2;
/// Weight of the plugin InterPodAffinity.
pub(super) const INTER_POD_AFFINITY: i64 = 2;
/// What another pod's required affinity counts as a wish to be near (`hardPodAffinityWeight`).
pub(super) const HARD_AFFINITY_AS_WISH: i64 = 1;
/// What a pod without a cpu request is taken to use when emptiness is compared. Unit: millicores.
pub(super) const CPU_IF_UNSAID: i64 = 100;
/// What a pod without a memory request is taken to use when emptiness is compared. Unit: bytes.
pub(super) const MEMORY_IF_UNSAID: i64 = 200 << 20;

/// NodeResourcesFit with the strategy LeastAllocated: the mean free share of cpu and memory. Weight 1.
///
/// A resource the node does not have is left out; one that would be overdrawn counts as full.
pub(super) fn least_allocated(used: [i64; 2], there: [i64; 2]) -> i64 {
    let shares = used.iter().zip(there).filter(|(_, there)| *there > 0).map(|(used, there)| {
        let free = i128::from(there.saturating_sub(*used).max(0));
        i64::try_from(free * i128::from(MOST) / i128::from(there)).unwrap_or(MOST)
    });
    let (sum, count) = shares.fold((0, 0), |(sum, count), share| (sum + share, count + 1));
    if count == 0 { 0 } else { sum / count }
}

/// NodeResourcesBalancedAllocation: 75 if the pod leaves cpu and memory as evenly used as they were, up to 100 if it evens
/// them out, down to 50 if it does the opposite. Weight 1; not asked for pods that request neither.
pub(super) fn balanced(before: [i64; 2], after: [i64; 2], there: [i64; 2]) -> i64 {
    MOST / 2 + (MOST / 2 + evenness(after, there) - evenness(before, there)) / 2
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the scheduler compares shares as floating-point numbers, and so must we"
)]
#[expect(clippy::cast_possible_truncation, reason = "at most 100, cut to whole points as the scheduler does")]
fn evenness(used: [i64; 2], there: [i64; 2]) -> i64 {
    if there[0] <= 0 || there[1] <= 0 {
        // One resource, or none, is always even with itself.
        return MOST;
    }
    let share = |index: usize| (used[index] as f64 / there[index] as f64).clamp(0.0, 1.0);
    let deviation = ((share(0) - share(1)) / 2.0).abs();
    ((1.0 - deviation) * MOST as f64) as i64
}

/// Points in proportion to the largest, which gets all; with `Best::Least`, what is missing to the largest.
pub(super) fn in_proportion(raw: &mut [i64], best: Best) {
    let most = raw.iter().copied().max().unwrap_or(0);
    for score in raw {
        let share = if most == 0 { 0 } else { MOST * *score / most };
        *score = if best == Best::Least { MOST - share } else { share };
    }
}

/// Which raw number is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Best {
    Most,
    Least,
}

/// InterPodAffinity: points by the place between the least and the most.
#[expect(clippy::cast_precision_loss, reason = "the scheduler divides these as floating-point numbers")]
#[expect(clippy::cast_possible_truncation, reason = "at most 100, cut to whole points as the scheduler does")]
pub(super) fn between_extremes(raw: &mut [i64]) {
    let (Some(least), Some(most)) = (raw.iter().copied().min(), raw.iter().copied().max()) else { return };
    for score in raw {
        let share = if most > least { (*score - least) as f64 / (most - least) as f64 } else { 0.0 };
        *score = (MOST as f64 * share) as i64;
    }
}

/// PodTopologySpread: the fewer pods the more points; `None` for a node that lacks a label, which gets none.
pub(super) fn fewest_best(raw: &[Option<i64>]) -> Vec<i64> {
    let known = || raw.iter().flatten().copied();
    let (least, most) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    let points = |score: &Option<i64>| match score {
        None => 0,
        Some(_) if most == 0 => MOST,
        Some(score) => MOST * (most + least - score) / most,
    };
    raw.iter().map(points).collect()
}

/// How much a pod in a topology of so many domains weighs, so that small topologies are not drowned by large ones.
#[expect(clippy::cast_precision_loss, reason = "a count of nodes")]
pub(super) fn topology_weight(domains: usize) -> f64 {
    ((domains + 2) as f64).ln()
}

/// What so many pods in a node's domain count against it.
#[expect(clippy::cast_precision_loss, reason = "a count of pods")]
pub(super) fn crowding(pods: i64, max_skew: u32, weight: f64) -> f64 {
    pods as f64 * weight + f64::from(max_skew.saturating_sub(1))
}

/// The sum of what counts against a node, in whole points.
#[expect(clippy::cast_possible_truncation, reason = "a count of pods times a small weight")]
pub(super) fn rounded(sum: f64) -> i64 {
    sum.round() as i64
}

/// How many nodes that would do are enough to choose from (`percentageOfNodesToScore` at its default): all of fewer than
/// 100, else half of them less one percent for every 125 nodes, but 5 % and 100 nodes at least.
pub(super) fn enough_nodes(nodes: usize) -> usize {
    if nodes < 100 {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_emptier_node_has_more_points() {
        // cpu (4000 - 1000) / 4000 = 75 %, memory (8 - 6) / 8 = 25 %: (75 + 25) / 2.
        assert_eq!(least_allocated([1000, 6], [4000, 8]), 50);
        // Each share is cut to whole points before the mean is: 66 and 33, not 66.7 and 33.3.
        assert_eq!(least_allocated([1, 2], [3, 3]), 49);
        assert_eq!(least_allocated([5000, 0], [4000, 8]), 50, "an overdrawn resource is full, not below");
        assert_eq!(least_allocated([1000, 0], [4000, 0]), 75, "a resource the node lacks is left out");
        assert_eq!(least_allocated([1, 1], [0, 0]), 0);
        assert_eq!(least_allocated([0, 0], [i64::MAX, i64::MAX]), 100, "no overflow");
    }

    #[test]
    fn a_pod_that_evens_out_a_node_has_more_points_there() {
        // Even before and after: 50 + (50 + 100 - 100) / 2.
        assert_eq!(balanced([0, 0], [500, 500], [1000, 1000]), 75);
        // Before |0.6 - 0| / 2 = 0.3: 70. After |0.6 - 0.6| = 0: 100. 50 + (50 + 30) / 2.
        assert_eq!(balanced([600, 0], [600, 600], [1000, 1000]), 90);
        // The other way: 50 + (50 - 30) / 2.
        assert_eq!(balanced([0, 0], [600, 0], [1000, 1000]), 60);
        assert_eq!(balanced([0, 0], [2000, 0], [1000, 1000]), 50, "no share is above 1");
        assert_eq!(balanced([0, 0], [600, 0], [1000, 0]), 75, "with one resource there is no unevenness");
    }

    #[test]
    fn proportions_are_of_the_largest() {
        let mut wishes = [0, 30, 120];
        in_proportion(&mut wishes, Best::Most);
        assert_eq!(wishes, [0, 25, 100]);
        let mut taints = [0, 1, 3];
        in_proportion(&mut taints, Best::Least);
        assert_eq!(taints, [100, 67, 0]);
        let mut none = [0, 0];
        in_proportion(&mut none, Best::Least);
        assert_eq!(none, [100, 100]);
    }

    #[test]
    fn near_and_far_are_told_by_the_extremes() {
        let mut raw = [-10, 0, 20];
        between_extremes(&mut raw);
        assert_eq!(raw, [0, 33, 100]);
        let mut equal = [7, 7];
        between_extremes(&mut equal);
        assert_eq!(equal, [0, 0]);
    }

    #[test]
    fn the_least_crowded_has_all_points() {
        // 100 * (6 + 2 - s) / 6 for s = 2, 4, 6.
        assert_eq!(fewest_best(&[Some(2), Some(4), None, Some(6)]), [100, 66, 0, 33]);
        assert_eq!(fewest_best(&[Some(0), None]), [100, 0]);
    }

    #[test]
    fn crowding_grows_with_the_topology_and_is_watered_down_by_the_skew() {
        // Three domains: ln 5 = 1.609. Two pods at skew 3: 2 * 1.609 + 2 = 5.219.
        assert_eq!(rounded(crowding(2, 3, topology_weight(3))), 5);
        assert_eq!(rounded(crowding(0, 1, topology_weight(3))), 0);
    }

    #[test]
    fn large_clusters_are_not_scored_whole() {
        for (nodes, enough) in [(0, 0), (99, 99), (100, 100), (250, 120), (1000, 420), (5000, 500), (10_000, 500)] {
            assert_eq!(enough_nodes(nodes), enough, "{nodes} nodes");
        }
    }
}
