//! The one place that reads clocks.
//!
//! Owns the choice of clock: monotonic for durations and deadlines, wall clock only for what is stored or shown.
//! Invariant: no function here panics, also when the wall clock stands before 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use std::time::Instant;

/// The monotonic time, for durations and deadlines.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one home of monotonic time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix time in milliseconds; 0 when the wall clock stands before 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    u64::try_from(unix().as_millis()).unwrap_or(u64::MAX)
}

/// Unix time in nanoseconds; 0 when the wall clock stands before 1970.
#[must_use]
pub fn unix_ns() -> u64 {
    u64::try_from(unix().as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "the one home of wall time")]
fn unix() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_does_not_go_back() {
        let first = now();
        assert!(now() >= first);
    }

    #[test]
    fn units_agree() {
        let before = unix_ms();
        let ns = unix_ns();
        let after = unix_ms();
        assert!((before..=after).contains(&(ns / 1_000_000)), "{before} <= {ns} / 10^6 <= {after}");
        assert!(before > 1_600_000_000_000, "the wall clock of this machine is set");
    }
}
