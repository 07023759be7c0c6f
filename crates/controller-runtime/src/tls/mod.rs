//! Serving over TLS with certificates of our own.
//!
//! [`Authority`] keeps a CA and one serving certificate in a Secret that all replicas share; [`ServingCert`] is what a
//! server serves and is exchanged under it without a restart; [`serve_tls`] is the server; [`inject`] tells the API
//! server which CA to trust.
//!
//! ```text
//! Secret ◄─► Authority ─► ServingCert ─► serve_tls ─► Router (+ Peer in the request's extensions)
//!                            └─ CA bundle ─► inject ─► APIService, webhook configurations
//! ```

mod authority;
mod cert;
pub mod inject;
mod material;
mod serve;

pub use authority::{Authority, CHECK_EVERY};
pub use cert::ServingCert;
pub use inject::{CaTarget, Injection, inject_ca_bundle, keep_ca_bundle_injected};
pub(crate) use material::certificates;
pub use material::{GRACE, Lifetimes, Material, Plan};
pub use serve::{ClientCerts, Limits, Peer, serve_tls, serve_tls_with};

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// What is in the Secret cannot be used and is not ours to replace: tell a person.
    #[error("the certificate in the Secret is not usable: {what}")]
    Unusable {
        /// Which part, and what is wrong.
        what: String,
    },
    /// A certificate could not be made; a wrong DNS name, or a defect.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// The key or certificate is refused by the TLS library.
    #[error("the TLS library refuses the certificate")]
    Rustls(#[from] rustls::Error),
    /// The Secret could not be read or written: try again.
    #[error("the Secret could not be read or written")]
    Kube(#[from] kube::Error),
}
