//! Keys, encryption and checksums of Kerberos: AES with SHA-1 (RFC 3961, 3962) and with SHA-2 (RFC 8009).
//!
//! Older ones (DES, 3DES, RC4) are not there: RFC 6649 and RFC 8429 have retired them.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use aws_lc_rs::{constant_time, hmac, pbkdf2};

pub(super) use super::blocks::BLOCK;
use super::blocks::{cbc_encrypt, cts_decrypt, cts_encrypt};

/// How often a KDC may have a password hashed. Fewer rounds make it easy to guess from a recording, more would be a burden
/// to us. The usual numbers are 4,096 and, with SHA-2, 32,768.
const ROUNDS: RangeInclusive<u32> = 4_096..=200_000;

/// What is encrypted or summed: every use has keys of its own (RFC 4120, 7.5.1; RFC 4121, 2).
#[derive(Debug, Clone, Copy)]
pub(super) enum Usage {
    /// The time in a request for a ticket, which shows that the key is known.
    Timestamp = 1,
    /// The secret part of the answer to a login.
    AsReply = 3,
    /// The sum over the request for a service's ticket.
    TgsBody = 6,
    /// Who asks for it.
    TgsAuthenticator = 7,
    /// The secret part of its answer.
    TgsReply = 8,
    /// Who talks to a service.
    Authenticator = 11,
    /// The service's answer.
    ApReply = 12,
    /// What the service wraps.
    AcceptorSeal = 22,
    /// What we wrap.
    InitiatorSeal = 24,
}

/// An encryption type, by its number (RFC 3962, 7; RFC 8009, 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Etype {
    Aes128Sha1 = 17,
    Aes256Sha1 = 18,
    Aes128Sha2 = 19,
    Aes256Sha2 = 20,
}

impl Etype {
    /// All of them, in the order in which MIT's library wants them.
    pub(super) const ALL: [Self; 4] = [Self::Aes256Sha1, Self::Aes128Sha1, Self::Aes256Sha2, Self::Aes128Sha2];

    /// The type of this number, if it is one of ours.
    pub(super) fn of(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|etype| etype.number() == number)
    }

    pub(super) fn number(self) -> i32 {
        self as i32
    }

    /// The number of the checksum that goes with it.
    pub(super) fn checksum_number(self) -> i32 {
        match self {
            Self::Aes128Sha1 => 15,
            Self::Aes256Sha1 => 16,
            Self::Aes128Sha2 => 19,
            Self::Aes256Sha2 => 20,
        }
    }

    pub(super) fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes128Sha2 => 16,
            Self::Aes256Sha1 | Self::Aes256Sha2 => 32,
        }
    }

    pub(super) fn checksum_bytes(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes256Sha1 => 12,
            Self::Aes128Sha2 => 16,
            Self::Aes256Sha2 => 24,
        }
    }

    /// Bytes of a key that makes checksums.
    fn hmac_key_bytes(self) -> usize {
        if self == Self::Aes256Sha2 { 24 } else { self.key_bytes() }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Aes128Sha1 | Self::Aes256Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Aes128Sha2 => hmac::HMAC_SHA256,
            Self::Aes256Sha2 => hmac::HMAC_SHA384,
        }
    }

    fn sum(self, key: &[u8], text: &[u8]) -> Vec<u8> {
        let tag = hmac::sign(&hmac::Key::new(self.hmac(), key), text);
        tag.as_ref()[..self.checksum_bytes()].to_vec()
    }

    fn has_sha2(self) -> bool {
        matches!(self, Self::Aes128Sha2 | Self::Aes256Sha2)
    }
}

/// A key. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) etype: Etype,
    bytes: Vec<u8>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("etype", &self.etype).finish_non_exhaustive()
    }
}

impl Key {
    /// A key of these bytes; `None` if they are too many or too few.
    pub(super) fn new(etype: Etype, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == etype.key_bytes()).then(|| Self { etype, bytes: bytes.to_vec() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key of a password (RFC 3962, 4; RFC 8009, 4). `parameters` is how often the KDC wants it hashed, if it says so.
    ///
    /// # Errors
    /// The KDC wants what must not be done.
    pub(super) fn of_password(
        etype: Etype,
        password: &str,
        salt: &[u8],
        parameters: Option<&[u8]>,
    ) -> Result<Self, &'static str> {
        let usual = if etype.has_sha2() { 32_768 } else { 4_096 };
        let rounds = parameters.map_or(Some(usual), |bytes| bytes.try_into().ok().map(u32::from_be_bytes));
        let rounds = rounds.filter(|rounds| ROUNDS.contains(rounds)).and_then(NonZeroU32::new);
        Ok(Self::hashed(
            etype,
            password,
            salt,
            rounds.ok_or("the KDC wants the password hashed too seldom or too often")?,
        ))
    }

    fn hashed(etype: Etype, password: &str, salt: &[u8], rounds: NonZeroU32) -> Self {
        let (algorithm, name) = match etype {
            Etype::Aes128Sha1 | Etype::Aes256Sha1 => (pbkdf2::PBKDF2_HMAC_SHA1, &b""[..]),
            Etype::Aes128Sha2 => (pbkdf2::PBKDF2_HMAC_SHA256, &b"aes128-cts-hmac-sha256-128\0"[..]),
            Etype::Aes256Sha2 => (pbkdf2::PBKDF2_HMAC_SHA384, &b"aes256-cts-hmac-sha384-192\0"[..]),
        };
        let mut bytes = vec![0; etype.key_bytes()];
        pbkdf2::derive(algorithm, rounds, &[name, salt].concat(), password.as_bytes(), &mut bytes);
        let bytes = Self { etype, bytes }.derived(b"kerberos", etype.key_bytes());
        Self { etype, bytes }
    }

    /// Encrypts. `confounder` is random and not used again.
    pub(super) fn encrypt(&self, usage: Usage, text: &[u8], confounder: [u8; BLOCK]) -> Vec<u8> {
        let mut sealed = [&confounder[..], text].concat();
        let over_text = (!self.etype.has_sha2()).then(|| self.integrity(usage, &sealed));
        cts_encrypt(&self.for_usage(usage, 0xAA, self.etype.key_bytes()), &mut sealed);
        let sum = over_text.unwrap_or_else(|| self.integrity(usage, &sealed));
        sealed.extend(sum);
        sealed
    }

    /// Decrypts; `None` if it was encrypted with another key or for another use, or was changed.
    pub(super) fn decrypt(&self, usage: Usage, sealed: &[u8]) -> Option<Vec<u8>> {
        let (sealed, sum) = sealed.split_at_checked(sealed.len().checked_sub(self.etype.checksum_bytes())?)?;
        if sealed.len() < BLOCK {
            return None;
        }
        let mut text = sealed.to_vec();
        cts_decrypt(&self.for_usage(usage, 0xAA, self.etype.key_bytes()), &mut text);
        let ours = self.integrity(usage, if self.etype.has_sha2() { sealed } else { &text });
        constant_time::verify_slices_are_equal(&ours, sum).ok()?;
        Some(text.split_off(BLOCK))
    }

    /// The checksum of a text that is not encrypted.
    pub(super) fn checksum(&self, usage: Usage, text: &[u8]) -> Vec<u8> {
        self.etype.sum(&self.for_usage(usage, 0x99, self.etype.hmac_key_bytes()), text)
    }

    /// Whether this is the checksum of a text.
    pub(super) fn confirms(&self, usage: Usage, text: &[u8], sum: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(&self.checksum(usage, text), sum).is_ok()
    }

    /// The checksum in an encrypted message: of the text, or, with SHA-2, of the IV (which is 0) and what became of it.
    fn integrity(&self, usage: Usage, bytes: &[u8]) -> Vec<u8> {
        let key = self.for_usage(usage, 0x55, self.etype.hmac_key_bytes());
        if self.etype.has_sha2() {
            self.etype.sum(&key, &[&[0; BLOCK][..], bytes].concat())
        } else {
            self.etype.sum(&key, bytes)
        }
    }

    fn for_usage(&self, usage: Usage, purpose: u8, length: usize) -> Vec<u8> {
        let [a, b, c, d] = (usage as u32).to_be_bytes();
        self.derived(&[a, b, c, d, purpose], length)
    }

    /// Another key that follows from this one (RFC 3961, 5.1; RFC 8009, 3).
    fn derived(&self, constant: &[u8], length: usize) -> Vec<u8> {
        let mut derived = Vec::with_capacity(length);
        if self.etype.has_sha2() {
            let bits = u32::try_from(length * 8).expect("a key has a few hundred bits").to_be_bytes();
            let text = [&[0, 0, 0, 1][..], constant, &[0], &bits].concat();
            derived.extend(hmac::sign(&hmac::Key::new(self.etype.hmac(), &self.bytes), &text).as_ref());
        } else {
            let mut block = n_fold(constant, BLOCK);
            while derived.len() < length {
                cbc_encrypt(&self.bytes, &mut block);
                derived.extend(&block);
            }
        }
        derived.truncate(length);
        derived
    }
}

/// Makes a text so many bytes long, all of it mattering (RFC 3961, 5.1): copies of it, each turned by 13 bits more, are
/// added up, and what is carried over is added at the other end.
fn n_fold(text: &[u8], length: usize) -> Vec<u8> {
    let bits = text.len() * 8;
    let turned = |copy: usize, at: usize| -> u32 {
        let bit = |place: usize| {
            let from = (place + bits - 13 * copy % bits) % bits;
            u32::from(text[from / 8] >> (7 - from % 8) & 1)
        };
        (0..8).fold(0, |byte, place| byte << 1 | bit(at * 8 + place))
    };
    let mut sums = vec![0_u32; length];
    let all = (1..=length).map(|times| times * text.len()).find(|all| all % length == 0).unwrap_or_default();
    for at in 0..all {
        sums[at % length] += turned(at / text.len(), at % text.len());
    }
    let mut carry = 1;
    while carry > 0 {
        carry = 0;
        for sum in sums.iter_mut().rev() {
            let whole = *sum + carry;
            (*sum, carry) = (whole & 0xFF, whole >> 8);
        }
        sums[length - 1] += carry;
    }
    sums.into_iter().map(|sum| u8::try_from(sum).expect("nothing is left to carry")).collect()
}

#[cfg(test)]
#[path = "crypto_tests.rs"]
pub(in crate::kafka::kerberos) mod tests;
