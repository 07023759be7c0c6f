//! What TriggerAuthentications ask for and do not get yet: their owners are told, once per generation.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;

use api::FieldNotice;
use api::keda::{ClusterTriggerAuthentication, TriggerAuthentication};
use api::unsupported::{Unsupported, unsupported};
use controller_runtime::events::{Kind, Recorder};
use controller_runtime::index::{Wakeup, Watched};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Reason of the event.
const REASON: &str = "NotSupportedYet";

/// Watches the two kinds of TriggerAuthentication, and tells their owners what has no effect yet.
pub(crate) async fn announce(
    client: Client,
    recorder: Recorder,
    namespace: Option<String>,
    leading: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    if !controller_runtime::lease::acquired(&leading).await {
        return;
    }
    let wakeup = Wakeup::new();
    let mut changes = wakeup.listen();
    let auths: Watched<TriggerAuthentication> = watched(&client, namespace.as_deref(), &wakeup, &shutdown);
    // Rights in one namespace do not reach a kind without namespaces.
    let clusters: Option<Watched<ClusterTriggerAuthentication>> = namespace
        .is_none()
        .then(|| Watched::spawn(Api::all(client.clone()), watcher::Config::default(), &wakeup, &shutdown));
    let mut told = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        for auth in auths.state() {
            tell(&recorder, &mut told, auth.as_ref()).await;
        }
        for auth in clusters.iter().flat_map(Watched::state) {
            tell(&recorder, &mut told, auth.as_ref()).await;
        }
    }
}

/// Watches a kind in one namespace, or in all.
pub(crate) fn watched<K>(
    client: &Client,
    namespace: Option<&str>,
    wakeup: &Wakeup,
    shutdown: &CancellationToken,
) -> Watched<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync + Unpin,
{
    let api = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    Watched::spawn(api, watcher::Config::default(), wakeup, shutdown)
}

/// Publishes what of this generation has no effect, if that was not done; says whether there was something to say.
async fn tell<K>(recorder: &Recorder, told: &mut HashMap<String, Option<i64>>, object: &K) -> bool
where
    K: Resource<DynamicType = ()> + Unsupported,
{
    let generation = object.meta().generation;
    let uid = object.uid().unwrap_or_default();
    if told.get(&uid) == Some(&generation) || object.meta().deletion_timestamp.is_some() {
        return false;
    }
    told.insert(uid, generation);
    let notices = unsupported(object);
    if notices.is_empty() {
        return false;
    }
    recorder.publish(&object.object_ref(&()), Kind::Warning, REASON, "Check", text(&notices)).await;
    true
}

/// The notices in one line.
pub(crate) fn text(notices: &[FieldNotice]) -> String {
    notices.iter().map(|notice| format!("{}: {}", notice.field, notice.message)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use api::keda::ScaledObject;
    use scalers::catalog::{KNOWN, find};
    use serde_json::json;

    use super::*;

    #[test]
    fn exactly_the_trigger_types_that_cannot_be_built_are_said_to_be_unsupported() {
        for name in KNOWN {
            let object: ScaledObject = serde_json::from_value(json!({
                "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "a"},
                "spec": {"scaleTargetRef": {"name": "web"}, "triggers": [{"type": name, "metadata": {}}]},
            }))
            .unwrap();
            assert_eq!(unsupported(&object).is_empty(), find(name).is_some(), "{name}");
        }
    }
}
