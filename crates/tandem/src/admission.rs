//! What an API server writes into pods that are made, or refuses them for: the priority of their class, what their RuntimeClass
//! adds, what the LimitRanges of their namespace set and demand.
//!
//! As the admission plugins `Priority`, `LimitRanger` and `RuntimeClass` do it (kubernetes: `plugin/pkg/admission`). A pod of the
//! input that has a UID has been through that; pods of workloads, daemons, and pods that somebody wrote have it before them.

mod ranges;
#[cfg(test)]
#[expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use api::pods;
use k8s_openapi::{
    api::{
        core::v1::{Container, Pod, PodSpec},
        node::v1::RuntimeClass,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use units::Quantity;

use self::ranges::Range;
use crate::{Problem, faults, objects::Objects};

/// Path of a field, and what is wrong there.
pub(crate) type Fault = (String, String);

/// The objects that admission looks at.
pub(crate) struct Admission<'a> {
    priorities: BTreeMap<&'a str, i32>,
    default_priority: i32,
    classes: BTreeMap<&'a str, &'a RuntimeClass>,
    /// By namespace, in the order of their names: which of several defaults counts is left open by Kubernetes.
    ranges: BTreeMap<&'a str, Vec<Range<'a>>>,
}

impl<'a> Admission<'a> {
    /// Reads them; those that something is wrong with are left out, and what is wrong is told.
    pub(crate) fn new(objects: &'a Objects) -> (Self, Vec<Problem>) {
        let priority_classes = objects.priority_classes.iter().map(|read| &read.object);
        let mut priorities =
            BTreeMap::from([("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]);
        let by_default = priority_classes.clone().find(|class| class.global_default == Some(true));
        let default_priority = by_default.and_then(|class| class.value).unwrap_or(0);
        priorities.extend(priority_classes.filter_map(|class| Some((class.metadata.name.as_deref()?, class.value?))));
        let mut problems = Vec::new();
        let mut classes = BTreeMap::new();
        for read in &objects.runtime_classes {
            let name = read.object.metadata.name.as_deref().unwrap_or_default();
            let overhead = read.object.overhead.as_ref().and_then(|overhead| overhead.pod_fixed.as_ref());
            let found = faults::of_quantities(overhead, "overhead.podFixed");
            let problem = |(field, message): Fault| Problem::at(&read.origin, message).field(field);
            problems.extend(found.into_iter().map(|fault| problem(fault).of(format!("RuntimeClass {name}"))));
            classes.insert(name, &read.object);
        }
        let mut ranges: BTreeMap<&str, Vec<Range<'_>>> = BTreeMap::new();
        for read in &objects.limit_ranges {
            let own = &read.object.metadata;
            let (namespace, name) = (own.namespace.as_deref().unwrap_or_default(), own.name.as_deref());
            let name = name.unwrap_or_default();
            let items = read.object.spec.as_ref().map(|spec| spec.limits.as_slice()).unwrap_or_default();
            let found = ranges::faults(items);
            if found.is_empty() {
                ranges.entry(namespace).or_default().push(Range::new(name, items));
            }
            let problem = |(field, message): Fault| Problem::at(&read.origin, message).field(field);
            problems.extend(found.into_iter().map(|fault| problem(fault).of(format!("LimitRange {namespace}/{name}"))));
        }
        (Self { priorities, default_priority, classes, ranges }, problems)
    }

    /// The priority of a pod with this spec.
    pub(crate) fn priority(&self, spec: Option<&PodSpec>) -> i32 {
        let Some(spec) = spec else { return self.default_priority };
        spec.priority.unwrap_or_else(|| {
            let class = spec.priority_class_name.as_deref();
            class.and_then(|name| self.priorities.get(name).copied()).unwrap_or(self.default_priority)
        })
    }

    /// Completes the spec, found at `path`, of a pod that is about to be made in a namespace. Returned is what it would be
    /// refused for.
    pub(crate) fn complete(&self, namespace: &str, spec: &mut PodSpec, path: &str) -> Vec<Fault> {
        ask_for_limits(spec);
        let ranges = self.ranges.get(namespace).map(Vec::as_slice).unwrap_or_default();
        for range in ranges {
            containers(spec).for_each(|container| range.complete(container));
        }
        let mut refused = keys_said_twice(spec, path);
        refused.extend(self.add_runtime_class(spec, path));
        let class = spec.priority_class_name.as_deref().filter(|name| !name.is_empty());
        if let Some(name) = class.filter(|name| !self.priorities.contains_key(name)) {
            let message =
                format!("PriorityClass {name} is not in the input, and what its pods come before is not known");
            refused.push((format!("{path}.priorityClassName"), message));
        }
        if !ranges.is_empty() {
            refused.extend(asks_beyond_limits(spec, path));
        }
        refused.extend(ranges.iter().flat_map(|range| range.refusals(spec, path)));
        refused
    }

    /// Overhead, node selector and tolerations of its RuntimeClass.
    fn add_runtime_class(&self, spec: &mut PodSpec, path: &str) -> Vec<Fault> {
        let Some(name) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) else { return Vec::new() };
        let Some(class) = self.classes.get(name) else {
            let message = format!("RuntimeClass {name} is not in the input, and what it adds to pods is not known");
            return vec![(format!("{path}.runtimeClassName"), message)];
        };
        let mut refused = Vec::new();
        if let Some(scheduling) = &class.scheduling {
            let selector = spec.node_selector.get_or_insert_default();
            for (key, value) in scheduling.node_selector.iter().flatten() {
                let own = selector.entry(key.clone()).or_insert_with(|| value.clone());
                if own != value {
                    let message = format!("{own:?} contradicts {value:?}, which RuntimeClass {name} demands");
                    refused.push((format!("{path}.nodeSelector.{key}"), message));
                }
            }
            let tolerations = spec.tolerations.get_or_insert_default();
            for more in scheduling.tolerations.iter().flatten() {
                if !tolerations.contains(more) {
                    tolerations.push(more.clone());
                }
            }
        }
        if let Some(overhead) = class.overhead.as_ref().and_then(|overhead| overhead.pod_fixed.as_ref()) {
            let own = spec.overhead.get_or_insert_with(|| overhead.clone());
            let amounts = |list: &ranges::Quantities| -> BTreeMap<String, Option<Quantity>> {
                list.iter().map(|(name, text)| (name.clone(), text.0.parse().ok())).collect()
            };
            if amounts(own) != amounts(overhead) {
                let message = format!("it is not the overhead of RuntimeClass {name}: leave it out");
                refused.push((format!("{path}.overhead"), message));
            }
        }
        refused
    }
}

/// Whether a pod of the input has yet to go through admission: an API server gives every pod a UID, and one that is on a node
/// came from there.
pub(crate) fn is_ahead(pod: &Pod) -> bool {
    pod.metadata.uid.as_deref().unwrap_or_default().is_empty() && pods::node_name(pod).is_none()
}

fn containers(spec: &mut PodSpec) -> impl Iterator<Item = &mut Container> {
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers)
}

/// A limit without a request is a request, before any LimitRange is looked at.
fn ask_for_limits(spec: &mut PodSpec) {
    for resources in containers(spec).filter_map(|container| container.resources.as_mut()) {
        let Some(limits) = &resources.limits else { continue };
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests.entry(name.clone()).or_insert_with(|| limit.clone());
        }
    }
}

/// Labels by which pods are told apart (`matchLabelKeys`) that the selector beside them names, too. In a pod that has been admitted
/// they are in both: an API server writes them into the selector. Those of `mismatchLabelKeys` may be in both.
fn keys_said_twice(spec: &PodSpec, path: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut look = |keys: &Option<Vec<String>>, selector: &Option<LabelSelector>, at: String| {
        let selector = selector.as_ref();
        let labels = selector.into_iter().flat_map(|all| all.match_labels.iter().flatten()).map(|(key, _)| key);
        let expressions = selector.into_iter().flat_map(|all| all.match_expressions.iter().flatten());
        let named: BTreeSet<&String> = labels.chain(expressions.map(|one| &one.key)).collect();
        let twice = keys.iter().flatten().filter(|key| named.contains(key));
        let message = |key: &String| format!("labelSelector names {key}, too: name it in one of them");
        found.extend(twice.map(|key| (format!("{at}.matchLabelKeys"), message(key))));
    };
    for (index, spread) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let at = format!("{path}.topologySpreadConstraints[{index}]");
        look(&spread.match_label_keys, &spread.label_selector, at);
    }
    for (term, at) in faults::pod_terms(spec, path) {
        look(&term.match_label_keys, &term.label_selector, at);
    }
    found
}

/// Containers that ask for more than they may use: an API server refuses these, too, where a LimitRange has set the limit.
fn asks_beyond_limits(spec: &PodSpec, path: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    for (container, at) in ranges::with_paths(spec, path) {
        let Some(resources) = &container.resources else { continue };
        let (requests, limits) = (resources.requests.iter().flatten(), resources.limits.as_ref());
        for (name, asked) in requests {
            let Some(limit) = limits.and_then(|limits| limits.get(name)) else { continue };
            let amount = |text: &str| text.parse::<Quantity>().ok();
            if amount(&asked.0) > amount(&limit.0) {
                let message = format!("{} is more than the limit of {}, its own or a LimitRange's", asked.0, limit.0);
                found.push((format!("{at}.resources.requests.{name}"), message));
            }
        }
    }
    found
}
