//! What can be set about storage, and the clock it tells time by.
//!
//! Owns the defaults; must not know how they are applied.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_base::clock;

/// Settings of a storage.
#[derive(Debug, Clone)]
pub struct Options {
    /// Changes kept per table for [`Storage::changes`](crate::Storage::changes); older ones are dropped.
    pub changes_kept: u64,
    /// Bytes of changes kept per table; older ones are dropped beyond it, whatever their number.
    pub changes_bytes: u64,
    /// How often due expiries are looked for; must stay well below the 250 ms that watchers are promised.
    pub expiry_tick: Duration,
    /// Bytes of writes that may wait for the committer; callers beyond it wait for room.
    pub queue_bytes: usize,
    /// Bytes that embedded storage caches: half of them blocks of its files, half rows that were read or written lately.
    pub cache_bytes: u64,
    /// Bytes that each of the five keyspaces of embedded storage gathers in memory before it writes a table file, and largest size of
    /// one that is made of others. As it was when the store was made.
    pub memtable_bytes: u64,
    /// Where time comes from.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            changes_kept: 100_000,
            changes_bytes: 256 << 20,
            expiry_tick: Duration::from_millis(25),
            queue_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            clock: Clock::system(),
        }
    }
}

/// Wall clock of a storage: the system's, or one that tests turn.
#[derive(Clone)]
pub struct Clock {
    turned: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// The system's wall clock.
    #[must_use]
    pub fn system() -> Self {
        Self { turned: None }
    }

    /// A clock that stands at `unix_ms` until it is turned with [`Clock::advance`]. Clones share the time.
    #[must_use]
    pub fn manual(unix_ms: u64) -> Self {
        Self { turned: Some(Arc::new(AtomicU64::new(unix_ms.saturating_mul(1_000_000)))) }
    }

    /// Turns a manual clock forward; the system's is left alone.
    pub fn advance(&self, by: Duration) {
        if let Some(turned) = &self.turned {
            turned.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Turns a manual clock back, as happens to clocks of machines; the system's is left alone.
    pub fn rewind(&self, by: Duration) {
        if let Some(turned) = &self.turned {
            turned.fetch_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// Unix time in nanoseconds.
    #[must_use]
    pub fn unix_ns(&self) -> u64 {
        self.turned.as_ref().map_or_else(clock::unix_ns, |turned| turned.load(Ordering::SeqCst))
    }

    /// Unix time in milliseconds.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.unix_ns() / 1_000_000
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.turned.is_some() { "Clock::manual" } else { "Clock::system" })
    }
}
