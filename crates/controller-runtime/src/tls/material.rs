//! What is in the Secret, and the decision when to replace which part of it. No clock, no client.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::TlsError;

/// Certificates begin this long before they are made, for clocks that are behind ours.
const BACKDATED: Duration = Duration::from_mins(5);

/// A new CA is in the bundle for this long before anything is signed with it, so that everybody trusts it by then.
pub const GRACE: Duration = Duration::from_hours(1);

/// How long certificates are made for. Each is replaced when less than a third of its life is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Of the CA. Default 10 years, as KEDA's.
    pub authority: Duration,
    /// Of the serving certificate. Default 90 days.
    pub serving: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { authority: Duration::from_hours(24 * 3650), serving: Duration::from_hours(24 * 90) }
    }
}

/// The four PEM texts that make a server trusted and able to serve.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    /// `ca.crt`: the CAs to trust, the one that signs now first.
    pub ca_bundle: String,
    /// `ca.key`: the private key of the first CA; `None` when somebody else (cert-manager, a person) made these.
    pub ca_key: Option<String>,
    /// `tls.crt`: the serving certificate, and intermediates if any.
    pub certificate: String,
    /// `tls.key`: its private key.
    pub key: String,
}

impl std::fmt::Debug for Material {
    // Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material")
            .field("ca_bundle", &self.ca_bundle)
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// What has to be done with a [`Material`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Keep,
    /// Sign a new serving certificate with the CA there is.
    RenewServing {
        /// Why.
        why: &'static str,
    },
    /// Make a new CA, trusted beside the old one; the serving certificate stays for now.
    RenewAuthority,
    /// Begin anew: what is there cannot be used.
    Replace {
        /// Why.
        why: String,
    },
}

impl Material {
    /// Makes a CA and a certificate for `names` (DNS names or addresses).
    pub fn create(names: &[String], lifetimes: &Lifetimes, now: Timestamp) -> Result<Self, TlsError> {
        let (ca, ca_key) = make_authority(lifetimes, now)?;
        let mut material = Self { ca_bundle: ca, ca_key: Some(ca_key), certificate: String::new(), key: String::new() };
        material.sign_serving(names, lifetimes, now)?;
        Ok(material)
    }

    /// Decides what to do at `now`.
    ///
    /// Material without `ca.key` is somebody else's and kept, whatever its state.
    pub fn plan(&self, names: &[String], now: Timestamp) -> Plan {
        let Some(ca_key) = &self.ca_key else { return Plan::Keep };
        let replace = |why: &str| Plan::Replace { why: why.to_owned() };
        let authorities = match certificates(&self.ca_bundle) {
            Ok(authorities) if !authorities.is_empty() => authorities,
            _ => return replace("ca.crt is not readable"),
        };
        if !key_belongs_to(ca_key, &authorities[0]) {
            return replace("ca.key does not belong to the first certificate of ca.crt");
        }
        let Some(ca_life) = Life::of(&authorities[0]) else { return replace("ca.crt is not readable") };
        if ca_life.left(now).is_zero() {
            return replace("the CA has expired");
        }
        let serving = match certificates(&self.certificate) {
            Ok(chain) if !chain.is_empty() && self.certified_key().is_ok() => chain,
            _ => return Plan::RenewServing { why: "tls.crt or tls.key is not readable" },
        };
        let Some(life) = Life::of(&serving[0]) else {
            return Plan::RenewServing { why: "tls.crt is not readable" };
        };
        if alternative_names(&serving[0]) != names.iter().cloned().collect() {
            return Plan::RenewServing { why: "the names have changed" };
        }
        if !names.iter().all(|name| trusted(&serving, &authorities, name, now)) {
            return Plan::RenewServing { why: "the certificate is not valid under any CA of the bundle" };
        }
        // The CA comes first, so that a certificate due at the same time is signed by the new one.
        if ca_life.is_due(now) {
            return Plan::RenewAuthority;
        }
        if life.is_due(now) {
            return Plan::RenewServing { why: "a third of its life is left" };
        }
        let current = std::slice::from_ref(&authorities[0]);
        let graced = ca_life.begin.saturating_add(BACKDATED + GRACE).is_ok_and(|from| from <= now);
        if graced && !names.iter().all(|name| trusted(&serving, current, name, now)) {
            return Plan::RenewServing { why: "a new CA signs now" };
        }
        Plan::Keep
    }

    /// The material after `plan`.
    pub fn follow(
        &self,
        plan: &Plan,
        names: &[String],
        lifetimes: &Lifetimes,
        now: Timestamp,
    ) -> Result<Self, TlsError> {
        let mut next = self.clone();
        match plan {
            Plan::Keep => {}
            Plan::RenewServing { .. } => next.sign_serving(names, lifetimes, now)?,
            Plan::RenewAuthority => {
                let (ca, ca_key) = make_authority(lifetimes, now)?;
                next.ca_bundle = ca;
                for old in certificates(&self.ca_bundle)? {
                    if Life::of(&old).is_some_and(|life| !life.left(now).is_zero()) {
                        next.ca_bundle.push_str(&to_pem(&old));
                    }
                }
                next.ca_key = Some(ca_key);
            }
            Plan::Replace { .. } => next = Self::create(names, lifetimes, now)?,
        }
        Ok(next)
    }

    /// The certificate and key in the form a server needs.
    ///
    /// # Errors
    /// Not PEM, no certificate, or a key that belongs to another certificate.
    pub fn certified_key(&self) -> Result<CertifiedKey, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| TlsError::Unusable { what: format!("tls.key: {error}") })?;
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        Ok(CertifiedKey::from_der(chain, key, &provider)?)
    }

    fn sign_serving(&mut self, names: &[String], lifetimes: &Lifetimes, now: Timestamp) -> Result<(), TlsError> {
        let unusable = |what: &str| TlsError::Unusable { what: what.to_owned() };
        let ca = certificates(&self.ca_bundle)?.into_iter().next().ok_or_else(|| unusable("ca.crt is empty"))?;
        let ca_key = self.ca_key.as_deref().ok_or_else(|| unusable("there is no ca.key"))?;
        let issuer = Issuer::from_ca_cert_der(&ca, KeyPair::from_pem(ca_key)?)?;
        let ca_end = Life::of(&ca).ok_or_else(|| unusable("ca.crt is not readable"))?.end;
        let mut params = CertificateParams::new(names.to_vec())?;
        let end = now.saturating_add(lifetimes.serving).unwrap_or(ca_end).min(ca_end);
        set_validity(&mut params, now.saturating_sub(BACKDATED).unwrap_or(now), end);
        params.distinguished_name = rcgen::DistinguishedName::new();
        // The names are in the SAN; a common name longer than 64 bytes would be refused by some readers.
        params.distinguished_name.push(DnType::CommonName, "tandem-serving");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        self.certificate = params.signed_by(&key, &issuer)?.pem();
        self.key = key.serialize_pem();
        Ok(())
    }
}

/// A new CA: certificate and key as PEM.
fn make_authority(lifetimes: &Lifetimes, now: Timestamp) -> Result<(String, String), TlsError> {
    let mut params = CertificateParams::default();
    let end = now.saturating_add(lifetimes.authority).unwrap_or(now);
    set_validity(&mut params, now.saturating_sub(BACKDATED).unwrap_or(now), end);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "tandem");
    // CAs of one bundle need names of their own, or a verifier may pick the wrong one of two.
    params.distinguished_name.push(DnType::CommonName, format!("tandem-ca-{}", now.as_second()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Every certificate of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Unusable { what: format!("not a PEM certificate: {error}") })
}

fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Whether a client that trusts `authorities` would take `chain` for the server `name`.
fn trusted(
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
    name: &str,
    now: Timestamp,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build() else {
        return false;
    };
    let Ok(name) = ServerName::try_from(name.to_owned()) else { return false };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0)));
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).is_ok()
}

fn key_belongs_to(key_pem: &str, certificate: &CertificateDer<'_>) -> bool {
    let Ok(key) = KeyPair::from_pem(key_pem) else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    parsed.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

fn alternative_names(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return BTreeSet::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return BTreeSet::new() };
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        _ => None,
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect()
}

/// The validity of a certificate.
struct Life {
    begin: Timestamp,
    end: Timestamp,
}

impl Life {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            begin: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            end: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
        })
    }

    fn left(&self, now: Timestamp) -> Duration {
        Duration::try_from(self.end.duration_since(now)).unwrap_or(Duration::ZERO)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let whole = Duration::try_from(self.end.duration_since(self.begin)).unwrap_or(Duration::ZERO);
        self.left(now) < whole / 3
    }
}

/// Sets the validity, to the second.
fn set_validity(params: &mut CertificateParams, begin: Timestamp, end: Timestamp) {
    let since_1970 = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(begin);
    params.not_after = epoch + since_1970(end);
}

#[cfg(test)]
mod tests;
