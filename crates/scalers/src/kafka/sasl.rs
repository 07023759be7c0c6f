//! Logging in to a broker.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use reqwest::Url;

use super::cluster::{CLIENT, Connection};
use super::kerberos::Kerberos;
use super::requests::{SASL_AUTHENTICATE, SASL_HANDSHAKE, authenticate, handshake, read_authenticate, read_handshake};
use super::scram::{self, Hash};
use crate::auth::aws::Signer;
use crate::auth::tokens::Tokens;
use crate::error::ScalerError;
use crate::metadata::{Pairs, Secret};

/// Who we are to a broker.
#[derive(Debug)]
pub(super) enum Sasl {
    Plain {
        user: String,
        password: Secret,
    },
    Scram {
        hash: Hash,
        user: String,
        password: Secret,
    },
    Bearer {
        tokens: Box<Tokens>,
        extensions: Pairs,
    },
    Msk {
        signer: Box<Signer>,
    },
    /// With the tickets of all triggers that log in as the same.
    Kerberos(Arc<Kerberos>),
}

/// How long a token for Amazon MSK is good for: as long as its clients make it.
const MSK_TOKEN: Duration = Duration::from_mins(15);

impl Sasl {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { hash, .. } => hash.mechanism(),
            Self::Bearer { .. } | Self::Msk { .. } => "OAUTHBEARER",
            Self::Kerberos(_) => "GSSAPI",
        }
    }

    /// Logs in to the broker on this host.
    ///
    /// # Errors
    /// The broker refuses us, or is not who it should be.
    pub(super) async fn log_in(&self, connection: &mut Connection, host: &str) -> Result<(), ScalerError> {
        let answer = connection.ask(SASL_HANDSHAKE, &handshake(self.mechanism())).await?;
        read_handshake(&answer, self.mechanism())?;
        match self {
            Self::Plain { user, password } => {
                say(connection, &format!("\0{user}\0{}", password.reveal())).await?;
            }
            Self::Scram { hash, user, password } => {
                let first = scram::first(user, &nonce()?);
                let server = say(connection, &format!("n,,{first}")).await?;
                let (last, theirs) = scram::last(*hash, password.reveal(), &first, &server).map_err(refused)?;
                if say(connection, &last).await?.split(',').next() != Some(&theirs) {
                    return Err(refused("the server does not know the password itself"));
                }
            }
            Self::Bearer { tokens, extensions } => {
                let mut more = String::new();
                for (name, value) in &extensions.0 {
                    more.extend([name, "=", value, "\x01"]);
                }
                bear(connection, tokens.get().await?.reveal(), &more).await?;
            }
            Self::Msk { signer } => bear(connection, &msk_token(signer).await?, "").await?,
            Self::Kerberos(kerberos) => {
                let shown = show_ticket(connection, kerberos, host).await;
                if shown.is_err() {
                    kerberos.forget(host).await;
                }
                shown?;
            }
        }
        Ok(())
    }
}

/// Shows a token, and what else the broker wants to be told.
async fn bear(connection: &mut Connection, token: &str, more: &str) -> Result<(), ScalerError> {
    let said = say(connection, &format!("n,,\x01auth=Bearer {token}\x01{more}\x01")).await?;
    if said.is_empty() { Ok(()) } else { Err(refused("the broker does not take the token")) }
}

/// Shows a ticket, lets the broker show that it can read it, and wants no more of SASL (RFC 4752, 3.1).
async fn show_ticket(connection: &mut Connection, kerberos: &Kerberos, host: &str) -> Result<(), ScalerError> {
    let (token, initiated) = kerberos.initiate(host).await?;
    let context = initiated.answered(&tell(connection, &token).await?)?;
    let offer = tell(connection, &[]).await?;
    tell(connection, &context.settle(&offer)?).await?;
    Ok(())
}

/// What Amazon MSK takes for a token: a signed request to connect, as a URL, in base64.
async fn msk_token(signer: &Signer) -> Result<String, ScalerError> {
    let url = format!("https://kafka.{}.amazonaws.com/?Action=kafka-cluster%3AConnect", signer.region);
    let url = Url::parse(&url)
        .map_err(|error| ScalerError::Misconfigured { what: format!("awsRegion {:?}: {error}", signer.region) })?;
    let mut url = signer.sign_url(url, MSK_TOKEN).await?;
    url.query_pairs_mut().append_pair("User-Agent", CLIENT);
    Ok(URL_SAFE_NO_PAD.encode(url.as_str()))
}

async fn say(connection: &mut Connection, text: &str) -> Result<String, ScalerError> {
    Ok(String::from_utf8_lossy(&tell(connection, text.as_bytes()).await?).into_owned())
}

async fn tell(connection: &mut Connection, bytes: &[u8]) -> Result<Vec<u8>, ScalerError> {
    read_authenticate(&connection.ask(SASL_AUTHENTICATE, &authenticate(bytes)).await?)
}

fn nonce() -> Result<String, ScalerError> {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).map_err(|_| ScalerError::Unavailable("no randomness".into()))?;
    Ok(BASE64.encode(bytes))
}

fn refused(what: &str) -> ScalerError {
    ScalerError::Unauthorized { what: format!("sasl: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::aws::Keys;

    #[tokio::test]
    async fn a_token_for_msk_is_a_signed_url_that_says_who_asks() {
        let keys = Keys::given("AKIDEXAMPLE", "hunter2", Some("session"));
        let signer = Signer { keys, region: "eu-west-1".into(), service: "kafka-cluster" };
        let token = msk_token(&signer).await.unwrap();
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(&token).unwrap()).unwrap();
        let url = Url::parse(&url).unwrap();
        assert_eq!(url.host_str(), Some("kafka.eu-west-1.amazonaws.com"));
        let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
        assert_eq!(
            names,
            [
                "Action",
                "X-Amz-Algorithm",
                "X-Amz-Credential",
                "X-Amz-Date",
                "X-Amz-Expires",
                "X-Amz-SignedHeaders",
                "X-Amz-Signature",
                "X-Amz-Security-Token",
                "User-Agent"
            ]
        );
    }
}
