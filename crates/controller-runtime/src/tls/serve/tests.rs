use std::net::SocketAddr;

use axum::Extension;
use axum::routing::get;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tls::{Lifetimes, Material};

fn material() -> Material {
    Material::create(&["localhost".to_owned()], &Lifetimes::default(), Timestamp::now()).unwrap()
}

/// A client certificate signed by itself.
fn client_identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["client".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap())
}

async fn connect(
    address: SocketAddr,
    trusted: &Material,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in crate::tls::certificates(&trusted.ca_bundle).unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// One HTTP/1.1 request on a connection that stays open; the answer's body.
async fn ask(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await?;
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).await?;
        answer.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if let Some((_, body)) = answer.split_once("\r\n\r\n") {
            return Ok(body.to_owned());
        }
    }
}

struct Server {
    address: SocketAddr,
    cert: Arc<ServingCert>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), rustls::Error>>,
}

async fn serve(material: &Material, limits: Limits) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cert = Arc::new(ServingCert::new(material).unwrap());
    let shutdown = CancellationToken::new();
    let router = Router::new()
        .route("/", get(async |Extension(peer): Extension<Peer>| format!("{} certificates", peer.certificates.len())));
    let task =
        tokio::spawn(serve_tls_with(listener, router, Arc::clone(&cert), ClientCerts::Asked, limits, shutdown.clone()));
    Server { address, cert, shutdown, task }
}

#[tokio::test]
async fn a_certificate_rotates_under_a_connection_that_goes_on() {
    let (old, new) = (material(), material());
    let server = serve(&old, Limits::default()).await;
    let mut before = connect(server.address, &old, None).await.unwrap();
    assert_eq!(ask(&mut before).await.unwrap(), "0 certificates");

    server.cert.install(&new).unwrap();
    assert_eq!(ask(&mut before).await.unwrap(), "0 certificates", "the open connection is not disturbed");
    let mut after = connect(server.address, &new, None).await.unwrap();
    assert_eq!(ask(&mut after).await.unwrap(), "0 certificates");
    assert!(connect(server.address, &old, None).await.is_err(), "the old CA does not vouch for the new certificate");

    server.shutdown.cancel();
    server.task.await.unwrap().unwrap();
    assert!(ask(&mut before).await.is_err(), "an idle connection ends with the server");
}

#[tokio::test]
async fn a_client_certificate_of_any_signer_reaches_the_handler_and_no_certificate_is_fine() {
    let material = material();
    let server = serve(&material, Limits::default()).await;
    let mut with = connect(server.address, &material, Some(client_identity())).await.unwrap();
    assert_eq!(ask(&mut with).await.unwrap(), "1 certificates");
    let mut without = connect(server.address, &material, None).await.unwrap();
    assert_eq!(ask(&mut without).await.unwrap(), "0 certificates");
}

#[tokio::test]
async fn a_client_must_have_the_key_of_the_certificate_it_shows() {
    let material = material();
    let server = serve(&material, Limits::default()).await;
    let (certificate, _) = client_identity();
    let (_, other_key) = client_identity();
    // The client library refuses a mismatched pair, so it is told by hand.
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key =
        rustls::sign::CertifiedKey::new(vec![certificate], provider.key_provider.load_private_key(other_key).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(crate::tls::certificates(&material.ca_bundle).unwrap().remove(0)).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(Fixed(Arc::new(key))));
    let stream = TcpStream::connect(server.address).await.unwrap();
    let connected =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await;
    // With TLS 1.3 the client learns of the refusal when it reads.
    let refused = match connected {
        Ok(mut stream) => ask(&mut stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}

#[derive(Debug)]
struct Fixed(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Fixed {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_connection_over_the_bound_waits_for_one_to_end() {
    let material = material();
    let server = serve(&material, Limits { connections: 1, ..Limits::default() }).await;
    let mut first = connect(server.address, &material, None).await.unwrap();
    ask(&mut first).await.unwrap();
    let mut second = std::pin::pin!(connect(server.address, &material, None));
    // The handshake cannot have ended: its connection has no slot.
    assert!(futures::poll!(second.as_mut()).is_pending());
    ask(&mut first).await.unwrap();
    assert!(futures::poll!(second.as_mut()).is_pending());
    drop(first);
    let mut second = second.await.unwrap();
    ask(&mut second).await.unwrap();
}

#[test]
fn an_idle_connection_is_let_go_by_gos_clients_first() {
    assert!(Limits::default().idle > Duration::from_secs(90));
}
