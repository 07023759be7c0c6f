//! OAuth 2 client credentials from a TriggerAuthentication.

use reqwest::Url;

use super::tokens::Tokens;
use crate::error::BuildError;
use crate::metadata::{QueryPairs, Secret, TriggerMetadata};

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
    pub(crate) fn is_complete(&self) -> bool {
        self.token_url.is_some() && self.client_id.is_some() && self.client_secret.is_some()
    }

    pub(crate) fn tokens(&self, client: reqwest::Client) -> Result<Tokens, BuildError> {
        let missing = || BuildError::new("authenticationRef oauthTokenURI", "is required by oauth, with id and secret");
        let url = self.token_url.clone().ok_or_else(missing)?;
        let basic = self.client_id.clone().zip(self.client_secret.clone()).ok_or_else(missing)?;
        let mut form = vec![("grant_type".to_owned(), "client_credentials".into())];
        if !self.scopes.is_empty() {
            form.push(("scope".into(), self.scopes.join(" ").as_str().into()));
        }
        form.extend(self.endpoint_params.0.iter().map(|(name, value)| (name.clone(), value.as_str().into())));
        Ok(Tokens::client(client, ("oauthTokenURI", url), form, basic))
    }
}
