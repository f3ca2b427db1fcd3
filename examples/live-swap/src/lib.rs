//! The parts of the live-swap story: real processes, load on them, swaps under the load, and the account of what came back.
//!
//! In reading order: how processes are started and stopped; the daemon, the gateways and the services between them; the
//! load; what is swapped and when ([`timeline`]); the scenarios that put it together.
//! Invariant: every process started here is stopped by its id when its guard is dropped, also when a scenario fails.

pub mod process;

pub mod backend;
pub mod daemon;
pub mod envoy;
pub mod nginx;

pub mod checker;
pub mod load;
pub mod timeline;
pub mod writers;

pub mod scenario;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// How much a run does.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Swaps of each slot.
    pub swaps: u64,
    /// The swap after which memory is measured for the first time.
    pub settled_swaps: u64,
    /// How often the daemon is killed.
    pub crashes: u32,
    /// The executable of this crate, which is also the service behind the gateways.
    pub own_binary: PathBuf,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            swaps: 1000,
            settled_swaps: 100,
            crashes: 50,
            own_binary: std::env::current_exe().unwrap_or_else(|_| "live-swap".into()),
        }
    }
}

impl Plan {
    /// The plan of a test run: what `LIVE_SWAPS` and `LIVE_CRASHES` say, else `swaps` and `crashes`.
    ///
    /// # Errors
    /// When a variable is no number.
    pub fn from_environment(swaps: u64, crashes: u32, own_binary: PathBuf) -> Result<Self> {
        let number = |name: &str| {
            std::env::var(name)
                .ok()
                .map(|text| text.parse::<u32>().with_context(|| format!("`{name}` is no number")))
                .transpose()
        };
        let swaps = number("LIVE_SWAPS")?.map_or(swaps, u64::from);
        let crashes = number("LIVE_CRASHES")?.unwrap_or(crashes);
        // A short run measures memory later than its length would suggest: pools and caches fill up in any case.
        Ok(Self { swaps, crashes, own_binary, settled_swaps: 100.min(swaps / 2) })
    }
}
