//! Roles from the Security Token Service.

use std::time::SystemTime;

use jiff::Timestamp;
use reqwest::Url;
use roxmltree::Document;

use super::keys::{Environment, Fixed};
use super::{Signing, signed};
use crate::error::ScalerError;
use crate::http::{answer, form_body, unavailable};
use crate::metadata::Secret;

/// The session's name, as KEDA's users see it in CloudTrail.
const SESSION: &str = "KEDA";

pub(super) struct Sts<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) region: &'a str,
    pub(super) environment: &'a Environment,
}

type Taken = Result<(Fixed, Option<Timestamp>), ScalerError>;

impl Sts<'_> {
    /// `AssumeRoleWithWebIdentity`: the token is the proof.
    pub(super) async fn with_token(&self, role: &str, token: &str) -> Taken {
        let fields = [("Action", "AssumeRoleWithWebIdentity"), ("RoleArn", role), ("WebIdentityToken", token)];
        self.call(&fields, None).await
    }

    /// `AssumeRole`: keys are the proof.
    pub(super) async fn assume(&self, role: &str, external_id: Option<&str>, keys: &Fixed) -> Taken {
        let mut fields = vec![("Action", "AssumeRole"), ("RoleArn", role)];
        fields.extend(external_id.map(|id| ("ExternalId", id)));
        self.call(&fields, Some(keys)).await
    }

    async fn call(&self, fields: &[(&str, &str)], keys: Option<&Fixed>) -> Taken {
        let fixed = [("Version", "2011-06-15"), ("RoleSessionName", SESSION)];
        let domain = if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let endpoint = self.environment.endpoint.clone();
        let endpoint = endpoint.unwrap_or_else(|| format!("https://sts.{}.{domain}/", self.region));
        let url = Url::parse(&endpoint)
            .map_err(|error| ScalerError::Misconfigured { what: format!("the address of STS: {error}") })?;
        let silent = |error| unavailable("STS", &url, error);
        let body = form_body(self.client.post(url.clone()), fixed.iter().chain(fields).copied());
        let mut request = body.build().map_err(silent)?;
        if let Some(keys) = keys {
            let (keys, time) = (keys.clone(), SystemTime::now());
            signed(&mut request, &Signing { keys, region: self.region, service: "sts", time })?;
        }
        let response = self.client.execute(request).await.map_err(silent)?;
        decode(&answer("STS", &url, response).await?)
    }
}

fn decode(body: &[u8]) -> Taken {
    let odd = || ScalerError::Unauthorized { what: "STS answers without keys".into() };
    let text = std::str::from_utf8(body).map_err(|_| odd())?;
    let document = Document::parse(text).map_err(|_| odd())?;
    let find = |name: &str| {
        let node = document.descendants().find(|node| node.tag_name().name() == name);
        node.and_then(|node| node.text()).map(str::trim).filter(|text| !text.is_empty()).ok_or_else(odd)
    };
    let end: Timestamp = find("Expiration")?.parse().map_err(|_| odd())?;
    let keys = Fixed {
        id: find("AccessKeyId")?.to_owned(),
        secret: Secret::from(find("SecretAccessKey")?),
        token: Some(Secret::from(find("SessionToken")?)),
    };
    Ok((keys, Some(end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_whole_or_not_at_all() {
        let body = "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
            <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
            <Expiration>2026-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>";
        let (keys, end) = decode(body.as_bytes()).unwrap();
        assert_eq!((keys.id.as_str(), keys.secret.reveal()), ("ASIA", "s"));
        assert_eq!(keys.token.unwrap().reveal(), "t");
        assert_eq!(end, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        for broken in
            [body.replace("<SecretAccessKey>s", "<SecretAccessKey>"), body.replace("2026-", ""), "<html>".into()]
        {
            assert!(decode(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}
