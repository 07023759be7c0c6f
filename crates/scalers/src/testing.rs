//! What the tests of scalers share.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::context::{Authentication, Identity, MetricType, TriggerContext};
use crate::error::BuildError;
use crate::http::{HTTP_TIMEOUT, Http};
use crate::metadata::parse;
use crate::source::{self, Connected, Source};
use crate::{Sampled, Scaler, ScalerError};

pub(crate) type Texts<'a> = &'a [(&'a str, &'a str)];

/// A trigger under construction.
#[derive(Default)]
pub(crate) struct Trigger {
    metadata: BTreeMap<String, String>,
    authentication: BTreeMap<String, String>,
    cluster: Option<Arc<dyn Cluster>>,
    http: Option<Arc<Http>>,
    metric_type: Option<MetricType>,
    environment: Option<BTreeMap<String, String>>,
}

impl Trigger {
    pub(crate) fn new(metadata: Texts<'_>) -> Self {
        Self { metadata: map(metadata), ..Self::default() }
    }

    pub(crate) fn auth(mut self, parameters: Texts<'_>) -> Self {
        self.authentication = map(parameters);
        self
    }

    pub(crate) fn cluster(mut self, cluster: Arc<dyn Cluster>) -> Self {
        self.cluster = Some(cluster);
        self
    }

    pub(crate) fn metric_type(mut self, metric_type: Option<MetricType>) -> Self {
        self.metric_type = metric_type;
        self
    }

    /// Shares what others share that are told of this.
    pub(crate) fn sharing(mut self, http: &Arc<Http>) -> Self {
        self.http = Some(Arc::clone(http));
        self
    }

    /// The environment of the scale target's container.
    pub(crate) fn environment(mut self, variables: Texts<'_>) -> Self {
        self.environment = Some(map(variables));
        self
    }

    pub(crate) fn with<T>(&self, then: impl FnOnce(&TriggerContext<'_>) -> T) -> T {
        let http = self.http.clone().unwrap_or_else(|| Arc::new(Http::new(HTTP_TIMEOUT)));
        then(&TriggerContext {
            authentication: Authentication::Resolved { parameters: &self.authentication, identity: &Identity::None },
            cluster: self.cluster.as_ref(),
            metric_type: self.metric_type,
            environment: self.environment.as_ref(),
            namespace: "shop",
            name: "web",
            ..TriggerContext::new(0, &self.metadata, &http)
        })
    }

    pub(crate) fn connect<S: Source>(&self) -> Result<Connected<S>, BuildError> {
        self.with(|context| S::connect(parse::<S::Settings>(context)?.0, context))
    }

    pub(crate) fn build<S: Source>(&self) -> Result<Arc<dyn Scaler>, BuildError> {
        self.with(source::build::<S>)
    }

    /// Builds the scaler and reads its one metric.
    pub(crate) async fn sample<S: Source>(&self) -> Result<Sampled, ScalerError> {
        let scaler = self.build::<S>().expect("a trigger that can be built");
        let name = scaler.metrics()[0].name.clone();
        scaler.sample(&name).await
    }
}

/// The settings with another text in one of them, or with one more.
pub(crate) fn changed<'a>(texts: Texts<'a>, key: &'a str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    texts.iter().copied().filter(|(name, _)| *name != key).chain([(key, text)]).collect()
}

fn map(texts: Texts<'_>) -> BTreeMap<String, String> {
    texts.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

pub(crate) fn connect<S: Source>(metadata: Texts<'_>) -> Result<Connected<S>, BuildError> {
    Trigger::new(metadata).connect()
}

/// The name of the metric.
pub(crate) fn metric_name<S: Source>(metadata: Texts<'_>) -> String {
    Trigger::new(metadata).build::<S>().expect("a trigger that can be built").metrics()[0].name.clone()
}

/// The fields for which a trigger is refused.
pub(crate) fn refusal<S: Source>(metadata: Texts<'_>) -> Vec<String> {
    let error = Trigger::new(metadata).build::<S>().expect_err("a trigger that is wrong");
    error.each().map(|(field, _)| field.to_owned()).collect()
}

/// Answers one connection after the other with these texts, and returns what was asked.
pub(crate) async fn serve(answers: Vec<String>) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let served = tokio::spawn(async move {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4_096];
            let n = stream.read(&mut request).await.expect("a request");
            asked.push(String::from_utf8_lossy(&request[..n]).into_owned());
            // The client may hang up while a large answer is still being sent.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        asked
    });
    (address, served)
}

/// A successful HTTP answer.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}
