use serde_json::{Value, json};

use super::super::validate;
use super::*;

#[track_caller]
fn check_object(name: &str, mut spec: Value, expected: &[&str]) {
    if spec.get("scaleTargetRef").is_none() {
        spec["scaleTargetRef"] = json!({ "name": "web" });
    }
    let object: ScaledObject = serde_json::from_value(json!({ "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject", "metadata": { "name": name }, "spec": spec }))
    .unwrap();
    let said: Vec<String> = validate(&object).iter().map(ToString::to_string).collect();
    assert_eq!(said, expected);
}

fn prometheus() -> Value {
    json!([{ "type": "prometheus", "metadata": {} }])
}

#[test]
fn bounds_are_those_of_keda() {
    check_object(
        "a",
        json!({ "triggers": prometheus(), "minReplicaCount": 5, "maxReplicaCount": 2 }),
        &["spec.minReplicaCount: MinReplicaCount=5 must be less than MaxReplicaCount=2"],
    );
    check_object(
        "a",
        json!({ "triggers": prometheus(), "minReplicaCount": 101 }),
        &["spec.minReplicaCount: MinReplicaCount=101 must be less than MaxReplicaCount=100"],
    );
    check_object(
        "a",
        json!({ "triggers": prometheus(), "idleReplicaCount": 2, "minReplicaCount": 2 }),
        &["spec.idleReplicaCount: IdleReplicaCount=2 must be less than MinReplicaCount=2"],
    );
    check_object(
        "a",
        json!({ "triggers": prometheus(), "minReplicaCount": -1 }),
        &["spec.minReplicaCount: must be at least 0"],
    );
}

#[test]
fn a_minimum_given_as_zero_leaves_room_for_an_idle_count_of_zero() {
    check_object("a", json!({ "triggers": prometheus(), "idleReplicaCount": 0, "minReplicaCount": 0 }), &[]);
    check_object(
        "a",
        json!({ "triggers": prometheus(), "idleReplicaCount": 0 }),
        &["spec.idleReplicaCount: IdleReplicaCount=0 must be less than MinReplicaCount=0"],
    );
}

#[test]
fn names_must_fit_a_label() {
    check_object(
        &"a".repeat(55),
        json!({ "triggers": prometheus() }),
        &[&format!(
            "spec.advanced.horizontalPodAutoscalerConfig.name: HPA name \"keda-hpa-{}\" derived from scaledobject is 64 \
         characters long; must be no more than 63 characters; set spec.advanced.horizontalPodAutoscalerConfig.name to a \
         shorter name or shorten the scaledobject name",
            "a".repeat(55)
        )],
    );
    check_object(&"a".repeat(54), json!({ "triggers": prometheus() }), &[]);
}

#[test]
fn trigger_names_are_unique_and_metric_types_fit() {
    check_object(
        "a",
        json!({ "minReplicaCount": 1, "triggers": [
            { "type": "prometheus", "name": "x", "metadata": {}, "metricType": "Utilization" },
            { "type": "cpu", "name": "x", "metadata": {} },
            { "type": "cron", "metadata": {}, "useCachedMetrics": true } ] }),
        &[
            "spec.triggers[1].name: triggerName \"x\" is defined multiple times in the ScaledObject, but it must be unique",
            "spec.triggers[0].metricType: metric type \"Utilization\" is not allowed for \"prometheus\"; use AverageValue or Value",
            "spec.triggers[1].metricType: \"cpu\" needs metricType Utilization or AverageValue",
            "spec.triggers[2].useCachedMetrics: property \"useCachedMetrics\" is not supported for \"cron\" scaler",
        ],
    );
    check_object("a", json!({ "triggers": [] }), &["spec.triggers: no triggers defined in the ScaledObject"]);
}

#[test]
fn fallback_needs_a_trigger_that_can_fail() {
    check_object(
        "a",
        json!({ "minReplicaCount": 1, "fallback": { "failureThreshold": -1, "replicas": 2, "behavior": "scalingModifiers" },
                "triggers": [{ "type": "cpu", "metricType": "Utilization", "metadata": { "value": "50" } }] }),
        &[
            "spec.fallback: FailureThreshold=-1 & Replicas=2 must both be greater than or equal to 0",
            "spec.fallback: at least one trigger (that is not cpu or memory) has to have the `AverageValue` type for the \
             fallback to be enabled",
            "spec.fallback.behavior: scalingModifiers fallback behavior requires scalingModifiers.formula to be defined",
        ],
    );
}

#[test]
fn cpu_alone_cannot_go_to_zero() {
    check_object(
        "a",
        json!({ "triggers": [{ "type": "cpu", "metricType": "Utilization", "metadata": {} }] }),
        &[
            "spec.minReplicaCount: scaledobject has only cpu/memory triggers AND minReplica is 0 (scale to zero doesn't \
           work in this case)",
        ],
    );
}

#[test]
fn a_formula_needs_a_target_that_is_a_number() {
    check_object(
        "a",
        json!({ "triggers": prometheus(), "advanced": { "scalingModifiers": { "target": "two" } } }),
        &[
            "spec.advanced.scalingModifiers.formula: error ScalingModifiers.Formula is mandatory",
            "spec.advanced.scalingModifiers.target: error validating target in ScalingModifiers\nerror converting target for \
             scalingModifiers (string->float) to valid target: \"two\" is not a number",
        ],
    );
    check_object("a", json!({ "triggers": prometheus(), "advanced": { "scalingModifiers": {} } }), &[]);
}

#[test]
fn a_formula_may_name_external_triggers_that_have_a_name() {
    let spec = json!({ "minReplicaCount": 1, "advanced": { "scalingModifiers": { "formula": "q + c", "target": "2" } },
        "triggers": [{ "type": "prometheus", "name": "q", "metadata": {} },
                     { "type": "cpu", "name": "c", "metricType": "Utilization", "metadata": {} }] });
    check_object(
        "a",
        spec,
        &[
            "spec.advanced.scalingModifiers.formula: error validating formula in ScalingModifiers\nunknown name c (1:5)\n | \
           q + c\n | ....^",
        ],
    );
}

#[test]
fn a_scaled_job_refuses_what_has_no_meaning_for_jobs() {
    let job: ScaledJob = serde_json::from_value(json!({ "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob",
        "metadata": { "name": "j" }, "spec": { "jobTargetRef": { "template": { "spec": { "containers": [] } } },
            "scalingStrategy": { "strategy": "custom", "customScalingRunningJobPercentage": "half" },
            "triggers": [{ "type": "cpu", "metadata": {}, "metricType": "Utilization" }] } }))
    .unwrap();
    let said: Vec<String> = validate(&job).iter().map(|e| e.field.clone()).collect();
    assert_eq!(
        said,
        [
            "spec.triggers[0].metricType",
            "spec.triggers[0].type",
            "spec.scalingStrategy.customScalingRunningJobPercentage",
        ]
    );
}

#[test]
fn a_file_belongs_to_the_cluster_wide_kind() {
    let spec = json!({ "filePath": "a.json" });
    let one: TriggerAuthentication = serde_json::from_value(json!({ "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication", "metadata": { "name": "a" }, "spec": spec }))
    .unwrap();
    assert_eq!(validate(&one)[0].field, "spec.filePath");
    let all: ClusterTriggerAuthentication = serde_json::from_value(json!({ "apiVersion": "keda.sh/v1alpha1",
        "kind": "ClusterTriggerAuthentication", "metadata": { "name": "a" }, "spec": spec }))
    .unwrap();
    assert_eq!(validate(&all), []);
}
