//! `etcd`: the number under one key.
//!
//! Read through the JSON gateway that etcd's client port serves beside gRPC.
//!
//! Differs from KEDA: the value is polled, like that of any other source; nothing is pushed between polls, so
//! `watchProgressNotifyInterval` has no effect. A key that is not there is an error, never 0.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Url;
use reqwest::header::AUTHORIZATION;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::auth::tls::{Certificates, Switch};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::{answer, sent, unavailable};
use crate::metadata::{Number, Secret, TriggerMetadata};
use crate::source::{Connected, Reading, Source};

/// The number under one key of an etcd cluster.
#[derive(Debug, TriggerMetadata)]
#[trigger(ignored("watchProgressNotifyInterval", "the key is polled and not watched, so it has no effect"))]
pub(crate) struct Settings {
    /// Addresses of the members' client ports; they are tried in turn. Without a scheme, `http://` (`https://` with TLS).
    #[param(required)]
    endpoints: Vec<String>,
    /// The key.
    watch_key: String,
    /// The value one replica should have.
    #[param(above = "0")]
    value: Number,
    /// Active when the number is above this.
    #[param(default = "0")]
    activation_value: Number,
    /// User name, when the cluster asks for one.
    #[param(from(auth))]
    username: Option<String>,
    /// Password of that user.
    #[param(from(auth))]
    password: Option<Secret>,
    /// Whether the connection uses the certificates below.
    #[param(from(auth), default = "disable")]
    tls: Switch,
    #[param(nested)]
    certificates: Certificates,
}

/// One key of an etcd cluster.
#[derive(Debug)]
pub(crate) struct Etcd {
    endpoints: Vec<Url>,
    key: String,
    login: Option<(String, Secret)>,
    client: reqwest::Client,
    /// How long each member may take, so that one that never answers leaves time for the others.
    share: Duration,
}

#[async_trait]
impl Source for Etcd {
    type Settings = Settings;
    const LABEL: &'static str = "etcdScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let tls = settings.tls == Switch::Enable;
        let url = |text: &String| {
            let scheme = if tls { "https://" } else { "http://" };
            let text = if text.contains("://") { text.clone() } else { format!("{scheme}{text}") };
            Url::parse(&text).map_err(|error| BuildError::new("endpoints", format!("{text:?} is not a URL: {error}")))
        };
        let client = if tls {
            settings.certificates.client(context.http, true, settings.certificates.is_pair())?
        } else {
            context.http.client(true)?
        };
        let endpoints = settings.endpoints.iter().map(url).collect::<Result<Vec<_>, _>>()?;
        let members = u32::try_from(endpoints.len()).unwrap_or(u32::MAX).max(1);
        let source = Self {
            endpoints,
            share: context.http.timeout() / members,
            login: settings.username.zip(settings.password),
            client,
            key: settings.watch_key.clone(),
        };
        Ok(Connected {
            source,
            name: format!("etcd-{}", settings.watch_key),
            target: settings.value,
            activation: settings.activation_value.float,
            timeout: context.http.timeout(),
        })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        let mut last = ScalerError::Unavailable("there is no endpoint".into());
        for endpoint in &self.endpoints {
            let silent =
                || ScalerError::Unavailable(format!("{endpoint} did not answer within {:?}", self.share).into());
            match timeout(self.share, self.ask(endpoint)).await.unwrap_or_else(|_| Err(silent())) {
                // Another member may be there, or know the leader.
                Err(error @ ScalerError::Unavailable(_)) => last = error,
                reading => return reading,
            }
        }
        Err(last)
    }
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Etcd {
    async fn ask(&self, endpoint: &Url) -> Result<Reading, ScalerError> {
        let mut token = None;
        if let Some((name, password)) = &self.login {
            let login = json!({"name": name, "password": password.reveal()});
            let body = self.call(endpoint, "/v3/auth/authenticate", None, &login).await?;
            let answer: Token = serde_json::from_slice(&body)
                .map_err(|_| ScalerError::Unauthorized { what: "etcd answers without a token".into() })?;
            token = Some(answer.token);
        }
        let question = json!({"key": BASE64.encode(&self.key)});
        let body = self.call(endpoint, "/v3/kv/range", token.as_deref(), &question).await?;
        decode(&self.key, &body)
    }

    async fn call(
        &self,
        endpoint: &Url,
        path: &str,
        token: Option<&str>,
        question: &Value,
    ) -> Result<Vec<u8>, ScalerError> {
        let mut url = endpoint.clone();
        url.set_path(path);
        let mut request = self.client.post(url).json(question);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let response = sent(request.send()).await.map_err(|error| unavailable("endpoints", endpoint, error))?;
        answer("endpoints", endpoint, response).await
    }
}

#[derive(Deserialize)]
struct Range {
    /// Tells an answer of etcd from any other JSON.
    #[serde(rename = "header")]
    _header: Value,
    #[serde(default)]
    kvs: Vec<KeyValue>,
}

#[derive(Deserialize)]
struct KeyValue {
    /// Left out when it is empty.
    #[serde(default)]
    value: String,
}

fn decode(key: &str, body: &[u8]) -> Result<Reading, ScalerError> {
    let no_number = |what: String| ScalerError::NoNumber { what };
    let range: Range =
        serde_json::from_slice(body).map_err(|error| no_number(format!("the answer is not that of etcd: {error}")))?;
    let [pair] = range.kvs.as_slice() else { return Err(no_number(format!("there is no key {key:?}"))) };
    let bytes = BASE64.decode(&pair.value).map_err(|error| no_number(format!("the value is not base64: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|_| no_number(format!("the value of {key:?} is not text")))?;
    Reading::text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, metric_name, ok, refusal, serve};

    fn check(body: &str, wanted: &str) {
        let said = decode("k", body.as_bytes()).map_or_else(|e| e.text(), |reading| reading.milli.to_string());
        assert!(said.starts_with(wanted), "{body}: {said}");
    }

    fn value(text: &str) -> String {
        json!({"header": {}, "kvs": [{"key": "aw==", "value": BASE64.encode(text)}], "count": "1"}).to_string()
    }

    #[test]
    fn only_a_finite_number_under_the_key_is_a_number() {
        check(&value("12.5\n"), "12.5");
        check(&value("-3"), "-3");
        for text in ["NaN", "Infinity", "many", "", "<html>"] {
            check(&value(text), "the source gives no usable number");
        }
        check(r#"{"header": {"revision": "7"}}"#, "there is no key \"k\"");
        check(r#"{"header": {}, "kvs": [{"key": "aw==", "value": "/w=="}]}"#, "the value of \"k\" is not text");
        for body in ["{}", "<html>", "", r#"{"kvs": []}"#] {
            check(body, "the answer is not that of etcd");
        }
    }

    #[tokio::test]
    async fn a_member_that_never_answers_leaves_time_for_the_others() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (healthy, _served) = serve(vec![ok(&value("7"))]).await;
        let endpoints = format!("{},{healthy}", silent.local_addr().unwrap());
        let metadata = [("endpoints", endpoints.as_str()), ("watchKey", "k"), ("value", "5")];
        let connected = Trigger::new(&metadata).connect::<Etcd>().unwrap();
        let reading = timeout(connected.timeout, connected.source.read()).await.unwrap().unwrap();
        assert_eq!(reading.milli.thousandths(), 7_000);
    }

    #[test]
    fn the_metric_is_named_after_the_key() {
        let metadata = [("endpoints", "a:2379,https://b:2379"), ("watchKey", "q/len"), ("value", "5")];
        assert_eq!(metric_name::<Etcd>(&metadata), "s0-etcd-q-len");
        assert_eq!(refusal::<Etcd>(&[("endpoints", "http://[")]), ["watchKey", "value"]);
        assert_eq!(refusal::<Etcd>(&[("endpoints", "http://["), metadata[1], metadata[2]]), ["endpoints"]);
    }
}
