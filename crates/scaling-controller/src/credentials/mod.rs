//! Credentials and settings that a trigger does not have in its own metadata: what its `authenticationRef` gives, and the
//! environment of the scale target's container for `...FromEnv`.
//!
//! ```text
//!   triggers, TriggerAuthentications, pod template ─► environment, parameters: which objects, which keys   (pure)
//!   objects: Secrets and ConfigMaps by name, tokens ─┐
//!   file: the program's own files ───────────────────┼─► parameters, environment of each trigger
//!   stores: Vault and those of AWS, Azure and Google ┘
//! ```
//!
//! Guarantees: objects are read by name; nothing is listed, and only what a trigger depends on is read. What is in the
//! cluster is kept for a second only, so that what was rotated counts at the next poll; a store outside is asked again when
//! its answer has lasted for its time. A credential that cannot be had is a
//! [`Failure`] that names the object and the key, never an empty text. No value reaches a log or a message.

mod environment;
mod file;
mod found;
mod kept;
mod objects;
mod parameters;
mod stores;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::keda::{AuthPodIdentity, ScaleTarget, ScaleTrigger, ScaledJob, ScaledObject, TriggerAuthentication};
use controller_runtime::boot::chain;
use controller_runtime::index::Watched;
use futures::future::join_all;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::Client;
use scalers::{Http, Identity};
use tokio::sync::OnceCell;

use crate::target::{TargetError, Targets};
pub(crate) use found::Failure;
use found::Found;
use objects::{Authentication, Objects, failure};
use parameters::{Environments, Parameters, Wanted};
use stores::Stores;

/// How long the credentials of one object may take.
const WITHIN: Duration = Duration::from_secs(10);

/// What the program decides about credentials.
#[derive(Debug, Clone)]
pub struct CredentialSettings {
    /// The namespace of the Secrets and ConfigMaps that ClusterTriggerAuthentications name.
    pub cluster_namespace: String,
    /// The folder of the files that ClusterTriggerAuthentications name; without it they cannot.
    pub files: Option<PathBuf>,
}

/// What one trigger is given beside its metadata.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Of its `authenticationRef`, if it has one.
    pub(crate) authentication: Option<Resolved>,
    /// The variables that its metadata names, if it does.
    pub(crate) environment: Option<BTreeMap<String, String>>,
}

/// What an `authenticationRef` gives.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) parameters: Parameters,
    pub(crate) identity: Identity,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

/// Whose credentials are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    namespace: &'a str,
    triggers: &'a [ScaleTrigger],
    /// The container whose environment counts, unless an authentication says another one.
    container: Option<&'a str>,
    workload: Workload<'a>,
}

/// Where the pod template is.
#[derive(Debug, Clone, Copy)]
enum Workload<'a> {
    /// In another object.
    Target(&'a ScaleTarget),
    /// Here.
    Template(&'a PodTemplateSpec),
}

impl<'a> Owner<'a> {
    pub(crate) fn of(object: &'a ScaledObject) -> Self {
        let target = &object.spec.scale_target_ref;
        Self {
            namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
            triggers: &object.spec.triggers,
            container: target.env_source_container_name.as_deref(),
            workload: Workload::Target(target),
        }
    }

    pub(crate) fn of_job(job: &'a ScaledJob, template: &'a PodTemplateSpec) -> Self {
        Self {
            namespace: job.metadata.namespace.as_deref().unwrap_or_default(),
            triggers: &job.spec.triggers,
            container: job.spec.env_source_container_name.as_deref(),
            workload: Workload::Template(template),
        }
    }

    /// Whether some trigger depends on more than its metadata.
    pub(crate) fn needs_any(&self) -> bool {
        self.triggers
            .iter()
            .any(|trigger| trigger.authentication_ref.is_some() || !from_environment(trigger).is_empty())
    }
}

/// The variables that the metadata of a trigger names.
fn from_environment(trigger: &ScaleTrigger) -> BTreeSet<String> {
    let named = trigger.metadata.iter().filter(|(key, _)| key.ends_with("FromEnv"));
    named.map(|(_, variable)| variable.trim().to_owned()).filter(|variable| !variable.is_empty()).collect()
}

/// Finds credentials.
pub(crate) struct Resolver {
    objects: Objects,
    stores: Stores,
    files: Option<PathBuf>,
}

impl Resolver {
    pub(crate) fn new(
        client: Client,
        authentications: Arc<Watched<TriggerAuthentication>>,
        http: Arc<Http>,
        settings: CredentialSettings,
    ) -> Self {
        let CredentialSettings { cluster_namespace, files } = settings;
        let objects = Objects::new(client, authentications, cluster_namespace);
        Self { objects, stores: Stores::new(http), files }
    }

    /// The credentials of every trigger, in their order.
    pub(crate) async fn resolve(&self, owner: Owner<'_>, targets: &Targets) -> Vec<Result<Credentials, Failure>> {
        let template = Template { owner, targets, read: OnceCell::new() };
        let each = owner.triggers.iter().map(|trigger| self.one(trigger, &template));
        tokio::time::timeout(WITHIN, join_all(each)).await.unwrap_or_else(|_| {
            let late = || Err(Failure::Unavailable(format!("the credentials did not come within {WITHIN:?}")));
            owner.triggers.iter().map(|_| late()).collect()
        })
    }

    async fn one(&self, trigger: &ScaleTrigger, template: &Template<'_>) -> Result<Credentials, Failure> {
        let namespace = template.owner.namespace;
        let authentication = match &trigger.authentication_ref {
            Some(reference) => Some(self.objects.authentication(namespace, reference).await?),
            None => None,
        };
        let named = from_environment(trigger);
        let mut wanted = authentication.as_ref().map(|of| parameters::wanted(&of.spec)).unwrap_or_default();
        if !named.is_empty() {
            wanted.entry(None).or_default().extend(named.iter().cloned());
        }
        let mut references = template.references(&wanted).await?;
        if let Some(Authentication { spec, namespace, .. }) = authentication.as_ref().filter(|of| of.file().is_none()) {
            references.extend(parameters::references(spec, namespace));
        }
        let found = self.objects.find(references).await;
        let environments = template.environments(&wanted, &found).await?;
        let resolved = match &authentication {
            Some(authentication) => Some(self.resolved(authentication, &environments, &found, template).await?),
            None => None,
        };
        let environment = (!named.is_empty()).then(|| environments.get(&None).cloned().unwrap_or_default());
        Ok(Credentials { authentication: resolved, environment })
    }

    async fn resolved(
        &self,
        authentication: &Authentication,
        environments: &Environments,
        found: &Found,
        template: &Template<'_>,
    ) -> Result<Resolved, Failure> {
        let Authentication { spec, namespace, .. } = authentication;
        let identity = self.identity(spec.pod_identity.as_ref(), template).await?;
        if let Some(path) = authentication.file() {
            // A file stands for all other sources but the environment.
            let mut parameters = parameters::from_environment(spec, environments)?;
            parameters.extend(file::parameters(self.files.as_deref(), path).await?);
            return Ok(Resolved { parameters, identity });
        }
        let mut parameters = parameters::from_cluster(spec, namespace, environments, found)?;
        if let Some(vault) = &spec.hashi_corp_vault {
            parameters.extend(self.stores.vault(vault, namespace, &self.objects).await?);
        }
        if let Some(vault) = &spec.azure_key_vault {
            let identity = self.identity(vault.pod_identity.as_ref(), template).await?;
            parameters.extend(self.stores.azure(vault, identity, namespace, found).await?);
        }
        if let Some(manager) = &spec.gcp_secret_manager {
            let identity = self.identity(manager.pod_identity.as_ref(), template).await?;
            parameters.extend(self.stores.google(manager, &identity, namespace, found).await?);
        }
        if let Some(manager) = &spec.aws_secret_manager {
            let identity = self.identity(manager.pod_identity.as_ref(), template).await?;
            parameters.extend(self.stores.aws(manager, identity, namespace, found).await?);
        }
        for token in &spec.bound_service_account_token {
            let value = self.objects.token(namespace, &token.service_account_name).await?;
            parameters.insert(token.parameter.clone(), value);
        }
        if let Some(oauth) = &spec.oauth2 {
            parameters.extend(parameters::oauth(oauth, namespace, found)?);
        }
        Ok(Resolved { parameters, identity })
    }

    async fn identity(&self, written: Option<&AuthPodIdentity>, template: &Template<'_>) -> Result<Identity, Failure> {
        let role = match written {
            Some(identity) if parameters::is_workloads(identity) => {
                Some(self.objects.role(template.owner.namespace, template.service_account().await?).await?)
            }
            _ => None,
        };
        Ok(parameters::identity(written, role))
    }
}

/// The pod template of the scale target, read when it is first needed.
struct Template<'a> {
    owner: Owner<'a>,
    targets: &'a Targets,
    read: OnceCell<Result<PodTemplateSpec, Failure>>,
}

impl Template<'_> {
    async fn get(&self) -> Result<&PodTemplateSpec, Failure> {
        self.read.get_or_init(|| self.fetch()).await.as_ref().map_err(Clone::clone)
    }

    async fn fetch(&self) -> Result<PodTemplateSpec, Failure> {
        let Owner { namespace, workload, .. } = self.owner;
        let target = match workload {
            Workload::Target(target) => target,
            Workload::Template(template) => return Ok(template.clone()),
        };
        let what = format!("{} {namespace}/{}", target.effective_kind(), target.name);
        let read = async { self.targets.resolve(namespace, target).await?.template().await };
        match read.await {
            Ok(Some(template)) => Ok(template),
            Ok(None) => Err(Failure::Missing(format!("{what} has no pod template"))),
            Err(TargetError::Api { source, .. }) => Err(failure(&what, &source)),
            Err(error) => Err(Failure::Missing(chain(&error))),
        }
    }

    async fn service_account(&self) -> Result<&str, Failure> {
        let spec = self.get().await?.spec.as_ref();
        let name = spec.and_then(|spec| spec.service_account_name.as_deref()).filter(|name| !name.is_empty());
        Ok(name.unwrap_or("default"))
    }

    async fn references(&self, wanted: &Wanted) -> Result<found::References, Failure> {
        let mut references = found::References::new();
        for (container, variables) in wanted {
            let container = environment::container(self.get().await?, self.name(container.as_deref()))?;
            references.extend(environment::references(container, self.owner.namespace, variables));
        }
        Ok(references)
    }

    async fn environments(&self, wanted: &Wanted, found: &Found) -> Result<Environments, Failure> {
        let mut environments = Environments::new();
        for (name, variables) in wanted {
            let container = environment::container(self.get().await?, self.name(name.as_deref()))?;
            let known = environment::variables(container, self.owner.namespace, variables, found)?;
            environments.insert(name.clone(), known);
        }
        Ok(environments)
    }

    fn name<'b>(&'b self, named: Option<&'b str>) -> Option<&'b str> {
        named.or(self.owner.container)
    }
}
