//! Instance types as the scheduler sees them: what they have, where they are and what they cost.

use std::collections::{BTreeMap, BTreeSet};

use requirements::labels::{CAPACITY_TYPE, REGION, ZONE};
use requirements::{Requirement, Requirements};
use scheduling::{CapacityType, InstanceType, Offering, OfferingKey};
use tokio::time::Instant;

use crate::capacity;
use crate::class::Class;
use crate::kubelet::Kubelet;
use crate::labels;
use crate::prices::Prices;
use crate::settings::Settings;
use crate::type_info::TypeInfo;
use crate::unavailable::Unavailable;

/// Everything the composition reads.
#[derive(Debug)]
pub(crate) struct Sources<'a> {
    pub(crate) types: &'a [TypeInfo],
    /// Zones in which a type is offered at all.
    pub(crate) zones_of_type: &'a BTreeMap<String, BTreeSet<String>>,
    /// Zones of the class's subnets.
    pub(crate) zones: &'a BTreeSet<String>,
    /// Those of them in which no subnet of the class has a free address.
    pub(crate) full_zones: &'a BTreeSet<String>,
    pub(crate) prices: &'a Prices,
    pub(crate) unavailable: &'a Unavailable,
    pub(crate) region: &'a str,
}

/// Types with at least one offering, in the order of their names.
pub(crate) fn compose(
    sources: &Sources<'_>,
    class: &Class,
    kubelet: &Kubelet,
    settings: &Settings,
    now: Instant,
) -> Vec<InstanceType> {
    let mut types: Vec<InstanceType> = sources
        .types
        .iter()
        .filter(|info| !(class.family == crate::class::Family::Al2023 && info.family() == "a1"))
        .filter_map(|info| {
            let offerings = offerings(sources, info, now);
            if offerings.is_empty() {
                return None;
            }
            let resources = capacity::resources(info, class, kubelet, settings);
            let pods = capacity::max_pods(info, class, kubelet, settings);
            let mut requirements = Requirements::from_labels(&labels::of_type(info, class.generation, pods));
            let zones: BTreeSet<&str> = offerings.iter().map(|it| it.zone.as_str()).collect();
            let kinds: BTreeSet<String> = offerings.iter().map(|it| it.capacity_type.to_string()).collect();
            requirements.add(Requirement::one_of(ZONE, zones));
            requirements.add(Requirement::one_of(CAPACITY_TYPE, kinds));
            requirements.add(Requirement::one_of(REGION, [sources.region]));
            Some(InstanceType {
                name: info.name.clone(),
                requirements,
                capacity: resources.capacity,
                overhead: resources.overhead,
                offerings,
            })
        })
        .collect();
    types.sort_by(|a, b| a.name.cmp(&b.name));
    types
}

fn offerings(sources: &Sources<'_>, info: &TypeInfo, now: Instant) -> Vec<Offering> {
    let Some(zones) = sources.zones_of_type.get(&info.name) else { return Vec::new() };
    let mut offerings = Vec::new();
    for zone in zones.intersection(sources.zones) {
        for capacity_type in [CapacityType::Spot, CapacityType::OnDemand] {
            if !info.usage.contains(&capacity_type) {
                continue;
            }
            let Some(price) = sources.prices.of(&info.name, zone, capacity_type) else { continue };
            let key = OfferingKey { instance_type: info.name.clone(), zone: zone.clone(), capacity_type };
            let available = sources.unavailable.allows(&key, info, now) && !sources.full_zones.contains(zone);
            offerings.push(Offering { zone: key.zone, capacity_type, price, available, remaining: None });
        }
    }
    offerings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::tests::template;
    use crate::type_info::Arch;
    use crate::type_info::tests::plain;

    #[test]
    fn offerings_are_where_type_and_subnets_meet_and_have_a_price() {
        let set = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
        let types = ["m5.large", "nosuch.large"].map(|name| plain(name, Arch::Amd64, 2, 8192, 3, 10));
        let zones_of_type =
            BTreeMap::from([("m5.large".to_owned(), set(&["a", "b", "d"])), ("nosuch.large".to_owned(), set(&["a"]))]);
        let now = Instant::now();
        let mut unavailable = Unavailable::default();
        let refused = OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: "b".to_owned(),
            capacity_type: CapacityType::Spot,
        };
        unavailable.mark(refused, now);
        let sources = Sources {
            types: &types,
            zones_of_type: &zones_of_type,
            zones: &set(&["b", "c", "d"]),
            full_zones: &set(&["d"]),
            prices: &Prices::shipped(),
            unavailable: &unavailable,
            region: "us-east-1",
        };
        let settings = Settings::new("c", "u", "https://c", "1.28");
        let composed = compose(&sources, &template(), &Kubelet::default(), &settings, now);
        let [m5] = composed.as_slice() else { panic!("{composed:?}") };
        let seen: Vec<_> = m5.offerings.iter().map(|it| (it.zone.as_str(), it.capacity_type, it.available)).collect();
        let full = [("d", CapacityType::Spot, false), ("d", CapacityType::OnDemand, false)];
        assert_eq!(
            seen,
            [&[("b", CapacityType::Spot, false), ("b", CapacityType::OnDemand, true)][..], &full].concat()
        );
        let zone = m5.requirements.get(ZONE).expect("zones are named");
        assert!(zone.allows(Some("b")) && !zone.allows(Some("a")));
    }
}
