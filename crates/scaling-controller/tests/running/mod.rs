//! The controller on a real API server, with the CRDs of the repository and the rights of the chart and no others.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use controller_runtime::events::Recorder;
use controller_runtime::health::Health;
use controller_runtime::metrics::Registry;
use scaling_controller::{CloudEventSettings, Controller, CredentialSettings, Metrics, Settings};
use serde_json::Value;
use testkit::apply::apply_crds;
use testkit::bed::Bed;
use testkit::charts::apply_chart;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const NAMESPACE: &str = "keda";
pub(crate) const SOON: Duration = Duration::from_mins(3);

fn root(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)
}

/// Installs CRDs and chart; returns the chart's objects.
pub(crate) async fn install(bed: &Bed) -> Result<Vec<Value>> {
    bed.namespace(NAMESPACE).await?;
    apply_crds(&bed.client(), &root("crds")).await?;
    apply_chart(bed, &root("charts/pod-autoscaler"), "pod-autoscaler", NAMESPACE, &[], 1).await
}

/// A controller that leads.
pub(crate) struct Running {
    _leading: watch::Sender<bool>,
    stop: DropGuard,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends it, and waits until it has ended.
    #[allow(dead_code, reason = "of the tests that start one, some only")]
    pub(crate) async fn end(self) -> Result<()> {
        drop(self.stop);
        Ok(self.task.await?)
    }
}

/// Starts it with the rights that [`install`] gave. It ends with what is returned.
pub(crate) async fn start(bed: &Bed) -> Result<Running> {
    let shutdown = CancellationToken::new();
    let rights = bed.client_for_service_account(NAMESPACE, "pod-autoscaler").await?;
    let settings = Settings {
        namespaces: Vec::new(),
        http_timeout: Duration::from_secs(3),
        credentials: CredentialSettings { cluster_namespace: NAMESPACE.to_owned(), files: None },
        cloud_events: CloudEventSettings { cluster_name: "c".to_owned(), own_namespace: NAMESPACE.to_owned() },
    };
    let metrics = Arc::new(Metrics::new(&Registry::default()));
    let recorder = Recorder::new(rights.clone(), "keda-operator");
    let controller = Controller::start(&rights, recorder, metrics, settings, &shutdown);
    let (alone, leading) = watch::channel(true);
    let ready = Health::default().check("scaled-objects");
    let task = tokio::spawn(controller.run(leading, ready, shutdown.clone()));
    Ok(Running { _leading: alone, stop: shutdown.drop_guard(), task })
}
