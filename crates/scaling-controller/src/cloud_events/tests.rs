use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use controller_runtime::metrics::Registry;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;

/// An API server that has these sources and takes statuses and events.
#[derive(Clone)]
struct Cluster {
    sources: Arc<[Value]>,
    statuses: mpsc::UnboundedSender<(String, Value)>,
}

async fn api(State(cluster): State<Cluster>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if request.uri().query().is_some_and(|query| query.contains("watch=")) {
        return Response::new(Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>()));
    }
    let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
    if method == Method::GET {
        let items =
            cluster.sources.iter().filter(|s| format!("{}s", s["kind"].as_str().unwrap().to_lowercase()) == plural);
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items.collect::<Vec<_>>()});
        return axum::Json(list).into_response();
    }
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    if method == Method::PATCH && !path.ends_with("/status") {
        let name = path.split('/').next_back().unwrap().to_owned();
        cluster.statuses.send((name, body["metadata"]["finalizers"].clone())).unwrap();
        return axum::Json(cluster.sources[0].clone()).into_response();
    }
    if method == Method::PATCH {
        let name = path.split('/').nth_back(1).unwrap().to_owned();
        cluster.statuses.send((name.clone(), body["status"]["conditions"][0].clone())).unwrap();
        let found = cluster.sources.iter().find(|s| s["metadata"]["name"] == name.as_str()).unwrap();
        return axum::Json(found).into_response();
    }
    axum::Json(body).into_response()
}

/// A program that takes events: answers `code` once and 204 after that.
#[derive(Clone)]
struct Sink {
    code: Arc<AtomicU16>,
    got: mpsc::UnboundedSender<(HeaderMap, Value)>,
}

async fn take(State(sink): State<Sink>, headers: HeaderMap, body: String) -> StatusCode {
    let code = sink.code.swap(204, Ordering::SeqCst);
    sink.got.send((headers, serde_json::from_str(&body).unwrap())).unwrap();
    StatusCode::from_u16(code).unwrap()
}

struct Bed {
    announcer: Announcer,
    registry: Registry,
    statuses: mpsc::UnboundedReceiver<(String, Value)>,
    got: mpsc::UnboundedReceiver<(HeaderMap, Value)>,
    shutdown: CancellationToken,
}

impl Bed {
    /// Sources of these specs, where `SINK` stands for a real server's address, and a dispatcher that leads.
    async fn start(code: u16, sources: Value) -> Self {
        controller_runtime::boot::install_crypto_provider();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/events", listener.local_addr().unwrap());
        let (sender, got) = mpsc::unbounded_channel();
        let sink = Sink { code: Arc::new(AtomicU16::new(code)), got: sender };
        let router = Router::new().route("/events", axum::routing::post(take)).with_state(sink);
        tokio::spawn(async move { axum::serve(listener, router).await });

        let sources: Value = serde_json::from_str(&sources.to_string().replace("SINK", &address)).unwrap();
        let (sender, statuses) = mpsc::unbounded_channel();
        let cluster = Cluster { sources: sources.as_array().unwrap().clone().into(), statuses: sender };
        let router: Router = Router::new().fallback(api).with_state(cluster);
        let transport = router.map_request(|request: http::Request<kube::client::Body>| request.map(Body::new));
        let client = Client::new(transport, "default");

        let registry = Registry::default();
        let dispatcher = Dispatcher {
            client: client.clone(),
            http: Arc::new(Http::new(scalers::HTTP_TIMEOUT)),
            metrics: Arc::new(Metrics::new(&registry)),
            settings: CloudEventSettings { cluster_name: "prod".to_owned(), own_namespace: "keda".to_owned() },
            namespace: None,
        };
        let (announcer, announcements) = Announcer::new(Recorder::new(client, "keda-operator"));
        let (shutdown, (_alone, leading)) = (CancellationToken::new(), watch::channel(true));
        tokio::spawn(dispatcher.run(announcements, leading, shutdown.clone()));
        Self { announcer, registry, statuses, got, shutdown }
    }

    async fn announce(&self, namespace: &str, reason: &str) {
        let about = ObjectReference {
            kind: Some("ScaledObject".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some("web".to_owned()),
            ..ObjectReference::default()
        };
        self.announcer.publish(&about, Kind::Normal, reason, "Reconcile", "well".to_owned()).await;
    }

    /// The conditions of the first `count` statuses that are written, by source.
    async fn conditions(&mut self, count: usize) -> BTreeMap<String, Value> {
        let mut conditions = BTreeMap::new();
        for _ in 0..count {
            conditions.extend(self.statuses.recv().await);
        }
        conditions
    }
}

fn source(kind: &str, name: &str, spec: &Value) -> Value {
    let namespace = (kind == "CloudEventSource").then_some("shop");
    json!({
        "apiVersion": "eventing.keda.sh/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1", "uid": name},
        "spec": spec,
    })
}

#[tokio::test]
async fn each_source_gets_the_events_of_its_namespace_and_subscription() {
    let all = json!({"destination": {"http": {"uri": "SINK"}}, "clusterName": "near"});
    let ready = json!({
        "destination": {"http": {"uri": "SINK"}},
        "eventSubscription": {"includedEventTypes": ["keda.scaledobject.paused.v1"]},
    });
    let sources = json!([source("CloudEventSource", "all", &all), source("ClusterCloudEventSource", "wide", &ready)]);
    let mut bed = Bed::start(204, sources).await;
    let conditions = bed.conditions(2).await;
    assert_eq!(conditions["all"]["status"], "True");
    for (namespace, reason) in
        [("bank", "ScaledObjectReady"), ("shop", "ScaledObjectReady"), ("bank", "ScaledObjectPaused")]
    {
        bed.announce(namespace, reason).await;
    }
    let mut told = Vec::new();
    for _ in 0..2 {
        let (headers, body) = bed.got.recv().await.unwrap();
        assert_eq!(
            (&body["message"], &headers["content-type"]),
            (&json!("well"), &"application/json".parse().unwrap())
        );
        let text = |name: &str| headers[name].to_str().unwrap().to_owned();
        told.push((text("ce-subject"), text("ce-type"), body["reason"].as_str().unwrap().to_owned()));
    }
    told.sort();
    let (near, wide) = ("/near/shop/scaledobject/web", "/prod/bank/scaledobject/web");
    assert_eq!(
        told,
        [
            (near.to_owned(), "keda.scaledobject.ready.v1".to_owned(), "ScaledObjectReady".to_owned()),
            (wide.to_owned(), "keda.scaledobject.paused.v1".to_owned(), "ScaledObjectPaused".to_owned()),
        ]
    );
    bed.shutdown.cancel();
}

#[tokio::test]
async fn a_source_that_cannot_send_says_so() {
    let grid = json!({"destination": {"azureEventGridTopic": {"endpoint": "https://topic.example"}}});
    let wrong = json!({"destination": {"http": {"uri": "nowhere"}}});
    let sources = json!([source("CloudEventSource", "grid", &grid), source("CloudEventSource", "wrong", &wrong)]);
    let mut bed = Bed::start(204, sources).await;
    let conditions = bed.conditions(2).await;
    for (name, says) in [("grid", "azureEventGridTopic is not supported yet"), ("wrong", "must begin with http")] {
        let condition = &conditions[name];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("CloudEventSourceFailed")));
        assert!(condition["message"].as_str().unwrap().contains(says), "{condition}");
    }
    bed.shutdown.cancel();
}

#[tokio::test]
async fn a_busy_destination_is_tried_again_and_a_refusal_is_not() {
    let spec = json!({"destination": {"http": {"uri": "SINK"}}});
    let sources = json!([source("CloudEventSource", "all", &spec)]);
    let mut bed = Bed::start(503, sources.clone()).await;
    bed.conditions(1).await;
    bed.announce("shop", "ScaledObjectReady").await;
    let (first, second) = (bed.got.recv().await.unwrap(), bed.got.recv().await.unwrap());
    assert_eq!(first.0["ce-id"], second.0["ce-id"], "it is the same event");
    bed.shutdown.cancel();

    let mut bed = Bed::start(403, sources).await;
    bed.conditions(1).await;
    bed.announce("shop", "ScaledObjectReady").await;
    let condition = bed.conditions(1).await.remove("all").unwrap();
    assert_eq!(condition["status"], "False");
    assert!(condition["message"].as_str().unwrap().ends_with("HTTP 403"), "{condition}");
    bed.announce("shop", "ScaledObjectPaused").await;
    assert_eq!(bed.conditions(1).await["all"]["status"], "True", "the next event arrives");
    let text = bed.registry.encode().unwrap();
    for state in ["emitted", "failed"] {
        let set = format!("namespace=\"shop\",cloudeventsource=\"all\",eventsink=\"http\",state=\"{state}\"");
        let line = format!("keda_cloudeventsource_events_emitted_total{{{set}}} 1\n");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    bed.shutdown.cancel();
}

#[tokio::test]
async fn nobody_waits_for_a_destination() {
    let mut bed = Bed::start(204, json!([])).await;
    bed.shutdown.cancel();
    // The dispatcher is gone or does not look: whoever announces goes on all the same.
    let (announcer, mut announcements) = Announcer::new(bed.announcer.recorder.clone());
    bed.announcer = announcer;
    for _ in 0..QUEUE + 10 {
        bed.announce("shop", "ScaledObjectReady").await;
    }
    let mut kept = 0;
    while announcements.0.try_recv().is_ok() {
        kept += 1;
    }
    assert_eq!(kept, QUEUE);
}

#[tokio::test]
async fn kedas_finalizer_comes_off_a_source_that_goes() {
    let mut going = source("CloudEventSource", "going", &json!({"destination": {"http": {"uri": "nowhere"}}}));
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    going["metadata"]["finalizers"] = json!(["finalizer.keda.sh", "somebody.else/s"]);
    let mut bed = Bed::start(204, json!([going])).await;
    let (name, left) = bed.statuses.recv().await.unwrap();
    assert_eq!((name.as_str(), left), ("going", json!(["somebody.else/s"])));
    bed.shutdown.cancel();
}
