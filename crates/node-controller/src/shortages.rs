//! Since when what could be had cannot be had any more. Pure.
//!
//! The cloud says of each offering whether it may be asked for, and not why it may not: it was refused a short while ago, to
//! whichever pool, or was never on sale. Only what was seen on sale can run short.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use scheduling::OfferingKey;

use crate::snapshot::Catalogue;

/// What was short longer ago than this is short anew. A refused offering is asked for again after three minutes, and is on sale
/// until it is refused again.
const OVER: Duration = Duration::from_mins(10);

/// What was seen on sale, and what of it is short.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shortages {
    seen: BTreeSet<OfferingKey>,
    /// When each was first, and when it was last, seen to be short.
    short: BTreeMap<OfferingKey, (Timestamp, Timestamp)>,
}

impl Shortages {
    /// Compares what can be had now with what was seen before. Bounded by the offerings of a region, about twelve thousand.
    pub(crate) fn look(&mut self, catalogue: &Catalogue, now: Timestamp) {
        self.short.retain(|_, (_, last)| *last + OVER >= now);
        let mut looked = BTreeSet::new();
        for types in catalogue.values().filter(|types| looked.insert(Arc::as_ptr(types).cast::<()>())) {
            for kind in types.iter() {
                for offering in &kind.offerings {
                    let key = OfferingKey {
                        instance_type: kind.name.clone(),
                        zone: offering.zone.clone(),
                        capacity_type: offering.capacity_type,
                    };
                    if offering.available {
                        self.seen.insert(key);
                    } else if self.seen.contains(&key) {
                        self.short.entry(key).or_insert((now, now)).1 = now;
                    }
                }
            }
        }
    }

    /// Since when each has been short.
    pub(crate) fn since(&self, now: Timestamp) -> BTreeMap<OfferingKey, Timestamp> {
        let lasting = self.short.iter().filter(|(_, (_, last))| *last + OVER >= now);
        lasting.map(|(key, (first, _))| (key.clone(), *first)).collect()
    }
}

#[cfg(test)]
mod tests {
    use scheduling::{CapacityType, InstanceType, Offering, PoolKey, PoolKind};
    use units::{ResourceList, UsdMicrosPerHour};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn catalogue(pool: &str, available: bool) -> Catalogue {
        let offering = Offering {
            zone: "a".to_owned(),
            capacity_type: CapacityType::Spot,
            price: UsdMicrosPerHour(1),
            available,
            remaining: None,
        };
        let kind = InstanceType {
            name: "small".to_owned(),
            requirements: requirements::Requirements::default(),
            capacity: ResourceList::new(),
            overhead: ResourceList::new(),
            offerings: vec![offering],
        };
        Catalogue::from([(PoolKey { kind: PoolKind::NodePool, name: pool.to_owned() }, Arc::from([kind]))])
    }

    #[test]
    fn a_shortage_lasts_from_its_first_refusal_until_none_has_come_for_ten_minutes() {
        let mut shortages = Shortages::default();
        let since = |shortages: &Shortages, now| shortages.since(at(now)).into_values().next();
        shortages.look(&catalogue("p", false), at(50));
        assert_eq!(since(&shortages, 50), None, "it was never on sale");
        for now in [100, 700, 1_300] {
            shortages.look(&catalogue("p", true), at(now - 1));
            shortages.look(&catalogue("q", false), at(now));
            assert_eq!(since(&shortages, now + 600), Some(at(100)), "refused at {now}");
        }
        assert_eq!(since(&shortages, 1_901), None);
        shortages.look(&catalogue("p", false), at(1_901));
        assert_eq!(since(&shortages, 1_901), Some(at(1_901)));
    }
}
