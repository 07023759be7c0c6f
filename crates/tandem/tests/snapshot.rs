//! What objects become before anything is decided.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{fmt::Write as _, fs, path::Path};

use expect_test::{Expect, expect};
use scheduling::{Pod, Snapshot};
use tandem::{documents, input, instance};

fn line(pod: &Pod) -> String {
    let mut said = format!("{} asks for {}", pod.key, pod.requests);
    let mut more = |what: &str, list: Vec<String>| {
        if !list.is_empty() {
            write!(said, "; {what} {}", list.join(", ")).unwrap();
        }
    };
    more("owner", pod.owner.iter().map(|owner| format!("{} {}", owner.kind, owner.name)).collect());
    more("labels", pod.labels.iter().map(|(key, value)| format!("{key}={value}")).collect());
    more("selects", pod.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect());
    more("tolerates", pod.tolerations.iter().map(|one| one.key.clone().unwrap_or_default()).collect());
    let spread = |one: &scheduling::TopologySpread| format!("{} by {}", one.topology_key, one.max_skew);
    more("spread over", pod.topology_spread.iter().map(spread).collect());
    more("away from its like by", pod.pod_anti_affinity.iter().map(|one| one.topology_key.clone()).collect());
    more("ports", pod.host_ports.iter().map(ToString::to_string).collect());
    more("volumes in", pod.volume_zones.iter().map(ToString::to_string).collect());
    more("attaches", pod.volumes_by_driver.iter().map(|(driver, all)| format!("{driver} {all:?}")).collect());
    more("priority", Some(pod.priority).filter(|priority| *priority != 0).iter().map(ToString::to_string).collect());
    more("INVALID", pod.invalid.clone());
    said
}

fn lines(snapshot: &Snapshot) -> String {
    let mut said = String::new();
    let mut list = |what: &str, lines: Vec<String>| {
        for line in lines {
            writeln!(said, "{what}: {line}").unwrap();
        }
    };
    list("place", snapshot.pods.iter().map(|pod| line(pod)).collect());
    list("daemon", snapshot.daemons.iter().map(|pod| line(pod)).collect());
    for node in &snapshot.nodes {
        let goes = |pod: &Pod| if pod.terminating { " (goes)" } else { "" };
        let pods: Vec<_> = node.pods.iter().map(|pod| format!("{}{}", pod.key, goes(pod))).collect();
        let price = node.price.map(|price| format!(" at {price}")).unwrap_or_default();
        let taints: Vec<_> = node.lasting_taints().map(ToString::to_string).collect();
        let limits = &node.volume_limits;
        list(
            "node",
            vec![format!(
                "{} {:?}{price}, {}; taints {taints:?}; volumes {limits:?}; holds {pods:?}",
                node.key, node.stage, node.allocatable
            )],
        );
    }
    for pool in &snapshot.pools {
        let types = pool.instance_types.iter().map(|one| format!("{} {}", one.name, one.allocatable()));
        let few: Vec<_> = types.take(3).collect();
        let taints: Vec<_> = pool.taints.iter().map(ToString::to_string).collect();
        list(
            "pool",
            vec![format!("{} weighs {}; used {}; taints {taints:?}; {few:?}", pool.key, pool.weight, pool.used)],
        );
    }
    said
}

fn check(yaml: &str, expected: &Expect) {
    let types = serde_json::json!([{ "name": "m.large", "architecture": "amd64", "operatingSystems": ["linux"],
        "resources": { "cpu": "2", "memory": "8Gi" }, "offerings": [{ "Price": 0.1, "Requirements": [
            { "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] },
            { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] }]);
    let documents = documents::parse("all.yaml", &format!("{yaml}\n---\n{types}")).unwrap();
    let said = match input::from_documents(Path::new("all.yaml"), documents, None) {
        Ok(read) => format!("{}{:?}\n", lines(&read.snapshot), read.left_out),
        Err(error) => format!("{error}\n"),
    };
    expected.assert_eq(&said);
}

const TEMPLATE: &str = "
    metadata: { labels: { app: x } }
    spec: { containers: [{ name: main, resources: { requests: { cpu: 1 } } }] }";

#[test]
fn a_stateful_set_makes_the_ordinals_it_lacks_with_volumes_from_its_templates() {
    check(
        &format!(
            "
kind: StatefulSet
apiVersion: apps/v1
metadata: {{ name: db, namespace: shop }}
spec:
  replicas: 3
  ordinals: {{ start: 5 }}
  volumeClaimTemplates:
  - metadata: {{ name: data }}
    spec: {{ storageClassName: fast }}
  template:{TEMPLATE}
---
kind: Pod
apiVersion: v1
metadata: {{ name: db-6, namespace: shop }}
spec: {{ containers: [{{ name: main }}], nodeName: elsewhere }}
---
kind: PersistentVolumeClaim
apiVersion: v1
metadata: {{ name: data-db-7, namespace: shop }}
spec: {{ volumeName: vol-7 }}
---
kind: PersistentVolume
apiVersion: v1
metadata: {{ name: vol-7 }}
spec:
  csi: {{ driver: ebs.csi.aws.com, volumeHandle: vol-0123 }}
  nodeAffinity: {{ required: {{ nodeSelectorTerms: [{{ matchExpressions: [{{ key: topology.kubernetes.io/zone, operator: In, values: [b] }}] }}] }} }}
---
kind: StorageClass
apiVersion: storage.k8s.io/v1
metadata: {{ name: fast }}
provisioner: ebs.csi.aws.com
volumeBindingMode: WaitForFirstConsumer
allowedTopologies: [{{ matchLabelExpressions: [{{ key: topology.kubernetes.io/zone, values: [a] }}] }}]
"
        ),
        &expect![[r#"
            place: shop/db-5 asks for cpu: 1, pods: 1; owner StatefulSet db; labels app=x, apps.kubernetes.io/pod-index=5, statefulset.kubernetes.io/pod-name=db-5; volumes in topology.kubernetes.io/zone In [a]; attaches ebs.csi.aws.com {"shop/data-db-5"}
            place: shop/db-7 asks for cpu: 1, pods: 1; owner StatefulSet db; labels app=x, apps.kubernetes.io/pod-index=7, statefulset.kubernetes.io/pod-name=db-7; volumes in topology.kubernetes.io/zone In [b]; attaches ebs.csi.aws.com {"vol-0123"}
            LeftOut { gated: 0, preempting: 0, on_unknown_nodes: 1, held: {}, ownerless: 0, pools: [] }
        "#]],
    );
}

#[test]
fn a_job_makes_what_is_not_done_and_not_running() {
    let job = |name: &str, spec: &str| {
        format!(
            "kind: Job\napiVersion: batch/v1\nmetadata: {{ name: {name} }}\nspec:\n{spec}\n  template:{TEMPLATE}\n---\n"
        )
    };
    check(
        &[
            job("four", "  parallelism: 4\n  completions: 4").replace("spec:\n ", "status: { succeeded: 2 }\nspec:\n "),
            job("asleep", "  suspend: true"),
            "kind: PodList\napiVersion: v1\nitems:\n".to_owned(),
            "- metadata: { name: four-x, ownerReferences: [{ apiVersion: batch/v1, kind: Job, name: four, uid: u, controller: true }] }\n".to_owned(),
            "  spec: { nodeName: n1, containers: [] }\n  status: { phase: Running }\n".to_owned(),
            "- metadata: { name: four-y, ownerReferences: [{ apiVersion: batch/v1, kind: Job, name: four, uid: u, controller: true }] }\n".to_owned(),
            "  spec: { nodeName: n1, containers: [] }\n  status: { phase: Succeeded }\n".to_owned(),
        ]
        .concat(),
        &expect![[r#"
            place: default/four-0 asks for cpu: 1, pods: 1; owner Job four; labels app=x, batch.kubernetes.io/job-name=four, job-name=four
            LeftOut { gated: 0, preempting: 0, on_unknown_nodes: 1, held: {}, ownerless: 0, pools: [] }
        "#]],
    );
}

#[test]
fn a_deployment_counts_the_pods_of_its_replica_sets_and_takes_the_newest_hash() {
    let set = |hash: &str, revision: u32| {
        format!(
            "
kind: ReplicaSet
apiVersion: apps/v1
metadata:
  name: web-{hash}
  labels: {{ pod-template-hash: {hash} }}
  annotations: {{ deployment.kubernetes.io/revision: \"{revision}\" }}
  ownerReferences: [{{ apiVersion: apps/v1, kind: Deployment, name: web, uid: u, controller: true }}]
spec: {{ replicas: 2, selector: {{}}, template: {{ spec: {{ containers: [] }} }} }}
---"
        )
    };
    let pod = |name: &str, owner: &str| {
        format!(
            "
kind: Pod
apiVersion: v1
metadata: {{ name: {name}, ownerReferences: [{{ apiVersion: apps/v1, kind: ReplicaSet, name: {owner}, uid: u, controller: true }}] }}
spec: {{ nodeName: n1, containers: [] }}
---"
        )
    };
    let deployment = format!(
        "\nkind: Deployment\napiVersion: apps/v1\nmetadata: {{ name: web }}\nspec:\n  replicas: 5\n  template:{TEMPLATE}\n"
    );
    check(
        &[set("old", 9), set("new", 10), pod("web-0", "web-old"), pod("p2", "web-new"), pod("p3", "other"), deployment]
            .concat(),
        &expect![[r#"
            place: default/web-1 asks for cpu: 1, pods: 1; owner ReplicaSet web-new; labels app=x, pod-template-hash=new
            place: default/web-2 asks for cpu: 1, pods: 1; owner ReplicaSet web-new; labels app=x, pod-template-hash=new
            place: default/web-3 asks for cpu: 1, pods: 1; owner ReplicaSet web-new; labels app=x, pod-template-hash=new
            LeftOut { gated: 0, preempting: 0, on_unknown_nodes: 3, held: {}, ownerless: 0, pools: [] }
        "#]],
    );
}

#[test]
fn deployments_of_the_same_labels_that_no_controller_has_seen_are_told_apart() {
    let deployment = |name: &str| {
        format!(
            "\nkind: Deployment\napiVersion: apps/v1\nmetadata: {{ name: {name} }}\nspec:\n  replicas: 1\n  template:{TEMPLATE}\n"
        )
    };
    check(
        &[deployment("blue"), deployment("green")].join("---"),
        &expect![[r#"
            place: default/blue-0 asks for cpu: 1, pods: 1; owner ReplicaSet blue-simulated-blue; labels app=x, pod-template-hash=simulated-blue
            place: default/green-0 asks for cpu: 1, pods: 1; owner ReplicaSet green-simulated-green; labels app=x, pod-template-hash=simulated-green
            LeftOut { gated: 0, preempting: 0, on_unknown_nodes: 0, held: {}, ownerless: 0, pools: [] }
        "#]],
    );
}

#[test]
fn nodes_and_claims_are_joined_and_charged_to_their_pools() {
    check(
        "
kind: NodePool
apiVersion: karpenter.sh/v1
metadata: { name: default }
spec:
  weight: 7
  template: { spec: { requirements: [], nodeClassRef: { group: g.io, kind: K, name: c1 } } }
---
kind: NodeClaim
apiVersion: karpenter.sh/v1
metadata: { name: joined, labels: { karpenter.sh/nodepool: default } }
spec: { requirements: [], nodeClassRef: { group: g.io, kind: K, name: c1 } }
status: { providerID: aws:///a/i-1, capacity: { cpu: 2 } }
---
kind: NodeClaim
apiVersion: karpenter.sh/v1
metadata: { name: coming, labels: { karpenter.sh/nodepool: default } }
spec:
  requirements: [{ key: topology.kubernetes.io/zone, operator: In, values: [a] }]
  startupTaints: [{ key: cni, effect: NoSchedule }]
  taints: [{ key: team, value: web, effect: NoSchedule }]
  nodeClassRef: { group: g.io, kind: K, name: c1 }
  resources: { requests: { cpu: 3 } }
---
kind: Node
apiVersion: v1
metadata:
  name: ip-1
  labels:
    karpenter.sh/nodepool: default
    karpenter.sh/initialized: 'true'
    node.kubernetes.io/instance-type: m.large
    topology.kubernetes.io/zone: a
    karpenter.sh/capacity-type: spot
spec: { providerID: aws:///a/i-1 }
status: { allocatable: { cpu: 1900m, pods: 10 }, capacity: { cpu: 2, memory: 8Gi } }
---
kind: CSINode
apiVersion: storage.k8s.io/v1
metadata: { name: ip-1 }
spec: { drivers: [{ name: ebs.csi.aws.com, nodeID: i-1, allocatable: { count: 25 } }] }
---
kind: Node
apiVersion: v1
metadata: { name: ip-2 }
spec: { taints: [{ key: karpenter.sh/disrupted, effect: NoSchedule }] }
status: { allocatable: { cpu: 4 } }
---
kind: Pod
apiVersion: v1
metadata: { name: moves, ownerReferences: [{ apiVersion: apps/v1, kind: ReplicaSet, name: r, uid: u, controller: true }] }
spec: { nodeName: ip-2, containers: [], priorityClassName: dear }
---
kind: Pod
apiVersion: v1
metadata: { name: bare }
spec: { nodeName: ip-2, containers: [] }
---
kind: Pod
apiVersion: v1
metadata: { name: protected, annotations: { karpenter.sh/do-not-disrupt: 'true' } }
spec: { nodeName: ip-2, containers: [] }
---
kind: Pod
apiVersion: v1
metadata: { name: stays }
spec: { nodeName: ip-1, containers: [] }
---
kind: Pod
apiVersion: v1
metadata: { name: lost }
spec: { nodeName: gone, containers: [] }
---
kind: Pod
apiVersion: v1
metadata: { name: waits }
spec: { containers: [] }
status: { nominatedNodeName: ip-1 }
---
kind: PriorityClass
apiVersion: scheduling.k8s.io/v1
metadata: { name: dear }
value: 1000
---
kind: DaemonSet
apiVersion: apps/v1
metadata: { name: agent }
spec: { selector: {}, template: { spec: { containers: [] } } }
",
        &expect![[r#"
            place: default/moves asks for pods: 1; owner ReplicaSet r; priority 1000
            daemon: default/agent asks for pods: 1; owner DaemonSet agent; tolerates node.kubernetes.io/not-ready, node.kubernetes.io/unreachable, node.kubernetes.io/disk-pressure, node.kubernetes.io/memory-pressure, node.kubernetes.io/pid-pressure, node.kubernetes.io/unschedulable
            node: ip-1 Ready at $0.10/h, cpu: 1900m, pods: 10; taints []; volumes {"ebs.csi.aws.com": 25}; holds ["default/stays"]
            node: ip-2 Leaving, cpu: 4; taints ["karpenter.sh/disrupted:NoSchedule"]; volumes {}; holds ["default/bare (goes)", "default/protected"]
            node: coming InFlight, cpu: 3; taints ["team=web:NoSchedule"]; volumes {}; holds []
            pool: NodePool/default weighs 7; used cpu: 5, memory: 16Gi, nodes: 2, pods: 110; taints []; ["m.large cpu: 1900m, memory: 8182Mi, pods: 110"]
            LeftOut { gated: 0, preempting: 1, on_unknown_nodes: 1, held: {"annotated do-not-evict or do-not-disrupt": 1}, ownerless: 1, pools: [] }
        "#]],
    );
}

#[test]
fn volumes_that_no_node_could_help_make_a_pod_invalid() {
    check(
        "
kind: Pod
apiVersion: v1
metadata: { name: missing }
spec: { containers: [], volumes: [{ name: d, persistentVolumeClaim: { claimName: none } }] }
---
kind: Pod
apiVersion: v1
metadata: { name: unbound }
spec: { containers: [], volumes: [{ name: d, persistentVolumeClaim: { claimName: slow } }] }
---
kind: PersistentVolumeClaim
apiVersion: v1
metadata: { name: slow }
spec: { storageClassName: at-once }
---
kind: StorageClass
apiVersion: storage.k8s.io/v1
metadata: { name: at-once }
provisioner: ebs.csi.aws.com
",
        &expect![[r#"
            place: default/missing asks for pods: 1; INVALID volume d: claim none does not exist
            place: default/unbound asks for pods: 1; INVALID volume d: claim slow is not bound, and its storage class at-once binds before a node is known
            LeftOut { gated: 0, preempting: 0, on_unknown_nodes: 0, held: {}, ownerless: 0, pools: [] }
        "#]],
    );
}

const INSTANCE: &str = r#"{ "format": "node-packing-instance/1", "name": "all", "capacity_types": ["on-demand", "spot"],
    "zones": 2, "daemonset_per_node": { "cpu_m": 100, "memory_mib": 101, "pods": 2 },
    "type_columns": ["name", "arch", "vcpu", "alloc_cpu_m", "alloc_memory_mib", "alloc_ephemeral_mib", "max_pods", "gpu",
                     "on_demand_usd_h", "spot_usd_h_by_zone"],
    "types": [["m.large", "amd64", 2, 1930, 7000, 17408, 29, 0, 0.1, [0.03, 0.04]],
              ["g.large", "amd64", 4, 3920, 14000, 17408, 29, 1, 1.5, null]],
    "shapes": [
        { "id": 0, "count": 2, "cpu_m": 100, "memory_mib": 256, "ephemeral_mib": 512, "zone_spread_max_skew": 1 },
        { "id": 1, "count": 1, "cpu_m": 100, "memory_mib": 256, "max_per_node": 1, "exclusive_on_node": ["b", "a"] },
        { "id": 2, "count": 1, "cpu_m": 100, "memory_mib": 256, "max_per_node": 2, "exclusive_on_node": ["b"] },
        { "id": 3, "count": 1, "cpu_m": 100, "memory_mib": 256, "gpu": 1, "zone": 1, "arch": "amd64",
          "capacity_type": "spot" }] }"#;

/// Reads `all.json`, which holds this, beside other files.
fn check_instance(text: &str, others: &[(&str, &str)], expected: &Expect) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in others.iter().chain(&[("all.json", text)]) {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let said = match instance::read(&folder.path().join("all.json")) {
        Ok(snapshot) => lines(&snapshot),
        Err(error) => format!("{error}\n").replace(&format!("{}/", folder.path().display()), ""),
    };
    expected.assert_eq(&said);
}

#[test]
fn an_instance_is_written_as_a_cluster_would_have_it() {
    check_instance(
        INSTANCE,
        &[],
        &expect![[r#"
        place: default/shape-0-0 asks for cpu: 100m, ephemeral-storage: 512Mi, memory: 256Mi, pods: 1; owner ReplicaSet shape-0; labels shape=0; spread over topology.kubernetes.io/zone by 1
        place: default/shape-0-1 asks for cpu: 100m, ephemeral-storage: 512Mi, memory: 256Mi, pods: 1; owner ReplicaSet shape-0; labels shape=0; spread over topology.kubernetes.io/zone by 1
        place: default/shape-1-0 asks for cpu: 100m, memory: 256Mi, pods: 1; owner ReplicaSet shape-1; labels shape=1; away from its like by kubernetes.io/hostname; ports 20001/TCP, 20000/TCP
        place: default/shape-2-0 asks for cpu: 100m, memory: 256Mi, pods: 1; owner ReplicaSet shape-2; labels shape=2; spread over kubernetes.io/hostname by 2; ports 20001/TCP
        place: default/shape-3-0 asks for cpu: 100m, memory: 256Mi, nvidia.com/gpu: 1, pods: 1; owner ReplicaSet shape-3; labels shape=3; selects karpenter.sh/capacity-type=spot, kubernetes.io/arch=amd64, topology.kubernetes.io/zone=zone-1; tolerates nvidia.com/gpu
        daemon: kube-system/daemon-0 asks for cpu: 50m, memory: 51Mi, pods: 1; owner DaemonSet daemon-0; tolerates 
        daemon: kube-system/daemon-1 asks for cpu: 50m, memory: 50Mi, pods: 1; owner DaemonSet daemon-1; tolerates 
        pool: NodePool/default weighs 0; used nothing; taints []; ["m.large cpu: 1930m, ephemeral-storage: 17Gi, memory: 7000Mi, pods: 29"]
        pool: NodePool/gpu weighs 0; used nothing; taints ["nvidia.com/gpu:NoSchedule"]; ["g.large cpu: 3920m, ephemeral-storage: 17Gi, memory: 14000Mi, nvidia.com/gpu: 1, pods: 29"]
    "#]],
    );
}

#[test]
fn an_instance_may_take_the_types_of_another() {
    let without = r#"{ "format": "node-packing-instance/1", "capacity_types": ["on-demand"], "zones": 1,
        "daemonset_per_node": { "cpu_m": 0, "memory_mib": 0, "pods": 0 }, "types_from": "other", "shapes": [] }"#;
    check_instance(
        without,
        &[("other.json", INSTANCE)],
        &expect![[r#"
        pool: NodePool/default weighs 0; used nothing; taints []; ["m.large cpu: 1930m, ephemeral-storage: 17Gi, memory: 7000Mi, pods: 29"]
        pool: NodePool/gpu weighs 0; used nothing; taints ["nvidia.com/gpu:NoSchedule"]; ["g.large cpu: 3920m, ephemeral-storage: 17Gi, memory: 14000Mi, nvidia.com/gpu: 1, pods: 29"]
    "#]],
    );
    check_instance(
        without,
        &[],
        &expect![[r#"
        all.json, document 1: types_from: the types are those of "other": name its file with --types FILE
    "#]],
    );
}

#[test]
fn nothing_is_made_of_what_nobody_could_plan_for() {
    let checked = |before: &str, after: &str, expected: Expect| {
        assert!(INSTANCE.contains(before));
        check_instance(&INSTANCE.replace(before, after), &[], &expected);
    };
    checked(
        "\"id\": 3, \"count\": 1",
        "\"id\": 3, \"count\": 2000000000",
        expect![[r"
        all.json, document 1: shapes[3].count: 2000000004 pods are more than the 300000 that are planned for at once
    "]],
    );
    checked(
        "\"id\": 0, \"count\": 2",
        "\"id\": 0, \"count\": 300000",
        expect![[r"
        all.json, document 1: shapes[1].count: 300001 pods are more than the 300000 that are planned for at once
    "]],
    );
    checked(
        "\"gpu\": 1, \"zone\"",
        "\"gpu\": 9223372036854775807, \"zone\"",
        expect![[r"
        all.json, document 1: shapes[3].gpu: 9223372036854775807 is not between 0 and 1099511627776
    "]],
    );
    checked(
        "\"ephemeral_mib\": 512",
        "\"ephemeral_mib\": -1",
        expect![[r"
        all.json, document 1: shapes[0].ephemeral_mib: -1 is not between 0 and 1099511627776
    "]],
    );
    checked(
        "7000",
        "9223372036854775807",
        expect![[r"
        all.json, document 1: types[0][4]: alloc_memory_mib must be a whole number of 0 or more
    "]],
    );
    checked(
        "\"pods\": 2",
        "\"pods\": 2000000000",
        expect![[r"
        all.json, document 1: daemonset_per_node.pods: 2000000000 is not between 0 and 1000
    "]],
    );
    checked(
        "\"zones\": 2",
        "\"zones\": 2000000000",
        expect![[r"
        all.json, document 1: zones: 2000000000 is not between 1 and 100
    "]],
    );
}

#[test]
fn a_mistake_in_an_instance_is_found() {
    check_instance(
        &INSTANCE.replace("instance/1", "instance/2"),
        &[],
        &expect![[r#"
        all.json, document 1: format: "node-packing-instance/2" is not known here: "node-packing-instance/1" is
    "#]],
    );
    check_instance(
        &INSTANCE.replace("\"zone\": 1", "\"zone\": 2"),
        &[],
        &expect![[r#"
        all.json, document 1: shapes[3].zone: there are zones 0 to 1
    "#]],
    );
    check_instance(
        &INSTANCE.replace("\"ephemeral_mib\"", "\"ephemeral\""),
        &[],
        &expect![[r#"
        all.json, document 1: shapes[0].ephemeral: unknown field `ephemeral`, expected one of `id`, `count`, `cpu_m`, `memory_mib`, `ephemeral_mib`, `gpu`, `arch`, `capacity_type`, `zone`, `zone_spread_max_skew`, `max_per_node`, `exclusive_on_node`
    "#]],
    );
    check_instance(
        &INSTANCE.replace("1930", "\"many\""),
        &[],
        &expect![[r#"
        all.json, document 1: types[0][3]: alloc_cpu_m must be a whole number of 0 or more
    "#]],
    );
    check_instance(
        &INSTANCE.replace("\"max_pods\", ", ""),
        &[],
        &expect![[r#"
        all.json, document 1: type_columns: "max_pods" is missing
    "#]],
    );
    check_instance(
        &INSTANCE.replace("\"capacity_type\": \"spot\"", "\"capacity_type\": \"cheap\""),
        &[],
        &expect![[r#"
            all.json, document 1: shapes[3].capacity_type: unknown variant `cheap`, expected one of `reserved`, `spot`, `on-demand`
        "#]],
    );
}
