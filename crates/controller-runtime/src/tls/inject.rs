//! Telling the API server which CA to trust when it calls us.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the targets are looked at again: `helm upgrade` may have written an empty bundle over ours.
pub const INJECT_EVERY: Duration = Duration::from_secs(30);

/// An object with a CA bundle in it, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaTarget {
    /// `apiregistration.k8s.io/v1` APIService: `spec.caBundle`, as long as it points to this Service of ours. Whoever else
    /// it points to shows another certificate, which our bundle would make the API server refuse.
    ApiService { name: String, namespace: String, service: String },
    /// `admissionregistration.k8s.io/v1` ValidatingWebhookConfiguration: every webhook of it.
    ValidatingWebhook(String),
    /// `admissionregistration.k8s.io/v1` MutatingWebhookConfiguration: every webhook of it.
    MutatingWebhook(String),
}

impl CaTarget {
    /// The name of the object.
    pub fn name(&self) -> &str {
        match self {
            Self::ApiService { name, .. } | Self::ValidatingWebhook(name) | Self::MutatingWebhook(name) => name,
        }
    }

    fn kind(&self) -> GroupVersionKind {
        let (group, kind) = match self {
            Self::ApiService { .. } => ("apiregistration.k8s.io", "APIService"),
            Self::ValidatingWebhook(_) => ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
            Self::MutatingWebhook(_) => ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
        };
        GroupVersionKind::gvk(group, "v1", kind)
    }

    /// Where `object` points, if that is not to us.
    fn elsewhere(&self, object: &Value) -> Option<String> {
        let Self::ApiService { namespace, service, .. } = self else { return None };
        let found = &object["spec"]["service"];
        let [its_namespace, its_name] = ["namespace", "name"].map(|key| found[key].as_str().unwrap_or_default());
        (its_namespace != namespace || its_name != service).then(|| format!("{its_namespace}/{its_name}"))
    }

    /// The merge patch that makes `object` trust `bundle`, `None` if it does already.
    fn patch(&self, object: &Value, bundle: &str) -> Option<Value> {
        let encoded = json!(base64::engine::general_purpose::STANDARD.encode(bundle));
        if let Self::ApiService { .. } = self {
            let spec = &object["spec"];
            let insecure = spec["insecureSkipTLSVerify"] == json!(true);
            if spec["caBundle"] == encoded && !insecure {
                return None;
            }
            let mut spec = json!({ "caBundle": encoded });
            if insecure {
                // The API server refuses a bundle that nobody checks.
                spec["insecureSkipTLSVerify"] = json!(false);
            }
            return Some(json!({ "spec": spec }));
        }
        let webhooks = object["webhooks"].as_array()?;
        let mut next = webhooks.clone();
        for webhook in &mut next {
            webhook["clientConfig"]["caBundle"] = encoded.clone();
        }
        // A list is patched whole, so the patch must fail if somebody else changed it meanwhile.
        let version = &object["metadata"]["resourceVersion"];
        (next != *webhooks).then(|| json!({ "metadata": { "resourceVersion": version }, "webhooks": next }))
    }
}

/// What became of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// It was written.
    Written,
    /// It was there.
    Unchanged,
    /// The target points to this Service, `NAMESPACE/NAME`, which is not ours; it was left as it is.
    Elsewhere(String),
}

/// Makes `target` trust `bundle` (PEM); writes only when it does not yet, and is ours to write.
///
/// # Errors
/// Those of the API server; a conflict with another writer is one of them: look again.
pub async fn inject_ca_bundle(client: &Client, target: &CaTarget, bundle: &str) -> kube::Result<Injection> {
    let resource = ApiResource::from_gvk(&target.kind());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let object = api.get(target.name()).await?;
    let object = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
    if let Some(service) = target.elsewhere(&object) {
        return Ok(Injection::Elsewhere(service));
    }
    let Some(patch) = target.patch(&object, bundle) else { return Ok(Injection::Unchanged) };
    api.patch(target.name(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(Injection::Written)
}

/// Injects now, when the bundle changes and every [`INJECT_EVERY`], until `shutdown`.
///
/// Every replica may do this: they all write the same. A target that does not exist is waited for.
pub async fn keep_ca_bundle_injected(
    client: Client,
    targets: Vec<CaTarget>,
    mut bundle: watch::Receiver<Arc<str>>,
    shutdown: CancellationToken,
) {
    // What was said last of each target: nobody wants to read it every time.
    let mut told: Vec<Option<String>> = vec![None; targets.len()];
    loop {
        let current = Arc::clone(&bundle.borrow_and_update());
        for (target, told) in targets.iter().zip(&mut told) {
            match inject_ca_bundle(&client, target, &current).await {
                Ok(Injection::Unchanged) => *told = None,
                Ok(Injection::Written) => {
                    *told = None;
                    tracing::info!(?target, "CA bundle injected");
                }
                Ok(Injection::Elsewhere(service)) if told.as_ref() == Some(&service) => {}
                Ok(Injection::Elsewhere(service)) => {
                    tracing::warn!(?target, service, "it points to another Service, so nobody is sent to us by it");
                    *told = Some(service);
                }
                Err(error) => {
                    tracing::warn!(?target, error = %crate::boot::chain(&error), "CA bundle not injected");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            // The sender may be gone; then only the clock wakes us.
            () = tokio::time::sleep(INJECT_EVERY) => {}
            Ok(()) = bundle.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests;
