//! Bearer tokens that somebody gives out for a time; each is kept until shortly before it ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{RequestBuilder, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::google_key::GoogleKey;
use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::http::{answer, form_body, unavailable};
use crate::metadata::Secret;

/// A token is renewed this long before it ends, so that it does not end on its way.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is kept when the server does not say. RFC 6749 leaves it open.
const LIFETIME: Duration = Duration::from_mins(5);
/// What a signed statement is, in the same words.
const SIGNED: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// What a federated token is, in the words of RFC 7523.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Tokens from one place, one at a time.
#[derive(Debug)]
pub(crate) struct Tokens {
    client: reqwest::Client,
    url: Url,
    /// Where the address comes from, for errors.
    setting: &'static str,
    grant: Grant,
    kept: Mutex<Option<(Secret, Instant)>>,
}

/// What gets us a token.
#[derive(Debug)]
enum Grant {
    /// A client's id and secret, and a form.
    Client { form: Vec<(String, Secret)>, basic: (String, Secret) },
    /// The token that Kubernetes gives this program, in a file that is renewed.
    Federated { file: String, client: String, scope: String },
    /// Being on a machine of Google.
    Place,
    /// A statement that is signed with a key of Google.
    Signed(Box<GoogleKey>),
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Tokens {
    /// Tokens for a client; `setting` is where the address comes from.
    pub(crate) fn client(
        client: reqwest::Client,
        (setting, url): (&'static str, Url),
        form: Vec<(String, Secret)>,
        basic: (String, Secret),
    ) -> Self {
        Self::new(client, url, setting, Grant::Client { form, basic })
    }

    /// Tokens of Azure's workload identity; what is not given is taken from the program's environment.
    ///
    /// # Errors
    /// The environment is not that of a pod with a workload identity.
    pub(crate) fn azure(
        http: reqwest::Client,
        client: Option<&str>,
        tenant: Option<&str>,
        authority: Option<&str>,
        scope: &str,
    ) -> Result<Self, BuildError> {
        let variable = |given: Option<&str>, name: &str| {
            given.map(str::to_owned).or_else(|| std::env::var(name).ok()).filter(|text| !text.is_empty()).ok_or_else(
                || {
                    let what = format!("podIdentity azure-workload needs {name} in this program's environment");
                    BuildError::new("authenticationRef", what)
                },
            )
        };
        let authority = variable(authority, "AZURE_AUTHORITY_HOST")?;
        let tenant = variable(tenant, "AZURE_TENANT_ID")?;
        let grant = Grant::Federated {
            file: variable(None, "AZURE_FEDERATED_TOKEN_FILE")?,
            client: variable(client, "AZURE_CLIENT_ID")?,
            scope: scope.to_owned(),
        };
        let text = format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/'));
        let wrong = |error| BuildError::new("authenticationRef", format!("Azure's authority host {text:?}: {error}"));
        Ok(Self::new(http, Url::parse(&text).map_err(wrong)?, "Azure's authority host", grant))
    }

    /// Tokens of the trigger's workload identity at Azure, if that is who it shows.
    ///
    /// # Errors
    /// See [`azure`](Self::azure).
    pub(crate) fn of_azure(context: &TriggerContext<'_>, scope: &str) -> Result<Option<Self>, BuildError> {
        let Identity::Azure { client, tenant, authority } = context.identity() else { return Ok(None) };
        let http = context.http.client(true)?;
        Self::azure(http, client.as_deref(), tenant.as_deref(), authority.as_deref(), scope).map(Some)
    }

    /// Tokens of the machine or of the workload identity, from Google's metadata server.
    ///
    /// # Errors
    /// The program is told to use a key file, which is not supported.
    pub(crate) fn google(http: reqwest::Client) -> Result<Self, BuildError> {
        let wrong = |what: String| BuildError::new("authenticationRef", what);
        if std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").is_some() {
            return Err(wrong("podIdentity gcp with a key file is not supported; use a workload identity".into()));
        }
        Ok(Self::of_place(http, google_metadata("instance/service-accounts/default/token")?))
    }

    /// Tokens for who has a service account key of Google.
    pub(crate) fn signed(client: reqwest::Client, key: GoogleKey) -> Self {
        Self::new(client, key.token_url.clone(), "the key's token_uri", Grant::Signed(Box::new(key)))
    }

    /// Tokens that are given to whoever is at the right place.
    pub(crate) fn of_place(client: reqwest::Client, url: Url) -> Self {
        Self::new(client, url, "Google's metadata server", Grant::Place)
    }

    fn new(client: reqwest::Client, url: Url, setting: &'static str, grant: Grant) -> Self {
        Self { client, url, setting, grant, kept: Mutex::new(None) }
    }

    /// A token that is good for the next request.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) async fn get(&self) -> Result<Secret, ScalerError> {
        // Tasks that need a token wait for the one that asks.
        let mut kept = self.kept.lock().await;
        match &*kept {
            Some((token, until)) if Instant::now() < *until => return Ok(token.clone()),
            _ => {}
        }
        let sent = self.request().await?.send().await;
        let response = sent.map_err(|error| unavailable(self.setting, &self.url, error))?;
        let body = answer(self.setting, &self.url, response).await?;
        let token: Answer = serde_json::from_slice(&body).map_err(|_| ScalerError::Unauthorized {
            what: format!("{} answers without an access_token", self.setting),
        })?;
        let lifetime = token.expires_in.map_or(LIFETIME, Duration::from_secs);
        let secret = Secret::from(token.access_token.as_str());
        *kept = Some((secret.clone(), Instant::now() + lifetime.saturating_sub(EARLY)));
        Ok(secret)
    }

    async fn request(&self) -> Result<RequestBuilder, ScalerError> {
        Ok(match &self.grant {
            Grant::Client { form, basic: (id, secret) } => {
                let form = form.iter().map(|(name, value)| (name.as_str(), value.reveal()));
                form_body(self.client.post(self.url.clone()), form).basic_auth(id, Some(secret.reveal()))
            }
            Grant::Federated { file, client, scope } => {
                let assertion = tokio::fs::read_to_string(file).await.map_err(|error| {
                    ScalerError::Unavailable(format!("the federated token of this program: {error}").into())
                })?;
                let form = [
                    ("grant_type", "client_credentials"),
                    ("client_id", client),
                    ("scope", scope),
                    ("client_assertion_type", ASSERTION),
                    ("client_assertion", assertion.trim()),
                ];
                form_body(self.client.post(self.url.clone()), form)
            }
            Grant::Signed(key) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let assertion = key.assertion(now.as_secs());
                let assertion = assertion.map_err(|what| ScalerError::Misconfigured { what: what.to_owned() })?;
                let form = [("grant_type", SIGNED), ("assertion", &assertion)];
                form_body(self.client.post(self.url.clone()), form)
            }
            Grant::Place => self.client.get(self.url.clone()).header("metadata-flavor", "Google"),
        })
    }
}

/// An address of Google's metadata server.
///
/// # Errors
/// The program is told of a host that cannot be one.
pub(crate) fn google_metadata(path: &str) -> Result<Url, BuildError> {
    let host = std::env::var("GCE_METADATA_HOST").unwrap_or_else(|_| "metadata.google.internal".into());
    let wrong = |error| BuildError::new("authenticationRef", format!("Google's metadata server: {error}"));
    Url::parse(&format!("http://{host}/computeMetadata/v1/{path}")).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ok, serve};

    fn tokens(address: &str, grant: Grant) -> Tokens {
        Tokens::new(reqwest::Client::new(), Url::parse(address).unwrap(), "the test", grant)
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_while_it_lasts() {
        let answers = [r#"{"access_token": "a", "expires_in": 3600}"#, r#"{"access_token": "b"}"#];
        let (address, _served) = serve(answers.map(ok).into()).await;
        let tokens = tokens(&address, Grant::Place);
        for _ in 0..3 {
            assert_eq!(tokens.get().await.unwrap().reveal(), "a");
        }
    }

    #[tokio::test]
    async fn a_token_that_ends_soon_is_not_kept() {
        let answers = [r#"{"access_token": "a", "expires_in": 20}"#, r#"{"access_token": "b"}"#, "<html>"];
        let (address, _served) = serve(answers.map(ok).into()).await;
        let tokens = tokens(&address, Grant::Place);
        assert_eq!(tokens.get().await.unwrap().reveal(), "a");
        assert_eq!(tokens.get().await.unwrap().reveal(), "b");
    }

    #[tokio::test]
    async fn a_federated_token_is_read_when_it_is_needed() {
        let file = std::env::temp_dir().join(format!("tandem-federated-{}", std::process::id()));
        std::fs::write(&file, "jwt\n").unwrap();
        let (address, served) = serve(vec![ok(r#"{"access_token": "a"}"#)]).await;
        let grant = Grant::Federated {
            file: file.display().to_string(),
            client: "c".into(),
            scope: "https://prometheus.monitor.azure.com/.default".into(),
        };
        let got = tokens(&address, grant).get().await;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(got.unwrap().reveal(), "a");
        let asked = served.await.unwrap().remove(0);
        assert!(
            asked.contains("client_assertion=jwt") && asked.contains("client_id=c&scope=https%3A%2F%2F"),
            "{asked}"
        );
    }
}
