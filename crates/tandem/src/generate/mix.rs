//! The pods of Karpenter's scheduling benchmark (`pkg/controllers/provisioning/scheduling`), drawn with our own generator:
//! the same distribution, not the same pods.

use std::path::Path;

use scheduling::Snapshot;
use serde_json::{Value, json};

use super::Random;
use crate::{Document, input};

const TYPES: u64 = 400;
const LABELS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const CPUS: [u64; 5] = [100, 250, 500, 1000, 1500];
const MEMORIES: [u64; 6] = [100, 256, 512, 1024, 2048, 4096];
const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A list of a pool and its pods, and a catalogue.
///
/// A fifth of the pods each: plain; spread over zones; spread over host names; near pods like themselves by zone; away from
/// each other by host name. What five does not divide is plain.
pub fn karpenter_mix(pods: usize, seed: u64) -> [Value; 2] {
    let mut random = Random::new(seed);
    let fifth = pods / 5;
    let mut items = vec![pool()];
    for index in 0..pods {
        items.push(match index.checked_div(fifth) {
            Some(1) => spread(&mut random, index, ZONE),
            Some(2) => spread(&mut random, index, HOSTNAME),
            Some(3) => near_its_like(&mut random, index),
            Some(4) => away_from_its_like(&mut random, index),
            _ => plain(&mut random, index),
        });
    }
    [json!({ "apiVersion": "v1", "kind": "List", "items": items }), (0..TYPES).map(instance_type).collect()]
}

/// The same as a snapshot.
pub fn karpenter_mix_snapshot(pods: usize, seed: u64) -> Snapshot {
    let name = "karpenter-mix";
    let documents = karpenter_mix(pods, seed).into_iter().enumerate().map(|(index, value)| {
        let origin = crate::Origin { file: name.into(), document: index + 1, item: None };
        Document { origin, value }
    });
    input::from_documents(Path::new(name), documents.collect(), None).expect("what is made here is valid").snapshot
}

fn pool() -> Value {
    json!({ "apiVersion": "karpenter.sh/v1", "kind": "NodePool", "metadata": { "name": "default" }, "spec": {
        "limits": { "cpu": "10000000", "memory": "10000000Gi" },
        "template": { "spec": {
            "nodeClassRef": { "group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default" },
            "requirements": [] } } } })
}

fn pod(random: &mut Random, index: usize, labels: &Value, more: Value) -> Value {
    let (cpu, memory) = (random.pick(&CPUS), random.pick(&MEMORIES));
    let mut spec = more;
    spec["containers"] = json!([{ "name": "main", "resources": {
        "requests": { "cpu": format!("{cpu}m"), "memory": format!("{memory}Mi") } } }]);
    json!({ "apiVersion": "v1", "kind": "Pod", "spec": spec, "metadata": {
        "name": format!("pod-{index}"), "namespace": "default", "uid": format!("{index:08}"), "labels": labels } })
}

fn plain(random: &mut Random, index: usize) -> Value {
    let label = random.pick(&LABELS);
    pod(random, index, &json!({ "my-label": label }), json!({}))
}

/// The selected label is drawn apart from the pod's own.
fn spread(random: &mut Random, index: usize, key: &str) -> Value {
    let (label, selected) = (random.pick(&LABELS), random.pick(&LABELS));
    let constraint = json!({ "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": { "matchLabels": { "my-label": selected } } });
    pod(random, index, &json!({ "my-label": label }), json!({ "topologySpreadConstraints": [constraint] }))
}

fn near_its_like(random: &mut Random, index: usize) -> Value {
    let labels = json!({ "my-affinity": random.pick(&LABELS) });
    let more = affinity("podAffinity", &labels, ZONE);
    pod(random, index, &labels, more)
}

fn away_from_its_like(random: &mut Random, index: usize) -> Value {
    let labels = json!({ "app": "nginx" });
    let more = affinity("podAntiAffinity", &labels, HOSTNAME);
    pod(random, index, &labels, more)
}

fn affinity(which: &str, labels: &Value, key: &str) -> Value {
    let term = json!({ "topologyKey": key, "labelSelector": { "matchLabels": labels } });
    json!({ "affinity": { which: { "requiredDuringSchedulingIgnoredDuringExecution": [term] } } })
}

/// Machine number `index`: a CPU more than the one before, two GiB and ten pods for each.
fn instance_type(index: u64) -> Value {
    let cpus = index + 1;
    let memory_bytes = (2 * cpus) << 30;
    // A tenth of a dollar for a CPU and for 10^9 bytes. Unit: millionths of a dollar.
    let micros = 100_000 * cpus + memory_bytes / 10_000;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let price = micros as f64 / 1e6;
    let offering = |(way, zone): (&str, u64)| {
        json!({ "Price": price, "Available": true, "Requirements": [
            { "key": "karpenter.sh/capacity-type", "operator": "In", "values": [way] },
            { "key": ZONE, "operator": "In", "values": [format!("test-zone-{zone}")] }] })
    };
    let ways = [("spot", 1), ("spot", 2), ("on-demand", 1), ("on-demand", 2), ("on-demand", 3)];
    let is_large = cpus > 4 && memory_bytes > 8 << 30;
    let mut labels = json!({ "integer": cpus.to_string(), "size": if is_large { "large" } else { "small" } });
    if is_large {
        labels["special"] = json!("optional");
    }
    json!({ "name": format!("fake-it-{index}"), "architecture": "amd64",
        "operatingSystems": ["linux", "windows", "darwin"],
        "resources": { "cpu": cpus.to_string(), "memory": format!("{}Gi", 2 * cpus), "pods": (10 * cpus).to_string() },
        "labels": labels, "offerings": ways.map(offering) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents;

    #[test]
    fn the_mix_reads_back_from_its_text_and_has_every_kind_of_pod() {
        let text = super::super::generate(super::super::What::KarpenterMix { pods: 52, seed: 7 });
        let read = input::from_documents(Path::new("-"), documents::parse("-", &text).unwrap(), None).unwrap();
        let snapshot = karpenter_mix_snapshot(52, 7);
        assert_eq!(read.snapshot.pods, snapshot.pods);
        assert_eq!(read.remarks, crate::Remarks::default());
        let count = |has: &dyn Fn(&scheduling::Pod) -> bool| snapshot.pods.iter().filter(|pod| has(pod)).count();
        assert_eq!(count(&|pod| pod.topology_spread.iter().any(|spread| spread.topology_key == ZONE)), 10);
        assert_eq!(count(&|pod| pod.topology_spread.iter().any(|spread| spread.topology_key == HOSTNAME)), 10);
        assert_eq!(count(&|pod| !pod.pod_affinity.is_empty()), 10);
        assert_eq!(count(&|pod| !pod.pod_anti_affinity.is_empty()), 10);
        assert_eq!(snapshot.pods.len(), 52);
        assert_eq!(snapshot.pools[0].instance_types.len(), 400);
    }
}
