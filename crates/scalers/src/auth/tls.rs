//! Certificates from a TriggerAuthentication.

mod locked;
mod roots;

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::BuildError;
use crate::http::Http;
use crate::metadata::{Choice, Secret, TriggerMetadata};
pub(crate) use locked::LockedCertificates;

/// `tls` of a TriggerAuthentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Choice)]
pub(crate) enum Switch {
    #[value("enable")]
    Enable,
    #[value("disable")]
    Disable,
}

/// Certificates for TLS.
#[derive(Debug, Clone, Hash, TriggerMetadata)]
pub(crate) struct Certificates {
    /// Certificates of the authorities that the server's certificate may come from, in PEM, besides the well-known ones.
    #[param(from(auth))]
    pub(crate) ca: Option<Secret>,
    /// Our certificate, in PEM.
    #[param(from(auth))]
    pub(crate) cert: Option<Secret>,
    /// Its private key, in PEM.
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

    /// TLS for what is not HTTP: trusts `ca` besides the well-known authorities, and shows the certificate if there is one.
    ///
    /// # Errors
    /// A certificate or the key cannot be read.
    pub(crate) fn config(&self, verify: bool) -> Result<ClientConfig, BuildError> {
        let wrong = |name: &str, what: &dyn std::fmt::Display| {
            BuildError::new(format!("authenticationRef {name}"), format!("cannot be used for TLS: {what}"))
        };
        let read = |name: &str, pem: &Secret| -> Result<Vec<CertificateDer<'static>>, BuildError> {
            let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.reveal().as_bytes()).collect();
            match read.map_err(|error| wrong(name, &error))? {
                none if none.is_empty() => Err(wrong(name, &"there is no certificate in PEM in it")),
                some => Ok(some),
            }
        };
        let authorities = self.ca.as_ref().map(|ca| read("ca", ca)).transpose()?.unwrap_or_default();
        let verifier = roots::verifier(authorities, verify).map_err(|what| wrong("ca", &what))?;
        let builder = ClientConfig::builder_with_provider(roots::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("tls", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = read("cert", cert)?;
                let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes()).map_err(|_| {
                    // The library's own words may hold a piece of the key.
                    wrong("key", &"it is not a private key in PEM")
                })?;
                builder.with_client_auth_cert(chain, key).map_err(|error| wrong("cert", &error))
            }
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(_), None) => Err(wrong("key", &"is required with cert")),
            (None, Some(_)) => Err(wrong("cert", &"is required with key")),
        }
    }

    /// The same, to be shared.
    ///
    /// # Errors
    /// See [`config`](Self::config).
    pub(crate) fn shared_config(&self, verify: bool) -> Result<Arc<ClientConfig>, BuildError> {
        self.config(verify).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_and_not_repeated() {
        let check = |ca: Option<&str>, cert: Option<&str>, key: Option<&str>| {
            let certificates =
                Certificates { ca: ca.map(Secret::from), cert: cert.map(Secret::from), key: key.map(Secret::from) };
            certificates.config(true).map_or_else(|error| error.field, |_| "fine".into())
        };
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert_eq!(check(None, None, None), "fine");
        assert_eq!(check(Some(&cert), Some(&cert), Some(&key)), "fine");
        assert_eq!(check(Some("hunter2"), None, None), "authenticationRef ca");
        assert_eq!(check(None, Some("hunter2"), Some(&key)), "authenticationRef cert");
        assert_eq!(check(None, Some(&cert), Some("hunter2")), "authenticationRef key");
        assert_eq!(check(None, Some(&cert), None), "authenticationRef key");
        assert_eq!(check(None, None, Some(&key)), "authenticationRef cert");
    }
}
