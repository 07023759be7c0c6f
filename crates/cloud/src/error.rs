//! What went wrong, named after what the caller does next.

use std::time::Duration;

use scheduling::OfferingKey;

/// Any error, boxed; the cause inside [`CloudError::Unavailable`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a provider did not do what it was asked.
///
/// `Display` speaks for this layer only; the cause is behind `source()`.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// There is no such machine (any more). Forget it.
    #[error("the machine does not exist")]
    NotFound,
    /// These offerings cannot be had at the moment. Try others; the provider leaves them out of
    /// [`crate::CloudProvider::instance_types`] for a while.
    #[error("no capacity for {}{}", Listed(offerings), Said(why))]
    InsufficientCapacity {
        /// Each offering that was refused, in the order it was tried. Never empty.
        offerings: Vec<OfferingKey>,
        /// The provider's own words: a quota is told as a quota. Empty if it said nothing.
        why: String,
    },
    /// Too many calls. Wait at least this long before the next one.
    #[error("throttled, to be tried again in {} ms", retry_after.as_millis())]
    Throttled {
        /// Time to wait.
        retry_after: Duration,
    },
    /// A person must change something. Tell them; do not retry before the object changes.
    #[error("{what}")]
    Misconfigured {
        /// A sentence that starts with the field's path: `spec.subnetSelector: no subnet matches {…}`.
        what: String,
    },
    /// The provider failed in some other way. Back off and retry.
    #[error("the cloud provider did not answer as expected")]
    Unavailable(#[source] BoxError),
}

impl CloudError {
    /// A [`CloudError::Misconfigured`] about `field`.
    pub fn misconfigured(field: &str, what: impl std::fmt::Display) -> Self {
        Self::Misconfigured { what: format!("{field}: {what}") }
    }

    /// A [`CloudError::Unavailable`] around any cause.
    pub fn unavailable(cause: impl Into<BoxError>) -> Self {
        Self::Unavailable(cause.into())
    }

    /// Whether asking again later, unchanged, can succeed.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Unavailable(_) => true,
            Self::NotFound | Self::InsufficientCapacity { .. } | Self::Misconfigured { .. } => false,
        }
    }
}

/// The first few offerings and how many more there are, so that an event's note stays readable.
struct Listed<'a>(&'a [OfferingKey]);

impl std::fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 5;
        for (index, key) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{key}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

struct Said<'a>(&'a str);

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ": {}", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use scheduling::CapacityType;

    use super::*;

    fn key(zone: &str) -> OfferingKey {
        OfferingKey {
            instance_type: "m5.large".to_owned(),
            zone: zone.to_owned(),
            capacity_type: CapacityType::OnDemand,
        }
    }

    #[test]
    fn a_capacity_error_names_its_offerings_and_counts_the_rest() {
        let offerings = ["a", "b", "c", "d", "e", "f", "g"].map(key).to_vec();
        let text = CloudError::InsufficientCapacity { offerings, why: String::new() }.to_string();
        assert!(text.starts_with("no capacity for m5.large in a (on-demand), m5.large in b (on-demand)"), "{text}");
        assert!(text.ends_with("m5.large in e (on-demand) and 2 more"), "{text}");
        let quota =
            CloudError::InsufficientCapacity { offerings: vec![key("a")], why: "VcpuLimitExceeded: 5".to_owned() };
        assert_eq!(quota.to_string(), "no capacity for m5.large in a (on-demand): VcpuLimitExceeded: 5");
    }

    #[test]
    fn a_misconfiguration_starts_with_the_field() {
        let error = CloudError::misconfigured("spec.subnetSelector", "no subnet matches");
        assert_eq!(error.to_string(), "spec.subnetSelector: no subnet matches");
        assert!(!error.is_transient());
    }
}
