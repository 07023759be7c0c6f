//! A small catalogue of made-up machine types, for providers without a vendor behind them.

use requirements::labels::{ARCH, CAPACITY_TYPE, INSTANCE_TYPE, OS, REGION, ZONE};
use requirements::{Requirement, Requirements};
use scheduling::{CapacityType, InstanceType, Offering};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

/// Region of the made-up machines.
pub const GENERIC_REGION: &str = "local";

/// Zones of the made-up machines, where nobody chooses others.
pub const GENERIC_ZONES: [&str; 3] = ["local-a", "local-b", "local-c"];

/// Families: letter and GiB of memory for each CPU.
const FAMILIES: [(&str, i64); 3] = [("c", 2), ("s", 4), ("m", 8)];

/// CPUs of the sizes.
const SIZES: [i64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Micro-dollars an hour for a CPU, for a GiB, and the share of the price on arm64 and on spot, in percent.
///
/// Near what large vendors ask, so that plans made with these types look like real ones.
const PRICE: (i64, i64, i64, i64) = (25_000, 3_500, 80, 70);

/// What the system keeps for itself.
const OVERHEAD: (i64, i64) = (100, 256 << 20);

/// Types named `FAMILY-CPUSx-ARCH` (`s-4x-amd64-linux`), each in every zone, on demand and spot.
///
/// Families `c`, `s`, `m` with 2, 4 and 8 GiB for each CPU, 1 to 64 CPUs, amd64 and arm64: 42 types.
pub fn generic_types(zones: &[&str]) -> Vec<InstanceType> {
    let mut types = Vec::new();
    for (family, gib_per_cpu) in FAMILIES {
        for cpus in SIZES {
            for arch in ["amd64", "arm64"] {
                types.push(generic_type(family, cpus, cpus * gib_per_cpu, arch, zones));
            }
        }
    }
    types.sort_by(|a, b| a.name.cmp(&b.name));
    types
}

fn generic_type(family: &str, cpus: i64, gib: i64, arch: &str, zones: &[&str]) -> InstanceType {
    let name = format!("{family}-{cpus}x-{arch}-linux");
    let (per_cpu, per_gib, arm_percent, spot_percent) = PRICE;
    let list = cpus * per_cpu + gib * per_gib;
    let price = if arch == "arm64" { list * arm_percent / 100 } else { list };
    let offerings = zones
        .iter()
        .flat_map(|zone| {
            let offering = |capacity_type, micros| Offering {
                zone: (*zone).to_owned(),
                capacity_type,
                price: UsdMicrosPerHour(micros),
                available: true,
                remaining: None,
            };
            [offering(CapacityType::Spot, price * spot_percent / 100), offering(CapacityType::OnDemand, price)]
        })
        .collect();
    let requirements: Requirements = [
        Requirement::one_of(INSTANCE_TYPE, [name.as_str()]),
        Requirement::one_of(ARCH, [arch]),
        Requirement::one_of(OS, ["linux"]),
        Requirement::one_of(REGION, [GENERIC_REGION]),
        Requirement::one_of(ZONE, zones.iter().copied()),
        Requirement::one_of(CAPACITY_TYPE, ["spot", "on-demand"]),
    ]
    .into_iter()
    .collect();
    InstanceType {
        requirements,
        capacity: ResourceList::new()
            .with(ResourceName::cpu(), Amount(cpus * 1000))
            .with(ResourceName::memory(), Amount(gib << 30))
            .with(ResourceName::ephemeral_storage(), Amount(20 << 30))
            .with(ResourceName::pods(), Amount((cpus * 16).clamp(16, 256))),
        overhead: ResourceList::new()
            .with(ResourceName::cpu(), Amount(OVERHEAD.0))
            .with(ResourceName::memory(), Amount(OVERHEAD.1)),
        offerings,
        name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_everything_is_offered_everywhere() {
        let types = generic_types(&GENERIC_ZONES);
        assert_eq!(types.len(), 42);
        assert!(types.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(types.iter().all(|it| it.offerings.len() == 2 * GENERIC_ZONES.len()));
        assert!(types.iter().all(|it| it.allocatable().get(&ResourceName::cpu()).0 >= 900));
    }

    #[test]
    fn spot_is_cheaper_than_on_demand() {
        for it in generic_types(&["a"]) {
            assert!(it.offerings[0].price < it.offerings[1].price && it.offerings[0].price.0 > 0, "{}", it.name);
        }
    }
}
