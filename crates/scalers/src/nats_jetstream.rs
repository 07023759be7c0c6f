//! `nats-jetstream`: what a consumer has not finished yet, from the monitoring endpoint of the server that leads it.
//!
//! Differs from KEDA: a stream or consumer that is not there is an error, and so is a leader that cannot be reached (the
//! other servers of a cluster know only what they were told last).

mod decode;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use tokio::time::timeout;

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::{answer, sent, unavailable};
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use decode::{Consumer, Server, consumer, server};

const SETTING: &str = "natsServerMonitoringEndpoint";

/// What a JetStream consumer has not finished yet: messages that wait for it and messages that it has not acknowledged.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct Settings {
    /// Monitoring addresses of the servers, each `host:8222`; they are tried in turn.
    #[param(from(auth, metadata), required)]
    nats_server_monitoring_endpoint: Vec<String>,
    /// The account; `$G` where there are none.
    #[param(alias("accountID"), from(auth, metadata))]
    account: String,
    /// The stream.
    stream: String,
    /// The consumer.
    consumer: String,
    /// How many messages one replica should have.
    #[param(default = "10", above = "0")]
    lag_threshold: Number,
    /// Active when there are more messages than this.
    #[param(default = "0")]
    activation_lag_threshold: Number,
    /// Ask with TLS.
    #[param(default = "false")]
    use_https: bool,
}

/// A consumer of a stream.
#[derive(Debug)]
pub(crate) struct NatsJetStream {
    endpoints: Vec<Url>,
    account: String,
    stream: String,
    consumer: String,
    client: reqwest::Client,
    /// How long all of them together may take.
    timeout: Duration,
    /// The server that led the consumer when it was last asked.
    leader: Mutex<Option<(String, Url)>>,
}

#[async_trait]
impl Source for NatsJetStream {
    type Settings = Settings;
    const LABEL: &'static str = "natsJetStreamScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let scheme = if settings.use_https { "https" } else { "http" };
        let url = |text: &String| match Url::parse(&format!("{scheme}://{text}/")) {
            Ok(url) if url.has_host() && url.path() == "/" => Ok(url),
            _ => Err(BuildError::new(SETTING, format!("{text:?} is not HOST:PORT"))),
        };
        let name = format!("nats-jetstream-{}", settings.stream);
        let source = Self {
            endpoints: settings.nats_server_monitoring_endpoint.iter().map(url).collect::<Result<_, _>>()?,
            account: settings.account,
            stream: settings.stream,
            consumer: settings.consumer,
            client: context.http.client(true)?,
            timeout: context.http.timeout(),
            leader: Mutex::new(None),
        };
        Ok(Connected {
            source,
            name,
            target: settings.lag_threshold,
            activation: settings.activation_lag_threshold.float,
            timeout: context.http.timeout(),
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        if let Some((name, url)) = self.known() {
            match within(self.share(1), &url, self.consumer_at(&url)).await {
                Ok(Some(found)) if found.leader.as_deref() == Some(name.as_str()) => return found.lag(),
                // It is somebody else now, or the server is gone.
                _ => self.remember(None),
            }
        }
        let mut last = ScalerError::Unavailable("there is no endpoint".into());
        for endpoint in &self.endpoints {
            match within(self.share(0), endpoint, self.search(endpoint)).await {
                Err(error @ ScalerError::Unavailable(_)) => last = error,
                reading => return reading,
            }
        }
        Err(last)
    }
}

impl NatsJetStream {
    /// Looks for the consumer's leader, beginning at one server.
    async fn search(&self, endpoint: &Url) -> Result<Reading, ScalerError> {
        let found = self.consumer_at(endpoint).await?;
        if let Some(found) = &found
            && found.leader.is_none()
        {
            // A server alone.
            return found.lag();
        }
        let own: Server = server(&self.get(endpoint, "varz", &[]).await?)?;
        if let Some(found) = found
            && found.leader.as_deref() == Some(own.name.as_str())
        {
            self.remember(Some((own.name, endpoint.clone())));
            return found.lag();
        }
        let mut missing = None;
        let others = own.others(endpoint);
        let share = self.share(0) / u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
        for url in others {
            // A server of the cluster that is away may not be the leader.
            match within(share, &url, self.led_by(&url)).await {
                Ok(Some((name, found))) => {
                    self.remember(Some((name, url)));
                    return found.lag();
                }
                Ok(None) => {}
                Err(error) => missing = Some(error),
            }
        }
        Err(missing.unwrap_or_else(|| ScalerError::NoNumber {
            what: format!(
                "no server leads a consumer {:?} of a stream {:?} in the account {:?}",
                self.consumer, self.stream, self.account
            ),
        }))
    }

    /// The consumer as this server knows it, if the server leads it.
    async fn led_by(&self, url: &Url) -> Result<Option<(String, Consumer)>, ScalerError> {
        let Some(found) = self.consumer_at(url).await? else { return Ok(None) };
        let name = server(&self.get(url, "varz", &[]).await?)?.name;
        Ok((found.leader.as_deref() == Some(name.as_str())).then_some((name, found)))
    }

    async fn consumer_at(&self, url: &Url) -> Result<Option<Consumer>, ScalerError> {
        let question = [("acc", self.account.as_str()), ("consumers", "true"), ("config", "true")];
        let body = self.get(url, "jsz", &question).await?;
        consumer(&body, &self.account, &self.stream, &self.consumer)
    }

    async fn get(&self, url: &Url, path: &str, question: &[(&str, &str)]) -> Result<Vec<u8>, ScalerError> {
        let mut url = url.clone();
        url.set_path(path);
        let answered = sent(self.client.get(url.clone()).query(question).send()).await;
        answer(SETTING, &url, answered.map_err(|error| unavailable(SETTING, &url, error))?).await
    }

    /// How long each server may take, and as many more, so that one that never answers leaves time for the others.
    fn share(&self, more: usize) -> Duration {
        self.timeout / u32::try_from(self.endpoints.len() + more).unwrap_or(u32::MAX).max(1)
    }

    fn known(&self) -> Option<(String, Url)> {
        self.leader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, leader: Option<(String, Url)>) {
        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }
}

/// The answer of a server, or that it did not come in this time.
async fn within<T>(
    share: Duration,
    url: &Url,
    answer: impl Future<Output = Result<T, ScalerError>>,
) -> Result<T, ScalerError> {
    let silent = |_| Err(ScalerError::Unavailable(format!("{url} did not answer within {share:?}").into()));
    timeout(share, answer).await.unwrap_or_else(silent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, metric_name, ok, refusal, serve};

    const METADATA: [(&str, &str); 3] = [("account", "$G"), ("stream", "orders.new"), ("consumer", "c")];

    #[test]
    fn the_metric_is_named_after_the_stream() {
        let metadata = [&METADATA[..], &[("natsServerMonitoringEndpoint", "a:8222,b:8222")]].concat();
        assert_eq!(metric_name::<NatsJetStream>(&metadata), "s0-nats-jetstream-orders-new");
        assert_eq!(refusal::<NatsJetStream>(&[]), ["natsServerMonitoringEndpoint", "account", "stream", "consumer"]);
        let path = [&METADATA[..], &[("natsServerMonitoringEndpoint", "a:8222/x")]].concat();
        assert_eq!(refusal::<NatsJetStream>(&path), ["natsServerMonitoringEndpoint"]);
    }

    #[tokio::test]
    async fn a_server_that_follows_is_not_believed() {
        let consumer = |leader: &str| {
            format!(
                r#"{{"account_details": [{{"name": "$G", "stream_detail": [{{"name": "orders.new", "consumer_detail":
                [{{"name": "c", "num_pending": 7, "num_ack_pending": 2, "cluster": {{"leader": "{leader}"}}}}]}}]}}]}}"#
            )
        };
        let answers = [ok(&consumer("other")), ok(r#"{"server_name": "me", "connect_urls": []}"#)];
        let (address, _served) = serve(answers.into()).await;
        let address = address.trim_start_matches("http://").to_owned();
        let metadata = [&METADATA[..], &[("natsServerMonitoringEndpoint", address.as_str())]].concat();
        let error = Trigger::new(&metadata).sample::<NatsJetStream>().await.unwrap_err();
        assert!(error.text().contains("no server leads a consumer \"c\""), "{}", error.text());
        let answers = [ok(&consumer("me")), ok(r#"{"server_name": "me"}"#)];
        let (address, _served) = serve(answers.into()).await;
        let address = address.trim_start_matches("http://").to_owned();
        let metadata = [&METADATA[..], &[("natsServerMonitoringEndpoint", address.as_str())]].concat();
        assert_eq!(Trigger::new(&metadata).sample::<NatsJetStream>().await.unwrap().value.thousandths(), 9_000);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_leaves_time_for_the_others() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let alone = r#"{"account_details": [{"name": "$G", "stream_detail": [{"name": "orders.new", "consumer_detail":
            [{"name": "c", "num_pending": 7, "num_ack_pending": 0}]}]}]}"#;
        let (healthy, _served) = serve(vec![ok(alone)]).await;
        let endpoints = format!("{},{}", silent.local_addr().unwrap(), healthy.trim_start_matches("http://"));
        let metadata = [&METADATA[..], &[("natsServerMonitoringEndpoint", endpoints.as_str())]].concat();
        let connected = Trigger::new(&metadata).connect::<NatsJetStream>().unwrap();
        let reading = timeout(connected.timeout, connected.source.read()).await.unwrap().unwrap();
        assert_eq!(reading.milli.thousandths(), 7_000);
    }
}
