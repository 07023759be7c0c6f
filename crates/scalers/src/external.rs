//! `external` and `external-push`: metrics of a gRPC server that somebody else has written.
//!
//! Differs from KEDA: every call has a deadline; several values for one metric are summed (as the HPA does, while KEDA's
//! poll takes the first one); a pushed "active" counts for ten seconds and makes the trigger be read at once.

mod messages;
mod plugin;
mod push;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use scaling::Target;
use units::Milli;

use crate::context::{Notice, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Secret, TriggerMetadata, parse};
use crate::source::{Reading, within};
use crate::{MetricSpec, Sampled, Scaler};
use plugin::Plugin;
use push::{Pushed, pushes};

/// Metrics of a gRPC server that somebody else has written (`crates/scalers/proto/externalscaler.proto`).
///
/// The server is told all of the trigger's metadata; the value of a key that ends in `FromEnv` is that of the environment
/// variable it names. Which metrics there are, and what one replica should have of them, the server says.
#[derive(Debug, TriggerMetadata)]
#[trigger(open)]
pub(crate) struct Settings {
    /// The server, `host:port`.
    scaler_address: String,
    /// Connect with TLS, trusting well-known authorities.
    #[param(name = "enableTLS", default = "false")]
    enable_tls: bool,
    /// Do not verify the server's certificate.
    #[param(default = "false")]
    unsafe_ssl: bool,
    /// Certificates of the authorities that the server's certificate may come from, in PEM. With it, TLS is used.
    #[param(from(auth))]
    ca_cert: Option<Secret>,
    /// Our certificate, in PEM. With it, TLS is used.
    #[param(from(auth))]
    tls_client_cert: Option<Secret>,
    /// Its private key, in PEM, not encrypted.
    #[param(from(auth))]
    tls_client_key: Option<Secret>,
}

/// A plug-in; with `PUSHES`, it is listened to between polls.
#[derive(Debug)]
pub(crate) struct External<const PUSHES: bool> {
    plugin: Plugin,
    index: usize,
    target: fn(Milli) -> Target,
    deadline: Duration,
    pushed: Arc<Pushed>,
    notices: Vec<Notice>,
}

impl<const PUSHES: bool> External<PUSHES> {
    /// See [`Scaler::type_name`].
    pub(crate) const LABEL: &'static str = if PUSHES { "externalPushScaler" } else { "externalScaler" };

    /// Makes the scaler of a trigger.
    pub(crate) fn build(context: &TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError> {
        let (settings, notices) = parse::<Settings>(context)?;
        Ok(Arc::new(Self {
            target: context.target()?,
            plugin: Plugin::new(settings, context)?,
            index: context.index,
            deadline: context.http.timeout(),
            pushed: Arc::default(),
            notices,
        }))
    }
}

#[async_trait]
impl<const PUSHES: bool> Scaler for External<PUSHES> {
    fn type_name(&self) -> &'static str {
        Self::LABEL
    }

    fn metrics(&self) -> &[MetricSpec] {
        &[]
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    async fn discover(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let specs = within(self.deadline, self.plugin.specs()).await?;
        if specs.is_empty() {
            return Err(ScalerError::Misconfigured { what: "the server has no metric for this trigger".into() });
        }
        let spec = |spec: &messages::Spec| -> Result<MetricSpec, ScalerError> {
            let name = format!("s{}-{}", self.index, spec.metric_name);
            Ok(MetricSpec { name, target: (self.target)(spec.target()?) })
        };
        specs.iter().map(spec).collect()
    }

    fn pushes(&self) -> Option<BoxStream<'static, ()>> {
        PUSHES.then(|| pushes(self.plugin.clone(), Arc::clone(&self.pushed)))
    }

    async fn sample(&self, metric: &str) -> Result<Sampled, ScalerError> {
        let own = metric.strip_prefix(&format!("s{}-", self.index)).unwrap_or(metric);
        let both = async { tokio::try_join!(self.plugin.values(own), self.plugin.is_active()) };
        let (values, active) = within(self.deadline, both).await?;
        let Reading { milli, empty, .. } = messages::sum(&values)?;
        Ok(Sampled { value: milli, active: active || self.pushed.is_fresh(), empty })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Texts, Trigger};

    fn check(metadata: Texts<'_>, auth: Texts<'_>, wanted: &str) {
        let built = Trigger::new(metadata).auth(auth).with(External::<false>::build);
        assert_eq!(built.map_or_else(|error| error.field, |_| "fine".into()), wanted, "{metadata:?}");
    }

    #[test]
    fn what_is_wrong_is_named_and_what_is_unknown_is_the_servers() {
        let address = ("scalerAddress", "plugin:6000");
        check(&[("scalerAddress", "plugin")], &[], "scalerAddress");
        check(&[address, ("anything", "x"), ("enableTLS", "true")], &[], "fine");
        check(&[address], &[("caCert", "hunter2")], "authenticationRef caCert");
        check(&[address], &[("tlsClientCert", "hunter2")], "authenticationRef tlsClientKey");
        check(&[address], &[("tlsClientCert", "hunter2"), ("tlsClientKey", "x")], "authenticationRef tlsClientCert");
    }
}
