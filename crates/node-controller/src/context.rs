//! What every loop has at hand.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use api::karpenter_v1::NodeClaim;
use cloud::CloudProvider;
use controller_runtime::{
    events::{Kind, Recorder},
    index::{Numbered, Wakeup},
};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use kube::{Client, Resource, ResourceExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    nominations::{Memory, Nominations},
    pools::{self, Pools},
    provisioning::catalogue::Overlays,
    settings::Settings,
    standing::{Standings, Which},
    world::World,
};

/// Snapshots of the world, newest first out.
pub type Worlds = watch::Receiver<Arc<Numbered<Arc<World>>>>;

/// The newest world, and what this process knows beyond it.
#[derive(Clone, Debug)]
pub struct View {
    /// Which world.
    pub sequence: u64,
    /// The objects, with the claims that were just created.
    pub world: Arc<World>,
    /// Places planned for pods.
    pub nominations: Nominations,
    /// Members about to be removed although no object says so yet.
    pub leaving: BTreeSet<String>,
    /// When this was put together.
    pub at: Timestamp,
}

/// Clients, settings and the short memory, shared by all loops.
#[derive(Clone, Debug)]
pub struct Context {
    /// The API server.
    pub client: ClientHandle,
    /// The API server without `kube`'s own retries: when a disruption budget refuses an eviction we want to know it, not
    /// to wait inside the client.
    pub evictor: ClientHandle,
    /// Who rents machines to us.
    pub cloud: Arc<dyn CloudProvider>,
    /// Events.
    pub recorder: Recorder,
    /// What an operator set.
    pub settings: Arc<Settings>,
    /// Counters and gauges.
    pub metrics: Metrics,
    /// What was done a moment ago.
    memory: Arc<Mutex<Memory>>,
    /// What the cloud thinks of the pools.
    standings: Arc<Mutex<Standings>>,
    /// What NodeOverlays make of what pools can buy.
    overlays: Arc<Mutex<Overlays>>,
    /// Rung when the memory changed in a way that others should look at.
    pub wakeup: Wakeup,
    /// Held while a node is opened for pods that were nominated for it: one after another.
    pub opening: Arc<tokio::sync::Mutex<()>>,
    /// Ends everything.
    pub shutdown: CancellationToken,
}

/// [`Client`] with a `Debug`.
#[derive(Clone)]
pub struct ClientHandle(pub Client);

impl std::fmt::Debug for ClientHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Context {
    /// A context with an empty memory.
    pub fn new(
        client: Client,
        evictor: Client,
        cloud: Arc<dyn CloudProvider>,
        recorder: Recorder,
        settings: Settings,
        metrics: Metrics,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            client: ClientHandle(client),
            evictor: ClientHandle(evictor),
            cloud,
            recorder,
            settings: Arc::new(settings),
            metrics,
            memory: Arc::default(),
            standings: Arc::default(),
            overlays: Arc::default(),
            wakeup: Wakeup::new(),
            opening: Arc::default(),
            shutdown,
        }
    }

    /// The short memory. Never hold it across an `.await`.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the cloud thinks of the pools. Never hold it across an `.await`.
    pub fn standings(&self) -> MutexGuard<'_, Standings> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What NodeOverlays make of what pools can buy. Never hold it across an `.await`.
    pub(crate) fn overlays(&self) -> MutexGuard<'_, Overlays> {
        self.overlays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pools of a world as the cloud thinks of them, after asking it about `which`.
    pub async fn pools(&self, world: &World, which: Which) -> Pools {
        let mut pools = Pools::of(world);
        let mut classes: Vec<_> = pools.0.values().filter_map(|pool| pool.class.clone().ok()).collect();
        if which == Which::Due {
            // Their own conditions speak of classes that no pool uses, too.
            classes.extend(world.objects.node_classes.iter().filter_map(|class| pools::class_of(world, class).ok()));
        }
        let questions = self.standings().to_ask(classes.clone(), which, Timestamp::now());
        let answers = questions.into_iter().map(async |class| {
            let answer = self.judge(&class).await;
            (class, answer)
        });
        let answers = join_all(answers).await;
        let now = Timestamp::now();
        let mut standings = self.standings();
        for (class, answer) in answers {
            standings.judge(class, &answer, now);
        }
        if which == Which::Due {
            standings.keep(&pools, &classes);
        }
        standings.apply(&mut pools, now);
        pools
    }

    /// The newest world completed by what was done a moment ago.
    pub fn view(&self, worlds: &mut Worlds) -> View {
        let current = Arc::clone(&worlds.borrow_and_update());
        let at = Timestamp::now();
        let mut memory = self.memory();
        memory.tidy(&current.value, at);
        let unseen = memory.unseen(&current.value);
        let world = if unseen.is_empty() {
            Arc::clone(&current.value)
        } else {
            let mut objects = current.value.objects.clone();
            objects.claims.extend(unseen);
            Arc::new(World::new(objects))
        };
        let nominations = Nominations::at(&world, &memory, self.settings.nomination_ttl(), at);
        View { sequence: current.sequence, world, nominations, leaving: memory.leaving(at), at }
    }

    /// An API for objects of the whole cluster.
    pub fn all<K>(&self) -> kube::Api<K>
    where
        K: Resource,
        K::DynamicType: Default,
    {
        kube::Api::all(self.client.0.clone())
    }

    /// An API for objects of one namespace.
    pub fn namespaced<K>(&self, namespace: &str) -> kube::Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        kube::Api::namespaced(self.client.0.clone(), namespace)
    }

    /// Says something on an object, on its behalf.
    pub async fn event<K>(&self, object: &K, kind: Kind, reason: &str, action: &str, note: String)
    where
        K: Resource,
        K::DynamicType: Default,
    {
        self.recorder.publish(&reference(object), kind, reason, action, note).await;
    }

    /// Says the same on a claim and on its node, whichever there are.
    pub async fn event_on_member(
        &self,
        claim: Option<&NodeClaim>,
        node: Option<&Node>,
        kind: Kind,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        if let Some(claim) = claim {
            self.event(claim, kind, reason, action, note.to_owned()).await;
        }
        if let Some(node) = node {
            self.event(node, kind, reason, action, note.to_owned()).await;
        }
    }
}

/// A reference to an object for events.
pub fn reference<K>(object: &K) -> ObjectReference
where
    K: Resource,
    K::DynamicType: Default,
{
    object.object_ref(&K::DynamicType::default())
}

/// `namespace/name`.
pub fn pod_name(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}
