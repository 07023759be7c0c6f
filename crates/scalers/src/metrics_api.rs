//! `metrics-api`: one number in the answer of an HTTP server.
//!
//! Differs from KEDA: with `aggregateFromKubeServiceEndpoints`, an endpoint that gives no number makes the whole reading fail
//! (there it is left out, which makes a sum too small); several series that match a `prometheus` location are an error (there
//! the first one counts); a number that is not finite is an error.

mod decode;
mod exposition;
mod path;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Url;

use crate::auth::{HttpAuth, Session};
use crate::cluster::Cluster;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::answer;
use crate::metadata::{Choice, Number, Timeout, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// Endpoints of a Service that are asked at the same time. KEDA's number.
const AT_ONCE: usize = 5;

/// One number in the answer of an HTTP server.
///
/// A text at the location is read as a Kubernetes quantity (`1500m`).
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Settings {
    /// Address that is asked with GET.
    url: Url,
    /// What the answer looks like.
    #[param(default = "json")]
    format: Format,
    /// Where the number is. `json`: a path as in GJSON (`a.b.0`, `#` for the length of a list, `#(name=="x").value` for an
    /// element of one). `yaml` and `xml`: names and positions with dots between them. `prometheus`: a metric, with labels if
    /// there are several series (`queue_size{queue="a"}`).
    value_location: String,
    /// The value one replica should have.
    #[param(above = "0")]
    target_value: Number,
    /// Active when the number is above this.
    #[param(default = "0")]
    activation_target_value: Number,
    /// Do not verify the server's certificate.
    #[param(default = "false")]
    unsafe_ssl: bool,
    /// How long the server may take; otherwise as long as the program's `--http-timeout` says (3 s).
    timeout: Option<Timeout>,
    /// Ask every ready endpoint of the Service that the URL names (`service.namespace`, with the pods' port).
    #[param(default = "false")]
    aggregate_from_kube_service_endpoints: bool,
    /// What becomes of the endpoints' numbers.
    #[param(default = "average")]
    aggregation_type: Aggregation,
    #[param(nested)]
    auth: HttpAuth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
enum Format {
    #[value("json")]
    Json,
    #[value("xml")]
    Xml,
    #[value("yaml")]
    Yaml,
    #[value("prometheus")]
    Prometheus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
enum Aggregation {
    #[value("average")]
    Average,
    #[value("sum")]
    Sum,
    #[value("max")]
    Max,
    #[value("min")]
    Min,
}

/// A place in the answers of an HTTP server.
#[derive(Debug)]
pub(crate) struct MetricsApi {
    url: Url,
    format: Format,
    location: String,
    service: Option<Service>,
    session: Session,
}

#[derive(Debug)]
struct Service {
    cluster: Arc<dyn Cluster>,
    namespace: String,
    name: String,
    aggregation: Aggregation,
}

#[async_trait]
impl Source for MetricsApi {
    type Settings = Settings;
    const LABEL: &'static str = "metricsAPIScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        decode::check(settings.format, &settings.value_location)
            .map_err(|what| BuildError::new("valueLocation", what))?;
        let source = Self {
            service: settings.aggregate_from_kube_service_endpoints.then(|| service(&settings, context)).transpose()?,
            session: settings.auth.prepare(context.http, !settings.unsafe_ssl)?,
            url: settings.url,
            format: settings.format,
            location: settings.value_location.clone(),
        };
        Ok(Connected {
            source,
            name: format!("metric-api-{}", settings.value_location),
            target: settings.target_value,
            activation: settings.activation_target_value.float,
            timeout: settings.timeout.map_or(context.http.timeout(), |timeout| timeout.0),
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let Some(service) = &self.service else { return self.ask(self.url.clone()).await };
        let addresses = service.cluster.ready_endpoints(&service.namespace, &service.name).await?;
        let urls = addresses.iter().map(|address| at(&self.url, address)).collect::<Result<Vec<_>, _>>()?;
        let asked = stream::iter(urls).map(|url| self.ask(url)).buffer_unordered(AT_ONCE);
        let readings: Vec<Reading> = asked.try_collect().await?;
        aggregate(service.aggregation, &readings.iter().map(|reading| reading.float).collect::<Vec<_>>())
    }
}

impl MetricsApi {
    async fn ask(&self, url: Url) -> Result<Reading, ScalerError> {
        let response = self.session.send("url", self.session.client().get(url.clone())).await?;
        decode::decode(self.format, &self.location, &answer("url", &url, response).await?)
    }
}

fn service(settings: &Settings, context: &TriggerContext<'_>) -> Result<Service, BuildError> {
    let wrong = |what: &str| BuildError::new("aggregateFromKubeServiceEndpoints", what);
    let cluster = context.cluster.ok_or_else(|| wrong("this program has no access to the cluster's endpoints"))?;
    let mut labels = settings.url.host_str().unwrap_or_default().split('.');
    match (labels.next(), labels.next()) {
        (Some(name), Some(namespace)) => Ok(Service {
            cluster: Arc::clone(cluster),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            aggregation: settings.aggregation_type,
        }),
        _ => Err(wrong("needs a url whose host is SERVICE.NAMESPACE")),
    }
}

/// The same question to one endpoint.
fn at(url: &Url, address: &str) -> Result<Url, ScalerError> {
    let mut url = url.clone();
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    url.set_host(Some(&host))
        .map_err(|error| ScalerError::Misconfigured { what: format!("endpoint {address}: {error}") })?;
    Ok(url)
}

fn aggregate(how: Aggregation, values: &[f64]) -> Result<Reading, ScalerError> {
    if values.is_empty() {
        return Err(ScalerError::NoNumber { what: "the Service has no ready endpoint".into() });
    }
    #[expect(clippy::cast_precision_loss, reason = "a Service has fewer endpoints than a float has whole numbers")]
    let count = values.len() as f64;
    Reading::number(match how {
        Aggregation::Sum => values.iter().sum(),
        Aggregation::Average => values.iter().sum::<f64>() / count,
        Aggregation::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
    })
}

#[cfg(test)]
#[path = "metrics_api_tests.rs"]
mod tests;
