//! A broker that has the key of a ticket, and some that are not what they should be.

use super::super::crypto::Etype;
use super::super::exchange::tests::ticket;
use super::super::noise;
use super::*;

const NOW: Duration = Duration::new(1_000_000_000, 123_456_789);

fn key(byte: u8) -> Key {
    Key::new(Etype::Aes256Sha1, &[byte; 32]).unwrap()
}

fn client() -> Principal {
    Principal::user("keda", "R")
}

fn begun() -> (Vec<u8>, Initiated) {
    let fresh = Fresh { key: [7; 32], sequence: 42, confounder: [8; BLOCK] };
    initiate(&ticket(key(1), Duration::MAX), &client(), NOW, &fresh)
}

/// What a broker reads in the first token.
fn read(token: &[u8]) -> Authenticator {
    let request: ApRequest = decode_as(&[AP_REQ], unframed(FIRST_TOKEN, token).unwrap()).unwrap();
    assert_eq!(request.options, flags(MUTUAL_REQUIRED));
    let authenticator = key(1).decrypt(Usage::Authenticator, request.authenticator.cipher.as_bytes()).unwrap();
    decode_as(&[AUTHENTICATOR], &authenticator).unwrap()
}

/// What a broker answers: with this key, repeating this time, choosing this key.
fn answer(session: &Key, at: Duration, chosen: Option<&Key>) -> Vec<u8> {
    let part = ApReplyPart {
        time: time(at),
        micros: at.subsec_micros(),
        key: chosen.map(EncryptionKey::new),
        sequence: Some(9),
    };
    let part = encode_as(ENC_AP_REP_PART, part);
    let sealed = EncryptedData::new(session, Usage::ApReply, &part, [3; BLOCK]);
    framed(ANSWER_TOKEN, &encode_as(AP_REP, ApReply { version: VERSION, kind: AP_REP, sealed }))
}

/// What a broker wraps, turned by so many bytes.
fn wrapped(key: &Key, flags: u8, content: &[u8], turned: u16) -> Vec<u8> {
    let head = |length: u16, turned: u16| {
        [&WRAP_TOKEN[..], &[flags, 0xFF], &length.to_be_bytes(), &turned.to_be_bytes(), &9_u64.to_be_bytes()].concat()
    };
    let sum = key.checksum(Usage::AcceptorSeal, &[content, &head(0, 0)].concat());
    let mut rest = [content, &sum].concat();
    let length = rest.len();
    rest.rotate_right(usize::from(turned) % length);
    [head(u16::try_from(sum.len()).unwrap(), turned), rest].concat()
}

#[test]
fn a_broker_that_can_read_its_ticket_is_believed() {
    for (chosen, flags) in [(None, 1), (Some(key(5)), 5)] {
        let (token, initiated) = begun();
        let authenticator = read(&token);
        assert!(client().is(&authenticator.client, &authenticator.realm));
        let own = authenticator.key.unwrap();
        assert_eq!(format!("{own:?}"), "EncryptionKey { etype: 18, .. }");
        let own = own.key().unwrap();
        assert_eq!(own, key(7));
        let used = chosen.clone().unwrap_or(own);
        let context = initiated.answered(&answer(&key(1), NOW, chosen.as_ref())).unwrap();
        for turned in [0, 1, 12, 16, 28] {
            let said = context.settle(&wrapped(&used, flags, &[7, 0, 16, 0], turned)).unwrap();
            let (head, rest) = said.split_at(WRAP_HEAD);
            assert_eq!(head, [5, 4, flags & 4, 0xFF, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42]);
            assert_eq!(rest[..4], [NO_LAYER, 0, 0, 0]);
            let summed = [&rest[..4], &[5, 4, flags & 4, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42]].concat();
            assert!(used.confirms(Usage::InitiatorSeal, &summed, &rest[4..]));
        }
    }
}

#[test]
fn a_broker_that_cannot_is_not() {
    for wrong in [
        answer(&key(2), NOW, None),
        answer(&key(1), NOW + Duration::from_secs(1), None),
        answer(&key(1), NOW + Duration::from_micros(1), None),
        begun().0,
        vec![],
    ] {
        let error = begun().1.answered(&wrong).unwrap_err();
        assert!(matches!(error, ScalerError::Unauthorized { .. }), "{error}");
    }
}

#[test]
fn an_offer_that_is_damaged_or_without_the_layer_that_is_none_is_not_taken() {
    let context = begun().1.answered(&answer(&key(1), NOW, None)).unwrap();
    let good = wrapped(&key(7), 1, &[NO_LAYER, 0, 0, 0], 0);
    assert!(context.settle(&good).is_ok());
    // Bytes 6 and 7 say by how much it is turned, which changes nothing of what is said.
    for place in (0..6).chain(8..good.len()) {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        assert!(context.settle(&bad).is_err(), "byte {place}");
    }
    for bad in [
        wrapped(&key(7), 0, &[1, 0, 0, 0], 0),
        wrapped(&key(7), 3, &[1, 0, 0, 0], 0),
        wrapped(&key(7), 5, &[1, 0, 0, 0], 0),
    ] {
        assert!(matches!(context.settle(&bad), Err(ScalerError::Unauthorized { .. })));
    }
    for without in [&[6, 0, 0, 0][..], &[1, 0, 0], &[]] {
        let error = context.settle(&wrapped(&key(7), 1, without, 0)).unwrap_err();
        assert!(matches!(error, ScalerError::Misconfigured { .. }), "{error}");
    }
}

#[test]
fn damaged_tokens_are_no_reason_to_panic() {
    let context = begun().1.answered(&answer(&key(1), NOW, None)).unwrap();
    noise(&wrapped(&key(7), 1, &[1, 0, 0, 0], 28), |bytes| {
        let _ = context.settle(bytes);
    });
    noise(&answer(&key(1), NOW, None), |bytes| {
        let _ = begun().1.answered(bytes);
    });
}
