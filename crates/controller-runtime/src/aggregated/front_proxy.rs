//! Authentication by the API server's word: a client certificate that only the API server has, and headers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::UnixTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::User;
use crate::tls::Peer;

/// Why the ConfigMap cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not what it should be.
    #[error("{key} is not {wanted}: {why}")]
    Value {
        /// The key in the ConfigMap.
        key: &'static str,
        /// What is expected there.
        wanted: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// How to recognise the front proxy, and where it writes for whom it asks.
#[derive(Debug)]
pub struct FrontProxy {
    /// `None`: nobody is the front proxy.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Common names the certificate may have; empty: any.
    allowed_names: Vec<String>,
    username_headers: Vec<HeaderName>,
    uid_headers: Vec<HeaderName>,
    group_headers: Vec<HeaderName>,
    /// Lower case.
    extra_prefixes: Vec<String>,
}

impl FrontProxy {
    /// Nobody.
    pub fn none() -> Self {
        Self {
            verifier: None,
            allowed_names: Vec::new(),
            username_headers: Vec::new(),
            uid_headers: Vec::new(),
            group_headers: Vec::new(),
            extra_prefixes: Vec::new(),
        }
    }

    /// Reads the data of `kube-system/extension-apiserver-authentication`.
    ///
    /// Without `requestheader-client-ca-file` there is no front proxy.
    pub fn from_config(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        const CA: &str = "requestheader-client-ca-file";
        let Some(pem) = data.get(CA).filter(|pem| !pem.trim().is_empty()) else { return Ok(Self::none()) };
        let ca_error = |why: String| ConfigError::Value { key: CA, wanted: "a list of CA certificates in PEM", why };
        let certificates = crate::tls::certificates(pem).map_err(|error| ca_error(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate).map_err(|error| ca_error(error.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| ca_error(error.to_string()))?;
        Ok(Self {
            verifier: Some(verifier),
            allowed_names: strings(data, "requestheader-allowed-names")?,
            username_headers: headers(data, "requestheader-username-headers")?,
            uid_headers: headers(data, "requestheader-uid-headers")?,
            group_headers: headers(data, "requestheader-group-headers")?,
            extra_prefixes: strings(data, "requestheader-extra-headers-prefix")?
                .into_iter()
                .map(|prefix| prefix.to_ascii_lowercase())
                .collect(),
        })
    }

    /// The user the front proxy asks for; `None` if this is not the front proxy or it names nobody.
    pub fn user(&self, peer: &Peer, headers: &HeaderMap, now: Timestamp) -> Option<User> {
        self.is_proxy(peer, now).then(|| self.user_of(headers)).flatten()
    }

    fn is_proxy(&self, peer: &Peer, now: Timestamp) -> bool {
        let (Some(verifier), Some((leaf, rest))) = (&self.verifier, peer.certificates.split_first()) else {
            return false;
        };
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)));
        if verifier.verify_client_cert(leaf, rest, at).is_err() {
            return false;
        }
        self.allowed_names.is_empty() || common_name(leaf).is_some_and(|name| self.allowed_names.contains(&name))
    }

    fn user_of(&self, headers: &HeaderMap) -> Option<User> {
        let values = |name: &HeaderName| headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        let first = |names: &[HeaderName]| {
            names.iter().filter_map(|name| values(name).next()).find(|value| !value.is_empty()).map(str::to_owned)
        };
        let name = first(&self.username_headers)?;
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (header, value) in headers {
            let key = self.extra_prefixes.iter().find_map(|prefix| header.as_str().strip_prefix(prefix.as_str()));
            if let (Some(key), Ok(value)) = (key, value.to_str()) {
                // Keys are percent-encoded, since not every character may be in a header's name.
                let key = percent_decode_str(key).decode_utf8_lossy().to_lowercase();
                extra.entry(key).or_default().push(value.to_owned());
            }
        }
        Some(User {
            name,
            uid: first(&self.uid_headers),
            groups: self.group_headers.iter().flat_map(values).map(str::to_owned).collect(),
            extra,
        })
    }
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    parsed.subject().iter_common_name().next()?.as_str().ok().map(str::to_owned)
}

/// A JSON list of strings; absent is empty.
fn strings(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<String>, ConfigError> {
    let Some(text) = data.get(key).filter(|text| !text.trim().is_empty()) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|error| ConfigError::Value {
        key,
        wanted: "a JSON list of strings",
        why: error.to_string(),
    })
}

fn headers(data: &BTreeMap<String, String>, key: &'static str) -> Result<Vec<HeaderName>, ConfigError> {
    strings(data, key)?
        .iter()
        .map(|name| {
            HeaderName::from_bytes(name.as_bytes()).map_err(|error| ConfigError::Value {
                key,
                wanted: "a list of header names",
                why: format!("{name:?}: {error}"),
            })
        })
        .collect()
}
