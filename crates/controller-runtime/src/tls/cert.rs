//! The certificate a server serves right now.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::{Material, TlsError};

/// A certificate that can be exchanged under a running server.
///
/// New handshakes get the newest certificate; connections that exist are not disturbed.
#[derive(Debug)]
pub struct ServingCert {
    key: ArcSwap<CertifiedKey>,
    bundle: watch::Sender<Arc<str>>,
}

impl ServingCert {
    /// Serves `material`.
    pub fn new(material: &Material) -> Result<Self, TlsError> {
        Ok(Self {
            key: ArcSwap::from_pointee(material.certified_key()?),
            bundle: watch::Sender::new(material.ca_bundle.as_str().into()),
        })
    }

    /// Serves `material` from now on; on an error the old certificate stays.
    pub fn install(&self, material: &Material) -> Result<(), TlsError> {
        self.key.store(Arc::new(material.certified_key()?));
        self.bundle.send_if_modified(|bundle| {
            let changed = bundle.as_ref() != material.ca_bundle;
            if changed {
                *bundle = material.ca_bundle.as_str().into();
            }
            changed
        });
        Ok(())
    }

    /// The CAs a client has to trust, as PEM; changes when a CA is added or dropped.
    pub fn ca_bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }
}

impl ResolvesServerCert for ServingCert {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.load_full())
    }
}
