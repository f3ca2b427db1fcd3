//! What a plugin may use, and the meter that says no.
//!
//! Invariant: the sum of a guest's memories never passes its cap, whatever it asks for and however often.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wasmtime::ResourceLimiter;

/// Limits of one plugin in one binding. Every limit has a finite default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of one instance, in KiB, over all its linear memories.
    pub memory_kib: u32,
    /// Elements of one instance, over all its tables.
    pub table_elements: u32,
    /// Longest call, in milliseconds, host calls included. A caller's own deadline can only be shorter.
    pub deadline_ms: u32,
    /// Calls running at once.
    pub concurrency: u32,
    /// Calls waiting for their turn; one more is refused at once.
    pub queue: u32,
    /// Calls that a reused instance serves before it is replaced.
    pub calls_per_instance: u32,
    /// Log lines per second; what is over is dropped and counted.
    pub log_lines_per_second: u32,
    /// Data that a guest may pass to the host in one call or return, in KiB.
    pub transfer_kib: u32,
}

impl Limits {
    /// For a decision: small and quick.
    #[must_use]
    pub fn decision() -> Self {
        Self {
            memory_kib: 16 << 10,
            table_elements: 20_000,
            deadline_ms: 100,
            concurrency: 256,
            queue: 1024,
            calls_per_instance: 100_000,
            log_lines_per_second: 100,
            transfer_kib: 1024,
        }
    }

    /// For a provider: room for values of 8 MiB, and time for storage or a network.
    #[must_use]
    pub fn provider() -> Self {
        Self { memory_kib: 64 << 10, deadline_ms: 10_000, concurrency: 64, transfer_kib: 40 << 10, ..Self::decision() }
    }

    /// Longest call.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(u64::from(self.deadline_ms))
    }

    /// When a call that begins at `now` has to be done, for a caller who waits until `deadline`.
    #[must_use]
    pub fn until(&self, now: Instant, deadline: Instant) -> Instant {
        deadline.min(now + self.deadline())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::decision()
    }
}

/// Counts what one instance uses.
#[derive(Debug)]
pub struct Meter {
    memory_bytes_max: usize,
    table_elements_max: usize,
    memory_bytes: usize,
    table_elements: usize,
    denied: Option<&'static str>,
}

impl Meter {
    /// A meter for an instance under `limits`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: (limits.memory_kib as usize) << 10,
            table_elements_max: limits.table_elements as usize,
            memory_bytes: 0,
            table_elements: 0,
            denied: None,
        }
    }

    /// Linear memory in use, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Forgets what was denied so far.
    pub(crate) fn forget_denied(&mut self) {
        self.denied = None;
    }

    /// The limit that the guest ran into since the last look, with its value.
    pub(crate) fn take_denied(&mut self) -> Option<(&'static str, String)> {
        let what = self.denied.take()?;
        let limit = match what {
            "memory" => format!("{} KiB", self.memory_bytes_max >> 10),
            _ => format!("{} elements", self.table_elements_max),
        };
        Some((what, limit))
    }
}

fn grow(used: &mut usize, current: usize, desired: usize, max: usize) -> bool {
    let after = used.saturating_sub(current).saturating_add(desired);
    let fits = after <= max;
    if fits {
        *used = after;
    }
    fits
}

impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = maximum.is_none_or(|maximum| desired <= maximum)
            && grow(&mut self.memory_bytes, current, desired, self.memory_bytes_max);
        if !fits {
            self.denied = Some("memory");
        }
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = maximum.is_none_or(|maximum| desired <= maximum)
            && grow(&mut self.table_elements, current, desired, self.table_elements_max);
        if !fits {
            self.denied = Some("table");
        }
        Ok(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_share_one_cap() {
        let mut meter = Meter::new(&Limits { memory_kib: 128, ..Limits::decision() });
        assert!(meter.memory_growing(0, 64 << 10, None).unwrap());
        assert!(meter.memory_growing(0, 64 << 10, None).unwrap(), "a second memory fits exactly");
        assert!(!meter.memory_growing(64 << 10, 128 << 10, None).unwrap(), "either growing does not");
        assert_eq!(meter.memory_bytes(), 128 << 10);
        assert_eq!(meter.take_denied(), Some(("memory", "128 KiB".to_owned())));
        assert_eq!(meter.take_denied(), None);
    }

    #[test]
    fn tables_have_a_cap_too() {
        let mut meter = Meter::new(&Limits { table_elements: 10, ..Limits::decision() });
        assert!(meter.table_growing(0, 10, None).unwrap());
        assert!(!meter.table_growing(10, usize::MAX, None).unwrap());
        assert_eq!(meter.take_denied(), Some(("table", "10 elements".to_owned())));
    }
}
