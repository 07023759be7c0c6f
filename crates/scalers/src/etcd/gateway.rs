//! The JSON gateway that etcd's client port serves beside gRPC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::AUTHORIZATION;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ScalerError;
use crate::http::{ask, json as read};
use crate::metadata::Secret;
use crate::source::Reading;

/// What shows the gateway who asks.
///
/// # Errors
/// See [`ScalerError`].
pub(super) async fn token(
    client: &Client,
    member: &Url,
    (name, password): &(String, Secret),
) -> Result<String, ScalerError> {
    #[derive(Deserialize)]
    struct Token {
        token: String,
    }
    let login = json!({"name": name, "password": password.reveal()});
    let body = call(client, member, "/v3/auth/authenticate", None, &login).await?;
    let none = |_| ScalerError::Unauthorized { what: "etcd answers without a token".into() };
    serde_json::from_slice::<Token>(&body).map_err(none).map(|answer| answer.token)
}

/// The number under a key.
///
/// # Errors
/// See [`ScalerError`].
pub(super) async fn number(
    client: &Client,
    member: &Url,
    token: Option<&str>,
    key: &str,
) -> Result<Reading, ScalerError> {
    decode(key, &call(client, member, "/v3/kv/range", token, &json!({"key": BASE64.encode(key)})).await?)
}

async fn call(
    client: &Client,
    member: &Url,
    path: &str,
    token: Option<&str>,
    question: &Value,
) -> Result<Vec<u8>, ScalerError> {
    let mut url = member.clone();
    url.set_path(path);
    let mut request = client.post(url).json(question);
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, token);
    }
    ask("endpoints", request).await
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
    let range: Range = read("etcd", body)?;
    let [pair] = range.kvs.as_slice() else {
        return Err(ScalerError::no_number(format!("there is no key {key:?}")));
    };
    let bytes = BASE64.decode(&pair.value);
    let bytes = bytes.map_err(|error| ScalerError::no_number(format!("the value is not base64: {error}")))?;
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| ScalerError::no_number(format!("the value of {key:?} is not text")))?;
    Reading::text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
