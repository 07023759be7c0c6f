//! What the containers of a pod ask for.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{
    api::core::v1::{Container, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Text,
};
use units::{Quantity, ResourceName};

use super::{Fault, one_of, quantities};

/// Looks at resources, ports and names.
pub(super) fn look(found: &mut Vec<Fault>, spec: &PodSpec, path: &str) {
    let on_host = spec.host_network == Some(true);
    let starting = spec.init_containers.as_deref().unwrap_or_default();
    let mut names = BTreeSet::new();
    for (all, field) in [(spec.containers.as_slice(), "containers"), (starting, "initContainers")] {
        let path = format!("{path}.{field}");
        for (index, container) in all.iter().enumerate() {
            if !container.name.is_empty() && !names.insert(container.name.as_str()) {
                let message = format!("{:?} is another container, too", container.name);
                found.push((format!("{path}[{index}].name"), message));
            }
            let again = container.restart_policy.as_deref();
            one_of(found, again, &["Always", "OnFailure", "Never"], &format!("{path}[{index}].restartPolicy"));
            if let Some(asked) = &container.resources {
                resources(found, asked, &format!("{path}[{index}].resources"));
            }
        }
        // Init containers run one after another.
        let at_once = if field == "containers" { all.len() } else { 1 };
        for (part, together) in all.chunks(at_once.max(1)).enumerate() {
            ports(found, (together, part * at_once), on_host, &path);
        }
    }
    less_than_its_containers(found, spec, path);
}

/// What the pod as a whole asks for is not less than what its containers do.
fn less_than_its_containers(found: &mut Vec<Fault>, spec: &PodSpec, path: &str) {
    let Some(asked) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) else { return };
    let containers = PodSpec { resources: None, overhead: None, ..spec.clone() };
    let together = api::convert::pod_requests(&containers, None, &mut Vec::new());
    for (name, text) in asked {
        let resource = ResourceName::new(name.as_str());
        let amount = text.0.parse().ok().and_then(|quantity: Quantity| quantity.to_amount_ceil(&resource).ok());
        if amount.is_some_and(|amount| amount < together.get(&resource)) {
            let least = Quantity::of(&resource, together.get(&resource));
            let message = format!("{} is less than the {least} that its containers ask for", text.0);
            found.push((format!("{path}.resources.requests.{name}"), message));
        }
    }
}

fn resources(found: &mut Vec<Fault>, asked: &ResourceRequirements, path: &str) {
    let before = found.len();
    for (list, field) in [(&asked.requests, "requests"), (&asked.limits, "limits")] {
        let path = format!("{path}.{field}");
        quantities(found, list.as_ref(), &path);
        for (name, text) in list.iter().flatten() {
            let is_counted = name.contains('/') && !name.contains("kubernetes.io/");
            let whole = |quantity: Quantity| quantity.to_milli_ceil().is_ok_and(|milli| milli % 1000 == 0);
            if !name.contains('/') && !is_native(name) {
                let message = "is no resource of Kubernetes, and one of somebody else's has a domain before its name";
                found.push((format!("{path}.{name}"), message.to_owned()));
            } else if is_counted && text.0.parse().is_ok_and(|quantity: Quantity| !whole(quantity)) {
                found.push((format!("{path}.{name}"), format!("{} is no whole number", text.0)));
            }
        }
    }
    let amount = |list: &Option<BTreeMap<String, Text>>, name: &str| -> Option<Quantity> {
        list.as_ref()?.get(name)?.0.parse().ok()
    };
    let names = asked.requests.iter().flatten().map(|(name, _)| name).filter(|_| found.len() == before);
    let beyond = names.filter_map(|name| {
        let (request, limit) = (amount(&asked.requests, name)?, amount(&asked.limits, name)?);
        (request > limit)
            .then(|| (format!("{path}.requests.{name}"), format!("{request} is more than the limit of {limit}")))
    });
    let beyond: Vec<Fault> = beyond.collect();
    found.extend(beyond);
}

/// Whether a resource without a domain is one (kubernetes: `IsStandardContainerResourceName`).
fn is_native(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-")
}

/// Ports that are none, and those of the host that these containers, which run together, ask for twice; `first` is the place of the
/// first of them.
fn ports(found: &mut Vec<Fault>, (all, first): (&[Container], usize), on_host: bool, path: &str) {
    let mut taken = BTreeSet::new();
    for (index, container) in (first..).zip(all) {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let field = |name: &str| format!("{path}[{index}].ports[{at}].{name}");
            if !(1..=65535).contains(&port.container_port) {
                found.push((field("containerPort"), format!("{} is not between 1 and 65535", port.container_port)));
            }
            one_of(found, port.protocol.as_deref(), &["TCP", "UDP", "SCTP"], &field("protocol"));
            let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty());
            if let Some(ip) = ip.filter(|ip| ip.parse::<IpAddr>().is_err()) {
                found.push((field("hostIP"), format!("{ip:?} is no address")));
            }
            let own = port.host_port.filter(|number| *number != 0);
            if let Some(own) = own.filter(|own| on_host && *own != port.container_port) {
                let message = format!("{own} is not the containerPort, which it is on the network of the host");
                found.push((field("hostPort"), message));
            }
            let Some(number) = own.or(on_host.then_some(port.container_port)) else { continue };
            let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
            if !taken.insert((number, protocol, port.host_ip.as_deref().unwrap_or_default())) {
                let message = format!("port {number}/{protocol} of the host is asked for twice");
                found.push((field("hostPort"), message));
            }
        }
    }
}
