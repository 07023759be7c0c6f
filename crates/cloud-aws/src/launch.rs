//! One machine for one claim.
//!
//! ```text
//!  known to this process? ── yes ─► that one
//!          │ no
//!  tagged with the claim's UID? ── yes ─► that one          (a crash between launch and record ends here)
//!          │ no
//!  offerings ─► subnets, images, templates ─► CreateFleet, its client token made of the UID
//!          │                                        │
//!          └──── token was used with other          └─► machine, or why not, offering by offering
//!                parameters: look by tag again,
//!                until EC2 must list its machine
//! ```

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest, FleetType, OnDemandOptionsRequest, ResourceType,
    SpotOptionsRequest, TagSpecification, TargetCapacitySpecificationRequest,
};
use cloud::{CloudError, LaunchRequest, Machine, MachineState};
use requirements::labels::CAPACITY_TYPE;
use scheduling::{CapacityType, OfferingKey, Taint};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::account::{Account, Catalogue, lock};
use crate::capacity;
use crate::class::{Class, Generation};
use crate::errors::{CallError, Failure, Field, not_allowed};
use crate::fleet::{self, Outcome, Override};
use crate::images::Variant;
use crate::kubelet::Kubelet;
use crate::labels::kubelet_accepts;
use crate::machine;
use crate::recent::Earlier;
use crate::selectors::filter;
use crate::template::{self, Content};
use crate::user_data::{self, Boot};

/// Tries of one launch: a template that vanished, a client token that was used up. More than that is trouble to report.
const TRIES: usize = 3;

/// A launch under way.
struct Launch<'a> {
    account: &'a Account,
    request: &'a LaunchRequest,
    class: Class,
    kubelet: Kubelet,
    catalogue: Arc<Catalogue>,
}

/// What a try led to.
enum Step {
    Done(Box<Machine>),
    Again,
}

/// Launches, or finds what was launched before.
pub(crate) async fn launch(account: &Account, request: &LaunchRequest) -> Result<Machine, CloudError> {
    let class = Class::parse(&request.class)?;
    let kubelet = Kubelet::parse(class.kubelet(&request.kubelet))?;
    let catalogue = account.catalogue().await?;
    let launch = Launch { account, request, class, kubelet, catalogue };
    if let Some(machine) = launch.known().await? {
        return Ok(machine);
    }
    for _ in 0..TRIES {
        if let Step::Done(machine) = launch.attempt().await? {
            return Ok(*machine);
        }
    }
    Err(CloudError::unavailable(format!("{TRIES} tries to launch ended with a reason to try again")))
}

impl Launch<'_> {
    /// The claim's machine, if there is one.
    async fn known(&self) -> Result<Option<Machine>, CloudError> {
        let now = Instant::now();
        if let Some(machine) = lock(&self.account.recent).of_claim(&self.request.claim_uid, now) {
            return Ok(Some(machine.clone()));
        }
        // No two claims have one UID, not even in clusters of one name: a machine tagged with it is this claim's, also when
        // an earlier version launched it without the cluster's UID.
        let wanted = vec![
            filter(&format!("tag:{}", machine::UID_TAG), [self.request.claim_uid.clone()]),
            filter(&format!("tag:{}", machine::cluster_tag(&self.account.settings.cluster_name)), ["owned".to_owned()]),
            // A stopped machine is still rented, and still the claim's.
            filter("instance-state-name", ["pending", "running", "stopping", "stopped"].map(str::to_owned)),
        ];
        let found = self.account.aws.instances(wanted).await.map_err(|error| self.told(error))?;
        let mut machines: Vec<Machine> =
            found.iter().filter_map(|it| machine::read(it, &self.catalogue.types, &self.account.region)).collect();
        machines.sort_by(|a, b| a.provider_id.cmp(&b.provider_id));
        if machines.len() > 1 {
            warn!(claim = %self.request.claim_name, machines = machines.len(), "a claim has several machines");
        }
        Ok(machines.into_iter().next().map(|found| {
            info!(claim = %self.request.claim_name, machine = %found.provider_id, "found the machine of an earlier launch");
            self.completed(found)
        }))
    }

    /// Adds what follows from type and class to what EC2 says of a machine.
    fn completed(&self, mut found: Machine) -> Machine {
        if let Some(info) = self.catalogue.types.get(&found.instance_type) {
            let settings = &self.account.settings;
            let resources = capacity::resources(info, &self.class, &self.kubelet, settings);
            let pods = capacity::max_pods(info, &self.class, &self.kubelet, settings);
            found.allocatable = resources.capacity.saturating_sub(&resources.overhead);
            found.capacity = resources.capacity;
            let key = OfferingKey {
                instance_type: found.instance_type.clone(),
                zone: found.zone.clone(),
                capacity_type: found.capacity_type,
            };
            let labels = machine::labels(Some(info), &key, &self.account.region, self.class.generation, pods);
            found.labels.extend(labels);
        }
        found
    }

    async fn attempt(&self) -> Result<Step, CloudError> {
        let (subnets, templates) = (self.account.subnets(&self.class).await?, BTreeMap::new());
        let asked = {
            let (keys, unavailable, now) = (self.choose()?, self.account.unavailable(), Instant::now());
            fleet::place(&keys, &subnets, |id| unavailable.is_full(id, now))
        };
        if asked.is_empty() {
            return Err(self.nothing_left("no subnet of the class has free addresses in a zone of these"));
        }
        let (groups, images) = self.templates(&asked, templates).await?;
        let asked: Vec<Override> = groups.values().flatten().cloned().collect();
        match self.create_fleet(&groups).await {
            Ok(answer) => self.answered(&answer, &asked, &groups, &images).await,
            Err(error) => self.refused(error, &asked, &groups).await,
        }
    }

    fn choose(&self) -> Result<Vec<OfferingKey>, CloudError> {
        let unavailable = self.account.unavailable();
        let now = Instant::now();
        let types = &self.catalogue.types;
        let chosen = fleet::choose(
            &self.request.offerings,
            |key| types.get(&key.instance_type).is_some_and(|info| unavailable.allows(key, info, now)),
            |name| types.get(name).is_some_and(crate::type_info::TypeInfo::is_exotic),
        );
        if chosen.is_empty() {
            return Err(self.nothing_left("each was refused a short while ago, or EC2 does not know it"));
        }
        Ok(chosen)
    }

    /// None of the offerings can be asked for.
    fn nothing_left(&self, why: &str) -> CloudError {
        CloudError::InsufficientCapacity { offerings: self.request.offering_keys(), why: why.to_owned() }
    }

    /// The overrides by the template each needs, and the image of each template. Makes templates that are not there.
    async fn templates(
        &self,
        asked: &[Override],
        mut groups: BTreeMap<String, Vec<Override>>,
    ) -> Result<(BTreeMap<String, Vec<Override>>, BTreeMap<String, String>), CloudError> {
        let mut images = BTreeMap::new();
        if let Some(own) = &self.class.launch_template {
            groups.insert(own.clone(), asked.to_vec());
            return Ok((groups, images));
        }
        let security_groups = self.account.security_groups(&self.class).await?;
        let mut without_image = Vec::new();
        let mut names: BTreeMap<(String, i64), String> = BTreeMap::new();
        for it in asked {
            let Some(info) = self.catalogue.types.get(&it.key.instance_type) else { continue };
            let Some(image_id) = self.account.image(&self.class, Variant::of(info)).await? else {
                without_image.push(it.key.instance_type.as_str());
                continue;
            };
            let max_pods = capacity::max_pods(info, &self.class, &self.kubelet, &self.account.settings);
            let sort = (image_id.clone(), max_pods);
            let name = if let Some(name) = names.get(&sort) {
                name.clone()
            } else {
                let content = self.content(&image_id, max_pods, &security_groups, it.key.capacity_type)?;
                let name = content.name();
                self.ensure(&name, &content).await?;
                names.insert(sort, name.clone());
                name
            };
            images.insert(name.clone(), image_id);
            groups.entry(name).or_default().push(it.clone());
        }
        if groups.is_empty() {
            return Err(no_image(&self.class, &self.account.settings.kubernetes_version, &without_image));
        }
        Ok((groups, images))
    }

    fn content(
        &self,
        image_id: &str,
        max_pods: i64,
        security_groups: &[String],
        capacity_type: CapacityType,
    ) -> Result<Content, CloudError> {
        let settings = &self.account.settings;
        let mut labels: BTreeMap<String, String> = self
            .request
            .labels
            .iter()
            .filter(|(key, _)| kubelet_accepts(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        labels.insert(CAPACITY_TYPE.to_owned(), capacity_type.to_string());
        let taints: Vec<&Taint> = self.request.taints.iter().chain(&self.request.startup_taints).collect();
        let boot =
            Boot { class: &self.class, kubelet: &self.kubelet, settings, labels: &labels, taints: &taints, max_pods };
        Ok(Content {
            cluster: settings.cluster_name.clone(),
            class_uid: self.request.class.uid.clone(),
            image_id: image_id.to_owned(),
            profile: profile(&self.class, self.account)?.to_owned(),
            security_groups: security_groups.to_vec(),
            user_data: user_data::render(&boot)?,
            class: self.class.clone(),
            tags: machine::shared_tags(&self.class, &self.request.class.name, settings),
        })
    }

    async fn ensure(&self, name: &str, content: &Content) -> Result<(), CloudError> {
        if !lock(&self.account.recent).template_in_use(name, Instant::now()) {
            match self.account.aws.create_template(name, content).await {
                Ok(()) => info!(template = name, class = %self.request.class.name, "made a launch template"),
                Err(error) if error.failure == Failure::AlreadyExists => {}
                Err(error) => return Err(self.told(error)),
            }
        }
        lock(&self.account.recent).template_used(name, Instant::now());
        Ok(())
    }

    async fn create_fleet(&self, groups: &BTreeMap<String, Vec<Override>>) -> Result<CreateFleetOutput, CallError> {
        let spot = groups.values().flatten().any(|it| it.key.capacity_type == CapacityType::Spot);
        // A person says (NodeOverlay) that something costs more or less than AWS believes: then ours is the order.
        let told_otherwise =
            self.request.offerings.iter().any(|it| self.account.price(&it.key).is_some_and(|price| price != it.price));
        // Priorities mean something to such strategies alone.
        let prioritized = told_otherwise || spot && self.class.generation == Generation::V1Alpha5;
        let order: BTreeMap<&OfferingKey, usize> =
            self.request.offerings.iter().enumerate().map(|(index, it)| (&it.key, index)).collect();
        let configs: Vec<FleetLaunchTemplateConfigRequest> =
            groups.iter().map(|(name, overrides)| fleet::config(name, overrides, &order, prioritized)).collect();
        let tags = template::tags(&machine::tags(self.request, &self.class, &self.account.settings));
        let tagged = |kind| TagSpecification::builder().resource_type(kind).set_tags(Some(tags.clone())).build();
        let attempts = lock(&self.account.recent).attempts(&self.request.claim_uid);
        let (strategy, on_demand) = fleet::strategies(prioritized, told_otherwise);
        let capacity =
            TargetCapacitySpecificationRequest::builder().total_target_capacity(1).default_target_capacity_type(
                if spot { DefaultTargetCapacityType::Spot } else { DefaultTargetCapacityType::OnDemand },
            );
        self.account
            .aws
            .create_fleet(|call| {
                let call = call
                    .client_token(client_token(&self.request.claim_uid, attempts))
                    .r#type(FleetType::Instant)
                    .set_launch_template_configs(Some(configs))
                    .target_capacity_specification(capacity.build())
                    .set_context(self.class.context.clone())
                    .tag_specifications(tagged(ResourceType::Instance))
                    .tag_specifications(tagged(ResourceType::Fleet));
                if spot {
                    call.spot_options(SpotOptionsRequest::builder().allocation_strategy(strategy).build())
                } else {
                    call.on_demand_options(OnDemandOptionsRequest::builder().allocation_strategy(on_demand).build())
                }
            })
            .await
    }

    /// The whole call failed.
    async fn refused(
        &self,
        error: CallError,
        asked: &[Override],
        groups: &BTreeMap<String, Vec<Override>>,
    ) -> Result<Step, CloudError> {
        match error.failure {
            Failure::TemplateNotFound => self.template_missing(groups),
            Failure::TokenUsed => {
                if let Some(found) = self.known().await? {
                    return Ok(Step::Done(Box::new(found)));
                }
                self.earlier_launch()
            }
            Failure::NoCapacity | Failure::Quota | Failure::NoAddresses => {
                let offerings: Vec<OfferingKey> = asked.iter().map(|it| it.key.clone()).collect();
                if error.failure == Failure::NoAddresses {
                    self.mark_full(asked.iter().map(|it| it.subnet_id.clone()));
                } else {
                    self.mark(&offerings);
                }
                self.account.forget_subnets(&self.class).await;
                Err(CloudError::InsufficientCapacity { offerings, why: error.chain() })
            }
            _ => Err(self.told(error)),
        }
    }

    /// An earlier launch for the claim was accepted, and no machine of it is listed. Launching again could rent a second
    /// one, so its token is given up only when EC2 would list the first.
    fn earlier_launch(&self) -> Result<Step, CloudError> {
        let (claim_uid, now) = (&self.request.claim_uid, Instant::now());
        let mut recent = lock(&self.account.recent);
        let token = client_token(claim_uid, recent.attempts(claim_uid));
        match recent.token_used(&token, now) {
            Earlier::Open { left } => Err(CloudError::unavailable(format!(
                "an earlier launch for this claim may have rented a machine that EC2 does not list yet; if none is listed in \
                 {} s, there is none",
                left.as_secs()
            ))),
            Earlier::Empty => {
                recent.came_to_nothing(claim_uid, now);
                Ok(Step::Again)
            }
        }
    }

    async fn answered(
        &self,
        answer: &CreateFleetOutput,
        asked: &[Override],
        groups: &BTreeMap<String, Vec<Override>>,
        images: &BTreeMap<String, String>,
    ) -> Result<Step, CloudError> {
        let outcome = fleet::read(answer, asked);
        self.mark(&outcome.refused);
        self.mark_quota(&outcome.over_quota);
        self.mark_full(outcome.full_subnets.iter().cloned());
        if !outcome.full_subnets.is_empty() || outcome.launched.is_some() {
            // Free addresses have changed.
            self.account.forget_subnets(&self.class).await;
        }
        if !outcome.surplus.is_empty() {
            warn!(instances = ?outcome.surplus, "CreateFleet started more than was asked for");
            self.account.aws.terminate(outcome.surplus.clone()).await.map_err(|error| self.told(error))?;
        }
        if let Some((id, key, _)) = &outcome.launched {
            let template = groups.iter().find(|(_, overrides)| overrides.iter().any(|it| it.key == *key));
            let image_id = template.and_then(|(name, _)| images.get(name)).cloned();
            let machine = self.completed(self.fresh(id, key, image_id));
            lock(&self.account.recent).launched(machine.clone(), Instant::now());
            info!(claim = %self.request.claim_name, machine = %machine.provider_id, offering = %key, "launched");
            return Ok(Step::Done(Box::new(machine)));
        }
        lock(&self.account.recent).came_to_nothing(&self.request.claim_uid, Instant::now());
        self.nothing_launched(outcome, asked, groups)
    }

    fn nothing_launched(
        &self,
        outcome: Outcome,
        asked: &[Override],
        groups: &BTreeMap<String, Vec<Override>>,
    ) -> Result<Step, CloudError> {
        if outcome.template_missing {
            return self.template_missing(groups);
        }
        let offerings: Vec<OfferingKey> = outcome.refused.into_iter().chain(outcome.without_address).collect();
        if !offerings.is_empty() {
            return Err(CloudError::InsufficientCapacity { offerings, why: outcome.said });
        }
        if let Some((field, message)) = outcome.mistake {
            if field == Field::Permissions {
                return Err(not_allowed("CreateFleet", &message));
            }
            return Err(self.class.misconfigured(field, message));
        }
        if outcome.throttled {
            return Err(CloudError::Throttled { retry_after: crate::errors::THROTTLE_PAUSE });
        }
        if !outcome.others.is_empty() {
            return Err(CloudError::unavailable(outcome.others.join("; ")));
        }
        // No instance and no reason: EC2 found nothing, and says no more.
        let offerings: Vec<OfferingKey> = asked.iter().map(|it| it.key.clone()).collect();
        self.mark(&offerings);
        Err(CloudError::InsufficientCapacity { offerings, why: "EC2 started nothing and gives no reason".to_owned() })
    }

    fn template_missing(&self, groups: &BTreeMap<String, Vec<Override>>) -> Result<Step, CloudError> {
        if let Some(own) = &self.class.launch_template {
            return Err(self.class.misconfigured(Field::LaunchTemplate, format!("there is no launch template {own}")));
        }
        let mut recent = lock(&self.account.recent);
        for name in groups.keys() {
            recent.template_gone(name);
        }
        Ok(Step::Again)
    }

    fn mark(&self, refused: &[OfferingKey]) {
        let now = Instant::now();
        let mut unavailable = self.account.unavailable();
        for key in refused {
            unavailable.mark(key.clone(), now);
        }
    }

    fn mark_full(&self, subnets: impl Iterator<Item = String>) {
        let now = Instant::now();
        let mut unavailable = self.account.unavailable();
        subnets.for_each(|id| unavailable.mark_full(id, now));
    }

    fn mark_quota(&self, over: &[OfferingKey]) {
        let now = Instant::now();
        let mut unavailable = self.account.unavailable();
        for key in over {
            if let Some(info) = self.catalogue.types.get(&key.instance_type) {
                unavailable.mark_quota(info, key.capacity_type, now);
            }
        }
    }

    /// The machine as CreateFleet's answer tells it; EC2's lists will know it soon.
    fn fresh(&self, id: &str, key: &OfferingKey, image_id: Option<String>) -> Machine {
        Machine {
            provider_id: machine::provider_id(&key.zone, id),
            claim_name: Some(self.request.claim_name.clone()),
            claim_uid: Some(self.request.claim_uid.clone()),
            instance_type: key.instance_type.clone(),
            zone: key.zone.clone(),
            capacity_type: key.capacity_type,
            image_id,
            state: MachineState::Pending,
            launched_at: Some(jiff::Timestamp::now()),
            capacity: units::ResourceList::new(),
            allocatable: units::ResourceList::new(),
            labels: BTreeMap::from([(self.request.pool.kind.label().to_owned(), self.request.pool.name.clone())]),
        }
    }

    fn told(&self, error: CallError) -> CloudError {
        error.into_cloud(|field| self.class.path(field))
    }
}

/// The profile of a class's machines.
pub(crate) fn profile<'a>(class: &'a Class, account: &'a Account) -> Result<&'a str, CloudError> {
    class
        .profile
        .as_deref()
        .or(account.settings.default_instance_profile.as_deref())
        .ok_or_else(|| class.misconfigured(Field::InstanceProfile, "is required, as the controller has no default"))
}

/// No image for any of these types.
pub(crate) fn no_image(class: &Class, kubernetes_version: &str, types: &[&str]) -> CloudError {
    let types: HashSet<&&str> = types.iter().collect();
    let mut types: Vec<&str> = types.into_iter().copied().collect();
    types.sort_unstable();
    types.truncate(5);
    let field = match class.images {
        crate::class::Images::Alias { .. } if class.generation == Generation::V1Alpha5 => Field::ImageFamily,
        _ => Field::Image,
    };
    let of = if types.is_empty() { String::new() } else { format!(" for {}", types.join(", ")) };
    class.misconfigured(
        field,
        format!("no {} image{of} was found for Kubernetes {kubernetes_version}", class.family.name()),
    )
}

/// The client token of the n-th launch for a claim: the claim's UID, so that a repeated call starts nothing new. A
/// token whose launch is known to have come to nothing is spent, and the next has a number.
fn client_token(claim_uid: &str, attempts: u32) -> String {
    match attempts {
        0 => claim_uid.to_owned(),
        attempts => format!("{claim_uid}-{attempts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_asks_with_its_uid_until_that_is_known_to_be_spent() {
        let uid = "7b2f3a10-0000-4000-8000-000000000001";
        assert_eq!(client_token(uid, 0), uid);
        assert_eq!(client_token(uid, 2), format!("{uid}-2"));
        assert!(client_token(uid, u32::MAX).len() <= 64, "EC2's limit");
    }
}
