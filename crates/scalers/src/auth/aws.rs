//! Requests signed for AWS (Signature Version 4), and where the keys for that come from.
//!
//! Keys from the TriggerAuthentication are used as they are. Otherwise the program's own identity is shown: keys in its
//! environment, or the web identity token that EKS puts beside it; with a role, the role is taken on first.

mod keys;
pub(crate) mod service;
mod sts;

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Request;
use reqwest::header::{HeaderName, HeaderValue};

use crate::context::{Identity, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Choice, Secret, TriggerMetadata};
use keys::Fixed;
pub(crate) use keys::Keys;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
enum Owner {
    #[value("pod")]
    Pod,
    #[value("operator")]
    Operator,
}

/// Credentials of AWS.
#[derive(Debug, TriggerMetadata)]
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
        let keys = self.keys.get().await?;
        signed(request, &keys, &self.region, self.service, SystemTime::now())
    }
}

fn signed(
    request: &mut Request,
    keys: &Fixed,
    region: &str,
    service: &str,
    time: SystemTime,
) -> Result<(), ScalerError> {
    let wrong = |what: &dyn std::fmt::Display| ScalerError::Misconfigured { what: format!("cannot be signed: {what}") };
    let token = keys.token.as_ref().map(|token| token.reveal().to_owned());
    let identity = Credentials::new(&keys.id, keys.secret.reveal(), token, None, "trigger").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| wrong(&error))?
        .into();
    let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
    let signable =
        SignableRequest::new(request.method().as_str(), request.url().as_str(), headers, SignableBody::Bytes(body))
            .map_err(|error| wrong(&error))?;
    let (instructions, _) = sign(signable, &parameters).map_err(|error| wrong(&error))?.into_parts();
    let (added, _) = instructions.into_parts();
    for header in added {
        let name: HeaderName = header.name().parse().map_err(|error| wrong(&error))?;
        let mut value = HeaderValue::from_str(header.value()).map_err(|error| wrong(&error))?;
        value.set_sensitive(true);
        request.headers_mut().insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The example "get-vanilla-query-order-key-case" of AWS's published test suite for Signature Version 4.
    #[test]
    fn a_signature_is_that_of_the_published_example() {
        let url = "https://example.amazonaws.com/?Param2=value2&Param1=value1";
        let mut request = reqwest::Client::new().get(url).build().unwrap();
        let keys =
            Fixed { id: "AKIDEXAMPLE".into(), secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(), token: None };
        // 2015-08-30T12:36:00Z
        let time = SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636);
        signed(&mut request, &keys, "us-east-1", "service", time).unwrap();
        let header = request.headers()["authorization"].to_str().unwrap();
        assert!(
            header.ends_with("Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
            "{header}"
        );
    }
}
