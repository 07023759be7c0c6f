//! A Job as its ScaledJob wants it. Pure.

use std::collections::BTreeMap;

use api::keda::SCALED_JOB_LABEL;
use api::keda::ScaledJob;
use api::keda::annotations::{JOB_EXCLUDED_LABELS, JOB_GENERATION};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

/// Who made a Job; people filter by KEDA's name.
const MANAGER: &str = "keda-operator";

/// The Job to create; the API server completes its name.
pub(super) fn job(object: &ScaledJob, version: &str) -> Value {
    let name = object.name_any();
    let mut spec = object.spec.job_target_ref.clone();
    let template = entry(entry_of(&mut spec), "template");
    let own = template.get("metadata").and_then(|metadata| metadata.get("labels")).cloned();
    let metadata = entry(template, "metadata");
    entry(metadata, "labels").insert(SCALED_JOB_LABEL.to_owned(), json!(name));
    let pod = entry(template, "spec");
    // A Job cannot always restart its pods, which is what a pod does unless told.
    if pod.get("restartPolicy").and_then(Value::as_str).unwrap_or_default().is_empty() {
        pod.insert("restartPolicy".to_owned(), json!("OnFailure"));
    }
    let mut annotations = object.annotations().clone();
    annotations.insert(JOB_GENERATION.to_owned(), object.metadata.generation.unwrap_or_default().to_string());
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": object.namespace(),
            "labels": labels(object, own.as_ref().and_then(Value::as_object), version),
            "annotations": annotations,
            "ownerReferences": [object.controller_owner_ref(&())],
        },
        "spec": spec,
    })
}

fn labels(object: &ScaledJob, template: Option<&Map<String, Value>>, version: &str) -> BTreeMap<String, String> {
    let name = object.name_any();
    let fixed = [
        ("app.kubernetes.io/name", name.as_str()),
        ("app.kubernetes.io/version", version),
        ("app.kubernetes.io/part-of", name.as_str()),
        ("app.kubernetes.io/managed-by", MANAGER),
        (SCALED_JOB_LABEL, name.as_str()),
    ];
    let mut labels: BTreeMap<String, String> =
        fixed.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let excluded = object.annotations().get(JOB_EXCLUDED_LABELS).map(String::as_str).unwrap_or_default();
    let excluded: Vec<&str> = excluded.split(',').map(str::trim).collect();
    let own = object.labels().iter().filter(|(key, _)| !excluded.contains(&key.as_str()));
    labels.extend(own.map(|(key, value)| (key.clone(), value.clone())));
    let template =
        template.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    labels.extend(template);
    // Jobs are counted by it.
    labels.insert(SCALED_JOB_LABEL.to_owned(), name);
    labels
}

/// The object in a field; what is not an object there is replaced by one.
fn entry<'a>(of: &'a mut Map<String, Value>, field: &str) -> &'a mut Map<String, Value> {
    entry_of(of.entry(field).or_insert_with(|| json!({})))
}

fn entry_of(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it has just been made an object")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled_job(metadata: &Value, template: &Value) -> ScaledJob {
        let mut whole = json!({"name": "sj", "namespace": "web", "uid": "u", "generation": 2});
        for (key, value) in metadata.as_object().unwrap() {
            whole[key] = value.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": whole,
            "spec": {"jobTargetRef": {"template": template, "backoffLimit": 4, "someNewField": 1}, "triggers": []},
        }))
        .unwrap()
    }

    /// The corpus of KEDA 2.20.
    #[test]
    fn a_job_looks_as_keda_makes_it() {
        let metadata = json!({
            "labels": {"team": "a", "x": "y"}, "annotations": {"scaledjob.keda.sh/job-excluded-labels": "x"},
        });
        let job = job(&scaled_job(&metadata, &json!({"spec": {"restartPolicy": "Never"}})), "1.2.3");
        let metadata = &job["metadata"];
        assert_eq!(metadata["generateName"], "sj-");
        assert_eq!(
            metadata["labels"],
            json!({
                "app.kubernetes.io/managed-by": "keda-operator", "app.kubernetes.io/name": "sj",
                "app.kubernetes.io/part-of": "sj", "app.kubernetes.io/version": "1.2.3",
                "scaledjob.keda.sh/name": "sj", "team": "a",
            })
        );
        assert_eq!(
            metadata["annotations"],
            json!({"scaledjob.keda.sh/generation": "2", "scaledjob.keda.sh/job-excluded-labels": "x"})
        );
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["name"], &owner["controller"]),
            (&json!("ScaledJob"), &json!("sj"), &json!(true))
        );
        assert_eq!(job["spec"]["template"]["metadata"]["labels"], json!({"scaledjob.keda.sh/name": "sj"}));
        assert_eq!(job["spec"]["template"]["spec"]["restartPolicy"], "Never");
        assert_eq!((&job["spec"]["backoffLimit"], &job["spec"]["someNewField"]), (&json!(4), &json!(1)));
    }

    #[test]
    fn pods_restart_on_failure_unless_told_and_keep_their_labels() {
        let template = json!({"metadata": {"labels": {"app": "w", "scaledjob.keda.sh/name": "other"}}, "spec": {}});
        let job = job(&scaled_job(&json!({}), &template), "1");
        assert_eq!(job["spec"]["template"]["spec"]["restartPolicy"], "OnFailure");
        let labels = &job["spec"]["template"]["metadata"]["labels"];
        assert_eq!(labels, &json!({"app": "w", "scaledjob.keda.sh/name": "sj"}));
        assert_eq!(
            (&job["metadata"]["labels"]["app"], &job["metadata"]["labels"]["scaledjob.keda.sh/name"]),
            (&json!("w"), &json!("sj"))
        );
    }
}
