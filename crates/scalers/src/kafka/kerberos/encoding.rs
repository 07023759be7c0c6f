//! How messages of Kerberos are written: DER, with tags of the class `APPLICATION` (RFC 4120, 5.1).

use std::fmt;
use std::time::Duration;

use der::asn1::{Application, BitString, GeneralStringRef, GeneralizedTime, OctetString};
use der::{
    Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, SliceReader, Tag, TagMode, TagNumber,
    Tagged, Writer,
};

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
