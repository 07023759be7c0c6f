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
    fn measure(&self) -> (String, Number, f64);

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
        Ok(Connected {
            source: Self { server, question, place: PhantomData },
            name,
            target,
            activation,
            timeout: context.http.timeout(),
        })
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
#[path = "redis_tests.rs"]
mod tests;
