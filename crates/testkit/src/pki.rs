//! The certificates of a control plane: one authority for servers and users, one for the aggregation layer's front proxy.

use std::path::{Path, PathBuf};

use anyhow::Result;
use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

/// A certificate authority with its certificate on disk.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str, folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?;
        let authority = Self {
            pem: certificate.pem(),
            certificate: folder.join(format!("{name}.crt")),
            key: folder.join(format!("{name}.key")),
            issuer: {
                std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
                Issuer::new(params, key)
            },
        };
        std::fs::write(&authority.certificate, &authority.pem)?;
        Ok(authority)
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server certificate for `names` (host names and addresses).
    pub fn server(&self, common_name: &str, names: &[&str]) -> Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.issue(CertificateParams::new(names)?, common_name, &[], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate: Kubernetes reads the user from the common name and the groups from the organizations.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Issued> {
        self.issue(CertificateParams::default(), user, groups, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        common_name: &str,
        organizations: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Issued> {
        params.distinguished_name.push(DnType::CommonName, common_name);
        for organization in organizations {
            params.distinguished_name.push(DnType::OrganizationName, *organization);
        }
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes `NAME.crt` and `NAME.key` and returns their paths.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
        std::fs::write(&certificate, &self.certificate)?;
        std::fs::write(&key, &self.key)?;
        Ok((certificate, key))
    }
}

/// Who a kubeconfig speaks for.
#[derive(Clone, Debug)]
pub enum Identity {
    Certificate(Issued),
    Token(String),
}

/// A kubeconfig. It is written as JSON, which every YAML reader takes.
pub fn kubeconfig(server: &str, authority_pem: &str, identity: &Identity, namespace: &str) -> String {
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let user = match identity {
        Identity::Certificate(issued) => {
            json!({"client-certificate-data": encode(&issued.certificate), "client-key-data": encode(&issued.key)})
        }
        Identity::Token(token) => json!({"token": token}),
    };
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bed",
        "clusters": [{"name": "bed", "cluster": {"server": server, "certificate-authority-data": encode(authority_pem)}}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "user", "namespace": namespace}}],
    });
    config.to_string()
}
