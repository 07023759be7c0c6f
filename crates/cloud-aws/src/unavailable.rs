//! Offerings that were refused a short while ago.

use std::collections::HashMap;
use std::time::Duration;

use scheduling::OfferingKey;
use tokio::time::Instant;

/// How long a refused offering is left alone. Karpenter's figure; EC2 refills pools within minutes.
pub(crate) const REMEMBERED: Duration = Duration::from_mins(3);

/// The refused offerings. `now` is an argument everywhere, so that every instant can be tested.
#[derive(Debug, Default)]
pub(crate) struct Unavailable {
    until: HashMap<OfferingKey, Instant>,
}

impl Unavailable {
    /// Notes a refusal; a second one starts the time anew.
    ///
    /// Bounded by the number of offerings in a region, about twelve thousand; those past their time go first.
    pub(crate) fn mark(&mut self, key: OfferingKey, now: Instant) {
        self.until.retain(|_, until| *until > now);
        self.until.insert(key, now + REMEMBERED);
    }

    /// Whether the offering is worth asking for.
    pub(crate) fn allows(&self, key: &OfferingKey, now: Instant) -> bool {
        self.until.get(key).is_none_or(|until| *until <= now)
    }
}

#[cfg(test)]
mod tests {
    use scheduling::CapacityType;

    use super::*;

    #[test]
    fn a_refusal_is_forgotten_after_its_time_and_concerns_one_offering() {
        let key = |capacity_type| OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: "us-east-1a".to_owned(),
            capacity_type,
        };
        let (spot, on_demand) = (key(CapacityType::Spot), key(CapacityType::OnDemand));
        let start = Instant::now();
        let mut unavailable = Unavailable::default();
        unavailable.mark(spot.clone(), start);
        assert!(!unavailable.allows(&spot, start + REMEMBERED - Duration::from_millis(1)));
        assert!(unavailable.allows(&on_demand, start));
        assert!(unavailable.allows(&spot, start + REMEMBERED));
    }
}
