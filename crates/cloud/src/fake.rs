//! A provider in memory that can be made to fail.
//!
//! It keeps every promise of the port, and a test arranges the world behind it: pools that are sold out, throttling, a
//! process that dies between the vendor's grant and the caller's note of it, machines that vanish by themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use requirements::labels::{CAPACITY_TYPE, ZONE};
use scheduling::{InstanceType, OfferingKey};

use crate::catalogue::{GENERIC_ZONES, generic_types};
use crate::{CloudError, CloudProvider, LaunchRequest, Machine, MachineState, NodeClass};

/// Something that goes wrong at the next launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchFault {
    /// The call is refused and nothing is rented.
    Throttled(Duration),
    /// The call fails and nothing is rented.
    Unavailable,
    /// The machine is rented, but the answer is lost: as after a crash between launch and record.
    LostAnswer,
}

/// The provider. Clones are the same world.
#[derive(Debug, Clone)]
pub struct FakeCloud {
    world: Arc<Mutex<World>>,
}

#[derive(Debug)]
struct World {
    types: Arc<[InstanceType]>,
    machines: BTreeMap<String, Machine>,
    next_id: u64,
    now: jiff::Timestamp,
    boot_at_once: bool,
    sold_out: BTreeSet<OfferingKey>,
    faults: VecDeque<LaunchFault>,
    misconfigured: BTreeMap<String, String>,
    calls: BTreeMap<&'static str, usize>,
}

impl Default for FakeCloud {
    fn default() -> Self {
        Self::new(generic_types(&GENERIC_ZONES))
    }
}

impl FakeCloud {
    /// A world with these types, all in stock, at the beginning of time.
    pub fn new(types: Vec<InstanceType>) -> Self {
        let world = World {
            types: types.into(),
            machines: BTreeMap::new(),
            next_id: 1,
            now: jiff::Timestamp::UNIX_EPOCH,
            boot_at_once: true,
            sold_out: BTreeSet::new(),
            faults: VecDeque::new(),
            misconfigured: BTreeMap::new(),
            calls: BTreeMap::new(),
        };
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// Sets the vendor's clock, which `launched_at` is read from.
    pub fn set_now(&self, now: jiff::Timestamp) {
        self.lock().now = now;
    }

    /// Whether machines run and stop at once (the default), or stay `Pending` and `Stopping` until [`Self::settle`].
    pub fn set_boot_at_once(&self, at_once: bool) {
        self.lock().boot_at_once = at_once;
    }

    /// Lets pending machines run and stopping ones go.
    pub fn settle(&self) {
        let mut world = self.lock();
        world.machines.retain(|_, machine| machine.state != MachineState::Stopping);
        for machine in world.machines.values_mut() {
            machine.state = MachineState::Running;
        }
    }

    /// Empties a pool, or fills it again.
    pub fn set_sold_out(&self, key: OfferingKey, sold_out: bool) {
        let mut world = self.lock();
        if sold_out {
            world.sold_out.insert(key);
        } else {
            world.sold_out.remove(&key);
        }
    }

    /// Queues a fault: each launch that would rent a machine takes one from the front.
    pub fn fail_next_launch(&self, fault: LaunchFault) {
        self.lock().faults.push_back(fault);
    }

    /// Makes the class of this name unusable for the reason given, or usable again.
    pub fn set_misconfigured(&self, class_name: &str, what: Option<&str>) {
        let mut world = self.lock();
        match what {
            Some(what) => world.misconfigured.insert(class_name.to_owned(), what.to_owned()),
            None => world.misconfigured.remove(class_name),
        };
    }

    /// Takes a machine away as if somebody had done so in the vendor's console. `false` if it was not there.
    pub fn vanish(&self, provider_id: &str) -> bool {
        self.lock().machines.remove(provider_id).is_some()
    }

    /// Adds a machine nobody asked for, as a crash of an older version might have left one.
    pub fn plant(&self, machine: Machine) {
        self.lock().machines.insert(machine.provider_id.clone(), machine);
    }

    /// Every machine that is not gone.
    pub fn machines(&self) -> Vec<Machine> {
        self.lock().machines.values().cloned().collect()
    }

    /// How often a method of the port was called, by its name.
    pub fn calls(&self, method: &str) -> usize {
        self.lock().calls.get(method).copied().unwrap_or(0)
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        // A panic in another test thread leaves plain data behind, nothing half-done.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, method: &'static str) -> MutexGuard<'_, World> {
        let mut world = self.lock();
        *world.calls.entry(method).or_default() += 1;
        world
    }
}

impl World {
    fn check(&self, class: &NodeClass) -> Result<(), CloudError> {
        self.misconfigured.get(&class.name).map_or(Ok(()), |what| Err(CloudError::Misconfigured { what: what.clone() }))
    }

    fn launch(&mut self, request: &LaunchRequest) -> Result<Machine, CloudError> {
        self.check(&request.class)?;
        let of_claim = |machine: &&Machine| machine.claim_uid.as_deref() == Some(request.claim_uid.as_str());
        if let Some(machine) = self.machines.values().find(of_claim) {
            return Ok(machine.clone());
        }
        let fault = self.faults.pop_front();
        match &fault {
            Some(LaunchFault::Throttled(retry_after)) => {
                return Err(CloudError::Throttled { retry_after: *retry_after });
            }
            Some(LaunchFault::Unavailable) => return Err(CloudError::unavailable("injected")),
            Some(LaunchFault::LostAnswer) | None => {}
        }
        let keys = request.offering_keys();
        let Some(key) = keys.iter().find(|key| !self.sold_out.contains(key)) else {
            return Err(CloudError::InsufficientCapacity { offerings: keys, why: String::new() });
        };
        let found = self.types.iter().find(|it| it.name == key.instance_type).cloned();
        let Some(instance_type) = found else {
            return Err(CloudError::InsufficientCapacity { offerings: vec![key.clone()], why: String::new() });
        };
        let mut labels = instance_type.requirements.single_values();
        labels.insert(ZONE.to_owned(), key.zone.clone());
        labels.insert(CAPACITY_TYPE.to_owned(), key.capacity_type.to_string());
        let machine = Machine {
            provider_id: format!("fake:///{}/m-{:06}", key.zone, self.next_id),
            claim_name: Some(request.claim_name.clone()),
            claim_uid: Some(request.claim_uid.clone()),
            instance_type: key.instance_type.clone(),
            zone: key.zone.clone(),
            capacity_type: key.capacity_type,
            image_id: None,
            state: if self.boot_at_once { MachineState::Running } else { MachineState::Pending },
            launched_at: Some(self.now),
            allocatable: instance_type.allocatable(),
            capacity: instance_type.capacity,
            labels,
        };
        self.next_id += 1;
        self.machines.insert(machine.provider_id.clone(), machine.clone());
        if fault == Some(LaunchFault::LostAnswer) {
            return Err(CloudError::unavailable("injected: the answer was lost"));
        }
        Ok(machine)
    }
}

#[async_trait]
impl CloudProvider for FakeCloud {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn instance_types(
        &self,
        class: &NodeClass,
        _kubelet: &serde_json::Value,
    ) -> Result<Arc<[InstanceType]>, CloudError> {
        let world = self.called("instance_types");
        world.check(class)?;
        if world.sold_out.is_empty() {
            return Ok(Arc::clone(&world.types));
        }
        let mut types = world.types.to_vec();
        for it in &mut types {
            for offering in &mut it.offerings {
                let key = OfferingKey {
                    instance_type: it.name.clone(),
                    zone: offering.zone.clone(),
                    capacity_type: offering.capacity_type,
                };
                offering.available = !world.sold_out.contains(&key);
            }
        }
        Ok(types.into())
    }

    async fn validate(&self, class: &NodeClass) -> Result<(), CloudError> {
        self.called("validate").check(class)
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine, CloudError> {
        self.called("launch").launch(request)
    }

    async fn get(&self, provider_id: &str) -> Result<Machine, CloudError> {
        self.called("get").machines.get(provider_id).cloned().ok_or(CloudError::NotFound)
    }

    async fn list(&self) -> Result<Vec<Machine>, CloudError> {
        Ok(self.called("list").machines.values().cloned().collect())
    }

    async fn terminate(&self, provider_id: &str) -> Result<(), CloudError> {
        let mut world = self.called("terminate");
        if world.boot_at_once {
            return world.machines.remove(provider_id).map(|_| ()).ok_or(CloudError::NotFound);
        }
        let machine = world.machines.get_mut(provider_id).ok_or(CloudError::NotFound)?;
        machine.state = MachineState::Stopping;
        Ok(())
    }

    async fn clean(&self, _live_classes: &[NodeClass]) -> Result<(), CloudError> {
        drop(self.called("clean"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use scheduling::{PoolKey, PoolKind, PricedOffering};
    use serde_json::Value;
    use units::ResourceList;

    use super::*;
    use crate::conformance::{self, Harness};

    struct InMemory(FakeCloud);

    fn class(name: &str) -> NodeClass {
        NodeClass {
            group: "example.com".to_owned(),
            kind: "FakeClass".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            spec: Value::Null,
        }
    }

    #[async_trait]
    impl Harness for InMemory {
        fn request(&self, claim_name: &str, claim_uid: &str) -> LaunchRequest {
            let types = generic_types(&GENERIC_ZONES);
            let offerings = types[0]
                .offerings
                .iter()
                .map(|offering| PricedOffering {
                    key: OfferingKey {
                        instance_type: types[0].name.clone(),
                        zone: offering.zone.clone(),
                        capacity_type: offering.capacity_type,
                    },
                    price: offering.price,
                })
                .collect();
            LaunchRequest {
                claim_name: claim_name.to_owned(),
                claim_uid: claim_uid.to_owned(),
                pool: PoolKey { kind: PoolKind::NodePool, name: "default".to_owned() },
                class: class("good"),
                offerings,
                labels: BTreeMap::new(),
                taints: Vec::new(),
                startup_taints: Vec::new(),
                kubelet: Value::Null,
                requests: ResourceList::new(),
            }
        }

        fn misconfigured(&self) -> Vec<(NodeClass, &'static str)> {
            self.0.set_misconfigured("bad", Some("spec.image: no image matches"));
            vec![(class("bad"), "spec.image")]
        }

        async fn set_sold_out(&self, offerings: &[OfferingKey], sold_out: bool) -> bool {
            for key in offerings {
                self.0.set_sold_out(key.clone(), sold_out);
            }
            true
        }

        async fn settle(&self) {
            self.0.settle();
        }
    }

    #[tokio::test]
    async fn the_fake_keeps_the_contract_with_and_without_delays() {
        for at_once in [true, false] {
            let cloud = FakeCloud::default();
            cloud.set_boot_at_once(at_once);
            conformance::run(&cloud, &InMemory(cloud.clone())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_a_machine_that_the_next_launch_finds() {
        let cloud = FakeCloud::default();
        let request = InMemory(cloud.clone()).request("a", "uid-a");
        cloud.fail_next_launch(LaunchFault::LostAnswer);
        assert!(matches!(cloud.launch(&request).await, Err(CloudError::Unavailable(_))));
        let [planted] = cloud.machines().try_into().expect("one machine");
        assert_eq!(cloud.launch(&request).await.expect("finds it"), planted);
        assert_eq!(cloud.calls("launch"), 2);
    }

    #[tokio::test]
    async fn the_contract_catches_a_provider_that_rents_twice() {
        #[derive(Debug)]
        struct Forgetful(FakeCloud);
        #[async_trait]
        impl CloudProvider for Forgetful {
            fn name(&self) -> &'static str {
                "forgetful"
            }
            async fn instance_types(
                &self,
                class: &NodeClass,
                kubelet: &Value,
            ) -> Result<Arc<[InstanceType]>, CloudError> {
                self.0.instance_types(class, kubelet).await
            }
            async fn validate(&self, class: &NodeClass) -> Result<(), CloudError> {
                self.0.validate(class).await
            }
            async fn launch(&self, request: &LaunchRequest) -> Result<Machine, CloudError> {
                let mut fresh = request.clone();
                fresh.claim_uid = format!("{}-{}", request.claim_uid, self.0.calls("launch"));
                let mut machine = self.0.launch(&fresh).await?;
                machine.claim_uid = Some(request.claim_uid.clone());
                Ok(machine)
            }
            async fn get(&self, provider_id: &str) -> Result<Machine, CloudError> {
                self.0.get(provider_id).await
            }
            async fn list(&self) -> Result<Vec<Machine>, CloudError> {
                self.0.list().await
            }
            async fn terminate(&self, provider_id: &str) -> Result<(), CloudError> {
                self.0.terminate(provider_id).await
            }
            async fn clean(&self, live: &[NodeClass]) -> Result<(), CloudError> {
                self.0.clean(live).await
            }
        }
        let cloud = FakeCloud::default();
        let violation = conformance::run(&Forgetful(cloud.clone()), &InMemory(cloud)).await.unwrap_err();
        assert_eq!(violation.clause, "asking twice for one claim UID rents one machine");
    }
}
