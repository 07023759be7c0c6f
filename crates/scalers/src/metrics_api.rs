//! `metrics-api`: one number in the answer of an HTTP server.
//!
//! Differs from KEDA: with `aggregateFromKubeServiceEndpoints`, an endpoint that gives no number makes the whole reading fail
//! (there it is left out, which makes a sum too small); several series that match a `prometheus` location are an error (there
//! the first one counts); a number that is not finite is an error.

mod decode;
mod endpoints;
mod exposition;
mod path;

use async_trait::async_trait;
use reqwest::Url;

use crate::auth::{HttpAuth, Session};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::answer;
use crate::metadata::{Number, Timeout, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use decode::Format;
use endpoints::{Aggregation, Service};

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

/// A place in the answers of an HTTP server.
#[derive(Debug)]
pub(crate) struct MetricsApi {
    url: Url,
    format: Format,
    location: String,
    service: Option<Service>,
    session: Session,
}

#[async_trait]
impl Source for MetricsApi {
    type Settings = Settings;
    const LABEL: &'static str = "metricsAPIScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let (url, format, location) = (settings.url, settings.format, settings.value_location);
        decode::check(format, &location).map_err(|what| BuildError::new("valueLocation", what))?;
        let aggregates = settings.aggregate_from_kube_service_endpoints;
        let service = aggregates.then(|| Service::of(&url, settings.aggregation_type, context)).transpose()?;
        let session = settings.auth.prepare(context.http, !settings.unsafe_ssl)?;
        let name = format!("metric-api-{location}");
        let (target, activation) = (settings.target_value, settings.activation_target_value);
        let source = Self { url, format, location, service, session };
        Ok(Connected::new(context, source, name, target, activation).within(settings.timeout))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        match &self.service {
            Some(service) => service.read(&self.url, |url| self.ask(url)).await,
            None => self.ask(self.url.clone()).await,
        }
    }
}

impl MetricsApi {
    async fn ask(&self, url: Url) -> Result<Reading, ScalerError> {
        let response = self.session.send("url", self.session.client().get(url.clone())).await?;
        decode::decode(self.format, &self.location, &answer("url", &url, response).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{changed, metric_name, refusal};

    #[test]
    fn settings_are_checked_before_anything_is_asked() {
        let plain = [("url", "http://api/v1"), ("valueLocation", "a.b"), ("targetValue", "5")];
        assert_eq!(metric_name::<MetricsApi>(&plain), "s0-metric-api-a-b");
        for (key, text) in [("valueLocation", "a.#.b"), ("aggregateFromKubeServiceEndpoints", "true")] {
            assert_eq!(refusal::<MetricsApi>(&changed(&plain, key, text)), [key], "{key}={text}");
        }
    }
}
