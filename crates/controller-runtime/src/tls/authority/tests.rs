use http::{Method, StatusCode};
use serde_json::json;

use super::*;
use crate::fake_api::FakeApi;

const SECRET: &str = "/api/v1/namespaces/tandem/secrets/certs";
const DAY: Duration = Duration::from_hours(24);

fn authority(api: &FakeApi) -> Authority {
    Authority::new(api.client(), "tandem", "certs", vec!["svc.tandem.svc".into(), "127.0.0.1".into()])
}

fn begin() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn the_first_look_makes_a_secret_and_the_second_reads_it() {
    let api = FakeApi::new();
    let first = authority(&api).ensure(begin()).await.unwrap();
    let second = authority(&api).ensure(begin()).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(api.writes().len(), 1);
    let secret = api.get(SECRET).unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    for key in ["ca.crt", "ca.key", "tls.crt", "tls.key"] {
        assert!(secret["data"][key].is_string(), "{key}");
    }
}

#[tokio::test]
async fn two_replicas_that_begin_together_agree() {
    let api = FakeApi::new();
    let other: Arc<std::sync::Mutex<Option<Material>>> = Arc::default();
    let told = Arc::clone(&other);
    // Between our "there is none" and our create, the other replica creates its own.
    api.before_next_write(move |api| {
        let material =
            Material::create(&["svc.tandem.svc".into(), "127.0.0.1".into()], &Lifetimes::default(), begin()).unwrap();
        let secret = authority(api).filled(Secret::default(), &material);
        api.put(SECRET, serde_json::to_value(secret).unwrap());
        *told.lock().unwrap() = Some(material);
    });
    let ours = authority(&api).ensure(begin()).await.unwrap();
    assert_eq!(Some(ours), *other.lock().unwrap());
}

#[tokio::test]
async fn a_serving_certificate_is_renewed_before_its_end_and_its_ca_stays() {
    let api = FakeApi::new();
    let authority = authority(&api);
    let first = authority.ensure(begin()).await.unwrap();
    assert_eq!(authority.ensure(begin() + DAY * 59).await.unwrap(), first);
    let renewed = authority.ensure(begin() + DAY * 61).await.unwrap();
    assert_ne!(renewed.certificate, first.certificate);
    assert_eq!(renewed.ca_bundle, first.ca_bundle);
    assert_eq!(api.writes().last().unwrap().0, Method::PUT);
}

#[tokio::test]
async fn somebody_elses_certificate_is_served_and_never_written() {
    let api = FakeApi::new();
    let authority = authority(&api);
    let mut foreign = authority.ensure(begin()).await.unwrap();
    let mut secret = api.get(SECRET).unwrap();
    secret["data"].as_object_mut().unwrap().remove("ca.key");
    api.put(SECRET, secret);
    let writes = api.writes().len();
    foreign.ca_key = None;
    assert_eq!(authority.ensure(begin() + DAY * 89).await.unwrap(), foreign);
    assert_eq!(api.writes().len(), writes);
}

#[tokio::test]
async fn an_empty_secret_is_filled_and_keeps_its_labels() {
    let api = FakeApi::new();
    api.put(SECRET, json!({ "metadata": { "labels": { "app": "tandem" } }, "type": "Opaque" }));
    authority(&api).ensure(begin()).await.unwrap();
    let secret = api.get(SECRET).unwrap();
    assert!(secret["data"]["tls.crt"].is_string());
    assert_eq!((&secret["metadata"]["labels"]["app"], &secret["type"]), (&json!("tandem"), &json!("Opaque")));
}

#[tokio::test(start_paused = true)]
async fn who_starts_while_the_api_server_is_away_waits_for_it() {
    let api = FakeApi::new();
    let shutdown = CancellationToken::new();
    api.break_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    let starting = tokio::spawn(authority(&api).start(shutdown.clone()));
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!starting.is_finished());
    api.break_with(None);
    starting.await.unwrap().unwrap();
    // A refusal is told at once, and so is the end of the wait.
    api.break_with(Some(StatusCode::FORBIDDEN));
    assert!(authority(&api).start(shutdown.clone()).await.is_err());
    api.break_with(Some(StatusCode::SERVICE_UNAVAILABLE));
    shutdown.cancel();
    assert!(authority(&api).start(shutdown).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_running_server_takes_up_what_another_replica_wrote() {
    let api = FakeApi::new();
    let authority = authority(&api);
    let shutdown = CancellationToken::new();
    let cert = authority.clone().start(shutdown.clone()).await.unwrap();
    let mut bundle = cert.ca_bundle();
    let first = Arc::clone(&bundle.borrow_and_update());
    let next = Material::create(&authority.names, &Lifetimes::default(), Timestamp::now()).unwrap();
    let secret: Secret = serde_json::from_value(api.get(SECRET).unwrap()).unwrap();
    api.put(SECRET, serde_json::to_value(authority.filled(secret, &next)).unwrap());
    bundle.changed().await.unwrap();
    assert_ne!(first, *bundle.borrow());
    assert_eq!(bundle.borrow().as_ref(), next.ca_bundle);
    shutdown.cancel();
}
