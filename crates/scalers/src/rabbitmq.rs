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

use async_trait::async_trait;
use units::Milli;

use crate::auth::oauth::OAuth;
use crate::auth::tls::{LockedCertificates, Switch};
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, Secret, Timeout, TriggerMetadata};
use crate::query::escape;
use crate::source::{Connected, Reading, Source};
use amqp::Broker;
use http::Management;
use measure::{Mode, Operation};
use place::{Place, Protocol};

/// How many messages a queue of RabbitMQ has, or how fast they come and go.
///
/// Over AMQP, messages that are ready count; over HTTP, those that are not acknowledged, too.
#[derive(Debug, TriggerMetadata)]
#[trigger(exclusive("mode", "queueLength"), exclusive("value", "queueLength"))]
#[trigger(together("mode", "value"), together("username", "password"))]
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

/// A queue, or several.
#[derive(Debug)]
pub(crate) enum RabbitMq {
    Amqp(Box<Broker>),
    Http(Box<Management>),
}

#[async_trait]
impl Source for RabbitMq {
    type Settings = Settings;
    const LABEL: &'static str = "rabbitMQScaler";

    fn connect(settings: Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let source = match Place::of(&settings)? {
            place if place.is_http => Self::Http(Box::new(Management::new(&settings, place, context)?)),
            place => Self::Amqp(Box::new(Broker::new(&settings, place, context)?)),
        };
        let target = settings.value.or(settings.queue_length).unwrap_or(Milli::from_thousandths(20_000).into());
        let name = format!("rabbitmq-{}", escape(&settings.queue_name));
        Ok(Connected::new(context, source, name, target, settings.activation_value).within(settings.timeout))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        match self {
            Self::Amqp(broker) => broker.read().await,
            Self::Http(management) => management.read().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Trigger, metric_name};

    const QUEUE: [(&str, &str); 2] = [("queueName", "jobs/new a"), ("host", "http://u:hunter2@mq:15672/sub/sh%2Fop")];

    #[test]
    fn the_metric_is_named_after_the_queue() {
        for host in [QUEUE[1], ("host", "amqp://mq")] {
            assert_eq!(metric_name::<RabbitMq>(&[QUEUE[0], host]), "s0-rabbitmq-jobs-2Fnew+a");
        }
    }

    #[test]
    fn a_target_is_a_mode_with_a_value_or_a_length() {
        let target = |more: &[(&str, &str)]| {
            let connected = Trigger::new(&[&QUEUE, more].concat()).connect::<RabbitMq>();
            connected.unwrap().target.milli.to_string()
        };
        assert_eq!(target(&[]), "20");
        assert_eq!(target(&[("queueLength", "7")]), "7");
        assert_eq!(target(&[("mode", "MessageRate"), ("value", "2.5")]), "2.5");
    }
}
