//! `external` and `external-push`: metrics of a gRPC server that somebody else has written.
//!
//! Differs from KEDA: every call has a deadline; several values for one metric are summed (as the HPA does, while KEDA's
//! poll takes the first one); a pushed "active" counts for ten seconds and makes the trigger be read at once.

mod messages;
mod plugin;
mod push;

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use scaling::Target;
use tokio::time::timeout;
use units::Milli;

use crate::auth::tls::Certificates;
use crate::context::{MetricType, Notice, TriggerContext};
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Secret, TriggerMetadata, parse};
use crate::net::{Address, host_port};
use crate::source::Reading;
use crate::{MetricSpec, Sampled, Scaler};
use messages::{ScaledObjectRef, Spec, Value};
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

/// Whether the server is listened to between polls.
pub(crate) trait Way: Send + Sync + std::fmt::Debug + 'static {
    const PUSHES: bool;
    const LABEL: &'static str;
}

/// `external`.
#[derive(Debug)]
pub(crate) struct Polled;

/// `external-push`.
#[derive(Debug)]
pub(crate) struct Pushing;

impl Way for Polled {
    const PUSHES: bool = false;
    const LABEL: &'static str = "externalScaler";
}

impl Way for Pushing {
    const PUSHES: bool = true;
    const LABEL: &'static str = "externalPushScaler";
}

/// A plug-in.
#[derive(Debug)]
pub(crate) struct External<W> {
    plugin: Plugin,
    index: usize,
    metric_type: Option<MetricType>,
    deadline: Duration,
    pushed: Arc<Pushed>,
    notices: Vec<Notice>,
    way: PhantomData<W>,
}

/// Makes the scaler of a trigger.
pub(crate) fn build<W: Way>(context: &TriggerContext<'_>) -> Result<Arc<dyn Scaler>, BuildError> {
    let (settings, notices) = parse::<Settings>(context)?;
    context.target(Milli::ZERO)?;
    let object = ScaledObjectRef {
        name: context.name.to_owned(),
        namespace: context.namespace.to_owned(),
        scaler_metadata: forwarded(context),
    };
    Ok(Arc::new(External::<W> {
        plugin: Plugin::new(settings.address()?, object)?,
        index: context.index,
        metric_type: context.metric_type,
        deadline: context.http.timeout(),
        pushed: Arc::default(),
        notices,
        way: PhantomData,
    }))
}

impl Settings {
    fn address(self) -> Result<Address, BuildError> {
        const FIELD: &str = "scalerAddress";
        let (host, port) = host_port(&self.scaler_address, None).map_err(|what| BuildError::new(FIELD, what))?;
        let wanted = self.enable_tls || self.ca_cert.is_some() || self.tls_client_cert.is_some();
        let certificates = Certificates { ca: self.ca_cert, cert: self.tls_client_cert, key: self.tls_client_key };
        let tls = wanted.then(|| certificates.config(!self.unsafe_ssl)).transpose().map_err(|error| BuildError {
            field: match error.field.as_str() {
                "authenticationRef ca" => "authenticationRef caCert".into(),
                "authenticationRef cert" => "authenticationRef tlsClientCert".into(),
                _ => "authenticationRef tlsClientKey".into(),
            },
            ..error
        })?;
        let tls = tls.map(|mut config| {
            config.alpn_protocols = vec![b"h2".to_vec()];
            Arc::new(config)
        });
        Ok(Address { setting: FIELD, host, port, tls })
    }
}

/// What the server is told: the metadata, with environment variables looked up.
fn forwarded(context: &TriggerContext<'_>) -> HashMap<String, String> {
    let value = |key: &String, text: &String| match key.strip_suffix("FromEnv") {
        None => Some(text.clone()),
        Some(_) => context.environment?.get(text).filter(|value| !value.is_empty()).cloned(),
    };
    context.metadata.iter().filter_map(|(key, text)| Some((key.clone(), value(key, text)?))).collect()
}

#[async_trait]
impl<W: Way> Scaler for External<W> {
    fn type_name(&self) -> &'static str {
        W::LABEL
    }

    fn metrics(&self) -> &[MetricSpec] {
        &[]
    }

    fn notices(&self) -> &[Notice] {
        &self.notices
    }

    async fn discover(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let specs = self.within(self.plugin.specs()).await?;
        if specs.is_empty() {
            return Err(ScalerError::Misconfigured { what: "the server has no metric for this trigger".into() });
        }
        specs.iter().map(|spec| self.spec(spec)).collect()
    }

    fn pushes(&self) -> Option<BoxStream<'static, ()>> {
        W::PUSHES.then(|| pushes(self.plugin.clone(), Arc::clone(&self.pushed)))
    }

    async fn sample(&self, metric: &str) -> Result<Sampled, ScalerError> {
        let own = metric.strip_prefix(&format!("s{}-", self.index)).unwrap_or(metric);
        let both = async { tokio::try_join!(self.plugin.values(own), self.plugin.is_active()) };
        let (values, active) = self.within(both).await?;
        let Reading { milli, empty, .. } = decode(&values)?;
        Ok(Sampled { value: milli, active: active || self.pushed.is_fresh(), empty })
    }
}

impl<W: Way> External<W> {
    async fn within<T>(&self, asked: impl Future<Output = Result<T, ScalerError>>) -> Result<T, ScalerError> {
        timeout(self.deadline, asked).await.map_err(|_| ScalerError::TimedOut { after: self.deadline })?
    }

    fn spec(&self, spec: &Spec) -> Result<MetricSpec, ScalerError> {
        let wrong = |what: String| ScalerError::Misconfigured {
            what: format!("the target of the metric {:?} {what}", spec.metric_name),
        };
        let amount = target(spec).map_err(wrong)?;
        let target = match self.metric_type {
            Some(MetricType::Value) => Target::Value(amount),
            _ => Target::AverageValue(amount),
        };
        Ok(MetricSpec { name: format!("s{}-{}", self.index, spec.metric_name), target })
    }
}

/// The newer field counts if it is above 0, else the older one.
fn target(spec: &Spec) -> Result<Milli, String> {
    let exact = if spec.target_size_float > 0.0 {
        Milli::try_from_f64(spec.target_size_float)
    } else {
        Milli::from_units(spec.target_size)
    };
    match exact.map_err(|error| error.to_string())? {
        above if above > Milli::ZERO => Ok(above),
        _ => Err("is not above 0".into()),
    }
}

fn decode(values: &[Value]) -> Result<Reading, ScalerError> {
    if values.is_empty() {
        return Err(ScalerError::NoNumber { what: "the server gives no value".into() });
    }
    let mut sum = 0.0;
    for value in values {
        // NaN is not above 0 and must not hide behind the older field.
        sum += if value.metric_value_float > 0.0 || value.metric_value_float.is_nan() {
            value.metric_value_float
        } else {
            Reading::count(value.metric_value)?.float
        };
    }
    Reading::number(sum)
}

#[cfg(test)]
#[path = "external_tests.rs"]
mod tests;
