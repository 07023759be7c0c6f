//! Keys to sign with, kept until shortly before they end.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use super::sts;
use crate::error::ScalerError;
use crate::metadata::Secret;

/// Temporary keys are renewed this long before they end, so that a signature does not outlive them.
const EARLY: Duration = Duration::from_mins(2);

/// An access key.
#[derive(Debug, Clone)]
pub(super) struct Fixed {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
}

/// The program's own identity, or a role it takes on.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) region: String,
    pub(super) role: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) client: reqwest::Client,
}

/// Where keys come from.
#[derive(Debug)]
pub(crate) struct Keys(Source);

#[derive(Debug)]
enum Source {
    Fixed(Fixed),
    Own(Own, Mutex<Option<(Fixed, Timestamp)>>),
}

impl Keys {
    pub(super) fn fixed(keys: Fixed) -> Self {
        Self(Source::Fixed(keys))
    }

    fn own(own: Own) -> Self {
        Self(Source::Own(own, Mutex::new(None)))
    }

    /// An access key that somebody wrote down.
    pub(crate) fn given(id: &str, secret: &str, token: Option<&str>) -> Self {
        Self::fixed(Fixed { id: id.to_owned(), secret: secret.into(), token: token.map(Secret::from) })
    }

    /// The program's own identity, or a role that it takes on.
    pub(crate) fn of_this_program(
        region: &str,
        role: Option<String>,
        external_id: Option<String>,
        client: reqwest::Client,
    ) -> Self {
        Self::own(Own { region: region.to_owned(), role, external_id, client })
    }

    /// Keys that are good for the next request.
    pub(super) async fn get(&self) -> Result<Fixed, ScalerError> {
        let (own, kept) = match &self.0 {
            Source::Fixed(keys) => return Ok(keys.clone()),
            Source::Own(own, kept) => (own, kept),
        };
        // Tasks that need keys wait for the one that asks.
        let mut kept = kept.lock().await;
        if let Some((keys, until)) = &*kept
            && Timestamp::now() < *until
        {
            return Ok(keys.clone());
        }
        let (keys, end) = own.fetch(&Environment::of_this_program()).await?;
        if let Some(end) = end {
            *kept = Some((keys.clone(), end.checked_sub(EARLY).unwrap_or(end)));
        }
        Ok(keys)
    }
}

/// What the environment of a program says about AWS.
#[derive(Debug, Default)]
pub(super) struct Environment {
    keys: Option<Fixed>,
    /// A file with a token that EKS renews, and the role it is for.
    web_identity: Option<(String, Option<String>)>,
    /// STS at another address.
    pub(super) endpoint: Option<String>,
}

impl Environment {
    fn of_this_program() -> Self {
        let read = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let secret = |name: &str| read(name).map(|text| Secret::from(text.as_str()));
        let pair = read("AWS_ACCESS_KEY_ID").zip(secret("AWS_SECRET_ACCESS_KEY"));
        Self {
            keys: pair.map(|(id, secret_key)| Fixed { id, secret: secret_key, token: secret("AWS_SESSION_TOKEN") }),
            web_identity: read("AWS_WEB_IDENTITY_TOKEN_FILE").map(|file| (file, read("AWS_ROLE_ARN"))),
            endpoint: read("AWS_ENDPOINT_URL_STS").or_else(|| read("AWS_ENDPOINT_URL")),
        }
    }
}

impl Own {
    /// Keys and when they end.
    async fn fetch(&self, environment: &Environment) -> Result<(Fixed, Option<Timestamp>), ScalerError> {
        let sts = sts::Sts { client: &self.client, region: &self.region, environment };
        let own = match (&environment.keys, &environment.web_identity) {
            (Some(keys), _) => (keys.clone(), None),
            (None, Some((file, own_role))) => {
                let token = tokio::fs::read_to_string(file).await.map_err(|error| {
                    ScalerError::Unavailable(format!("the web identity token of this program: {error}").into())
                })?;
                // The token may be good for the wanted role itself; else this program's role takes it on.
                let direct = self.role.as_ref().or(own_role.as_ref());
                let direct = direct.ok_or_else(|| no_identity("there is a web identity token, and no role for it"))?;
                match (sts.with_token(direct, token.trim()).await, own_role) {
                    (Err(ScalerError::Unauthorized { .. }), Some(own)) if own != direct => {
                        sts.with_token(own, token.trim()).await?
                    }
                    (keys, _) => return keys,
                }
            }
            (None, None) => return Err(no_identity("there are neither keys nor a web identity token")),
        };
        match &self.role {
            Some(role) => sts.assume(role, self.external_id.as_deref(), &own.0).await,
            None => Ok(own),
        }
    }
}

fn no_identity(what: &str) -> ScalerError {
    ScalerError::Unauthorized { what: format!("this program has no identity at AWS: {what} in its environment") }
}
