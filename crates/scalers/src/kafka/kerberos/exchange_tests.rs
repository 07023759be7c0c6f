//! A KDC that knows our key, and answers that are not to our question.

use super::super::noise;
use super::*;
use crate::kafka::kerberos::encoding::Text;
use crate::kafka::kerberos::messages::{EncryptionKey, PrincipalName};

const NOW: Duration = Duration::new(1_000_000_000, 123_456_789);
const ONCE: Once = Once { now: NOW, nonce: 0x7FFF_FFFF, confounder: [8; BLOCK] };

/// A ticket with this session key.
pub(in crate::kafka::kerberos) fn ticket(session: Key, ends: Duration) -> Ticket {
    Ticket { sealed: Any::new(der::Tag::OctetString, *b"for the broker").unwrap(), session, ends }
}

fn key(byte: u8) -> Key {
    Key::new(Etype::Aes128Sha2, &[byte; 16]).unwrap()
}

fn client() -> Principal {
    Principal::user("keda", "R")
}

fn kafka() -> Principal {
    Principal::service("kafka", "b", "R")
}

/// What a KDC answers who knows this key: to this client, for this service, with this nonce.
fn reply(known: &Key, client: PrincipalName, service: PrincipalName, realm: &str, nonce: i64) -> Vec<u8> {
    let part = KdcReplyPart {
        key: EncryptionKey::new(&key(9)),
        last_requests: Any::new(der::Tag::Sequence, Vec::new()).unwrap(),
        nonce,
        key_ends: None,
        flags: flags(0),
        authenticated: time(NOW),
        begins: None,
        ends: time(NOW + Duration::from_hours(10)),
        renewable: None,
        realm: realm.into(),
        service,
        addresses: None,
        data: None,
    };
    let part = encode_as(ENC_TGS_REP_PART, part);
    let reply = KdcReply {
        version: VERSION,
        kind: TGS_REP,
        data: None,
        realm: realm.into(),
        client,
        ticket: ticket(key(9), NOW).sealed,
        sealed: EncryptedData::new(known, Usage::TgsReply, &part, [3; BLOCK]),
    };
    encode_as(TGS_REP, reply)
}

fn read(bytes: &[u8]) -> Result<Ticket, ScalerError> {
    let Some(Answer::Granted(reply)) = Answer::read(bytes) else { panic!("not a grant") };
    let asked = Asked { client: &client(), service: &kafka(), nonce: ONCE.nonce };
    granted(*reply, &key(1), Usage::TgsReply, asked)
}

#[test]
fn a_ticket_is_taken_from_the_answer_to_our_question_only() {
    let name = |principal: Principal| principal.name(NameKind::Principal);
    let nonce = i64::from(ONCE.nonce);
    let ticket = read(&reply(&key(1), name(client()), name(kafka()), "R", nonce)).unwrap();
    assert_eq!(ticket.session, key(9));
    // It ends after 600 minutes and is not used in the last two; its time has whole seconds.
    assert!(ticket.is_good(NOW + Duration::from_mins(597)) && !ticket.is_good(NOW + Duration::from_mins(598)));
    assert!(!format!("{ticket:?}").contains("broker"));
    for bytes in [
        reply(&key(1), name(kafka()), name(kafka()), "R", nonce),
        reply(&key(1), name(client()), name(client()), "R", nonce),
        reply(&key(1), name(client()), name(kafka()), "S", nonce),
        reply(&key(1), name(client()), name(kafka()), "R", nonce - 1),
    ] {
        assert!(read(&bytes).unwrap_err().text().contains("cannot be read"));
    }
    let other = read(&reply(&key(2), name(client()), name(kafka()), "R", nonce)).unwrap_err();
    assert!(matches!(other, ScalerError::Unauthorized { .. }), "{other}");
}

#[test]
fn a_login_shows_the_time_to_who_knows_the_key() {
    let etypes = [Etype::Aes256Sha1, Etype::Aes128Sha2];
    let request: KdcRequest = decode_as(&[AS_REQ], &login(&client(), &etypes, None, &ONCE)).unwrap();
    assert!(request.data.is_none());
    assert_eq!(request.body.etypes, [18, 19]);
    assert_eq!(request.body.service.parts, [Text::from("krbtgt"), Text::from("R")]);
    let request: KdcRequest = decode_as(&[AS_REQ], &login(&client(), &etypes, Some(&key(1)), &ONCE)).unwrap();
    let proof = EncryptedData::from_der(request.data.unwrap()[0].value.as_bytes()).unwrap();
    let proof = key(1).decrypt(Usage::Timestamp, proof.cipher.as_bytes()).unwrap();
    let proof = TimestampProof::from_der(&proof).unwrap();
    assert_eq!((proof.time, proof.micros), (time(NOW), Some(123_456)));
}

#[test]
fn a_request_for_a_ticket_is_signed_with_the_session_key() {
    let request = ask(&client(), &kafka(), &ticket(key(5), NOW), &ONCE);
    let request: KdcRequest = decode_as(&[TGS_REQ], &request).unwrap();
    let proof: ApRequest = decode_as(&[AP_REQ], request.data.unwrap()[0].value.as_bytes()).unwrap();
    let who = key(5).decrypt(Usage::TgsAuthenticator, proof.authenticator.cipher.as_bytes()).unwrap();
    let who: Authenticator = decode_as(&[AUTHENTICATOR], &who).unwrap();
    assert!(client().is(&who.client, &who.realm));
    assert_eq!(who.checksum.kind, 19);
    assert!(key(5).confirms(Usage::TgsBody, &encode(&request.body), who.checksum.sum.as_bytes()));
}

#[test]
fn damaged_answers_are_no_reason_to_panic() {
    let name = |principal: Principal| principal.name(NameKind::Principal);
    let good = reply(&key(1), name(client()), name(kafka()), "R", 1);
    noise(&good, |bytes| {
        if let Some(Answer::Granted(reply)) = Answer::read(bytes) {
            let asked = Asked { client: &client(), service: &kafka(), nonce: 1 };
            let _ = granted(*reply, &key(1), Usage::TgsReply, asked);
        }
    });
    let entry = Hint { etype: 18, salt: Some("Rkeda".into()), parameters: Some(octets([0, 0, 16, 0])) };
    let info = PaData { kind: PA_ETYPE_INFO2, value: octets(encode(&vec![entry.clone()])) };
    assert_eq!(hints(&[info]), std::slice::from_ref(&entry));
    noise(&encode(&vec![entry]), |bytes| {
        let _ = hints(&[PaData { kind: PA_ETYPE_INFO2, value: octets(bytes) }]);
    });
}
