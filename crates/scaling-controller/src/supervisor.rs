//! Starts the watches, and one actor per object while this replica leads.

mod before;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use api::keda::{ScaledJob, ScaledObject};
use controller_runtime::events::Recorder;
use controller_runtime::health::Check;
use controller_runtime::index::{Wakeup, Watched};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use rand::Rng;
use scalers::Http;
use scaling::hpa::LAST_APPLIED;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::actor::{Actor, Shared};
use crate::authentications;
use crate::cloud_events::{Announcements, Announcer, CloudEventSettings, Dispatcher};
use crate::conflict::Claims;
use crate::credentials::{CredentialSettings, Resolver};
use crate::jobs;
use crate::known_hpa::KnownHpa;
use crate::metrics::Metrics;
use crate::object::{ObjectKey, Subject, polling_interval};
use crate::sources::Sources;
use before::{Everything, Touched};

/// What the program decides for the controller.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The namespaces whose objects count; empty means all. One namespace is watched alone, so that rights for it are
    /// enough; several are picked from a watch on all.
    pub namespaces: Vec<String>,
    /// How long an HTTP source may take, when a trigger does not say.
    pub http_timeout: Duration,
    /// Where credentials come from.
    pub credentials: CredentialSettings,
    /// What CloudEvents call the cluster and us.
    pub cloud_events: CloudEventSettings,
}

/// Requests for preparing objects that are under way at the same time. The API server answers some hundreds a second, and
/// gives one client a share of that; more at once would only wait there.
const ACTING: usize = 24;
/// Changes are gathered for so long, so that a burst costs one pass.
const GATHER: Duration = Duration::from_millis(100);
/// Or for so many times as long as the pass took, but no longer than the other: it looks at every object, and where these are
/// many, changes never end.
const REST: u32 = 10;
const GATHER_MOST: Duration = Duration::from_secs(1);
/// First polls after a start are spread over this time, or one polling interval if that is shorter.
pub(crate) const SPREAD: Duration = Duration::from_secs(10);
/// An actor that panicked starts again after this time.
const AFTER_PANIC: Duration = Duration::from_secs(30);
/// How long actors may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// The scaling controller of one replica.
pub struct Controller {
    shared: Arc<Shared>,
    settings: Settings,
    wakeup: Wakeup,
    dispatcher: Dispatcher,
    announcements: Announcements,
}

impl Controller {
    /// Starts watching. Nothing is written before [`run`](Self::run).
    pub fn start(
        client: &Client,
        recorder: Recorder,
        metrics: Arc<Metrics>,
        settings: Settings,
        shutdown: &CancellationToken,
    ) -> Self {
        let wakeup = Wakeup::new();
        let one = match settings.namespaces.as_slice() {
            [one] => Some(one.as_str()),
            _ => None,
        };
        let config = watcher::Config::default();
        let objects = Watched::spawn_trimmed(within(client, one), config, &wakeup, shutdown, without_second_copy);
        let hpas: Watched<KnownHpa> = watched(client, one, &wakeup, shutdown);
        let authentications = Arc::new(watched(client, one, &wakeup, shutdown));
        let http = Arc::new(Http::new(settings.http_timeout));
        let resolver = Resolver::new(
            client.clone(),
            Arc::clone(&authentications),
            Arc::clone(&http),
            settings.credentials.clone(),
        );
        let dispatcher = Dispatcher {
            client: client.clone(),
            http: Arc::clone(&http),
            metrics: Arc::clone(&metrics),
            settings: settings.cloud_events.clone(),
            namespace: one.map(str::to_owned),
        };
        let (announcer, announcements) = Announcer::new(recorder);
        let sources = Arc::new(Sources::new(client.clone(), objects, hpas, Arc::clone(&metrics), http, resolver));
        let jobs = watched(client, one, &wakeup, shutdown);
        let acting = Semaphore::new(ACTING);
        let claims = Claims::default();
        let shared =
            Shared { client: client.clone(), sources, jobs, authentications, metrics, announcer, claims, acting };
        Self { shared: Arc::new(shared), settings, wakeup, dispatcher, announcements }
    }

    /// The reading side, for the external metrics API.
    pub fn sources(&self) -> Arc<Sources> {
        Arc::clone(&self.shared.sources)
    }

    /// Runs until `shutdown`; acts while `leading` is true. `ready` turns ready when the first lists have arrived.
    ///
    /// # Guarantees
    /// When leadership is lost all actors are stopped before this returns.
    pub async fn run(self, mut leading: watch::Receiver<bool>, ready: Check, shutdown: CancellationToken) {
        let sources = &self.shared.sources;
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = async { tokio::join!(sources.objects.synced(), sources.hpas.synced()) } => {}
        }
        ready.ready();
        let (shared, wakeup) = (Arc::clone(&self.shared), self.wakeup.clone());
        let cluster_wide = self.settings.namespaces.len() != 1;
        tokio::spawn(authentications::keep(shared, wakeup, cluster_wide, leading.clone(), shutdown.clone()));
        tokio::spawn(self.dispatcher.run(self.announcements, leading.clone(), shutdown.clone()));
        let stop_jobs = CancellationToken::new();
        let jobs = tokio::spawn(jobs::run(
            Arc::clone(&self.shared),
            self.settings.namespaces.clone(),
            leading.clone(),
            self.wakeup.listen(),
            stop_jobs.clone(),
        ));
        let mut changes = self.wakeup.listen();
        let mut crew = Crew::new(Arc::clone(&self.shared));
        loop {
            changes.mark_unchanged();
            let acts = *leading.borrow_and_update();
            let began = Instant::now();
            crew.pass(&self.settings.namespaces, acts);
            let gather = (began.elapsed() * REST).clamp(GATHER, GATHER_MOST);
            let rested = crew.rested();
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = leading.changed() => if changed.is_err() || (acts && !*leading.borrow()) { break },
                changed = changes.changed() => {
                    if changed.is_err() { break }
                    tokio::time::sleep(gather).await;
                }
                Some(ended) = crew.actors.join_next_with_id() => crew.ended(ended),
                () = rested => {}
            }
        }
        stop_jobs.cancel();
        crew.stop().await;
        if let Err(error) = jobs.await {
            tracing::error!(%error, "the task of the ScaledJobs ended badly");
        }
    }
}

/// Watches a kind in one namespace, or in all.
fn watched<K>(client: &Client, namespace: Option<&str>, wakeup: &Wakeup, shutdown: &CancellationToken) -> Watched<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + fmt::Debug + Send + Sync + Unpin,
{
    Watched::spawn(within(client, namespace), watcher::Config::default(), wakeup, shutdown)
}

fn within<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What `kubectl apply` leaves is the manifest once more, which nobody here reads.
fn without_second_copy(object: &mut ScaledObject) {
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// Sources that know nothing and never will.
#[cfg(test)]
pub(crate) fn idle_sources(client: &Client) -> Arc<Sources> {
    let (wakeup, stopped) = (Wakeup::new(), CancellationToken::new());
    stopped.cancel();
    let http = Arc::new(Http::new(scalers::HTTP_TIMEOUT));
    let credentials = CredentialSettings { cluster_namespace: "tandem-system".to_owned(), files: None };
    let authentications = Arc::new(watched(client, None, &wakeup, &stopped));
    let resolver = Resolver::new(client.clone(), authentications, Arc::clone(&http), credentials);
    let metrics = Arc::new(Metrics::new(&controller_runtime::metrics::Registry::default()));
    let objects = watched(client, None, &wakeup, &stopped);
    let hpas = watched(client, None, &wakeup, &stopped);
    Arc::new(Sources::new(client.clone(), objects, hpas, metrics, http, resolver))
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The actors, and what they were last woken for.
struct Crew {
    shared: Arc<Shared>,
    actors: JoinSet<()>,
    members: HashMap<ObjectKey, Member>,
    by_task: HashMap<Id, ObjectKey>,
    resting: HashMap<ObjectKey, Instant>,
    hpas: HashMap<(String, String), Seen>,
    /// Names of workloads that several ScaledObjects name, by namespace.
    crowded: HashSet<(String, String)>,
    counted: Vec<(&'static str, ObjectKey, i64)>,
    /// Objects that appear later are new, and polled at once.
    first_pass: bool,
    /// What there was at the last pass, and whether we acted; nothing if that is not all that the next one has to know.
    before: Option<(Everything, bool)>,
    stop: CancellationToken,
}

struct Member {
    uid: String,
    version: Option<String>,
    wake: Arc<Notify>,
}

struct Seen {
    version: Option<String>,
    whose: Whose,
}

/// Whom an HPA concerns.
#[derive(Clone, PartialEq, Eq)]
enum Whose {
    /// The ScaledObject of this name.
    Owner(String),
    /// Nobody's: every object whose workload has this name.
    Claims(String),
}

impl Whose {
    fn of(hpa: &KnownHpa) -> Self {
        let owner = hpa.owner_references().iter().find(|o| o.kind == "ScaledObject").map(|o| o.name.clone());
        owner.map_or_else(|| Self::Claims(hpa.target.name.clone()), Self::Owner)
    }
}

/// The names of workloads that several objects name, perhaps of different kinds.
fn crowded(objects: &HashMap<ObjectKey, &Arc<ScaledObject>>) -> HashSet<(String, String)> {
    let mut seen = HashSet::new();
    let workloads = objects.iter().map(|(key, object)| (&key.namespace, &object.spec.scale_target_ref.name));
    let again = workloads.filter(|workload| !seen.insert(*workload));
    again.map(|(namespace, name)| (namespace.clone(), name.clone())).collect()
}

impl Crew {
    fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            actors: JoinSet::new(),
            members: HashMap::new(),
            by_task: HashMap::new(),
            resting: HashMap::new(),
            hpas: HashMap::new(),
            crowded: HashSet::new(),
            counted: Vec::new(),
            first_pass: true,
            before: None,
            stop: CancellationToken::new(),
        }
    }

    /// Compares what is there with what was there: starts actors for new objects, wakes those with a change.
    fn pass(&mut self, namespaces: &[String], acts: bool) {
        let sources = &self.shared.sources;
        let (objects, hpas) = (sources.objects.state(), sources.hpas.state());
        let now = Everything { objects, hpas, jobs: self.shared.jobs.state() };
        let touched =
            self.before.take().filter(|(_, acted)| *acted == acts).and_then(|(before, _)| before.touched(&now));
        match touched {
            Some(touched) => self.wake_touched(touched),
            None => self.look_at_all(&now, namespaces, acts),
        }
        if self.resting.is_empty() {
            self.before = Some((now, acts));
        }
    }

    /// Wakes those of which only a version is new.
    fn wake_touched(&mut self, touched: Touched) {
        for object in &touched.objects {
            if let Some(member) = self.members.get_mut(&ObjectKey::of(object.as_ref())) {
                member.version.clone_from(&object.metadata.resource_version);
                member.wake.notify_one();
            }
        }
        for (hpa, owner) in touched.hpas {
            let namespace = hpa.namespace().unwrap_or_default();
            self.wake(&namespace, &owner);
            if let Some(seen) = self.hpas.get_mut(&(namespace, hpa.name_any())) {
                seen.version = hpa.resource_version();
            }
        }
    }

    fn look_at_all(&mut self, now: &Everything, namespaces: &[String], acts: bool) {
        let objects: Vec<_> = now
            .objects
            .iter()
            .filter(|o| namespaces.is_empty() || o.namespace().is_some_and(|n| namespaces.contains(&n)))
            .collect();
        let by_key: HashMap<ObjectKey, &Arc<ScaledObject>> =
            objects.iter().map(|object| (ObjectKey::of(object.as_ref()), *object)).collect();
        self.shared.sources.retain(|key| by_key.contains_key(key));
        self.count(&by_key, &now.jobs, namespaces);
        self.resting.retain(|key, _| by_key.contains_key(key));
        if !acts {
            return;
        }
        for (key, object) in &by_key {
            let uid = object.metadata.uid.as_deref().unwrap_or_default();
            match self.members.get_mut(key) {
                Some(member) if member.uid == uid => {
                    if member.version != object.metadata.resource_version {
                        member.version.clone_from(&object.metadata.resource_version);
                        member.wake.notify_one();
                    }
                }
                // The old object's actor ends by itself; then its place is free.
                Some(member) => member.wake.notify_one(),
                None if self.resting.get(key).is_some_and(|until| *until > Instant::now()) => {}
                None => self.hire(key, object),
            }
        }
        for (key, member) in &self.members {
            if !by_key.contains_key(key) {
                member.wake.notify_one();
            }
        }
        self.wake_for_hpas(&by_key, &now.hpas);
        self.first_pass = false;
    }

    fn hire(&mut self, key: &ObjectKey, object: &ScaledObject) {
        self.resting.remove(key);
        let spread = if self.first_pass { SPREAD.min(polling_interval(object)) } else { Duration::ZERO };
        let first_poll = Instant::now() + spread.mul_f64(rand::rng().random_range(0.0..=1.0));
        let wake = Arc::new(Notify::new());
        let actor = Box::new(Actor::new(Arc::clone(&self.shared), object, first_poll));
        let task = self.actors.spawn(actor.run(Arc::clone(&wake), self.stop.child_token()));
        self.by_task.insert(task.id(), key.clone());
        let member = Member {
            uid: object.metadata.uid.clone().unwrap_or_default(),
            version: object.metadata.resource_version.clone(),
            wake,
        };
        self.members.insert(key.clone(), member);
    }

    /// Wakes the owners of HPAs that changed, appeared or went; for a foreign one, those with the same target.
    fn wake_for_hpas(&mut self, objects: &HashMap<ObjectKey, &Arc<ScaledObject>>, found: &[Arc<KnownHpa>]) {
        let mut gone = std::mem::take(&mut self.hpas);
        let mut concerned = Vec::new();
        for hpa in found {
            let key = (hpa.namespace().unwrap_or_default(), hpa.name_any());
            let seen = Seen { version: hpa.resource_version(), whose: Whose::of(hpa) };
            let old = gone.remove(&key);
            if old.as_ref().is_none_or(|old| old.version != seen.version) {
                concerned.push((key.0.clone(), seen.whose.clone()));
                concerned.extend(old.filter(|old| old.whose != seen.whose).map(|old| (key.0.clone(), old.whose)));
            }
            self.hpas.insert(key, seen);
        }
        concerned.extend(gone.into_iter().map(|((namespace, _), seen)| (namespace, seen.whose)));
        let claims = self.hpas.iter().filter_map(|((namespace, _), seen)| match &seen.whose {
            Whose::Claims(workload) => Some((namespace.clone(), workload.clone())),
            Whose::Owner(_) => None,
        });
        let crowded = crowded(objects);
        // Before anybody is woken, who will ask.
        self.shared.claims.set(claims.chain(crowded.iter().cloned()).collect());
        // Who has the workload to itself from now on, and who no longer has.
        let changed = crowded.symmetric_difference(&self.crowded).cloned();
        concerned.extend(changed.map(|(namespace, workload)| (namespace, Whose::Claims(workload))));
        self.crowded = crowded;
        for (namespace, whose) in concerned {
            match whose {
                Whose::Owner(name) => self.wake(&namespace, &name),
                Whose::Claims(workload) => self.wake_same_target(&namespace, &workload, objects),
            }
        }
    }

    fn wake_same_target(&self, namespace: &str, workload: &str, objects: &HashMap<ObjectKey, &Arc<ScaledObject>>) {
        for (key, object) in objects {
            if key.namespace == namespace && object.spec.scale_target_ref.name == workload {
                self.wake(&key.namespace, &key.name);
            }
        }
    }

    fn wake(&self, namespace: &str, name: &str) {
        let key = ObjectKey { namespace: namespace.to_owned(), name: name.to_owned() };
        if let Some(member) = self.members.get(&key) {
            member.wake.notify_one();
        }
    }

    /// Counts objects and triggers, if there are others than before.
    fn count(
        &mut self,
        objects: &HashMap<ObjectKey, &Arc<ScaledObject>>,
        jobs: &[Arc<ScaledJob>],
        namespaces: &[String],
    ) {
        let ours =
            |job: &&Arc<ScaledJob>| namespaces.is_empty() || namespaces.contains(&job.namespace().unwrap_or_default());
        let jobs: Vec<Subject<'_>> = jobs.iter().filter(ours).map(|job| Subject::job(job)).collect();
        let subjects = || objects.values().map(|object| Subject::object(object)).chain(jobs.iter().copied());
        let mut now: Vec<_> = subjects().map(|s| (s.kind, s.key(), s.generation())).collect();
        now.sort_unstable();
        if now == self.counted {
            return;
        }
        self.shared.metrics.count(subjects());
        self.counted = now;
    }

    /// An actor ended: its object is gone, or it panicked.
    fn ended(&mut self, ended: Result<(Id, ()), tokio::task::JoinError>) {
        let (id, panicked) = match ended {
            Ok((id, ())) => (id, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(key) = self.by_task.remove(&id) else { return };
        self.before = None;
        self.members.remove(&key);
        self.shared.metrics.forget_object(&key);
        if panicked {
            tracing::error!(object = %key, "the actor panicked; this is a defect of ours. Others go on, this one starts again");
            self.shared.metrics.panicked();
            self.resting.insert(key, Instant::now() + AFTER_PANIC);
        }
    }

    /// Ends when an actor may start again after a panic.
    fn rested(&self) -> impl Future<Output = ()> + use<> {
        let until = self.resting.values().min().copied();
        async move {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        let all = async { while self.actors.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            self.actors.shutdown().await;
        }
    }
}
