//! One service of AWS in one region.

use reqwest::{RequestBuilder, Url};
use serde_json::Value;

use super::{AwsAuth, Signer};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::{ANSWER_BYTES, refusal, sent, unavailable, whole};

/// The settings that an address comes from.
const ADDRESS: &str = "awsEndpoint or awsRegion";
/// Words in the codes of refusals that pass.
const LATER: [&str; 6] = [
    "Throttl",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "InternalFailure",
    "InternalError",
    "InternalServiceError",
];
/// Words in the codes of refusals that other credentials would end.
const IDENTITY: [&str; 8] = [
    "AccessDenied",
    "AuthFailure",
    "ExpiredToken",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClient",
];

/// A service that is asked with signed requests.
#[derive(Debug)]
pub(crate) struct Service {
    client: reqwest::Client,
    signer: Signer,
    url: Url,
}

impl Service {
    /// The service at `endpoint`, or at AWS's own address in that region.
    ///
    /// # Errors
    /// There is nothing to sign with, or the address is none.
    pub(crate) fn new(
        service: &'static str,
        region: String,
        endpoint: Option<Url>,
        auth: AwsAuth,
        context: &TriggerContext<'_>,
    ) -> Result<Self, BuildError> {
        let url = match endpoint {
            Some(url) => url,
            None => Url::parse(&own_address(service, &region))
                .map_err(|_| BuildError::new("awsRegion", format!("{region:?} is not a region")))?,
        };
        let keys = auth.keys(&region, context)?;
        Ok(Self { client: context.http.client(true)?, signer: Signer { keys, region, service }, url })
    }

    /// A request to build on.
    pub(crate) fn post(&self) -> RequestBuilder {
        self.client.post(self.url.clone())
    }

    /// Signs and sends it. `code` finds the code of a refusal in its body.
    ///
    /// # Errors
    /// By what to do next.
    pub(crate) async fn ask(
        &self,
        request: RequestBuilder,
        code: fn(&[u8]) -> Option<String>,
    ) -> Result<Vec<u8>, ScalerError> {
        let silent = |error| unavailable(ADDRESS, &self.url, error);
        let mut request = request.build().map_err(silent)?;
        self.signer.sign(&mut request).await?;
        let response = sent(self.client.execute(request)).await.map_err(silent)?;
        let (status, bytes) = whole(ADDRESS, &self.url, response, ANSWER_BYTES).await?;
        match refusal(status, &bytes, "awsEndpoint") {
            None => Ok(bytes),
            Some(error) => Err(judged(error, code(&bytes).as_deref())),
        }
    }
}

impl Service {
    /// Asks in JSON, as the services that speak AWS JSON 1.0 want it; `target` is `SERVICE.ACTION`, and
    /// `whose` the answer is, for errors.
    ///
    /// # Errors
    /// By what to do next.
    pub(crate) async fn ask_json(&self, whose: &str, target: &str, question: &Value) -> Result<Value, ScalerError> {
        let request = self
            .post()
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .body(question.to_string());
        let body = self.ask(request, json_code).await?;
        serde_json::from_slice(&body).map_err(|_| ScalerError::no_number(format!("the answer of {whose} is not JSON")))
    }
}

fn json_code(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Value>(body).ok()?["__type"].as_str().map(str::to_owned)
}

/// AWS answers 400 to nearly everything, and says in a code what it means.
fn judged(error: ScalerError, code: Option<&str>) -> ScalerError {
    let Some(code) = code else { return error };
    let what = match error {
        ScalerError::Misconfigured { what } | ScalerError::Unauthorized { what } => what,
        other => return other,
    };
    let has = |words: &[&str]| words.iter().any(|word| code.contains(word));
    if has(&LATER) {
        ScalerError::Unavailable(what.into())
    } else if has(&IDENTITY) {
        ScalerError::Unauthorized { what }
    } else {
        ScalerError::Misconfigured { what }
    }
}

fn own_address(service: &str, region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://{service}.{region}.{domain}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_next() {
        let kind = |code: Option<&str>| match judged(ScalerError::Misconfigured { what: "HTTP 400".into() }, code) {
            ScalerError::Unavailable(_) => "later",
            ScalerError::Unauthorized { .. } => "credentials",
            _ => "question",
        };
        assert_eq!(kind(Some("ThrottlingException")), "later");
        assert_eq!(kind(Some("com.amazonaws.sqs#RequestThrottled")), "later");
        assert_eq!(kind(Some("InvalidClientTokenId")), "credentials");
        assert_eq!(kind(Some("com.amazon.coral.service#AccessDeniedException")), "credentials");
        assert_eq!(kind(Some("QueueDoesNotExist")), "question");
        assert_eq!(kind(None), "question");
        let body = br#"{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow down"}"#;
        assert_eq!(kind(json_code(body).as_deref()), "later");
        assert_eq!(json_code(b"<html>"), None);
    }

    #[test]
    fn china_has_a_domain_of_its_own() {
        assert_eq!(own_address("sqs", "eu-west-1"), "https://sqs.eu-west-1.amazonaws.com/");
        assert_eq!(own_address("sqs", "cn-north-1"), "https://sqs.cn-north-1.amazonaws.com.cn/");
    }
}
