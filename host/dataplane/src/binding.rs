//! What a slot holds at one instant, and the description it is made from.

use std::{fmt, str::FromStr, sync::Arc};

use platform_capability::{Grants, Guest, GuestParts, InvalidName, Name};
use platform_runtime::{Digest, Limits, Mode, Pool};
use serde::{Deserialize, Serialize};

use crate::{metrics::Metrics, rollout::Rollout};

/// A plugin as it is bound: its identity, its code, and everything the operator decided about it. Immutable.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Name of the plugin.
    pub name: Name,
    /// Version of the plugin.
    pub version: String,
    /// Digest of `wasm`.
    pub digest: Digest,
    /// The component.
    pub wasm: Arc<[u8]>,
    /// Settings, a JSON text.
    pub settings: String,
    /// What it may import and reach.
    pub grants: Grants,
    /// How its instances are used.
    pub mode: Mode,
    /// What it may use.
    pub limits: Limits,
}

/// What happens to a call whose plugin faults, is busy or rests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FailureMode {
    /// The call fails; a decision denies.
    #[default]
    Closed,
    /// The decision is left out, as if it had not been bound. Not for providers.
    Open,
    /// The previous generation answers.
    LastGood,
    /// Another plugin answers.
    Fallback(Name),
}

/// The text names no failure mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFailureMode {
    /// There is no such mode.
    #[error("`{0}` is no failure mode; there are `closed`, `open`, `last-good` and `fallback:NAME`")]
    Unknown(String),
    /// The fallback is no name.
    #[error(transparent)]
    Name(#[from] InvalidName),
}

impl FromStr for FailureMode {
    type Err = InvalidFailureMode;

    fn from_str(text: &str) -> Result<Self, InvalidFailureMode> {
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            "last-good" => Ok(Self::LastGood),
            _ => match text.strip_prefix("fallback:") {
                Some(name) => Ok(Self::Fallback(name.parse()?)),
                None => Err(InvalidFailureMode::Unknown(text.chars().take(100).collect())),
            },
        }
    }
}

impl TryFrom<String> for FailureMode {
    type Error = InvalidFailureMode;

    fn try_from(text: String) -> Result<Self, InvalidFailureMode> {
        text.parse()
    }
}

impl From<FailureMode> for String {
    fn from(mode: FailureMode) -> Self {
        mode.to_string()
    }
}

impl fmt::Display for FailureMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Open => f.write_str("open"),
            Self::LastGood => f.write_str("last-good"),
            Self::Fallback(name) => write!(f, "fallback:{name}"),
        }
    }
}

/// What is to be bound.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingSpec {
    /// The plugin, or the chain of decisions in order.
    pub plugins: Vec<Plugin>,
    /// What happens when one of them fails.
    pub failure: FailureMode,
    /// The plugin that `failure` falls back to.
    pub fallback: Option<Plugin>,
}

/// What a slot holds at one instant. Immutable; every call sees exactly one.
#[derive(Debug)]
pub struct Binding {
    /// Number of the binding within its slot, from 1.
    pub generation: u64,
    /// What it was made from.
    pub spec: BindingSpec,
    /// The plugins, ready to be called, in order.
    pub entries: Vec<Arc<Entry>>,
    /// The plugin to fall back to.
    pub fallback: Option<Arc<Entry>>,
    /// The candidate that is tried beside it.
    pub(crate) rollout: Option<Arc<Rollout>>,
}

/// One plugin of a binding, ready to be called.
#[derive(Debug)]
pub struct Entry {
    /// The plugin.
    pub plugin: Plugin,
    /// Name and version, as logs and answers show them.
    pub label: Arc<str>,
    /// Its instances.
    pub pool: Pool<Guest>,
    /// What its calls came to.
    pub metrics: Metrics,
    /// Whether instances start from a configured snapshot; why not, when they could.
    pub snapshot: Snapshot,
    /// What its instances share.
    pub(crate) parts: Arc<GuestParts>,
}

impl Entry {
    /// The same plugin without instances and with counters at zero, to serve again as another generation.
    pub(crate) fn renewed(&self) -> Self {
        Self {
            plugin: self.plugin.clone(),
            label: Arc::clone(&self.label),
            pool: self.pool.renewed(),
            metrics: Metrics::default(),
            snapshot: self.snapshot.clone(),
            parts: Arc::clone(&self.parts),
        }
    }

    /// Log lines of the plugin that were dropped for being over its rate.
    #[must_use]
    pub fn log_lines_dropped(&self) -> u64 {
        self.parts.log.dropped()
    }
}

/// How instances of an entry come to be configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshot {
    /// They are clones of a configured memory.
    Cloned,
    /// Every instance is configured when it is made.
    Configured,
    /// Every instance is configured when it is made, because the component can't be snapshotted; why.
    Unsupported(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_modes_round_trip() {
        for text in ["closed", "open", "last-good", "fallback:auth-strict"] {
            assert_eq!(text.parse::<FailureMode>().unwrap().to_string(), text);
        }
        for bad in ["", "Closed", "fallback:", "fallback:../x", "half-open"] {
            assert!(bad.parse::<FailureMode>().is_err(), "{bad}");
        }
    }
}
