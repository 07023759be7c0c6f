//! Packing instances (`node-packing-instance/1`): shapes of pods, counted, and a table of types.
//!
//! What a shape demands is written as a cluster's own pods would demand it, so that the solver is measured on what it does
//! in clusters: zone, architecture and capacity type as node selectors, a spread over zones as a topology spread
//! constraint, at most one on a node as an anti-affinity, at most k as a spread over host names, and labels of which a
//! node holds one as host ports. Types with GPUs belong to a pool of their own, which taints its nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use requirements::{Requirement, Requirements, labels};
use scheduling::{
    CapacityType, HostPort, InstanceType, LabelSelector, NodeInclusion, Offering, OwnerKey, Pod, PodAffinityTerm,
    PodKey, Pool, PoolKey, PoolKind, Protocol, Snapshot, Strength, Taint, TaintEffect, Toleration, TolerationOperator,
    TopologySpread, WhenUnsatisfiable,
};
use serde::Deserialize;
use serde_json::Value;
use units::{Amount, ResourceList, ResourceName};

use crate::{BadInput, Document, Problem, catalogue::price, documents, problem::in_words, workloads};

const FORMAT: &str = "node-packing-instance/1";
const GPU: &str = "nvidia.com/gpu";
const MIB: i64 = 1 << 20;
/// More than any machine has of anything, and little enough to be counted in bytes. Unit: MiB, or millicores.
const MOST_ASKED: i64 = 1 << 40;
/// No region has so many zones, and no node so many DaemonSets.
const MOST_ZONES: usize = 100;
const MOST_DAEMONS: i64 = 1000;
/// The label that says which shape a pod is of.
const SHAPE: &str = "shape";
/// The first of the host ports that stand for labels of which a node holds one.
const FIRST_PORT: u16 = 20_000;

/// Reads an instance whose types are in it, or in the instance beside it that it names.
pub fn read(path: &Path) -> Result<Snapshot, BadInput> {
    let documents = documents::read(path)?;
    match documents.as_slice() {
        [one] => from_document(one, path, None),
        _ => Err(Problem::of_file(path.display().to_string(), "an instance is one document").into()),
    }
}

/// Whether a document says that it is an instance, of whatever version.
pub(crate) fn is_one(value: &Value) -> bool {
    value.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("node-packing-instance/"))
}

/// `types`: what to take instead of its own.
pub(crate) fn from_document(
    document: &Document,
    path: &Path,
    types: Option<Arc<[InstanceType]>>,
) -> Result<Snapshot, BadInput> {
    let instance = parse(document)?;
    let problem = |field: &str, message: String| BadInput::from(Problem::at(&document.origin, message).field(field));
    let types = match (&instance.types_from, types) {
        (_, Some(types)) => types,
        (None, None) => instance.types().map_err(|(field, message)| problem(&field, message))?,
        (Some(name), None) => {
            let beside = path.with_file_name(format!("{name}.json"));
            if !beside.is_file() {
                let message = format!("the types are those of {name:?}: name its file with --types FILE");
                return Err(problem("types_from", message));
            }
            crate::input::read_types(&beside)?
        }
    };
    instance.snapshot(types).map_err(|(field, message)| problem(&field, message))
}

/// The types of an instance.
pub(crate) fn types_of(document: &Document) -> Result<Arc<[InstanceType]>, BadInput> {
    let instance = parse(document)?;
    let types = match &instance.types_from {
        // It could lead round in a circle.
        Some(name) => Err((
            "types_from".to_owned(),
            format!("it takes its types from {name:?} itself: name the file that has them with --types FILE"),
        )),
        None => instance.types(),
    };
    types.map_err(|(field, message)| Problem::at(&document.origin, message).field(field).into())
}

fn parse(document: &Document) -> Result<Instance, BadInput> {
    let wrong = |field: String, message: String| BadInput::from(Problem::at(&document.origin, message).field(field));
    let format = document.value.get("format").and_then(Value::as_str).unwrap_or_default();
    if format != FORMAT {
        return Err(wrong("format".to_owned(), format!("{format:?} is not known here: {FORMAT:?} is")));
    }
    let instance: Instance = serde_path_to_error::deserialize(&document.value)
        .map_err(|error| wrong(error.path().to_string(), in_words(&error.inner().to_string())))?;
    if !(1..=MOST_ZONES).contains(&instance.zones) {
        return Err(wrong("zones".to_owned(), format!("{} is not between 1 and {MOST_ZONES}", instance.zones)));
    }
    Ok(instance)
}

/// An instance as it is written; results and best plans in it are not looked at.
#[derive(Debug, Deserialize)]
struct Instance {
    capacity_types: Vec<String>,
    zones: usize,
    daemonset_per_node: Daemons,
    #[serde(default)]
    types_from: Option<String>,
    #[serde(default)]
    type_columns: Vec<String>,
    #[serde(default)]
    types: Vec<Vec<Value>>,
    shapes: Vec<Shape>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Daemons {
    cpu_m: i64,
    memory_mib: i64,
    pods: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    id: u64,
    count: usize,
    cpu_m: i64,
    memory_mib: i64,
    #[serde(default)]
    ephemeral_mib: i64,
    #[serde(default)]
    gpu: i64,
    #[serde(default)]
    arch: Option<String>,
    #[serde(default)]
    capacity_type: Option<CapacityType>,
    #[serde(default)]
    zone: Option<usize>,
    #[serde(default)]
    zone_spread_max_skew: Option<u32>,
    #[serde(default)]
    max_per_node: Option<u32>,
    #[serde(default)]
    exclusive_on_node: Vec<String>,
}

/// Path and message.
type Wrong = (String, String);

fn zone_name(index: usize) -> String {
    format!("zone-{index}")
}

impl Instance {
    fn types(&self) -> Result<Arc<[InstanceType]>, Wrong> {
        let ways = self.capacity_types.iter().enumerate().map(|(index, text)| {
            text.parse::<CapacityType>().map_err(|message| (format!("capacity_types[{index}]"), message))
        });
        let ways: Vec<CapacityType> = ways.collect::<Result<_, _>>()?;
        let column = |name: &str| self.type_columns.iter().position(|column| column == name);
        let mut found = BTreeMap::new();
        for (index, row) in self.types.iter().enumerate() {
            let row = Row { at: format!("types[{index}]"), column: &column, values: row };
            let one = instance_type(&row, &ways, self.zones)?;
            if found.contains_key(&one.name) {
                return Err((row.at, format!("there is a type {} already", one.name)));
            }
            found.insert(one.name.clone(), one);
        }
        if found.is_empty() {
            return Err(("types".to_owned(), "there are none, and no types_from".to_owned()));
        }
        Ok(found.into_values().collect())
    }

    /// Says what is more than can be planned for, before anything is made of it.
    fn bounded(&self) -> Result<(), Wrong> {
        let Daemons { cpu_m, memory_mib, pods } = self.daemonset_per_node;
        let mut amounts = vec![
            ("daemonset_per_node.cpu_m".to_owned(), cpu_m),
            ("daemonset_per_node.memory_mib".to_owned(), memory_mib),
        ];
        if !(0..=MOST_DAEMONS).contains(&pods) {
            return Err(("daemonset_per_node.pods".to_owned(), format!("{pods} is not between 0 and {MOST_DAEMONS}")));
        }
        let mut total = 0_usize;
        for (index, shape) in self.shapes.iter().enumerate() {
            let at = |field: &str| format!("shapes[{index}].{field}");
            total = total.saturating_add(shape.count);
            workloads::at_once(total).map_err(|message| (at("count"), message))?;
            let asked = [
                ("cpu_m", shape.cpu_m),
                ("memory_mib", shape.memory_mib),
                ("ephemeral_mib", shape.ephemeral_mib),
                ("gpu", shape.gpu),
            ];
            amounts.extend(asked.map(|(field, amount)| (at(field), amount)));
        }
        match amounts.into_iter().find(|(_, amount)| !(0..=MOST_ASKED).contains(amount)) {
            Some((field, amount)) => Err((field, format!("{amount} is not between 0 and {MOST_ASKED}"))),
            None => Ok(()),
        }
    }

    fn snapshot(&self, types: Arc<[InstanceType]>) -> Result<Snapshot, Wrong> {
        let has_gpu = |one: &InstanceType| !one.capacity.get(&GPU.into()).is_zero();
        let (gpu_types, plain_types): (Vec<_>, Vec<_>) = types.iter().cloned().partition(has_gpu);
        let mut pools = Vec::new();
        if gpu_types.is_empty() {
            pools.push(pool("default", types, Vec::new()));
        } else {
            let taint = Taint { key: GPU.to_owned(), value: String::new(), effect: TaintEffect::NoSchedule };
            pools.push(pool("default", plain_types.into(), Vec::new()));
            pools.push(pool("gpu", gpu_types.into(), vec![taint]));
        }
        let exclusive: BTreeSet<&str> =
            self.shapes.iter().flat_map(|shape| shape.exclusive_on_node.iter().map(String::as_str)).collect();
        let ports: BTreeMap<&str, u16> = exclusive.into_iter().zip(FIRST_PORT..).collect();
        self.bounded()?;
        let mut pods = Vec::new();
        for (index, shape) in self.shapes.iter().enumerate() {
            if shape.zone.is_some_and(|zone| zone >= self.zones) {
                return Err((format!("shapes[{index}].zone"), format!("there are zones 0 to {}", self.zones - 1)));
            }
            let like = shape.pod(&ports);
            for number in 0..shape.count {
                let mut pod = like.clone();
                pod.key.name = format!("shape-{}-{number}", shape.id);
                pods.push(Arc::new(pod));
            }
        }
        Ok(Snapshot { pods, pools, daemons: self.daemonset_per_node.pods()?, ..Snapshot::default() })
    }
}

/// A row of the table of types, read by the names of its columns.
struct Row<'a> {
    at: String,
    column: &'a dyn Fn(&str) -> Option<usize>,
    values: &'a [Value],
}

impl Row<'_> {
    fn get<T>(&self, name: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Result<T, Wrong> {
        let index = (self.column)(name).ok_or_else(|| ("type_columns".to_owned(), format!("{name:?} is missing")))?;
        let value = self.values.get(index);
        value.and_then(read).ok_or_else(|| (format!("{}[{index}]", self.at), format!("{name} must be {what}")))
    }

    fn number(&self, name: &str) -> Result<i64, Wrong> {
        self.get(name, "a whole number of 0 or more", |value| {
            value.as_i64().filter(|number| (0..=MOST_ASKED).contains(number))
        })
    }

    fn text(&self, name: &str) -> Result<String, Wrong> {
        self.get(name, "text", |value| value.as_str().map(str::to_owned))
    }
}

fn instance_type(row: &Row<'_>, ways: &[CapacityType], zones: usize) -> Result<InstanceType, Wrong> {
    let (name, arch) = (row.text("name")?, row.text("arch")?);
    let cpu = row.number("vcpu")? * 1000;
    let capacity = ResourceList::new()
        .with(ResourceName::cpu(), Amount(cpu))
        .with(ResourceName::memory(), Amount(row.number("alloc_memory_mib")? * MIB))
        .with(ResourceName::ephemeral_storage(), Amount(row.number("alloc_ephemeral_mib")? * MIB))
        .with(ResourceName::pods(), Amount(row.number("max_pods")?));
    let gpus = row.number("gpu")?;
    let capacity = if gpus > 0 { capacity.with(GPU.into(), Amount(gpus)) } else { capacity };
    let overhead = ResourceList::new().with(ResourceName::cpu(), Amount(cpu - row.number("alloc_cpu_m")?));
    let dollars = |value: &Value| value.as_f64().and_then(price);
    let mut offerings = Vec::new();
    for way in ways {
        let prices: Vec<Option<_>> = match way {
            CapacityType::OnDemand => vec![Some(row.get("on_demand_usd_h", "a price", dollars)?); zones],
            CapacityType::Spot => {
                row.get("spot_usd_h_by_zone", "null or one price for each zone", |value| match value {
                    Value::Null => Some(vec![None; zones]),
                    Value::Array(all) if all.len() == zones => all.iter().map(|one| dollars(one).map(Some)).collect(),
                    _ => None,
                })?
            }
            CapacityType::Reserved => {
                return Err(("capacity_types".to_owned(), "reserved capacity has no prices here".to_owned()));
            }
        };
        let offered = prices.into_iter().enumerate().filter_map(|(zone, price)| {
            Some(Offering {
                zone: zone_name(zone),
                capacity_type: *way,
                price: price?,
                available: true,
                remaining: None,
            })
        });
        offerings.extend(offered);
    }
    let bought: BTreeSet<&str> = offerings.iter().map(|one| one.capacity_type.as_str()).collect();
    let requirements: Requirements = [
        Requirement::one_of(labels::INSTANCE_TYPE, [name.as_str()]),
        Requirement::one_of(labels::ARCH, [arch.as_str()]),
        Requirement::one_of(labels::OS, ["linux"]),
        Requirement::one_of(labels::ZONE, (0..zones).map(zone_name)),
        Requirement::one_of(labels::CAPACITY_TYPE, bought),
    ]
    .into_iter()
    .collect();
    Ok(InstanceType { name, requirements, capacity, overhead, offerings })
}

fn pool(name: &str, instance_types: Arc<[InstanceType]>, taints: Vec<Taint>) -> Pool {
    let key = PoolKey { kind: PoolKind::NodePool, name: name.to_owned() };
    let own = BTreeMap::from([(labels::NODEPOOL.to_owned(), name.to_owned())]);
    Pool {
        weight: 0,
        requirements: Requirements::from_labels(&own),
        labels: own,
        taints,
        startup_taints: Vec::new(),
        limits: None,
        used: ResourceList::new(),
        instance_types,
        key,
    }
}

impl Daemons {
    /// So many daemons that ask for all of it together, the first of them for what does not divide evenly.
    fn pods(&self) -> Result<Vec<Arc<Pod>>, Wrong> {
        if self.pods == 0 && (self.cpu_m, self.memory_mib) != (0, 0) {
            return Err(("daemonset_per_node.pods".to_owned(), "0 pods cannot ask for anything".to_owned()));
        }
        let daemon = |index: i64| {
            let share = |all: i64| all / self.pods + if index == 0 { all % self.pods } else { 0 };
            let name = format!("daemon-{index}");
            let mut pod = Pod::new(PodKey::new("kube-system", name.as_str()));
            pod.requests = requests(share(self.cpu_m), share(self.memory_mib));
            let everything =
                Toleration { key: None, operator: TolerationOperator::Exists, value: String::new(), effect: None };
            pod.tolerations.push(everything);
            pod.owner = Some(OwnerKey { kind: "DaemonSet".to_owned(), name, uid: String::new() });
            Arc::new(pod)
        };
        Ok((0..self.pods).map(daemon).collect())
    }
}

fn requests(cpu_m: i64, memory_mib: i64) -> ResourceList {
    ResourceList::new()
        .with(ResourceName::cpu(), Amount(cpu_m))
        .with(ResourceName::memory(), Amount(memory_mib * MIB))
        .with(ResourceName::pods(), Amount(1))
}

impl Shape {
    /// A pod of this shape, without its number.
    fn pod(&self, ports: &BTreeMap<&str, u16>) -> Pod {
        let owner = format!("shape-{}", self.id);
        let own = BTreeMap::from([(SHAPE.to_owned(), self.id.to_string())]);
        let mut pod = Pod::new(PodKey::new("default", ""));
        pod.requests = requests(self.cpu_m, self.memory_mib);
        if self.ephemeral_mib > 0 {
            pod.requests.set(ResourceName::ephemeral_storage(), Amount(self.ephemeral_mib * MIB));
        }
        if self.gpu > 0 {
            pod.requests.set(GPU.into(), Amount(self.gpu));
            let key = Some(GPU.to_owned());
            let operator = TolerationOperator::Exists;
            pod.tolerations.push(Toleration { key, operator, value: String::new(), effect: None });
        }
        let pins = [
            (labels::ARCH, self.arch.clone()),
            (labels::CAPACITY_TYPE, self.capacity_type.map(|way| way.as_str().to_owned())),
            (labels::ZONE, self.zone.map(zone_name)),
        ];
        let pins = pins.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        pod.node_selector = pins.collect();
        let selector = LabelSelector { match_labels: own.clone(), match_expressions: Vec::new() };
        let spread = |max_skew: u32, topology_key: &str| TopologySpread {
            max_skew,
            topology_key: topology_key.to_owned(),
            when_unsatisfiable: WhenUnsatisfiable::DoNotSchedule,
            selector: Some(selector.clone()),
            min_domains: None,
            node_affinity_policy: NodeInclusion::Honor,
            node_taints_policy: NodeInclusion::Ignore,
            match_label_keys: Vec::new(),
        };
        pod.topology_spread.extend(self.zone_spread_max_skew.map(|skew| spread(skew, labels::ZONE)));
        match self.max_per_node {
            Some(1) => pod.pod_anti_affinity.push(PodAffinityTerm {
                strength: Strength::Required,
                topology_key: labels::HOSTNAME.to_owned(),
                selector: Some(selector.clone()),
                namespaces: Vec::new(),
                namespace_selector: None,
                match_label_keys: Vec::new(),
                mismatch_label_keys: Vec::new(),
            }),
            Some(most) => pod.topology_spread.push(spread(most, labels::HOSTNAME)),
            None => {}
        }
        pod.host_ports = self
            .exclusive_on_node
            .iter()
            .filter_map(|label| ports.get(label.as_str()))
            .map(|port| HostPort { ip: String::new(), port: *port, protocol: Protocol::Tcp })
            .collect();
        pod.labels = own;
        pod.owner = Some(OwnerKey { kind: "ReplicaSet".to_owned(), name: owner, uid: String::new() });
        pod
    }
}
