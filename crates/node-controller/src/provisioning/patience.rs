//! Which machines are not bought yet: those far dearer than what would do, because all of that was refused a short while ago. Pure.
//!
//! EC2 is out of the cheap types for minutes at a time, and a quota is used up until a machine ends. Whoever buys the next dearer
//! type at each refusal ends, within a minute, with a machine a hundred times too dear, and it stays as long as its pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod as CorePod;
use requirements::labels;
use scheduling::{InstanceType, NewNode, Offering, Snapshot, Solution};
use units::UsdMicrosPerHour;

use crate::pods;

/// Up to so many times the price of what would do, a machine is bought at once.
const DEARER: i64 = 3;

/// How long pods wait for better prices. Refused offerings are asked for again after three minutes, so they are at least once.
pub(super) const PATIENCE: Duration = Duration::from_mins(5);

/// The new nodes of a plan that are not to be bought yet, by index, with the reason. `pods` are those of the world.
pub(super) fn held_back(
    snapshot: &Snapshot,
    solution: &Solution,
    pods: &[Arc<CorePod>],
    now: Timestamp,
) -> BTreeMap<usize, String> {
    // Who runs and is only to move loses nothing by waiting; if it takes too long the move is given up.
    let may_wait = |pod: &&Arc<CorePod>| {
        pods::node_name(pod).is_some() || waits_since(pod).is_some_and(|since| !is_over(since, now))
    };
    let patient: BTreeSet<&str> = pods.iter().filter(may_wait).map(|pod| pods::uid(pod)).collect();
    let uids: BTreeMap<_, _> = snapshot.pods.iter().map(|pod| (&pod.key, pod.uid.as_str())).collect();
    let all_wait = |node: &NewNode| node.pods.iter().all(|pod| uids.get(pod).is_some_and(|uid| patient.contains(uid)));
    let dear = solution.new_nodes.iter().enumerate().filter(|(_, node)| all_wait(node));
    dear.filter_map(|(index, node)| Some((index, too_dear(snapshot, node)?))).collect()
}

fn is_over(since: Timestamp, now: Timestamp) -> bool {
    now.duration_since(since).unsigned_abs() >= PATIENCE && now >= since
}

/// Since when the scheduler has had no node for the pod.
fn waits_since(pod: &CorePod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let told = unscheduled.and_then(|condition| condition.last_transition_time.as_ref());
    told.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// Why a node costs too much, if it does: what its pods would fit on, paid for in the same way, for less than a third.
fn too_dear(snapshot: &Snapshot, node: &NewNode) -> Option<String> {
    let pool = snapshot.pools.iter().find(|pool| pool.key == node.pool)?;
    let paid = node.offerings.first()?.key.capacity_type;
    let allows = |key: &str, value: &str| node.requirements.get(key).is_none_or(|wanted| wanted.allows(Some(value)));
    let would_do = |kind: &&InstanceType| {
        allows(labels::INSTANCE_TYPE, &kind.name)
            // What a type does not describe, the pool's labels do.
            && kind.requirements.iter().all(|has| node.requirements.get(has.key()).is_none_or(|wanted| has.overlaps(wanted)))
            && node.requests.fits_in(&kind.allocatable())
    };
    let refused = |offering: &&Offering| {
        !offering.available
            && offering.capacity_type == paid
            && allows(labels::ZONE, &offering.zone)
            && allows(labels::CAPACITY_TYPE, offering.capacity_type.as_str())
            && offering.price.0.saturating_mul(DEARER) < node.price.0
    };
    let prices = pool.instance_types.iter().filter(would_do).flat_map(|kind| kind.offerings.iter().filter(refused));
    let prices: Vec<UsdMicrosPerHour> = prices.map(|offering| offering.price).collect();
    let least = prices.iter().min()?;
    Some(format!(
        "{}: {} offerings from {least} on were refused a short while ago, and the next costs {}: it waits for them, for {} minutes at most",
        node.pool,
        prices.len(),
        node.price,
        PATIENCE.as_secs() / 60,
    ))
}

#[cfg(test)]
mod tests {
    use scheduling::{CapacityType, Pod, Pool, PoolKey, PoolKind, Settings};
    use serde_json::json;
    use units::{Amount, ResourceList, ResourceName};

    use super::*;

    const T0: &str = "2026-01-01T00:00:00Z";

    fn at(seconds: i64) -> Timestamp {
        T0.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
    }

    fn waiting() -> Arc<CorePod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": "p", "namespace": "d", "uid": "u" },
                "spec": { "nodeSelector": { "team": "a", "arch": "x" }, "containers": [{ "name": "c", "resources": { "requests": { "cpu": "500m" } } }] },
                "status": { "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "lastTransitionTime": T0 }] },
            }))
            .unwrap(),
        )
    }

    /// A type of so many cores with its offerings: how paid for, for how much, and whether they can be had.
    type Kind<'a> = (&'a str, i64, &'a [(CapacityType, i64, bool)]);

    /// Those whose name begins with `other` have another one than the pod asks for.
    fn arch(name: &str) -> String {
        if name.starts_with("other") { "y" } else { "x" }.to_owned()
    }

    fn snapshot(types: &[Kind<'_>]) -> Snapshot {
        let types = types.iter().map(|(name, cores, offerings)| InstanceType {
            name: (*name).to_owned(),
            requirements: requirements::Requirements::from_labels(&BTreeMap::from([("arch".to_owned(), arch(name))])),
            capacity: ResourceList::new()
                .with(ResourceName::cpu(), Amount(cores * 1000))
                .with(ResourceName::new("pods"), Amount(10)),
            overhead: ResourceList::new(),
            offerings: offerings
                .iter()
                .map(|(capacity_type, price, available)| Offering {
                    zone: "a".to_owned(),
                    capacity_type: *capacity_type,
                    price: UsdMicrosPerHour(*price),
                    available: *available,
                    remaining: None,
                })
                .collect(),
        });
        let mut pool: Pool =
            serde_json::from_value(json!({ "key": PoolKey { kind: PoolKind::NodePool, name: "p".to_owned() } }))
                .unwrap();
        pool.labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        pool.instance_types = types.collect::<Vec<_>>().into();
        let pod: Arc<Pod> = Arc::new(api::convert::pod(&waiting()));
        Snapshot { pods: vec![pod], pools: vec![pool], ..Snapshot::default() }
    }

    fn held(types: &[Kind<'_>], seconds: i64) -> Option<String> {
        let snapshot = snapshot(types);
        let solution = scheduling::solve(&snapshot, &Settings::default());
        assert_eq!(solution.new_nodes.len(), 1, "{solution:?}");
        held_back(&snapshot, &solution, &[waiting()], at(seconds)).remove(&0)
    }

    #[test]
    fn a_machine_far_dearer_than_what_was_just_refused_is_not_bought_at_once() {
        use CapacityType::OnDemand;
        let types: &[Kind<'_>] =
            &[("small", 1, &[(OnDemand, 10_000, false)]), ("large", 48, &[(OnDemand, 2_000_000, true)])];
        let why = held(types, 10).unwrap();
        assert!(why.contains("1 offerings from $0.01/h on were refused"), "{why}");
        assert!(why.contains("the next costs $2.00/h"), "{why}");
        assert!(held(types, 299).is_some());
        assert_eq!(held(types, 300), None, "it has waited for long enough");
        let mut running = (*waiting()).clone();
        running.spec.as_mut().unwrap().node_name = Some("n".to_owned());
        let snapshot = snapshot(types);
        let solution = scheduling::solve(&snapshot, &Settings::default());
        assert_eq!(held_back(&snapshot, &solution, &[Arc::new(running)], at(9000)).len(), 1, "it runs where it is");
    }

    #[test]
    fn a_little_dearer_or_paid_for_in_another_way_or_too_small_is_no_reason_to_wait() {
        use CapacityType::{OnDemand, Spot};
        let next: &[Kind<'_>] = &[("a", 1, &[(OnDemand, 10_000, false)]), ("b", 1, &[(OnDemand, 30_000, true)])];
        assert_eq!(held(next, 10), None);
        let no_spot: &[Kind<'_>] = &[("a", 1, &[(Spot, 10_000, false), (OnDemand, 40_000, true)])];
        assert_eq!(held(no_spot, 10), None, "who allows both does not wait for spot");
        let small: &[Kind<'_>] = &[("a", 0, &[(OnDemand, 1_000, false)]), ("b", 1, &[(OnDemand, 30_000, true)])];
        assert_eq!(held(small, 10), None);
        let other: &[Kind<'_>] = &[("other", 1, &[(OnDemand, 1_000, false)]), ("b", 1, &[(OnDemand, 30_000, true)])];
        assert_eq!(held(other, 10), None);
    }
}
