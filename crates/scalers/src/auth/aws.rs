//! Requests signed for AWS (Signature Version 4), and where the keys for that come from.
//!
//! Keys from the TriggerAuthentication are used as they are. Otherwise the program's own identity is shown: keys in its
//! environment, or the web identity token that EKS puts beside it; with a role, the role is taken on first.

mod keys;
pub(crate) mod service;
mod sts;

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Request, Url};

use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Choice, Secret, TriggerMetadata};
use keys::Fixed;
pub(crate) use keys::Keys;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Choice)]
enum Owner {
    #[value("pod")]
    Pod,
    #[value("operator")]
    Operator,
}

/// Credentials of AWS.
#[derive(Debug, Clone, Hash, TriggerMetadata)]
pub(crate) struct AwsAuth {
    /// Access key.
    #[param(name = "awsAccessKeyID", from(auth, env))]
    access_key: Option<String>,
    /// Its secret.
    #[param(name = "awsSecretAccessKey", from(auth, env))]
    secret_key: Option<Secret>,
    /// Its session token, when the key is temporary.
    #[param(name = "awsSessionToken", from(auth, env))]
    session_token: Option<Secret>,
    /// Role to take on with the program's own identity.
    #[param(name = "awsRoleArn", from(auth, env))]
    role: Option<String>,
    /// `operator`: the program's own identity. The `podIdentity` of a TriggerAuthentication says the same better.
    #[param(default = "pod")]
    identity_owner: Owner,
}

impl AwsAuth {
    /// Where the keys come from.
    ///
    /// # Errors
    /// There is nothing to sign with.
    pub(crate) fn keys(self, region: &str, context: &TriggerContext<'_>) -> Result<Keys, BuildError> {
        let own = |role: Option<String>, external_id: Option<String>| -> Result<Keys, BuildError> {
            let client = context.http.client(true)?;
            Ok(Keys::of_this_program(region, role, external_id, client))
        };
        if let Identity::Aws { role, external_id } = context.identity() {
            return own(role.clone().or(self.role), external_id.clone());
        }
        match (self.access_key, self.secret_key, self.role) {
            (Some(id), Some(secret), _) => Ok(Keys::fixed(Fixed { id, secret, token: self.session_token })),
            (None, None, Some(role)) => own(Some(role), None),
            (None, None, None) if self.identity_owner == Owner::Operator => own(None, None),
            (None, None, None) => Err(BuildError::new(
                "authenticationRef",
                "AWS needs a TriggerAuthentication with podIdentity aws, with awsAccessKeyID and awsSecretAccessKey, or \
                 with awsRoleArn",
            )),
            _ => Err(BuildError::new("authenticationRef", "awsAccessKeyID and awsSecretAccessKey go together")),
        }
    }
}

/// Signs for one service in one region.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) keys: Keys,
    pub(crate) region: String,
    /// The service's name in signatures: `aps`, `sqs`, `monitoring`.
    pub(crate) service: &'static str,
}

impl Signer {
    /// Adds the signature to a request that is otherwise complete.
    ///
    /// # Errors
    /// There are no keys.
    pub(crate) async fn sign(&self, request: &mut Request) -> Result<(), ScalerError> {
        signed(request, &self.by(self.keys.get().await?, SystemTime::now()))
    }

    /// A URL with the signature of a GET request in its query, good for `valid` from now on.
    ///
    /// # Errors
    /// There are no keys.
    pub(crate) async fn sign_url(&self, url: Url, valid: Duration) -> Result<Url, ScalerError> {
        signed_url(url, valid, &self.by(self.keys.get().await?, SystemTime::now()))
    }

    fn by(&self, keys: Fixed, time: SystemTime) -> Signing<'_> {
        Signing { keys, region: &self.region, service: self.service, time }
    }
}

/// Who signs, for what, and when.
struct Signing<'a> {
    keys: Fixed,
    region: &'a str,
    service: &'a str,
    time: SystemTime,
}

impl Signing<'_> {
    fn instructions(
        &self,
        request: SignableRequest<'_>,
        settings: SigningSettings,
    ) -> Result<SigningInstructions, ScalerError> {
        let Fixed { id, secret, token } = &self.keys;
        let token = token.as_ref().map(|token| token.reveal().to_owned());
        let identity = Credentials::new(id, secret.reveal(), token, None, "trigger").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time)
            .settings(settings)
            .build()
            .map_err(unsigned)?
            .into();
        Ok(sign(request, &parameters).map_err(unsigned)?.into_parts().0)
    }
}

fn unsigned(error: impl Display) -> ScalerError {
    ScalerError::Misconfigured { what: format!("cannot be signed: {error}") }
}

fn signed(request: &mut Request, by: &Signing<'_>) -> Result<(), ScalerError> {
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    let signable =
        SignableRequest::new(request.method().as_str(), request.url().as_str(), headers, SignableBody::Bytes(body))
            .map_err(unsigned)?;
    let (added, _) = by.instructions(signable, SigningSettings::default())?.into_parts();
    for header in added {
        let name: HeaderName = header.name().parse().map_err(unsigned)?;
        let mut value = HeaderValue::from_str(header.value()).map_err(unsigned)?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(())
}

fn signed_url(mut url: Url, valid: Duration, by: &Signing<'_>) -> Result<Url, ScalerError> {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(valid);
    let signable = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]));
    let (_, added) = by.instructions(signable.map_err(unsigned)?, settings)?.into_parts();
    url.query_pairs_mut().extend_pairs(added);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of AWS's published test suite for Signature Version 4, and its moment.
    fn published<'a>(region: &'a str, service: &'a str) -> Signing<'a> {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into();
        let keys = Fixed { id: "AKIDEXAMPLE".into(), secret, token: None };
        // 2015-08-30T12:36:00Z
        let time = SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636);
        Signing { keys, region, service, time }
    }

    /// The example "get-vanilla-query-order-key-case" of AWS's published test suite for Signature Version 4.
    #[test]
    fn a_signature_is_that_of_the_published_example() {
        let url = "https://example.amazonaws.com/?Param2=value2&Param1=value1";
        let mut request = reqwest::Client::new().get(url).build().unwrap();
        signed(&mut request, &published("us-east-1", "service")).unwrap();
        let header = request.headers()["authorization"].to_str().unwrap();
        assert!(
            header.ends_with("Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
            "{header}"
        );
    }

    /// What AWS's SDK for Python (botocore, `SigV4QueryAuth`) makes of the same key, moment and request.
    #[test]
    fn a_signed_url_is_that_of_another_implementation() {
        let url = Url::parse("https://kafka.eu-west-1.amazonaws.com/?Action=kafka-cluster%3AConnect").unwrap();
        let mut by = published("eu-west-1", "kafka-cluster");
        by.keys.token = Some("se/ss+ion==".into());
        let url = signed_url(url, Duration::from_mins(15), &by).unwrap();
        let said = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        assert_eq!(said("X-Amz-Expires").as_deref(), Some("900"));
        assert_eq!(said("X-Amz-Security-Token").as_deref(), Some("se/ss+ion=="));
        assert_eq!(said("X-Amz-SignedHeaders").as_deref(), Some("host"));
        assert_eq!(
            said("X-Amz-Signature").as_deref(),
            Some("0f993ca468209a38c46cba29c371baa3ec87ee8a4be70cfccf2426b3753906ca")
        );
    }
}
