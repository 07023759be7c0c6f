//! Certificates from a TriggerAuthentication.

use crate::error::BuildError;
use crate::http::Http;
use crate::metadata::{Secret, TriggerMetadata};

/// Certificates for TLS.
#[derive(Debug, Clone, TriggerMetadata)]
pub(crate) struct Certificates {
    /// Certificates of the authorities that the server's certificate may come from, in PEM, besides the well-known ones.
    #[param(from(auth))]
    pub(crate) ca: Option<Secret>,
    /// Our certificate, in PEM.
    #[param(from(auth))]
    pub(crate) cert: Option<Secret>,
    /// Its private key, in PEM, not encrypted.
    #[param(from(auth))]
    pub(crate) key: Option<Secret>,
}

impl Certificates {
    /// Whether there are a certificate and its key.
    pub(crate) fn is_pair(&self) -> bool {
        self.cert.is_some() && self.key.is_some()
    }

    /// A client that trusts `ca` and, if `pair`, shows the certificate.
    ///
    /// # Errors
    /// A certificate cannot be read.
    pub(crate) fn client(&self, http: &Http, verify: bool, pair: bool) -> Result<reqwest::Client, BuildError> {
        if self.ca.is_none() && !pair {
            return Ok(http.client(verify)?);
        }
        let wrong = |name: &str, error: &dyn std::fmt::Display| {
            BuildError::new(format!("authenticationRef {name}"), format!("is not a certificate in PEM: {error}"))
        };
        let mut builder = Http::builder(verify);
        if let Some(ca) = &self.ca {
            let authorities =
                reqwest::Certificate::from_pem_bundle(ca.reveal().as_bytes()).map_err(|error| wrong("ca", &error))?;
            if authorities.is_empty() {
                return Err(wrong("ca", &"there is none in it"));
            }
            builder = builder.tls_certs_merge(authorities);
        }
        if let (true, Some(cert), Some(key)) = (pair, &self.cert, &self.key) {
            let pem = format!("{}\n{}", cert.reveal(), key.reveal());
            let identity = reqwest::Identity::from_pem(pem.as_bytes()).map_err(|error| wrong("cert", &error))?;
            builder = builder.identity(identity);
        }
        builder.build().map_err(|error| wrong("ca", &error))
    }
}
