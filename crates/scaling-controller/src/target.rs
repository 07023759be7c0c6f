//! The workload of an object: which resource it is, and its `/scale`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::keda::{GroupVersionKindResource, ScaleTarget};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::api::{Api, DynamicObject, GroupVersionKind, PostParams};
use kube::core::ApiResource;
use kube::{Client, discovery};
use serde::Deserialize;
use thiserror::Error;
use tokio::time::Instant;

/// How long discovery's answer for a kind is used. Kinds come and go with CRDs, which is rare.
const DISCOVERED_FOR: Duration = Duration::from_mins(10);

/// Why a target cannot be scaled.
#[derive(Debug, Error)]
pub(crate) enum TargetError {
    /// The manifest names something that cannot be.
    #[error("spec.scaleTargetRef.apiVersion {0:?} is not GROUP/VERSION")]
    ApiVersion(String),
    /// No such kind in the cluster.
    #[error("spec.scaleTargetRef: the API server does not know the kind {kind} of {api_version}")]
    Kind { api_version: String, kind: String },
    /// No such object.
    #[error("spec.scaleTargetRef: target resource {kind} {name} doesn't exist")]
    Missing { kind: String, name: String },
    /// The kind has no replicas.
    #[error("spec.scaleTargetRef: target resource {kind} {name} doesn't expose /scale subresource")]
    NoScale { kind: String, name: String },
    /// Something changed between read and write: look again.
    #[error("the scale of the target was changed by somebody else at the same moment")]
    Conflict,
    /// The API server does not do it now.
    #[error("{what}")]
    Api {
        what: &'static str,
        #[source]
        source: kube::Error,
    },
}

/// A kind that can be asked for.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    resource: ApiResource,
    /// Whether the API server says that it has a `/scale`.
    scales: bool,
}

/// One workload. There are as many as ScaledObjects, so what they have in common is shared.
#[derive(Clone)]
pub(crate) struct Target {
    client: Arc<Client>,
    namespace: Box<str>,
    pub(crate) kind: Arc<Kind>,
    pub(crate) name: Box<str>,
}

/// Its replicas as the API server said.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    scale: Scale,
}

impl Read {
    /// `spec.replicas`.
    pub(crate) fn replicas(&self) -> u32 {
        let replicas = self.scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        u32::try_from(replicas).unwrap_or(0)
    }
}

impl Kind {
    /// `apps/v1.Deployment`, as the status says it.
    pub(crate) fn text(&self) -> String {
        format!("{}.{}", self.resource.api_version, self.resource.kind)
    }

    /// The same, resolved.
    pub(crate) fn gvkr(&self) -> GroupVersionKindResource {
        GroupVersionKindResource {
            group: self.resource.group.clone(),
            version: self.resource.version.clone(),
            kind: self.resource.kind.clone(),
            resource: self.resource.plural.clone(),
        }
    }
}

/// A kind, and when discovery said so.
type Found = (Instant, Arc<Kind>);

/// Finds targets; remembers what discovery said.
pub(crate) struct Targets {
    client: Arc<Client>,
    found: Mutex<HashMap<(String, String), Found>>,
}

impl Targets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client: Arc::new(client), found: Mutex::default() }
    }

    /// The target a manifest names. Deployments and StatefulSets need no request.
    pub(crate) async fn resolve(&self, namespace: &str, written: &ScaleTarget) -> Result<Target, TargetError> {
        let kind = self.kind(written.effective_api_version(), written.effective_kind()).await?;
        let client = Arc::clone(&self.client);
        Ok(Target { client, namespace: namespace.into(), kind, name: written.name.as_str().into() })
    }

    async fn kind(&self, api_version: &str, kind: &str) -> Result<Arc<Kind>, TargetError> {
        let gvk = parse(api_version, kind)?;
        let built_in = built_in(&gvk);
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some((at, kind)) = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && (built_in.is_some() || at.elapsed() < DISCOVERED_FOR)
        {
            return Ok(Arc::clone(kind));
        }
        if let Some(resource) = built_in {
            return Ok(self.remember(key, Kind { resource, scales: true }));
        }
        match discovery::pinned_kind(&self.client, &gvk).await {
            Ok((resource, capabilities)) => {
                let scales = capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale");
                Ok(self.remember(key, Kind { resource, scales }))
            }
            Err(kube::Error::Discovery(_)) => Err(TargetError::Kind { api_version: key.0, kind: key.1 }),
            // A group nobody serves is a 404 without a Status in it.
            Err(kube::Error::Api(status)) if status.code == 404 => {
                Err(TargetError::Kind { api_version: key.0, kind: key.1 })
            }
            Err(source) => Err(TargetError::Api { what: "discovery did not answer", source }),
        }
    }

    fn remember(&self, key: (String, String), kind: Kind) -> Arc<Kind> {
        let kind = Arc::new(kind);
        let found = (Instant::now(), Arc::clone(&kind));
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found);
        kind
    }
}

impl Target {
    fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(Client::clone(&self.client), &self.namespace, &self.kind.resource)
    }

    /// Reads `/scale`.
    pub(crate) async fn read(&self) -> Result<Read, TargetError> {
        match self.api().get_scale(&self.name).await {
            Ok(scale) => Ok(Read { scale }),
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(self.why_not_found().await),
            Err(kube::Error::Api(status)) if status.is_forbidden() && !self.kind.scales => Err(self.no_scale()),
            Err(source) => Err(TargetError::Api { what: "the scale of the target could not be read", source }),
        }
    }

    /// Writes the replica count, if nobody changed it since `read`.
    pub(crate) async fn write(&self, read: &Read, replicas: u32) -> Result<(), TargetError> {
        let mut scale = read.scale.clone();
        scale.spec.get_or_insert_default().replicas = Some(i32::try_from(replicas).unwrap_or(i32::MAX));
        scale.status = None;
        match self.api().replace_scale(&self.name, &PostParams::default(), &scale).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => Err(TargetError::Conflict),
            Err(source) => Err(TargetError::Api { what: "the scale of the target could not be written", source }),
        }
    }

    /// How many of its pods are ready, if the workload says so.
    pub(crate) async fn ready(&self) -> Result<Option<u32>, TargetError> {
        let object = self
            .api()
            .get(&self.name)
            .await
            .map_err(|source| TargetError::Api { what: "the target could not be read", source })?;
        let ready =
            object.data.get("status").map(|status| status.get("readyReplicas").and_then(serde_json::Value::as_u64));
        // A workload leaves the field out when it is zero; a kind without any status does not say.
        Ok(ready.map(|n| n.and_then(|n| u32::try_from(n).ok()).unwrap_or(0)))
    }

    /// Its pod template, if it has one where workloads have it.
    pub(crate) async fn template(&self) -> Result<Option<PodTemplateSpec>, TargetError> {
        let object = match self.api().get(&self.name).await {
            Ok(object) => object,
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                return Err(TargetError::Missing { kind: self.kind.text(), name: self.name.to_string() });
            }
            Err(source) => return Err(TargetError::Api { what: "the target could not be read", source }),
        };
        // A kind of its own may have something else there.
        Ok(object.data.pointer("/spec/template").and_then(|template| PodTemplateSpec::deserialize(template).ok()))
    }

    async fn why_not_found(&self) -> TargetError {
        let (kind, name) = (self.kind.text(), self.name.to_string());
        match self.api().get_metadata_opt(&self.name).await {
            Ok(Some(_)) => TargetError::NoScale { kind, name },
            Ok(None) => TargetError::Missing { kind, name },
            // Who cannot be scaled need not be looked at, and the right to do so would not help.
            Err(kube::Error::Api(status)) if status.is_forbidden() && !self.kind.scales => self.no_scale(),
            Err(source) => TargetError::Api { what: "the target could not be read", source },
        }
    }

    fn no_scale(&self) -> TargetError {
        TargetError::NoScale { kind: self.kind.text(), name: self.name.to_string() }
    }
}

fn parse(api_version: &str, kind: &str) -> Result<GroupVersionKind, TargetError> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    if version.is_empty() || version.contains('/') {
        return Err(TargetError::ApiVersion(api_version.to_owned()));
    }
    Ok(GroupVersionKind::gvk(group, version, kind))
}

/// Deployments and StatefulSets, whatever version of `apps` a manifest names: old ones name versions that are gone.
fn built_in(gvk: &GroupVersionKind) -> Option<ApiResource> {
    if gvk.group != "apps" {
        return None;
    }
    let plural = match gvk.kind.as_str() {
        "Deployment" => "deployments",
        "StatefulSet" => "statefulsets",
        _ => return None,
    };
    Some(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("apps", "v1", &gvk.kind), plural))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_common_kinds_need_no_discovery() {
        let resource = built_in(&parse("apps/v1", "Deployment").unwrap()).unwrap();
        let kind = Kind { resource, scales: true };
        assert_eq!(kind.text(), "apps/v1.Deployment");
        assert_eq!(kind.gvkr().resource, "deployments");
        let old = built_in(&parse("apps/v1beta1", "StatefulSet").unwrap()).unwrap();
        assert_eq!(old.api_version, "apps/v1");
        assert!(built_in(&parse("argoproj.io/v1alpha1", "Rollout").unwrap()).is_none());
        assert!(built_in(&parse("v1", "ReplicationController").unwrap()).is_none());
    }

    #[test]
    fn an_api_version_has_at_most_one_slash() {
        for bad in ["", "apps/", "a/b/c"] {
            assert!(matches!(parse(bad, "X"), Err(TargetError::ApiVersion(_))), "{bad:?}");
        }
    }
}
