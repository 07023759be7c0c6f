//! The messages of Kerberos that we write or read (RFC 4120, 5 and appendix A), as DER.

use std::fmt;
use std::time::Duration;

use der::asn1::{Any, Application, BitString, GeneralStringRef, GeneralizedTime, OctetString};
use der::{
    Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Sequence, SliceReader, Tag, TagMode,
    TagNumber, Tagged, Writer,
};

use super::crypto::{BLOCK, Etype, Key, Usage};

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

/// A text, mostly of ASCII (RFC 4120, 5.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) Vec<u8>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl FixedTag for Text {
    const TAG: Tag = Tag::GeneralString;
}

impl<'a> DecodeValue<'a> for Text {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        Ok(Self(GeneralStringRef::decode_value(reader, header)?.as_bytes().to_vec()))
    }
}

impl EncodeValue for Text {
    fn value_len(&self) -> der::Result<Length> {
        Length::try_from(self.0.len())
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(&self.0)
    }
}

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

#[derive(Debug, Clone, Sequence)]
pub(super) struct EncryptionKey {
    #[asn1(context_specific = "0")]
    pub(super) etype: i32,
    #[asn1(context_specific = "1")]
    pub(super) value: OctetString,
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

/// Writes a message without a tag of its own.
pub(super) fn encode(message: &impl Encode) -> Vec<u8> {
    message.to_der().expect("our messages are far shorter than DER allows")
}

/// Writes a message with its `APPLICATION` tag.
pub(super) fn encode_as(tag: u8, message: impl EncodeValue + Tagged) -> Vec<u8> {
    encode(&Application { tag_number: TagNumber(tag.into()), tag_mode: TagMode::Explicit, value: message })
}

/// Reads a message with one of these `APPLICATION` tags; `None` if it is something else.
pub(super) fn decode_as<T: for<'a> Decode<'a, Error = der::Error>>(tags: &[u8], bytes: &[u8]) -> Option<T> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let message = Application::<T>::decode(&mut reader).ok()?;
    reader.finish().ok()?;
    tags.iter().any(|tag| TagNumber((*tag).into()) == message.tag_number).then_some(message.value)
}

/// Which message this is, by its tag.
pub(super) fn kind(bytes: &[u8]) -> Option<u8> {
    // APPLICATION and constructed; all numbers in question are below 31.
    bytes.first().filter(|first| *first & 0xE0 == 0x60).map(|first| first & 0x1F)
}

pub(super) fn octets(bytes: impl AsRef<[u8]>) -> OctetString {
    OctetString::new(bytes.as_ref()).expect("our messages are far shorter than DER allows")
}

/// 32 flags.
pub(super) fn flags(bits: u32) -> BitString {
    BitString::from_bytes(&bits.to_be_bytes()).expect("four bytes")
}

/// A time since 1970, without what is less than a second.
pub(super) fn time(since: Duration) -> GeneralizedTime {
    GeneralizedTime::from_unix_duration(since).expect("it is before the year 10000")
}
