//! One CreateFleet call: which of the offerings are asked for, and what the answer means.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest,
    FleetOnDemandAllocationStrategy, InstanceLifecycle, LaunchTemplateAndOverridesResponse, SpotAllocationStrategy,
};
use scheduling::{CapacityType, OfferingKey, PricedOffering};

use crate::aws::Subnet;
use crate::errors::{Failure, Field, classify, steady};

/// Types in one call at most; Karpenter 1's figure. EC2 takes 300 overrides, and five zones are rarely passed.
const TYPES_MAX: usize = 60;

/// Overrides in one call at most ("Launch template overrides per EC2 Fleet", EC2 quotas).
const OVERRIDES_MAX: usize = 300;

/// An offering with the subnet to put it into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Override {
    pub(crate) key: OfferingKey,
    pub(crate) subnet_id: String,
}

/// The offerings to ask for: one capacity type, cheapest first. Empty if none is left.
///
/// 1. Only those `allowed`: not refused a short while ago.
/// 2. Spot if there is any, for spot is what a pool that allows both is meant for.
/// 3. Without exotic hardware if anything else remains.
/// 4. No spot that is dearer than the cheapest on demand.
/// 5. The cheapest sixty types.
pub(crate) fn choose(
    offerings: &[PricedOffering],
    allowed: impl Fn(&OfferingKey) -> bool,
    is_exotic: impl Fn(&str) -> bool,
) -> Vec<OfferingKey> {
    let mut left: Vec<&PricedOffering> = offerings
        .iter()
        .filter(|offering| offering.key.capacity_type != CapacityType::Reserved && allowed(&offering.key))
        .collect();
    if left.iter().any(|offering| !is_exotic(&offering.key.instance_type)) {
        left.retain(|offering| !is_exotic(&offering.key.instance_type));
    }
    let is_spot = |offering: &&PricedOffering| offering.key.capacity_type == CapacityType::Spot;
    let on_demand = left.iter().filter(|it| !is_spot(it)).map(|it| it.price).min();
    if let Some(on_demand) = on_demand {
        left.retain(|offering| !is_spot(offering) || offering.price <= on_demand);
    }
    if left.iter().any(is_spot) {
        left.retain(is_spot);
    }
    left.sort_by(|a, b| (a.price, &a.key).cmp(&(b.price, &b.key)));
    let mut types = BTreeSet::new();
    left.retain(|offering| {
        types.contains(&offering.key.instance_type)
            || (types.len() < TYPES_MAX && types.insert(offering.key.instance_type.clone()))
    });
    left.into_iter().map(|offering| offering.key.clone()).collect()
}

/// Gives each offering the subnet of its zone with the most free addresses; offerings without one that is not full are left out.
pub(crate) fn place(keys: &[OfferingKey], subnets: &[Subnet], is_full: impl Fn(&str) -> bool) -> Vec<Override> {
    let mut best: BTreeMap<&str, &Subnet> = BTreeMap::new();
    for subnet in subnets.iter().filter(|subnet| !is_full(&subnet.id)) {
        let better = |it: &&Subnet| (subnet.free_addresses, &it.id) > (it.free_addresses, &subnet.id);
        if best.get(subnet.zone.as_str()).is_none_or(better) {
            best.insert(&subnet.zone, subnet);
        }
    }
    keys.iter()
        .filter_map(|key| {
            best.get(key.zone.as_str()).map(|subnet| Override { key: key.clone(), subnet_id: subnet.id.clone() })
        })
        .take(OVERRIDES_MAX)
        .collect()
}

/// What a fleet's answer means.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// The instance that was started, and as what.
    pub(crate) launched: Option<(String, OfferingKey, String)>,
    /// Instances beyond the one asked for; none in practice.
    pub(crate) surplus: Vec<String>,
    /// Offerings without capacity.
    pub(crate) refused: Vec<OfferingKey>,
    /// Those of them for which the account's quota of vCPUs does not do.
    pub(crate) over_quota: Vec<OfferingKey>,
    /// What EC2 says of them; of several reasons the first that is no lack of capacity, for that one a person can act on.
    pub(crate) said: String,
    /// Subnets without addresses.
    pub(crate) full_subnets: BTreeSet<String>,
    /// Offerings that would have gone there.
    pub(crate) without_address: Vec<OfferingKey>,
    /// The first thing a person must change.
    pub(crate) mistake: Option<(Field, String)>,
    /// A template was gone.
    pub(crate) template_missing: bool,
    /// Calls were too many.
    pub(crate) throttled: bool,
    /// Errors of any other kind.
    pub(crate) others: Vec<String>,
}

/// Reads the answer. Absent lists are empty ones; an entry that does not say which override it is about counts for all
/// that it may be about.
pub(crate) fn read(answer: &CreateFleetOutput, asked: &[Override]) -> Outcome {
    let mut outcome = Outcome::default();
    for instance in answer.instances() {
        for id in instance.instance_ids() {
            let about = instance.launch_template_and_overrides();
            let named = instance.instance_type().map(aws_sdk_ec2::types::InstanceType::as_str);
            let mut matching = matching(asked, about, named);
            if let Some(lifecycle) = instance.lifecycle() {
                let capacity_type =
                    if *lifecycle == InstanceLifecycle::Spot { CapacityType::Spot } else { CapacityType::OnDemand };
                matching.retain(|it| it.key.capacity_type == capacity_type);
            }
            match (&outcome.launched, matching.first()) {
                (None, Some(it)) => {
                    outcome.launched = Some((id.clone(), it.key.clone(), it.subnet_id.clone()));
                }
                _ => outcome.surplus.push(id.clone()),
            }
        }
    }
    let mut quota = false;
    for error in answer.errors() {
        let (code, message) =
            (error.error_code().unwrap_or_default(), steady(error.error_message().unwrap_or_default()));
        let about = matching(asked, error.launch_template_and_overrides(), None);
        let failure = classify(code, message);
        let is_quota = failure == Failure::Quota;
        if outcome.said.is_empty() || (is_quota && !quota) {
            outcome.said = format!("{code}: {message}");
            quota = is_quota;
        }
        if ["VcpuLimitExceeded", "MaxSpotInstanceCountExceeded"].contains(&code) {
            outcome.over_quota.extend(about.iter().map(|it| it.key.clone()));
        }
        match failure {
            Failure::NoCapacity | Failure::Quota => outcome.refused.extend(about.iter().map(|it| it.key.clone())),
            Failure::NoAddresses => {
                outcome.full_subnets.extend(about.iter().map(|it| it.subnet_id.clone()));
                outcome.without_address.extend(about.iter().map(|it| it.key.clone()));
            }
            Failure::Misconfigured { field, message } => {
                outcome.mistake.get_or_insert((field, message));
            }
            Failure::TemplateNotFound => outcome.template_missing = true,
            Failure::Throttled => outcome.throttled = true,
            _ => outcome.others.push(format!("{code}: {message}")),
        }
    }
    let mut seen = BTreeSet::new();
    outcome.refused.retain(|key| seen.insert(key.clone()));
    outcome
}

/// The overrides an entry of the answer may be about.
fn matching<'a>(
    asked: &'a [Override],
    about: Option<&LaunchTemplateAndOverridesResponse>,
    instance_type: Option<&str>,
) -> Vec<&'a Override> {
    let overrides = about.and_then(|about| about.overrides());
    let named =
        overrides.and_then(|it| it.instance_type()).map(aws_sdk_ec2::types::InstanceType::as_str).or(instance_type);
    let subnet = overrides.and_then(|it| it.subnet_id());
    let zone = overrides.and_then(|it| it.availability_zone());
    let fits = |wanted: Option<&str>, has: &str| wanted.is_none_or(|wanted| wanted == has);
    asked
        .iter()
        .filter(|it| fits(named, &it.key.instance_type) && fits(subnet, &it.subnet_id) && fits(zone, &it.key.zone))
        .collect()
}

/// How EC2 is to choose among the offerings of a fleet: of spot, and of on-demand capacity.
pub(crate) fn strategies(
    spot_by_priority: bool,
    on_demand_by_priority: bool,
) -> (SpotAllocationStrategy, FleetOnDemandAllocationStrategy) {
    let spot = if spot_by_priority {
        SpotAllocationStrategy::CapacityOptimizedPrioritized
    } else {
        SpotAllocationStrategy::PriceCapacityOptimized
    };
    let on_demand = if on_demand_by_priority {
        FleetOnDemandAllocationStrategy::Prioritized
    } else {
        FleetOnDemandAllocationStrategy::LowestPrice
    };
    (spot, on_demand)
}

/// The overrides of one launch template, with their place in the order if EC2 is to follow it.
pub(crate) fn config(
    template: &str,
    overrides: &[Override],
    order: &BTreeMap<&OfferingKey, usize>,
    prioritized: bool,
) -> FleetLaunchTemplateConfigRequest {
    let requests = overrides.iter().map(|it| {
        #[expect(clippy::cast_precision_loss, reason = "at most 300 offerings")]
        let priority = order.get(&it.key).filter(|_| prioritized).map(|index| *index as f64);
        FleetLaunchTemplateOverridesRequest::builder()
            .instance_type(it.key.instance_type.as_str().into())
            .subnet_id(&it.subnet_id)
            .availability_zone(&it.key.zone)
            .set_priority(priority)
            .build()
    });
    FleetLaunchTemplateConfigRequest::builder()
        .launch_template_specification(
            FleetLaunchTemplateSpecificationRequest::builder()
                .launch_template_name(template)
                .version("$Latest")
                .build(),
        )
        .set_overrides(Some(requests.collect()))
        .build()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{CreateFleetError, CreateFleetInstance, FleetLaunchTemplateOverrides, InstanceType};
    use units::UsdMicrosPerHour;

    use super::*;

    fn offer(name: &str, zone: &str, capacity_type: CapacityType, micros: i64) -> PricedOffering {
        PricedOffering { key: key(name, zone, capacity_type), price: UsdMicrosPerHour(micros) }
    }

    fn key(name: &str, zone: &str, capacity_type: CapacityType) -> OfferingKey {
        OfferingKey { instance_type: name.to_owned(), zone: zone.to_owned(), capacity_type }
    }

    fn asked() -> Vec<Override> {
        [("m5.large", "a"), ("m5.large", "b"), ("c5.large", "a")]
            .map(|(name, zone)| Override {
                key: key(name, zone, CapacityType::OnDemand),
                subnet_id: format!("subnet-{zone}"),
            })
            .to_vec()
    }

    fn about(name: &str, subnet: &str) -> LaunchTemplateAndOverridesResponse {
        let overrides =
            FleetLaunchTemplateOverrides::builder().instance_type(InstanceType::from(name)).subnet_id(subnet);
        LaunchTemplateAndOverridesResponse::builder().overrides(overrides.build()).build()
    }

    #[test]
    fn spot_wins_unless_it_is_dearer_and_exotics_lose() {
        use CapacityType::{OnDemand, Spot};
        let offerings = [
            offer("g4dn.xlarge", "a", Spot, 10),
            offer("m5.large", "a", Spot, 40),
            offer("c5.large", "a", OnDemand, 85),
            offer("m5.large", "b", Spot, 90),
            offer("m5.large", "a", OnDemand, 96),
        ];
        let exotic = |name: &str| name.starts_with('g');
        assert_eq!(choose(&offerings, |_| true, exotic), [key("m5.large", "a", Spot)]);
        let no_spot = |key: &OfferingKey| key.capacity_type != Spot;
        assert_eq!(
            choose(&offerings, no_spot, exotic),
            [key("c5.large", "a", OnDemand), key("m5.large", "a", OnDemand)]
        );
        assert_eq!(
            choose(&offerings[..1], |_| true, exotic),
            [key("g4dn.xlarge", "a", Spot)],
            "if nothing else is left"
        );
        assert_eq!(choose(&offerings, |_| false, exotic), []);
    }

    #[test]
    fn no_more_than_sixty_types_are_asked_for() {
        let offerings: Vec<_> = (0..70)
            .flat_map(|n| ["a", "b"].map(|zone| offer(&format!("t{n:02}"), zone, CapacityType::OnDemand, n)))
            .collect();
        let chosen = choose(&offerings, |_| true, |_| false);
        assert_eq!(chosen.len(), 120);
        assert!(chosen.iter().all(|key| key.instance_type.as_str() < "t60"));
    }

    #[test]
    fn the_subnet_with_the_most_addresses_is_taken_and_zones_without_one_are_left_out() {
        let subnet = |id: &str, zone: &str, free_addresses| Subnet { id: id.into(), zone: zone.into(), free_addresses };
        let subnets = [subnet("s1", "a", 5), subnet("s2", "a", 9), subnet("s3", "b", 1)];
        let keys = ["a", "b", "c"].map(|zone| key("m5.large", zone, CapacityType::OnDemand));
        let placed = |full: &str| -> Vec<String> {
            place(&keys, &subnets, |id| id == full).into_iter().map(|it| it.subnet_id).collect()
        };
        assert_eq!(placed("none"), ["s2", "s3"]);
        assert_eq!(placed("s2"), ["s1", "s3"]);
        assert_eq!(placed("s3"), ["s2"]);
    }

    #[test]
    fn an_instance_beside_errors_is_a_launch_that_also_teaches() {
        let instance = CreateFleetInstance::builder()
            .instance_ids("i-1")
            .instance_type(InstanceType::from("m5.large"))
            .lifecycle(InstanceLifecycle::OnDemand)
            .launch_template_and_overrides(about("m5.large", "subnet-b"))
            .build();
        let error = CreateFleetError::builder()
            .error_code("InsufficientInstanceCapacity")
            .launch_template_and_overrides(about("m5.large", "subnet-a"))
            .build();
        let outcome = read(&CreateFleetOutput::builder().instances(instance).errors(error).build(), &asked());
        let on_demand = CapacityType::OnDemand;
        assert_eq!(outcome.launched, Some(("i-1".to_owned(), key("m5.large", "b", on_demand), "subnet-b".to_owned())));
        assert_eq!(outcome.refused, [key("m5.large", "a", on_demand)]);
    }

    #[test]
    fn a_quota_is_told_in_the_words_of_ec2() {
        let error =
            |code: &str, message: &str| CreateFleetError::builder().error_code(code).error_message(message).build();
        let answer = CreateFleetOutput::builder()
            .errors(error("InsufficientInstanceCapacity", "no m5.large"))
            .errors(error("VcpuLimitExceeded", "your limit of 5"))
            .errors(error("MaxSpotInstanceCountExceeded", "later"))
            .build();
        let outcome = read(&answer, &asked());
        assert_eq!(outcome.said, "VcpuLimitExceeded: your limit of 5");
        assert!(asked().iter().all(|asked| outcome.over_quota.contains(&asked.key)), "{:?}", outcome.over_quota);
        let short = CreateFleetOutput::builder().errors(error("InsufficientInstanceCapacity", "no m5.large")).build();
        assert_eq!(read(&short, &asked()).over_quota, []);
    }

    #[test]
    fn a_full_subnet_says_nothing_about_the_types() {
        let error = CreateFleetError::builder()
            .error_code("InsufficientFreeAddressesInSubnet")
            .launch_template_and_overrides(about("m5.large", "subnet-a"))
            .build();
        let outcome = read(&CreateFleetOutput::builder().errors(error).build(), &asked());
        assert_eq!(outcome.refused, []);
        assert_eq!(outcome.full_subnets, BTreeSet::from(["subnet-a".to_owned()]));
        assert_eq!(outcome.without_address, [key("m5.large", "a", CapacityType::OnDemand)]);
    }

    #[test]
    fn missing_rights_are_told_the_same_each_time() {
        let refused = |blob: &str| {
            let text = format!("You are not authorized. Encoded authorization failure message: {blob}");
            let error = CreateFleetError::builder().error_code("UnauthorizedOperation").error_message(text).build();
            read(&CreateFleetOutput::builder().errors(error).build(), &asked())
        };
        assert_eq!(refused("one"), refused("two"));
        let text = "UnauthorizedOperation: You are not authorized.".to_owned();
        assert_eq!(refused("one").mistake, Some((Field::Permissions, text)));
    }

    #[test]
    fn an_error_without_details_is_about_everything() {
        let error = CreateFleetError::builder().error_code("UnfulfillableCapacity").build();
        let outcome = read(&CreateFleetOutput::builder().errors(error).build(), &asked());
        assert_eq!(outcome.refused.len(), 3);
        assert_eq!(outcome.launched, None);
    }

    #[test]
    fn a_mistake_is_told_apart_from_lack_of_capacity() {
        let error = CreateFleetError::builder()
            .error_code("InvalidParameterValue")
            .error_message("Value (x) for parameter iamInstanceProfile.name is invalid.")
            .build();
        let outcome = read(&CreateFleetOutput::builder().errors(error).build(), &asked());
        assert_eq!(outcome.mistake.map(|(field, _)| field), Some(Field::InstanceProfile));
        assert_eq!(outcome.refused, []);
    }

    #[test]
    fn ec2_follows_our_order_where_a_person_knows_the_prices_better() {
        let by = |spot, on_demand| strategies(spot, on_demand);
        let lowest = FleetOnDemandAllocationStrategy::LowestPrice;
        assert_eq!(by(false, false), (SpotAllocationStrategy::PriceCapacityOptimized, lowest.clone()));
        assert_eq!(by(true, false), (SpotAllocationStrategy::CapacityOptimizedPrioritized, lowest));
        let ordered = FleetOnDemandAllocationStrategy::Prioritized;
        assert_eq!(by(true, true), (SpotAllocationStrategy::CapacityOptimizedPrioritized, ordered));
        let key = OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: "a".to_owned(),
            capacity_type: CapacityType::OnDemand,
        };
        let overrides = [Override { key: key.clone(), subnet_id: "subnet-1".to_owned() }];
        let order = BTreeMap::from([(&key, 3)]);
        let priority = |prioritized| config("t", &overrides, &order, prioritized).overrides()[0].priority();
        assert_eq!((priority(true), priority(false)), (Some(3.0), None));
    }
}
