//! Packing instances with made-up machines, for a clone that has no others. Whole numbers only: no rounding differs
//! between machines.

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Random;

/// What an instance is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Services of all sizes, with nothing to restrict them.
    Web,
    /// Services spread over zones, bought on demand or spot.
    Zones,
    /// Services of which a node may hold one or two pods.
    Spread,
    /// Services that take a port of their node.
    Ports,
    /// Services with an architecture of their own.
    Arch,
    /// Pods with and without GPUs.
    Gpu,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Web, Self::Zones, Self::Spread, Self::Ports, Self::Arch, Self::Gpu];

    /// As the command line writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Zones => "zones",
            Self::Spread => "spread",
            Self::Ports => "ports",
            Self::Arch => "arch",
            Self::Gpu => "gpu",
        }
    }
}

const ZONES: usize = 3;
const CPUS: [i64; 12] = [50, 100, 100, 200, 250, 250, 500, 500, 1000, 1000, 2000, 4000];
/// Memory for each CPU. Unit: MiB.
const MEMORY_PER_CPU: [i64; 7] = [512, 1024, 2048, 2048, 4096, 4096, 8192];
/// Family, architecture, GiB and price for each CPU, the price in millionths of a dollar.
const FAMILIES: [(&str, &str, i64, i64); 6] = [
    ("c", "amd64", 2, 42_500),
    ("m", "amd64", 4, 48_000),
    ("r", "amd64", 8, 63_000),
    ("cg", "arm64", 2, 36_500),
    ("mg", "arm64", 4, 40_800),
    ("rg", "arm64", 8, 53_600),
];
const SIZES: [(&str, i64); 7] =
    [("large", 2), ("xlarge", 4), ("2xlarge", 8), ("4xlarge", 16), ("8xlarge", 32), ("12xlarge", 48), ("16xlarge", 64)];

/// An instance of this kind with about so many pods.
pub fn instance(kind: Kind, pods: usize, seed: u64) -> Value {
    let mut random = Random::new(seed);
    let services = (pods / 20).clamp(1, 200);
    let mut shapes = Vec::new();
    let mut left = pods;
    for id in 0..services {
        // Most services are small and some are large; the last has what is left.
        let share = 1 + random.below(2 * left / (services - id) + 1);
        let count = if id + 1 == services { left } else { share.min(left) };
        left -= count;
        let cpu = random.pick(&CPUS);
        let memory = (cpu * random.pick(&MEMORY_PER_CPU) / 1000).max(64);
        let mut shape = json!({ "id": id, "count": count, "cpu_m": cpu, "memory_mib": memory });
        restrict(&mut shape, kind, id, count, &mut random);
        if shape["count"] != json!(0) {
            shapes.push(shape);
        }
    }
    let ways: &[&str] = if kind == Kind::Zones { &["spot", "on-demand"] } else { &["on-demand"] };
    json!({
        "format": "node-packing-instance/1",
        "name": format!("{}-{pods}-{seed}", kind.name()),
        "seed": seed,
        "capacity_types": ways,
        "zones": ZONES,
        "daemonset_per_node": { "cpu_m": 300, "memory_mib": 400, "pods": 3 },
        "type_columns": ["name", "arch", "vcpu", "alloc_cpu_m", "alloc_memory_mib", "alloc_ephemeral_mib", "max_pods",
                         "gpu", "on_demand_usd_h", "spot_usd_h_by_zone"],
        "types": types(kind, &mut random),
        "shapes": shapes,
    })
}

fn restrict(shape: &mut Value, kind: Kind, id: usize, count: usize, random: &mut Random) {
    match kind {
        Kind::Zones => {
            match id % 3 {
                // What is spread evenly is a multiple of the zones.
                0 => {
                    shape["zone_spread_max_skew"] = json!(1);
                    shape["count"] = json!(count / ZONES * ZONES);
                }
                1 => shape["zone"] = json!(random.below(ZONES)),
                _ => {}
            }
            if id.is_multiple_of(5) {
                shape["capacity_type"] = json!("on-demand");
            }
        }
        Kind::Spread if id.is_multiple_of(2) => shape["max_per_node"] = json!(1 + random.below(2)),
        Kind::Ports if id.is_multiple_of(3) => shape["exclusive_on_node"] = json!([format!("port{}", random.below(3))]),
        Kind::Arch if id.is_multiple_of(2) => shape["arch"] = json!(random.pick(&["amd64", "arm64"])),
        Kind::Gpu if id.is_multiple_of(2) => shape["gpu"] = json!(random.pick(&[1, 1, 2, 4])),
        Kind::Web | Kind::Spread | Kind::Ports | Kind::Arch | Kind::Gpu => {}
    }
}

fn types(kind: Kind, random: &mut Random) -> Vec<Value> {
    let mut rows = Vec::new();
    for (family, arch, gib_per_cpu, micros_per_cpu) in FAMILIES {
        if arch == "arm64" && kind != Kind::Arch {
            continue;
        }
        for (size, cpus) in SIZES {
            rows.push(row(&format!("{family}.{size}"), arch, cpus, gib_per_cpu, 0, micros_per_cpu * cpus, random));
        }
    }
    if kind == Kind::Gpu {
        for (size, cpus, gpus) in [("xlarge", 4, 1), ("4xlarge", 16, 1), ("12xlarge", 48, 4), ("16xlarge", 64, 8)] {
            let micros = cpus * 55_000 + gpus * 350_000;
            rows.push(row(&format!("g.{size}"), "amd64", cpus, 4, gpus, micros, random));
        }
    }
    rows
}

fn row(name: &str, arch: &str, cpus: i64, gib_per_cpu: i64, gpus: i64, micros: i64, random: &mut Random) -> Value {
    // What a system keeps, near enough to what kubelets do.
    let (cpu, memory) = (cpus * 1000 - 60 - 4 * cpus, cpus * gib_per_cpu * 1024 * 92 / 100 - 700);
    let pods = (14 * cpus + 1).min(234);
    let mut spot = || {
        let percent = i64::try_from(30 + random.below(15)).expect("it is less than 45");
        dollars(micros * percent / 100)
    };
    let spot = [spot(), spot(), spot()];
    json!([name, arch, cpus, cpu, memory, 17408, pods, gpus, dollars(micros), spot])
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn dollars(micros: i64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Document, Origin, instance as read};

    #[test]
    fn every_kind_reads_back_with_all_its_pods() {
        for kind in Kind::ALL {
            let value = instance(kind, 300, 1);
            let counts = value["shapes"].as_array().unwrap().iter().map(|shape| shape["count"].as_u64().unwrap());
            let wanted: u64 = counts.sum();
            let origin = Origin { file: kind.name().into(), document: 1, item: None };
            let snapshot = read::from_document(&Document { origin, value }, std::path::Path::new("-"), None).unwrap();
            assert_eq!(snapshot.pods.len() as u64, wanted, "{kind:?}");
            assert!(wanted > 280, "{kind:?}: {wanted}");
            assert_eq!(snapshot.daemons.len(), 3);
        }
    }
}
