//! The Secret that holds our CA and serving certificate, shared by all replicas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio_util::sync::CancellationToken;

use super::{Lifetimes, Material, Plan, ServingCert, TlsError};

/// How often every replica looks at the Secret: for its own renewal, and for what another replica or a person wrote.
pub const CHECK_EVERY: Duration = Duration::from_secs(30);
/// Pause before an API server that is away is asked again for the first certificate.
const AWAY_PAUSE: Duration = Duration::from_secs(2);

/// Two replicas that write at once: one loses and reads again. More rounds than replicas means something else is wrong.
const CONFLICTS_MAX: usize = 10;

/// Keeps the Secret in order.
///
/// The Secret has `ca.crt`, `ca.key`, `tls.crt` and `tls.key`. A Secret with `tls.crt` and `tls.key` but without
/// `ca.key` is somebody else's (cert-manager, a person): it is served as it is, reread, and never written.
#[derive(Clone)]
pub struct Authority {
    api: Api<Secret>,
    namespace: String,
    secret: String,
    names: Vec<String>,
    lifetimes: Lifetimes,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}/{} for {:?})", self.namespace, self.secret, self.names)
    }
}

impl Authority {
    /// An authority in the Secret `namespace/secret` for a server called by `names` (DNS names or addresses).
    ///
    /// Needs get, create and update on that Secret.
    pub fn new(client: Client, namespace: &str, secret: &str, names: Vec<String>) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            names,
            lifetimes: Lifetimes::default(),
        }
    }

    /// The names by which the API server calls the Service `namespace/service`.
    pub fn service_names(namespace: &str, service: &str) -> Vec<String> {
        vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
            service.to_owned(),
        ]
    }

    /// Other lifetimes than the defaults.
    #[must_use]
    pub fn with_lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// Reads or makes the certificate, then keeps it current in a task until `shutdown`.
    ///
    /// While the API server is away it waits: a program that ended would be started ever more rarely.
    ///
    /// # Errors
    /// The first reading was refused: without a certificate there is nothing to serve. Later failures are logged and tried
    /// again every [`CHECK_EVERY`], with the old certificate served meanwhile.
    pub async fn start(self, shutdown: CancellationToken) -> Result<Arc<ServingCert>, TlsError> {
        let material = loop {
            match self.ensure(Timestamp::now()).await {
                Err(error) if is_away(&error) && !shutdown.is_cancelled() => {
                    let error = crate::boot::chain(&error);
                    tracing::warn!(secret = %self.secret, %error, "no certificate yet: the API server does not answer");
                }
                done => break done?,
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(AWAY_PAUSE) => {}
            }
        };
        let cert = Arc::new(ServingCert::new(&material)?);
        let served = Arc::clone(&cert);
        tokio::spawn(async move {
            let mut current = material;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(CHECK_EVERY) => {}
                }
                let result = self.ensure(Timestamp::now()).await.and_then(|next| {
                    if next != current {
                        served.install(&next)?;
                        tracing::info!(secret = %self.secret, "serving a new certificate");
                        current = next;
                    }
                    Ok(())
                });
                if let Err(error) = result {
                    tracing::warn!(secret = %self.secret, error = %crate::boot::chain(&error), "certificate not checked");
                }
            }
        });
        Ok(cert)
    }

    /// One look at the Secret at `now`: reads it, renews what is due, and returns what all replicas serve.
    ///
    /// # Guarantees
    /// What is returned is what the Secret holds: of two replicas that write at once, one is told of a conflict and
    /// takes what the other wrote.
    pub async fn ensure(&self, now: Timestamp) -> Result<Material, TlsError> {
        let mut conflict = None;
        for _ in 0..CONFLICTS_MAX {
            let written = match self.api.get_opt(&self.secret).await? {
                None => {
                    let material = Material::create(&self.names, &self.lifetimes, now)?;
                    tracing::info!(secret = %self.secret, "making a CA and a serving certificate");
                    let secret = self.filled(Secret::default(), &material);
                    self.api.create(&PostParams::default(), &secret).await.map(|_| material)
                }
                Some(secret) => {
                    let Some(material) = self.next(&secret, now)? else { return read(&secret) };
                    let secret = self.filled(secret, &material);
                    self.api.replace(&self.secret, &PostParams::default(), &secret).await.map(|_| material)
                }
            };
            match written {
                Ok(material) => return Ok(material),
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                    conflict = Some(kube::Error::Api(status));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(conflict.map_or_else(|| TlsError::Unusable { what: "never read".to_owned() }, TlsError::Kube))
    }

    /// What the Secret should hold instead, if anything.
    fn next(&self, secret: &Secret, now: Timestamp) -> Result<Option<Material>, TlsError> {
        let material = match read(secret) {
            Ok(material) => material,
            Err(_) if text(secret, "tls.crt").is_none() && text(secret, "tls.key").is_none() => {
                // Empty, as a chart may create it: ours to fill.
                return Material::create(&self.names, &self.lifetimes, now).map(Some);
            }
            Err(error) => return Err(error),
        };
        let plan = material.plan(&self.names, now);
        if plan == Plan::Keep {
            return Ok(None);
        }
        tracing::info!(secret = %self.secret, ?plan, "renewing");
        material.follow(&plan, &self.names, &self.lifetimes, now).map(Some)
    }

    fn filled(&self, mut secret: Secret, material: &Material) -> Secret {
        secret.metadata =
            ObjectMeta { name: Some(self.secret.clone()), namespace: Some(self.namespace.clone()), ..secret.metadata };
        if secret.type_.is_none() {
            secret.type_ = Some("kubernetes.io/tls".to_owned());
        }
        let data = secret.data.get_or_insert_with(BTreeMap::new);
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        put("ca.crt", &material.ca_bundle);
        put("tls.crt", &material.certificate);
        put("tls.key", &material.key);
        if let Some(ca_key) = &material.ca_key {
            put("ca.key", ca_key);
        }
        secret
    }
}

fn read(secret: &Secret) -> Result<Material, TlsError> {
    let required = |key: &str| {
        text(secret, key).ok_or_else(|| TlsError::Unusable { what: format!("{key} is missing or not text") })
    };
    Ok(Material {
        ca_bundle: text(secret, "ca.crt").unwrap_or_default(),
        ca_key: text(secret, "ca.key"),
        certificate: required("tls.crt")?,
        key: required("tls.key")?,
    })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    if bytes.is_empty() { None } else { String::from_utf8(bytes.clone()).ok() }
}

/// Whether the API server, or what stands before it, could not be reached or is not itself.
fn is_away(error: &TlsError) -> bool {
    match error {
        TlsError::Kube(kube::Error::Api(status)) => status.code >= 500 || status.code == 429,
        TlsError::Kube(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
