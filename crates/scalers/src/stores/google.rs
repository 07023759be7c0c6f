//! Google Secret Manager, by its REST API.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use serde_json::Value;

use super::{STORE_AGAIN, Stored, about};
use crate::auth::google_key::GoogleKey;
use crate::auth::tokens::{Tokens, google_metadata};
use crate::error::ScalerError;
use crate::http::{Http, answer, unavailable};

/// Where Google's API is.
const ENDPOINT: &str = "https://secretmanager.googleapis.com";
/// What an error is about.
const NAME: &str = "gcpSecretManager";

/// Secrets of one project: that of the key, or the one that this program runs in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GoogleSecrets {
    /// The secrets.
    pub secrets: Vec<GoogleSecret>,
}

/// One secret of Google Secret Manager.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GoogleSecret {
    /// The parameter it becomes.
    pub parameter: String,
    /// Its id.
    pub id: String,
    /// Its version; the latest if absent.
    pub version: Option<String>,
}

/// Who asks Google.
#[derive(Clone, Copy)]
pub enum GoogleKeys<'a> {
    /// A service account, with the JSON of its key.
    Key(&'a str),
    /// The workload identity of this program.
    Workload,
}

impl std::fmt::Debug for GoogleKeys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GoogleKeys").finish_non_exhaustive()
    }
}

impl GoogleSecrets {
    /// Reads the secrets.
    ///
    /// # Errors
    /// There is no such identity, Google is silent or refuses us, or a secret is not there; the error names it.
    pub async fn read(&self, http: &Http, keys: GoogleKeys<'_>) -> Result<Stored, ScalerError> {
        let client = http.client(true).map_err(|error| ScalerError::Unavailable(Box::new(error)))?;
        let wrong = |error: crate::BuildError| ScalerError::Misconfigured { what: error.to_string() };
        let (project, tokens) = match keys {
            GoogleKeys::Key(text) => {
                let key = GoogleKey::read(text).map_err(wrong)?;
                (key.project.clone(), Tokens::signed(client.clone(), key))
            }
            GoogleKeys::Workload => {
                let place = google_metadata("project/project-id").map_err(wrong)?;
                (project_at(&place, http, &client).await?, Tokens::google(client.clone()).map_err(wrong)?)
            }
        };
        self.read_at(ENDPOINT, &project, &tokens, http, &client).await
    }

    async fn read_at(
        &self,
        endpoint: &str,
        project: &str,
        tokens: &Tokens,
        http: &Http,
        client: &reqwest::Client,
    ) -> Result<Stored, ScalerError> {
        let wrong = |what: String| ScalerError::Misconfigured { what };
        let mut stored = Stored { parameters: [].into(), lasts: STORE_AGAIN };
        for secret in &self.secrets {
            let told = |error: ScalerError| about(&format!("Google secret {}", secret.id), &error);
            let version = secret.version.as_deref().filter(|version| !version.is_empty()).unwrap_or("latest");
            let mut url = Url::parse(endpoint).map_err(|error| wrong(error.to_string()))?;
            if let Ok(mut path) = url.path_segments_mut() {
                let last = format!("{version}:access");
                path.extend(["v1", "projects", project, "secrets", &secret.id, "versions", &last]);
            }
            let token = tokens.get().await.map_err(told)?;
            let request = client.get(url.clone()).timeout(http.timeout()).bearer_auth(token.reveal());
            let response = request.send().await.map_err(|error| told(unavailable(NAME, &url, error)))?;
            let bytes = answer(NAME, &url, response).await.map_err(told)?;
            let value = value(&bytes).map_err(|what| told(wrong(what.to_owned())))?;
            stored.parameters.insert(secret.parameter.clone(), value);
        }
        Ok(stored)
    }
}

/// Who says which project this is.
const METADATA: &str = "Google's metadata server";

async fn project_at(place: &Url, http: &Http, client: &reqwest::Client) -> Result<String, ScalerError> {
    let request = client.get(place.clone()).timeout(http.timeout()).header("metadata-flavor", "Google");
    let response = request.send().await.map_err(|error| unavailable(METADATA, place, error))?;
    let text = String::from_utf8(answer(METADATA, place, response).await?);
    let project = text.map(|text| text.trim().to_owned()).ok().filter(|project| !project.is_empty());
    project.ok_or_else(|| ScalerError::Misconfigured { what: format!("{METADATA} answers without a project") })
}

fn value(body: &[u8]) -> Result<String, &'static str> {
    let found: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON")?;
    let data = found["payload"]["data"].as_str().ok_or("the answer has no payload")?;
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| "the payload is not base64")?;
    String::from_utf8(bytes).map_err(|_| "it is not a text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HTTP_TIMEOUT;
    use crate::testing::{ok, serve};

    #[tokio::test]
    async fn a_secret_of_our_project_is_read() {
        let token = ok(r#"{"access_token": "t", "expires_in": 3600}"#);
        // The project, a token, the secret.
        let (address, served) = serve(vec![ok("shop-1"), token, ok(r#"{"payload": {"data": "czNjcmV0"}}"#)]).await;
        let http = Http::new(HTTP_TIMEOUT);
        let client = http.client(true).unwrap();
        let url = |path: &str| Url::parse(&format!("{address}/{path}")).unwrap();
        let tokens = Tokens::of_place(client.clone(), url("token"));
        let secret = GoogleSecret { parameter: "password".into(), id: "db".into(), version: None };
        let secrets = GoogleSecrets { secrets: vec![secret] };
        let project = project_at(&url("project"), &http, &client).await.unwrap();
        let stored = secrets.read_at(&address, &project, &tokens, &http, &client).await.unwrap();
        assert_eq!(stored.parameters["password"], "s3cret");
        let asked = served.await.unwrap();
        assert!(asked[0].contains("metadata-flavor: Google"), "{}", asked[0]);
        let path = "GET /v1/projects/shop-1/secrets/db/versions/latest:access ";
        assert!(asked[2].starts_with(path) && asked[2].contains("authorization: Bearer t\r\n"), "{}", asked[2]);
    }

    #[tokio::test]
    async fn a_key_gets_a_token_and_reads_its_project() {
        let token = ok(r#"{"access_token": "t", "expires_in": 3600}"#);
        let (address, served) = serve(vec![token, ok(r#"{"payload": {"data": "czNjcmV0"}}"#)]).await;
        let (file, _) = crate::auth::google_key::tests::file(&format!("{address}/token"));
        let key = GoogleKey::read(&file).unwrap();
        let http = Http::new(HTTP_TIMEOUT);
        let client = http.client(true).unwrap();
        let (project, tokens) = (key.project.clone(), Tokens::signed(client.clone(), key));
        let secret = GoogleSecret { parameter: "password".into(), id: "db".into(), version: Some("3".into()) };
        let secrets = GoogleSecrets { secrets: vec![secret] };
        let stored = secrets.read_at(&address, &project, &tokens, &http, &client).await.unwrap();
        assert_eq!(stored.parameters["password"], "s3cret");
        let asked = served.await.unwrap();
        assert!(asked[0].starts_with("POST /token ") && asked[0].contains("jwt-bearer&assertion=ey"), "{}", asked[0]);
        assert!(asked[1].starts_with("GET /v1/projects/shop-1/secrets/db/versions/3:access "), "{}", asked[1]);
    }

    #[test]
    fn what_is_not_a_secret_is_said() {
        assert_eq!(value(b"<html>"), Err("the answer is not JSON"));
        assert_eq!(value(br#"{"payload": {}}"#), Err("the answer has no payload"));
        assert_eq!(value(br#"{"payload": {"data": "/w=="}}"#), Err("it is not a text"));
    }
}
