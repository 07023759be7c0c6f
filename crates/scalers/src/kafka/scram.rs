//! SCRAM (RFC 5802, 7677): shows that we know a password without telling it, and that the server knows it, too.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// What the server may ask for. Fewer rounds make a password easy to guess from a recording (RFC 7677), more would be a
/// burden to us.
const ROUNDS: std::ops::RangeInclusive<u32> = 4_096..=200_000;

/// The hash of the mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    pub(super) fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    fn salted(self, password: &str, salt: &[u8], rounds: NonZeroU32) -> Vec<u8> {
        let (algorithm, length) = match self {
            Self::Sha256 => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            Self::Sha512 => (pbkdf2::PBKDF2_HMAC_SHA512, 64),
        };
        let mut out = vec![0; length];
        pbkdf2::derive(algorithm, rounds, salt, password.as_bytes(), &mut out);
        out
    }

    fn hmac(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, key), text).as_ref().to_vec()
    }

    fn hash(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes).as_ref().to_vec()
    }
}

/// The first message, without the part about channels.
pub(super) fn first(user: &str, nonce: &str) -> String {
    format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"))
}

/// The last message, and what the server must answer.
///
/// # Errors
/// The server's message is not one, or asks for what must not be given.
pub(super) fn last(hash: Hash, password: &str, first: &str, server: &str) -> Result<(String, String), &'static str> {
    let field = |name: char| {
        server
            .split(',')
            .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
            .ok_or("the server's first message is not one")
    };
    let (nonce, salt, rounds) = (field('r')?, field('s')?, field('i')?);
    let ours = first.rsplit_once(",r=").map(|(_, nonce)| nonce).unwrap_or_default();
    if !nonce.starts_with(ours) || nonce.len() == ours.len() {
        return Err("the server answers somebody else's message");
    }
    let salt = BASE64.decode(salt).map_err(|_| "the server's salt is not base64")?;
    let rounds = rounds.parse().ok().filter(|rounds| ROUNDS.contains(rounds)).and_then(NonZeroU32::new);
    let rounds = rounds.ok_or("the server asks for too few rounds, or too many")?;
    let salted = hash.salted(password, &salt, rounds);
    let client_key = hash.hmac(&salted, b"Client Key");
    let bare = format!("c=biws,r={nonce}");
    let whole = format!("{first},{server},{bare}");
    let signature = hash.hmac(&hash.hash(&client_key), whole.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    let theirs = hash.hmac(&hash.hmac(&salted, b"Server Key"), whole.as_bytes());
    Ok((format!("{bare},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(theirs))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    /// The example of RFC 7677.
    #[test]
    fn the_messages_are_those_of_the_published_example() {
        let first = first("user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(first, "n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, theirs) = last(Hash::Sha256, "pencil", &first, SERVER).unwrap();
        assert_eq!(
            last,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(theirs, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    #[test]
    fn a_server_that_asks_for_something_else_gets_nothing() {
        let first = first("a,b=c", "rOprNGfwEbeRWgbNEkqO");
        assert!(first.starts_with("n=a=2Cb=3Dc,"));
        for server in [
            SERVER.replace("4096", "1"),
            SERVER.replace("4096", "4000000"),
            SERVER.replace("r=rOpr", "r=other"),
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096".into(),
            SERVER.replace("s=W", "s=!"),
            "e=other-error".into(),
        ] {
            assert!(last(Hash::Sha256, "pencil", &first, &server).is_err(), "{server}");
        }
    }
}
