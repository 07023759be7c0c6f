//! The port, on EC2.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use cloud::{CloudError, CloudProvider, LaunchRequest, Machine, MachineState, NodeClass};
use scheduling::InstanceType;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::info;

use crate::account::{Account, lock};
use crate::aws::Aws;
use crate::batch::Batcher;
use crate::class::Class;
use crate::errors::{CallError, Failure, Field};
use crate::images::{Accelerator, Variant};
use crate::kubelet::Kubelet;
use crate::launch;
use crate::limits::Limits;
use crate::machine::{self, CLUSTER_UID_TAG};
use crate::selectors::filter;
use crate::settings::Settings;
use crate::template::{CLASS_TAG, CLUSTER_TAG};
use crate::type_info::Arch;
use crate::user_data::{self, Boot};

/// Tries of one call by the SDK, with its own pauses, before the caller hears of it.
const TRIES: u32 = 3;

/// The longest one call may take with all its tries. The longest answer is the list of instance types.
const CALL: Duration = Duration::from_mins(1);

/// Instances in one DescribeInstances: EC2 takes 200 values in a filter.
const DESCRIBED_MAX: usize = 200;

/// Instances in one TerminateInstances. EC2 takes 1,000; Karpenter sends 500.
const TERMINATED_MAX: usize = 500;

/// Age at which a launch template of a live class is removed when nobody launched from it; a launch takes seconds, and
/// the next one makes the template again. Of a dead class the templates go sooner.
const TEMPLATE_AGE_SECONDS: i64 = 600;
const DEAD_TEMPLATE_AGE_SECONDS: i64 = 60;

/// A call's result for each of the instances it was about.
type Shared<T> = Result<T, Arc<CallError>>;

/// EC2 in one account and region, for one cluster.
///
/// Dropping it ends its background tasks.
#[derive(Debug)]
pub struct AwsCloud {
    account: Arc<Account>,
    described: Batcher<Shared<Option<Machine>>>,
    terminated: Batcher<Shared<()>>,
    prices: JoinHandle<()>,
}

/// Why there is no connection to AWS.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither environment, profile nor instance metadata names a region.
    #[error("no AWS region: set AWS_REGION")]
    NoRegion,
}

impl Drop for AwsCloud {
    fn drop(&mut self) {
        self.prices.abort();
    }
}

impl AwsCloud {
    /// Connects with the SDK's standard configuration: region, credentials and endpoint from the environment, a profile
    /// or the instance's metadata. Makes no call to EC2; begins to read prices.
    ///
    /// Must be called inside a tokio runtime.
    pub async fn connect(settings: Settings) -> Result<Self, ConnectError> {
        Self::with_config(&aws_config::defaults(BehaviorVersion::latest()).load().await, settings)
    }

    /// The same with a configuration of the caller's, whose retries and time-outs are replaced by ours.
    pub fn with_config(config: &SdkConfig, settings: Settings) -> Result<Self, ConnectError> {
        let timeouts = TimeoutConfig::builder().operation_timeout(CALL).connect_timeout(Duration::from_secs(5)).build();
        let config = config
            .to_builder()
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(timeouts)
            .build();
        let region = config.region().map(|region| region.as_ref().to_owned()).ok_or(ConnectError::NoRegion)?;
        let near = aws_sdk_pricing::config::Builder::from(&config).region(Region::new(pricing_region(&region))).build();
        let aws = Aws {
            ec2: aws_sdk_ec2::Client::new(&config),
            ssm: aws_sdk_ssm::Client::new(&config),
            pricing: aws_sdk_pricing::Client::from_conf(near),
            limits: Limits::new(),
        };
        let account = Arc::new(Account::new(aws, settings, region));
        let background = Arc::clone(&account);
        Ok(Self {
            described: describing(&account),
            terminated: terminating(&account),
            prices: tokio::spawn(async move { background.keep_prices().await }),
            account,
        })
    }

    fn told(error: CallError) -> CloudError {
        error.into_cloud(|_| "spec".to_owned())
    }
}

/// The Pricing API answers in a few regions only, each about all.
fn pricing_region(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("ap") => "ap-south-1",
        Some("eu") => "eu-central-1",
        Some("cn") => "cn-northwest-1",
        _ => "us-east-1",
    }
}

/// Looks up instances by filter, for an id that is not there would fail a call that names it.
fn describing(account: &Arc<Account>) -> Batcher<Shared<Option<Machine>>> {
    let account = Arc::clone(account);
    Batcher::start(DESCRIBED_MAX, move |ids| {
        let account = Arc::clone(&account);
        async move {
            let types = match account.catalogue().await {
                Ok(catalogue) => Some(catalogue),
                Err(error) => {
                    tracing::warn!(%error, "machines are shown without the labels of their types");
                    None
                }
            };
            let found = account.aws.instances(vec![filter("instance-id", ids.iter().cloned())]).await.map_err(Arc::new);
            let mut answers: HashMap<String, Shared<Option<Machine>>> =
                ids.into_iter().map(|id| (id, found.as_ref().map(|_| None).map_err(Arc::clone))).collect();
            let none = BTreeMap::new();
            for instance in found.into_iter().flatten() {
                let types = types.as_ref().map_or(&none, |catalogue| &catalogue.types);
                if let (Some(id), read) = (instance.instance_id(), machine::read(&instance, types, &account.region)) {
                    answers.insert(id.to_owned(), Ok(read));
                }
            }
            answers
        }
    })
}

/// Terminates instances together, and one by one when one of them may be what the call failed for: then EC2 ends none of those in
/// its zone, though it is not there, somebody protected it, or we may not end it.
fn terminating(account: &Arc<Account>) -> Batcher<Shared<()>> {
    let account = Arc::clone(account);
    Batcher::start(TERMINATED_MAX, move |ids| {
        let account = Arc::clone(&account);
        async move {
            let together = account.aws.terminate(ids.clone()).await.map_err(Arc::new);
            let for_one = |failure: &Failure| matches!(failure, Failure::NotFound | Failure::Misconfigured { .. });
            let failed_for_one = together.as_ref().is_err_and(|error| for_one(&error.failure));
            let mut answers = HashMap::new();
            if failed_for_one && ids.len() > 1 {
                for id in ids {
                    let answer = account.aws.terminate(vec![id.clone()]).await.map_err(Arc::new);
                    answers.insert(id, answer);
                }
            } else {
                answers.extend(ids.into_iter().map(|id| (id, together.clone())));
            }
            answers
        }
    })
}

#[async_trait]
impl CloudProvider for AwsCloud {
    fn name(&self) -> &'static str {
        "aws"
    }

    async fn instance_types(
        &self,
        class: &NodeClass,
        kubelet: &serde_json::Value,
    ) -> Result<Arc<[InstanceType]>, CloudError> {
        let class = Class::parse(class)?;
        let kubelet = Kubelet::parse(class.kubelet(kubelet))?;
        user_data::can_tell(class.family, &kubelet)?;
        Ok(Box::pin(self.account.offers(&class, &kubelet)).await?.into())
    }

    async fn validate(&self, class: &NodeClass) -> Result<(), CloudError> {
        let class = Class::parse(class)?;
        let kubelet = Kubelet::parse(&class.kubelet)?;
        self.account.subnets(&class).await?;
        if let Some(own) = &class.launch_template {
            let missing = || class.misconfigured(Field::LaunchTemplate, format!("there is no launch template {own}"));
            return match self.account.aws.templates(Some(own), Vec::new()).await {
                Ok(found) if found.is_empty() => Err(missing()),
                Ok(_) => Ok(()),
                Err(error) if error.failure == Failure::TemplateNotFound => Err(missing()),
                Err(error) => Err(error.into_cloud(|field| class.path(field))),
            };
        }
        self.account.security_groups(&class).await?;
        launch::profile(&class, &self.account)?;
        // A trial, for what can only be told when the user data is put together.
        user_data::render(&Boot {
            class: &class,
            kubelet: &kubelet,
            settings: &self.account.settings,
            labels: &BTreeMap::new(),
            taints: &[],
            max_pods: 0,
        })?;
        for arch in [Arch::Amd64, Arch::Arm64] {
            let variant = Variant { arch, accelerator: Accelerator::None };
            if self.account.image(&class, variant).await?.is_some() {
                return Ok(());
            }
        }
        Err(launch::no_image(&class, &self.account.settings.kubernetes_version, &[]))
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine, CloudError> {
        launch::launch(&self.account, request).await
    }

    async fn get(&self, provider_id: &str) -> Result<Machine, CloudError> {
        let id = machine::instance_id(provider_id).ok_or(CloudError::NotFound)?;
        let answer = self.described.ask(id).await.ok_or_else(|| CloudError::unavailable("the batch was given up"))?;
        let found = answer.map_err(|error| CallError::shared(&error, |_| "spec".to_owned()))?;
        let mut recent = lock(&self.account.recent);
        match found {
            Some(machine) if machine.state == MachineState::Terminated => {
                recent.gone(&machine.provider_id);
                Err(CloudError::NotFound)
            }
            Some(machine) => Ok(machine),
            None => recent.get(provider_id, Instant::now()).cloned().ok_or(CloudError::NotFound),
        }
    }

    async fn list(&self) -> Result<Vec<Machine>, CloudError> {
        let catalogue = self.account.catalogue().await?;
        // Who is in this list without a claim is ended. So only what is provably this cluster's is in it: machines of a
        // cluster of the same name are not, and neither are those that an earlier version launched without this tag. Claims
        // that have recorded such a machine still find it by its id.
        let wanted = vec![
            filter(&format!("tag:{CLUSTER_UID_TAG}"), [self.account.settings.cluster_uid.clone()]),
            filter("tag-key", [machine::UID_TAG.to_owned()]),
            filter(
                "instance-state-name",
                ["pending", "running", "shutting-down", "stopping", "stopped"].map(str::to_owned),
            ),
        ];
        let found = self.account.aws.instances(wanted).await.map_err(Self::told)?;
        let mut machines: Vec<Machine> =
            found.iter().filter_map(|it| machine::read(it, &catalogue.types, &self.account.region)).collect();
        let unlisted: Vec<Machine> = {
            let listed: HashSet<&str> = machines.iter().map(|it| it.provider_id.as_str()).collect();
            lock(&self.account.recent).unlisted(&listed, Instant::now()).cloned().collect()
        };
        machines.extend(unlisted);
        machines.sort_by(|a, b| a.provider_id.cmp(&b.provider_id));
        Ok(machines)
    }

    async fn terminate(&self, provider_id: &str) -> Result<(), CloudError> {
        let id = machine::instance_id(provider_id).ok_or(CloudError::NotFound)?;
        // EC2 goes on confirming the termination of instances that are long gone; the caller wants to know.
        match self.get(provider_id).await {
            Ok(machine) if machine.state == MachineState::Stopping => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let answer = self.terminated.ask(id).await.ok_or_else(|| CloudError::unavailable("the batch was given up"))?;
        match answer {
            Ok(()) => {
                lock(&self.account.recent).gone(provider_id);
                Ok(())
            }
            Err(error) if error.failure == Failure::NotFound => {
                // Either it is gone, or so new that this part of EC2 has not heard of it.
                match lock(&self.account.recent).get(provider_id, Instant::now()) {
                    Some(_) => Err(CloudError::unavailable("EC2 does not know the new instance yet")),
                    None => Err(CloudError::NotFound),
                }
            }
            Err(error) => Err(CallError::shared(&error, |_| "spec".to_owned())),
        }
    }

    async fn clean(&self, live_classes: &[NodeClass]) -> Result<(), CloudError> {
        let live: HashSet<&str> = live_classes.iter().map(|class| class.uid.as_str()).collect();
        let cluster = self.account.settings.cluster_name.clone();
        let found = self
            .account
            .aws
            .templates(None, vec![filter(&format!("tag:{CLUSTER_TAG}"), [cluster])])
            .await
            .map_err(Self::told)?;
        let now = jiff::Timestamp::now().as_second();
        let mut refused = Vec::new();
        for template in found {
            let Some(name) = template.launch_template_name() else { continue };
            let tag = |key| template.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value());
            // Others mark templates for this cluster, too; only those that name a class in our way are ours to remove.
            let Some(class) = tag(CLASS_TAG) else { continue };
            let alive = live.contains(class);
            if !ours(tag(CLUSTER_UID_TAG), &self.account.settings.cluster_uid, alive) {
                continue;
            }
            let age = template.create_time().map_or(i64::MAX, |at| now - at.secs());
            let used = lock(&self.account.recent).template_in_use(name, Instant::now());
            if !removable(alive, used, age) {
                continue;
            }
            lock(&self.account.recent).template_gone(name);
            match self.account.aws.delete_template(name).await {
                Ok(()) => info!(template = name, "removed a launch template"),
                Err(error) if error.failure == Failure::TemplateNotFound => {}
                Err(error) if error.failure == Failure::Throttled => return Err(Self::told(error)),
                // One that may not go keeps no other one.
                Err(error) => refused.push(format!("launch template {name}: {}", error.chain())),
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(CloudError::unavailable(refused.join("; "))) }
    }
}

/// Whether a launch template of a cluster of our name is our own: it says so or, made by an earlier version, it was made for
/// a class that is here. Classes have UIDs, so a cluster of the same name has others.
fn ours(tagged: Option<&str>, cluster_uid: &str, class_is_alive: bool) -> bool {
    tagged.map_or(class_is_alive, |uid| uid == cluster_uid)
}

/// Whether a launch template may go: nobody uses it, and it is not so new that another process may be about to.
fn removable(class_is_alive: bool, used_lately: bool, age_seconds: i64) -> bool {
    match (class_is_alive, used_lately) {
        (true, true) => false,
        (true, false) => age_seconds > TEMPLATE_AGE_SECONDS,
        (false, _) => age_seconds > DEAD_TEMPLATE_AGE_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_go_when_nobody_needs_them() {
        assert!(!removable(true, true, i64::MAX));
        assert!(!removable(true, false, TEMPLATE_AGE_SECONDS));
        assert!(removable(true, false, TEMPLATE_AGE_SECONDS + 1));
        assert!(!removable(false, false, 1), "it may have been made this moment");
        assert!(removable(false, true, DEAD_TEMPLATE_AGE_SECONDS + 1));
    }

    #[test]
    fn a_template_is_ours_by_the_clusters_uid_or_by_its_class() {
        assert!(ours(Some("us"), "us", false) && ours(Some("us"), "us", true));
        assert!(!ours(Some("them"), "us", false));
        assert!(ours(None, "us", true), "made before templates were tagged with the UID");
        assert!(!ours(None, "us", false), "nobody knows whose it is");
    }

    #[test]
    fn prices_are_asked_for_where_they_are_answered() {
        let table = [("us-west-2", "us-east-1"), ("eu-west-1", "eu-central-1"), ("ap-southeast-2", "ap-south-1")];
        for (region, expected) in table {
            assert_eq!(pricing_region(region), expected);
        }
    }
}
