//! The EC2 instance types that are shipped, for those who bring no catalogue of their own.
//!
//! One region's types at their list prices, on demand. What pods get of a machine follows the formulas of Karpenter's AWS
//! provider of generation 1: 7.5 % of the memory for the hypervisor (and 64 MiB on arm64), EKS's reservation for the
//! kubelet, 100 MiB against eviction, a root disk of 20 GiB, and pods as the VPC CNI's addresses allow.

use std::{collections::BTreeMap, sync::Arc};

use requirements::{Requirement, Requirements, labels};
use scheduling::{CapacityType, InstanceType, Offering};
use units::{Amount, ResourceList, ResourceName, UsdMicrosPerHour};

/// The table, as `data/ec2_types.py` writes it.
const TABLE: &str = include_str!("../data/ec2-us-east-1.txt");
/// What the table is, for people.
pub const ABOUT: &str = "EC2 on-demand list prices of us-east-1, February 2026";

const REGION: &str = "us-east-1";
const PREFIX: &str = "karpenter.k8s.aws/instance-";
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
/// Root disk. Unit: GiB.
const DISK: i64 = 20;

/// The types, by name.
pub fn types() -> Arc<[InstanceType]> {
    let rows = TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut types: Vec<InstanceType> =
        rows.map(|row| instance_type(row).expect("the shipped table is well formed: a test reads all of it")).collect();
    types.sort_by(|a, b| a.name.cmp(&b.name));
    types.into()
}

fn instance_type(row: &str) -> Option<InstanceType> {
    let mut columns = row.split_ascii_whitespace();
    let (name, arch) = (columns.next()?, columns.next()?);
    let mut number = || columns.next()?.parse::<i64>().ok();
    let (cpus, memory_mib, pods, micros) = (number()?, number()?, number()?, number()?);
    // The zones' letters differ from account to account; here the digits of their IDs count.
    let zones = columns.next()?.bytes().map(|digit| format!("{REGION}{}", char::from(b'a' + (digit - b'1'))));
    let zones: Vec<String> = zones.collect();
    let extras: BTreeMap<&str, &str> = columns.filter_map(|pair| pair.split_once('=')).collect();

    let seen = memory_mib - if arch == "arm64" { 64 } else { 0 };
    let hypervisor = (seen * 75 + 999) / 1000;
    let mut capacity = ResourceList::new()
        .with(ResourceName::cpu(), Amount(cpus * 1000))
        .with(ResourceName::memory(), Amount((seen - hypervisor) * MIB))
        .with(ResourceName::ephemeral_storage(), Amount(DISK * GIB))
        .with(ResourceName::pods(), Amount(pods));
    let count = |key: &str| extras.get(key).and_then(|text| text.parse::<i64>().ok());
    let gpu = match extras.get("gpu-maker") {
        Some(&"nvidia") => Some("nvidia.com/gpu"),
        Some(&"amd") => Some("amd.com/gpu"),
        Some(&"habana") => Some("habana.ai/gaudi"),
        _ => None,
    };
    let neuron_cores = count("neuron").zip(count("neuron-cores")).map(|(devices, cores)| devices * cores);
    let devices = [
        (gpu, count("gpu")),
        (Some("aws.amazon.com/neuron"), count("neuron")),
        (Some("aws.amazon.com/neuroncore"), neuron_cores),
    ];
    for (name, count) in devices {
        if let (Some(name), Some(count)) = (name, count) {
            capacity.set(name.into(), Amount(count));
        }
    }
    let overhead = ResourceList::new()
        .with(ResourceName::cpu(), Amount(reserved_millicores(cpus)))
        .with(ResourceName::memory(), Amount((11 * pods + 255 + 100) * MIB))
        .with(ResourceName::ephemeral_storage(), Amount(GIB + DISK * GIB / 10));

    let mut requirements: Requirements = [
        Requirement::one_of(labels::REGION, [REGION]),
        Requirement::one_of(labels::ZONE, zones.iter().map(String::as_str)),
        Requirement::one_of(labels::CAPACITY_TYPE, [CapacityType::OnDemand.as_str()]),
    ]
    .into_iter()
    .collect();
    for (key, value) in machine_labels(name, arch, cpus, memory_mib, &extras) {
        requirements.add(Requirement::one_of(key, [value]));
    }
    let offerings = zones.into_iter().map(|zone| Offering {
        zone,
        capacity_type: CapacityType::OnDemand,
        price: UsdMicrosPerHour(micros),
        available: true,
        remaining: None,
    });
    Some(InstanceType { name: name.to_owned(), requirements, capacity, overhead, offerings: offerings.collect() })
}

/// 6 % of the first core, 1 % of the second, 0.5 % of the next two, 0.25 % of the rest; in millicores, rounded down.
fn reserved_millicores(cores: i64) -> i64 {
    let beyond = |first: i64, last: i64| (cores.min(last) - first).max(0);
    // In quarters of a percent of a core: ten millicores are four of them.
    let quarters = beyond(0, 1) * 24 + beyond(1, 2) * 4 + beyond(2, 4) * 2 + beyond(4, i64::MAX);
    quarters * 10 / 4
}

fn machine_labels(
    name: &str,
    arch: &str,
    cpus: i64,
    memory_mib: i64,
    extras: &BTreeMap<&str, &str>,
) -> BTreeMap<String, String> {
    let (family, size) = name.split_once('.').unwrap_or((name, ""));
    let mut found: BTreeMap<String, String> = [
        (labels::INSTANCE_TYPE.to_owned(), name.to_owned()),
        (labels::ARCH.to_owned(), arch.to_owned()),
        (labels::OS.to_owned(), "linux".to_owned()),
    ]
    .into();
    let mut set = |key: &str, value: &str| {
        found.insert(format!("{PREFIX}{key}"), value.to_owned());
    };
    set("family", family);
    set("size", size);
    set("cpu", &cpus.to_string());
    set("memory", &memory_mib.to_string());
    set("capability-flex", if family.contains("-flex") { "true" } else { "false" });
    set("encryption-in-transit-supported", extras.get("crypt").unwrap_or(&"false"));
    let letters = family.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(family.len());
    // u-6tb1: the size in terabytes stands between letters and generation.
    let rest = &family[letters..];
    let rest = rest.strip_prefix('-').and_then(|rest| rest.split_once("tb")).map_or(rest, |(_, rest)| rest);
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    if letters > 0 && digits > 0 {
        set("category", &family[..letters]);
        set("generation", &rest[..digits]);
    }
    let named = [
        ("hypervisor", "hypervisor"),
        ("maker", "cpu-manufacturer"),
        ("nvme", "local-nvme"),
        ("net", "network-bandwidth"),
        ("ebs", "ebs-bandwidth"),
        ("gpu", "gpu-count"),
        ("gpu-maker", "gpu-manufacturer"),
        ("gpu-name", "gpu-name"),
        ("gpu-memory", "gpu-memory"),
        ("neuron", "accelerator-count"),
        ("neuron-name", "accelerator-name"),
    ];
    for (ours, label) in named {
        if let Some(value) = extras.get(ours) {
            set(label, value);
        }
    }
    if extras.contains_key("neuron") {
        set("accelerator-manufacturer", "aws");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table_reads_and_its_machines_have_what_their_kubelets_report() {
        let types = types();
        assert!(types.len() > 900, "{}", types.len());
        assert!(types.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(types.iter().all(|one| !one.offerings.is_empty() && one.offerings.iter().all(|o| o.price.0 > 0)));
        let said = |name: &str| {
            let one = types.iter().find(|one| one.name == name).unwrap();
            let value = |key: &str| one.requirements.get(&format!("{PREFIX}{key}")).and_then(|r| r.single());
            format!("{}; {:?} {:?}", one.allocatable(), value("category"), value("generation"))
        };
        // The allocatable of m5.large and c6g.xlarge is published in the AWS provider's reference of instance types.
        assert_eq!(
            said("m5.large"),
            "cpu: 1930m, ephemeral-storage: 17Gi, memory: 6903Mi, pods: 29; Some(\"m\") Some(\"5\")"
        );
        assert_eq!(
            said("c6g.xlarge"),
            "cpu: 3920m, ephemeral-storage: 17Gi, memory: 6525Mi, pods: 58; Some(\"c\") Some(\"6\")"
        );
        assert_eq!(
            said("g5.xlarge"),
            "cpu: 3920m, ephemeral-storage: 17Gi, memory: 14162Mi, nvidia.com/gpu: 1, pods: 58; Some(\"g\") Some(\"5\")"
        );
    }
}
