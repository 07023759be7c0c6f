//! The endpoints of a Service, and what becomes of their numbers.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Url;

use crate::cluster::Cluster;
use crate::context::TriggerContext;
use crate::error::{BuildError, ScalerError};
use crate::metadata::Choice;
use crate::source::Reading;

/// Endpoints that are asked at the same time. KEDA's number.
const AT_ONCE: usize = 5;

/// What becomes of several numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Choice)]
pub(super) enum Aggregation {
    #[value("average")]
    Average,
    #[value("sum")]
    Sum,
    #[value("max")]
    Max,
    #[value("min")]
    Min,
}

/// A Service whose endpoints are all asked.
#[derive(Debug)]
pub(super) struct Service {
    cluster: Arc<dyn Cluster>,
    namespace: String,
    name: String,
    aggregation: Aggregation,
}

impl Service {
    /// The Service that an address names.
    ///
    /// # Errors
    /// It names none, or this program cannot see its endpoints.
    pub(super) fn of(url: &Url, aggregation: Aggregation, context: &TriggerContext<'_>) -> Result<Self, BuildError> {
        let wrong = |what: &str| BuildError::new("aggregateFromKubeServiceEndpoints", what);
        let cluster = context.cluster.ok_or_else(|| wrong("this program has no access to the cluster's endpoints"))?;
        let mut labels = url.host_str().unwrap_or_default().split('.').map(str::to_owned);
        match (labels.next(), labels.next()) {
            (Some(name), Some(namespace)) => Ok(Self { cluster: Arc::clone(cluster), namespace, name, aggregation }),
            _ => Err(wrong("needs a url whose host is SERVICE.NAMESPACE")),
        }
    }

    /// Asks each endpoint what `url` asks the Service.
    ///
    /// # Errors
    /// There is no endpoint, or the error of any.
    pub(super) async fn read<F>(&self, url: &Url, ask: impl Fn(Url) -> F) -> Result<Reading, ScalerError>
    where
        F: Future<Output = Result<Reading, ScalerError>>,
    {
        let addresses = self.cluster.ready_endpoints(&self.namespace, &self.name).await?;
        let urls = addresses.iter().map(|address| at(url, address)).collect::<Result<Vec<_>, _>>()?;
        let asked = stream::iter(urls).map(ask).buffer_unordered(AT_ONCE);
        let readings: Vec<Reading> = asked.try_collect().await?;
        aggregate(self.aggregation, &readings.iter().map(|reading| reading.float).collect::<Vec<_>>())
    }
}

/// The same question to one endpoint.
fn at(url: &Url, address: &str) -> Result<Url, ScalerError> {
    let mut url = url.clone();
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    url.set_host(Some(&host))
        .map_err(|error| ScalerError::Misconfigured { what: format!("endpoint {address}: {error}") })?;
    Ok(url)
}

fn aggregate(how: Aggregation, values: &[f64]) -> Result<Reading, ScalerError> {
    if values.is_empty() {
        return Err(ScalerError::no_number("the Service has no ready endpoint"));
    }
    #[expect(clippy::cast_precision_loss, reason = "a Service has fewer endpoints than a float has whole numbers")]
    let count = values.len() as f64;
    Reading::number(match how {
        Aggregation::Sum => values.iter().sum(),
        Aggregation::Average => values.iter().sum::<f64>() / count,
        Aggregation::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        Aggregation::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
    })
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::super::MetricsApi;
    use super::*;
    use crate::cluster::LivePod;
    use crate::testing::{Trigger, ok, serve};

    #[test]
    fn numbers_of_several_endpoints_become_one() {
        for (how, wanted) in
            [(Aggregation::Average, 3.0_f64), (Aggregation::Sum, 9.0), (Aggregation::Max, 5.0), (Aggregation::Min, 1.0)]
        {
            assert_eq!(aggregate(how, &[5.0, 1.0, 3.0]).unwrap().float.to_bits(), wanted.to_bits(), "{how:?}");
            assert!(aggregate(how, &[]).is_err(), "{how:?} of nothing");
        }
    }

    /// A Service with two endpoints on one address, or none.
    #[derive(Debug)]
    struct Endpoints(Vec<String>);

    #[async_trait]
    impl Cluster for Endpoints {
        async fn live_pods(&self, _: &str, _: &str) -> Result<Vec<LivePod>, ScalerError> {
            Err(ScalerError::Unavailable("not asked here".into()))
        }

        async fn ready_endpoints(&self, namespace: &str, service: &str) -> Result<Vec<String>, ScalerError> {
            assert_eq!((namespace, service), ("shop", "api"));
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn each_endpoint_is_asked_and_one_that_is_silent_fails_the_reading() {
        let answers = vec![ok(r#"{"a": {"b": 4}}"#), ok(r#"{"a": {"b": 6}}"#), ok("{}"), ok(r#"{"a": {"b": 6}}"#)];
        let (address, _served) = serve(answers).await;
        let url = format!("http://api.shop.svc:{}/v1", address.rsplit(':').next().unwrap());
        let trigger = |addresses: &[&str]| {
            let metadata = [
                ("url", url.as_str()),
                ("valueLocation", "a.b"),
                ("targetValue", "5"),
                ("aggregateFromKubeServiceEndpoints", "true"),
            ];
            let endpoints = Endpoints(addresses.iter().map(|address| (*address).to_owned()).collect());
            Trigger::new(&metadata).cluster(Arc::new(endpoints))
        };
        let both = trigger(&["127.0.0.1", "127.0.0.1"]);
        assert_eq!(both.sample::<MetricsApi>().await.unwrap().value.thousandths(), 5_000);
        assert!(both.sample::<MetricsApi>().await.is_err());
        assert!(trigger(&[]).sample::<MetricsApi>().await.is_err());
    }
}
