//! Logging in to a broker.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::cluster::Connection;
use super::requests::{SASL_AUTHENTICATE, SASL_HANDSHAKE, authenticate, handshake, read_authenticate, read_handshake};
use super::scram::{self, Hash};
use crate::auth::tokens::Tokens;
use crate::error::ScalerError;
use crate::metadata::{Pairs, Secret};

/// Who we are to a broker.
#[derive(Debug)]
pub(super) enum Sasl {
    Plain { user: String, password: Secret },
    Scram { hash: Hash, user: String, password: Secret },
    Bearer { tokens: Box<Tokens>, extensions: Pairs },
}

impl Sasl {
    fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain { .. } => "PLAIN",
            Self::Scram { hash, .. } => hash.mechanism(),
            Self::Bearer { .. } => "OAUTHBEARER",
        }
    }

    /// Logs in.
    ///
    /// # Errors
    /// The broker refuses us, or is not who it should be.
    pub(super) async fn log_in(&self, connection: &mut Connection) -> Result<(), ScalerError> {
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
                let token = tokens.get().await?;
                let said = say(connection, &format!("n,,\x01auth=Bearer {}\x01{more}\x01", token.reveal())).await?;
                if !said.is_empty() {
                    return Err(refused("the broker does not take the token"));
                }
            }
        }
        Ok(())
    }
}

async fn say(connection: &mut Connection, text: &str) -> Result<String, ScalerError> {
    let answer = connection.ask(SASL_AUTHENTICATE, &authenticate(text.as_bytes())).await?;
    Ok(String::from_utf8_lossy(&read_authenticate(&answer)?).into_owned())
}

fn nonce() -> Result<String, ScalerError> {
    let mut bytes = [0; 18];
    rand::fill(&mut bytes).map_err(|_| ScalerError::Unavailable("no randomness".into()))?;
    Ok(BASE64.encode(bytes))
}

fn refused(what: &str) -> ScalerError {
    ScalerError::Unauthorized { what: format!("sasl: {what}") }
}
