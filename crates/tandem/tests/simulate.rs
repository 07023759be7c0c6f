//! Folders of manifests in, what people see out.
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them when it updates")]
#![expect(clippy::unwrap_used, reason = "a test says so by ending")]

use std::{fs, path::Path, process::Command};

use expect_test::{Expect, expect};

/// Two types in two zones: on demand in both, spot in one.
const TYPES: &str = r#"[
{ "name": "m.large", "architecture": "amd64", "operatingSystems": ["linux"],
  "resources": { "cpu": "2", "memory": "8Gi", "pods": "29" }, "offerings": [
    { "Price": 0.10, "Requirements": [{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
      { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] },
    { "Price": 0.10, "Requirements": [{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
      { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["b"] }] },
    { "Price": 0.04, "Requirements": [{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["spot"] },
      { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] },
{ "name": "m.2xlarge", "architecture": "amd64", "operatingSystems": ["linux"],
  "resources": { "cpu": "8", "memory": "32Gi", "pods": "58" }, "offerings": [
    { "Price": 0.40, "Requirements": [{ "key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"] },
      { "key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"] }] }] }
]"#;

const POOL: &str = "
apiVersion: karpenter.sh/v1
kind: NodePool
metadata: { name: default }
spec:
  template:
    spec:
      nodeClassRef: { group: karpenter.k8s.aws, kind: EC2NodeClass, name: default }
      requirements:
      - { key: karpenter.sh/capacity-type, operator: In, values: [on-demand] }
";

fn deployment(name: &str, replicas: u32, cpu: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {name}, namespace: shop }}
spec:
  replicas: {replicas}
  selector: {{ matchLabels: {{ app: {name} }} }}
  template:
    metadata: {{ labels: {{ app: {name} }} }}
    spec:
      containers:
      - name: main
        image: example.com/{name}
        resources: {{ requests: {{ cpu: {cpu}, memory: 1Gi }} }}
"
    )
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Exit code, standard output and standard error, without the folder's name and the time it took.
fn run(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .arg("simulate")
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let mut said = String::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line = line.split("Solved in ").next().unwrap().trim_end();
        said.push_str(if line.contains("solve_milliseconds") { "  (time)" } else { line });
        said.push('\n');
    }
    for line in String::from_utf8(output.stderr).unwrap().lines() {
        said.extend(["| ", line, "\n"]);
    }
    format!("{said}exit code {}\n", output.status.code().unwrap())
}

fn check(files: &[(&str, &str)], arguments: &[&str], expected: &Expect) {
    let folder = folder(files);
    expected.assert_eq(&run(folder.path(), &[&["."], arguments].concat()));
}

#[test]
fn a_folder_of_manifests_becomes_a_plan() {
    let objects = [POOL, &deployment("web", 3, "500m"), &deployment("api", 2, "1")].join("---");
    check(
        &[("all.yaml", &objects), ("types.json", TYPES)],
        &[],
        &expect![[r#"
            $0.30/h; proven minimum. The greedy rule: $0.40/h.
            5 pods: 5 on 3 new nodes.

            New nodes
              COUNT  TYPE     ZONE      PAID          EACH  TOGETHER   CPU  MEMORY  PODS  WHOSE PODS
                  3  m.large  any of 2  on-demand  $0.10/h   $0.30/h  61 %    21 %   1–2  3 web, 2 api

            Why
              5 pods: no node takes it, and the cheapest plan for all pods puts it on this new node
            exit code 0
        "#]],
    );
}

#[test]
fn the_plan_is_one_json_object() {
    let objects = [POOL, &deployment("web", 2, "500m")].join("---");
    check(
        &[("all.yaml", &objects), ("types.json", TYPES)],
        &["--format", "json", "--verbose"],
        &expect![[r#"
            {
              "cost_usd_per_hour": 0.1,
              "lower_bound_usd_per_hour": 0.1,
              "lower_bound_ignores": [],
              "greedy_usd_per_hour": 0.1,
              "greedy_leaves_out": 0,
              "proven_optimal": true,
              (time)
              "pods": 2,
              "pods_on_existing_nodes": 0,
              "pods_on_new_nodes": 2,
              "nodes": 1,
              "unplaced": 0,
              "new_nodes": [
                {
                  "pool": "NodePool/default",
                  "count": 1,
                  "instance_type": "m.large",
                  "zones": [
                    "a",
                    "b"
                  ],
                  "capacity_type": "on-demand",
                  "price_usd_per_hour": 0.1,
                  "cpu_percent": 52.6,
                  "memory_percent": 25.0,
                  "pods_per_node": [
                    2,
                    2
                  ],
                  "contents": [
                    {
                      "owner": "web",
                      "pods": 2
                    }
                  ],
                  "indices": [
                    0
                  ]
                }
              ],
              "existing_nodes": [],
              "refusals": [],
              "reasons": [
                {
                  "count": 1,
                  "of": "pods",
                  "reason": "a new node opened for other pods has room"
                },
                {
                  "count": 1,
                  "of": "pods",
                  "reason": "no node takes it, so a new one is opened"
                }
              ],
              "notes": [],
              "placements": [
                {
                  "pod": "shop/web-0",
                  "node": {
                    "new": 0
                  },
                  "why": "no node takes it, so a new one is opened"
                },
                {
                  "pod": "shop/web-1",
                  "node": {
                    "new": 0
                  },
                  "why": "a new node opened for other pods has room"
                }
              ],
              "planned_nodes": [
                {
                  "pool": "NodePool/default",
                  "offerings": [
                    {
                      "offering": "m.large in a (on-demand)",
                      "price_usd_per_hour": 0.1
                    },
                    {
                      "offering": "m.large in b (on-demand)",
                      "price_usd_per_hour": 0.1
                    },
                    {
                      "offering": "m.2xlarge in a (on-demand)",
                      "price_usd_per_hour": 0.4
                    }
                  ],
                  "why": [
                    "opened for pod shop/web-0",
                    "it costs $0.10/h; next would be m.2xlarge in a (on-demand) for $0.40/h"
                  ],
                  "pods": [
                    "shop/web-0",
                    "shop/web-1"
                  ]
                }
              ]
            }
            exit code 0
        "#]],
    );
}

#[test]
fn what_offerings_kept_open_and_the_scheduler_cost_is_told_who_asks() {
    let objects = [POOL, &deployment("web", 3, "500m"), &deployment("api", 2, "1")].join("---");
    let files = [("all.yaml", &*objects), ("types.json", TYPES)];
    check(
        &files,
        &["--flexibility", "3", "--play"],
        &expect![[r#"
            $0.30/h; proven minimum. The greedy rule: $0.40/h.
            5 pods: 5 on 3 new nodes.

            New nodes
              COUNT  TYPE     ZONE      PAID          EACH  TOGETHER   CPU  MEMORY  PODS  WHOSE PODS
                  3  m.large  any of 2  on-demand  $0.10/h   $0.30/h  61 %    21 %   1–2  3 web, 2 api

            Why
              5 pods: no node takes it, and the cheapest plan for all pods puts it on this new node

            Flexibility
              with the 3 offerings of each new node kept open it costs $1.20/h at most

            Played through the kube-scheduler, at worst
              as it likes: $0.30/h; 0 pods without a place on the plan's nodes, 3 elsewhere than planned
              with nominations: $0.30/h; 0 pods without a place on the plan's nodes, 0 elsewhere than planned
            exit code 0
        "#]],
    );
    check(
        &files,
        &["--flexibility", "0"],
        &expect![[r#"
        | error: invalid value '0' for '--flexibility <N>': 0 is not in 1..=65535
        | 
        | For more information, try '--help'.
        exit code 2
    "#]],
    );
}

#[test]
fn one_pod_is_explained_with_what_else_it_could_have() {
    let objects = [POOL, &deployment("web", 2, "500m")].join("---").replace("[on-demand]", "[on-demand, spot]");
    check(
        &[("all.yaml", &objects), ("types.json", TYPES)],
        &["--pod", "shop/web-0"],
        &expect![[r#"
            shop/web-0 goes on new node 1 of NodePool/default: m.large in a (spot) at $0.04/h.
              because: no node takes it, so a new one is opened
              because: opened for pod shop/web-0
              because: it costs $0.04/h; next would be m.large in a (on-demand) for $0.10/h
              It shares that node with web.
              Machines that would do too and cost more:
                m.large in a (on-demand) at $0.10/h, $0.06/h more
                m.large in b (on-demand) at $0.10/h, $0.06/h more
                m.2xlarge in a (on-demand) at $0.40/h, $0.36/h more
              The cheapest node for this pod alone: m.large in a (spot) at $0.04/h.
            exit code 0
        "#]],
    );
}

#[test]
fn a_pod_on_a_new_node_is_told_why_no_node_that_is_there_will_do() {
    let node = "\nkind: Node\napiVersion: v1\nmetadata: { name: n1 }\nstatus: { allocatable: { cpu: 1, memory: 8Gi, pods: 9 } }\n";
    let objects = [POOL, &deployment("api", 2, "800m"), node].join("---");
    let files = [("all.yaml", &*objects), ("types.json", TYPES)];
    check(
        &files,
        &["--pod", "shop/api-1"],
        &expect![[r#"
            shop/api-1 goes on new node 1 of NodePool/default: m.large in a (on-demand) at $0.10/h.
              because: no node takes it, so a new one is opened
              because: opened for pod shop/api-1
              because: it costs $0.10/h; next would be m.2xlarge in a (on-demand) for $0.40/h
              because: 0 of 1 nodes fit: 1 too full
              It has that node for itself.
              Machines that would do too and cost more:
                m.2xlarge in a (on-demand) at $0.40/h, $0.30/h more
              The cheapest node for this pod alone: m.large in a (on-demand) at $0.10/h.
            exit code 0
        "#]],
    );
    check(
        &files,
        &["--pod", "shop/api-1", "--format", "json"],
        &expect![[r#"
            {
              "pod": "shop/api-1",
              "place": {
                "node": {
                  "new": 0
                },
                "bought": {
                  "offering": "m.large in a (on-demand)",
                  "price_usd_per_hour": 0.1
                },
                "pool": "NodePool/default",
                "shared_with": []
              },
              "why": [
                "no node takes it, so a new one is opened",
                "opened for pod shop/api-1",
                "it costs $0.10/h; next would be m.2xlarge in a (on-demand) for $0.40/h"
              ],
              "not_on_existing": "0 of 1 nodes fit: 1 too full",
              "alternatives": [
                {
                  "offering": "m.large in b (on-demand)",
                  "price_usd_per_hour": 0.1
                },
                {
                  "offering": "m.2xlarge in a (on-demand)",
                  "price_usd_per_hour": 0.4
                }
              ],
              "alone": {
                "offering": "m.large in a (on-demand)",
                "price_usd_per_hour": 0.1
              }
            }
            exit code 0
        "#]],
    );
    check(
        &files,
        &["--pod", "shop/api-2"],
        &expect![[r#"
        | error: .: there is no pod shop/api-2 to place in it
        exit code 2
    "#]],
    );
    check(
        &files,
        &["--pod", "api-2"],
        &expect![[r#"
        | error: invalid value 'api-2' for '--pod <NAMESPACE/NAME>': "api-2" is not namespace/name
        | 
        | For more information, try '--help'.
        exit code 2
    "#]],
    );
}

#[test]
fn pods_without_a_place_are_told_with_every_pool() {
    let objects = [POOL, &deployment("big", 7, "16"), &deployment("web", 1, "100m")].join("---");
    check(
        &[("all.yaml", &objects), ("types.json", TYPES)],
        &[],
        &expect![[r#"
            $0.10/h; proven minimum >= $0.10/h. The greedy rule: $0.10/h.
            8 pods: 1 on 1 new node, 7 without a place.

            New nodes
              COUNT  TYPE     ZONE      PAID          EACH  TOGETHER  CPU  MEMORY  PODS  WHOSE PODS
                  1  m.large  any of 2  on-demand  $0.10/h   $0.10/h  5 %    12 %     1  web

            Without a place
              7 pods: shop/big-0, shop/big-1, shop/big-2, shop/big-3, shop/big-4 and 2 more
                NodePool/default: asks for 16 of cpu, the largest node has 7900m free

            Why
              1 pod: no node takes it, so a new one is opened
            exit code 0
        "#]],
    );
}

#[test]
fn what_a_workload_has_already_is_not_counted_again_and_nodes_take_what_they_can() {
    let cluster = r#"
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Node
  metadata:
    name: n1
    labels: { kubernetes.io/arch: amd64, topology.kubernetes.io/zone: a }
  status: { allocatable: { cpu: "2", memory: 8Gi, pods: "29" } }
- apiVersion: v1
  kind: Pod
  metadata:
    name: web-7d9f-abcde
    namespace: shop
    labels: { pod-template-hash: 7d9f }
    ownerReferences: [{ apiVersion: apps/v1, kind: ReplicaSet, name: web-7d9f, uid: u, controller: true }]
  spec: { nodeName: n1, containers: [{ name: main, resources: { requests: { cpu: 500m } } }] }
- apiVersion: v1
  kind: Service
  metadata: { name: web, namespace: shop }
- apiVersion: v1
  kind: Pod
  metadata: { name: gated }
  spec: { schedulingGates: [{ name: wait }], containers: [{ name: main, imagePullpolicy: Never }] }
- apiVersion: karpenter.sh/v1
  kind: NodePool
  metadata: { name: fixed }
  spec: { replicas: 3, template: { spec: { requirements: [], nodeClassRef: { group: karpenter.kwok.sh, kind: KWOKNodeClass, name: default } } } }
- apiVersion: karpenter.sh/v1alpha5
  kind: Provisioner
  metadata: { name: gone, deletionTimestamp: "2026-11-30T02:00:00Z" }
  spec: {}
"#;
    let objects = [POOL, &deployment("web", 4, "500m"), cluster].join("---");
    check(
        &[("all.yaml", &objects), ("types.json", TYPES)],
        &[],
        &expect![[r#"
            Nothing to buy.
            3 pods: 3 on 1 node that is there.

            Nodes that are there
              n1: 3 web

            Why
              3 pods: a ready node has room
            | skipped 1 object of kinds that are not read: 1 Service
            | warning: Pod: spec.containers[].imagePullpolicy is no field known here and has no effect (first in all.yaml, document 3, item 4, Pod gated)
            | left out 1 pod with scheduling gates
            | left out Provisioner gone, which is being deleted
            | left out NodePool fixed: spec.replicas: static NodePools are not supported yet
            exit code 0
        "#]],
    );
}

#[test]
fn nothing_is_bought_for_a_pod_that_a_budget_never_lets_go() {
    let pod = |name: &str, app: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  labels: {{ app: {app} }}
  ownerReferences: [{{ apiVersion: apps/v1, kind: ReplicaSet, name: {app}, uid: u, controller: true }}]
spec: {{ nodeName: n1, containers: [{{ name: main, resources: {{ requests: {{ cpu: 500m }} }} }}] }}
status: {{ phase: Running, conditions: [{{ type: Ready, status: "True" }}] }}
"#
        )
    };
    let node = r#"
apiVersion: v1
kind: Node
metadata: { name: n1 }
spec: { taints: [{ key: karpenter.sh/disrupted, effect: NoSchedule }] }
status: { allocatable: { cpu: "2", memory: 8Gi, pods: "29" } }
"#;
    // The one is used up for now, and the other one lets none go.
    let budget = |app: &str, needed: i32| {
        format!(
            "
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{ name: {app} }}
spec: {{ minAvailable: {needed}, selector: {{ matchLabels: {{ app: {app} }} }} }}
status: {{ expectedPods: 2, desiredHealthy: {needed}, currentHealthy: {needed}, disruptionsAllowed: 0 }}
"
        )
    };
    let objects =
        [POOL, node, &pod("web-0", "web"), &pod("db-0", "db"), &pod("db-1", "db"), &budget("web", 1), &budget("db", 2)]
            .join("---");
    check(
        &[("all.yaml", &objects), ("types.json", TYPES)],
        &[],
        &expect![[r#"
        $0.10/h; proven minimum. The greedy rule: $0.10/h.
        1 pod: 1 on 1 new node.

        New nodes
          COUNT  TYPE     ZONE      PAID          EACH  TOGETHER   CPU  MEMORY  PODS  WHOSE PODS
              1  m.large  any of 2  on-demand  $0.10/h   $0.10/h  26 %     0 %     1  web

        Why
          1 pod: no node takes it, so a new one is opened
        | kept 2 pods on nodes that are leaving: the disruption budget default/db, which lets none of its pods go
        exit code 0
    "#]],
    );
}

#[test]
fn every_mistake_is_said_at_once_with_its_place() {
    let mistakes = [
        &deployment("web", 1, "1 000m"),
        &deployment("web", 1, "1"),
        "\nkind: Deployment\napiVersion: apps/v1\nmetadata: { name: n }\nspec: { replicas: many }\n",
        "\nkind: NodePool\napiVersion: karpenter.sh/v1beta1\nmetadata: { name: old }\n",
        "\nkind: Pod\napiVersion: v1\nmetadata: { namespace: shop }\n",
        "\nkind: Pod\napiVersion: v1\nmetadata: { name: p }\nspec: { containers: [], tolerations: [{ operator: Near }] }\n",
        &POOL.replace("operator: In", "operator: Near"),
        "\nkind: Deployment\napiVersion: extensions/v1beta1\nmetadata: { name: ancient }\n",
        // Somebody else's kind.
        "\nkind: Job\napiVersion: batch.example.com/v1\nmetadata: { name: other }\n",
    ]
    .join("---");
    check(
        &[("all.yaml", &mistakes), ("types.json", &TYPES.replace("0.40", "-1"))],
        &[],
        &expect![[r#"
            | error: all.yaml, document 1, Deployment shop/web: spec.template.spec.containers[0].resources.requests.cpu: quantity "1 000m" has a space: write 1000m instead
            | error: all.yaml, document 2, Deployment shop/web: there is one of this name already: all.yaml, document 1
            | error: all.yaml, document 3, Deployment: metadata.name: invalid type: boolean `false`, expected a string: put it in quotes
            | error: all.yaml, document 4, NodePool old: apiVersion: "karpenter.sh/v1beta1" is not understood here: write karpenter.sh/v1
            | error: all.yaml, document 5, Pod shop/: metadata.name: the object needs a name
            | error: all.yaml, document 6, Pod default/p: spec.tolerations[0].operator: "Near" is none of Equal, Exists
            | error: all.yaml, document 7, NodePool default: spec.template.spec.requirements[0].operator: "Near" is not an operator
            | error: all.yaml, document 8, Deployment ancient: apiVersion: "extensions/v1beta1" has no Deployment: write apps/v1
            | error: types.json, document 1, instance type m.2xlarge: offerings[0].Price: -1 is not a price
            exit code 2
        "#]],
    );
}

#[test]
fn what_cannot_be_parsed_is_found_by_its_line() {
    check(
        &[("a.yaml", "a: 1\n---\nb: [1\nc: 2\n"), ("b.json", "{\n\"a\": 1,\n}")],
        &[],
        &expect![[r#"
            | error: a.yaml, document 2: line 4, column 2: this is not YAML: illegal placement of ':' indicator
            | error: b.json, document 1: line 3: this is not JSON: trailing comma
            exit code 2
        "#]],
    );
}

#[test]
fn without_a_catalogue_or_objects_it_says_what_to_do() {
    check(
        &[("all.yaml", POOL)],
        &[],
        &expect![[r#"
            Nothing to buy.
            0 pods to place.
            | prices: EC2 on-demand list prices of us-east-1, February 2026; --catalogue FILE takes others
            exit code 0
        "#]],
    );
    check(
        &[("types.json", TYPES)],
        &[],
        &expect![[r#"
        | error: .: there is no Pod, no Deployment or the like, no Node and no pool in it
        exit code 2
    "#]],
    );
    check(
        &[("notes.txt", "")],
        &[],
        &expect![[r#"
        | error: .: there is no .yaml, .yml or .json file in this folder
        exit code 2
    "#]],
    );
}
