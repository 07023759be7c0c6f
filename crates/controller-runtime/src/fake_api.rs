//! A small API server in memory, for the tests of this crate: create, read, replace with resourceVersion, merge patch,
//! delete, list and watch. The axum router is the client's transport; there is no socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http::{Method, StatusCode};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tower::ServiceExt as _;

#[derive(Clone)]
pub(crate) struct FakeApi {
    state: Arc<Mutex<Inner>>,
    changes: broadcast::Sender<(String, Value)>,
}

type Action = Box<dyn FnOnce(&FakeApi) + Send>;
type Answer = Box<dyn FnMut(&Value) -> Value + Send>;

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, Value>,
    version: u64,
    requests: Vec<(Method, String, Value)>,
    /// Every request gets this status.
    broken: Option<StatusCode>,
    /// Requests are not answered at all.
    silent: bool,
    /// Collections whose POST is answered by a function, such as reviews.
    answers: BTreeMap<String, Answer>,
    /// Runs once, before the next write is looked at.
    before_write: Option<Action>,
}

impl FakeApi {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), changes: broadcast::channel(1024).0 }
    }

    pub(crate) fn client(&self) -> Client {
        let router: Router = Router::new().fallback(handle).with_state(self.clone());
        Client::new(router.map_request(|request: http::Request<kube::client::Body>| request.map(Body::new)), "default")
    }

    fn inner<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.state.lock().unwrap())
    }

    /// Puts an object as another client would; gives it a new resourceVersion.
    pub(crate) fn put(&self, path: &str, object: Value) -> Value {
        let (object, kind) = self.inner(|inner| {
            let kind = if inner.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
            (inner.store(path, object), kind)
        });
        let _ = self.changes.send((path.to_owned(), json!({ "type": kind, "object": object })));
        object
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.inner(|inner| inner.objects.get(path).cloned())
    }

    pub(crate) fn delete(&self, path: &str) {
        let object = self.inner(|inner| inner.objects.remove(path)).unwrap();
        let _ = self.changes.send((path.to_owned(), json!({ "type": "DELETED", "object": object })));
    }

    /// The objects directly under a collection's path.
    pub(crate) fn list(&self, collection: &str) -> Vec<Value> {
        let prefix = format!("{collection}/");
        self.inner(|inner| {
            inner
                .objects
                .iter()
                .filter(|(path, _)| path.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/')))
                .map(|(_, object)| object.clone())
                .collect()
        })
    }

    /// What was written so far: method, path, body.
    pub(crate) fn writes(&self) -> Vec<(Method, String, Value)> {
        self.inner(|inner| inner.requests.iter().filter(|(method, ..)| method != Method::GET).cloned().collect())
    }

    pub(crate) fn break_with(&self, status: Option<StatusCode>) {
        self.inner(|inner| inner.broken = status);
    }

    pub(crate) fn silence(&self, silent: bool) {
        self.inner(|inner| inner.silent = silent);
    }

    pub(crate) fn answer(&self, collection: &str, answer: impl FnMut(&Value) -> Value + Send + 'static) {
        self.inner(|inner| inner.answers.insert(collection.to_owned(), Box::new(answer)));
    }

    pub(crate) fn before_next_write(&self, action: impl FnOnce(&FakeApi) + Send + 'static) {
        self.inner(|inner| inner.before_write = Some(Box::new(action)));
    }
}

impl Inner {
    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = json!(path.rsplit('/').next());
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

/// The path of the collection, and the name if the request is about one object.
fn split(path: &str) -> (String, Option<String>) {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let mut end = if parts[0] == "api" { 2 } else { 3 };
    if parts.get(end) == Some(&"namespaces") && parts.len() > end + 2 {
        end += 2;
    }
    (format!("/{}", parts[..=end].join("/")), parts.get(end + 1).map(|name| (*name).to_owned()))
}

async fn handle(State(api): State<FakeApi>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    api.inner(|inner| inner.requests.push((parts.method.clone(), path.clone(), body.clone())));
    if api.inner(|inner| inner.silent) {
        std::future::pending::<()>().await;
    }
    if let Some(status) = api.inner(|inner| inner.broken) {
        return failure(status, "InternalError");
    }
    if parts.method != Method::GET
        && let Some(action) = api.inner(|inner| inner.before_write.take())
    {
        action(&api);
    }
    let (collection, name) = split(&path);
    match (parts.method, name) {
        (Method::GET, None) if query.contains("watch=true") => watch(&api, &collection, &query),
        (Method::GET, None) => {
            let version = api.inner(|inner| inner.version.to_string());
            let items: Vec<Value> =
                api.list(&collection).into_iter().filter(|object| selected(object, &query)).collect();
            json_answer(
                &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
            )
        }
        (Method::GET, Some(name)) => match api.get(&format!("{collection}/{name}")) {
            Some(object) => json_answer(&object),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        },
        (Method::POST, None) => {
            if let Some(answer) = api.inner(|inner| inner.answers.get_mut(&collection).map(|answer| answer(&body))) {
                return json_answer(&answer);
            }
            let path = format!("{collection}/{}", body["metadata"]["name"].as_str().unwrap());
            if api.get(&path).is_some() {
                return failure(StatusCode::CONFLICT, "AlreadyExists");
            }
            json_answer(&api.put(&path, body))
        }
        (Method::PUT, Some(name)) => {
            let path = format!("{collection}/{name}");
            match api.get(&path) {
                None => failure(StatusCode::NOT_FOUND, "NotFound"),
                Some(old) if old["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] => {
                    failure(StatusCode::CONFLICT, "Conflict")
                }
                Some(_) => json_answer(&api.put(&path, body)),
            }
        }
        (Method::PATCH, Some(name)) => {
            let path = format!("{collection}/{name}");
            let Some(mut object) = api.get(&path) else { return failure(StatusCode::NOT_FOUND, "NotFound") };
            let expected = &body["metadata"]["resourceVersion"];
            if !expected.is_null() && *expected != object["metadata"]["resourceVersion"] {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            merge(&mut object, &body);
            json_answer(&api.put(&path, object))
        }
        (method, name) => panic!("the fake API server has no {method} {collection} {name:?}"),
    }
}

fn watch(api: &FakeApi, collection: &str, query: &str) -> Response {
    let (prefix, query) = (format!("{collection}/"), query.to_owned());
    let events = tokio_stream_of(api.changes.subscribe()).filter_map(move |(path, event)| {
        let mine = path.starts_with(&prefix) && selected(&event["object"], &query);
        let line = mine.then(|| Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n"))));
        async move { line }
    });
    Response::new(Body::from_stream(events))
}

fn tokio_stream_of<T: Clone + Send + 'static>(receiver: broadcast::Receiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await.ok()?;
        Some((item, receiver))
    })
}

fn selected(object: &Value, query: &str) -> bool {
    query.split('&').all(|pair| {
        let wanted = pair.strip_prefix("fieldSelector=metadata.name%3D");
        wanted.is_none_or(|name| object["metadata"]["name"] == json!(name))
    })
}

fn json_answer(object: &Value) -> Response {
    axum::Json(object.clone()).into_response()
}

fn failure(status: StatusCode, reason: &str) -> Response {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": status.as_u16() });
    (status, axum::Json(body)).into_response()
}

/// RFC 7386.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
