//! What was last decided about each object: one series each, which changes its labels.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::Labels;
use crate::object::ObjectKey;

#[derive(Debug, Default)]
pub(super) struct Decisions {
    series: Family<Labels, Gauge>,
    last: Mutex<HashMap<(&'static str, ObjectKey), Labels>>,
}

impl Decisions {
    pub(super) fn series(&self) -> Family<Labels, Gauge> {
        self.series.clone()
    }

    pub(super) fn set(&self, kind: &'static str, key: &ObjectKey, decision: &'static str, reason: &str) {
        let labels = Labels::new([
            ("namespace", &key.namespace),
            ("type", kind),
            ("resource", &key.name),
            ("decision", decision),
            ("reason", reason),
        ]);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let old = last.insert((kind, key.clone()), labels.clone());
        if let Some(old) = old.filter(|old| *old != labels) {
            self.series.remove(&old);
        }
        self.series.get_or_create(&labels).set(1);
    }

    pub(super) fn forget(&self, kind: &'static str, key: &ObjectKey) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = last.remove(&(kind, key.clone())) {
            self.series.remove(&old);
        }
    }
}
