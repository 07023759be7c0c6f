//! `prometheus`: the number a PromQL instant query gives, at a Prometheus or anything that speaks its API.
//!
//! Differs from KEDA: NaN and infinities are never read as 0; a scalar is accepted; a missing sample value is an error
//! (there it is 0); the query is evaluated at the server's own time; a redirect to another host is not followed.

mod decode;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::aws::{AwsAuth, Signer};
use crate::auth::{HttpAuth, Session};
use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::{body, too_large, unavailable};
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
        let mut session = settings.auth.prepare(context.http, !settings.unsafe_ssl)?;
        session = session.with_identity(context.identity(), AZURE_SCOPE)?;
        let managed = settings.aws_region.is_some() || matches!(context.identity(), Identity::Aws { .. });
        if managed {
            let region =
                settings.aws_region.ok_or_else(|| BuildError::new("awsRegion", "is required by podIdentity aws"))?;
            let keys = settings.aws.keys(&region, context)?;
            session = session.signed_by(Signer { keys, region, service: "aps" })?;
        }
        let source = Self {
            url,
            query: settings.query,
            headers: headers(&settings.custom_headers)?,
            ignore_null_values: settings.ignore_null_values,
            session,
        };
        Ok(Connected {
            source,
            name: "prometheus".into(),
            target: settings.threshold,
            activation: settings.activation_threshold.float,
            timeout: settings.timeout.map_or(context.http.timeout(), |timeout| timeout.0),
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let silent = |error| unavailable("serverAddress", &self.url, error);
        let request = self.session.client().get(self.url.clone()).query(&[("query", &self.query)]);
        let response = self.session.send("serverAddress", request.headers(self.headers.clone())).await?;
        let status = response.status().as_u16();
        let bytes = body(response, ANSWER_BYTES).await.map_err(silent)?.ok_or_else(|| too_large(ANSWER_BYTES))?;
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

fn headers(pairs: &Pairs) -> Result<HeaderMap, BuildError> {
    let wrong = |what: String| BuildError::new("customHeaders", what);
    let mut headers = HeaderMap::new();
    for (name, value) in &pairs.0 {
        let header: HeaderName = name.parse().map_err(|_| wrong(format!("{name:?} is not the name of a header")))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| wrong(format!("the value of {name:?} cannot be sent in a header")))?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
