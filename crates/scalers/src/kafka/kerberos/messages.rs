//! The messages of Kerberos that we write or read (RFC 4120, 5 and appendix A), as DER.

use std::fmt;

use der::Sequence;
use der::asn1::{Any, BitString, GeneralizedTime, OctetString};

use super::crypto::{BLOCK, Etype, Key, Usage};
use super::encoding::{Text, octets};

/// The version of the protocol.
pub(super) const VERSION: u8 = 5;

/// Message types (RFC 4120, 7.5.7), which are their `APPLICATION` tags, too.
pub(super) const AS_REQ: u8 = 10;
pub(super) const AS_REP: u8 = 11;
pub(super) const TGS_REQ: u8 = 12;
pub(super) const TGS_REP: u8 = 13;
pub(super) const AP_REQ: u8 = 14;
pub(super) const AP_REP: u8 = 15;
pub(super) const KRB_ERROR: u8 = 30;
/// `APPLICATION` tags of what is encrypted.
pub(super) const AUTHENTICATOR: u8 = 2;
pub(super) const ENC_AS_REP_PART: u8 = 25;
pub(super) const ENC_TGS_REP_PART: u8 = 26;
pub(super) const ENC_AP_REP_PART: u8 = 27;

/// Kinds of pre-authentication data (RFC 4120, 7.5.2).
pub(super) const PA_TGS_REQ: i32 = 1;
pub(super) const PA_ENC_TIMESTAMP: i32 = 2;
pub(super) const PA_ETYPE_INFO2: i32 = 19;

/// Somebody's name within a realm.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(super) struct PrincipalName {
    #[asn1(context_specific = "0")]
    pub(super) kind: i32,
    #[asn1(context_specific = "1")]
    pub(super) parts: Vec<Text>,
}

#[derive(Debug, Clone, Sequence)]
pub(super) struct EncryptedData {
    #[asn1(context_specific = "0")]
    pub(super) etype: i32,
    #[asn1(context_specific = "1", optional = "true")]
    pub(super) version: Option<i64>,
    #[asn1(context_specific = "2")]
    pub(super) cipher: OctetString,
}

impl EncryptedData {
    pub(super) fn new(key: &Key, usage: Usage, text: &[u8], confounder: [u8; BLOCK]) -> Self {
        let cipher = octets(key.encrypt(usage, text, confounder));
        Self { etype: key.etype.number(), version: None, cipher }
    }
}

/// A key under way, within what is encrypted. `Debug` does not show it.
#[derive(Clone, Sequence)]
pub(super) struct EncryptionKey {
    #[asn1(context_specific = "0")]
    pub(super) etype: i32,
    #[asn1(context_specific = "1")]
    pub(super) value: OctetString,
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey").field("etype", &self.etype).finish_non_exhaustive()
    }
}

impl EncryptionKey {
    pub(super) fn new(key: &Key) -> Self {
        Self { etype: key.etype.number(), value: octets(key.bytes()) }
    }

    /// `None` if it is of a type that we do not have.
    pub(super) fn key(&self) -> Option<Key> {
        Key::new(Etype::of(self.etype)?, self.value.as_bytes())
    }
}

#[derive(Debug, Clone, Sequence)]
pub(super) struct Checksum {
    #[asn1(context_specific = "0")]
    pub(super) kind: i32,
    #[asn1(context_specific = "1")]
    pub(super) sum: OctetString,
}

#[derive(Debug, Clone, Sequence)]
pub(super) struct PaData {
    #[asn1(context_specific = "1")]
    pub(super) kind: i32,
    #[asn1(context_specific = "2")]
    pub(super) value: OctetString,
}

/// `PA-ENC-TS-ENC`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct TimestampProof {
    #[asn1(context_specific = "0")]
    pub(super) time: GeneralizedTime,
    #[asn1(context_specific = "1", optional = "true")]
    pub(super) micros: Option<u32>,
}

/// `ETYPE-INFO2-ENTRY`: how a password becomes a key.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub(super) struct Hint {
    #[asn1(context_specific = "0")]
    pub(super) etype: i32,
    #[asn1(context_specific = "1", optional = "true")]
    pub(super) salt: Option<Text>,
    #[asn1(context_specific = "2", optional = "true")]
    pub(super) parameters: Option<OctetString>,
}

/// `KDC-REQ`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct KdcRequest {
    #[asn1(context_specific = "1")]
    pub(super) version: u8,
    #[asn1(context_specific = "2")]
    pub(super) kind: u8,
    #[asn1(context_specific = "3", optional = "true")]
    pub(super) data: Option<Vec<PaData>>,
    #[asn1(context_specific = "4")]
    pub(super) body: KdcRequestBody,
}

/// `KDC-REQ-BODY`, without what we never say.
#[derive(Debug, Clone, Sequence)]
pub(super) struct KdcRequestBody {
    #[asn1(context_specific = "0")]
    pub(super) options: BitString,
    #[asn1(context_specific = "1", optional = "true")]
    pub(super) client: Option<PrincipalName>,
    #[asn1(context_specific = "2")]
    pub(super) realm: Text,
    #[asn1(context_specific = "3")]
    pub(super) service: PrincipalName,
    #[asn1(context_specific = "5")]
    pub(super) till: GeneralizedTime,
    #[asn1(context_specific = "7")]
    pub(super) nonce: u32,
    #[asn1(context_specific = "8")]
    pub(super) etypes: Vec<i32>,
}

/// `KDC-REP`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct KdcReply {
    #[asn1(context_specific = "0")]
    pub(super) version: u8,
    #[asn1(context_specific = "1")]
    pub(super) kind: u8,
    #[asn1(context_specific = "2", optional = "true")]
    pub(super) data: Option<Vec<PaData>>,
    #[asn1(context_specific = "3")]
    pub(super) realm: Text,
    #[asn1(context_specific = "4")]
    pub(super) client: PrincipalName,
    /// The ticket is for the service to read.
    #[asn1(context_specific = "5")]
    pub(super) ticket: Any,
    #[asn1(context_specific = "6")]
    pub(super) sealed: EncryptedData,
}

/// `EncKDCRepPart`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct KdcReplyPart {
    #[asn1(context_specific = "0")]
    pub(super) key: EncryptionKey,
    #[asn1(context_specific = "1")]
    pub(super) last_requests: Any,
    #[asn1(context_specific = "2")]
    pub(super) nonce: i64,
    #[asn1(context_specific = "3", optional = "true")]
    pub(super) key_ends: Option<GeneralizedTime>,
    #[asn1(context_specific = "4")]
    pub(super) flags: BitString,
    #[asn1(context_specific = "5")]
    pub(super) authenticated: GeneralizedTime,
    #[asn1(context_specific = "6", optional = "true")]
    pub(super) begins: Option<GeneralizedTime>,
    #[asn1(context_specific = "7")]
    pub(super) ends: GeneralizedTime,
    #[asn1(context_specific = "8", optional = "true")]
    pub(super) renewable: Option<GeneralizedTime>,
    #[asn1(context_specific = "9")]
    pub(super) realm: Text,
    #[asn1(context_specific = "10")]
    pub(super) service: PrincipalName,
    #[asn1(context_specific = "11", optional = "true")]
    pub(super) addresses: Option<Any>,
    /// RFC 6806, 11.
    #[asn1(context_specific = "12", optional = "true")]
    pub(super) data: Option<Any>,
}

/// `AP-REQ`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct ApRequest {
    #[asn1(context_specific = "0")]
    pub(super) version: u8,
    #[asn1(context_specific = "1")]
    pub(super) kind: u8,
    #[asn1(context_specific = "2")]
    pub(super) options: BitString,
    #[asn1(context_specific = "3")]
    pub(super) ticket: Any,
    #[asn1(context_specific = "4")]
    pub(super) authenticator: EncryptedData,
}

/// `Authenticator`, without what we never say.
#[derive(Debug, Clone, Sequence)]
pub(super) struct Authenticator {
    #[asn1(context_specific = "0")]
    pub(super) version: u8,
    #[asn1(context_specific = "1")]
    pub(super) realm: Text,
    #[asn1(context_specific = "2")]
    pub(super) client: PrincipalName,
    #[asn1(context_specific = "3")]
    pub(super) checksum: Checksum,
    #[asn1(context_specific = "4")]
    pub(super) micros: u32,
    #[asn1(context_specific = "5")]
    pub(super) time: GeneralizedTime,
    #[asn1(context_specific = "6", optional = "true")]
    pub(super) key: Option<EncryptionKey>,
    #[asn1(context_specific = "7", optional = "true")]
    pub(super) sequence: Option<u32>,
}

/// `AP-REP`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct ApReply {
    #[asn1(context_specific = "0")]
    pub(super) version: u8,
    #[asn1(context_specific = "1")]
    pub(super) kind: u8,
    #[asn1(context_specific = "2")]
    pub(super) sealed: EncryptedData,
}

/// `EncAPRepPart`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct ApReplyPart {
    #[asn1(context_specific = "0")]
    pub(super) time: GeneralizedTime,
    #[asn1(context_specific = "1")]
    pub(super) micros: u32,
    #[asn1(context_specific = "2", optional = "true")]
    pub(super) key: Option<EncryptionKey>,
    #[asn1(context_specific = "3", optional = "true")]
    pub(super) sequence: Option<i64>,
}

/// `KRB-ERROR`.
#[derive(Debug, Clone, Sequence)]
pub(super) struct KrbError {
    #[asn1(context_specific = "0")]
    pub(super) version: u8,
    #[asn1(context_specific = "1")]
    pub(super) kind: u8,
    #[asn1(context_specific = "2", optional = "true")]
    pub(super) client_time: Option<GeneralizedTime>,
    #[asn1(context_specific = "3", optional = "true")]
    pub(super) client_micros: Option<u32>,
    #[asn1(context_specific = "4")]
    pub(super) time: GeneralizedTime,
    #[asn1(context_specific = "5")]
    pub(super) micros: u32,
    #[asn1(context_specific = "6")]
    pub(super) code: i32,
    #[asn1(context_specific = "7", optional = "true")]
    pub(super) client_realm: Option<Text>,
    #[asn1(context_specific = "8", optional = "true")]
    pub(super) client: Option<PrincipalName>,
    #[asn1(context_specific = "9")]
    pub(super) realm: Text,
    #[asn1(context_specific = "10")]
    pub(super) service: PrincipalName,
    #[asn1(context_specific = "11", optional = "true")]
    pub(super) text: Option<Text>,
    #[asn1(context_specific = "12", optional = "true")]
    pub(super) data: Option<OctetString>,
}

#[cfg(test)]
impl KrbError {
    /// An error of a KDC whose clock is at this time.
    pub(super) fn of(code: i32, at: std::time::Duration) -> Self {
        Self {
            version: VERSION,
            kind: KRB_ERROR,
            client_time: None,
            client_micros: None,
            time: super::encoding::time(at),
            micros: 0,
            code,
            client_realm: None,
            client: None,
            realm: "R".into(),
            service: super::principal::Principal::granting("R").name(super::principal::NameKind::Service),
            text: None,
            data: None,
        }
    }
}
