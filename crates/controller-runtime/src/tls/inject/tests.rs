use super::*;
use crate::fake_api::FakeApi;

const APISERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io";
const WEBHOOK: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/tandem";

fn api_service() -> CaTarget {
    let name = "v1beta1.external.metrics.k8s.io".into();
    CaTarget::ApiService { name, namespace: "tandem".into(), service: "scaler".into() }
}

fn points_to(namespace: &str, name: &str) -> Value {
    json!({ "spec": { "service": { "namespace": namespace, "name": name } } })
}

fn encoded(bundle: &str) -> Value {
    json!(base64::engine::general_purpose::STANDARD.encode(bundle))
}

#[tokio::test]
async fn an_api_service_gets_the_bundle_once() {
    let api = FakeApi::new();
    let mut object = points_to("tandem", "scaler");
    object["spec"]["group"] = json!("external.metrics.k8s.io");
    object["spec"]["insecureSkipTLSVerify"] = json!(true);
    api.put(APISERVICE, object);
    let target = api_service();
    assert_eq!(inject_ca_bundle(&api.client(), &target, "CA").await.unwrap(), Injection::Written);
    assert_eq!(inject_ca_bundle(&api.client(), &target, "CA").await.unwrap(), Injection::Unchanged);
    let spec = &api.get(APISERVICE).unwrap()["spec"];
    assert_eq!((&spec["caBundle"], &spec["insecureSkipTLSVerify"]), (&encoded("CA"), &json!(false)));
    assert_eq!(spec["group"], "external.metrics.k8s.io");
}

#[tokio::test]
async fn an_api_service_of_somebody_else_keeps_its_bundle() {
    let api = FakeApi::new();
    for (namespace, name) in [("keda", "scaler"), ("tandem", "keda-operator-metrics-apiserver")] {
        let mut object = points_to(namespace, name);
        object["spec"]["caBundle"] = encoded("theirs");
        api.put(APISERVICE, object);
        let answer = inject_ca_bundle(&api.client(), &api_service(), "CA").await.unwrap();
        assert_eq!(answer, Injection::Elsewhere(format!("{namespace}/{name}")));
        assert_eq!(api.get(APISERVICE).unwrap()["spec"]["caBundle"], encoded("theirs"));
    }
}

#[tokio::test]
async fn every_webhook_of_a_configuration_gets_the_bundle_and_keeps_the_rest() {
    let api = FakeApi::new();
    let webhook = |name: &str| json!({ "name": name, "clientConfig": { "service": { "name": "svc" } } });
    api.put(WEBHOOK, json!({ "webhooks": [webhook("a"), webhook("b")] }));
    let target = CaTarget::ValidatingWebhook("tandem".into());
    assert_eq!(inject_ca_bundle(&api.client(), &target, "CA").await.unwrap(), Injection::Written);
    assert_eq!(inject_ca_bundle(&api.client(), &target, "CA").await.unwrap(), Injection::Unchanged);
    let webhooks = api.get(WEBHOOK).unwrap()["webhooks"].clone();
    for (index, name) in ["a", "b"].iter().enumerate() {
        assert_eq!(webhooks[index]["name"], *name);
        assert_eq!(webhooks[index]["clientConfig"]["caBundle"], encoded("CA"));
        assert_eq!(webhooks[index]["clientConfig"]["service"]["name"], "svc");
    }
}

#[tokio::test]
async fn a_webhook_list_changed_meanwhile_is_not_overwritten() {
    let api = FakeApi::new();
    api.put(WEBHOOK, json!({ "webhooks": [{ "name": "a", "clientConfig": {} }] }));
    api.before_next_write(|api| {
        api.put(WEBHOOK, json!({ "webhooks": [{ "name": "new", "clientConfig": {} }] }));
    });
    let target = CaTarget::ValidatingWebhook("tandem".into());
    assert!(inject_ca_bundle(&api.client(), &target, "CA").await.is_err());
    assert_eq!(api.get(WEBHOOK).unwrap()["webhooks"][0]["name"], "new");
}

#[tokio::test(start_paused = true)]
async fn a_bundle_somebody_removed_comes_back() {
    let api = FakeApi::new();
    api.put(APISERVICE, points_to("tandem", "scaler"));
    let (sender, bundle) = watch::channel(Arc::from("CA"));
    let shutdown = CancellationToken::new();
    let targets = vec![api_service()];
    let task = tokio::spawn(keep_ca_bundle_injected(api.client(), targets, bundle, shutdown.clone()));
    let bundle_now = || api.get(APISERVICE).unwrap()["spec"]["caBundle"].clone();
    // Each pause lets the paused clock run to the next look.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bundle_now(), encoded("CA"));
    api.put(APISERVICE, points_to("tandem", "scaler"));
    tokio::time::sleep(INJECT_EVERY).await;
    assert_eq!(bundle_now(), encoded("CA"));
    sender.send_replace("CA2".into());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bundle_now(), encoded("CA2"));
    shutdown.cancel();
    task.await.unwrap();
}
