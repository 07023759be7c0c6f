//! Which server leads a consumer; only it knows what the consumer has not finished.

use std::sync::{Mutex, PoisonError};

use reqwest::Url;

use super::decode::{Consumer, Server, consumer, server};
use super::{NatsJetStream, SETTING};
use crate::error::ScalerError;
use crate::http::ask;
use crate::members::within;
use crate::source::Reading;

/// Name and address of the server that led the consumer when it was last asked.
#[derive(Debug, Default)]
pub(super) struct Leader(Mutex<Option<(String, Url)>>);

impl Leader {
    fn known(&self) -> Option<(String, Url)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, leader: Option<(String, Url)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = leader;
    }
}

impl NatsJetStream {
    /// What the server says that led the consumer the last time, if it still does.
    pub(super) async fn at_the_leader(&self) -> Option<Result<Reading, ScalerError>> {
        let (name, url) = self.leader.known()?;
        match within(self.members.share(1), &url, self.consumer_at(&url)).await {
            Ok(Some(found)) if found.leader.as_deref() == Some(name.as_str()) => Some(found.lag()),
            // It is somebody else now, or the server is gone.
            _ => {
                self.leader.remember(None);
                None
            }
        }
    }

    /// Looks for the consumer's leader, beginning at one server.
    pub(super) async fn search(&self, endpoint: &Url) -> Result<Reading, ScalerError> {
        let found = self.consumer_at(endpoint).await?;
        if let Some(found) = &found
            && found.leader.is_none()
        {
            // A server alone.
            return found.lag();
        }
        let own: Server = server(&self.get(endpoint, "varz", &[]).await?)?;
        if let Some(found) = found
            && found.leader.as_deref() == Some(own.name.as_str())
        {
            self.leader.remember(Some((own.name, endpoint.clone())));
            return found.lag();
        }
        let mut missing = None;
        let others = own.others(endpoint);
        let share = self.members.share(0) / u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
        for url in others {
            // A server of the cluster that is away may not be the leader.
            match within(share, &url, self.led_by(&url)).await {
                Ok(Some((name, found))) => {
                    self.leader.remember(Some((name, url)));
                    return found.lag();
                }
                Ok(None) => {}
                Err(error) => missing = Some(error),
            }
        }
        Err(missing.unwrap_or_else(|| {
            ScalerError::no_number(format!(
                "no server leads a consumer {:?} of a stream {:?} in the account {:?}",
                self.consumer, self.stream, self.account
            ))
        }))
    }

    /// The consumer as this server knows it, if the server leads it.
    async fn led_by(&self, url: &Url) -> Result<Option<(String, Consumer)>, ScalerError> {
        let Some(found) = self.consumer_at(url).await? else { return Ok(None) };
        let name = server(&self.get(url, "varz", &[]).await?)?.name;
        Ok((found.leader.as_deref() == Some(name.as_str())).then_some((name, found)))
    }

    async fn consumer_at(&self, url: &Url) -> Result<Option<Consumer>, ScalerError> {
        let question = [("acc", self.account.as_str()), ("consumers", "true"), ("config", "true")];
        let body = self.get(url, "jsz", &question).await?;
        consumer(&body, &self.account, &self.stream, &self.consumer)
    }

    async fn get(&self, url: &Url, path: &str, question: &[(&str, &str)]) -> Result<Vec<u8>, ScalerError> {
        let mut url = url.clone();
        url.set_path(path);
        ask(SETTING, self.client.get(url).query(question)).await
    }
}
