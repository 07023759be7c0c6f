use axum::body::Body;
use http::StatusCode;
use serde_json::json;
use tower::ServiceExt as _;

use super::*;

/// Asks the router, whose API server is out of reach.
async fn asked(kind: &str, request: Value) -> Value {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    controller_runtime::boot::install_crypto_provider();
    let client = Client::try_from(config).unwrap();
    let sources = crate::supervisor::idle_sources(&client);
    let admission = Admission::new(client, sources, vec!["shop".to_owned()]);
    let body = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    let group = if kind.ends_with("cloudeventsource") { "eventing-keda-sh" } else { "keda-sh" };
    let request = http::Request::post(format!("/validate-{group}-v1alpha1-{kind}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap();
    let response = admission.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["response"].clone()
}

fn object(idle: u32) -> Value {
    json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "scaleTargetRef": {"name": "web"}, "minReplicaCount": 1, "idleReplicaCount": idle,
            "triggers": [{"type": "prometheus", "metadata": {}}],
        },
    })
}

fn creation(object: &Value) -> Value {
    json!({"uid": "u1", "operation": "CREATE", "namespace": "shop", "object": object})
}

#[tokio::test]
async fn a_wrong_object_is_refused_with_its_reason_and_a_right_one_is_not() {
    let refused = asked("scaledobject", creation(&object(1))).await;
    assert_eq!((&refused["uid"], &refused["allowed"]), (&json!("u1"), &json!(false)));
    assert_eq!(refused["status"]["message"], "IdleReplicaCount=1 must be less than MinReplicaCount=1");
    let allowed = asked("scaledobject", creation(&object(0))).await;
    assert_eq!(allowed["allowed"], true);
    assert_eq!(allowed["warnings"], json!(["who else scales the workload is not known yet"]));
}

#[tokio::test]
async fn a_change_beside_the_spec_is_not_judged() {
    let mut paused = object(1);
    paused["metadata"]["annotations"] = json!({"autoscaling.keda.sh/paused": "true"});
    let update = |old: &Value, new: &Value| json!({"uid": "u1", "operation": "UPDATE", "namespace": "shop", "object": new, "oldObject": old});
    assert_eq!(asked("scaledobject", update(&object(1), &paused)).await["allowed"], true);
    assert_eq!(asked("scaledobject", update(&object(0), &object(1))).await["allowed"], false);
    let mut going = object(1);
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(asked("scaledobject", update(&object(0), &going)).await["allowed"], true);
}

#[tokio::test]
async fn namespaces_that_are_not_watched_are_not_judged() {
    let mut elsewhere = creation(&object(1));
    elsewhere["namespace"] = json!("bank");
    assert_eq!(asked("scaledobject", elsewhere).await["allowed"], true);
}

#[tokio::test]
async fn a_trigger_of_a_type_to_come_is_refused_as_such() {
    let mut object = object(0);
    object["spec"]["triggers"][0]["type"] = json!("predictkube");
    let said = asked("scaledobject", creation(&object)).await["status"]["message"].clone();
    let said = said.as_str().unwrap();
    assert!(said.starts_with("spec.triggers[0].type: ") && said.contains("is not supported yet"), "{said}");
}

#[tokio::test]
async fn what_is_no_object_is_refused() {
    let mut object = object(0);
    object["spec"]["triggers"] = json!("none");
    let said = asked("scaledobject", creation(&object)).await;
    assert_eq!(said["allowed"], false);
    assert!(said["status"]["message"].as_str().unwrap().contains("cannot be read"), "{said}");
}

#[tokio::test]
async fn authentications_are_judged_without_a_namespace_too() {
    let spec = json!({"podIdentity": {"provider": "aws", "roleArn": "arn:x", "identityOwner": "workload"}});
    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ClusterTriggerAuthentication", "metadata": {"name": "a"}, "spec": spec,
    });
    let said =
        asked("clustertriggerauthentication", json!({"uid": "u2", "operation": "CREATE", "object": object})).await;
    assert_eq!(said["status"]["message"], "roleArn of PodIdentity can't be set if KEDA isn't identityOwner");
}

#[tokio::test]
async fn sources_of_events_are_judged() {
    for (kind, name) in
        [("cloudeventsource", "CloudEventSource"), ("clustercloudeventsource", "ClusterCloudEventSource")]
    {
        let object = json!({
            "apiVersion": "eventing.keda.sh/v1alpha1", "kind": name, "metadata": {"name": "a"},
            "spec": {
                "destination": {"http": {"uri": "http://x"}}, "eventSubscription": {"excludedEventTypes": ["nonsense"]},
            },
        });
        let said = asked(kind, json!({"uid": "u3", "operation": "CREATE", "object": object})).await;
        assert_eq!(said["status"]["message"], "eventType \"nonsense\" is not known", "{kind}");
    }
}
