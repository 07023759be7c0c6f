use axum::body::Body;
use http::{Method, StatusCode};
use tower::ServiceExt as _;

use super::*;

const BASE: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/shop";

/// Answers by the metric's name.
struct Source;

#[async_trait]
impl MetricSource for Source {
    async fn read(
        &self,
        namespace: &str,
        metric: &str,
        selector: &Selector,
    ) -> Result<Vec<ExternalMetricValue>, MetricError> {
        let why = || "prometheus did not answer".to_owned();
        match metric {
            "gone" => Err(MetricError::NotFound { what: "there is no ScaledObject shop/cart".into() }),
            "unknown" => Err(MetricError::Unknown { why: why() }),
            "early" => Err(MetricError::Unavailable { why: why() }),
            "slow" => std::future::pending().await,
            "panic" => panic!("a defect of a scaler"),
            _ => Ok(vec![ExternalMetricValue {
                metric_name: metric.to_owned(),
                labels: [("namespace".to_owned(), namespace.to_owned()), ("asked".to_owned(), selector.to_string())]
                    .into(),
                timestamp: "2026-11-24T10:00:00.987Z".parse().unwrap(),
                value: Milli::from_thousandths(12_500),
            }]),
        }
    }
}

async fn send(request: http::Request<Body>) -> (StatusCode, Value) {
    let answer = router(Arc::new(Source), &Health::default()).oneshot(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn ask(path: &str) -> (StatusCode, Value) {
    send(http::Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_value_is_a_list_with_one_exact_quantity() {
    let path = format!("{BASE}/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dcart");
    let expected = json!({
        "kind": "ExternalMetricValueList",
        "apiVersion": "external.metrics.k8s.io/v1beta1",
        "metadata": {},
        "items": [{
            "metricName": "s0-prometheus",
            "metricLabels": { "namespace": "shop", "asked": "scaledobject.keda.sh/name=cart" },
            "timestamp": "2026-11-24T10:00:00Z",
            "value": "12500m",
        }],
    });
    assert_eq!(ask(&path).await, (StatusCode::OK, expected));
}

#[tokio::test(start_paused = true)]
async fn every_failure_is_a_status_with_its_code_and_reason() {
    for (metric, code, reason, message) in [
        ("gone", 404, "NotFound", "there is no ScaledObject shop/cart"),
        ("unknown", 500, "InternalError", "prometheus did not answer"),
        ("early", 503, "ServiceUnavailable", "prometheus did not answer"),
        ("slow", 504, "Timeout", "the metric source did not answer within 5 s"),
        ("panic", 500, "InternalError", "the metric source failed"),
        ("s0?labelSelector=a%20~%20b", 400, "BadRequest", "unable to parse the label selector: an operator is missing"),
    ] {
        let (status, body) = ask(&format!("{BASE}/{metric}")).await;
        assert_eq!((status.as_u16(), &body["code"]), (code, &json!(code)), "{metric}");
        assert_eq!(
            (&body["kind"], &body["status"], &body["reason"]),
            (&json!("Status"), &json!("Failure"), &json!(reason))
        );
        assert!(body["message"].as_str().unwrap().starts_with(message), "{metric}: {body}");
        assert!(body.get("items").is_none());
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_status_too() {
    let deeper = format!("{BASE}/a/b");
    for path in ["/", "/apis/other/v1", "/apis/external.metrics.k8s.io/v1beta1/s0-prometheus", &deeper] {
        let (status, body) = ask(path).await;
        assert_eq!((status, &body["reason"]), (StatusCode::NOT_FOUND, &json!("NotFound")), "{path}");
    }
}

#[tokio::test]
async fn nothing_can_be_written() {
    for path in [format!("{BASE}/s0-prometheus"), "/apis".to_owned()] {
        let request = http::Request::builder().method(Method::POST).uri(&path).body(Body::empty()).unwrap();
        let (status, body) = send(request).await;
        assert_eq!((status, &body["reason"]), (StatusCode::METHOD_NOT_ALLOWED, &json!("MethodNotAllowed")), "{path}");
    }
}

#[tokio::test]
async fn discovery_leads_from_the_root_to_the_one_resource() {
    let (_, groups) = ask("/apis").await;
    assert_eq!((&groups["kind"], &groups["groups"][0]["name"]), (&json!("APIGroupList"), &json!(GROUP)));
    let (_, group) = ask("/apis/external.metrics.k8s.io").await;
    assert_eq!(group["kind"], "APIGroup");
    let version = group["preferredVersion"]["groupVersion"].as_str().unwrap();
    let (_, resources) = ask(&format!("/apis/{version}")).await;
    assert_eq!(resources["kind"], "APIResourceList");
    let expected = json!([{ "name": "externalmetrics", "singularName": "", "namespaced": true,
        "kind": "ExternalMetricValueList", "verbs": ["get"] }]);
    assert_eq!((&resources["groupVersion"], &resources["resources"]), (&json!(version), &expected));
}

#[tokio::test]
async fn aggregated_discovery_is_what_kubes_types_read() {
    let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let request = http::Request::get("/apis").header("Accept", media_type).body(Body::empty()).unwrap();
    let answer = router(Arc::new(Source), &Health::default()).oneshot(request).await.unwrap();
    assert_eq!(answer.headers()[http::header::CONTENT_TYPE], media_type);
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let list: kube::core::discovery::v2::APIGroupDiscoveryList = serde_json::from_slice(&body).unwrap();
    assert_eq!(list.items[0].versions[0].resources[0].resource.as_deref(), Some("externalmetrics"));
}

#[tokio::test]
async fn the_openapi_index_leads_to_a_document() {
    assert_eq!(ask("/openapi/v2").await.1["swagger"], "2.0");
    let (_, index) = ask("/openapi/v3").await;
    let url = index["paths"]["apis/external.metrics.k8s.io/v1beta1"]["serverRelativeURL"].as_str().unwrap();
    let (status, document) = ask(url).await;
    assert_eq!((status, &document["openapi"]), (StatusCode::OK, &json!("3.0.0")));
}

#[tokio::test]
async fn the_probes_are_the_programs() {
    let health = Health::default();
    let check = health.check("caches");
    let app = router(Arc::new(Source), &health);
    let status = async |path: &str| {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        app.clone().oneshot(request).await.unwrap().status()
    };
    assert_eq!(status("/livez").await, StatusCode::OK);
    assert_eq!(status("/healthz").await, StatusCode::OK);
    assert_eq!(status("/readyz").await, StatusCode::SERVICE_UNAVAILABLE);
    check.ready();
    assert_eq!(status("/readyz").await, StatusCode::OK);
}
