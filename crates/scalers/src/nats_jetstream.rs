//! `nats-jetstream`: what a consumer has not finished yet, from the monitoring endpoint of the server that leads it.
//!
//! Differs from KEDA: a stream or consumer that is not there is an error, and so is a leader that cannot be reached (the
//! other servers of a cluster know only what they were told last).

mod decode;
mod leader;

use async_trait::async_trait;
use reqwest::Url;

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::members::Members;
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use leader::Leader;

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
    members: Members,
    account: String,
    stream: String,
    consumer: String,
    client: reqwest::Client,
    leader: Leader,
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
        let members = settings.nats_server_monitoring_endpoint.iter().map(url).collect::<Result<_, _>>()?;
        let name = format!("nats-jetstream-{}", settings.stream);
        let source = Self {
            members: Members::new(members, context),
            account: settings.account,
            stream: settings.stream,
            consumer: settings.consumer,
            client: context.http.client(true)?,
            leader: Leader::default(),
        };
        Ok(Connected::new(context, source, name, settings.lag_threshold, settings.activation_lag_threshold))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        match self.at_the_leader().await {
            Some(reading) => reading,
            None => self.members.first(|member| self.search(member)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, metric_name, ok, refusal, serve};

    const METADATA: [(&str, &str); 3] = [("account", "$G"), ("stream", "orders.new"), ("consumer", "c")];

    fn at(endpoint: &str) -> Vec<(&str, &str)> {
        [&METADATA[..], &[(SETTING, endpoint)]].concat()
    }

    #[test]
    fn the_metric_is_named_after_the_stream() {
        assert_eq!(metric_name::<NatsJetStream>(&at("a:8222,b:8222")), "s0-nats-jetstream-orders-new");
        assert_eq!(refusal::<NatsJetStream>(&at("a:8222/x")), [SETTING]);
    }

    #[tokio::test]
    async fn a_server_that_follows_is_not_believed() {
        let read = async |leader: &str| {
            let consumer = format!(
                r#"{{"account_details": [{{"name": "$G", "stream_detail": [{{"name": "orders.new", "consumer_detail":
                [{{"name": "c", "num_pending": 7, "num_ack_pending": 2, "cluster": {{"leader": "{leader}"}}}}]}}]}}]}}"#
            );
            let server = r#"{"server_name": "me", "connect_urls": []}"#;
            let (address, _served) = serve(vec![ok(&consumer), ok(server)]).await;
            Trigger::new(&at(address.trim_start_matches("http://"))).sample::<NatsJetStream>().await
        };
        let error = read("other").await.unwrap_err();
        assert!(error.text().contains("no server leads a consumer \"c\""), "{}", error.text());
        assert_eq!(read("me").await.unwrap().value.thousandths(), 9_000);
    }
}
