//! The plan behind a claim, written on the claim: what it should cost, why it was asked for, for whom, and which
//! offerings would do. It outlives this process, and people can read it.

use std::{collections::BTreeMap, fmt, str::FromStr};

use api::karpenter_v1::NodeClaim;
use kube::ResourceExt as _;
use scheduling::{CapacityType, OfferingKey, PricedOffering};
use serde::{Deserialize, Serialize};
use units::{ResourceList, UsdMicrosPerHour};

use crate::names;

/// What was decided about one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The price of the cheapest offering. Unit: micro-dollars per hour.
    pub price_usd_micros_per_hour: UsdMicrosPerHour,
    /// One sentence.
    pub reason: String,
    /// The pods it is for.
    pub pods: Vec<PlannedPod>,
    /// Offerings any of which will do, cheapest first.
    pub offerings: Vec<PlannedOffering>,
    /// What the pool's limits are charged with until the machine is known.
    pub capacity: ResourceList,
}

/// A pod by name and UID, written `namespace/name/uid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PlannedPod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// An offering with its price in micro-dollars per hour, written `type/zone/capacity-type=price`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PlannedOffering(pub PricedOffering);

impl Plan {
    /// The plan on a claim; none if it was made by hand, or cannot be read.
    pub fn of(claim: &NodeClaim) -> Option<Self> {
        serde_json::from_str(claim.annotations().get(names::PLAN)?).ok()
    }

    /// The annotations that carry it.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        // A map of strings and integers cannot fail to become JSON.
        let json = serde_json::to_string(self).unwrap_or_default();
        let pods: Vec<String> = self.pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
        BTreeMap::from([
            (names::PLAN.to_owned(), json),
            (names::PLAN_PRICE.to_owned(), self.price_usd_micros_per_hour.to_string()),
            (names::PLAN_REASON.to_owned(), self.reason.clone()),
            (names::PLAN_PODS.to_owned(), pods.join(",")),
        ])
    }
}

impl From<PlannedPod> for String {
    fn from(pod: PlannedPod) -> Self {
        format!("{}/{}/{}", pod.namespace, pod.name, pod.uid)
    }
}

impl TryFrom<String> for PlannedPod {
    type Error = BadPlan;

    fn try_from(text: String) -> Result<Self, BadPlan> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(namespace), Some(name), Some(uid), None) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() })
            }
            _ => Err(BadPlan(text)),
        }
    }
}

impl fmt::Display for PlannedOffering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let OfferingKey { instance_type, zone, capacity_type } = &self.0.key;
        write!(f, "{instance_type}/{zone}/{capacity_type}={}", self.0.price.0)
    }
}

impl From<PlannedOffering> for String {
    fn from(offering: PlannedOffering) -> Self {
        offering.to_string()
    }
}

impl FromStr for PlannedOffering {
    type Err = BadPlan;

    fn from_str(text: &str) -> Result<Self, BadPlan> {
        let parse = || {
            let (key, price) = text.split_once('=')?;
            let mut parts = key.split('/');
            let (instance_type, zone, capacity_type) = (parts.next()?, parts.next()?, parts.next()?);
            let key = OfferingKey {
                instance_type: instance_type.to_owned(),
                zone: zone.to_owned(),
                capacity_type: capacity_type.parse::<CapacityType>().ok()?,
            };
            let price = UsdMicrosPerHour(price.parse().ok()?);
            parts.next().is_none().then_some(Self(PricedOffering { key, price }))
        };
        parse().ok_or_else(|| BadPlan(text.to_owned()))
    }
}

impl TryFrom<String> for PlannedOffering {
    type Error = BadPlan;

    fn try_from(text: String) -> Result<Self, BadPlan> {
        text.parse()
    }
}

/// A part of a plan that is not in the form we write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not part of a plan")]
pub struct BadPlan(String);

#[cfg(test)]
mod tests {
    use units::{Amount, ResourceName};

    use super::*;

    #[test]
    fn a_plan_survives_its_annotations() {
        let key = OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: "us-east-1a".to_owned(),
            capacity_type: CapacityType::OnDemand,
        };
        let plan = Plan {
            price_usd_micros_per_hour: UsdMicrosPerHour(96_000),
            reason: "2 pods fit on no node".to_owned(),
            pods: vec![PlannedPod { namespace: "d".to_owned(), name: "a.b".to_owned(), uid: "1-2".to_owned() }],
            offerings: vec![PlannedOffering(PricedOffering { key, price: UsdMicrosPerHour(96_000) })],
            capacity: ResourceList::new().with(ResourceName::cpu(), Amount(2000)),
        };
        let mut claim = NodeClaim::new("c", api::karpenter_v1::NodeClaimSpec::default());
        claim.metadata.annotations = Some(plan.annotations());
        assert_eq!(Plan::of(&claim), Some(plan));
        assert_eq!(claim.annotations()[names::PLAN_PRICE], "$0.096/h");
        assert_eq!(claim.annotations()[names::PLAN_PODS], "d/a.b");
    }

    #[test]
    fn a_damaged_plan_counts_as_none() {
        let mut claim = NodeClaim::new("c", api::karpenter_v1::NodeClaimSpec::default());
        claim.metadata.annotations = Some(BTreeMap::from([(names::PLAN.to_owned(), "{\"pods\":[\"x\"]}".to_owned())]));
        assert_eq!(Plan::of(&claim), None);
    }
}
