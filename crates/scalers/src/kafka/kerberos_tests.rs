//! What may be given, and a KDC that counts; `tests/it/kafka_kerberos.rs` asks a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use der::asn1::Any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::encoding::{decode_as, encode, encode_as, flags, octets, time};
use super::messages::{
    AS_REQ, ENC_TGS_REP_PART, EncryptedData, EncryptionKey, KRB_ERROR, KdcReplyPart, KdcRequest, PA_ENC_TIMESTAMP,
    PA_ETYPE_INFO2, PaData, TGS_REQ, VERSION,
};
use super::principal::NameKind;
use super::*;

const CONF: &str = "[libdefaults]\ndefault_realm = R\n[realms]\nR = {\nkdc = 127.0.0.1:1\n}\n";

fn given<'a>(conf: &'a str, password: &'a Secret) -> Given<'a> {
    Given {
        username: "keda",
        password: Some(password),
        keytab: None,
        realm: None,
        kerberos_config: conf,
        service: "kafka",
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let (password, damaged) = (Secret::from("hunter2"), Secret::from("BQ=="));
    let good = given(CONF, &password);
    let field = |given: &Given<'_>| Kerberos::new(given).unwrap_err().field;
    assert_eq!(field(&Given { kerberos_config: "[realms]\nR = {", ..good }), "authenticationRef kerberosConfig");
    assert_eq!(field(&Given { kerberos_config: "", ..good }), "authenticationRef kerberosConfig");
    assert_eq!(field(&Given { realm: Some("OTHER"), ..good }), "authenticationRef kerberosConfig");
    assert_eq!(field(&Given { keytab: Some(&damaged), password: None, ..good }), "authenticationRef keytab");
    let kerberos = Kerberos::new(&good).unwrap();
    assert_eq!(kerberos.client.to_string(), "keda@R");
    assert!(!format!("{kerberos:?}").contains("hunter2"));
}

/// What a test may change of a KDC, and what it counts.
#[derive(Default)]
struct Counts {
    logins: AtomicU32,
    tickets: AtomicU32,
    /// For how many minutes tickets are good.
    minutes: AtomicU32,
    /// An error that it answers to whoever asks for a ticket for a broker.
    refuses: AtomicU32,
}

fn key(byte: u8) -> Key {
    Key::new(Etype::Aes256Sha1, &[byte; 32]).unwrap()
}

fn password_key() -> Key {
    Key::of_password(Etype::Aes256Sha1, "hunter2", b"salt", None).unwrap()
}

/// A KDC that knows `keda`, and where it listens.
async fn kdc() -> (String, Arc<Counts>) {
    let counts = Arc::new(Counts { minutes: 600.into(), ..Counts::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let conf = CONF.replace("127.0.0.1:1", &listener.local_addr().unwrap().to_string());
    let shared = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let length = stream.read_u32().await.unwrap();
            let mut question = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, &shared);
            stream.write_u32(u32::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    (conf, counts)
}

fn answer(question: &[u8], counts: &Counts) -> Vec<u8> {
    let request: KdcRequest = decode_as(&[AS_REQ, TGS_REQ], question).unwrap();
    let (known, usage) = if request.kind == AS_REQ {
        if request.data.is_none() {
            return refusal(PREAUTH_REQUIRED);
        }
        counts.logins.fetch_add(1, Ordering::SeqCst);
        (password_key(), Usage::AsReply)
    } else {
        let code = counts.refuses.load(Ordering::SeqCst);
        if code > 0 {
            return refusal(i32::try_from(code).unwrap());
        }
        counts.tickets.fetch_add(1, Ordering::SeqCst);
        (key(9), Usage::TgsReply)
    };
    let part = KdcReplyPart {
        key: EncryptionKey::new(&key(9)),
        last_requests: Any::new(der::Tag::Sequence, Vec::new()).unwrap(),
        nonce: request.body.nonce.into(),
        key_ends: None,
        flags: flags(0),
        authenticated: time(now()),
        begins: None,
        ends: time(now() + Duration::from_mins(counts.minutes.load(Ordering::SeqCst).into())),
        renewable: None,
        realm: "R".into(),
        service: request.body.service,
        addresses: None,
        data: None,
    };
    let part = encode_as(ENC_TGS_REP_PART, part);
    let reply = KdcReply {
        version: VERSION,
        kind: request.kind + 1,
        data: None,
        realm: "R".into(),
        client: Principal::user("keda", "R").name(NameKind::Principal),
        ticket: Any::new(der::Tag::OctetString, *b"ticket").unwrap(),
        sealed: EncryptedData::new(&known, usage, &part, [3; 16]),
    };
    encode_as(request.kind + 1, reply)
}

fn refusal(code: i32) -> Vec<u8> {
    let hint = Hint { etype: 18, salt: Some("salt".into()), parameters: None };
    let data = [(PA_ETYPE_INFO2, encode(&vec![hint])), (PA_ENC_TIMESTAMP, Vec::new())];
    let data: Vec<PaData> = data.into_iter().map(|(kind, value)| PaData { kind, value: octets(value) }).collect();
    let error = KrbError { data: Some(octets(encode(&data))), ..KrbError::of(code, now()) };
    encode_as(KRB_ERROR, error)
}

/// How often somebody logged in and asked for tickets, after tickets for these hosts were needed.
async fn check(kerberos: &Kerberos, counts: &Counts, hosts: &[&str], wanted: (u32, u32)) {
    for host in hosts {
        kerberos.initiate(host).await.unwrap();
    }
    let counted = (counts.logins.load(Ordering::SeqCst), counts.tickets.load(Ordering::SeqCst));
    assert_eq!(counted, wanted, "{hosts:?}");
}

#[tokio::test]
async fn tickets_are_kept_until_shortly_before_they_end() {
    let (conf, counts) = kdc().await;
    let kerberos = Kerberos::new(&given(&conf, &"hunter2".into())).unwrap();
    check(&kerberos, &counts, &["a", "b", "a", "b"], (1, 2)).await;
    kerberos.forget("a").await;
    check(&kerberos, &counts, &["a", "b"], (1, 3)).await;
    let (conf, counts) = kdc().await;
    counts.minutes.store(1, Ordering::SeqCst);
    let kerberos = Kerberos::new(&given(&conf, &"hunter2".into())).unwrap();
    check(&kerberos, &counts, &["a", "a"], (2, 2)).await;
}

#[tokio::test]
async fn a_ticket_that_the_kdc_does_not_take_is_not_shown_again() {
    let (conf, counts) = kdc().await;
    let kerberos = Kerberos::new(&given(&conf, &"hunter2".into())).unwrap();
    // Of an unknown broker, and of a ticket that has ended.
    for (code, logins) in [(7, 1), (7, 1), (32, 1), (32, 2), (7, 3)] {
        counts.refuses.store(code, Ordering::SeqCst);
        assert!(kerberos.initiate("a").await.is_err());
        assert_eq!(counts.logins.load(Ordering::SeqCst), logins, "{code}");
    }
}

#[tokio::test]
async fn another_password_cannot_read_the_answer() {
    let (conf, _) = kdc().await;
    let error = Kerberos::new(&given(&conf, &"secret".into())).unwrap().initiate("a").await.unwrap_err();
    assert!(matches!(error, ScalerError::Unauthorized { .. }), "{error}");
}
