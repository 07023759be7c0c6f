//! Instance types and prices from a file.
//!
//! The format is the one Karpenter's KWOK provider takes: an array of types, each with its resources and its offerings.
//!
//! ```json
//! [{ "name": "m6a.large", "architecture": "amd64", "operatingSystems": ["linux"],
//!    "resources": { "cpu": "2", "memory": "8Gi", "pods": "29" },
//!    "offerings": [{ "Price": 0.0864, "Available": true, "Requirements": [
//!        { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
//!        { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["eu-west-1a"] } ] }] }]
//! ```
//!
//! Three fields more are understood: `overhead`, what the system keeps of the resources, `labels`, further labels of the
//! machine, and `Remaining` of an offering, how many machines there are, such as those reserved. What KWOK sets by itself is set here too: 110 pods, an overhead of 100m and 10Mi, and its own labels.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use requirements::{Requirement, Requirements, labels};
use scheduling::{InstanceType, Offering};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use units::{Amount, Quantity, ResourceList, ResourceName, UsdMicrosPerHour};

use crate::{BadInput, Document, Problem, problem::in_words};

/// Pods on a node of a type that names no number: the kubelet's own default.
const PODS_DEFAULT: i64 = 110;
/// What KWOK keeps of every machine. Unit: millicores and bytes.
const OVERHEAD_DEFAULT: (i64, i64) = (100, 10 << 20);
/// First part of the labels that KWOK sets.
const KWOK: &str = "karpenter.kwok.sh/instance-";

/// One type as the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// `linux`, `windows`.
    pub operating_systems: Vec<String>,
    /// All it has.
    pub resources: BTreeMap<String, Quantity>,
    /// What of it the system keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<BTreeMap<String, Quantity>>,
    /// Further labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where and how it can be bought.
    pub offerings: Vec<ListedOffering>,
}

/// One offering as the file has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct ListedOffering {
    /// Dollars an hour.
    pub price: f64,
    /// Whether it can be had now.
    #[serde(default = "yes")]
    pub available: bool,
    /// How many machines can be bought this way; without a number as many as you like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining: Option<u32>,
    /// `karpenter.sh/capacity-type` and `topology.kubernetes.io/zone`, each `In` one value.
    pub requirements: Vec<ListedRequirement>,
}

fn yes() -> bool {
    true
}

/// One requirement of an offering.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedRequirement {
    /// The label.
    pub key: String,
    /// `In`.
    pub operator: String,
    /// One value.
    pub values: Vec<String>,
}

/// The instance types of a catalogue document, by name.
pub fn types(document: &Document) -> Result<Arc<[InstanceType]>, BadInput> {
    let (found, problems) = sound_types(document);
    if problems.is_empty() { Ok(found) } else { Err(BadInput(problems)) }
}

/// The instance types of a catalogue document with which nothing is wrong, by name, without the offerings that something is
/// wrong with, and what is wrong with the others.
pub(crate) fn sound_types(document: &Document) -> (Arc<[InstanceType]>, Vec<Problem>) {
    let Value::Array(entries) = &document.value else {
        let message =
            "a catalogue is an array of instance types: [{\"name\": …, \"resources\": …, \"offerings\": […]}]";
        return (Arc::from([]), vec![Problem::at(&document.origin, message)]);
    };
    let (mut found, mut problems) = (BTreeMap::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let name = entry.get("name").and_then(Value::as_str).unwrap_or_default();
        let object = format!("instance type {}", if name.is_empty() { format!("[{index}]") } else { name.to_owned() });
        let problem =
            |field: String, message: String| Problem::at(&document.origin, message).of(object.as_str()).field(field);
        let (entry, wrong) = without_bad_offerings(entry);
        let none_left = !wrong.is_empty() && entry["offerings"].as_array().is_some_and(Vec::is_empty);
        problems.extend(wrong.into_iter().map(|(field, message)| problem(field, message)));
        match of_entry::<Listed>(&entry).and_then(|one| read(&one)) {
            Ok(one) if found.contains_key(&one.name) => {
                problems.push(problem("name".to_owned(), "there is one of this name already".to_owned()));
            }
            // What remains could not be bought.
            Ok(_) if none_left => {}
            Ok(one) => drop(found.insert(one.name.clone(), one)),
            Err((field, message)) => problems.push(problem(field, message)),
        }
    }
    (found.into_values().collect(), problems)
}

/// Path and message.
type Wrong = (String, String);

fn of_entry<T: DeserializeOwned>(entry: &Value) -> Result<T, Wrong> {
    let read: Result<T, _> = serde_path_to_error::deserialize(entry);
    read.map_err(|error| (error.path().to_string(), in_words(&error.inner().to_string())))
}

/// An entry without those of its offerings that cannot be read, and what is wrong with these.
fn without_bad_offerings(entry: &Value) -> (Value, Vec<Wrong>) {
    let (mut entry, mut wrong) = (entry.clone(), Vec::new());
    if let Some(Value::Array(offerings)) = entry.get_mut("offerings") {
        let mut index = 0;
        offerings.retain(|one| {
            let at = format!("offerings[{index}]");
            index += 1;
            let read = of_entry::<ListedOffering>(one).map_err(|(field, message)| match field.as_str() {
                "." => (at.clone(), message),
                field => (format!("{at}.{field}"), message),
            });
            read.and_then(|listed| offering(&listed, &at)).map_err(|found| wrong.push(found)).is_ok()
        });
    }
    (entry, wrong)
}

fn read(listed: &Listed) -> Result<InstanceType, Wrong> {
    if listed.name.is_empty() {
        return Err(("name".to_owned(), "must not be empty".to_owned()));
    }
    let mut capacity = resources(&listed.resources, "resources")?;
    for needed in [ResourceName::cpu(), ResourceName::memory()] {
        if capacity.get(&needed).is_zero() {
            return Err((format!("resources.{needed}"), "must be more than nothing".to_owned()));
        }
    }
    if capacity.named(&ResourceName::pods()).is_none() {
        capacity.set(ResourceName::pods(), Amount(PODS_DEFAULT));
    }
    let overhead = match &listed.overhead {
        Some(list) => resources(list, "overhead")?,
        None => ResourceList::new()
            .with(ResourceName::cpu(), Amount(OVERHEAD_DEFAULT.0))
            .with(ResourceName::memory(), Amount(OVERHEAD_DEFAULT.1)),
    };
    let offerings =
        listed.offerings.iter().enumerate().map(|(index, one)| offering(one, &format!("offerings[{index}]")));
    let offerings: Vec<Offering> = offerings.collect::<Result<_, _>>()?;
    let distinct: BTreeSet<_> = offerings.iter().map(|one| (&one.zone, one.capacity_type)).collect();
    if distinct.len() < offerings.len() {
        return Err(("offerings".to_owned(), "two of them have the same zone and capacity type".to_owned()));
    }
    let zones: BTreeSet<&str> = offerings.iter().map(|one| one.zone.as_str()).collect();
    let ways: BTreeSet<&str> = offerings.iter().map(|one| one.capacity_type.as_str()).collect();
    let mut requirements: Requirements = [
        Requirement::one_of(labels::INSTANCE_TYPE, [listed.name.as_str()]),
        Requirement::one_of(labels::ARCH, [listed.architecture.as_str()]),
        Requirement::one_of(labels::OS, listed.operating_systems.iter().map(String::as_str)),
        Requirement::one_of(labels::ZONE, zones),
        Requirement::one_of(labels::CAPACITY_TYPE, ways),
    ]
    .into_iter()
    .collect();
    for (key, value) in kwok_labels(listed).iter().chain(&listed.labels) {
        requirements.add(Requirement::one_of(key.as_str(), [value.as_str()]));
    }
    Ok(InstanceType { name: listed.name.clone(), requirements, capacity, overhead, offerings })
}

fn resources(list: &BTreeMap<String, Quantity>, field: &str) -> Result<ResourceList, Wrong> {
    let amount = |(name, quantity): (&String, &Quantity)| {
        let resource = ResourceName::new(name.as_str());
        match quantity.to_amount_floor(&resource) {
            _ if quantity.is_negative() => Err((format!("{field}.{name}"), format!("{quantity} is negative"))),
            Ok(amount) => Ok((resource, amount)),
            Err(error) => Err((format!("{field}.{name}"), error.to_string())),
        }
    };
    list.iter().map(amount).collect()
}

fn offering(listed: &ListedOffering, field: &str) -> Result<Offering, Wrong> {
    let (mut zone, mut capacity_type) = (None, None);
    for (index, one) in listed.requirements.iter().enumerate() {
        let at = format!("{field}.Requirements[{index}]");
        let ("In", [value]) = (one.operator.as_str(), one.values.as_slice()) else {
            return Err((at, format!("an offering has one value of {}: write operator In and one value", one.key)));
        };
        match one.key.as_str() {
            labels::ZONE => zone = Some(value.clone()),
            labels::CAPACITY_TYPE => capacity_type = Some(value.parse().map_err(|message| (at, message))?),
            // Nothing is decided by another label of an offering.
            _ => {}
        }
    }
    let missing = |key: &str| (format!("{field}.Requirements"), format!("{key} is missing"));
    let no_price = || {
        let written = format!("{:?}", listed.price);
        format!("{} is not a price", written.trim_end_matches(".0"))
    };
    Ok(Offering {
        zone: zone.ok_or_else(|| missing(labels::ZONE))?,
        capacity_type: capacity_type.ok_or_else(|| missing(labels::CAPACITY_TYPE))?,
        price: price(listed.price).ok_or_else(|| (format!("{field}.Price"), no_price()))?,
        available: listed.available,
        remaining: listed.remaining,
    })
}

/// Dollars an hour, if they are a price.
pub(crate) fn price(dollars: f64) -> Option<UsdMicrosPerHour> {
    UsdMicrosPerHour::from_usd_per_hour(dollars).filter(|price| *price >= UsdMicrosPerHour::ZERO)
}

/// The labels KWOK derives from a type's name and size.
fn kwok_labels(listed: &Listed) -> BTreeMap<String, String> {
    let cpu = listed.resources.get("cpu").map(ToString::to_string).unwrap_or_default();
    let memory = listed.resources.get("memory").map(ToString::to_string).unwrap_or_default();
    let family = listed.name.split(['.', '-']).next().filter(|family| *family != listed.name);
    let size = listed.name.split_once('.').map(|(_, size)| size).filter(|size| is_size(size));
    let first = listed.name.get(..1).unwrap_or_default();
    [
        ("family", family.unwrap_or(first).to_owned()),
        ("size", size.unwrap_or(&cpu).to_owned()),
        ("cpu", cpu),
        ("memory", memory),
    ]
    .into_iter()
    .map(|(name, value)| (format!("{KWOK}{name}"), value))
    .collect()
}

/// The sizes that KWOK takes from a name; others are called by their CPUs.
fn is_size(text: &str) -> bool {
    matches!(text, "nano" | "micro" | "small" | "medium" | "large" | "metal")
        || text.strip_suffix("xlarge").is_some_and(|times| times.bytes().all(|byte| byte.is_ascii_digit()))
}
