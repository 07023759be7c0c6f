use std::{fmt::Write as _, sync::Arc};

use expect_test::{Expect, expect};

use crate::{documents, objects::objects, snapshot};

/// What is planned for in the snapshot of these documents, and what is wrong with them.
#[track_caller]
fn check(yaml: &[&str], expected: &Expect) {
    let (objects, remarks, problems) = objects(documents::parse("all.yaml", &yaml.join("\n---\n")).unwrap());
    let (snapshot, _, more) = snapshot(&objects, &Arc::from([]));
    let mut said = String::new();
    for pod in snapshot.pods.iter().chain(&snapshot.daemons) {
        write!(said, "{} asks for {}", pod.key, pod.requests).unwrap();
        pod.node_selector.iter().for_each(|(key, value)| write!(said, "; {key}={value}").unwrap());
        let written = pod.tolerations.iter().filter_map(|one| one.key.as_deref());
        written.filter(|key| !key.starts_with("node.")).for_each(|key| write!(said, "; tolerates {key}").unwrap());
        pod.invalid.iter().for_each(|what| write!(said, "; INVALID {what}").unwrap());
        said.push('\n');
    }
    problems.iter().chain(&more).for_each(|problem| writeln!(said, "{problem}").unwrap());
    remarks.skipped.keys().for_each(|kind| writeln!(said, "skipped: {kind}").unwrap());
    expected.assert_eq(&said);
}

/// An object with a pod template: `spec` is the rest of the pod's spec, `resources` what its one container has.
fn workload(kind: &str, name: &str, spec: &str, resources: &str) -> String {
    let group = if kind == "Job" { "batch" } else { "apps" };
    format!(
        "{{ apiVersion: {group}/v1, kind: {kind}, metadata: {{ name: {name}, namespace: shop }}, spec: {{ template: {{ spec: \
         {{ {spec} containers: [{{ name: main, resources: {resources} }}] }} }} }} }}"
    )
}

/// A pod that somebody wrote; `metadata` is more of its metadata.
fn pod(name: &str, metadata: &str, spec: &str, resources: &str) -> String {
    format!(
        "{{ apiVersion: v1, kind: Pod, metadata: {{ name: {name}, namespace: shop {metadata} }}, spec: {{ {spec} containers: \
         [{{ name: main, resources: {resources} }}] }} }}"
    )
}

fn range(limits: &str) -> String {
    format!(
        "{{ apiVersion: v1, kind: LimitRange, metadata: {{ name: all, namespace: shop }}, spec: {{ limits: [{limits}] }} }}"
    )
}

const KATA: &str = "
kind: RuntimeClass
apiVersion: node.k8s.io/v1
metadata: { name: kata }
handler: kata
overhead: { podFixed: { cpu: 250m, memory: 128Mi } }
scheduling: { nodeSelector: { kata: here }, tolerations: [{ key: kata, operator: Exists }] }
";

#[test]
fn a_runtime_class_adds_what_it_takes_and_where_it_is() {
    let (in_kata, one_cpu) = ("runtimeClassName: kata,", "{ requests: { cpu: 1 } }");
    check(
        &[
            KATA,
            &workload("Deployment", "web", in_kata, one_cpu),
            &workload("Job", "once", &format!("{in_kata} nodeSelector: {{ disk: fast }},"), one_cpu),
            &workload("DaemonSet", "agent", in_kata, one_cpu),
            &workload("ReplicaSet", "plain", "", one_cpu),
            &pod("written", "", in_kata, one_cpu),
            // Both are told of the class by an API server, which had another one then.
            &pod("kept", ", uid: u", in_kata, one_cpu),
        ],
        &expect![[r#"
            shop/kept asks for cpu: 1, pods: 1
            shop/written asks for cpu: 1250m, memory: 128Mi, pods: 1; kata=here; tolerates kata
            shop/web-0 asks for cpu: 1250m, memory: 128Mi, pods: 1; kata=here; tolerates kata
            shop/plain-0 asks for cpu: 1, pods: 1
            shop/once-0 asks for cpu: 1250m, memory: 128Mi, pods: 1; disk=fast; kata=here; tolerates kata
            shop/agent asks for cpu: 1250m, memory: 128Mi, pods: 1; kata=here; tolerates kata
        "#]],
    );
}

#[test]
fn what_contradicts_a_runtime_class_is_not_made() {
    let one_cpu = "{ requests: { cpu: 1 } }";
    check(
        &[
            KATA,
            &workload("Deployment", "a", "runtimeClassName: kata, nodeSelector: { kata: there },", one_cpu),
            &workload("Deployment", "b", "runtimeClassName: kata, overhead: { cpu: 1 },", one_cpu),
            &workload("Deployment", "c", "runtimeClassName: kata, overhead: { cpu: '0.25', memory: 128Mi },", one_cpu),
            &workload("DaemonSet", "d", "runtimeClassName: other,", one_cpu),
            // Nothing is to be made of it.
            &workload("Deployment", "e", "runtimeClassName: other,", one_cpu)
                .replace("spec: { template", "spec: { replicas: 0, template"),
            "{ kind: RuntimeClass, apiVersion: node.k8s.io/v1, metadata: { name: odd }, handler: x, overhead: { podFixed: { cpu: many } } }",
        ],
        &expect![[r#"
            shop/c-0 asks for cpu: 1250m, memory: 128Mi, pods: 1; kata=here; tolerates kata
            all.yaml, document 7, RuntimeClass odd: overhead.podFixed.cpu: quantity "many" does not begin with a number
            all.yaml, document 2, Deployment shop/a: spec.template.spec.nodeSelector.kata: "there" contradicts "here", which RuntimeClass kata demands
            all.yaml, document 3, Deployment shop/b: spec.template.spec.overhead: it is not the overhead of RuntimeClass kata: leave it out
            all.yaml, document 5, DaemonSet shop/d: spec.template.spec.runtimeClassName: RuntimeClass other is not in the input, and what it adds to pods is not known
        "#]],
    );
}

#[test]
fn a_pod_of_an_unknown_priority_is_not_made() {
    let class = "{ kind: PriorityClass, apiVersion: scheduling.k8s.io/v1, metadata: { name: dear }, value: 7 }";
    check(
        &[
            class,
            &workload("Deployment", "known", "priorityClassName: dear,", "{}"),
            &workload("Deployment", "own", "priorityClassName: system-node-critical,", "{}"),
            &workload("Deployment", "unknown", "priorityClassName: deer,", "{}"),
            &workload("DaemonSet", "agent", "priorityClassName: deer,", "{}"),
            &pod("kept", ", uid: u", "priorityClassName: deer, priority: 3,", "{}"),
        ],
        &expect![[r#"
            shop/kept asks for pods: 1
            shop/known-0 asks for pods: 1
            shop/own-0 asks for pods: 1
            all.yaml, document 4, Deployment shop/unknown: spec.template.spec.priorityClassName: PriorityClass deer is not in the input, and what its pods come before is not known
            all.yaml, document 5, DaemonSet shop/agent: spec.template.spec.priorityClassName: PriorityClass deer is not in the input, and what its pods come before is not known
        "#]],
    );
}

#[test]
fn a_limit_range_says_what_is_not_said() {
    check(
        &[
            &range("{ type: Container, default: { cpu: 2, memory: 1Gi }, defaultRequest: { cpu: 500m } }"),
            &workload("Deployment", "nothing", "", "{}"),
            &workload("Deployment", "limit-alone", "", "{ limits: { cpu: 1 } }"),
            &workload("Deployment", "request", "", "{ requests: { cpu: 100m, memory: 2Mi } }"),
            &workload(
                "StatefulSet",
                "two",
                "initContainers: [{ name: first }, { name: side, restartPolicy: Always }],",
                "{}",
            ),
            &workload("DaemonSet", "agent", "", "{}"),
            &workload("Deployment", "elsewhere", "", "{}").replace("shop", "bank"),
            &workload("Deployment", "too-much", "", "{ requests: { cpu: 3 } }"),
            &pod("written", "", "", "{}"),
            &pod("kept", ", uid: u", "", "{}"),
        ],
        &expect![[r#"
            shop/kept asks for pods: 1
            shop/written asks for cpu: 500m, memory: 1Gi, pods: 1
            bank/elsewhere-0 asks for pods: 1
            shop/limit-alone-0 asks for cpu: 1, memory: 1Gi, pods: 1
            shop/nothing-0 asks for cpu: 500m, memory: 1Gi, pods: 1
            shop/request-0 asks for cpu: 100m, memory: 2Mi, pods: 1
            shop/two-0 asks for cpu: 1, memory: 2Gi, pods: 1
            shop/agent asks for cpu: 500m, memory: 1Gi, pods: 1
            all.yaml, document 8, Deployment shop/too-much: spec.template.spec.containers[0].resources.requests.cpu: 3 is more than the limit of 2, its own or a LimitRange's
        "#]],
    );
}

#[test]
fn the_bounds_of_a_limit_range_are_defaults_too() {
    check(
        &[
            &range("{ type: Container, max: { cpu: 2 }, min: { memory: 1Mi } }"),
            &workload("Deployment", "nothing", "", "{}"),
        ],
        &expect![[r#"
            shop/nothing-0 asks for cpu: 2, memory: 1Mi, pods: 1
        "#]],
    );
}

#[test]
fn what_a_limit_range_forbids_is_not_made() {
    check(
        &[
            &range(
                "{ type: Container, min: { cpu: 100m }, max: { memory: 1Gi } }, { type: Container, maxLimitRequestRatio: { cpu: 2.5 } }, \
                 { type: Pod, max: { cpu: 1500m } }, { type: PersistentVolumeClaim, max: { storage: 1 } }",
            ),
            &workload("Deployment", "fine", "", "{ requests: { cpu: 400m }, limits: { cpu: 1 } }"),
            &workload("Deployment", "small", "", "{ requests: { cpu: 50m }, limits: { cpu: 50m } }"),
            &workload(
                "Deployment",
                "large",
                "",
                "{ requests: { cpu: 400m, memory: 2Gi }, limits: { cpu: 1, memory: 3Gi } }",
            ),
            &workload("Deployment", "stretched", "", "{ requests: { cpu: 399m }, limits: { cpu: 1 } }"),
            &workload("Deployment", "unlimited", "", "{ requests: { cpu: 400m } }"),
            &workload(
                "Deployment",
                "together",
                "initContainers: [{ name: side, restartPolicy: Always, resources: { limits: { cpu: 1 } } }],",
                "{ limits: { cpu: 1 } }",
            ),
        ],
        &expect![[r#"
            shop/fine-0 asks for cpu: 400m, memory: 1Gi, pods: 1
            all.yaml, document 4, Deployment shop/large: spec.template.spec.containers[0].resources: LimitRange all allows a container no more than 1Gi of memory: it has a limit of 3Gi
            all.yaml, document 3, Deployment shop/small: spec.template.spec.containers[0].resources: LimitRange all allows a container no less than 100m of cpu: it asks for 50m
            all.yaml, document 5, Deployment shop/stretched: spec.template.spec.containers[0].resources: LimitRange all allows a container a limit of 2.5 times the cpu that it asks for: it asks for 399m, it has a limit of 1
            all.yaml, document 7, Deployment shop/together: spec.template.spec: LimitRange all allows a pod no more than 1500m of cpu: it has a limit of 2
            all.yaml, document 6, Deployment shop/unlimited: spec.template.spec.containers[0].resources: LimitRange all allows a container a limit of 2.5 times the cpu that it asks for: it asks for 400m, it has no limit
            all.yaml, document 6, Deployment shop/unlimited: spec.template.spec: LimitRange all allows a pod no more than 1500m of cpu: it has no limit
        "#]],
    );
}

#[test]
fn what_some_containers_may_use_limits_the_pod() {
    let init = "initContainers: [{ name: side, restartPolicy: Always, resources: { requests: { cpu: 1 } } }],";
    check(
        &[
            &range("{ type: Pod, min: { cpu: 1500m } }"),
            &workload("Deployment", "half", init, "{ limits: { cpu: 1 } }"),
        ],
        &expect![[r#"
            all.yaml, document 2, Deployment shop/half: spec.template.spec: LimitRange all allows a pod no less than 1500m of cpu: it has a limit of 1
        "#]],
    );
}

#[test]
fn a_limit_range_that_cannot_be_read_sets_nothing() {
    check(
        &[
            &range("{ type: Container, default: { cpu: lots }, min: { cpu: -1 } }"),
            &workload("Deployment", "nothing", "", "{}"),
        ],
        &expect![[r#"
            shop/nothing-0 asks for pods: 1
            all.yaml, document 1, LimitRange shop/all: spec.limits[0].default.cpu: quantity "lots" does not begin with a number
            all.yaml, document 1, LimitRange shop/all: spec.limits[0].min.cpu: quantity "-1" is negative
        "#]],
    );
}

#[test]
fn a_label_that_a_selector_names_does_not_tell_pods_apart_again() {
    let term = |keys: &str| {
        format!(
            "{{ topologyKey: zone, {keys}: [app, rev], labelSelector: {{ matchLabels: {{ app: web }}, matchExpressions: [{{ key: \
             rev, operator: Exists }}] }} }}"
        )
    };
    let spread = |keys| {
        let term = term(keys).replace("{ topologyKey", "{ maxSkew: 1, whenUnsatisfiable: DoNotSchedule, topologyKey");
        format!("topologySpreadConstraints: [{term}],")
    };
    let wish = format!(
        "affinity: {{ podAntiAffinity: {{ preferredDuringSchedulingIgnoredDuringExecution: [{{ weight: 1, podAffinityTerm: {} }}] }} \
         }},",
        term("mismatchLabelKeys").replace("app, ", "")
    );
    check(
        &[
            &workload("Deployment", "spread", &spread("matchLabelKeys"), "{}"),
            &workload("Deployment", "away", &wish, "{}"),
            &workload("Deployment", "apart", &wish.replace("mismatchLabelKeys", "matchLabelKeys"), "{}"),
            &pod("written", "", &spread("matchLabelKeys"), "{}"),
            // What an API server makes of `matchLabelKeys`.
            &pod("kept", ", uid: u", &spread("matchLabelKeys"), "{}"),
        ],
        &expect![[r#"
            shop/kept asks for pods: 1
            shop/away-0 asks for pods: 1
            all.yaml, document 4, Pod shop/written: spec.topologySpreadConstraints[0].matchLabelKeys: labelSelector names app, too: name it in one of them
            all.yaml, document 4, Pod shop/written: spec.topologySpreadConstraints[0].matchLabelKeys: labelSelector names rev, too: name it in one of them
            all.yaml, document 3, Deployment shop/apart: spec.template.spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.matchLabelKeys: labelSelector names rev, too: name it in one of them
            all.yaml, document 1, Deployment shop/spread: spec.template.spec.topologySpreadConstraints[0].matchLabelKeys: labelSelector names app, too: name it in one of them
            all.yaml, document 1, Deployment shop/spread: spec.template.spec.topologySpreadConstraints[0].matchLabelKeys: labelSelector names rev, too: name it in one of them
        "#]],
    );
}
