//! HashiCorp Vault: key-value secrets of both versions, secrets with a lease, and certificates.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::{STORE_AGAIN, Stored, about, plain};
use crate::error::ScalerError;
use crate::http::{Http, answer, unavailable};

/// One Vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Vault {
    /// Its URL.
    pub address: String,
    /// `X-Vault-Namespace`, if it has namespaces.
    pub namespace: Option<String>,
}

/// One secret of Vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VaultSecret {
    /// The parameter it becomes.
    pub parameter: String,
    /// The path of the API: `secret/data/db` for a key-value secret of version 2.
    pub path: String,
    /// The key at that path.
    pub key: String,
    /// What is at the path.
    pub kind: VaultKind,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VaultKind {
    /// Whatever the answer looks like.
    Any,
    /// Keys and values as they are: key-value version 1, and secrets with a lease.
    Plain,
    /// Key-value version 2.
    Versioned,
    /// A certificate that is made now, by these parameters (`common_name`, `ttl`, …).
    Certificate(BTreeMap<String, String>),
}

impl Vault {
    /// Logs in with a token of a ServiceAccount; returns Vault's own token and how long it may be used.
    ///
    /// # Errors
    /// Vault is silent, or does not let us in.
    pub async fn login(
        &self,
        http: &Http,
        mount: &str,
        role: &str,
        jwt: &str,
    ) -> Result<(String, Duration), ScalerError> {
        let path = format!("auth/{}/login", mount.trim_matches('/'));
        let body = json!({"jwt": jwt, "role": role});
        let answer = self.ask(http, Method::POST, &path, None, Some(&body)).await;
        let answer = answer.map_err(|error| about(&format!("Vault's {path}"), &error))?;
        let token = answer["auth"]["client_token"].as_str().filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| ScalerError::Misconfigured {
            what: format!("Vault's {path} answers without auth.client_token"),
        })?;
        // Zero means that it does not end.
        let lasts = answer["auth"]["lease_duration"].as_u64().filter(|seconds| *seconds > 0);
        Ok((token.to_owned(), most_of(Duration::from_secs(lasts.unwrap_or(3_600)))))
    }

    /// Reads secrets; those at one path with one request.
    ///
    /// # Errors
    /// Vault is silent or refuses us, or a path or key is not there; the error names it.
    pub async fn read(&self, http: &Http, token: &str, secrets: &[VaultSecret]) -> Result<Stored, ScalerError> {
        let mut places: BTreeMap<(&str, &VaultKind), Vec<&VaultSecret>> = BTreeMap::new();
        for secret in secrets {
            places.entry((&secret.path, &secret.kind)).or_default().push(secret);
        }
        let mut stored = Stored { parameters: BTreeMap::new(), lasts: Duration::MAX };
        for ((path, kind), secrets) in places {
            let told = |error: &ScalerError| about(&format!("Vault secret {path}"), error);
            let answer = match kind {
                VaultKind::Certificate(wanted) => {
                    self.ask(http, Method::POST, path, Some(token), Some(&json!(wanted))).await
                }
                _ => self.ask(http, Method::GET, path, Some(token), None).await,
            };
            let answer = answer.map_err(|error| told(&error))?;
            for secret in secrets {
                let value = value(&answer, secret).ok_or_else(|| ScalerError::Misconfigured {
                    what: format!("Vault secret {path} has no key {:?}", secret.key),
                })?;
                stored.parameters.insert(secret.parameter.clone(), value);
            }
            stored.lasts = stored.lasts.min(lasts(&answer, SystemTime::now()));
        }
        stored.lasts = stored.lasts.min(Duration::from_hours(24));
        Ok(stored)
    }

    async fn ask(
        &self,
        http: &Http,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value, ScalerError> {
        let wrong = |what: String| ScalerError::Misconfigured { what };
        let text = format!("{}/v1/{}", self.address.trim_end_matches('/'), path.trim_matches('/'));
        let url = Url::parse(&text).map_err(|error| wrong(format!("hashiCorpVault.address: {error}")))?;
        let client = http.client(true).map_err(|error| ScalerError::Unavailable(Box::new(error)))?;
        let mut request = client.request(method, url.clone()).timeout(http.timeout()).header("x-vault-request", "true");
        if let Some(namespace) = self.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            let value = HeaderValue::from_str(token).map_err(|_| wrong("the token cannot be sent to Vault".into()));
            let mut value = value?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unavailable(ADDRESS, &url, error))?;
        let bytes = answer(ADDRESS, &url, response).await?;
        serde_json::from_slice(&bytes).map_err(|_| wrong("the answer is not JSON; is this a Vault?".into()))
    }
}

/// Where the address comes from.
const ADDRESS: &str = "hashiCorpVault.address";

/// The value of a secret in Vault's answer.
fn value(answer: &Value, secret: &VaultSecret) -> Option<String> {
    let data = &answer["data"];
    let versioned = match secret.kind {
        VaultKind::Versioned => true,
        VaultKind::Any => data["data"].is_object(),
        VaultKind::Plain | VaultKind::Certificate(_) => false,
    };
    let keys = if versioned { &data["data"] } else { data };
    plain(keys.get(&secret.key)?)
}

/// How long an answer may be used: most of its lease, or of the certificate's life.
fn lasts(answer: &Value, now: SystemTime) -> Duration {
    let leased = answer["lease_id"].as_str().is_some_and(|id| !id.is_empty());
    if let Some(seconds) = answer["lease_duration"].as_u64().filter(|seconds| leased && *seconds > 0) {
        return most_of(Duration::from_secs(seconds));
    }
    let end = answer["data"]["expiration"].as_u64().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    match end.and_then(|end| end.duration_since(now).ok()) {
        Some(left) if answer["data"]["certificate"].is_string() => most_of(left),
        _ => STORE_AGAIN,
    }
}

/// What ends is renewed when two thirds of its time are over.
fn most_of(time: Duration) -> Duration {
    time * 2 / 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HTTP_TIMEOUT;
    use crate::testing::{ok, serve};

    fn secret(parameter: &str, path: &str, key: &str, kind: VaultKind) -> VaultSecret {
        VaultSecret { parameter: parameter.into(), path: path.into(), key: key.into(), kind }
    }

    fn vault(address: &str) -> Vault {
        Vault { address: address.into(), namespace: Some("team".into()) }
    }

    fn http() -> Http {
        Http::new(HTTP_TIMEOUT)
    }

    #[test]
    fn a_value_is_found_in_either_version() {
        let one = json!({"data": {"password": "one", "port": 5432}});
        let two = json!({"data": {"data": {"password": "two"}, "metadata": {"version": 3}}});
        for (kind, answer, value_is) in [
            (VaultKind::Any, &one, Some("one")),
            (VaultKind::Any, &two, Some("two")),
            (VaultKind::Plain, &one, Some("one")),
            (VaultKind::Plain, &two, None),
            (VaultKind::Versioned, &two, Some("two")),
            (VaultKind::Versioned, &one, None),
        ] {
            let secret = secret("p", "x", "password", kind.clone());
            assert_eq!(value(answer, &secret).as_deref(), value_is, "{kind:?}");
        }
        assert_eq!(value(&one, &secret("p", "x", "port", VaultKind::Any)).as_deref(), Some("5432"));
    }

    #[test]
    fn a_lease_is_used_for_most_of_its_time() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        for (answer, seconds) in [
            (json!({"lease_id": "a/b", "lease_duration": 3_600, "data": {}}), 2_400),
            // Version 1 of the key-value store says this of what has no lease.
            (json!({"lease_id": "", "lease_duration": 2_764_800, "data": {}}), 25),
            (json!({"lease_id": "", "lease_duration": 0, "data": {"certificate": "x", "expiration": 1_300}}), 200),
            (json!({"data": {"expiration": 1_300}}), 25),
        ] {
            assert_eq!(lasts(&answer, now), Duration::from_secs(seconds), "{answer}");
        }
    }

    #[tokio::test]
    async fn keys_of_one_path_are_read_with_one_request() {
        let both = r#"{"data": {"data": {"user": "u", "password": "p"}}}"#;
        let (address, served) = serve(vec![ok(both)]).await;
        let secrets = [
            secret("username", "secret/data/db", "user", VaultKind::Any),
            secret("password", "secret/data/db", "password", VaultKind::Any),
        ];
        let stored = vault(&address).read(&http(), "t0ken", &secrets).await.unwrap();
        assert_eq!(stored.parameters["username"], "u");
        assert_eq!(stored.parameters["password"], "p");
        assert_eq!(stored.lasts, STORE_AGAIN);
        let asked = served.await.unwrap().remove(0);
        assert!(asked.starts_with("GET /v1/secret/data/db HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-vault-token: t0ken\r\n") && asked.contains("x-vault-namespace: team\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn a_certificate_is_asked_for_by_its_parameters() {
        let (address, served) = serve(vec![ok(r#"{"data": {"certificate": "c", "ca_chain": ["a", "b"]}}"#)]).await;
        let wanted = VaultKind::Certificate([("common_name".to_owned(), "web".to_owned())].into());
        let secrets = [
            secret("cert", "pki/issue/web", "certificate", wanted.clone()),
            secret("ca", "pki/issue/web", "ca_chain", wanted),
        ];
        let stored = vault(&address).read(&http(), "t", &secrets).await.unwrap();
        assert_eq!((stored.parameters["cert"].as_str(), stored.parameters["ca"].as_str()), ("c", "a\nb"));
        let asked = served.await.unwrap().remove(0);
        assert!(asked.starts_with("POST /v1/pki/issue/web ") && asked.contains("\"common_name\":\"web\""), "{asked}");
    }

    #[tokio::test]
    async fn a_login_shows_the_service_accounts_token() {
        let body = r#"{"auth": {"client_token": "own", "lease_duration": 600}}"#;
        let (address, served) = serve(vec![ok(body)]).await;
        let login = vault(&address).login(&http(), "kubernetes", "keda", "jwt").await.unwrap();
        assert_eq!(login, ("own".to_owned(), Duration::from_secs(400)));
        let asked = served.await.unwrap().remove(0);
        assert!(asked.starts_with("POST /v1/auth/kubernetes/login "), "{asked}");
        assert!(asked.contains("\"jwt\":\"jwt\"") && asked.contains("\"role\":\"keda\""), "{asked}");
    }

    #[tokio::test]
    async fn what_is_missing_is_named_and_what_passes_is_told_apart() {
        let answer = |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let secrets = [secret("p", "secret/data/db", "password", VaultKind::Versioned)];
        let served = vec![
            ok(r#"{"data": {"data": {}}}"#),
            answer("404 Not Found"),
            answer("403 Forbidden"),
            answer("503 Sealed"),
        ];
        let (address, _served) = serve(served).await;
        let read = async || vault(&address).read(&http(), "t0ken", &secrets).await.unwrap_err();
        let (key, path, refused, sealed) = (read().await, read().await, read().await, read().await);
        assert!(key.text().contains("secret/data/db has no key \"password\""), "{}", key.text());
        assert!(matches!(path, ScalerError::Misconfigured { .. }) && path.text().contains("secret/data/db"));
        assert!(matches!(refused, ScalerError::Unauthorized { .. }));
        assert!(matches!(sealed, ScalerError::Unavailable(_)));
    }
}
