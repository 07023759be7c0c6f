//! OAuth 2 client credentials: a token is asked for, and kept until shortly before it ends.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::{BuildError, ScalerError};
use crate::http::{answer, form_body, unavailable};
use crate::metadata::{QueryPairs, Secret, TriggerMetadata};

/// A token is renewed this long before it ends, so that it does not end on its way.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is kept when the server does not say. RFC 6749 leaves it open.
const LIFETIME: Duration = Duration::from_mins(5);

/// OAuth 2 client credentials.
#[derive(Debug, TriggerMetadata)]
pub(crate) struct OAuth {
    /// Where `oauth` gets its token.
    #[param(name = "oauthTokenURI", from(auth))]
    token_url: Option<Url>,
    /// Client id of `oauth`.
    #[param(name = "clientID", from(auth))]
    client_id: Option<String>,
    /// Client secret of `oauth`.
    #[param(from(auth))]
    client_secret: Option<Secret>,
    /// Scopes that the token should have.
    #[param(from(auth))]
    scopes: Vec<String>,
    /// What else the token server wants to be told.
    #[param(from(auth))]
    endpoint_params: QueryPairs,
}

impl OAuth {
    pub(super) fn is_complete(&self) -> bool {
        self.token_url.is_some() && self.client_id.is_some() && self.client_secret.is_some()
    }

    pub(super) fn tokens(&self, client: reqwest::Client) -> Result<Tokens, BuildError> {
        let url = self.token_url.clone().ok_or_else(|| BuildError::new("oauthTokenURI", "is required"))?;
        let mut form = vec![("grant_type".to_owned(), "client_credentials".into())];
        if !self.scopes.is_empty() {
            form.push(("scope".into(), self.scopes.join(" ").as_str().into()));
        }
        form.extend(self.endpoint_params.0.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
        let basic = self.client_id.clone().zip(self.client_secret.clone());
        Ok(Tokens { client, url, form, basic, kept: Mutex::new(None) })
    }
}

/// Tokens from one server, one at a time.
#[derive(Debug)]
pub(crate) struct Tokens {
    client: reqwest::Client,
    url: Url,
    form: Vec<(String, Secret)>,
    /// Client id and secret.
    basic: Option<(String, Secret)>,
    kept: Mutex<Option<(Secret, Instant)>>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Tokens {
    /// A token that is good for the next request.
    ///
    /// # Errors
    /// The token server gives none.
    pub(crate) async fn get(&self) -> Result<Secret, ScalerError> {
        // Tasks that need a token wait for the one that asks.
        let mut kept = self.kept.lock().await;
        match &*kept {
            Some((token, until)) if Instant::now() < *until => return Ok(token.clone()),
            _ => {}
        }
        let form = self.form.iter().map(|(name, value)| (name.as_str(), value.reveal()));
        let mut request = form_body(self.client.post(self.url.clone()), form);
        if let Some((id, secret)) = &self.basic {
            request = request.basic_auth(id, Some(secret.reveal()));
        }
        let response = request.send().await.map_err(|error| unavailable("oauthTokenURI", &self.url, error))?;
        let body = answer("oauthTokenURI", &self.url, response).await?;
        let token: Answer = serde_json::from_slice(&body).map_err(|_| ScalerError::Unauthorized {
            what: "the token server answers without an access_token".into(),
        })?;
        let lifetime = token.expires_in.map_or(LIFETIME, Duration::from_secs);
        let secret = Secret::from(token.access_token.as_str());
        *kept = Some((secret.clone(), Instant::now() + lifetime.saturating_sub(EARLY)));
        Ok(secret)
    }
}
