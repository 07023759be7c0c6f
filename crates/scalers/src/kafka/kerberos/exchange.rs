//! What is asked of a KDC, and what its answers mean (RFC 4120, 3.1 and 3.3).

use std::fmt;
use std::time::Duration;

use der::Decode;
use der::asn1::Any;

use super::crypto::{BLOCK, Etype, Key, Usage};
use super::encoding::{decode_as, encode, encode_as, flags, kind, octets, time};
use super::messages::{
    AP_REQ, AS_REP, AS_REQ, AUTHENTICATOR, ApRequest, Authenticator, Checksum, ENC_AS_REP_PART, ENC_TGS_REP_PART,
    EncryptedData, Hint, KRB_ERROR, KdcReply, KdcReplyPart, KdcRequest, KdcRequestBody, KrbError, PA_ENC_TIMESTAMP,
    PA_ETYPE_INFO2, PA_TGS_REQ, PaData, TGS_REP, TGS_REQ, TimestampProof, VERSION,
};
use super::principal::{NameKind, Principal};
use super::refusal::{odd, pre_authentication};
use crate::error::ScalerError;

/// For how long we ask for tickets. KDCs give them for less, mostly ten hours.
const LIFETIME: Duration = Duration::from_hours(24);
/// A ticket is not used for this long before it ends, so that it does not end on its way.
const EARLY: Duration = Duration::from_mins(2);

/// A ticket and what belongs to it.
#[derive(Clone)]
pub(super) struct Ticket {
    /// For the service to read.
    pub(super) sealed: Any,
    /// What we and the service have in common.
    pub(super) session: Key,
    /// Since 1970, by the KDC's clock.
    ends: Duration,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Ticket {
    pub(super) fn is_good(&self, now: Duration) -> bool {
        now + EARLY < self.ends
    }
}

/// What a KDC answers.
#[derive(Debug)]
pub(super) enum Answer {
    Granted(Box<KdcReply>),
    Refused(Box<KrbError>),
}

impl Answer {
    /// Reads an answer; `None` if it is none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if kind(bytes) == Some(KRB_ERROR) {
            decode_as(&[KRB_ERROR], bytes).map(|error| Self::Refused(Box::new(error)))
        } else {
            decode_as(&[AS_REP, TGS_REP], bytes).map(|reply| Self::Granted(Box::new(reply)))
        }
    }
}

/// What makes one request unlike all others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Once {
    /// Since 1970, by our clock.
    pub(super) now: Duration,
    /// What the answer must repeat; less than 2^31, which is what older KDCs can read.
    pub(super) nonce: u32,
    /// Random, for what is encrypted.
    pub(super) confounder: [u8; BLOCK],
}

/// Asks for the ticket that gets us other tickets. `key` shows that we are the client; KDCs want that, but say first how
/// the key is made.
pub(super) fn login(client: &Principal, etypes: &[Etype], key: Option<&Key>, once: &Once) -> Vec<u8> {
    let proof = key.map(|key| {
        let proof = TimestampProof { time: time(once.now), micros: Some(once.now.subsec_micros()) };
        let sealed = EncryptedData::new(key, Usage::Timestamp, &encode(&proof), once.confounder);
        vec![PaData { kind: PA_ENC_TIMESTAMP, value: octets(encode(&sealed)) }]
    });
    let body = KdcRequestBody {
        client: Some(client.name(NameKind::Principal)),
        service: Principal::granting(&client.realm).name(NameKind::Service),
        ..body(&client.realm, etypes, once)
    };
    encode_as(AS_REQ, KdcRequest { version: VERSION, kind: AS_REQ, data: proof, body })
}

/// Asks for a ticket for `service`.
pub(super) fn ask(client: &Principal, service: &Principal, granting: &Ticket, once: &Once) -> Vec<u8> {
    let body =
        KdcRequestBody { service: service.name(NameKind::ServiceHost), ..body(&client.realm, &Etype::ALL, once) };
    let session = &granting.session;
    let sum = session.checksum(Usage::TgsBody, &encode(&body));
    let authenticator = Authenticator {
        version: VERSION,
        realm: client.realm.as_str().into(),
        client: client.name(NameKind::Principal),
        checksum: Checksum { kind: session.etype.checksum_number(), sum: octets(sum) },
        micros: once.now.subsec_micros(),
        time: time(once.now),
        key: None,
        sequence: None,
    };
    let authenticator = encode_as(AUTHENTICATOR, authenticator);
    let request = ApRequest {
        version: VERSION,
        kind: AP_REQ,
        options: flags(0),
        ticket: granting.sealed.clone(),
        authenticator: EncryptedData::new(session, Usage::TgsAuthenticator, &authenticator, once.confounder),
    };
    let proof = PaData { kind: PA_TGS_REQ, value: octets(encode_as(AP_REQ, request)) };
    encode_as(TGS_REQ, KdcRequest { version: VERSION, kind: TGS_REQ, data: Some(vec![proof]), body })
}

fn body(realm: &str, etypes: &[Etype], once: &Once) -> KdcRequestBody {
    KdcRequestBody {
        options: flags(0),
        client: None,
        realm: realm.into(),
        service: Principal::granting(realm).name(NameKind::Service),
        till: time(once.now + LIFETIME),
        nonce: once.nonce,
        etypes: etypes.iter().map(|etype| etype.number()).collect(),
    }
}

/// What a KDC that wants to see that we know the key says of it.
///
/// # Errors
/// It wants to see something else.
pub(super) fn hints_of_refusal(error: &KrbError) -> Result<Vec<Hint>, ScalerError> {
    let data = error.data.as_ref().and_then(|data| Vec::<PaData>::from_der(data.as_bytes()).ok()).ok_or_else(odd)?;
    if !data.iter().any(|data| data.kind == PA_ENC_TIMESTAMP) {
        return Err(pre_authentication());
    }
    Ok(hints(&data))
}

/// What a KDC says of how a password becomes a key.
pub(super) fn hints(data: &[PaData]) -> Vec<Hint> {
    let info = data.iter().find(|data| data.kind == PA_ETYPE_INFO2);
    info.and_then(|info| Vec::from_der(info.value.as_bytes()).ok()).unwrap_or_default()
}

/// Who asked for a ticket, and which.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) client: &'a Principal,
    pub(super) service: &'a Principal,
    pub(super) nonce: u32,
}

/// The ticket in an answer.
///
/// # Errors
/// The answer is to another question, or of somebody who does not know the key.
pub(super) fn granted(reply: KdcReply, key: &Key, usage: Usage, asked: Asked<'_>) -> Result<Ticket, ScalerError> {
    let unknown = || ScalerError::Unauthorized {
        what: format!("kerberos: the answer of the KDC is not encrypted with the key of {}", asked.client),
    };
    let part = key.decrypt(usage, reply.sealed.cipher.as_bytes()).ok_or_else(unknown)?;
    // Some KDCs tag all answers as if they were to the same question; RFC 4120, 5.4.2 lets clients accept that.
    let part: KdcReplyPart = decode_as(&[ENC_AS_REP_PART, ENC_TGS_REP_PART], &part).ok_or_else(odd)?;
    let ours = part.nonce == i64::from(asked.nonce)
        && asked.client.is(&reply.client, &reply.realm)
        && asked.service.is(&part.service, &part.realm);
    let session = part.key.key().filter(|_| ours).ok_or_else(odd)?;
    Ok(Ticket { sealed: reply.ticket, session, ends: part.ends.to_unix_duration() })
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
pub(in crate::kafka::kerberos) mod tests;
