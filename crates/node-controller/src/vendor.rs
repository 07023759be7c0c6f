//! Calls to the cloud, timed and counted.

use std::{sync::Arc, time::Instant};

use cloud::{CloudError, LaunchRequest, Machine, MachineState, NodeClass};
use scheduling::InstanceType;

use crate::{
    context::Context,
    metrics::{CloudCall, CloudFailure},
};

/// What is known about a machine that should be ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It costs money.
    There,
    /// It has ended.
    Gone,
}

impl Context {
    /// [`cloud::CloudProvider::instance_types`]
    pub async fn instance_types(
        &self,
        class: &NodeClass,
        kubelet: &serde_json::Value,
    ) -> Result<Arc<[InstanceType]>, CloudError> {
        let start = Instant::now();
        self.noted("provisioning", "GetInstanceTypes", start, self.cloud.instance_types(class, kubelet).await)
    }

    /// [`cloud::CloudProvider::validate`]
    pub async fn judge(&self, class: &NodeClass) -> Result<(), CloudError> {
        let start = Instant::now();
        self.noted("nodepool", "Validate", start, self.cloud.validate(class).await)
    }

    /// [`cloud::CloudProvider::launch`]
    pub async fn launch(&self, request: &LaunchRequest) -> Result<Machine, CloudError> {
        let start = Instant::now();
        self.noted("nodeclaim.lifecycle", "Create", start, self.cloud.launch(request).await)
    }

    /// [`cloud::CloudProvider::list`]
    pub async fn machines(&self, controller: &str) -> Result<Vec<Machine>, CloudError> {
        let start = Instant::now();
        self.noted(controller, "List", start, self.cloud.list().await)
    }

    /// Whether the machine has ended.
    pub(crate) async fn presence(&self, provider_id: &str) -> Result<Presence, CloudError> {
        let start = Instant::now();
        let got = match self.cloud.get(provider_id).await {
            Ok(machine) if machine.state == MachineState::Terminated => Ok(Presence::Gone),
            Ok(_) => Ok(Presence::There),
            Err(CloudError::NotFound) => Ok(Presence::Gone),
            Err(error) => Err(error),
        };
        self.noted("nodeclaim.lifecycle", "Get", start, got)
    }

    /// Ends a machine; says whether it is gone already.
    pub(crate) async fn end(&self, controller: &str, provider_id: &str) -> Result<Presence, CloudError> {
        let start = Instant::now();
        let ended = match self.cloud.terminate(provider_id).await {
            Ok(()) => Ok(Presence::There),
            Err(CloudError::NotFound) => Ok(Presence::Gone),
            Err(error) => Err(error),
        };
        match self.noted(controller, "Delete", start, ended)? {
            Presence::Gone => Ok(Presence::Gone),
            Presence::There => self.presence(provider_id).await,
        }
    }

    /// [`cloud::CloudProvider::clean`]
    pub async fn clean(&self, live_classes: &[NodeClass]) -> Result<(), CloudError> {
        let start = Instant::now();
        self.noted("garbage", "Clean", start, self.cloud.clean(live_classes).await)
    }

    fn noted<T>(
        &self,
        controller: &str,
        method: &str,
        start: Instant,
        result: Result<T, CloudError>,
    ) -> Result<T, CloudError> {
        let provider = self.cloud.name().to_owned();
        let call =
            CloudCall { controller: controller.to_owned(), method: method.to_owned(), provider: provider.clone() };
        self.metrics.cloud_duration.get_or_create(&call).observe(start.elapsed().as_secs_f64());
        if let Err(error) = &result {
            let error = kind(error).to_owned();
            let failure =
                CloudFailure { controller: controller.to_owned(), method: method.to_owned(), provider, error };
            self.metrics.cloud_errors.get_or_create(&failure).inc();
        }
        result
    }
}

/// Label value for an error: its variant.
pub(crate) fn kind(error: &CloudError) -> &'static str {
    match error {
        CloudError::NotFound => "NotFound",
        CloudError::InsufficientCapacity { .. } => "InsufficientCapacity",
        CloudError::Throttled { .. } => "Throttled",
        CloudError::Misconfigured { .. } => "Misconfigured",
        CloudError::Unavailable(_) => "Unavailable",
    }
}
