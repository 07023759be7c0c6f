//! Files in which numbers make no sense: each mistake is named with its place.
//!
//! What the solver does with input that no file can hold is tested beside it.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]
use std::{fmt::Write as _, path::Path};

use expect_test::{Expect, expect};
use scheduling::{Settings, solve};
use tandem::{documents, input};

const POOL: &str = "
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: { name: default }
spec: { template: { spec: { requirements: [], nodeClassRef: { group: example.com, kind: Class, name: default } } } }
---
kind: Pod
apiVersion: v1
metadata: { name: fine }
spec: { containers: [{ name: main, resources: { requests: { cpu: 100m } } }] }
";

/// A catalogue of one type: what its resources and its offering say.
fn catalogue(resources: &str, offering: &str) -> String {
    format!(
        "
- name: m.large
  architecture: amd64
  operatingSystems: [linux]
  resources: {{ {resources} }}
  offerings:
  - Requirements:
    - {{ key: karpenter.sh/capacity-type, operator: In, values: [on-demand] }}
    - {{ key: topology.kubernetes.io/zone, operator: In, values: [a] }}
    {offering}
"
    )
}

/// What is said to a pool, a pod that is fine and this, with a catalogue: the plan, or what is wrong.
fn said(more: &str, types: &str) -> String {
    let documents = documents::parse("all.yaml", &[POOL, more, types].join("\n---\n"));
    let input = match documents.and_then(|found| input::from_documents(Path::new("all.yaml"), found, None)) {
        Ok(input) => input,
        Err(problems) => return format!("{problems}\n"),
    };
    let plan = solve(&input.snapshot, &Settings::default());
    let mut said: Vec<String> = plan.placed.keys().map(|pod| format!("{pod} is placed\n")).collect();
    for (pod, reasons) in &plan.unplaced {
        said.extend(reasons.iter().map(|reason| format!("{pod}: {reason}\n")));
    }
    said.concat()
}

const SOUND: (&str, &str) = ("cpu: '2', memory: 8Gi", "Price: 0.1");

#[test]
fn a_catalogue_with_prices_that_are_none_is_refused() {
    let mut all = String::new();
    for price in
        ["Available: true", "Price: .nan", "Price: .inf", "Price: -0.1", "Price: 1e300", "Price: cheap", "Price:"]
    {
        write!(all, "{price}\n  {}", said("", &catalogue(SOUND.0, price))).unwrap();
    }
    expect![[r#"
        Available: true
          all.yaml, document 4, instance type m.large: offerings[0]: missing field `Price`
        Price: .nan
          all.yaml, document 4, instance type m.large: offerings[0].Price: invalid type: string ".nan", expected a number
        Price: .inf
          all.yaml, document 4, instance type m.large: offerings[0].Price: invalid type: string ".inf", expected a number
        Price: -0.1
          all.yaml, document 4, instance type m.large: offerings[0].Price: -0.1 is not a price
        Price: 1e300
          all.yaml, document 4, instance type m.large: offerings[0].Price: 1e300 is not a price
        Price: cheap
          all.yaml, document 4, instance type m.large: offerings[0].Price: invalid type: string "cheap", expected a number
        Price:
          all.yaml, document 4, instance type m.large: offerings[0].Price: invalid type: null, expected a number
    "#]].assert_eq(&all);
}

#[test]
fn a_catalogue_with_machines_that_are_none_is_refused() {
    let mut all = String::new();
    for resources in [
        "cpu: '0', memory: 8Gi",
        "memory: 8Gi",
        "cpu: '2', memory: -8Gi",
        "cpu: two, memory: 8Gi",
        "cpu: '2', memory: 8Gi, pods: '-1'",
    ] {
        write!(all, "{resources}\n  {}", said("", &catalogue(resources, SOUND.1))).unwrap();
    }
    expect![[r#"
        cpu: '0', memory: 8Gi
          all.yaml, document 4, instance type m.large: resources.cpu: must be more than nothing
        memory: 8Gi
          all.yaml, document 4, instance type m.large: resources.cpu: must be more than nothing
        cpu: '2', memory: -8Gi
          all.yaml, document 4, instance type m.large: resources.memory: -8Gi is negative
        cpu: two, memory: 8Gi
          all.yaml, document 4, instance type m.large: resources.cpu: quantity "two" does not begin with a number
        cpu: '2', memory: 8Gi, pods: '-1'
          all.yaml, document 4, instance type m.large: resources.pods: -1 is negative
    "#]]
    .assert_eq(&all);
}

fn check_pod(spec: &str, expected: &Expect) {
    let pod = format!("kind: Pod\napiVersion: v1\nmetadata: {{ name: odd }}\nspec: {spec}");
    expected.assert_eq(&said(&pod, &catalogue(SOUND.0, SOUND.1)));
}

#[test]
fn quantities_that_cannot_be_are_refused() {
    let mut all = String::new();
    for quantity in ["-1", "1e400", "99999999999999999999Ei", "1.2.3", "0x10", "1 Gi", "''", ".nan", "1GiB", "--1"] {
        let pod = format!(
            "kind: Pod\napiVersion: v1\nmetadata: {{ name: odd }}\nspec: {{ containers: [{{ name: main, resources: {{ requests: {{ cpu: {quantity} }} }} }}] }}"
        );
        write!(all, "{quantity}\n  {}", said(&pod, &catalogue(SOUND.0, SOUND.1))).unwrap();
    }
    expect![[r#"
        -1
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity "-1" is negative
        1e400
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity ".inf" does not begin with a number
        99999999999999999999Ei
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity "99999999999999999999Ei" is more than anybody can have
        1.2.3
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity "1.2.3" has more than one point
        0x10
          default/fine is placed
        default/odd: NodePool/default: asks for 16 of cpu, the largest node has 1900m free
        1 Gi
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity "1 Gi" has a space: write 1Gi instead
        ''
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: a quantity must not be empty
        .nan
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity ".nan" does not begin with a number
        1GiB
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity "1GiB" has the unknown suffix "GiB" (write Gi)
        --1
          all.yaml, document 3, Pod default/odd: spec.containers[0].resources.requests.cpu: quantity "--1" does not begin with a number
    "#]].assert_eq(&all);
}

#[test]
fn sums_that_no_number_holds_are_told_to_their_pod_and_the_other_is_placed() {
    check_pod(
        "{ containers: [{ name: a, resources: { requests: { memory: 7Ei } } }, { name: b, resources: { requests: { memory: 7Ei } } }] }",
        &expect![[r#"
            default/fine is placed
            default/odd: NodePool/default: asks for 8Ei or more of memory, the largest node has 8182Mi free
        "#]],
    );
}

#[test]
fn a_node_that_no_type_has_and_a_circle_are_told_to_their_pod_and_the_other_is_placed() {
    check_pod(
        "{ containers: [], nodeSelector: { topology.kubernetes.io/zone: a }, affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: [{ key: topology.kubernetes.io/zone, operator: NotIn, values: [a] }] }] } } } }",
        &expect![[r#"
            default/fine is placed
            default/odd: the pod is not valid: its own demands leave no value of topology.kubernetes.io/zone: nodeSelector wants topology.kubernetes.io/zone in [a], node affinity wants topology.kubernetes.io/zone not in [a]
        "#]],
    );
    check_pod(
        "{ containers: [], affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: topology.kubernetes.io/zone, labelSelector: { matchLabels: { app: nobody } } }] } } }",
        &expect![[r#"
            default/fine is placed
            default/odd: NodePool/default: the pods it must share its topology.kubernetes.io/zone with are nowhere yet
        "#]],
    );
}

#[test]
fn amounts_of_claims_and_nodes_that_cannot_be_are_told() {
    let objects = r#"kind: NodeClaim
apiVersion: karpenter.sh/v1
metadata: { name: odd, labels: { karpenter.sh/nodepool: default } }
spec: { requirements: [], resources: { requests: { cpu: -1 } }, nodeClassRef: { group: example.com, kind: Class, name: default } }
status: { capacity: { cpu: many }, allocatable: { memory: 1 Gi } }
---
kind: Node
apiVersion: v1
metadata: { name: n1 }
status: { capacity: { cpu: "-2" } }
---
kind: CSINode
apiVersion: storage.k8s.io/v1
metadata: { name: n1 }
spec: { drivers: [{ name: ebs.csi.aws.com, nodeID: n1, allocatable: { count: -1 } }] }"#;
    expect![[r#"
        all.yaml, document 3, NodeClaim odd: spec.resources.requests.cpu: quantity "-1" is negative
        all.yaml, document 3, NodeClaim odd: status.allocatable.memory: quantity "1 Gi" has a space: write 1Gi instead
        all.yaml, document 3, NodeClaim odd: status.capacity.cpu: quantity "many" does not begin with a number
        all.yaml, document 4, Node n1: status.capacity.cpu: quantity "-2" is negative
        all.yaml, document 5, CSINode n1: spec.drivers[0].allocatable.count: -1 is negative
    "#]]
    .assert_eq(&said(objects, &catalogue(SOUND.0, SOUND.1)));
}

#[test]
fn settings_of_a_kubelet_that_cannot_be_are_told() {
    let pool = |kubelet: &str| {
        format!(
            "kind: Provisioner
apiVersion: karpenter.sh/v1alpha5
metadata: {{ name: old }}
spec: {{ providerRef: {{ name: t }}, kubeletConfiguration: {kubelet} }}"
        )
    };
    let class = |kubelet: &str| {
        format!(
            "kind: EC2NodeClass
apiVersion: karpenter.k8s.aws/v1
metadata: {{ name: default }}
spec: {{ kubelet: {kubelet} }}"
        )
    };
    let mut all = String::new();
    for kubelet in [
        r#"{ systemReserved: { cpu: "-6" } }"#,
        r#"{ maxPods: -1, kubeReserved: { gpu: "1" } }"#,
        r#"{ evictionHard: { memory.available: 120%, nodefs.available: "-20Gi" } }"#,
    ] {
        all += &said(&pool(kubelet), &catalogue(SOUND.0, SOUND.1));
        all += &said(&class(kubelet), &catalogue(SOUND.0, SOUND.1));
    }
    all += &said(&class("17"), &catalogue(SOUND.0, SOUND.1));
    all += &said(&class("{ maxPods: ten }"), &catalogue(SOUND.0, SOUND.1));
    expect![[r#"
        all.yaml, document 3, Provisioner old: spec.kubeletConfiguration.systemReserved.cpu: quantity "-6" is negative
        all.yaml, document 3, EC2NodeClass default: spec.kubelet.systemReserved.cpu: quantity "-6" is negative
        all.yaml, document 3, Provisioner old: spec.kubeletConfiguration.kubeReserved.gpu: is not one of cpu, memory, ephemeral-storage, pid
        all.yaml, document 3, Provisioner old: spec.kubeletConfiguration.maxPods: must not be negative
        all.yaml, document 3, EC2NodeClass default: spec.kubelet.kubeReserved.gpu: is not one of cpu, memory, ephemeral-storage, pid
        all.yaml, document 3, EC2NodeClass default: spec.kubelet.maxPods: must not be negative
        all.yaml, document 3, Provisioner old: spec.kubeletConfiguration.evictionHard.memory.available: "120%" is not a percentage from 0% to 100%
        all.yaml, document 3, Provisioner old: spec.kubeletConfiguration.evictionHard.nodefs.available: quantity "-20Gi" is negative
        all.yaml, document 3, EC2NodeClass default: spec.kubelet.evictionHard.memory.available: "120%" is not a percentage from 0% to 100%
        all.yaml, document 3, EC2NodeClass default: spec.kubelet.evictionHard.nodefs.available: quantity "-20Gi" is negative
        all.yaml, document 3, EC2NodeClass default: spec.kubelet: 17 is not a map of settings
        all.yaml, document 3, EC2NodeClass default: spec.kubelet.maxPods: "ten" is not a count
    "#]].assert_eq(&all);
}

#[test]
fn counts_and_ordinals_of_workloads_that_cannot_be_are_told() {
    let template = "template: { metadata: { labels: { app: w } }, spec: { containers: [{ name: main }] } }";
    let mut all = String::new();
    for spec in [
        format!(
            "kind: Job\napiVersion: batch/v1\nmetadata: {{ name: w }}\nspec: {{ completions: -4, parallelism: 2, {template} }}"
        ),
        format!("kind: Job\napiVersion: batch/v1\nmetadata: {{ name: w }}\nspec: {{ parallelism: -1, {template} }}"),
    ] {
        all += &said(&spec, &catalogue(SOUND.0, SOUND.1));
    }
    for start in ["-1", "2147483646"] {
        let set = "kind: StatefulSet\napiVersion: apps/v1\nmetadata: { name: w }";
        let spec = format!(
            "{set}\nspec: {{ serviceName: w, replicas: 3, ordinals: {{ start: {start} }}, selector: {{ matchLabels: {{ app: w }} }}, {template} }}"
        );
        all += &said(&spec, &catalogue(SOUND.0, SOUND.1));
    }
    all += &said(
        "",
        "- name: \"\"\n  architecture: amd64\n  operatingSystems: [linux]\n  resources: { cpu: 1, memory: 1Gi }\n  offerings: []",
    );
    expect![[r#"
        all.yaml, document 3, Job default/w: spec.completions: -4 is less than 0
        all.yaml, document 3, Job default/w: spec.parallelism: -1 is less than 0
        all.yaml, document 3, StatefulSet default/w: spec.ordinals.start: -1 is less than 0
        default/fine is placed
        default/w-2147483646 is placed
        default/w-2147483647 is placed
        default/w-2147483648 is placed
        all.yaml, document 4, instance type [0]: name: must not be empty
    "#]]
    .assert_eq(&all);
}
