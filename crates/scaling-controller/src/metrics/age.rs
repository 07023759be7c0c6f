//! How old the last good sample of each trigger is, as of each scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio::time::Instant;

use super::Labels;

/// When each trigger was last read well, by the monotonic clock: a wall clock may jump.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<BTreeMap<Labels, Instant>>);

impl Ages {
    pub(super) fn sampled(&self, labels: &Labels) {
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ages.get_mut(labels) {
            Some(at) => *at = Instant::now(),
            None => drop(ages.insert(labels.clone(), Instant::now())),
        }
    }

    pub(super) fn forget(&self, labels: &Labels) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(labels);
    }
}

impl Collector for Ages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time since each trigger was last read without an error";
        let mut family = encoder.encode_descriptor("tandem_sample_age_seconds", help, None, MetricType::Gauge)?;
        for (labels, at) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            ConstGauge::new(at.elapsed().as_secs_f64()).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}
