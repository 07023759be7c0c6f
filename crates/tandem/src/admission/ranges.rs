//! LimitRanges: what the containers of a namespace ask for and may use when they do not say it, and what is refused.

use std::collections::BTreeMap;

use api::convert;
use k8s_openapi::{
    api::core::v1::{Container, LimitRangeItem, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use units::{Amount, Quantity, QuantityError, ResourceList, ResourceName};

use super::{Fault, containers};
use crate::faults;

/// A list of resources as it is written.
pub(super) type Quantities = BTreeMap<String, Text>;

/// What one LimitRange says of pods and their containers.
pub(super) struct Range<'a> {
    name: &'a str,
    items: Vec<LimitRangeItem>,
}

/// What is wrong with the entries of a LimitRange.
pub(super) fn faults(items: &[LimitRangeItem]) -> Vec<Fault> {
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let lists = [
            ("default", &item.default),
            ("defaultRequest", &item.default_request),
            ("max", &item.max),
            ("maxLimitRequestRatio", &item.max_limit_request_ratio),
            ("min", &item.min),
        ];
        for (field, list) in lists {
            found.extend(faults::of_quantities(list.as_ref(), &format!("spec.limits[{index}].{field}")));
        }
        let known = ["Pod", "Container", "PersistentVolumeClaim"].contains(&item.type_.as_str());
        if !known && !item.type_.contains('/') {
            let message = format!("{:?} is none of Pod, Container, PersistentVolumeClaim", item.type_);
            found.push((format!("spec.limits[{index}].type"), message));
        }
        found.extend(out_of_order(item, &format!("spec.limits[{index}]")));
    }
    found
}

/// Where a range has less than it has to: what is allowed at least is not more than what is asked for by default, and so on.
fn out_of_order(item: &LimitRangeItem, path: &str) -> Vec<Fault> {
    let rising =
        [("min", &item.min), ("defaultRequest", &item.default_request), ("default", &item.default), ("max", &item.max)];
    let amount = |text: &Text| text.0.parse::<Quantity>().ok();
    let mut found = Vec::new();
    for (place, (field, list)) in rising.iter().enumerate() {
        for (name, text) in list.iter().flatten() {
            let over = rising[place + 1..].iter().find_map(|(more_field, more)| {
                let more = more.as_ref()?.get(name)?;
                (amount(text)? > amount(more)?).then(|| format!("{} is more than {more_field}, {}", text.0, more.0))
            });
            found.extend(over.map(|message| (format!("{path}.{field}.{name}"), message)));
        }
    }
    found
}

/// The containers of a pod and their paths.
pub(super) fn with_paths<'a>(spec: &'a PodSpec, path: &str) -> impl Iterator<Item = (&'a Container, String)> {
    let starting = spec.init_containers.iter().flatten().enumerate();
    let starting = starting.map(move |(index, one)| (one, format!("{path}.initContainers[{index}]")));
    let running = spec.containers.iter().enumerate();
    starting.chain(running.map(move |(index, one)| (one, format!("{path}.containers[{index}]"))))
}

impl<'a> Range<'a> {
    /// The entries as an API server keeps them: a default is the largest that is allowed, a default request is the default, or
    /// the least that is allowed, where nothing else is written (kubernetes: `SetDefaults_LimitRangeItem`).
    pub(super) fn new(name: &'a str, items: &[LimitRangeItem]) -> Self {
        let mut items = items.to_vec();
        for item in items.iter_mut().filter(|item| item.type_ == "Container") {
            let default = item.default.get_or_insert_default();
            add_missing(default, item.max.as_ref());
            let request = item.default_request.get_or_insert_default();
            add_missing(request, Some(default));
            add_missing(request, item.min.as_ref());
        }
        Self { name, items }
    }

    /// Gives a container the limits and requests it does not name.
    pub(super) fn complete(&self, container: &mut Container) {
        for item in self.items.iter().filter(|item| item.type_ == "Container") {
            let resources = container.resources.get_or_insert_default();
            add_missing(resources.limits.get_or_insert_default(), item.default.as_ref());
            add_missing(resources.requests.get_or_insert_default(), item.default_request.as_ref());
        }
    }

    /// Why a pod with this spec is refused.
    pub(super) fn refusals(&self, spec: &PodSpec, path: &str) -> Vec<Fault> {
        let mut found = Vec::new();
        for item in &self.items {
            match item.type_.as_str() {
                "Container" => {
                    for (container, at) in with_paths(spec, path) {
                        let alone = PodSpec { containers: vec![container.clone()], ..PodSpec::default() };
                        self.violations(item, &alone, &format!("{at}.resources"), &mut found);
                    }
                }
                "Pod" => {
                    // What the runtime takes for itself is not the pod's to limit.
                    let without = PodSpec { overhead: None, ..spec.clone() };
                    self.violations(item, &without, path, &mut found);
                }
                _ => {}
            }
        }
        found
    }

    fn violations(&self, item: &LimitRangeItem, spec: &PodSpec, path: &str, found: &mut Vec<Fault>) {
        let (asked, may_use) = (requests(spec), limits(spec));
        let asks = |name: &ResourceName| match asked.get(name) {
            amount if amount.is_zero() => "it asks for none".to_owned(),
            amount => format!("it asks for {}", Quantity::of(name, amount)),
        };
        let is_limited = |name: &ResourceName| match may_use.get(name) {
            amount if amount.is_zero() => "it has no limit".to_owned(),
            amount => format!("it has a limit of {}", Quantity::of(name, amount)),
        };
        let mut refuse = |what: String| {
            let whom = item.type_.to_lowercase();
            found.push((path.to_owned(), format!("LimitRange {} allows a {whom} {what}", self.name)));
        };
        for (name, least, text) in amounts(item.min.as_ref(), Quantity::to_amount_ceil) {
            let limit = may_use.get(&name);
            if asked.get(&name) < least {
                refuse(format!("no less than {text} of {name}: {}", asks(&name)));
            } else if !limit.is_zero() && limit < least {
                refuse(format!("no less than {text} of {name}: {}", is_limited(&name)));
            }
        }
        for (name, most, text) in amounts(item.max.as_ref(), Quantity::to_amount_floor) {
            let limit = may_use.get(&name);
            if limit.is_zero() || limit > most {
                refuse(format!("no more than {text} of {name}: {}", is_limited(&name)));
            } else if asked.get(&name) > most {
                refuse(format!("no more than {text} of {name}: {}", asks(&name)));
            }
        }
        let thousandths = |ratio: &Quantity, _: &ResourceName| ratio.to_milli_ceil().map(Amount);
        for (name, ratio, text) in amounts(item.max_limit_request_ratio.as_ref(), thousandths) {
            let (asked, limit) = (asked.get(&name), may_use.get(&name));
            let is_beyond = i128::from(limit.0) * 1000 > i128::from(asked.0) * i128::from(ratio.0);
            if asked.is_zero() || limit.is_zero() || is_beyond {
                let (asks, is_limited) = (asks(&name), is_limited(&name));
                refuse(format!("a limit of {text} times the {name} that it asks for: {asks}, {is_limited}"));
            }
        }
    }
}

fn add_missing(list: &mut Quantities, more: Option<&Quantities>) {
    for (name, text) in more.into_iter().flatten() {
        list.entry(name.clone()).or_insert_with(|| text.clone());
    }
}

/// Name, amount and text of each; what cannot be read was told where it is written.
fn amounts(
    list: Option<&Quantities>,
    read: impl Fn(&Quantity, &ResourceName) -> Result<Amount, QuantityError>,
) -> Vec<(ResourceName, Amount, &str)> {
    let mut found = Vec::new();
    for (name, text) in list.into_iter().flatten() {
        let name = ResourceName::new(name.as_str());
        if let Some(Ok(amount)) = text.0.parse().ok().map(|quantity| read(&quantity, &name)) {
            found.push((name, amount, text.0.as_str()));
        }
    }
    found
}

fn requests(spec: &PodSpec) -> ResourceList {
    convert::pod_requests(spec, None, &mut Vec::new())
}

/// What a pod may use in all, counted as what it asks for is.
fn limits(spec: &PodSpec) -> ResourceList {
    let mut spec = spec.clone();
    let as_request = |resources: &mut ResourceRequirements| resources.requests = resources.limits.take();
    containers(&mut spec).filter_map(|container| container.resources.as_mut()).for_each(as_request);
    spec.resources.iter_mut().for_each(as_request);
    requests(&spec)
}
