//! AWS Secrets Manager, by its JSON API.

use reqwest::Url;
use serde_json::{Value, json};

use super::{STORE_AGAIN, Stored, about, plain};
use crate::auth::aws::{Keys, Signer};
use crate::context::Identity;
use crate::error::ScalerError;
use crate::http::{ANSWER_BYTES, Http, refusal, unavailable, whole};

/// Where secrets are, and who asks for them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsSecrets {
    /// Region of the secrets.
    pub region: String,
    /// Address of the service, instead of AWS's own in that region.
    pub endpoint: Option<String>,
    /// The secrets.
    pub secrets: Vec<AwsSecret>,
}

/// One secret of AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsSecret {
    /// The parameter it becomes.
    pub parameter: String,
    /// Name or ARN of the secret.
    pub name: String,
    /// Its version by id; the current one if absent.
    pub version_id: Option<String>,
    /// Its version by stage.
    pub version_stage: Option<String>,
    /// A field, if the secret is a JSON object; otherwise the whole text counts.
    pub field: Option<String>,
}

/// What requests are signed with.
#[derive(Clone, Copy)]
pub enum AwsKeys<'a> {
    /// An access key.
    Given {
        /// Its id.
        id: &'a str,
        /// Its secret.
        secret: &'a str,
        /// Its session token, when it is temporary.
        token: Option<&'a str>,
    },
    /// A `podIdentity`; one that is not of AWS means the program's own identity.
    Identity(&'a Identity),
}

impl std::fmt::Debug for AwsKeys<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsKeys").finish_non_exhaustive()
    }
}

impl AwsSecrets {
    /// Reads the secrets.
    ///
    /// # Errors
    /// AWS is silent, busy or refuses us, or a secret or field is not there; the error names it.
    pub async fn read(&self, http: &Http, keys: AwsKeys<'_>) -> Result<Stored, ScalerError> {
        let endpoint = self.endpoint.clone().unwrap_or_else(|| endpoint_of(&self.region));
        let url = Url::parse(&endpoint)
            .map_err(|error| ScalerError::Misconfigured { what: format!("awsSecretManager.region: {error}") })?;
        let client = http.client(true).map_err(|error| ScalerError::Unavailable(Box::new(error)))?;
        let keys = match keys {
            AwsKeys::Given { id, secret, token } => Keys::given(id, secret, token),
            AwsKeys::Identity(Identity::Aws { role, external_id }) => {
                Keys::of_this_program(&self.region, role.clone(), external_id.clone(), client.clone())
            }
            AwsKeys::Identity(_) => Keys::of_this_program(&self.region, None, None, client.clone()),
        };
        let signer = Signer { keys, region: self.region.clone(), service: "secretsmanager" };
        let mut stored = Stored { parameters: [].into(), lasts: STORE_AGAIN };
        for secret in &self.secrets {
            let told = |error: ScalerError| about(&format!("AWS secret {}", secret.name), &error);
            let mut request = client
                .post(url.clone())
                .timeout(http.timeout())
                .header("content-type", "application/x-amz-json-1.1")
                .header("x-amz-target", "secretsmanager.GetSecretValue")
                .body(question(secret).to_string())
                .build()
                .map_err(|error| ScalerError::Misconfigured { what: error.without_url().to_string() })?;
            signer.sign(&mut request).await.map_err(told)?;
            let response =
                client.execute(request).await.map_err(|error| unavailable(REGION, &url, error)).map_err(told)?;
            let (status, bytes) = whole(REGION, &url, response, ANSWER_BYTES).await.map_err(told)?;
            if let Some(error) = refused(status, &bytes) {
                return Err(told(error));
            }
            let value = value(&bytes, secret.field.as_deref());
            let value = value.map_err(|what| told(ScalerError::Misconfigured { what }))?;
            stored.parameters.insert(secret.parameter.clone(), value);
        }
        Ok(stored)
    }
}

/// Where the address comes from.
const REGION: &str = "awsSecretManager.region";

fn endpoint_of(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://secretsmanager.{region}.{domain}/")
}

fn question(secret: &AwsSecret) -> Value {
    let mut question = json!({"SecretId": secret.name});
    for (name, value) in [("VersionId", &secret.version_id), ("VersionStage", &secret.version_stage)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            question[name] = json!(value);
        }
    }
    question
}

/// AWS answers 400 to nearly everything, and says in the body what it means.
fn refused(status: u16, body: &[u8]) -> Option<ScalerError> {
    let error = refusal(status, body, REGION)?;
    let kind = serde_json::from_slice::<Value>(body).ok().and_then(|body| Some(body["__type"].as_str()?.to_owned()));
    let text = || error.text();
    Some(match kind.as_deref().map(|kind| kind.rsplit('#').next().unwrap_or_default()) {
        Some("ThrottlingException" | "InternalServiceError") => ScalerError::Unavailable(text().into()),
        Some("AccessDeniedException" | "UnrecognizedClientException" | "InvalidSignatureException") => {
            ScalerError::Unauthorized { what: text() }
        }
        _ => error,
    })
}

fn value(body: &[u8], field: Option<&str>) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| "the answer is not JSON".to_owned())?;
    let text = answer["SecretString"].as_str().ok_or_else(|| "it is not a text".to_owned())?;
    let Some(field) = field.filter(|field| !field.is_empty()) else { return Ok(text.to_owned()) };
    let fields: Value = serde_json::from_str(text).map_err(|_| "it is not a JSON object".to_owned())?;
    fields.get(field).and_then(plain).ok_or_else(|| format!("it has no field {field:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HTTP_TIMEOUT;
    use crate::testing::{ok, serve};

    #[test]
    fn a_secret_is_a_text_or_a_field_of_it() {
        let body = json!({"Name": "db", "SecretString": r#"{"user": "u", "port": 1}"#}).to_string();
        assert_eq!(value(body.as_bytes(), None), Ok(r#"{"user": "u", "port": 1}"#.into()));
        assert_eq!(value(body.as_bytes(), Some("user")), Ok("u".into()));
        assert_eq!(value(body.as_bytes(), Some("port")), Ok("1".into()));
        assert_eq!(value(body.as_bytes(), Some("password")), Err("it has no field \"password\"".into()));
        assert_eq!(value(br#"{"SecretBinary": "AA=="}"#, None), Err("it is not a text".into()));
    }

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let said = |kind: &str| refused(400, json!({"__type": kind}).to_string().as_bytes()).unwrap();
        assert!(matches!(said("ThrottlingException"), ScalerError::Unavailable(_)));
        assert!(matches!(said("AccessDeniedException"), ScalerError::Unauthorized { .. }));
        assert!(matches!(said("com.amazonaws#ResourceNotFoundException"), ScalerError::Misconfigured { .. }));
        assert!(refused(200, b"{}").is_none());
    }

    #[tokio::test]
    async fn a_request_is_signed_and_names_the_version() {
        let (address, served) = serve(vec![ok(r#"{"SecretString": "s3cret"}"#)]).await;
        let secret = AwsSecret {
            parameter: "password".into(),
            name: "db".into(),
            version_id: None,
            version_stage: Some("AWSPREVIOUS".into()),
            field: None,
        };
        let secrets = AwsSecrets { region: "eu-west-1".into(), endpoint: Some(address), secrets: vec![secret] };
        let keys = AwsKeys::Given { id: "AKID", secret: "k", token: None };
        let stored = secrets.read(&Http::new(HTTP_TIMEOUT), keys).await.unwrap();
        assert_eq!(stored.parameters["password"], "s3cret");
        let asked = served.await.unwrap().remove(0);
        assert!(asked.contains("x-amz-target: secretsmanager.GetSecretValue"), "{asked}");
        assert!(asked.contains("/eu-west-1/secretsmanager/aws4_request"), "{asked}");
        assert!(asked.contains(r#""VersionStage":"AWSPREVIOUS""#), "{asked}");
    }
}
