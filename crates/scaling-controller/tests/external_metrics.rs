//! The external metrics API behind a real API server: registered as an APIService, trusted by its own CA, asked
//! through the front proxy, by people and by the HPA controller.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use controller_runtime::aggregated::Delegated;
use controller_runtime::health::Health;
use controller_runtime::tls::{Authority, CaTarget, ClientCerts, keep_ca_bundle_injected, serve_tls};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{Api, Client};
use scaling_controller::external_metrics::{
    API_SERVICE, ExternalMetricValue, MetricError, MetricSource, Selector, protected,
};
use serde_json::{Value, json};
use testkit::apply::apply;
use testkit::bed::{Bed, Options};
use testkit::eventually::{Seen, eventually, when};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use units::Milli;

const NAMESPACE: &str = "tandem-system";
const SERVICE: &str = "pod-autoscaler";
const METRIC: &str = "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/s0-prometheus?labelSelector=scaledobject.keda.sh%2Fname%3Dcart";
const SOON: Duration = Duration::from_mins(3);

/// One metric; below zero means that nobody knows it.
struct Queue(Arc<AtomicI64>);

#[async_trait]
impl MetricSource for Queue {
    async fn read(&self, _: &str, metric: &str, selector: &Selector) -> Result<Vec<ExternalMetricValue>, MetricError> {
        if metric != "s0-prometheus" || selector.exact("scaledobject.keda.sh/name") != Some("cart") {
            return Err(MetricError::NotFound { what: format!("no metric {metric} for {selector}") });
        }
        let value = self.0.load(Ordering::SeqCst);
        if value < 0 {
            return Err(MetricError::Unknown { why: "prometheus did not answer".into() });
        }
        Ok(vec![ExternalMetricValue {
            metric_name: metric.to_owned(),
            labels: [].into(),
            timestamp: jiff::Timestamp::now(),
            value: Milli::from_thousandths(value),
        }])
    }
}

async fn get(client: &Client, path: &str) -> kube::Result<Value> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}

async fn register(bed: &Bed, port: u16) -> Result<()> {
    let client = bed.client();
    bed.namespace(NAMESPACE).await?;
    for object in [
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": SERVICE, "namespace": NAMESPACE },
            "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": port }] } }),
        json!({ "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": API_SERVICE },
            "spec": { "group": "external.metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100,
                "versionPriority": 100, "service": { "name": SERVICE, "namespace": NAMESPACE, "port": port } } }),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "cart", "namespace": "default" },
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "cart" } },
                "template": { "metadata": { "labels": { "app": "cart" } },
                    "spec": { "containers": [{ "name": "main", "image": "none" }] } } } }),
        json!({ "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "keda-hpa-cart", "namespace": "default" },
            "spec": { "minReplicas": 1, "maxReplicas": 10,
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart" },
                "metrics": [{ "type": "External", "external": {
                    "metric": { "name": "s0-prometheus", "selector": { "matchLabels": { "scaledobject.keda.sh/name": "cart" } } },
                    "target": { "type": "AverageValue", "averageValue": "5" } } }] } }),
    ] {
        apply(&client, &object).await?;
    }
    Ok(())
}

async fn serve(client: &Client, listener: TcpListener, queue: Queue, shutdown: &CancellationToken) -> Result<()> {
    let health = Health::default();
    let delegated = Delegated::start(client, health.check("authentication"), shutdown);
    let names = Authority::service_names(NAMESPACE, SERVICE);
    let cert = Authority::new(client.clone(), NAMESPACE, "certs", names).start(shutdown.clone()).await?;
    let [name, namespace, service] = [API_SERVICE, NAMESPACE, SERVICE].map(str::to_owned);
    let targets = vec![CaTarget::ApiService { name, namespace, service }];
    tokio::spawn(keep_ca_bundle_injected(client.clone(), targets, cert.ca_bundle(), shutdown.clone()));
    let app = protected(Arc::new(queue), &health, &delegated);
    tokio::spawn(serve_tls(listener, app, cert, ClientCerts::Asked, shutdown.clone()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hpa_controller_scales_by_our_values_and_stays_when_there_are_none() -> Result<()> {
    let bed = Bed::start(Options::default()).await?;
    let (client, shutdown) = (bed.client(), CancellationToken::new());
    let _stop = shutdown.clone().drop_guard();
    let value = Arc::new(AtomicI64::new(12_500));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    register(&bed, listener.local_addr()?.port()).await?;
    serve(&client, listener, Queue(Arc::clone(&value)), &shutdown).await?;

    let answer =
        eventually("the API server asks us", SOON, async || Ok(Seen::Done(get(&client, METRIC).await?))).await?;
    assert_eq!(answer["items"][0]["value"], "12500m");

    // kubectl learns of the group from the API server, which learnt it from us.
    eventually("the resource is discovered", SOON, async || {
        let list = client.list_api_group_resources("external.metrics.k8s.io/v1beta1").await?;
        let names: Vec<String> = list.resources.into_iter().map(|resource| resource.name).collect();
        Ok(when(names == ["externalmetrics"], names))
    })
    .await?;

    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), "default");
    let status =
        async || -> Result<Value> { Ok(serde_json::to_value(hpas.get("keda-hpa-cart").await?)?["status"].clone()) };
    eventually("12.5 at 5 each makes three", SOON, async || {
        let status = status().await?;
        Ok(when(status["desiredReplicas"] == 3, status))
    })
    .await?;

    value.store(-1, Ordering::SeqCst);
    let seen = eventually("the HPA says why it has no value", SOON, async || {
        let status = status().await?;
        Ok(when(status.to_string().contains("prometheus did not answer"), status))
    })
    .await?;
    assert_eq!(seen["desiredReplicas"], 3, "an unknown value scales nothing in");

    // A stranger is let in by name only as far as the API server's rules go.
    let stranger = bed.client_for_service_account("default", "default").await?;
    match get(&stranger, METRIC).await {
        Err(kube::Error::Api(status)) if status.is_forbidden() => {}
        other => return Err(anyhow!("a stranger got {other:?}")),
    }
    bed.check().context("a server of the test bed ended")
}
