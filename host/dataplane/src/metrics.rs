//! What the calls of one plugin in one binding came to. Counted per worker, so that counting never contends.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use platform_base::worker;
use platform_runtime::Fault;

/// Upper bounds of the latency histogram, in microseconds; the last bucket has none.
pub const BUCKETS_US: [u64; 20] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 5_000_000,
];

/// Kinds of faults that are counted apart, in the order of the counters.
const KINDS: [&str; 11] =
    ["trap", "deadline", "limit", "stack", "busy", "waited", "expired", "resting", "instantiate", "moved", UNABLE];

/// A provider's answer that it is unable to; counted where it decides over a rollout, and told only where it happened.
pub(crate) const UNABLE: &str = "unable";

/// Counters of one plugin in one binding.
#[derive(Debug)]
pub struct Metrics {
    shards: Box<[Shard]>,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    total_ns: AtomicU64,
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    faults: [AtomicU64; KINDS.len()],
}

/// A reading of [`Metrics`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls, answered or not.
    pub calls: u64,
    /// Time that they took together.
    pub total: Duration,
    /// Calls per bucket of [`BUCKETS_US`], not cumulative; the last is for those above all bounds.
    pub buckets: Vec<u64>,
    /// Faults by [`Fault::kind`].
    pub faults: BTreeMap<&'static str, u64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self { shards: (0..workers).map(|_| Shard::default()).collect() }
    }
}

impl Metrics {
    /// Counts a call.
    pub(crate) fn record(&self, took: Duration, fault: Option<&Fault>) {
        self.count(took, fault.map(Fault::kind));
    }

    /// Counts a call that failed in this way, if it did.
    pub(crate) fn count(&self, took: Duration, failed: Option<&str>) {
        let Some(shard) = self.shards.get(worker() % self.shards.len().max(1)) else { return };
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        shard.total_ns.fetch_add(ns, Ordering::Relaxed);
        let bucket = BUCKETS_US.partition_point(|bound| bound.saturating_mul(1000) < ns);
        if let Some(bucket) = shard.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let kind = failed.and_then(|failed| KINDS.iter().position(|kind| *kind == failed));
        if let Some(count) = kind.and_then(|kind| shard.faults.get(kind)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Reads all counters. Not one instant: calls go on meanwhile.
    #[must_use]
    pub fn read(&self) -> Counts {
        let mut counts = Counts { buckets: vec![0; BUCKETS_US.len() + 1], ..Counts::default() };
        for shard in &self.shards {
            counts.total += Duration::from_nanos(shard.total_ns.load(Ordering::Relaxed));
            for (sum, bucket) in counts.buckets.iter_mut().zip(&shard.buckets) {
                *sum += bucket.load(Ordering::Relaxed);
            }
            for (kind, count) in KINDS.iter().zip(&shard.faults) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 || *kind != UNABLE {
                    *counts.faults.entry(kind).or_default() += count;
                }
            }
        }
        counts.calls = counts.buckets.iter().sum();
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_land_in_their_bucket_and_faults_are_told_apart() {
        let metrics = Metrics::default();
        metrics.record(Duration::from_nanos(900), None);
        metrics.record(Duration::from_micros(2), None);
        metrics.record(Duration::from_secs(9), Some(&Fault::Stack));
        let counts = metrics.read();
        assert_eq!(counts.calls, 3);
        assert_eq!((counts.buckets[0], counts.buckets[1], counts.buckets[BUCKETS_US.len()]), (1, 1, 1));
        assert_eq!(counts.faults["stack"], 1);
        assert_eq!(counts.faults["trap"], 0);
    }
}
