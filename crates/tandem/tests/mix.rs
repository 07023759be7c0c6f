//! Plans for the pods of Karpenter's benchmark.

use scheduling::{Settings, check, solve_within};
use tandem::generate::karpenter_mix_snapshot;

/// A fifth of the pods may not share a node with each other, so there are as many nodes at least. Of these pods so many differ
/// that some are not planned for by price, and find the planned nodes full.
#[test]
fn the_mix_has_a_node_for_five_pods_and_no_more() {
    let snapshot = karpenter_mix_snapshot(1000, 42);
    for at_once in [true, false] {
        let plan = solve_within(&snapshot, &Settings::default(), &|| at_once);
        assert_eq!(check::check(&snapshot, &plan), []);
        assert_eq!((plan.new_nodes.len(), plan.unplaced.len()), (200, 0), "stopped at once: {at_once}");
    }
}
