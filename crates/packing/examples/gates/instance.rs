//! A stored instance as a [`Problem`].

use std::collections::BTreeMap;
use std::path::Path;

use packing::{Bin, Bits, Group, Problem};
use serde_json::Value;

/// An instance, and what is known about it, in micro-USD per hour.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) problem: Problem,
    pub(crate) karpenter: i128,
    pub(crate) bound: i128,
    pub(crate) best: i128,
}

/// Every instance of a folder, by name; empty when the folder is not there.
pub(crate) fn instances(folder: &Path) -> Vec<Instance> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.iter().map(|path| read(&std::fs::read_to_string(path).expect("a readable file"))).collect()
}

/// What a bin is, for deciding who may use it.
struct Kind {
    arch: String,
    gpu: i64,
    zone: i64,
    capacity_type: String,
}

fn read(text: &str) -> Instance {
    let value: Value = serde_json::from_str(text).expect("JSON");
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let micros = |value: &Value| (value.as_f64().unwrap_or(0.0) * 1e6).round() as i64;
    let zones = number(&value["zones"]);
    let zoned = value["zone_matters"].as_bool() == Some(true);
    let daemons = &value["daemonset_per_node"];
    let overhead = ["cpu_m", "memory_mib"].map(|key| number(&daemons[key]));
    let capacity_types: Vec<&str> =
        value["capacity_types"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let (mut kinds, mut bins) = (Vec::new(), Vec::new());
    for row in value["types"].as_array().expect("a list") {
        let capacity = vec![
            number(&row[3]) - overhead[0],
            number(&row[4]) - overhead[1],
            number(&row[5]),
            number(&row[6]) - number(&daemons["pods"]),
            number(&row[7]),
        ];
        for zone in 0..if zoned { zones } else { 1 } {
            for capacity_type in &capacity_types {
                let price = match *capacity_type {
                    "on-demand" => micros(&row[8]),
                    _ if row[9].is_null() => continue,
                    _ => micros(&row[9][usize::try_from(zone).expect("a zone")]),
                };
                kinds.push(Kind {
                    arch: row[1].as_str().unwrap_or_default().to_owned(),
                    gpu: number(&row[7]),
                    zone,
                    capacity_type: (*capacity_type).to_owned(),
                });
                bins.push(Bin { price, capacity: capacity.clone(), available: None, pre_taken: Vec::new() });
            }
        }
    }
    let mut labels: BTreeMap<String, u32> = BTreeMap::new();
    let mut groups = Vec::new();
    for shape in value["shapes"].as_array().expect("a list") {
        let demand = shape["count"].as_u64().unwrap_or(0);
        let gpu = number(&shape["gpu"]);
        let request =
            vec![number(&shape["cpu_m"]), number(&shape["memory_mib"]), number(&shape["ephemeral_mib"]), 1, gpu];
        let mut exclusive = Vec::new();
        for label in shape["exclusive_on_node"].as_array().into_iter().flatten() {
            let next = u32::try_from(labels.len()).expect("few labels");
            exclusive.push(*labels.entry(label.as_str().unwrap_or_default().to_owned()).or_insert(next));
        }
        let max_per_node = shape["max_per_node"].as_u64().map_or(u32::MAX, |most| u32::try_from(most).expect("small"));
        let spread = shape["zone_spread_max_skew"].is_number() && zoned;
        let only = shape["zone"].as_i64();
        let copies: Vec<Option<i64>> = if spread { (0..zones).map(Some).collect() } else { vec![only] };
        for zone in &copies {
            let may = |kind: &Kind| {
                zone.is_none_or(|zone| zone == kind.zone)
                    && shape["arch"].as_str().is_none_or(|arch| arch == kind.arch)
                    && shape["capacity_type"].as_str().is_none_or(|wanted| wanted == kind.capacity_type)
                    && (kind.gpu == 0 || gpu > 0)
            };
            let eligible: Bits = kinds.iter().enumerate().filter(|(_, kind)| may(kind)).map(|(at, _)| at).collect();
            groups.push(Group {
                demand: demand / copies.len() as u64,
                request: request.clone(),
                max_per_node,
                exclusive: exclusive.clone(),
                eligible,
            });
        }
    }
    let results = &value["results"];
    Instance {
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        problem: Problem { resources: 5, groups, bins, limits: Vec::new() },
        karpenter: micros(&results["karpenter_greedy_usd_h"]).into(),
        bound: micros(&results["lower_bound_usd_h"]).into(),
        best: micros(&results["best_known_usd_h"]).into(),
    }
}
