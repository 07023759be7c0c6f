//! What a source does on a bad day, and that none of it is a number.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::ScalerError;
use crate::http::ANSWER_BYTES;
use crate::metrics_api::MetricsApi;
use crate::prometheus::Prometheus;
use crate::testing::{Texts, Trigger, ok, serve};

async fn read(address: &str, auth: Texts<'_>) -> Result<crate::Sampled, ScalerError> {
    let mode = if auth.iter().any(|(name, _)| *name == "username") { "basic" } else { "" };
    let metadata = [("url", address), ("targetValue", "1"), ("valueLocation", "a"), ("authModes", mode)];
    let metadata = if mode.is_empty() { &metadata[..3] } else { &metadata[..] };
    Trigger::new(metadata).auth(auth).sample::<MetricsApi>().await
}

#[tokio::test]
async fn a_source_that_dies_while_it_is_read_is_unavailable() {
    // Reached, and gone before a word; then in the middle of its answer.
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"a\": 7"] {
        let (address, _served) = serve(vec![answer.to_owned()]).await;
        let error = read(&address, &[]).await.unwrap_err();
        assert!(matches!(error, ScalerError::Unavailable(_)), "{answer:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_name_that_has_vanished_is_unavailable_and_named() {
    let error = read("http://source.invalid:8080/v1", &[]).await.unwrap_err();
    assert!(matches!(error, ScalerError::Unavailable(_) | ScalerError::TimedOut { .. }), "{error:?}");
    assert!(error.text().contains("source.invalid:8080"), "{}", error.text());
}

fn prometheus<'a>(address: &'a str, more: Texts<'a>) -> Trigger {
    let plain = [("serverAddress", address), ("query", "up"), ("threshold", "1")];
    Trigger::new(&[&plain, more].concat())
}

#[tokio::test]
async fn a_silent_server_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let error = prometheus(&address, &[("timeout", "20ms")]).sample::<Prometheus>().await.unwrap_err();
    assert!(matches!(error, ScalerError::TimedOut { .. }), "{error:?}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let endless = ok(&"x".repeat(ANSWER_BYTES + 10));
    let (address, _served) = serve(vec![endless.clone(), endless]).await;
    for error in
        [prometheus(&address, &[]).sample::<Prometheus>().await.unwrap_err(), read(&address, &[]).await.unwrap_err()]
    {
        assert!(matches!(&error, ScalerError::NoNumber { what } if what.contains("larger than")), "{error:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_unavailable_and_does_not_show_the_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://user:hunter2@{}", listener.local_addr().unwrap());
    drop(listener);
    let error = prometheus(&address, &[]).sample::<Prometheus>().await.unwrap_err();
    assert!(matches!(error, ScalerError::Unavailable(_)), "{error:?}");
    assert!(!error.text().contains("hunter2"), "{}", error.text());
}

#[tokio::test]
async fn a_redirect_to_another_host_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/steal", elsewhere.local_addr().unwrap());
    let redirect =
        format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let (address, _served) = serve(vec![redirect]).await;
    let error = prometheus(&address, &[]).sample::<Prometheus>().await.unwrap_err();
    assert!(matches!(&error, ScalerError::Misconfigured { what } if what.contains("redirects")), "{error:?}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_next() {
    for (status, wanted) in
        [("401 Unauthorized", "Unauthorized"), ("404 Not Found", "Misconfigured"), ("503 Busy", "Unavailable")]
    {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n42");
        let (address, _served) = serve(vec![answer]).await;
        let error = read(&address, &[]).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(wanted), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn credentials_do_not_follow_to_another_host() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
    for place in [format!("http://{}/", elsewhere.local_addr().unwrap()), "http://169.254.169.254/latest".to_owned()] {
        let redirect =
            format!("HTTP/1.1 307 Elsewhere\r\nlocation: {place}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let (address, served) = serve(vec![redirect]).await;
        let error = read(&address, &[("username", "u"), ("password", "hunter2")]).await.unwrap_err();
        assert!(matches!(&error, ScalerError::Misconfigured { what } if what.contains("redirects")), "{error:?}");
        assert!(!error.text().contains("hunter2"), "{}", error.text());
        assert!(served.await.unwrap()[0].contains("authorization: Basic"));
    }
    let nobody = elsewhere.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "somebody came");
}

/// Answers over TLS with a certificate of its own authority, which is good until the end of `year`; the authority in PEM.
async fn serve_tls(year: i32) -> (String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(year, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate: CertificateDer<'static> = params.signed_by(&key, &issuer).unwrap().into();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not like the certificate hangs up.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(ok(r#"{"a": 7}"#).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (address, authority)
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_not_trusted() {
    let (address, authority) = serve_tls(2120).await;
    assert!(read(&address, &[("ca", &authority)]).await.is_ok(), "the same with a good one works");
    let (address, authority) = serve_tls(2021).await;
    let error = read(&address, &[("ca", &authority)]).await.unwrap_err();
    assert!(matches!(error, ScalerError::Unavailable(_)), "{error:?}");
    assert!(error.text().to_lowercase().contains("expired"), "{}", error.text());
}
