//! Servers that know the same. They are asked in turn, so that one that is away does not matter.

use std::time::Duration;

use reqwest::Url;
use tokio::time::timeout;

use crate::context::TriggerContext;
use crate::error::ScalerError;
use crate::source::Reading;

/// Addresses that are tried in turn, and how long all of them together may take.
#[derive(Debug)]
pub(crate) struct Members {
    urls: Vec<Url>,
    timeout: Duration,
}

impl Members {
    /// Members that have the program's own deadline.
    pub(crate) fn new(urls: Vec<Url>, context: &TriggerContext<'_>) -> Self {
        Self { urls, timeout: context.http.timeout() }
    }

    /// How long each may take, and as many `more`, so that one that never answers leaves time for the others.
    pub(crate) fn share(&self, more: usize) -> Duration {
        self.timeout / u32::try_from(self.urls.len() + more).unwrap_or(u32::MAX).max(1)
    }

    /// The answer of the first member that is there.
    ///
    /// # Errors
    /// None is there; or the error of the first one that is.
    pub(crate) async fn first<'a, F>(&'a self, ask: impl Fn(&'a Url) -> F) -> Result<Reading, ScalerError>
    where
        F: Future<Output = Result<Reading, ScalerError>>,
    {
        let mut last = ScalerError::Unavailable("there is no endpoint".into());
        for url in &self.urls {
            match within(self.share(0), url, ask(url)).await {
                // Another one may be there, or know the leader.
                Err(error @ ScalerError::Unavailable(_)) => last = error,
                reading => return reading,
            }
        }
        Err(last)
    }
}

/// The answer of a member, or that it did not come in this time.
pub(crate) async fn within<T>(
    share: Duration,
    url: &Url,
    answer: impl Future<Output = Result<T, ScalerError>>,
) -> Result<T, ScalerError> {
    let silent = |_| Err(ScalerError::Unavailable(format!("{url} did not answer within {share:?}").into()));
    timeout(share, answer).await.unwrap_or_else(silent)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use crate::etcd::Etcd;
    use crate::nats_jetstream::NatsJetStream;
    use crate::source::Source;
    use crate::testing::{Texts, Trigger, ok, serve};

    /// Reads a source whose setting names a member that never answers and one that does.
    async fn read<S: Source>(setting: &str, metadata: Texts<'_>, answer: &str) -> i64 {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (healthy, _served) = serve(vec![ok(answer)]).await;
        let members = format!("{},{}", silent.local_addr().unwrap(), healthy.trim_start_matches("http://"));
        let trigger = Trigger::new(&[metadata, &[(setting, members.as_str())]].concat());
        trigger.sample::<S>().await.unwrap().value.thousandths()
    }

    #[tokio::test]
    async fn a_member_that_never_answers_leaves_time_for_the_others() {
        let key = [("watchKey", "k"), ("value", "5")];
        assert_eq!(read::<Etcd>("endpoints", &key, r#"{"header": {}, "kvs": [{"value": "Nw=="}]}"#).await, 7_000);
        let consumer = [("account", "$G"), ("stream", "s"), ("consumer", "c")];
        let alone = r#"{"account_details": [{"name": "$G", "stream_detail": [{"name": "s", "consumer_detail":
            [{"name": "c", "num_pending": 7, "num_ack_pending": 0}]}]}]}"#;
        assert_eq!(read::<NatsJetStream>("natsServerMonitoringEndpoint", &consumer, alone).await, 7_000);
    }
}
