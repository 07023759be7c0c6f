//! The server that somebody else has written.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::Settings;
use super::messages::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef, Spec, Value,
};
use crate::auth::tls::Certificates;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::http::shorten;
use crate::net::{Address, host_port};

/// A connection that goes quiet is looked at this often, so that one that died is noticed while nothing is pushed.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Most bytes of a message. Metrics are a name and a number.
const MESSAGE_BYTES: usize = 1 << 20;

/// A plug-in, and who asks it.
#[derive(Clone)]
pub(super) struct Plugin {
    endpoint: Endpoint,
    address: Address,
    object: ScaledObjectRef,
    /// Made when it is first needed: it has a task of its own.
    channel: Arc<OnceLock<Grpc<Channel>>>,
}

// What is forwarded may be a secret of the environment.
impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("name", &self.object.name).finish_non_exhaustive()
    }
}

impl Plugin {
    /// Connects when it is first asked.
    pub(super) fn new(settings: Settings, context: &TriggerContext<'_>) -> Result<Self, BuildError> {
        let address = settings.address()?;
        let object = ScaledObjectRef {
            name: context.name.to_owned(),
            namespace: context.namespace.to_owned(),
            scaler_metadata: forwarded(context),
        };
        let scheme = if address.tls.is_some() { "https" } else { "http" };
        let host = if address.host.contains(':') { format!("[{}]", address.host) } else { address.host.clone() };
        let wrong = |error: &dyn fmt::Display| BuildError::new("scalerAddress", error.to_string());
        let origin: Uri = format!("{scheme}://{host}:{}", address.port).parse().map_err(|error| wrong(&error))?;
        // The connector below sees to TLS, so the library must not.
        let plain = format!("http://{host}:{}", address.port);
        let endpoint = Endpoint::from_shared(plain)
            .map_err(|error| wrong(&error))?
            .origin(origin)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_while_idle(true);
        Ok(Self { endpoint, address, object, channel: Arc::default() })
    }

    /// The one connection.
    fn grpc(&self) -> Grpc<Channel> {
        let make = || {
            let address = self.address.clone();
            let channel = self.endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
                let address = address.clone();
                async move { address.connect().await.map(TokioIo::new) }
            }));
            Grpc::new(channel).max_decoding_message_size(MESSAGE_BYTES)
        };
        self.channel.get_or_init(make).clone()
    }

    pub(super) async fn is_active(&self) -> Result<bool, ScalerError> {
        let answer: IsActiveResponse = self.ask("/externalscaler.ExternalScaler/IsActive", self.object.clone()).await?;
        Ok(answer.result)
    }

    pub(super) async fn specs(&self) -> Result<Vec<Spec>, ScalerError> {
        let answer: GetMetricSpecResponse =
            self.ask("/externalscaler.ExternalScaler/GetMetricSpec", self.object.clone()).await?;
        Ok(answer.metric_specs)
    }

    pub(super) async fn values(&self, metric: &str) -> Result<Vec<Value>, ScalerError> {
        let request =
            GetMetricsRequest { scaled_object_ref: Some(self.object.clone()), metric_name: metric.to_owned() };
        let answer: GetMetricsResponse = self.ask("/externalscaler.ExternalScaler/GetMetrics", request).await?;
        Ok(answer.metric_values)
    }

    pub(super) async fn stream(&self) -> Result<Streaming<IsActiveResponse>, ScalerError> {
        let path = PathAndQuery::from_static("/externalscaler.ExternalScaler/StreamIsActive");
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| silent(&error))?;
        let codec = ProstCodec::<ScaledObjectRef, IsActiveResponse>::default();
        let asked = grpc.server_streaming(Request::new(self.object.clone()), path, codec).await;
        Ok(asked.map_err(|status| failure(&status))?.into_inner())
    }

    async fn ask<Q, A>(&self, path: &'static str, question: Q) -> Result<A, ScalerError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|error| silent(&error))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(Request::new(question), PathAndQuery::from_static(path), codec).await;
        Ok(answer.map_err(|status| failure(&status))?.into_inner())
    }
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

fn silent(error: &tonic::transport::Error) -> ScalerError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    ScalerError::Unavailable(format!("scalerAddress: {}", shorten(&text)).into())
}

/// What a status means for the caller.
pub(super) fn failure(status: &Status) -> ScalerError {
    let what = format!("{:?}: {}", status.code(), shorten(status.message()));
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => ScalerError::Unauthorized { what },
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => ScalerError::Misconfigured { what },
        _ => ScalerError::Unavailable(what.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Trigger;

    #[test]
    fn the_server_is_told_all_metadata_with_variables_looked_up() {
        let metadata = [("scalerAddress", "plugin:6000"), ("tokenFromEnv", "TOKEN"), ("emptyFromEnv", "EMPTY")];
        let trigger = Trigger::new(&metadata).environment(&[("TOKEN", "t"), ("EMPTY", "")]);
        let told = trigger.with(forwarded);
        assert_eq!(told.get("tokenFromEnv").map(String::as_str), Some("t"));
        assert_eq!(told.get("emptyFromEnv"), None);
        assert_eq!(told.get("scalerAddress").map(String::as_str), Some("plugin:6000"));
    }

    #[test]
    fn a_status_says_what_to_do_next() {
        let kind = |code| match failure(&Status::new(code, "text")) {
            ScalerError::Unauthorized { .. } => "credentials",
            ScalerError::Misconfigured { .. } => "question",
            _ => "later",
        };
        assert_eq!(kind(Code::Unavailable), "later");
        assert_eq!(kind(Code::Unknown), "later");
        assert_eq!(kind(Code::PermissionDenied), "credentials");
        assert_eq!(kind(Code::Unimplemented), "question");
    }
}
