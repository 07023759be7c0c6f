//! Reads what credentials come from out of the API server, by name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::keda::{AuthenticationRef, ClusterTriggerAuthentication, TriggerAuthentication, TriggerAuthenticationSpec};
use controller_runtime::boot::chain;
use controller_runtime::index::Watched;
use futures::future::join_all;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Semaphore;

use super::found::{Data, Failure, Found, Kind, Reference, References};
use super::kept::Kept;

/// How long an object that was read is used. It only joins the reads of triggers that are polled together: a Secret that
/// was changed counts at the next poll.
const FRESH: Duration = Duration::from_secs(1);
/// Requests under way at the same time.
const ASKING: usize = 24;
/// How long a token is good for. KEDA's default.
const TOKEN_SECONDS: i64 = 3_600;
/// What EKS writes at a ServiceAccount.
const ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// The API server, asked for single objects.
pub(super) struct Objects {
    client: Client,
    authentications: Arc<Watched<TriggerAuthentication>>,
    /// Of ClusterTriggerAuthentications and what they name.
    cluster_namespace: String,
    data: Kept<Reference, Arc<Data>>,
    cluster_wide: Kept<String, Arc<TriggerAuthenticationSpec>>,
    tokens: Kept<(String, String), String>,
    asking: Semaphore,
}

/// The sources a trigger refers to, and the namespace of the objects they name.
pub(super) struct Authentication {
    pub(super) spec: Arc<TriggerAuthenticationSpec>,
    pub(super) namespace: String,
    cluster_wide: bool,
}

impl Authentication {
    /// The file that stands for all other sources.
    pub(super) fn file(&self) -> Option<&str> {
        self.spec.file_path.as_deref().filter(|path| self.cluster_wide && !path.is_empty())
    }
}

impl Objects {
    pub(super) fn new(
        client: Client,
        authentications: Arc<Watched<TriggerAuthentication>>,
        cluster_namespace: String,
    ) -> Self {
        let (data, cluster_wide, tokens) = (Kept::new(), Kept::new(), Kept::new());
        let asking = Semaphore::new(ASKING);
        Self { client, authentications, cluster_namespace, data, cluster_wide, tokens, asking }
    }

    /// What an `authenticationRef` names.
    pub(super) async fn authentication(
        &self,
        namespace: &str,
        reference: &AuthenticationRef,
    ) -> Result<Authentication, Failure> {
        let name = &reference.name;
        if reference.effective_kind() == "ClusterTriggerAuthentication" {
            let what = format!("ClusterTriggerAuthentication {name}");
            let ask = async {
                let _permit = self.asking.acquire().await;
                let found = Api::<ClusterTriggerAuthentication>::all(self.client.clone()).get(name).await;
                Ok((Arc::new(found.map_err(|error| failure(&what, &error))?.spec.0), FRESH))
            };
            let spec = self.cluster_wide.get(name.clone(), ask).await?;
            return Ok(Authentication { spec, namespace: self.cluster_namespace.clone(), cluster_wide: true });
        }
        let spec = if let Some(found) = self.authentications.get(namespace, name) {
            found.spec.clone()
        } else {
            // The watch may be behind: the two objects are often applied together.
            let what = format!("TriggerAuthentication {namespace}/{name}");
            let _permit = self.asking.acquire().await;
            let api = Api::<TriggerAuthentication>::namespaced(self.client.clone(), namespace);
            api.get(name).await.map_err(|error| failure(&what, &error))?.spec
        };
        Ok(Authentication { spec: Arc::new(spec), namespace: namespace.to_owned(), cluster_wide: false })
    }

    /// Reads all of these, or knows why not.
    pub(super) async fn find(&self, references: References) -> Found {
        let read = references.into_iter().map(|reference| async move {
            let data = self.data.get(reference.clone(), self.read(&reference)).await;
            (reference, data)
        });
        join_all(read).await.into_iter().collect()
    }

    async fn read(&self, reference: &Reference) -> Result<(Arc<Data>, Duration), Failure> {
        let Reference { kind, namespace, name } = reference;
        let failed = |error: kube::Error| failure(&reference.to_string(), &error);
        let _permit = self.asking.acquire().await;
        let data = match kind {
            Kind::Secret => {
                let secret: Secret = Api::namespaced(self.client.clone(), namespace).get(name).await.map_err(failed)?;
                secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect()
            }
            Kind::ConfigMap => {
                let map: ConfigMap = Api::namespaced(self.client.clone(), namespace).get(name).await.map_err(failed)?;
                let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0));
                let texts = map.data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
                binary.chain(texts).collect::<BTreeMap<_, _>>()
            }
        };
        Ok((Arc::new(data), FRESH))
    }

    /// A token of a ServiceAccount; the same one for half of its life.
    pub(super) async fn token(&self, namespace: &str, account: &str) -> Result<String, Failure> {
        let what = format!("a token of ServiceAccount {namespace}/{account}");
        let ask = async {
            let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
            let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
            let api = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
            let _permit = self.asking.acquire().await;
            let made = api.create_token_request(account, &PostParams::default(), &request).await;
            let status = made.map_err(|error| failure(&what, &error))?.status;
            let token = status.and_then(|status| status.token).filter(|token| !token.is_empty());
            let token = token.ok_or_else(|| Failure::Unavailable(format!("{what} came without a token")))?;
            Ok((token, Duration::from_secs(TOKEN_SECONDS.unsigned_abs() / 2)))
        };
        self.tokens.get((namespace.to_owned(), account.to_owned()), ask).await
    }

    /// The AWS role that a ServiceAccount is annotated with.
    pub(super) async fn role(&self, namespace: &str, account: &str) -> Result<String, Failure> {
        let what = format!("ServiceAccount {namespace}/{account}");
        let _permit = self.asking.acquire().await;
        let found = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace).get(account).await;
        let found = found.map_err(|error| failure(&what, &error))?;
        let role = found.annotations().get(ROLE_ANNOTATION).cloned();
        role.ok_or_else(|| Failure::Missing(format!("{what} has no annotation {ROLE_ANNOTATION:?}")))
    }
}

/// What an error of the API server means for who needs `what`.
pub(super) fn failure(what: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.is_not_found() => Failure::Missing(format!("there is no {what}")),
        kube::Error::Api(status) if matches!(status.code, 400..=403 | 405..=422) => {
            Failure::Refused(format!("{what} cannot be had: {}", status.message))
        }
        error => Failure::Unavailable(format!("{what} cannot be had now: {}", chain(error))),
    }
}
