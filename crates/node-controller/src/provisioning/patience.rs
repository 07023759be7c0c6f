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
use scheduling::{
    CapacityType, InstanceType, NewNode, NewNodeReason, Offering, OfferingKey, PodKey, PoolKey, Snapshot, Solution,
};
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
/// `shortages` says since when what was on sale cannot be had.
///
/// A wait begins when its pods are pending and something that would do is short: who has waited for something else has waited for
/// no better price.
pub(crate) fn held_back(
    snapshot: &Snapshot,
    solution: &Solution,
    pods: &[Arc<CorePod>],
    shortages: &BTreeMap<OfferingKey, Timestamp>,
    now: Timestamp,
) -> BTreeMap<usize, Held> {
    let waits = Waits::of(snapshot, pods, shortages, now);
    let held = |node: &NewNode| {
        let paid = node.offerings.first()?.key.capacity_type;
        too_dear(node, &waits.short(snapshot, node, paid))
    };
    solution.new_nodes.iter().enumerate().filter_map(|(index, node)| Some((index, held(node)?))).collect()
}

/// Takes from each new node the offerings that are too dear for its pods as long as there are cheaper ones: the cloud starts any
/// that it is offered, and the plan is for the cheapest. They are asked for when the others were refused and the wait is over.
///
/// Nodes that must be of several types by their pool's minimum keep all of theirs.
pub(super) fn keep_affordable(
    snapshot: &Snapshot,
    solution: &mut Solution,
    pods: &[Arc<CorePod>],
    shortages: &BTreeMap<OfferingKey, Timestamp>,
    now: Timestamp,
) {
    let waits = Waits::of(snapshot, pods, shortages, now);
    for node in &mut solution.new_nodes {
        if node.requirements.iter().any(|wanted| wanted.min_values().is_some()) {
            continue;
        }
        let mut bounds: BTreeMap<CapacityType, UsdMicrosPerHour> = BTreeMap::new();
        for offering in &node.offerings {
            let paid = offering.key.capacity_type;
            bounds.entry(paid).or_insert_with(|| {
                let short = waits.short(snapshot, node, paid);
                let least = short.prices.first().map_or(offering.price, |price| offering.price.min(*price));
                UsdMicrosPerHour(least.0.saturating_mul(short.dearer)).max(SMALL_CHANGE).max(node.price)
            });
        }
        let of = node.offerings.len();
        node.offerings.retain(|offering| offering.price <= bounds[&offering.key.capacity_type]);
        let kept = node.offerings.len();
        if kept < of {
            node.why.push(NewNodeReason::Truncated { kept, of });
        }
    }
}

/// How long the pods of a plan have waited.
struct Waits<'a> {
    since: BTreeMap<&'a PodKey, Timestamp>,
    shortages: &'a BTreeMap<OfferingKey, Timestamp>,
    now: Timestamp,
}

impl<'a> Waits<'a> {
    fn of(
        snapshot: &'a Snapshot,
        pods: &[Arc<CorePod>],
        shortages: &'a BTreeMap<OfferingKey, Timestamp>,
        now: Timestamp,
    ) -> Self {
        // Who runs and is only to move loses nothing by waiting; if it takes too long the move is given up.
        let waiting = pods.iter().filter(|pod| pods::node_name(pod).is_none());
        let waiting: BTreeMap<&str, Timestamp> =
            waiting.filter_map(|pod| Some((pods::uid(pod), waits_since(pod)?))).collect();
        let since = snapshot.pods.iter().filter_map(|pod| Some((&pod.key, *waiting.get(pod.uid.as_str())?))).collect();
        Self { since, shortages, now }
    }

    /// What would do for a node, paid for in this way, and is short.
    fn short(&self, snapshot: &Snapshot, node: &NewNode, paid: CapacityType) -> Short {
        let would_do = would_do(snapshot, node, paid);
        let mut refused: Vec<(UsdMicrosPerHour, Timestamp)> =
            would_do.filter_map(|(key, price)| Some((price, *self.shortages.get(&key)?))).collect();
        refused.sort_unstable();
        // Who runs and is only to move, or has waited for something else, begins to wait now.
        let longest = node.pods.iter().filter_map(|pod| self.since.get(pod)).min();
        let first = refused.iter().map(|(_, since)| since).min();
        let since = longest.zip(first).map_or(self.now, |(pending, short)| *pending.max(short));
        Short { prices: refused.into_iter().map(|(price, _)| price).collect(), dearer: dearer(since, self.now) }
    }
}

/// What a node's pods would have if it were not short.
struct Short {
    /// The cheapest first.
    prices: Vec<UsdMicrosPerHour>,
    /// How many times that price a machine may cost now, for whoever of them has waited longest.
    dearer: i64,
}

/// The snapshot without the offerings that are too dear for the pods of nodes that are held back, so that each of them gets what
/// it can have for less: in the same pool without those that need the dear machine, or in another one. None if nobody is held
/// back.
///
/// What nodes that are not held back would be stays on sale: it may be dear because it is more.
pub(crate) fn without_dear(snapshot: &Snapshot, solution: &Solution, held: &BTreeMap<usize, Held>) -> Option<Snapshot> {
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
fn too_dear(node: &NewNode, short: &Short) -> Option<Held> {
    if node.price <= SMALL_CHANGE {
        return None;
    }
    let Short { prices, dearer } = short;
    let least = prices.first()?;
    let cheaper = prices.iter().filter(|price| price.0.saturating_mul(*dearer) < node.price.0).count();
    if cheaper == 0 {
        return None;
    }
    let why = format!(
        "{}: {cheaper} offerings from {least} on were refused a short while ago, and the next costs {}: it waits for them; \
         {dearer} times their price would do, and twice as much every {} minutes, up to {DEAREST} times",
        node.pool,
        node.price,
        STEP.as_secs() / 60,
    );
    let bound = UsdMicrosPerHour(least.0.saturating_mul(*dearer)).max(SMALL_CHANGE);
    Some(Held { why, bound })
}

/// What would do for a node and cannot be had, paid for in this way, with its price.
fn would_do<'a>(
    snapshot: &'a Snapshot,
    node: &'a NewNode,
    paid: CapacityType,
) -> impl Iterator<Item = (OfferingKey, UsdMicrosPerHour)> + 'a {
    let allows = |key: &str, value: &str| node.requirements.get(key).is_none_or(|wanted| wanted.allows(Some(value)));
    let fits = move |kind: &&InstanceType| {
        allows(labels::INSTANCE_TYPE, &kind.name)
            // What a type does not describe, the pool's labels do.
            && kind.requirements.iter().all(|has| node.requirements.get(has.key()).is_none_or(|wanted| has.overlaps(wanted)))
            && node.requests.fits_in(&kind.allocatable())
    };
    let refused = move |offering: &&Offering| {
        !offering.available
            && offering.capacity_type == paid
            && allows(labels::ZONE, &offering.zone)
            && allows(labels::CAPACITY_TYPE, offering.capacity_type.as_str())
    };
    let pool = snapshot.pools.iter().filter(|pool| pool.key == node.pool);
    let types = pool.flat_map(|pool| pool.instance_types.iter()).filter(fits);
    types.flat_map(move |kind| {
        let key = |offering: &Offering| OfferingKey {
            instance_type: kind.name.clone(),
            zone: offering.zone.clone(),
            capacity_type: offering.capacity_type,
        };
        kind.offerings.iter().filter(refused).map(move |offering| (key(offering), offering.price))
    })
}

#[cfg(test)]
mod tests {
    use scheduling::{Pod, Pool, PoolKind, Settings};
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

    /// What cannot be had was on sale until then.
    fn short_since(snapshot: &Snapshot, seconds: i64) -> BTreeMap<OfferingKey, Timestamp> {
        let types = snapshot.pools.iter().flat_map(|pool| pool.instance_types.iter());
        let gone = types.flat_map(|kind| {
            let gone = kind.offerings.iter().filter(|offering| !offering.available);
            gone.map(|offering| OfferingKey {
                instance_type: kind.name.clone(),
                zone: offering.zone.clone(),
                capacity_type: offering.capacity_type,
            })
        });
        gone.map(|key| (key, at(seconds))).collect()
    }

    fn held_since(types: &[Kind<'_>], short: i64, seconds: i64) -> Option<String> {
        let snapshot = snapshot(types);
        let solution = scheduling::solve(&snapshot, &Settings::default());
        assert_eq!(solution.new_nodes.len(), 1, "{solution:?}");
        held_back(&snapshot, &solution, &[waiting()], &short_since(&snapshot, short), at(seconds))
            .remove(&0)
            .map(|held| held.why)
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
        let mut never = snapshot(bearable);
        let solution = scheduling::solve(&never, &Settings::default());
        assert!(
            held_back(&never, &solution, &[waiting()], &BTreeMap::new(), at(10)).is_empty(),
            "it was never on sale"
        );
        // What is short for somebody else alone.
        never.pools[0].key.name = "another".to_owned();
        assert!(held_back(&never, &solution, &[waiting()], &short_since(&never, 0), at(10)).is_empty());
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
            held_back(&snapshot, &solution, &[Arc::new(running)], &short_since(&snapshot, 0), at(9000)).len(),
            1,
            "it runs where it is"
        );
    }

    #[test]
    fn a_launch_offers_nothing_far_dearer_than_its_cheapest() {
        use CapacityType::{OnDemand, Spot};
        let types: &[Kind<'_>] = &[
            ("a", 1, &[(OnDemand, 100_000, true), (Spot, 30_000, true)]),
            ("b", 1, &[(OnDemand, 300_000, true), (Spot, 250_000, true)]),
            ("c", 48, &[(OnDemand, 300_001, true), (Spot, 250_001, true)]),
        ];
        let kept = |types: &[Kind<'_>], seconds: i64, minimum: Option<u32>| {
            let mut snapshot = snapshot(types);
            if minimum.is_some() {
                let several = requirements::Requirement::exists(labels::INSTANCE_TYPE).with_min_values(minimum);
                snapshot.pools[0].requirements.add(several);
            }
            let mut solution = scheduling::solve(&snapshot, &Settings::default());
            let of = solution.new_nodes[0].offerings.len();
            let short = short_since(&snapshot, 0);
            keep_affordable(&snapshot, &mut solution, &[waiting()], &short, at(seconds));
            let node = &solution.new_nodes[0];
            let told = node.why.iter().any(|why| matches!(why, NewNodeReason::Truncated { .. }));
            assert_eq!(told, node.offerings.len() < of, "{:?}", node.why);
            node.offerings.iter().map(|offering| offering.price.0).collect::<Vec<_>>()
        };
        assert_eq!(kept(types, 10, None), [30_000, 100_000, 250_000, 300_000], "three times, or small change");
        assert_eq!(kept(types, 3000, None).len(), 4, "nothing is short");
        assert_eq!(kept(types, 10, Some(3)).len(), 6, "its pool wants several");
        // What was refused is what would do.
        let refused: &[Kind<'_>] = &[
            ("a", 1, &[(OnDemand, 100_000, false)]),
            ("b", 1, &[(OnDemand, 200_000, true)]),
            ("c", 1, &[(OnDemand, 500_000, true)]),
        ];
        assert_eq!(kept(refused, 10, None), [200_000]);
        assert_eq!(kept(refused, 300, None), [200_000, 500_000]);
    }

    #[test]
    fn who_waits_for_one_pool_may_have_another_and_takes_nobody_along() {
        use CapacityType::OnDemand;
        let small = ("small", 1, &[(OnDemand, 10_000, false)][..]);
        let large = ("large", 48, &[(OnDemand, 2_000_000, true)][..]);
        let settled = |one: &Snapshot| {
            let solution = scheduling::solve(one, &Settings::default());
            let held = held_back(one, &solution, &[waiting()], &short_since(one, 0), at(10));
            let Some(cheaper) = without_dear(one, &solution, &held) else { return (0, solution) };
            let solution = scheduling::solve(&cheaper, &Settings::default());
            assert!(held_back(one, &solution, &[waiting()], &short_since(one, 0), at(10)).is_empty());
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
