//! `prometheus`: the number a PromQL instant query gives, at a Prometheus or anything that speaks its API.
//!
//! The query must give one number: a scalar, or a vector of one series. An empty vector means 0 unless
//! `ignoreNullValues: "false"`; several series, NaN and infinities are errors.
//!
//! Differs from KEDA: NaN and infinities are never read as 0; a scalar is accepted; a missing sample value is an error
//! (there it is 0); the query is evaluated at the server's own time; a redirect to another host is not followed.

mod decode;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use scaling::name::metric_name;

use crate::context::{Fields, Notice, Number, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::body;
use crate::{MetricSpec, Sampled, Scaler};

/// Most bytes of an answer that are read. One series has some hundreds; this is room for very long label sets.
const ANSWER_BYTES: usize = 1 << 20;

/// A connection to a Prometheus with one question.
pub struct Prometheus {
    settings: Settings,
    client: reqwest::Client,
    metrics: [MetricSpec; 1],
    notices: Vec<Notice>,
}

/// The trigger's `metadata`.
#[derive(Debug, Clone, PartialEq)]
struct Settings {
    /// `serverAddress` (required) with `api/v1/query`, `namespace` and `queryParameters` (`k=v,k2=v2`) added.
    url: Url,
    /// `query` (required): PromQL.
    query: String,
    /// `threshold` (required, above 0): the value one replica should have.
    threshold: Number,
    /// `activationThreshold` (0): active when the value is above this.
    activation_threshold: f64,
    /// `ignoreNullValues` (true): an empty answer means 0; otherwise it is an error.
    ignore_null_values: bool,
    /// `customHeaders`: `K=V,K2=V2`, sent with the query.
    headers: HeaderMap,
    /// `unsafeSsl` (false): do not verify the server's certificate.
    unsafe_ssl: bool,
    /// `timeout` (the program's default, 3 s): a Go duration, or milliseconds.
    timeout: Duration,
}

impl Settings {
    fn read(fields: &Fields<'_>, default_timeout: Duration) -> Result<Self, BuildError> {
        refuse_what_needs_credentials(fields)?;
        let threshold = fields.number("threshold")?.ok_or_else(|| BuildError::new("threshold", "is required"))?;
        if threshold.milli.thousandths() <= 0 {
            return Err(BuildError::new("threshold", "must be above 0, because the value is divided by it"));
        }
        Ok(Self {
            url: url(fields)?,
            query: fields.required("query")?.to_owned(),
            threshold,
            activation_threshold: fields.number("activationThreshold")?.map_or(0.0, |n| n.float),
            ignore_null_values: fields.flag("ignoreNullValues", true)?,
            headers: headers(fields)?,
            unsafe_ssl: fields.flag("unsafeSsl", false)?,
            timeout: match fields.text("timeout") {
                None => default_timeout,
                Some(text) => crate::duration::timeout(text).ok_or_else(|| {
                    BuildError::new(
                        "timeout",
                        format!("{text:?} is not a duration such as 500ms or 10s, or milliseconds"),
                    )
                })?,
            },
        })
    }
}

fn refuse_what_needs_credentials(fields: &Fields<'_>) -> Result<(), BuildError> {
    for key in ["authModes", "authMode"] {
        if let Some(modes) = fields.text(key) {
            return Err(BuildError::new(
                key,
                format!("{modes:?} takes its credentials from a TriggerAuthentication, which is not supported yet"),
            ));
        }
    }
    for key in ["awsRegion", "identityOwner"] {
        if fields.text(key).is_some() {
            return Err(BuildError::new(key, "requests signed with a cloud identity are not supported yet"));
        }
    }
    if fields.text("cortexOrgID").is_some() {
        return Err(BuildError::new(
            "cortexOrgID",
            "was removed in KEDA 2.15; write customHeaders: X-Scope-OrgID=<tenant>",
        ));
    }
    Ok(())
}

fn url(fields: &Fields<'_>) -> Result<Url, BuildError> {
    let key = "serverAddress";
    let text = fields.required(key)?;
    // The text may hold a password, so errors do not repeat it.
    let mut url = Url::parse(text).map_err(|e| BuildError::new(key, format!("is not a URL: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(BuildError::new(key, "must begin with http:// or https://"));
    }
    url.path_segments_mut()
        .map_err(|()| BuildError::new(key, "is not a URL with a path"))?
        .pop_if_empty()
        .extend(["api", "v1", "query"]);
    let namespace = fields.text("namespace").map(|namespace| ("namespace", namespace));
    let parameters = fields.pairs("queryParameters")?;
    if namespace.is_some() || !parameters.is_empty() {
        url.query_pairs_mut().extend_pairs(namespace.into_iter().chain(parameters));
    }
    Ok(url)
}

fn headers(fields: &Fields<'_>) -> Result<HeaderMap, BuildError> {
    let key = "customHeaders";
    let mut headers = HeaderMap::new();
    for (name, value) in fields.pairs(key)? {
        let header: HeaderName =
            name.parse().map_err(|_| BuildError::new(key, format!("{name:?} is not the name of a header")))?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| BuildError::new(key, format!("the value of {name:?} cannot be sent in a header")))?;
        value.set_sensitive(true);
        headers.append(header, value);
    }
    Ok(headers)
}

/// There was no answer, or only a part of one.
#[derive(Debug, thiserror::Error)]
#[error("serverAddress {address}")]
struct Silent {
    address: String,
    #[source]
    cause: reqwest::Error,
}

/// Host and port. The rest of an address may hold a password.
fn host(url: &Url) -> String {
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

impl Prometheus {
    /// Reads the settings. Does no I/O.
    ///
    /// # Errors
    /// The error names the field that is wrong.
    pub fn connect(context: &TriggerContext<'_>) -> Result<Self, BuildError> {
        let fields = context.fields()?;
        let settings = Settings::read(&fields, context.http.timeout())?;
        let mut notices = Vec::new();
        if fields.text("metricName").is_some() {
            notices.push(Notice {
                field: "metricName".into(),
                message: "has no effect since KEDA 2.10; the metric is named after the trigger's position".into(),
            });
        }
        notices.extend(fields.unread());
        let client = context
            .http
            .client(!settings.unsafe_ssl)
            .map_err(|e| BuildError::new("serverAddress", ScalerError::Unavailable(Box::new(e)).text()))?;
        let metrics = [MetricSpec {
            name: metric_name(context.index, "prometheus"),
            target: context.target(settings.threshold.milli)?,
        }];
        Ok(Self { settings, client, metrics, notices })
    }

    async fn ask(&self) -> Result<decode::Reading, ScalerError> {
        let unavailable = |error: reqwest::Error| {
            ScalerError::Unavailable(Box::new(Silent { address: host(&self.settings.url), cause: error.without_url() }))
        };
        let request = self.client.get(self.settings.url.clone()).query(&[("query", &self.settings.query)]);
        let response = request.headers(self.settings.headers.clone()).send().await.map_err(unavailable)?;
        let status = response.status().as_u16();
        match body(response, ANSWER_BYTES).await.map_err(unavailable)? {
            Some(bytes) => decode::decode(status, &bytes, self.settings.ignore_null_values),
            None => Err(ScalerError::NoNumber {
                what: format!("the answer is larger than {ANSWER_BYTES} bytes; the query must give one number"),
            }),
        }
    }
}

#[async_trait]
impl Scaler for Prometheus {
    fn type_name(&self) -> &'static str {
        "prometheusScaler"
    }

    fn metrics(&self) -> &[MetricSpec] {
        &self.metrics
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    async fn sample(&self, _metric: &str) -> Result<Sampled, ScalerError> {
        let after = self.settings.timeout;
        let reading = tokio::time::timeout(after, self.ask()).await.map_err(|_| ScalerError::TimedOut { after })??;
        Ok(Sampled {
            value: reading.milli,
            active: reading.float > self.settings.activation_threshold,
            empty: reading.empty,
        })
    }
}

impl std::fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password; the host is enough to recognise it.
        f.debug_struct("Prometheus")
            .field("host", &self.settings.url.host_str())
            .field("query", &self.settings.query)
            .finish_non_exhaustive()
    }
}

/// A scaler behind a pointer, for callers that build it directly.
impl From<Prometheus> for Arc<dyn Scaler> {
    fn from(scaler: Prometheus) -> Self {
        Arc::new(scaler)
    }
}

#[cfg(test)]
#[path = "prometheus_tests.rs"]
mod tests;
