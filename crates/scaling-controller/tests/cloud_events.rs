//! A CloudEventSource on a real API server, with the CRDs of the repository and the rights of the chart and no others.

mod running;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::routing::post;
use http::HeaderMap;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use testkit::apply::apply;
use testkit::bed::{Bed, Options};
use testkit::eventually::{eventually, when};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use running::{SOON, install, start};

/// A program that takes events; says their type and subject.
async fn sink(listener: TcpListener, told: mpsc::UnboundedSender<(String, String)>) {
    let take = move |headers: HeaderMap, _: String| {
        let text = |name: &str| headers[name].to_str().unwrap_or_default().to_owned();
        let _ = told.send((text("ce-type"), text("ce-subject")));
        async { http::StatusCode::ACCEPTED }
    };
    let _ = axum::serve(listener, Router::new().route("/", post(take))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_subscribed_is_told_with_the_rights_of_the_chart() -> Result<()> {
    let bed = Bed::start(Options::default()).await?;
    let client = bed.client();
    install(&bed).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let uri = format!("http://{}/", listener.local_addr()?);
    let (sender, mut told) = mpsc::unbounded_channel();
    tokio::spawn(sink(listener, sender));
    for (kind, namespace) in [("CloudEventSource", Some("default")), ("ClusterCloudEventSource", None)] {
        let source = json!({
            "apiVersion": "eventing.keda.sh/v1alpha1", "kind": kind,
            "metadata": {"name": "audit", "namespace": namespace, "finalizers": ["finalizer.keda.sh"]},
            "spec": {"destination": {"http": {"uri": uri}}, "clusterName": kind},
        });
        apply(&client, &source).await?;
    }

    let _running = start(&bed).await?;
    let sources: Api<api::eventing::CloudEventSource> = Api::namespaced(client.clone(), "default");
    let wide: Api<api::eventing::ClusterCloudEventSource> = Api::all(client.clone());
    eventually("both sources are active", SOON, async || {
        let statuses = [sources.get("audit").await?.status, wide.get("audit").await?.status];
        let active = |one: &Option<api::eventing::CloudEventSourceStatus>| {
            one.iter().flat_map(|s| &s.conditions).any(|c| c.r#type == "Active" && c.status == "True")
        };
        Ok(when(statuses.iter().all(active), statuses))
    })
    .await?;

    let object = json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"scaleTargetRef": {"name": "nobody"}, "triggers": [
            {"type": "cron", "metadata": {"timezone": "UTC", "start": "0 0 * * *", "end": "1 0 * * *", "desiredReplicas": "1"}},
        ]},
    });
    apply(&client, &object).await?;
    let mut both = Vec::new();
    for _ in 0..2 {
        both.push(tokio::time::timeout(SOON, told.recv()).await.context("nobody was told")?.context("the sink ended")?);
    }
    both.sort();
    let failed =
        |cluster: &str| ("keda.scaledobject.failed.v1".to_owned(), format!("/{cluster}/default/scaledobject/web"));
    assert_eq!(both, [failed("CloudEventSource"), failed("ClusterCloudEventSource")]);

    // KEDA's finalizer would keep them for ever.
    sources.delete("audit", &kube::api::DeleteParams::default()).await?;
    wide.delete("audit", &kube::api::DeleteParams::default()).await?;
    eventually("both sources are gone", SOON, async || {
        let left: [Option<Value>; 2] = [
            sources.get_opt("audit").await?.map(|source| json!(source.finalizers())),
            wide.get_opt("audit").await?.map(|source| json!(source.finalizers())),
        ];
        Ok(when(left.iter().all(Option::is_none), left))
    })
    .await?;
    bed.check().context("a server of the test bed ended")
}
