//! `redis`, `redis-cluster`, `redis-sentinel` and their `-streams`: how much waits in a list or a stream.
//!
//! [`place`] says where the server is (one, a cluster, sentinels), `lists` and `streams` say what is asked; the six types
//! are their combinations.

mod connection;
mod lists;
pub(crate) mod place;
mod streams;

use std::any::TypeId;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;

use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::{Number, TriggerMetadata};
use crate::source::{Connected, Reading, Source};
use connection::{Connection, Server};
pub(crate) use lists::List;
use place::{Login, Place};
pub(crate) use streams::Stream;

#[derive(Debug, TriggerMetadata)]
pub(crate) struct Settings<P, W>
where
    P: TriggerMetadata,
    W: TriggerMetadata,
{
    #[param(nested)]
    question: W,
    #[param(nested)]
    place: P,
    #[param(nested)]
    login: Login,
}

/// What is asked.
#[async_trait]
pub(crate) trait Question: TriggerMetadata + Debug + Send + Sync + 'static {
    const LABEL: &'static str;

    /// The metric's name, the target and the activation threshold.
    fn measure(&self) -> (String, Number, Number);

    async fn ask(&self, connection: &mut Connection) -> Result<Reading, ScalerError>;
}

/// A question to a server.
#[derive(Debug)]
pub(crate) struct Redis<P, W> {
    server: Arc<Server>,
    question: W,
    place: PhantomData<P>,
}

#[async_trait]
impl<P: Place, W: Question> Source for Redis<P, W> {
    type Settings = Settings<P, W>;
    const LABEL: &'static str = W::LABEL;

    fn connect(settings: Self::Settings, context: &TriggerContext<'_>) -> Result<Connected<Self>, BuildError> {
        let (name, target, activation) = settings.question.measure();
        let Settings { question, place, login } = settings;
        // Places of two kinds may have the same addresses.
        let server = context.shared(&(TypeId::of::<P>(), &place, &login), || place.server(&login))?;
        Ok(Connected::new(context, Self { server, question, place: PhantomData }, name, target, activation))
    }

    async fn read(&self) -> Result<Reading, ScalerError> {
        loop {
            let mut line = self.server.line().await?;
            match self.question.ask(&mut line.connection).await {
                Err(error @ ScalerError::Unavailable(_)) => {
                    self.server.forget(&line).await;
                    // An old one may have broken while nobody looked; a new one tells.
                    if line.is_new {
                        return Err(error);
                    }
                }
                reading => return reading,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::place::{One, Several};
    use super::*;
    use crate::testing::{Trigger, metric_name, refusal};

    #[test]
    fn a_server_is_named_in_one_of_two_ways() {
        let list = ("listName", "jobs");
        let lists = |place: &[(&str, &str)]| refusal::<Redis<One, List>>(&[&[list], place].concat());
        assert_eq!(metric_name::<Redis<One, List>>(&[list, ("address", "r:6379")]), "s0-redis-jobs");
        assert_eq!(metric_name::<Redis<One, List>>(&[list, ("host", "::1"), ("port", "6379")]), "s0-redis-jobs");
        assert_eq!(lists(&[]), ["address"]);
        assert_eq!(lists(&[("address", "r")]), ["address"]);
        assert_eq!(lists(&[("host", "r")]), ["port"]);
        assert_eq!(lists(&[("host", "r"), ("port", "70000")]), ["port"]);
        assert_eq!(lists(&[("address", "r:1"), ("host", "r"), ("port", "1")]), ["host"]);
        let cluster = |place: &[(&str, &str)]| refusal::<Redis<Several, List>>(&[&[list], place].concat());
        assert_eq!(cluster(&[("hosts", "a,b"), ("ports", "1")]), ["ports"]);
        assert_eq!(cluster(&[("addresses", "a:1,b:2"), ("databaseIndex", "1")]), ["databaseIndex"]);
    }

    #[test]
    fn tls_is_asked_for_in_one_of_two_ways() {
        let metadata = [("listName", "jobs"), ("address", "r:6379"), ("enableTLS", "true")];
        let both = Trigger::new(&metadata).auth(&[("tls", "enable")]);
        assert_eq!(both.build::<Redis<One, List>>().expect_err("both").field, "tls");
        let key = Trigger::new(&metadata).auth(&[("keyPassword", "x")]);
        assert_eq!(key.build::<Redis<One, List>>().expect_err("encrypted").field, "authenticationRef keyPassword");
    }

    #[test]
    fn a_stream_is_measured_in_one_of_three_ways() {
        let target = |more: &[(&str, &str)]| {
            let metadata =
                [&[("stream", "s"), ("address", "r:1"), ("streamLength", "3"), ("activationLagCount", "9")], more];
            let connected = Trigger::new(&metadata.concat()).connect::<Redis<One, Stream>>().unwrap();
            (connected.name, connected.target.milli.thousandths(), connected.activation)
        };
        assert_eq!(target(&[]), ("redis-streams-s".into(), 3_000, 0.0));
        assert_eq!(target(&[("consumerGroup", "g")]), ("redis-streams-s".into(), 5_000, 0.0));
        assert_eq!(target(&[("consumerGroup", "g"), ("lagCount", "7")]), ("redis-streams-s".into(), 7_000, 9.0));
    }
}
