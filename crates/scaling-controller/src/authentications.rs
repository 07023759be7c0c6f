//! TriggerAuthentications as objects: their status says who uses them, and their owners are told what has no effect.
//!
//! What comes of them is found by [`credentials`](crate::credentials), when a trigger needs it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use api::keda::{ClusterTriggerAuthentication, FINALIZER, ScaleTrigger, TriggerAuthenticationStatus};
use api::unsupported::{Unsupported, unsupported};
use controller_runtime::boot::chain;
use controller_runtime::events::Kind;
use controller_runtime::index::{Wakeup, Watched};
use controller_runtime::status::patch_if_changed;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::actor::Shared;
use crate::object::text;

/// Reason of the event about fields without effect.
const REASON: &str = "NotSupportedYet";
/// Changes are gathered for so long: who uses what is nothing that anybody waits for.
const GATHER: Duration = Duration::from_secs(2);

/// What `keda_resource_registered_total` calls the two kinds.
const KINDS: [&str; 2] = ["trigger_authentication", "cluster_trigger_authentication"];
/// The namespace of what has none, in series. KEDA's.
pub(crate) const WIDE: &str = "default";

/// Keeps the statuses of both kinds, once this replica leads; the cluster-wide one only if all namespaces count, because
/// rights in one namespace do not reach it.
pub(crate) async fn keep(
    shared: Arc<Shared>,
    wakeup: Wakeup,
    cluster_wide: bool,
    leading: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    if !controller_runtime::lease::acquired(&leading).await {
        return;
    }
    let mut changes = wakeup.listen();
    let clusters: Option<Watched<ClusterTriggerAuthentication>> = cluster_wide
        .then(|| Watched::spawn(Api::all(shared.client.clone()), watcher::Config::default(), &wakeup, &shutdown));
    let mut seen = Seen::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(GATHER).await;
        changes.mark_unchanged();
        let users = Users::of(&shared);
        for auth in shared.authentications.state() {
            let place = (auth.namespace(), auth.name_any());
            let api = Api::namespaced(shared.client.clone(), &auth.namespace().unwrap_or_default());
            tend(&shared, &api, auth.as_ref(), auth.status.as_ref(), &users.status(&place), &mut seen).await;
        }
        for auth in clusters.iter().flat_map(Watched::state) {
            let (place, api) = ((None, auth.name_any()), Api::all(shared.client.clone()));
            tend(&shared, &api, auth.as_ref(), auth.status.as_ref(), &users.status(&place), &mut seen).await;
        }
        let mut counts = BTreeMap::<(&'static str, String), i64>::new();
        for auth in shared.authentications.state() {
            *counts.entry((KINDS[0], auth.namespace().unwrap_or_default())).or_default() += 1;
        }
        let wide = clusters.as_ref().map_or(0, |clusters| clusters.state().len());
        if wide > 0 {
            counts.insert((KINDS[1], WIDE.to_owned()), i64::try_from(wide).unwrap_or(i64::MAX));
        }
        shared.metrics.count_resources(&KINDS, &counts);
        let whole = shared.authentications.is_synced() && clusters.iter().all(Watched::is_synced);
        for about in seen.end(whole) {
            let (reason, note) = change(&about, Change::Deleted);
            shared.announcer.publish(&about, Kind::Normal, &reason, "Check", note).await;
        }
    }
}

/// The authentications that were there at the last look.
#[derive(Debug, Default)]
struct Seen {
    before: HashMap<String, (ObjectReference, Option<i64>)>,
    now: HashMap<String, (ObjectReference, Option<i64>)>,
    /// A look saw them all. What is found before is not new.
    whole: bool,
}

/// What became of an authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// It was there before we were.
    Found,
    Added,
    Updated,
    Deleted,
}

impl Seen {
    /// What became of one that is there, since the last look.
    fn look(&mut self, uid: String, about: ObjectReference, generation: Option<i64>) -> Option<Change> {
        let before = self.before.remove(&uid);
        self.now.insert(uid, (about, generation));
        match before {
            Some((_, old)) => (old != generation).then_some(Change::Updated),
            None if self.whole => Some(Change::Added),
            None => Some(Change::Found),
        }
    }

    /// Ends a look, which saw all there are if `whole`; returns those that are gone.
    fn end(&mut self, whole: bool) -> Vec<ObjectReference> {
        self.whole |= whole;
        let now = std::mem::take(&mut self.now);
        std::mem::replace(&mut self.before, now).into_values().map(|(about, _)| about).collect()
    }
}

/// KEDA's reason for a change, and what it says.
fn change(about: &ObjectReference, change: Change) -> (String, String) {
    let kind = about.kind.as_deref().unwrap_or_default();
    (format!("{kind}{change:?}"), format!("{kind} was {}", format!("{change:?}").to_lowercase()))
}

/// The namespace of an authentication, if its kind has one, and its name.
type Place = (Option<String>, String);

/// The names of the ScaledObjects and ScaledJobs that use each authentication.
#[derive(Debug, Default)]
struct Users(HashMap<Place, [BTreeSet<String>; 2]>);

impl Users {
    fn of(shared: &Shared) -> Self {
        let mut users = Self::default();
        for object in shared.sources.objects.state() {
            users.add(0, object.metadata.namespace.as_ref(), &object.name_any(), &object.spec.triggers);
        }
        for job in shared.jobs.state() {
            users.add(1, job.metadata.namespace.as_ref(), &job.name_any(), &job.spec.triggers);
        }
        users
    }

    fn add(&mut self, list: usize, namespace: Option<&String>, name: &str, triggers: &[ScaleTrigger]) {
        for reference in triggers.iter().filter_map(|trigger| trigger.authentication_ref.as_ref()) {
            let wide = reference.effective_kind() == "ClusterTriggerAuthentication";
            let place = (namespace.filter(|_| !wide).cloned(), reference.name.clone());
            self.0.entry(place).or_default()[list].insert(name.to_owned());
        }
    }

    fn status(&self, place: &Place) -> TriggerAuthenticationStatus {
        let list = |names: &BTreeSet<String>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (!names.is_empty()).then(|| names.join(","))
        };
        let [objects, jobs] = self.0.get(place).map(|lists| lists.each_ref().map(list)).unwrap_or_default();
        TriggerAuthenticationStatus { scaledobjects: objects, scaledjobs: jobs }
    }
}

async fn tend<K>(
    shared: &Shared,
    api: &Api<K>,
    object: &K,
    old: Option<&TriggerAuthenticationStatus>,
    new: &TriggerAuthenticationStatus,
    seen: &mut Seen,
) where
    K: Resource<DynamicType = ()> + Unsupported + Clone + Debug + DeserializeOwned + Serialize,
    K::DynamicType: Hash + Eq,
{
    let (about, uid) = (object.object_ref(&()), object.uid().unwrap_or_default());
    let changed = seen.look(uid, about.clone(), object.meta().generation);
    if object.meta().deletion_timestamp.is_some() {
        return let_go(api, object).await;
    }
    if let Err(error) = patch_if_changed(api, &object.name_any(), old, new).await {
        tracing::warn!(name = object.name_any(), error = %chain(&error), "status of an authentication not written");
    }
    let Some(changed) = changed else { return };
    if changed != Change::Found {
        let (reason, note) = change(&about, changed);
        shared.announcer.publish(&about, Kind::Normal, &reason, "Check", note).await;
    }
    let notices = unsupported(object);
    if !notices.is_empty() {
        shared.announcer.publish(&about, Kind::Warning, REASON, "Check", text(&notices)).await;
    }
}

/// We put no finalizer on authentications and sources of events; KEDA did, and nobody else takes it off.
pub(crate) async fn let_go<K>(api: &Api<K>, object: &K)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return;
    }
    let rest: Vec<&String> = object.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    let patch = json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": rest}});
    match api.patch_metadata(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => {}
        Err(error) => tracing::warn!(name = object.name_any(), error = %chain(&error), "finalizer not removed"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_there_in_the_beginning_is_not_new() {
        let about = |name: &str| ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() };
        let mut seen = Seen::default();
        assert_eq!(seen.look("1".into(), about("a"), Some(1)), Some(Change::Found));
        assert!(seen.end(true).is_empty());
        assert_eq!(seen.look("1".into(), about("a"), Some(1)), None);
        assert_eq!(seen.look("2".into(), about("b"), Some(1)), Some(Change::Added));
        assert!(seen.end(true).is_empty());
        assert_eq!(seen.look("2".into(), about("b"), Some(2)), Some(Change::Updated));
        assert_eq!(seen.end(true), [about("a")]);
        let wide = ObjectReference { kind: Some("ClusterTriggerAuthentication".into()), ..about("b") };
        assert_eq!(change(&wide, Change::Deleted).0, "ClusterTriggerAuthenticationDeleted");
    }

    #[test]
    fn each_authentication_knows_its_users_by_namespace_and_kind() {
        let triggers = |references: &[Value]| -> Vec<ScaleTrigger> {
            let trigger = |reference| json!({"type": "redis", "metadata": {}, "authenticationRef": reference});
            references.iter().map(|reference| serde_json::from_value(trigger(reference)).unwrap()).collect()
        };
        let (shop, web) = ("shop".to_owned(), "web".to_owned());
        let mut users = Users::default();
        let wide = json!({"name": "a", "kind": "ClusterTriggerAuthentication"});
        users.add(0, Some(&shop), "two", &triggers(&[json!({"name": "a"}), json!({"name": "a"}), wide]));
        users.add(0, Some(&shop), "one", &triggers(&[json!({"name": "a"})]));
        users.add(1, Some(&web), "job", &triggers(&[json!({"name": "a"})]));
        let status = |namespace: Option<&String>| {
            let status = users.status(&(namespace.cloned(), "a".to_owned()));
            (status.scaledobjects.unwrap_or_default(), status.scaledjobs.unwrap_or_default())
        };
        assert_eq!(status(Some(&shop)), ("one,two".into(), String::new()));
        assert_eq!(status(Some(&web)), (String::new(), "job".into()));
        assert_eq!(status(None), ("two".into(), String::new()));
    }
}
