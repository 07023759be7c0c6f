//! A GSS-API context over Kerberos (RFC 4121), as far as SASL needs one (RFC 4752).

use std::time::Duration;

use der::asn1::{Any, AnyRef};
use der::{Decode, Tag, TagNumber};

use super::crypto::{BLOCK, Key, Usage};
use super::encoding::{decode_as, encode, encode_as, flags, octets, time};
use super::exchange::Ticket;
use super::messages::{
    AP_REP, AP_REQ, AUTHENTICATOR, ApReply, ApReplyPart, ApRequest, Authenticator, Checksum, ENC_AP_REP_PART,
    EncryptedData, EncryptionKey, VERSION,
};
use super::principal::{NameKind, Principal};
use crate::error::ScalerError;

/// Kerberos among the mechanisms, 1.2.840.113554.1.2.2, as DER (RFC 4121, 4.1).
const MECHANISM: [u8; 11] = [0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];
/// How the tokens of a context begin.
const FIRST_TOKEN: [u8; 2] = [1, 0];
const ANSWER_TOKEN: [u8; 2] = [2, 0];
const WRAP_TOKEN: [u8; 2] = [5, 4];
/// Bytes before the content of what is wrapped.
const WRAP_HEAD: usize = 16;
/// Who wrapped it.
const BY_ACCEPTOR: u8 = 1;
const ENCRYPTED: u8 = 2;
/// The key is the one that the acceptor chose.
const ACCEPTORS_KEY: u8 = 4;
/// The checksum that is none, but says what is asked of the context (RFC 4121, 4.1.1).
const CHECKSUM_KIND: i32 = 0x8003;
/// `GSS_C_MUTUAL_FLAG` and `GSS_C_INTEG_FLAG`: who answers must be the broker, and what is said then must not change.
const CONTEXT_FLAGS: u32 = 2 | 32;
/// The broker is to answer (RFC 4120, 5.5.1).
const MUTUAL_REQUIRED: u32 = 1 << 29;
/// The security layer that is none (RFC 4752, 3.3).
const NO_LAYER: u8 = 1;

/// What is random in a context.
pub(super) struct Fresh {
    /// The context's own key has its first bytes. Because of it no message of another context fits into this one, so the
    /// two messages that are wrapped need no look at their number.
    pub(super) key: [u8; 32],
    pub(super) sequence: u32,
    pub(super) confounder: [u8; BLOCK],
}

/// A context whose first token is under way.
#[derive(Debug)]
pub(in crate::kafka) struct Initiated {
    session: Key,
    own: Key,
    /// Since 1970, as the broker must repeat it.
    now: Duration,
    sequence: u32,
}

/// A context in which both know who the other is.
#[derive(Debug)]
pub(in crate::kafka) struct Context {
    key: Key,
    chosen_by_acceptor: bool,
    sequence: u32,
}

/// Begins a context: the first token is for the broker whose ticket this is.
pub(super) fn initiate(ticket: &Ticket, client: &Principal, now: Duration, fresh: &Fresh) -> (Vec<u8>, Initiated) {
    let session = ticket.session.clone();
    let own = Key::new(session.etype, &fresh.key[..session.etype.key_bytes()]).expect("it is cut to the right length");
    let channel = [0; 16];
    let sum = [&16_u32.to_le_bytes()[..], &channel, &CONTEXT_FLAGS.to_le_bytes()].concat();
    let authenticator = Authenticator {
        version: VERSION,
        realm: client.realm.as_str().into(),
        client: client.name(NameKind::Principal),
        checksum: Checksum { kind: CHECKSUM_KIND, sum: octets(sum) },
        micros: now.subsec_micros(),
        time: time(now),
        key: Some(EncryptionKey::new(&own)),
        sequence: Some(fresh.sequence),
    };
    let authenticator = encode_as(AUTHENTICATOR, authenticator);
    let request = ApRequest {
        version: VERSION,
        kind: AP_REQ,
        options: flags(MUTUAL_REQUIRED),
        ticket: ticket.sealed.clone(),
        authenticator: EncryptedData::new(&session, Usage::Authenticator, &authenticator, fresh.confounder),
    };
    let token = framed(FIRST_TOKEN, &encode_as(AP_REQ, request));
    (token, Initiated { session, own, now, sequence: fresh.sequence })
}

impl Initiated {
    /// Reads the broker's answer.
    ///
    /// # Errors
    /// It is not from who has the key of the ticket.
    pub(in crate::kafka) fn answered(self, token: &[u8]) -> Result<Context, ScalerError> {
        let reply = unframed(ANSWER_TOKEN, token).and_then(|reply| decode_as::<ApReply>(&[AP_REP], reply));
        let reply = reply.ok_or_else(|| refused("the broker's answer is not one of Kerberos"))?;
        let part = self.session.decrypt(Usage::ApReply, reply.sealed.cipher.as_bytes());
        let part: Option<ApReplyPart> = part.and_then(|part| decode_as(&[ENC_AP_REP_PART], &part));
        let part = part.filter(|part| part.time == time(self.now) && part.micros == self.now.subsec_micros());
        let part = part.ok_or_else(|| refused("the broker does not have the key of its ticket"))?;
        let (key, chosen_by_acceptor) = match &part.key {
            Some(key) => (key.key().ok_or_else(|| refused("the broker chooses a key that is not one of AES"))?, true),
            None => (self.own, false),
        };
        Ok(Context { key, chosen_by_acceptor, sequence: self.sequence })
    }
}

impl Context {
    /// What is said to a broker's offer of security layers: none (RFC 4752, 3.1).
    ///
    /// # Errors
    /// The offer was changed on its way, or the broker insists on a layer.
    pub(in crate::kafka) fn settle(&self, offer: &[u8]) -> Result<Vec<u8>, ScalerError> {
        let offer = self.unwrap(offer).ok_or_else(|| refused("the broker's offer is damaged"))?;
        // The layers, and the most bytes of a message with one.
        match offer.first_chunk::<4>() {
            Some([layers, ..]) if layers & NO_LAYER != 0 => Ok(self.wrap(&[NO_LAYER, 0, 0, 0])),
            _ => {
                let what = "kerberos: the broker wants messages encrypted by SASL; with tls they are encrypted".into();
                Err(ScalerError::Misconfigured { what })
            }
        }
    }

    /// Content with a checksum, in the clear (RFC 4121, 4.2.6.2).
    fn wrap(&self, content: &[u8]) -> Vec<u8> {
        let flags = if self.chosen_by_acceptor { ACCEPTORS_KEY } else { 0 };
        let number = u64::from(self.sequence).to_be_bytes();
        let head = |length: [u8; 2]| [&WRAP_TOKEN[..], &[flags, 0xFF], &length, &[0, 0], &number].concat();
        // The length counts as 0 in the checksum (4.2.4).
        let sum = self.key.checksum(Usage::InitiatorSeal, &[content, &head([0, 0])].concat());
        let length = u16::try_from(sum.len()).expect("a checksum has a few bytes").to_be_bytes();
        [&head(length)[..], content, &sum].concat()
    }

    /// What the broker has wrapped; `None` if it is damaged, or not in the clear.
    fn unwrap(&self, token: &[u8]) -> Option<Vec<u8>> {
        let (head, rest) = token.split_first_chunk::<WRAP_HEAD>()?;
        let [a, b, flags, filler, length @ .., turned_high, turned_low] = head.first_chunk::<8>()?;
        let chosen = flags & ACCEPTORS_KEY != 0;
        if [*a, *b] != WRAP_TOKEN
            || *filler != 0xFF
            || flags & (BY_ACCEPTOR | ENCRYPTED) != BY_ACCEPTOR
            || chosen != self.chosen_by_acceptor
        {
            return None;
        }
        let mut rest = rest.to_vec();
        // Some turn the content, so that the checksum comes first (4.2.5).
        let turned = usize::from(u16::from_be_bytes([*turned_high, *turned_low]));
        if !rest.is_empty() {
            let turned = turned % rest.len();
            rest.rotate_left(turned);
        }
        let length = usize::from(u16::from_be_bytes(*length));
        let (content, sum) = rest.split_at_checked(rest.len().checked_sub(length)?)?;
        let mut head = *head;
        head[4..8].fill(0);
        self.key.confirms(Usage::AcceptorSeal, &[content, &head].concat(), sum).then(|| content.to_vec())
    }
}

/// A token that says which mechanism it is for (RFC 2743, 3.1).
fn framed(kind: [u8; 2], message: &[u8]) -> Vec<u8> {
    let tag = Tag::Application { constructed: true, number: TagNumber(0) };
    encode(&Any::new(tag, [&MECHANISM[..], &kind, message].concat()).expect("a ticket is far shorter than DER allows"))
}

fn unframed(kind: [u8; 2], token: &[u8]) -> Option<&[u8]> {
    let token = AnyRef::from_der(token).ok()?;
    token.value().strip_prefix(&MECHANISM)?.strip_prefix(&kind)
}

fn refused(what: &str) -> ScalerError {
    ScalerError::Unauthorized { what: format!("kerberos: {what}") }
}

#[cfg(test)]
#[path = "gss_tests.rs"]
mod tests;
