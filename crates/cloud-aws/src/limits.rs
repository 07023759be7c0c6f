//! One place that paces every call.
//!
//! EC2 gives an account a token bucket per kind of call and region ("Request throttling for the Amazon EC2 API"). The
//! account is shared with people and other programs, so most rates here are half of the documented ones, and the
//! bursts too.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The bucket a call draws from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    /// `Describe*` with ids, filters or pages. AWS: 100 tokens, 20 a second.
    Read,
    /// `Describe*` of everything. AWS: 50 tokens, 10 a second.
    ReadAll,
    /// Launch templates, tags. AWS: 50 tokens, 5 a second.
    Write,
    /// CreateFleet. AWS counts the instances it starts like RunInstances, 1,000 tokens and 2 a second, and the calls
    /// like other writes, 50 tokens and 5 a second; one instance is asked for at a time. Used in full: pods wait for
    /// it, and hardly anybody else calls it.
    Launch,
    /// TerminateInstances. AWS: 100 tokens, 5 a second.
    Terminate,
    /// GetParameter of the Parameter Store. AWS: 40 a second.
    Parameters,
    /// GetProducts of the Pricing API. Not documented; it answers a page of 100 in about half a second.
    Prices,
}

/// Burst and refill per second of each bucket, in calls.
const fn quota(bucket: Bucket) -> (u32, u32) {
    match bucket {
        Bucket::Read => (50, 10),
        Bucket::ReadAll => (25, 5),
        Bucket::Write => (25, 3),
        Bucket::Launch => (50, 5),
        Bucket::Terminate => (50, 3),
        Bucket::Parameters => (20, 20),
        Bucket::Prices => (5, 5),
    }
}

/// The buckets of one account and region.
#[derive(Debug)]
pub(crate) struct Limits {
    buckets: [DefaultDirectRateLimiter; 7],
}

impl Limits {
    pub(crate) fn new() -> Self {
        use Bucket::{Launch, Parameters, Prices, Read, ReadAll, Terminate, Write};
        let buckets = [Read, ReadAll, Write, Launch, Terminate, Parameters, Prices].map(|bucket| {
            let (burst, refill) = quota(bucket);
            let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
            let refill = NonZeroU32::new(refill).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(refill).allow_burst(burst))
        });
        Self { buckets }
    }

    /// Waits for a token.
    pub(crate) async fn take(&self, bucket: Bucket) {
        self.buckets[bucket as usize].until_ready().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_granted_at_once_and_the_next_call_is_not() {
        let limits = Limits::new();
        let (burst, _) = quota(Bucket::Launch);
        let launches = &limits.buckets[Bucket::Launch as usize];
        assert!((0..burst).all(|_| launches.check().is_ok()));
        assert!(launches.check().is_err());
        assert!(limits.buckets[Bucket::Terminate as usize].check().is_ok(), "buckets do not share tokens");
    }
}
