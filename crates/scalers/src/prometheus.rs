//! `prometheus`: the number a PromQL instant query gives, at a Prometheus or anything that speaks its API.
//!
//! Differs from KEDA: NaN and infinities are never read as 0; a scalar is accepted; a missing sample value is an error
//! (there it is 0); the query is evaluated at the server's own time; a redirect to another host is not followed.

mod decode;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::HeaderMap;

use crate::auth::aws::AwsAuth;
use crate::auth::{HttpAuth, Session};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::whole;
use crate::metadata::{Number, Pairs, Timeout, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// Most bytes of an answer that are read. One series has some hundreds; this is room for very long label sets.
const ANSWER_BYTES: usize = 1 << 20;
/// What a token for a managed Prometheus of Azure is for.
const AZURE_SCOPE: &str = "https://prometheus.monitor.azure.com/.default";

/// The number a PromQL instant query gives, at a Prometheus or anything that speaks its API (Thanos, Mimir, VictoriaMetrics,
/// and the managed ones of Amazon, Azure and Google by the pod identity of the TriggerAuthentication).
///
/// The query must give one number: a scalar, or a vector of one series. Several series, NaN and infinities are errors.
#[derive(Debug, TriggerMetadata)]
#[trigger(removed("cortexOrgID", "was removed in KEDA 2.15; write customHeaders: X-Scope-OrgID=<tenant>"))]
#[trigger(ignored("metricName", "has no effect since KEDA 2.10; the metric is named after the trigger's position"))]
pub(crate) struct Settings {
    /// Address of the server; `/api/v1/query` is added.
    server_address: Url,
    /// PromQL.
    query: String,
    /// The value one replica should have.
    #[param(above = "0")]
    threshold: Number,
    /// Active when the value is above this.
    #[param(default = "0")]
    activation_threshold: Number,
    /// Sent as a parameter, for servers with several tenants.
    namespace: Option<String>,
    /// Parameters that are sent with the query.
    query_parameters: Pairs,
    /// Headers that are sent with the query.
    custom_headers: Pairs,
    /// An empty answer means 0; otherwise it is an error.
    #[param(default = "true")]
    ignore_null_values: bool,
    /// Do not verify the server's certificate.
    #[param(default = "false")]
    unsafe_ssl: bool,
    /// How long the server may take; otherwise as long as the program's `--http-timeout` says (3 s).
    timeout: Option<Timeout>,
    /// Region of an Amazon Managed Prometheus; its requests are signed.
    #[param(from(metadata, auth))]
    aws_region: Option<String>,
    #[param(nested)]
    auth: HttpAuth,
    #[param(nested)]
    aws: AwsAuth,
}

/// A connection to a Prometheus with one question.
#[derive(Debug)]
pub(crate) struct Prometheus {
    url: Url,
    query: String,
    headers: HeaderMap,
    ignore_null_values: bool,
    session: Session,
}

#[async_trait]
impl Source for Prometheus {
    type Settings = Settings;
    const LABEL: &'static str = "prometheusScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let url = url(&settings)?;
        let session = settings.auth.prepare(context.http, !settings.unsafe_ssl)?;
        let session = session.with_identity(context.identity(), AZURE_SCOPE)?;
        let session = session.for_amazon("aps", settings.aws_region, settings.aws, context)?;
        let source = Self {
            url,
            query: settings.query,
            headers: settings.custom_headers.headers("customHeaders")?,
            ignore_null_values: settings.ignore_null_values,
            session,
        };
        let connected =
            Connected::new(context, source, "prometheus", settings.threshold, settings.activation_threshold);
        Ok(connected.within(settings.timeout))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let request = self.session.client().get(self.url.clone()).query(&[("query", &self.query)]);
        let response = self.session.send("serverAddress", request.headers(self.headers.clone())).await?;
        let (status, bytes) = whole("serverAddress", &self.url, response, ANSWER_BYTES).await?;
        decode::decode(status, &bytes, self.ignore_null_values)
    }
}

/// The address with everything that is the same for each question.
fn url(settings: &Settings) -> Result<Url, BuildError> {
    let mut url = settings.server_address.clone();
    url.path_segments_mut()
        .map_err(|()| BuildError::new("serverAddress", "is not a URL with a path"))?
        .pop_if_empty()
        .extend(["api", "v1", "query"]);
    let namespace = settings.namespace.iter().map(|namespace| ("namespace", namespace.as_str()));
    let parameters = settings.query_parameters.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut pairs = namespace.chain(parameters).peekable();
    if pairs.peek().is_some() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, ok, serve};

    #[tokio::test]
    async fn a_query_reaches_the_server_and_its_number_comes_back() {
        let body =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.0004"]}]}}"#;
        let (address, served) = serve(vec![ok(body)]).await;
        let trigger = Trigger::new(&[
            ("serverAddress", &format!("{address}/prom/")),
            ("query", "sum(rate(x[1m]))"),
            ("threshold", "1"),
            ("namespace", "shop"),
            ("queryParameters", "dedup=true, max_source_resolution=0s"),
            ("customHeaders", "X-Scope-OrgID=7,X-Note=a=b"),
        ]);
        assert_eq!(trigger.build::<Prometheus>().unwrap().metrics()[0].name, "s0-prometheus");
        let sampled = trigger.sample::<Prometheus>().await.unwrap();
        assert_eq!((sampled.value.thousandths(), sampled.active), (0, true), "active is judged before rounding");
        let asked = served.await.unwrap().remove(0).to_lowercase();
        let line = "get /prom/api/v1/query?namespace=shop&dedup=true&max_source_resolution=0s\
                    &query=sum%28rate%28x%5b1m%5d%29%29 http/1.1";
        assert!(asked.starts_with(line), "{asked}");
        assert!(asked.contains("x-scope-orgid: 7") && asked.contains("x-note: a=b"), "{asked}");
    }
}
