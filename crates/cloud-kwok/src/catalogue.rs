//! A catalogue of machine types from a file, in the format that Karpenter's KWOK provider reads (`INSTANCE_TYPES_FILE_PATH`).
//!
//! ```json
//! [{ "name": "m5.large", "architecture": "amd64", "operatingSystems": ["linux"],
//!    "resources": { "cpu": "2", "memory": "8Gi", "pods": "29", "ephemeral-storage": "20Gi" },
//!    "offerings": [{ "Price": 0.096, "Available": true, "Requirements": [
//!      { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
//!      { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["zone-a"] }] }] }]
//! ```

use std::collections::{BTreeMap, BTreeSet};

use requirements::labels::{ARCH, CAPACITY_TYPE, INSTANCE_TYPE, OS, ZONE};
use requirements::{Requirement, Requirements};
use scheduling::{CapacityType, InstanceType, Offering};
use serde::Deserialize;
use units::{Amount, Quantity, ResourceList, ResourceName, UsdMicrosPerHour};

/// Label: CPUs of the type.
pub const CPU_LABEL: &str = "karpenter.kwok.sh/instance-cpu";
/// Label: memory of the type, such as `16Gi`.
pub const MEMORY_LABEL: &str = "karpenter.kwok.sh/instance-memory";
/// Label: what the type's name begins with, such as `m5`.
pub const FAMILY_LABEL: &str = "karpenter.kwok.sh/instance-family";
/// Label: the size in an AWS name, such as `2xlarge`; the CPUs of any other type.
pub const SIZE_LABEL: &str = "karpenter.kwok.sh/instance-size";

/// What the system keeps of every type of a file, as in Karpenter: millicores, bytes.
const OVERHEAD: (i64, i64) = (100, 10 << 20);
/// Pods of a type that does not say. Kubernetes' default.
const PODS: i64 = 110;

/// Why a file is not a catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not JSON, or not of the right shape.
    #[error("not a list of instance types: {0}")]
    Shape(#[from] serde_json::Error),
    /// A type that cannot be used.
    #[error("instance type {name:?}: {what}")]
    Type {
        /// Its name.
        name: String,
        /// The field and what is wrong with it.
        what: String,
    },
    /// There is nothing to rent.
    #[error("there is no instance type in it")]
    Empty,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    architecture: String,
    operating_systems: Vec<String>,
    resources: BTreeMap<String, String>,
    offerings: Vec<EntryOffering>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EntryOffering {
    price: f64,
    #[serde(default = "yes")]
    available: bool,
    requirements: Vec<EntryRequirement>,
}

#[derive(Debug, Deserialize)]
struct EntryRequirement {
    key: String,
    operator: String,
    values: Vec<String>,
}

fn yes() -> bool {
    true
}

/// Reads a catalogue. The types come sorted by name.
///
/// # Errors
/// The first type that cannot be used, with its field.
pub fn parse(text: &str) -> Result<Vec<InstanceType>, CatalogueError> {
    let entries: Vec<Entry> = serde_json::from_str(text)?;
    let mut types = BTreeMap::new();
    for entry in entries {
        let name = entry.name.clone();
        let wrong = |what| CatalogueError::Type { name: name.clone(), what };
        let it = instance_type(entry).map_err(wrong)?;
        if types.insert(name.clone(), it).is_some() {
            return Err(wrong("is there twice".to_owned()));
        }
    }
    if types.is_empty() { Err(CatalogueError::Empty) } else { Ok(types.into_values().collect()) }
}

fn instance_type(entry: Entry) -> Result<InstanceType, String> {
    let mut capacity = ResourceList::new().with(ResourceName::pods(), Amount(PODS));
    for (name, text) in &entry.resources {
        let name = ResourceName::new(name.as_str());
        let quantity = text.parse::<Quantity>().map_err(|error| format!("resources.{name}: {error}"))?;
        let amount = quantity.to_amount_floor(&name).map_err(|error| format!("resources.{name}: {error}"))?;
        if amount.0 < 0 {
            return Err(format!("resources.{name}: must not be negative"));
        }
        capacity.set(name, amount);
    }
    for name in [ResourceName::cpu(), ResourceName::memory()] {
        if capacity.get(&name).is_zero() {
            return Err(format!("resources.{name}: must be given"));
        }
    }
    let offering = |(index, written): (usize, &EntryOffering)| {
        offering(written).map_err(|what| format!("offerings[{index}].{what}"))
    };
    let offerings: Vec<Offering> = entry.offerings.iter().enumerate().map(offering).collect::<Result<_, _>>()?;
    let zones: BTreeSet<&str> = offerings.iter().map(|one| one.zone.as_str()).collect();
    let kinds: BTreeSet<&str> = offerings.iter().map(|one| one.capacity_type.as_str()).collect();
    let pairs: BTreeSet<_> = offerings.iter().map(|one| (one.zone.as_str(), one.capacity_type)).collect();
    if pairs.len() != offerings.len() {
        return Err("offerings: two have the same zone and capacity type".to_owned());
    }
    let requirements: Requirements = [
        Requirement::one_of(INSTANCE_TYPE, [entry.name.as_str()]),
        Requirement::one_of(ARCH, [entry.architecture.as_str()]),
        Requirement::one_of(OS, entry.operating_systems.iter().map(String::as_str)),
        Requirement::one_of(ZONE, zones),
        Requirement::one_of(CAPACITY_TYPE, kinds),
    ]
    .into_iter()
    .collect();
    let overhead = ResourceList::new()
        .with(ResourceName::cpu(), Amount(OVERHEAD.0))
        .with(ResourceName::memory(), Amount(OVERHEAD.1));
    Ok(labelled(InstanceType { name: entry.name, requirements, capacity, overhead, offerings }))
}

fn offering(written: &EntryOffering) -> Result<Offering, String> {
    let price = UsdMicrosPerHour::from_usd_per_hour(written.price).filter(|price| price.0 >= 0);
    let price = price.ok_or_else(|| format!("Price: {} is no price", written.price))?;
    let (mut zone, mut capacity_type) = (None, None);
    for (index, requirement) in written.requirements.iter().enumerate() {
        let field = format!("Requirements[{index}]");
        let (operator, [value]) = (requirement.operator.as_str(), &requirement.values[..]) else {
            return Err(format!("{field}.values: exactly one is expected"));
        };
        if operator != "In" {
            return Err(format!("{field}.operator: {operator:?} is not In"));
        }
        match requirement.key.as_str() {
            ZONE => zone = Some(value.clone()),
            CAPACITY_TYPE => {
                let found = value.parse::<CapacityType>();
                capacity_type = Some(found.map_err(|_| format!("{field}.values: {value:?} is no capacity type"))?);
            }
            other => return Err(format!("{field}.key: {other} is neither {ZONE} nor {CAPACITY_TYPE}")),
        }
    }
    Ok(Offering {
        zone: zone.ok_or_else(|| format!("Requirements: {ZONE} is missing"))?,
        capacity_type: capacity_type.ok_or_else(|| format!("Requirements: {CAPACITY_TYPE} is missing"))?,
        price,
        available: written.available,
        remaining: None,
    })
}

/// A type with the labels that Karpenter's KWOK provider gives its nodes.
pub(crate) fn labelled(mut it: InstanceType) -> InstanceType {
    let text = |name: ResourceName| Quantity::of(&name, it.capacity.get(&name)).to_string();
    let (cpu, memory) = (text(ResourceName::cpu()), text(ResourceName::memory()));
    let size = size(&it.name).unwrap_or(&cpu).to_owned();
    let family = family(&it.name).to_owned();
    for (key, value) in [(CPU_LABEL, cpu), (MEMORY_LABEL, memory), (SIZE_LABEL, size), (FAMILY_LABEL, family)] {
        it.requirements.add(Requirement::one_of(key, [value]));
    }
    it
}

/// `m5.2xlarge` → `2xlarge`; names of others have no size.
fn size(name: &str) -> Option<&str> {
    let (family, size) = name.split_once('.')?;
    let word = family.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let named = matches!(size, "nano" | "micro" | "small" | "medium" | "large" | "metal");
    let numbered = size.strip_suffix("xlarge").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
    (word && !family.is_empty() && (named || numbered)).then_some(size)
}

/// `m5.2xlarge` → `m5`, `c-4x-amd64-linux` → `c`; else the first character.
fn family(name: &str) -> &str {
    match name.split_once(['.', '-']) {
        Some((family, _)) => family,
        None => name.char_indices().nth(1).map_or(name, |(second, _)| &name[..second]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn offering(kind: &str, zone: &str, price: f64) -> Value {
        json!({ "Price": price, "Available": true, "Requirements": [
            { "key": "karpenter.sh/capacity-type", "operator": "In", "values": [kind] },
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": [zone] } ] })
    }

    fn entry(name: &str) -> Value {
        json!({
            "name": name, "architecture": "amd64", "operatingSystems": ["linux"],
            "resources": { "cpu": "8", "memory": "16384Mi", "pods": "58", "ephemeral-storage": "20Gi" },
            "offerings": [offering("spot", "zone-a", 0.1224), offering("on-demand", "zone-b", 0.306)],
        })
    }

    fn with(pointer: &str, value: Value) -> Value {
        let mut entry = entry("c6a.2xlarge");
        *entry.pointer_mut(pointer).unwrap() = value;
        entry
    }

    #[test]
    fn a_type_is_read_with_its_offerings_overhead_and_labels() {
        let types = parse(&json!([entry("m5.large"), entry("c6a.2xlarge")]).to_string()).unwrap();
        assert_eq!(types.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["c6a.2xlarge", "m5.large"]);
        let it = &types[0];
        assert_eq!(it.capacity.to_string(), "cpu: 8, ephemeral-storage: 20Gi, memory: 16Gi, pods: 58");
        assert_eq!(it.allocatable().to_string(), "cpu: 7900m, ephemeral-storage: 20Gi, memory: 16374Mi, pods: 58");
        let offered: Vec<_> = it.offerings.iter().map(|one| (one.zone.as_str(), one.price.0, one.available)).collect();
        assert_eq!(offered, [("zone-a", 122_400, true), ("zone-b", 306_000, true)]);
        let labels = it.requirements.single_values();
        let found = [CPU_LABEL, MEMORY_LABEL, FAMILY_LABEL, SIZE_LABEL].map(|key| labels[key].as_str());
        assert_eq!(found, ["8", "16Gi", "c6a", "2xlarge"]);
        assert!(it.requirements.get(ZONE).unwrap().allows(Some("zone-b")));
    }

    #[test]
    fn names_of_every_vendor_have_a_family_and_only_those_of_aws_a_size() {
        let table = [
            ("m5.metal", "m5", Some("metal")),
            ("t3.xlarge", "t3", Some("xlarge")),
            ("u-6tb1.56xlarge", "u", None),
            ("n2-standard-8", "n2", None),
            ("Standard_D2s_v3", "S", None),
            ("c-4x-amd64-linux", "c", None),
            ("m5.huge", "m5", None),
        ];
        for (name, wanted_family, wanted_size) in table {
            assert_eq!((family(name), size(name)), (wanted_family, wanted_size), "{name}");
        }
    }

    #[test]
    fn pods_have_a_default_and_what_is_sold_out_stays_so() {
        let mut entry = with("/offerings/0/Available", json!(false));
        entry["resources"].as_object_mut().unwrap().remove("pods");
        let types = parse(&json!([entry]).to_string()).unwrap();
        assert_eq!(types[0].capacity.get(&ResourceName::pods()), Amount(110));
        assert_eq!(types[0].offerings.iter().map(|one| one.available).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let table = [
            (with("/resources/cpu", json!("eight")), "resources.cpu: "),
            (with("/resources/memory", json!("0")), "resources.memory: must be given"),
            (with("/offerings/1/Price", json!(-1.0)), "offerings[1].Price: -1 is no price"),
            (
                with("/offerings/0/Requirements", json!([])),
                "offerings[0].Requirements: topology.kubernetes.io/zone is missing",
            ),
            (
                with("/offerings/0/Requirements/0/values", json!(["a", "b"])),
                "offerings[0].Requirements[0].values: exactly one",
            ),
            (with("/offerings/0/Requirements/0/values", json!(["free"])), "\"free\" is no capacity type"),
            (with("/offerings/0/Requirements/1/operator", json!("NotIn")), "operator: \"NotIn\" is not In"),
            (with("/offerings/0/Requirements/1/key", json!("rack")), "rack is neither"),
            (with("/offerings/1", offering("spot", "zone-a", 1.0)), "two have the same zone"),
        ];
        for (entry, wanted) in table {
            let said = parse(&json!([entry]).to_string()).unwrap_err().to_string();
            assert!(said.starts_with("instance type \"c6a.2xlarge\": ") && said.contains(wanted), "{said}");
        }
        assert!(
            parse(&json!([entry("a"), entry("a")]).to_string()).unwrap_err().to_string().contains("is there twice")
        );
        assert!(matches!(parse("[]"), Err(CatalogueError::Empty)));
        assert!(matches!(parse("{}"), Err(CatalogueError::Shape(_))));
    }
}
