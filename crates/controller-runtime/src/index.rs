//! Watches turned into local stores, one wake-up for many of them, and numbered snapshots.
//!
//! One task per kind keeps the store; readers read it at any time. A wake-up means *look again*, it does not say what
//! changed.

use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A signal that something changed, shared by any number of watches and listeners.
///
/// Many changes between two looks are one wake-up.
#[derive(Clone, Debug)]
pub struct Wakeup {
    count: Arc<watch::Sender<u64>>,
}

impl Wakeup {
    /// A signal nobody has rung yet.
    pub fn new() -> Self {
        Self { count: Arc::new(watch::Sender::new(0)) }
    }

    /// Wakes every listener.
    pub fn ring(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A receiver whose `changed()` ends after the next ring; the value is the number of rings so far.
    pub fn listen(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

impl Default for Wakeup {
    fn default() -> Self {
        Self::new()
    }
}

/// A store kept equal to the objects of one kind in the API server.
///
/// # Guarantees
/// `managedFields` are stripped before objects reach the store. Every change rings the wake-up after the store holds
/// it. A broken watch is resumed with backoff and the store keeps what it knew.
///
/// # Caveats
/// Before [`Watched::synced`] the store is empty or partial. The store may be behind the API server at any time.
pub struct Watched<K: Resource + Clone + 'static>
where
    K::DynamicType: Eq + Hash + Clone,
{
    store: Store<K>,
    wakeup: Wakeup,
    synced: watch::Receiver<bool>,
}

impl<K> Watched<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync + Unpin,
{
    /// Watches what `api` and `config` select, until `shutdown`; rings `wakeup` on every change.
    pub fn spawn(api: Api<K>, config: watcher::Config, wakeup: &Wakeup, shutdown: &CancellationToken) -> Self {
        Self::spawn_trimmed(api, config, wakeup, shutdown, |_| {})
    }

    /// As [`spawn`](Self::spawn), and takes from each object with `trim` what nobody reads before it is stored.
    pub fn spawn_trimmed(
        api: Api<K>,
        config: watcher::Config,
        wakeup: &Wakeup,
        shutdown: &CancellationToken,
        trim: fn(&mut K),
    ) -> Self {
        let (store, mut writer) = reflector::store::<K>();
        let (synced_sender, synced) = watch::channel(false);
        let (bell, shutdown) = (wakeup.clone(), shutdown.clone());
        let kind = K::kind(&K::DynamicType::default()).into_owned();
        tokio::spawn(async move {
            let trimmed = watcher(api, config).modify(|object| {
                object.meta_mut().managed_fields = None;
                trim(object);
            });
            let mut events = std::pin::pin!(trimmed.default_backoff());
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.try_next() => event,
                };
                match event {
                    Ok(Some(event)) => {
                        writer.apply_watcher_event(&event);
                        match event {
                            watcher::Event::InitDone => {
                                synced_sender.send_replace(true);
                                bell.ring();
                            }
                            watcher::Event::Apply(_) | watcher::Event::Delete(_) => bell.ring(),
                            watcher::Event::Init | watcher::Event::InitApply(_) => {}
                        }
                    }
                    Ok(None) => return,
                    // The stream backs off by itself before it tries again.
                    Err(error) => {
                        tracing::warn!(%kind, error = %crate::boot::chain(&error), "watch interrupted, trying again");
                    }
                }
            }
        });
        Self { store, wakeup: wakeup.clone(), synced }
    }

    /// The objects, for `kube`'s own helpers.
    pub fn store(&self) -> &Store<K> {
        &self.store
    }

    /// All objects, in no particular order.
    pub fn state(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// The object of that name in that namespace.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>>
    where
        K: Resource<Scope = NamespaceResourceScope>,
    {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// The cluster-scoped object of that name.
    pub fn get_cluster(&self, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name))
    }

    /// The signal this watch rings.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Whether the first complete list has arrived.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Ends when the first complete list has arrived, or the watch was shut down before; says which.
    pub async fn synced(&self) -> bool {
        self.synced.clone().wait_for(|synced| *synced).await.is_ok()
    }
}

/// Watches every object of a kind in the whole cluster.
pub fn watch_all<K>(client: &Client, wakeup: &Wakeup, shutdown: &CancellationToken) -> Watched<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Debug + Send + Sync + Unpin,
{
    Watched::spawn(Api::all(client.clone()), watcher::Config::default(), wakeup, shutdown)
}

impl<K> Clone for Watched<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), wakeup: self.wakeup.clone(), synced: self.synced.clone() }
    }
}

impl<K> Debug for Watched<K>
where
    K: Resource + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

/// A value with its number; a larger number is newer.
#[derive(Debug)]
pub struct Numbered<T> {
    /// Starts at 0 and grows by one per publication.
    pub sequence: u64,
    /// The value, never changed after publication.
    pub value: T,
}

/// The publishing side of numbered immutable snapshots: one writer, many readers, readers never wait.
#[derive(Debug)]
pub struct Snapshots<T> {
    sender: watch::Sender<Arc<Numbered<T>>>,
}

impl<T> Snapshots<T> {
    /// Starts with `first` as number 0.
    pub fn new(first: T) -> Self {
        Self { sender: watch::Sender::new(Arc::new(Numbered { sequence: 0, value: first })) }
    }

    /// Publishes the next snapshot and returns it.
    pub fn publish(&self, value: T) -> Arc<Numbered<T>> {
        let mut value = Some(value);
        let mut published = None;
        self.sender.send_modify(|current| {
            if let Some(value) = value.take() {
                *current = Arc::new(Numbered { sequence: current.sequence + 1, value });
            }
            published = Some(Arc::clone(current));
        });
        published.unwrap_or_else(|| self.latest())
    }

    /// The newest snapshot.
    pub fn latest(&self) -> Arc<Numbered<T>> {
        Arc::clone(&self.sender.borrow())
    }

    /// A reader; `changed()` ends when there is a newer snapshot.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Numbered<T>>> {
        self.sender.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;
    use crate::fake_api::FakeApi;

    fn path(name: &str) -> String {
        format!("/api/v1/namespaces/shop/configmaps/{name}")
    }

    fn object(value: &str) -> serde_json::Value {
        json!({ "metadata": { "namespace": "shop", "managedFields": [{ "manager": "kubectl" }] }, "data": { "k": value } })
    }

    fn watch_shop(api: &FakeApi, wakeup: &Wakeup, shutdown: &CancellationToken) -> Watched<ConfigMap> {
        Watched::spawn(Api::namespaced(api.client(), "shop"), watcher::Config::default(), wakeup, shutdown)
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_follows_the_api_server_and_rings_after_each_change() {
        let (api, wakeup, shutdown) = (FakeApi::new(), Wakeup::new(), CancellationToken::new());
        api.put(&path("a"), object("1"));
        let mut changes = wakeup.listen();
        let watched = watch_shop(&api, &wakeup, &shutdown);
        assert!(!watched.is_synced());
        assert!(watched.synced().await);
        changes.changed().await.unwrap();
        let first = watched.get("shop", "a").unwrap();
        assert_eq!((first.data.as_ref().unwrap()["k"].as_str(), &first.metadata.managed_fields), ("1", &None));
        // The watch is open once the clock has nothing else to wait for.
        tokio::time::sleep(Duration::from_millis(1)).await;

        api.put(&path("a"), object("2"));
        changes.changed().await.unwrap();
        assert_eq!(watched.get("shop", "a").unwrap().data.as_ref().unwrap()["k"], "2");
        api.delete(&path("a"));
        changes.changed().await.unwrap();
        assert!(watched.get("shop", "a").is_none() && watched.state().is_empty());
        shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_trimmed_is_not_stored() {
        let (api, shutdown) = (FakeApi::new(), CancellationToken::new());
        api.put(&path("a"), object("1"));
        let shop: Api<ConfigMap> = Api::namespaced(api.client(), "shop");
        let trim = |map: &mut ConfigMap| map.data = None;
        let watched = Watched::spawn_trimmed(shop, watcher::Config::default(), &Wakeup::new(), &shutdown, trim);
        assert!(watched.synced().await);
        let stored = watched.get("shop", "a").unwrap();
        assert_eq!((&stored.data, &stored.metadata.managed_fields), (&None, &None));
        shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_comes_later_is_waited_for() {
        let (api, shutdown) = (FakeApi::new(), CancellationToken::new());
        api.put(&path("a"), object("1"));
        api.break_with(Some(StatusCode::INTERNAL_SERVER_ERROR));
        let watched = watch_shop(&api, &Wakeup::new(), &shutdown);
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert!(!watched.is_synced());
        api.break_with(None);
        assert!(watched.synced().await);
        assert_eq!(watched.state().len(), 1);
        shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_first_list_ends_with_the_shutdown() {
        let (api, shutdown) = (FakeApi::new(), CancellationToken::new());
        api.silence(true);
        let watched = watch_shop(&api, &Wakeup::new(), &shutdown);
        shutdown.cancel();
        assert!(!watched.synced().await);
    }

    #[test]
    fn snapshots_are_numbered_and_old_ones_do_not_change() {
        let snapshots = Snapshots::new("a");
        let (first, mut reader) = (snapshots.latest(), snapshots.subscribe());
        let second = snapshots.publish("b");
        assert_eq!((first.sequence, first.value, second.sequence, second.value), (0, "a", 1, "b"));
        assert!(reader.has_changed().unwrap());
        assert_eq!(reader.borrow_and_update().sequence, 1);
    }
}
