//! What is told of a webhook's deliveries.
//!
//! Counts since the daemon has the webhook; must not decide anything. Invariant: what it keeps of single deliveries is
//! bounded by those that may wait.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use platform_base::clock;

/// Most retries that are known by their time; the broker lets no more deliveries wait.
const RETRIES_MAX: usize = 1000;

/// What is known of a webhook's deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events that the target took.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that went to the dead-letter topic.
    pub rejected: u64,
    /// Attempts that have failed since the last event was taken.
    pub failures_in_row: u64,
    /// Attempts that are being made.
    pub in_flight: u64,
    /// HTTP status of the last answer; none when there was none.
    pub last_status: Option<u16>,
    /// When the last attempt ended, unix time in milliseconds.
    pub last_attempt_ms: Option<u64>,
    /// Why the last attempt failed, or why none can be made; empty when the last one did not fail.
    pub problem: String,
    /// When a failed event is tried again, unix time in milliseconds, the soonest; none when none waits.
    pub next_attempt_ms: Option<u64>,
}

/// The same while it changes.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    told: Progress,
    /// When failed events are tried again, by sequence.
    retries: BTreeMap<u64, u64>,
    /// Until when the target is left alone.
    rest_until_ms: u64,
}

/// An attempt that is being made.
pub(crate) struct Attempt<'a>(&'a Tally);

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let told = &mut self.0.0.lock().told;
        told.in_flight = told.in_flight.saturating_sub(1);
    }
}

impl Tally {
    pub(crate) fn told(&self) -> Progress {
        let inner = self.0.lock();
        let next = inner.retries.values().min().map(|next| (*next).max(inner.rest_until_ms));
        Progress { next_attempt_ms: next, ..inner.told.clone() }
    }

    /// An attempt begins, and is over when what this returns is dropped.
    pub(crate) fn begin(&self, sequence: u64) -> Attempt<'_> {
        let mut inner = self.0.lock();
        inner.told.in_flight += 1;
        inner.retries.remove(&sequence);
        Attempt(self)
    }

    /// An attempt was answered, or will not be; what came of it follows.
    pub(crate) fn end(&self, status: Option<u16>) {
        let told = &mut self.0.lock().told;
        told.last_status = status;
        told.last_attempt_ms = Some(clock::unix_ms());
    }

    pub(crate) fn delivered(&self) {
        let told = &mut self.0.lock().told;
        told.delivered += 1;
        told.failures_in_row = 0;
        told.problem.clear();
    }

    pub(crate) fn failed(&self, sequence: u64, why: &str, again: Duration) {
        let mut inner = self.0.lock();
        inner.told.failed += 1;
        inner.told.failures_in_row += 1;
        why.clone_into(&mut inner.told.problem);
        let again_ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX);
        if inner.retries.len() < RETRIES_MAX {
            inner.retries.insert(sequence, clock::unix_ms().saturating_add(again_ms));
        }
    }

    pub(crate) fn rejected(&self, why: &str) {
        let told = &mut self.0.lock().told;
        told.failed += 1;
        told.rejected += 1;
        why.clone_into(&mut told.problem);
    }

    /// A failed event is not tried again.
    pub(crate) fn buried(&self, sequence: u64) {
        let mut inner = self.0.lock();
        inner.told.rejected += 1;
        inner.retries.remove(&sequence);
    }

    pub(crate) fn rests(&self, rest: Duration) {
        let rest_ms = u64::try_from(rest.as_millis()).unwrap_or(u64::MAX);
        self.0.lock().rest_until_ms = clock::unix_ms().saturating_add(rest_ms);
    }

    /// Nothing can be attempted, or can again when `why` is empty.
    pub(crate) fn hindered(&self, why: &str) {
        why.clone_into(&mut self.0.lock().told.problem);
    }

    /// Nobody delivers any more: nothing is tried again.
    pub(crate) fn stop(&self) {
        let mut inner = self.0.lock();
        inner.retries.clear();
        inner.rest_until_ms = 0;
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.0.lock().told.failures_in_row > 0
    }
}
