//! What this API server has to offer: API groups, resources and OpenAPI documents. All of it is constant.

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{GROUP, VERSION, only_get};

/// The kind of an answer. There is one resource: its name stands for every metric, which is how kubectl learns of the
/// group without a list of all metrics.
const KIND: &str = "ExternalMetricValueList";
const RESOURCE: &str = "externalmetrics";

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/apis", only_get(get(groups)))
        .route("/apis/external.metrics.k8s.io", only_get(get(async || Json(group()))))
        .route("/apis/external.metrics.k8s.io/v1beta1", only_get(get(async || Json(resources()))))
        .route("/openapi/v2", only_get(get(async || Json(openapi_v2()))))
        .route("/openapi/v3", only_get(get(async || Json(openapi_v3_index()))))
        .route("/openapi/v3/apis/external.metrics.k8s.io/v1beta1", only_get(get(async || Json(openapi_v3()))))
}

/// The groups; in the aggregated form if the client asks for that first.
async fn groups(headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match aggregated_version(accept) {
        Some(version) => {
            let media_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
            ([(header::CONTENT_TYPE, media_type)], Json(aggregated(version))).into_response()
        }
        None => Json(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [group_body()] })).into_response(),
    }
}

/// The version of `apidiscovery.k8s.io` to answer in, if the client prefers an aggregated list that we have.
fn aggregated_version(accept: &str) -> Option<&'static str> {
    let first = accept.split(',').map(str::trim).find_map(|media_range| {
        let mut parts = media_range.split(';').map(str::trim);
        let media_type = parts.next()?;
        if !matches!(media_type, "application/json" | "*/*" | "application/*") {
            return None;
        }
        let parameters: Vec<&str> = parts.collect();
        if !parameters.contains(&"as=APIGroupDiscoveryList") {
            // Plain JSON is preferred.
            return Some(None);
        }
        ["v2", "v2beta1"].into_iter().find(|version| parameters.contains(&format!("v={version}").as_str())).map(Some)
    });
    first.flatten()
}

fn group_version() -> String {
    format!("{GROUP}/{VERSION}")
}

fn group_body() -> Value {
    let version = json!({ "groupVersion": group_version(), "version": VERSION });
    json!({ "name": GROUP, "versions": [version], "preferredVersion": version })
}

fn group() -> Value {
    let mut group = group_body();
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    group
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(),
        "resources": [{ "name": RESOURCE, "singularName": "", "namespaced": true, "kind": KIND, "verbs": ["get"] }],
    })
}

fn aggregated(version: &str) -> Value {
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": [{
            "metadata": { "name": GROUP },
            "versions": [{
                "version": VERSION,
                "freshness": "Current",
                "resources": [{
                    "resource": RESOURCE,
                    "responseKind": { "group": GROUP, "version": VERSION, "kind": KIND },
                    "scope": "Namespaced",
                    "singularResource": "",
                    "verbs": ["get"],
                }],
            }],
        }],
    })
}

fn info() -> Value {
    json!({ "title": "Tandem external metrics", "version": VERSION })
}

fn openapi_v2() -> Value {
    json!({ "swagger": "2.0", "info": info(), "paths": {} })
}

fn openapi_v3_index() -> Value {
    let path = format!("apis/{}", group_version());
    // The hash lets the API server cache; the document changes with the program.
    let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
    let mut paths = json!({});
    paths[path] = json!({ "serverRelativeURL": url });
    json!({ "paths": paths })
}

fn openapi_v3() -> Value {
    json!({ "openapi": "3.0.0", "info": info(), "paths": {} })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aggregated_form_is_for_those_who_ask_for_it_first() {
        let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        for (accept, expected) in [
            (format!("{aggregated},{beta},application/json"), Some("v2")),
            (beta.to_owned(), Some("v2beta1")),
            (format!("application/vnd.kubernetes.protobuf;as=APIGroupDiscoveryList;v=v2,{aggregated}"), Some("v2")),
            (format!("application/json,{aggregated}"), None),
            ("application/json;v=v9;as=APIGroupDiscoveryList;g=apidiscovery.k8s.io".to_owned(), None),
            ("*/*".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(aggregated_version(&accept), expected, "{accept}");
        }
    }
}
