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
use scheduling::{InstanceType, NewNode, Offering, OfferingKey, PoolKey, Snapshot, Solution};
use units::UsdMicrosPerHour;

use crate::pods;

/// Up to so many times the price of what would do, a machine is bought at once.
const DEARER: i64 = 3;

/// However long the wait, a machine costs no more than so many times what would do. A quota may be used up for hours.
const DEAREST: i64 = 24;

/// Nobody waits for less: a few minutes of it cost a cent or two.
const SMALL_CHANGE: UsdMicrosPerHour = UsdMicrosPerHour(250_000);

/// After so long a wait it may cost twice as much, and so on. Refused offerings are asked for again after three minutes, so at
/// least once in each step.
const STEP: Duration = Duration::from_mins(5);

/// Why a new node is not bought yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// For the pods.
    pub(crate) why: String,
    /// What a machine for them may cost now.
    bound: UsdMicrosPerHour,
}

/// The new nodes of a plan that are not to be bought yet, by index, with the reason. `pods` are those of the world;
/// `shortages` says since when the cloud has had too little for a pool.
///
/// A wait begins when its pods are pending and something was refused: who has waited for something else has waited for no better
/// price.
pub(crate) fn held_back(
    snapshot: &Snapshot,
    solution: &Solution,
    pods: &[Arc<CorePod>],
    shortages: &BTreeMap<PoolKey, Timestamp>,
    now: Timestamp,
) -> BTreeMap<usize, Held> {
    let waiting: BTreeMap<&str, Option<Timestamp>> = pods
        .iter()
        // Who runs and is only to move loses nothing by waiting; if it takes too long the move is given up.
        .map(|pod| (pods::uid(pod), pods::node_name(pod).is_none().then(|| waits_since(pod)).flatten()))
        .collect();
    let uids: BTreeMap<_, _> = snapshot.pods.iter().map(|pod| (&pod.key, pod.uid.as_str())).collect();
    let held = |node: &NewNode| {
        let longest = node.pods.iter().filter_map(|pod| *waiting.get(uids.get(pod)?)?).min();
        // Without a refusal of ours nothing is short: what cannot be had was never on sale.
        let short = shortages.get(&node.pool).copied();
        let since = longest.map_or(now, |since| short.map_or(since, |short| since.max(short)));
        too_dear(snapshot, node, dearer(since, now))
    };
    solution.new_nodes.iter().enumerate().filter_map(|(index, node)| Some((index, held(node)?))).collect()
}

/// The snapshot without the offerings that are too dear for the pods of nodes that are held back, so that each of them gets what
/// it can have for less: in the same pool without those that need the dear machine, or in another one. None if nobody is held
/// back.
///
/// What nodes that are not held back would be stays on sale: it may be dear because it is more.
pub(super) fn without_dear(snapshot: &Snapshot, solution: &Solution, held: &BTreeMap<usize, Held>) -> Option<Snapshot> {
    let mut bounds: BTreeMap<&PoolKey, UsdMicrosPerHour> = BTreeMap::new();
    for (index, one) in held {
        let bound = bounds.entry(&solution.new_nodes[*index].pool).or_insert(one.bound);
        *bound = one.bound.max(*bound);
    }
    let bought = solution.new_nodes.iter().enumerate().filter(|(index, _)| !held.contains_key(index));
    let bought: BTreeSet<(&PoolKey, &OfferingKey)> =
        bought.flat_map(|(_, node)| node.offerings.iter().map(move |offering| (&node.pool, &offering.key))).collect();
    let mut cheaper = snapshot.clone();
    for pool in &mut cheaper.pools {
        let Some(bound) = bounds.get(&pool.key) else { continue };
        let mut types = pool.instance_types.to_vec();
        for kind in &mut types {
            let name = kind.name.clone();
            for offering in kind.offerings.iter_mut().filter(|offering| offering.price > *bound) {
                let key = OfferingKey {
                    instance_type: name.clone(),
                    zone: offering.zone.clone(),
                    capacity_type: offering.capacity_type,
                };
                offering.available &= bought.contains(&(&pool.key, &key));
            }
        }
        pool.instance_types = types.into();
    }
    (!held.is_empty()).then_some(cheaper)
}

/// How many times the price of what would do a machine may cost after such a wait.
fn dearer(since: Timestamp, now: Timestamp) -> i64 {
    let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let steps = u32::try_from(waited.as_secs() / STEP.as_secs()).unwrap_or(u32::MAX);
    DEARER.saturating_mul(2_i64.saturating_pow(steps)).min(DEAREST)
}

/// Since when the scheduler has had no node for the pod.
fn waits_since(pod: &CorePod) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    let told = unscheduled.and_then(|condition| condition.last_transition_time.as_ref());
    told.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}

/// Why a node costs too much, if it does: more than so many times what its pods would fit on, paid for in the same way.
fn too_dear(snapshot: &Snapshot, node: &NewNode, dearer: i64) -> Option<Held> {
    if node.price <= SMALL_CHANGE {
        return None;
    }
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
            && offering.price.0.saturating_mul(dearer) < node.price.0
    };
    let prices = pool.instance_types.iter().filter(would_do).flat_map(|kind| kind.offerings.iter().filter(refused));
    let prices: Vec<UsdMicrosPerHour> = prices.map(|offering| offering.price).collect();
    let least = prices.iter().min()?;
    let why = format!(
        "{}: {} offerings from {least} on were refused a short while ago, and the next costs {}: it waits for them; \
         {dearer} times their price would do, and twice as much every {} minutes, up to {DEAREST} times",
        node.pool,
        prices.len(),
        node.price,
        STEP.as_secs() / 60,
    );
    let bound = UsdMicrosPerHour(least.0.saturating_mul(dearer)).max(SMALL_CHANGE);
    Some(Held { why, bound })
}

#[cfg(test)]
mod tests {
    use scheduling::{CapacityType, Pod, Pool, PoolKind, Settings};
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

    /// What was refused was refused at once.
    fn held(types: &[Kind<'_>], seconds: i64) -> Option<String> {
        held_since(types, 0, seconds)
    }

    fn short_since(seconds: i64) -> BTreeMap<PoolKey, Timestamp> {
        BTreeMap::from([(PoolKey { kind: PoolKind::NodePool, name: "p".to_owned() }, at(seconds))])
    }

    fn held_since(types: &[Kind<'_>], short: i64, seconds: i64) -> Option<String> {
        let snapshot = snapshot(types);
        let solution = scheduling::solve(&snapshot, &Settings::default());
        assert_eq!(solution.new_nodes.len(), 1, "{solution:?}");
        held_back(&snapshot, &solution, &[waiting()], &short_since(short), at(seconds)).remove(&0).map(|held| held.why)
    }

    #[test]
    fn a_machine_far_dearer_than_what_was_just_refused_is_not_bought_at_once() {
        use CapacityType::OnDemand;
        let types: &[Kind<'_>] =
            &[("small", 1, &[(OnDemand, 10_000, false)]), ("large", 48, &[(OnDemand, 2_000_000, true)])];
        let why = held(types, 10).unwrap();
        assert!(why.contains("1 offerings from $0.01/h on were refused"), "{why}");
        assert!(why.contains("the next costs $2.00/h"), "{why}");
        for minutes in [5, 60, 6_000_000] {
            assert!(held(types, minutes * 60).is_some(), "200 times the price, after {minutes} minutes");
        }
        // 3, 6, 12, 24.
        let bearable: &[Kind<'_>] =
            &[("small", 1, &[(OnDemand, 100_000, false)]), ("large", 48, &[(OnDemand, 2_000_000, true)])];
        assert!(held(bearable, 15 * 60 - 1).is_some());
        assert_eq!(held(bearable, 15 * 60), None, "it has waited for long enough");
        assert!(held_since(bearable, 3600, 3600 + 15 * 60 - 1).is_some(), "it had waited for something else before");
        assert_eq!(held_since(bearable, 3600, 3600 + 15 * 60), None);
        let twice: &[Kind<'_>] = &[("a", 1, &[(OnDemand, 100_000, false)]), ("b", 1, &[(OnDemand, 600_000, true)])];
        assert!(held(twice, 299).is_some());
        assert_eq!(held(twice, 300), None);
        for (price, waits) in [(250_000, false), (250_001, true)] {
            let cents: &[Kind<'_>] = &[("a", 1, &[(OnDemand, 10_000, false)]), ("b", 1, &[(OnDemand, price, true)])];
            assert_eq!(held(cents, 10).is_some(), waits, "{price}");
        }
        let mut running = (*waiting()).clone();
        running.spec.as_mut().unwrap().node_name = Some("n".to_owned());
        let snapshot = snapshot(types);
        let solution = scheduling::solve(&snapshot, &Settings::default());
        assert_eq!(
            held_back(&snapshot, &solution, &[Arc::new(running)], &short_since(0), at(9000)).len(),
            1,
            "it runs where it is"
        );
    }

    #[test]
    fn who_waits_for_one_pool_may_have_another_and_takes_nobody_along() {
        use CapacityType::OnDemand;
        let small = ("small", 1, &[(OnDemand, 10_000, false)][..]);
        let large = ("large", 48, &[(OnDemand, 2_000_000, true)][..]);
        let settled = |one: &Snapshot| {
            let solution = scheduling::solve(one, &Settings::default());
            let held = held_back(one, &solution, &[waiting()], &short_since(0), at(10));
            let Some(cheaper) = without_dear(one, &solution, &held) else { return (0, solution) };
            let solution = scheduling::solve(&cheaper, &Settings::default());
            assert!(held_back(one, &solution, &[waiting()], &short_since(0), at(10)).is_empty());
            (held.len(), solution)
        };
        // A lighter pool has it.
        let mut one = snapshot(&[small, large]);
        let mut lighter = snapshot(&[("small2", 1, &[(OnDemand, 20_000, true)])]).pools.remove(0);
        lighter.key.name = "q".to_owned();
        one.pools[0].weight = 10;
        let (held, alone) = settled(&one);
        assert_eq!((held, alone.new_nodes.len(), alone.unplaced.len()), (1, 0, 1), "there is no other: it waits");
        one.pools.push(lighter);
        let (held, solution) = settled(&one);
        assert_eq!((held, solution.new_nodes[0].pool.name.as_str()), (1, "q"));
        // A pod that could have a cheap machine of its own would ride on the dear one for nothing.
        let medium = ("medium", 2, &[(OnDemand, 10_000, false)][..]);
        let mut both = snapshot(&[medium, ("little", 1, &[(OnDemand, 20_000, true)]), large]);
        let mut rider = (*both.pods[0]).clone();
        (rider.key.name, rider.uid) = ("rider".to_owned(), "rider".to_owned());
        let mut big = (*both.pods[0]).clone();
        big.requests = big.requests.with(ResourceName::cpu(), Amount(1_500));
        both.pods = vec![Arc::new(big), Arc::new(rider)];
        let (held, solution) = settled(&both);
        let bought: Vec<_> = solution.new_nodes.iter().map(|node| (node.price.0, node.pods.len())).collect();
        assert_eq!((held, bought, solution.unplaced.len()), (1, vec![(20_000, 1)], 1));
    }

    #[test]
    fn a_little_dearer_or_paid_for_in_another_way_or_too_small_is_no_reason_to_wait() {
        use CapacityType::{OnDemand, Spot};
        let next: &[Kind<'_>] = &[("a", 1, &[(OnDemand, 1_000_000, false)]), ("b", 1, &[(OnDemand, 3_000_000, true)])];
        assert_eq!(held(next, 10), None);
        let no_spot: &[Kind<'_>] = &[("a", 1, &[(Spot, 1_000_000, false), (OnDemand, 4_000_000, true)])];
        assert_eq!(held(no_spot, 10), None, "who allows both does not wait for spot");
        let small: &[Kind<'_>] = &[("a", 0, &[(OnDemand, 100_000, false)]), ("b", 1, &[(OnDemand, 3_000_000, true)])];
        assert_eq!(held(small, 10), None);
        let other: &[Kind<'_>] =
            &[("other", 1, &[(OnDemand, 100_000, false)]), ("b", 1, &[(OnDemand, 3_000_000, true)])];
        assert_eq!(held(other, 10), None);
    }
}
