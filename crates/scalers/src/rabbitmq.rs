//! `rabbitmq`: how many messages a queue has, or how fast they come and go.
//!
//! Over AMQP one passive declaration says how many messages are ready; over HTTP the management API says everything else.
//!
//! Differs from KEDA: nothing is connected when the trigger is built, so an outage counts as a failed reading and a
//! fallback begins; all pages of the queues that match a regular expression count (there only the first one); a queue
//! whose statistics are not there yet is an error and not empty.

mod amqp;
mod http;
mod measure;
mod place;

use std::hash::Hash;

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::auth::oauth::OAuth;
use crate::auth::tls::{LockedCertificates, Switch};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::kept::Kept;
use crate::metadata::{Choice, Number, Secret, Timeout, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use amqp::Broker;
use http::Management;
use measure::Measure;
use place::Place;

/// What a query string keeps as it is; KEDA's metric names are made like one.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What a queue has when nothing is said.
const QUEUE_LENGTH: &str = "20";

/// How many messages a queue of RabbitMQ has, or how fast they come and go.
///
/// Over AMQP, messages that are ready count; over HTTP, those that are not acknowledged, too.
#[derive(Debug, TriggerMetadata)]
#[trigger(exclusive("mode", "queueLength"), exclusive("value", "queueLength"), check = Settings::check)]
pub(crate) struct Settings {
    /// The server: `amqp://user:password@host:5672/vhost` (`amqps`), or the management API,
    /// `http://user:password@host:15672/vhost` (`https`). The virtual host `/` is written `%2F` or left out.
    #[param(from(auth, metadata, env))]
    host: Secret,
    /// How the server is asked; `auto` goes by the scheme of `host`.
    #[param(from(metadata, auth), default = "auto")]
    protocol: Protocol,
    /// The queue.
    queue_name: String,
    /// What is measured; all but `QueueLength` need HTTP. Without it, `QueueLength` with a value of 20.
    mode: Option<Mode>,
    /// The value one replica should have.
    #[param(above = "0")]
    value: Option<Number>,
    /// The same as `mode: QueueLength` with this value.
    #[param(above = "0")]
    queue_length: Option<Number>,
    /// Active when the value is above this.
    #[param(default = "0")]
    activation_value: Number,
    /// The virtual host, instead of that in `host`.
    #[param(from(auth, metadata))]
    vhost_name: Option<String>,
    /// Take `queueName` as a regular expression; needs HTTP.
    #[param(default = "false")]
    use_regex: bool,
    /// How many queues are asked for at a time.
    #[param(default = "100", at_least = "1", at_most = "500")]
    page_size: i64,
    /// What becomes of the numbers of several queues.
    #[param(default = "sum")]
    operation: Operation,
    /// Do not count messages that are not acknowledged; needs HTTP.
    #[param(default = "false")]
    exclude_unacknowledged: bool,
    /// How long the server may take; needs HTTP.
    timeout: Option<Timeout>,
    /// User name, instead of that in `host`.
    #[param(from(auth, env))]
    username: Option<String>,
    /// Password, instead of that in `host`.
    #[param(from(auth, env))]
    password: Option<Secret>,
    /// Whether the connection uses the certificates below.
    #[param(from(auth), default = "disable")]
    tls: Switch,
    /// Do not verify the server's certificate.
    #[param(default = "false")]
    unsafe_ssl: bool,
    #[param(nested)]
    certificates: LockedCertificates,
    /// With podIdentity azure-workload: what the token is for.
    #[param(from(auth))]
    workload_identity_resource: Option<String>,
    #[param(nested)]
    oauth: OAuth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
enum Protocol {
    #[value("auto")]
    Auto,
    #[value("amqp")]
    Amqp,
    #[value("http")]
    Http,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
enum Mode {
    QueueLength,
    MessageRate,
    DeliverGetRate,
    PublishedToDeliveredRatio,
    ExpectedQueueConsumptionTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
enum Operation {
    #[value("sum")]
    Sum,
    #[value("avg")]
    Average,
    #[value("max")]
    Max,
}

impl Settings {
    fn check(&self) -> Vec<BuildError> {
        let both = |given: bool, missing: bool, field: &str, what: &str| {
            (given && missing).then(|| BuildError::new(field, what))
        };
        let (mode, value) = (self.mode.is_some(), self.value.is_some());
        let (user, password) = (self.username.is_some(), self.password.is_some());
        let checks = [
            both(mode, !value, "value", "is required with mode"),
            both(value, !mode, "mode", "is required with value"),
            both(user, !password, "password", "is required with username"),
            both(password, !user, "username", "is required with password"),
        ];
        checks.into_iter().flatten().collect()
    }

    /// What decides what a connection over AMQP may see.
    fn login(&self) -> impl Hash {
        let Self { host, vhost_name, username, password, tls, unsafe_ssl, certificates, .. } = self;
        let resource = &self.workload_identity_resource;
        (host, vhost_name, username, password, tls, unsafe_ssl, certificates, resource)
    }

    /// What needs the management API.
    fn needs_http(&self) -> Option<&'static str> {
        let mode = self.mode.is_some_and(|mode| mode != Mode::QueueLength);
        let needs = [
            (mode, "mode"),
            (self.use_regex, "useRegex"),
            (self.exclude_unacknowledged, "excludeUnacknowledged"),
            (self.timeout.is_some(), "timeout"),
            (self.oauth.is_complete(), "authenticationRef oauthTokenURI"),
        ];
        needs.into_iter().find(|(needed, _)| *needed).map(|(_, field)| field)
    }
}

/// A queue, or several.
#[derive(Debug)]
pub(crate) enum RabbitMq {
    Amqp { broker: Box<Broker>, kept: Kept<amqp::Line> },
    Http(Box<Management>),
}

#[async_trait]
impl Source for RabbitMq {
    type Settings = Settings;
    const LABEL: &'static str = "rabbitMQScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let place = Place::of(&settings)?;
        let default = || QUEUE_LENGTH.parse().map_err(|what: String| BuildError::new("value", what));
        let target = settings.value.or(settings.queue_length).map_or_else(default, Ok)?;
        let (name, activation) = (queue_label(&settings.queue_name), settings.activation_value.float);
        let timeout = settings.timeout.map_or(context.http.timeout(), |timeout| timeout.0);
        let source = if place.is_http {
            Self::Http(Box::new(Management::new(&settings, place, context)?))
        } else if let Some(field) = settings.needs_http() {
            return Err(BuildError::new(field, "needs protocol http and the address of the management API in host"));
        } else {
            let kept = Kept::new(context, &settings.login(), timeout);
            Self::Amqp { broker: Box::new(Broker::new(&settings, place, context)?), kept }
        };
        Ok(Connected { source, name, target, activation, timeout })
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        match self {
            Self::Amqp { broker, kept } => kept.read(broker.as_ref()).await,
            Self::Http(management) => management.read().await,
        }
    }
}

impl Measure {
    fn of(settings: &Settings) -> Self {
        Self {
            mode: settings.mode.unwrap_or(Mode::QueueLength),
            operation: settings.operation,
            without_unacknowledged: settings.exclude_unacknowledged,
            activation: settings.activation_value.float,
        }
    }
}

fn queue_label(queue: &str) -> String {
    format!("rabbitmq-{}", utf8_percent_encode(queue, QUERY).to_string().replace("%20", "+"))
}

#[cfg(test)]
#[path = "rabbitmq_tests.rs"]
mod tests;
