//! A fake API server for tests of the loops: a function from requests to answers, and a list of what was asked.

use std::sync::{Arc, Mutex};

use cloud::fake::FakeCloud;
use controller_runtime::{events::Recorder, metrics::Registry};
use http::{Request, Response, StatusCode};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{COMPONENT, Settings, context::Context, metrics::Metrics};

/// Status and body.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) StatusCode, pub(crate) Value);

impl Answer {
    /// An answer that is nothing but its status.
    pub(crate) fn status(code: StatusCode) -> Self {
        let reason = if code == StatusCode::NOT_FOUND { "NotFound" } else { "InternalError" };
        let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason,
            "message": code.to_string(), "code": code.as_u16() });
        Self(code, body)
    }
}

/// `METHOD path` of every request so far; events apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    requests: Arc<Mutex<Vec<String>>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Asked {
    pub(crate) fn all(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Those that change something.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.all().into_iter().filter(|what| !what.starts_with("GET")).collect()
    }

    /// `Kind/name Reason` of every event.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }

    async fn event(&self, request: Request<Body>) {
        let event: Value = serde_json::from_slice(&request.into_body().collect_bytes().await.unwrap()).unwrap();
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let line = format!("{}/{} {}", text("/regarding/kind"), text("/regarding/name"), text("/reason"));
        self.events.lock().unwrap().push(line);
    }
}

/// A context whose API server answers as `answer` says, with a cloud that has nothing.
pub(crate) fn context(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> (Context, Asked) {
    context_with(FakeCloud::default(), answer)
}

/// The same with a cloud of the test's.
pub(crate) fn context_with(
    cloud: FakeCloud,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> (Context, Asked) {
    let asked = Asked::default();
    let (list, answer) = (asked.clone(), Arc::new(answer));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (list, answer) = (list.clone(), Arc::clone(&answer));
        async move {
            let what = format!("{} {}", request.method(), request.uri());
            let Answer(status, body) = if what.contains("/events") {
                list.event(request).await;
                Answer(StatusCode::CREATED, json!({ "metadata": {} }))
            } else {
                list.requests.lock().unwrap().push(what.clone());
                answer(&what)
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, tower::BoxError>(Response::builder().status(status).body(body).unwrap())
        }
    });
    let client = Client::new(service, "default");
    let ctx = Context::new(
        client.clone(),
        client.clone(),
        Arc::new(cloud),
        Recorder::new(client, COMPONENT),
        Settings::default(),
        Metrics::register(&Registry::default()),
        CancellationToken::new(),
    );
    (ctx, asked)
}
