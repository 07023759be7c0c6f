//! What `/jsz` and `/varz` say.

use reqwest::Url;
use serde::Deserialize;

use crate::error::ScalerError;
use crate::http::json;
use crate::source::Reading;

/// A consumer as one server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Consumer {
    waiting: i64,
    unacknowledged: i64,
    /// Name of the server that leads it; `None` outside a cluster.
    pub(super) leader: Option<String>,
}

impl Consumer {
    pub(super) fn lag(&self) -> Result<Reading, ScalerError> {
        Reading::count(self.waiting.saturating_add(self.unacknowledged))
    }
}

/// A server and those it knows.
#[derive(Debug, Deserialize)]
pub(super) struct Server {
    #[serde(rename = "server_name")]
    pub(super) name: String,
    #[serde(default)]
    connect_urls: Vec<String>,
    #[serde(default)]
    cluster: Routes,
}

#[derive(Debug, Default, Deserialize)]
struct Routes {
    #[serde(default)]
    urls: Vec<String>,
}

impl Server {
    /// Monitoring addresses of the cluster's servers: where clients connect, on the port of `endpoint`; or, when the servers
    /// do not advertise that, by their names below the host of `endpoint`, as a headless Service gives them.
    pub(super) fn others(&self, endpoint: &Url) -> Vec<Url> {
        let host = endpoint.host_str().unwrap_or_default();
        let hosts: Vec<String> = if self.connect_urls.is_empty() {
            let names = std::iter::once(self.name.as_str()).chain(self.cluster.urls.iter().map(String::as_str));
            names.map(|name| format!("{}.{host}", name.split(['.', ':']).next().unwrap_or_default())).collect()
        } else {
            let urls = self.connect_urls.iter();
            urls.filter_map(|url| url.rsplit_once(':').map(|(host, _)| host.to_owned())).collect()
        };
        let at = |host: &String| {
            let mut url = endpoint.clone();
            url.set_host(Some(host)).is_ok().then_some(url)
        };
        hosts.iter().filter_map(at).collect()
    }
}

#[derive(Deserialize)]
struct JetStream {
    #[serde(default, rename = "account_details")]
    accounts: Vec<Account>,
}

#[derive(Deserialize)]
struct Account {
    name: String,
    #[serde(default, rename = "stream_detail")]
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    #[serde(default, rename = "consumer_detail")]
    consumers: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    name: String,
    num_pending: i64,
    num_ack_pending: i64,
    cluster: Option<Leader>,
}

#[derive(Deserialize)]
struct Leader {
    leader: Option<String>,
}

/// The consumer in an answer of `/jsz`, if it is there.
///
/// # Errors
/// The answer is something else: [`ScalerError::NoNumber`].
pub(super) fn consumer(
    body: &[u8],
    account: &str,
    stream: &str,
    consumer: &str,
) -> Result<Option<Consumer>, ScalerError> {
    let answer: JetStream = json("NATS", body)?;
    let streams = answer.accounts.into_iter().filter(|found| found.name == account).flat_map(|found| found.streams);
    let consumers = streams.filter(|found| found.name == stream).flat_map(|found| found.consumers);
    Ok(consumers.filter(|found| found.name == consumer).map(Consumer::from).next())
}

impl From<Detail> for Consumer {
    fn from(detail: Detail) -> Self {
        let leader = detail.cluster.and_then(|cluster| cluster.leader).filter(|leader| !leader.is_empty());
        Self { waiting: detail.num_pending, unacknowledged: detail.num_ack_pending, leader }
    }
}

/// The answer of `/varz`.
///
/// # Errors
/// The answer is something else: [`ScalerError::NoNumber`].
pub(super) fn server(body: &[u8]) -> Result<Server, ScalerError> {
    json("NATS", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(cluster: &str) -> String {
        format!(
            r#"{{"account_details": [
                {{"name": "other", "stream_detail": [{{"name": "s", "consumer_detail": [
                    {{"name": "c", "num_pending": 99, "num_ack_pending": 99}}]}}]}},
                {{"name": "mine", "stream_detail": [{{"name": "t"}}, {{"name": "s", "consumer_detail": [
                    {{"name": "b", "num_pending": 50, "num_ack_pending": 0}},
                    {{"name": "c", "num_pending": 5, "num_ack_pending": 3 {cluster}}}]}}]}}]}}"#
        )
    }

    #[test]
    fn a_consumer_is_found_by_account_stream_and_name() {
        let found = |body: &str| consumer(body.as_bytes(), "mine", "s", "c");
        let alone = found(&answer("")).unwrap().unwrap();
        assert_eq!((alone.lag().unwrap().float, alone.leader), (8.0, None));
        let led = found(&answer(r#", "cluster": {"leader": "nats-1"}"#)).unwrap().unwrap();
        assert_eq!(led.leader.as_deref(), Some("nats-1"));
        assert_eq!(found(&answer(r#", "cluster": {"leader": ""}"#)).unwrap().unwrap().leader, None);
        assert_eq!(found("{}").unwrap(), None);
        for body in ["", "<html>", &answer(r#", "cluster": 7"#), &answer("").replace('5', "\"x\"")] {
            assert!(matches!(found(body), Err(ScalerError::NoNumber { .. })), "{body}");
        }
    }

    #[test]
    fn the_other_servers_are_where_clients_connect_or_below_the_service() {
        let others = |body: &str, endpoint: &str| -> Vec<String> {
            let urls = server(body.as_bytes()).unwrap().others(&Url::parse(endpoint).unwrap());
            urls.iter().map(ToString::to_string).collect()
        };
        let advertised = r#"{"server_name": "n1", "connect_urls": ["10.0.0.2:4222", "nats-2.nats.svc:4222"]}"#;
        assert_eq!(others(advertised, "http://nats:8222/"), ["http://10.0.0.2:8222/", "http://nats-2.nats.svc:8222/"]);
        let silent = r#"{"server_name": "nats-0", "cluster": {"urls": ["nats-1.nats:6222"]}}"#;
        assert_eq!(
            others(silent, "http://nats.shop:8222/"),
            ["http://nats-0.nats.shop:8222/", "http://nats-1.nats.shop:8222/"]
        );
    }
}
