//! The accept loop that `axum::serve` does not have: TLS, HTTP/1.1 and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::ServingCert;

/// Whether the server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCerts {
    /// No.
    NotAsked,
    /// Yes, but none is needed. The handshake proves that the client has the certificate's key; who signed the
    /// certificate is for the handler to verify, request by request, because the CAs may change: see [`Peer`].
    Asked,
}

/// The certificates the client presented, leaf first; in the extensions of every request, empty if there were none.
///
/// Possession of the leaf's key is proven, nothing else is.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// As presented.
    pub certificates: Arc<[CertificateDer<'static>]>,
}

/// The bounds of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once. Default 256: the API server and HPA controller need a few per replica; further ones wait
    /// in the listener's backlog.
    pub connections: usize,
    /// Time for a TLS handshake. Default 10 s.
    pub handshake: Duration,
    /// Time for the headers of the next request on an HTTP/1.1 connection, that for which nothing is asked included. Default two
    /// minutes: Go's clients, the API server among them, let go of an idle connection after 90 s. If we let go first, a
    /// request that is on its way is lost, and a webhook with it.
    pub idle: Duration,
    /// Requests at once on one HTTP/2 connection. Default 250, Go's default.
    pub streams: u32,
    /// How long requests may go on after the shutdown. Default 5 s, as long as we let a metrics query take.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            handshake: Duration::from_secs(10),
            idle: Duration::from_mins(2),
            streams: 250,
            drain: Duration::from_secs(5),
        }
    }
}

/// [`serve_tls_with`] the default limits.
pub async fn serve_tls(
    listener: TcpListener,
    router: Router,
    cert: Arc<ServingCert>,
    client_certs: ClientCerts,
    shutdown: CancellationToken,
) -> Result<(), rustls::Error> {
    serve_tls_with(listener, router, cert, client_certs, Limits::default(), shutdown).await
}

/// Serves `router` until `shutdown`, then lets running requests end for `limits.drain`.
///
/// # Errors
/// Only before serving, when the TLS configuration is refused. A connection's error ends that connection.
pub async fn serve_tls_with(
    listener: TcpListener,
    router: Router,
    cert: Arc<ServingCert>,
    client_certs: ClientCerts,
    limits: Limits,
    shutdown: CancellationToken,
) -> Result<(), rustls::Error> {
    let acceptor = TlsAcceptor::from(Arc::new(config(cert, client_certs)?));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    loop {
        // A slot first, so that what we cannot serve stays in the backlog.
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, listener.accept().await))
        };
        let (slot, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accepted => match accepted {
                Some(accepted) => accepted,
                None => break,
            },
        };
        match accepted {
            Ok((stream, _)) => {
                let watcher = graceful.watcher();
                tokio::spawn(connection(stream, acceptor.clone(), router.clone(), limits, watcher, slot));
            }
            // Out of file descriptors, or a client that went away: neither is a reason to end or to spin.
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running at the end");
    }
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    limits: Limits,
    watcher: Watcher,
    slot: OwnedSemaphorePermit,
) {
    // Held as long as the connection.
    let _slot = slot;
    // Small answers should not wait for more; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let peer = Peer { certificates: certificates.iter().map(|cert| cert.clone().into_owned()).collect() };
    let service = router.map_request(move |mut request: http::Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(axum::body::Body::new)
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        // A dead peer gives its slot back.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    if let Err(error) = watcher.watch(connection.into_owned()).await {
        tracing::debug!(%error, "connection ended");
    }
}

fn config(cert: Arc<ServingCert>, client_certs: ClientCerts) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = match client_certs {
        ClientCerts::NotAsked => builder.with_no_client_auth(),
        ClientCerts::Asked => builder.with_client_cert_verifier(Arc::new(AskForCertificate { provider })),
    }
    .with_cert_resolver(cert);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Takes any certificate whose key the client proves to have.
#[derive(Debug)]
struct AskForCertificate {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AskForCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
