//! Offerings that were refused a short while ago.

use std::collections::HashMap;
use std::time::Duration;

use scheduling::{CapacityType, OfferingKey};
use tokio::time::Instant;

use crate::type_info::TypeInfo;

/// How long a refused offering is left alone. Karpenter's figure; EC2 refills pools within minutes.
pub(crate) const REMEMBERED: Duration = Duration::from_mins(3);

/// The refused offerings. `now` is an argument everywhere, so that every instant can be tested.
#[derive(Debug, Default)]
pub(crate) struct Unavailable {
    until: HashMap<OfferingKey, Instant>,
    /// By quota: so many vCPUs are too many for what is left of it.
    quotas: HashMap<(&'static str, CapacityType), (i64, Instant)>,
    /// Subnets without free addresses.
    full_subnets: HashMap<String, Instant>,
}

impl Unavailable {
    /// Notes a refusal; a second one starts the time anew.
    ///
    /// Bounded by the number of offerings in a region, about twelve thousand; those past their time go first.
    pub(crate) fn mark(&mut self, key: OfferingKey, now: Instant) {
        self.until.retain(|_, until| *until > now);
        self.until.insert(key, now + REMEMBERED);
    }

    /// Notes that the account may not have this type beside what it has: then it may have no other of the same quota that is as
    /// large, in any zone, and asking for the next sixty is in vain.
    pub(crate) fn mark_quota(&mut self, info: &TypeInfo, capacity_type: CapacityType, now: Instant) {
        self.quotas.retain(|_, (_, until)| *until > now);
        let (vcpus, until) = self.quotas.entry((quota(&info.name), capacity_type)).or_insert((info.vcpus, now));
        *vcpus = info.vcpus.min(*vcpus);
        *until = now + REMEMBERED;
    }

    /// Notes that a subnet has no free address: classes with others in that zone may go on there.
    pub(crate) fn mark_full(&mut self, subnet_id: String, now: Instant) {
        self.full_subnets.retain(|_, until| *until > now);
        self.full_subnets.insert(subnet_id, now + REMEMBERED);
    }

    /// Whether a subnet has no free address.
    pub(crate) fn is_full(&self, subnet_id: &str, now: Instant) -> bool {
        self.full_subnets.get(subnet_id).is_some_and(|until| *until > now)
    }

    /// Whether an offering of the type is worth asking for.
    pub(crate) fn allows(&self, key: &OfferingKey, info: &TypeInfo, now: Instant) -> bool {
        let over = |(vcpus, until): &(i64, Instant)| *until > now && info.vcpus >= *vcpus;
        self.until.get(key).is_none_or(|until| *until <= now)
            && !self.quotas.get(&(quota(&key.instance_type), key.capacity_type)).is_some_and(over)
    }
}

/// The vCPU quota that a type counts against ("Amazon EC2 instance type quotas").
fn quota(instance_type: &str) -> &'static str {
    let family = instance_type.split('.').next().unwrap_or_default();
    let letters = family.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
    match letters {
        "g" | "gr" | "vt" => "G and VT",
        "p" => "P",
        "inf" => "Inf",
        "trn" => "Trn",
        "dl" => "DL",
        "f" => "F",
        "x" => "X",
        "u" => "High Memory",
        "hpc" => "HPC",
        _ => "Standard",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_info::Arch;
    use crate::type_info::tests::plain;

    #[test]
    fn a_refusal_is_forgotten_after_its_time_and_concerns_one_offering() {
        let key = |capacity_type| OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: "us-east-1a".to_owned(),
            capacity_type,
        };
        let (spot, on_demand) = (key(CapacityType::Spot), key(CapacityType::OnDemand));
        let start = Instant::now();
        let info = plain("m5.large", Arch::Amd64, 2, 8192, 3, 10);
        let mut unavailable = Unavailable::default();
        unavailable.mark(spot.clone(), start);
        assert!(!unavailable.allows(&spot, &info, start + REMEMBERED - Duration::from_millis(1)));
        assert!(unavailable.allows(&on_demand, &info, start));
        assert!(unavailable.allows(&spot, &info, start + REMEMBERED));
    }

    #[test]
    fn a_full_subnet_is_full_for_its_time() {
        let start = Instant::now();
        let mut unavailable = Unavailable::default();
        unavailable.mark_full("subnet-a".to_owned(), start);
        assert!(unavailable.is_full("subnet-a", start + REMEMBERED - Duration::from_millis(1)));
        assert!(!unavailable.is_full("subnet-a", start + REMEMBERED));
        assert!(!unavailable.is_full("subnet-b", start));
    }

    #[test]
    fn a_quota_that_is_used_up_is_so_for_all_that_are_as_large() {
        use CapacityType::{OnDemand, Spot};
        let start = Instant::now();
        let mut unavailable = Unavailable::default();
        let kind = |name: &str, vcpus| plain(name, Arch::Amd64, vcpus, 8192, 3, 10);
        unavailable.mark_quota(&kind("c5.2xlarge", 8), OnDemand, start);
        unavailable.mark_quota(&kind("m5.xlarge", 4), OnDemand, start);
        let allows = |name: &str, vcpus, capacity_type, after| {
            let key = OfferingKey { instance_type: name.to_owned(), zone: "us-east-1b".to_owned(), capacity_type };
            unavailable.allows(&key, &kind(name, vcpus), start + after)
        };
        let soon = REMEMBERED.mul_f64(0.99);
        for (name, vcpus, capacity_type, after, allowed) in [
            ("r6i.xlarge", 4, OnDemand, soon, false),
            ("im4gn.16xlarge", 64, OnDemand, soon, false),
            ("m5.large", 2, OnDemand, soon, true),
            ("r6i.xlarge", 4, Spot, soon, true),
            ("g4dn.xlarge", 4, OnDemand, soon, true),
            ("inf2.xlarge", 4, OnDemand, soon, true),
            ("u-6tb1.metal", 448, OnDemand, soon, true),
            ("r6i.xlarge", 4, OnDemand, REMEMBERED, true),
        ] {
            assert_eq!(allows(name, vcpus, capacity_type, after), allowed, "{name}");
        }
    }
}
