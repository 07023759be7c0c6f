//! Service account keys of Google: a token for a statement that is signed with the key (RFC 7523).

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::Url;
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::BuildError;

/// How long a statement is good for. Google's most.
const LIFETIME_SECONDS: u64 = 3_600;
/// What tokens may be used for; the roles of the account say what of it they can.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A key, as Google hands it out in a JSON file.
#[derive(Debug)]
pub(crate) struct GoogleKey {
    pub(crate) project: String,
    pub(crate) token_url: Url,
    email: String,
    key: Arc<dyn SigningKey>,
}

/// The fields of the file that count.
#[derive(Deserialize)]
struct File {
    project_id: String,
    client_email: String,
    private_key: String,
    token_uri: Url,
}

impl GoogleKey {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is not such a file. The error does not repeat what is in it.
    pub(crate) fn read(text: &str) -> Result<Self, BuildError> {
        let wrong = |what: &str| BuildError::new("gcpSecretManager.credentials", what);
        let file: File = serde_json::from_str(text).map_err(|_| wrong("is not the JSON of a service account key"))?;
        let der = PrivateKeyDer::from_pem_slice(file.private_key.as_bytes());
        let der = der.map_err(|_| wrong("has a private_key that is not in PEM"))?;
        let key = default_provider().key_provider.load_private_key(der);
        let key = key.map_err(|_| wrong("has a private_key that is not one of RSA"))?;
        Ok(Self { project: file.project_id, token_url: file.token_uri, email: file.client_email, key })
    }

    /// The statement that a token is given for. `now` counts in seconds since 1970.
    ///
    /// # Errors
    /// The key is not one of RSA.
    pub(crate) fn assertion(&self, now: u64) -> Result<String, &'static str> {
        let claims = json!({
            "iss": self.email, "scope": SCOPE, "aud": self.token_url, "iat": now, "exp": now + LIFETIME_SECONDS,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let stated = format!("{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims));
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
        let signer = signer.ok_or("the private_key is not one of RSA")?;
        let signature = signer.sign(stated.as_bytes()).map_err(|_| "the private_key cannot sign")?;
        Ok(format!("{stated}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use rcgen::{KeyPair, PKCS_RSA_SHA256, SigningKey as _};

    use super::*;

    /// A key file whose tokens come from `token_uri`, and its key.
    pub(crate) fn file(token_uri: &str) -> (String, KeyPair) {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let file = json!({
            "type": "service_account", "project_id": "shop-1", "client_email": "reader@shop-1.example",
            "private_key": pair.serialize_pem(), "token_uri": token_uri,
        });
        (file.to_string(), pair)
    }

    #[test]
    fn a_statement_says_who_asks_and_is_signed_with_the_key() {
        let (file, pair) = file("https://tokens.example/token");
        let assertion = GoogleKey::read(&file).unwrap().assertion(1_000).unwrap();
        let (stated, signature) = assertion.rsplit_once('.').unwrap();
        // PKCS#1 signatures of one text are all alike.
        assert_eq!(BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap(), pair.sign(stated.as_bytes()).unwrap());
        let claims = BASE64_URL_SAFE_NO_PAD.decode(stated.split_once('.').unwrap().1).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            claims,
            json!({
                "iss": "reader@shop-1.example", "aud": "https://tokens.example/token", "scope": SCOPE,
                "iat": 1_000, "exp": 4_600,
            })
        );
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_repeated() {
        let broken = json!({
            "project_id": "p", "client_email": "e", "private_key": "hunter2", "token_uri": "https://t.example",
        });
        for text in ["hunter2", "{}", &broken.to_string()] {
            let said = GoogleKey::read(text).unwrap_err().to_string();
            assert!(!said.contains("hunter2") && said.contains("gcpSecretManager.credentials"), "{said}");
        }
    }
}
