//! The port, on Nodes.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::convert::parse_duration;
use async_trait::async_trait;
use cloud::catalogue::{GENERIC_ZONES, generic_types};
use cloud::{CloudError, CloudProvider, LaunchRequest, Machine, NodeClass};
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use scheduling::InstanceType;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};
use units::{Amount, ResourceName};

use crate::catalogue::labelled;
use crate::machine::{self, name_in};
use crate::store::{ApiServer, NodeStore, StoreError};

/// Pause before a Node that could not be registered is tried again, as a kubelet would.
const AGAIN: Duration = Duration::from_secs(1);

/// The one kind of class that has settings for us.
const CLASS_KIND: &str = "KWOKNodeClass";

/// How machines behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Time from launch to the Node. Default 30 s: what an EC2 machine of Amazon Linux takes at best.
    pub boot_delay: Duration,
    /// Labels added to every Node, for a KWOK that selects by label.
    pub node_labels: BTreeMap<String, String>,
    /// What can be rented. Default: the made-up types of [`cloud::catalogue`].
    pub types: Vec<InstanceType>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { boot_delay: Duration::from_secs(30), node_labels: BTreeMap::new(), types: generic_types(&GENERIC_ZONES) }
    }
}

/// A vendor whose machines are Node objects. Dropping it ends the boots under way.
#[derive(Debug)]
pub struct KwokCloud {
    world: Arc<World>,
    types: Vec<InstanceType>,
    boots: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct World {
    store: Box<dyn NodeStore>,
    settings: Settings,
    /// By name. A machine leaves when its Node is there, or when it is terminated before.
    booting: Mutex<BTreeMap<String, Machine>>,
}

/// Locks plain data that no panic can leave half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<StoreError> for CloudError {
    fn from(error: StoreError) -> Self {
        Self::unavailable(error)
    }
}

impl KwokCloud {
    /// Machines in the client's own cluster.
    pub fn new(client: Client, settings: Settings) -> Self {
        Self::with_store(Box::new(ApiServer::new(client)), settings)
    }

    /// Machines in a store of the caller's.
    pub fn with_store(store: Box<dyn NodeStore>, mut settings: Settings) -> Self {
        let types = std::mem::take(&mut settings.types).into_iter().map(labelled).collect();
        Self {
            world: Arc::new(World { store, settings, booting: Mutex::new(BTreeMap::new()) }),
            types,
            boots: Mutex::new(JoinSet::new()),
        }
    }

    fn boot(&self, name: String, node: Node, delay: Duration) {
        let mut boots = lock(&self.boots);
        // Reap what is done, so that the set holds the boots under way only.
        while boots.try_join_next().is_some() {}
        let world = Arc::clone(&self.world);
        boots.spawn(async move { world.boot(&name, &node, delay).await });
    }

    fn types(&self, kubelet: &serde_json::Value) -> Vec<InstanceType> {
        let mut types = self.types.clone();
        if let Some(max_pods) = kubelet.get("maxPods").and_then(serde_json::Value::as_i64) {
            for it in &mut types {
                it.capacity.set(ResourceName::pods(), Amount(max_pods));
            }
        }
        types
    }
}

/// What a KWOKNodeClass says about the time from a launch to its Node.
fn registration_delay(class: &NodeClass) -> Result<Option<Duration>, CloudError> {
    let misconfigured =
        |what: String| CloudError::Misconfigured { what: format!("spec.nodeRegistrationDelay: {what}") };
    match class.spec.get("nodeRegistrationDelay") {
        Some(delay) if class.kind == CLASS_KIND => {
            let text = delay.as_str().ok_or_else(|| misconfigured(format!("{delay} is not a text")))?;
            let span = parse_duration(text).map_err(|error| misconfigured(error.to_string()))?.span();
            span.map(Some).ok_or_else(|| misconfigured("a machine that never registers is none".to_owned()))
        }
        _ => Ok(None),
    }
}

impl World {
    async fn boot(&self, name: &str, node: &Node, delay: Duration) {
        sleep(delay).await;
        while lock(&self.booting).contains_key(name) {
            match self.store.create(node).await {
                Ok(()) => {
                    info!(node = name, "a machine registered its Node");
                    if lock(&self.booting).remove(name).is_none() {
                        // Terminated while it was registering.
                        self.bury(name).await;
                    }
                }
                Err(error) => {
                    warn!(node = name, %error, cause = ?std::error::Error::source(&error), "a machine cannot register its Node");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn bury(&self, name: &str) {
        while let Err(error) = self.store.terminate(name).await {
            warn!(node = name, %error, "the Node of a machine that is gone cannot be removed");
            sleep(AGAIN).await;
        }
    }

    async fn machine(&self, name: &str) -> Result<Option<Machine>, CloudError> {
        if let Some(machine) = lock(&self.booting).get(name) {
            return Ok(Some(machine.clone()));
        }
        Ok(self.store.get(name).await?.as_ref().and_then(machine::read))
    }
}

#[async_trait]
impl CloudProvider for KwokCloud {
    fn name(&self) -> &'static str {
        "kwok"
    }

    async fn instance_types(
        &self,
        _class: &NodeClass,
        kubelet: &serde_json::Value,
    ) -> Result<Arc<[InstanceType]>, CloudError> {
        Ok(self.types(kubelet).into())
    }

    async fn validate(&self, class: &NodeClass) -> Result<(), CloudError> {
        registration_delay(class).map(drop)
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine, CloudError> {
        let name = &request.claim_name;
        let delay = registration_delay(&request.class)?.unwrap_or(self.world.settings.boot_delay);
        if let Some(machine) = self.world.machine(name).await? {
            return if machine.claim_uid.as_deref() == Some(request.claim_uid.as_str()) {
                Ok(machine)
            } else {
                Err(CloudError::unavailable(format!("another claim's machine is called {name}")))
            };
        }
        if self.world.store.get(name).await?.is_some() {
            return Err(CloudError::unavailable(format!("a Node called {name} is there and is no live machine")));
        }
        let types = self.types(&request.kubelet);
        let granted = request.offerings.iter().find_map(|offering| {
            let it = types.iter().find(|it| it.name == offering.key.instance_type)?;
            let offered = it.offerings.iter().any(|had| {
                had.zone == offering.key.zone && had.capacity_type == offering.key.capacity_type && had.available
            });
            offered.then(|| machine::granted(request, &offering.key, it, jiff::Timestamp::now()))
        });
        let Some(machine) = granted else {
            return Err(CloudError::InsufficientCapacity { offerings: request.offering_keys(), why: String::new() });
        };
        let node = machine::node(&machine, request, &self.world.settings.node_labels);
        lock(&self.world.booting).insert(name.clone(), machine.clone());
        self.boot(name.clone(), node, delay);
        Ok(machine)
    }

    async fn get(&self, provider_id: &str) -> Result<Machine, CloudError> {
        let name = name_in(provider_id).ok_or(CloudError::NotFound)?;
        self.world.machine(name).await?.ok_or(CloudError::NotFound)
    }

    async fn list(&self) -> Result<Vec<Machine>, CloudError> {
        // First memory, then Nodes: what moves from one to the other in between is in both, not in neither.
        let mut machines: Vec<Machine> = lock(&self.world.booting).values().cloned().collect();
        let booting: HashSet<String> = machines.iter().map(|machine| machine.provider_id.clone()).collect();
        let nodes = self.world.store.list().await?;
        machines.extend(nodes.iter().filter_map(machine::read).filter(|it| !booting.contains(&it.provider_id)));
        machines.sort_by(|a, b| a.provider_id.cmp(&b.provider_id));
        Ok(machines)
    }

    async fn terminate(&self, provider_id: &str) -> Result<(), CloudError> {
        let name = name_in(provider_id).ok_or(CloudError::NotFound)?;
        if lock(&self.world.booting).remove(name).is_some() {
            return Ok(());
        }
        self.get(provider_id).await?;
        self.world.store.terminate(name).await?;
        Ok(())
    }

    async fn clean(&self, _live_classes: &[NodeClass]) -> Result<(), CloudError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cloud::MachineState;
    use cloud::conformance::{self, Harness};
    use scheduling::{OfferingKey, PoolKey, PoolKind, PricedOffering, Taint, TaintEffect};
    use serde_json::{Value, json};
    use units::ResourceList;

    use super::*;
    use crate::machine::TERMINATED_ANNOTATION;

    /// Nodes in memory; a Node that is `held` survives its deletion, as one with a finalizer does.
    #[derive(Debug, Clone, Default)]
    struct Memory {
        nodes: Arc<Mutex<BTreeMap<String, Node>>>,
        held: Arc<Mutex<bool>>,
    }

    #[async_trait]
    impl NodeStore for Memory {
        async fn create(&self, node: &Node) -> Result<(), StoreError> {
            lock(&self.nodes).insert(node.metadata.name.clone().unwrap(), node.clone());
            Ok(())
        }
        async fn get(&self, name: &str) -> Result<Option<Node>, StoreError> {
            Ok(lock(&self.nodes).get(name).cloned())
        }
        async fn list(&self) -> Result<Vec<Node>, StoreError> {
            Ok(lock(&self.nodes).values().cloned().collect())
        }
        async fn terminate(&self, name: &str) -> Result<(), StoreError> {
            let mut nodes = lock(&self.nodes);
            if *lock(&self.held) {
                let node = nodes.get_mut(name).unwrap();
                let annotations = node.metadata.annotations.get_or_insert_default();
                annotations.insert(TERMINATED_ANNOTATION.to_owned(), "true".to_owned());
            } else {
                nodes.remove(name);
            }
            Ok(())
        }
    }

    struct Bed {
        boot_delay: Duration,
    }

    #[async_trait]
    impl Harness for Bed {
        fn request(&self, claim_name: &str, claim_uid: &str) -> LaunchRequest {
            request(claim_name, claim_uid)
        }
        fn misconfigured(&self) -> Vec<(NodeClass, &'static str)> {
            ["Never", "soon"].map(|delay| (class(delay), "spec.nodeRegistrationDelay")).to_vec()
        }
        async fn set_sold_out(&self, _offerings: &[OfferingKey], _sold_out: bool) -> bool {
            false
        }
        async fn settle(&self) {
            sleep(self.boot_delay).await;
        }
    }

    fn class(delay: &str) -> NodeClass {
        NodeClass {
            group: "karpenter.kwok.sh".to_owned(),
            kind: CLASS_KIND.to_owned(),
            name: "default".to_owned(),
            uid: "u".to_owned(),
            spec: json!({ "nodeRegistrationDelay": delay }),
        }
    }

    fn request(claim_name: &str, claim_uid: &str) -> LaunchRequest {
        let it = &generic_types(&GENERIC_ZONES)[0];
        let offering = &it.offerings[0];
        let key = OfferingKey {
            instance_type: it.name.clone(),
            zone: offering.zone.clone(),
            capacity_type: offering.capacity_type,
        };
        LaunchRequest {
            claim_name: claim_name.to_owned(),
            claim_uid: claim_uid.to_owned(),
            pool: PoolKey { kind: PoolKind::NodePool, name: "default".to_owned() },
            class: NodeClass {
                group: "example.com".to_owned(),
                kind: "Any".to_owned(),
                name: "any".to_owned(),
                uid: "u".to_owned(),
                spec: Value::Null,
            },
            offerings: vec![PricedOffering { key, price: offering.price }],
            labels: BTreeMap::from([("team".to_owned(), "core".to_owned())]),
            taints: vec![Taint { key: "gpu".to_owned(), value: String::new(), effect: TaintEffect::NoSchedule }],
            startup_taints: Vec::new(),
            kubelet: json!({"maxPods": 7}),
            requests: ResourceList::new(),
        }
    }

    fn cloud(memory: &Memory, boot_delay: Duration) -> KwokCloud {
        let node_labels = BTreeMap::from([("alive".to_owned(), "true".to_owned())]);
        KwokCloud::with_store(Box::new(memory.clone()), Settings { boot_delay, node_labels, ..Settings::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn the_contract_holds_before_and_after_the_boot() {
        for seconds in [0, 30] {
            let boot_delay = Duration::from_secs(seconds);
            let cloud = cloud(&Memory::default(), boot_delay);
            conformance::run(&cloud, &Bed { boot_delay }).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_comes_after_the_delay_and_says_what_was_asked() {
        let memory = Memory::default();
        let cloud = cloud(&memory, Duration::from_secs(30));
        let machine = cloud.launch(&request("a", "uid-a")).await.unwrap();
        assert_eq!(machine.state, MachineState::Pending);
        sleep(Duration::from_secs(29)).await;
        assert!(lock(&memory.nodes).is_empty());
        sleep(Duration::from_secs(2)).await;

        let node = lock(&memory.nodes)["a"].clone();
        let (labels, annotations) = (node.metadata.labels.unwrap(), node.metadata.annotations.unwrap());
        assert_eq!((labels["team"].as_str(), labels["alive"].as_str()), ("core", "true"));
        assert_eq!(labels["karpenter.sh/nodepool"], "default");
        let described =
            ["cpu", "memory", "family", "size"].map(|what| &labels[&format!("karpenter.kwok.sh/instance-{what}")]);
        assert_eq!(described, ["16", "32Gi", "c", "16"]);
        assert_eq!(annotations["kwok.x-k8s.io/node"], "fake");
        assert_eq!(node.spec.as_ref().unwrap().provider_id.as_deref(), Some("kwok://a"));
        let taints = node.spec.unwrap().taints.unwrap();
        let taints: Vec<String> = taints.iter().map(|taint| format!("{}:{}", taint.key, taint.effect)).collect();
        assert_eq!(taints, ["gpu:NoSchedule", "karpenter.sh/unregistered:NoExecute"]);
        assert_eq!(node.status.unwrap().capacity.unwrap()["pods"].0, "7");

        // A process that starts now knows the machine from its Node alone.
        let later = KwokCloud::with_store(Box::new(memory), Settings::default());
        let found = later.launch(&request("a", "uid-a")).await.unwrap();
        assert_eq!(found.state, MachineState::Running);
        assert_eq!((found.capacity, found.allocatable), (machine.capacity, machine.allocatable));
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_of_a_class_counts_before_that_of_the_program() {
        let memory = Memory::default();
        let cloud = cloud(&memory, Duration::from_secs(30));
        let slow = LaunchRequest { class: class("1m30s"), ..request("slow", "uid-slow") };
        let quick = LaunchRequest { class: class("0s"), ..request("quick", "uid-quick") };
        cloud.launch(&slow).await.unwrap();
        cloud.launch(&quick).await.unwrap();
        let registered = || lock(&memory.nodes).keys().cloned().collect::<Vec<_>>();
        sleep(Duration::from_secs(89)).await;
        assert_eq!(registered(), ["quick"]);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(registered(), ["quick", "slow"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_catalogue_is_all_that_can_be_rented() {
        let mut types = generic_types(&["rack-1"]);
        types.retain(|it| it.name == "s-4x-amd64-linux");
        let settings = Settings { types, ..Settings::default() };
        let cloud = KwokCloud::with_store(Box::new(Memory::default()), settings);
        let offered = cloud.instance_types(&class("0s"), &Value::Null).await.unwrap();
        assert_eq!(offered.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["s-4x-amd64-linux"]);
        let refused = cloud.launch(&request("a", "uid-a")).await;
        assert!(matches!(refused, Err(CloudError::InsufficientCapacity { .. })), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_terminated_before_it_booted_never_registers() {
        let memory = Memory::default();
        let cloud = cloud(&memory, Duration::from_secs(30));
        let machine = cloud.launch(&request("a", "uid-a")).await.unwrap();
        cloud.terminate(&machine.provider_id).await.unwrap();
        sleep(Duration::from_mins(1)).await;
        assert!(lock(&memory.nodes).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminated_machine_is_gone_though_a_finalizer_keeps_its_node() {
        let memory = Memory::default();
        let cloud = cloud(&memory, Duration::ZERO);
        let machine = cloud.launch(&request("a", "uid-a")).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        *lock(&memory.held) = true;
        cloud.terminate(&machine.provider_id).await.unwrap();
        assert_eq!(lock(&memory.nodes).len(), 1);
        assert!(matches!(cloud.get(&machine.provider_id).await, Err(CloudError::NotFound)));
        assert!(cloud.list().await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_in_use_by_another_claim_is_not_taken() {
        let cloud = cloud(&Memory::default(), Duration::ZERO);
        cloud.launch(&request("a", "uid-a")).await.unwrap();
        assert!(matches!(cloud.launch(&request("a", "uid-b")).await, Err(CloudError::Unavailable(_))));
    }
}
