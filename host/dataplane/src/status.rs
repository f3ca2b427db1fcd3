//! What slots are doing, for people and for metrics.

use std::{sync::Arc, time::Duration};

use platform_capability::{Grants, Name};
use platform_runtime::{Digest, Limits, Mode};

use crate::{
    binding::{Binding, Entry, FailureMode, Snapshot},
    metrics::Counts,
    rollout::{Compared, Divergence, Plan, Rollout},
    slot::Slot,
    slot_name::SlotName,
};

/// What a slot holds and how it fares.
#[derive(Debug, Clone)]
pub struct SlotStatus {
    /// The slot.
    pub name: SlotName,
    /// The generation that new calls see.
    pub generation: u64,
    /// What happens when a plugin fails.
    pub failure: FailureMode,
    /// Its plugins, in order; the one to fall back to comes last.
    pub entries: Vec<EntryStatus>,
    /// Generations that can be gone back to, the latest first.
    pub kept: Vec<u64>,
    /// Older generations that calls still run on, the latest first.
    pub draining: Vec<u64>,
    /// Whether none of its plugins rests.
    pub ready: bool,
    /// The candidate that is tried beside them.
    pub rollout: Option<RolloutStatus>,
}

/// How a candidate fares.
#[derive(Debug, Clone)]
pub struct RolloutStatus {
    /// Its generation.
    pub generation: u64,
    /// How it is tried.
    pub plan: Plan,
    /// Its plugins, in order; the one to fall back to comes last.
    pub entries: Vec<EntryStatus>,
    /// Calls that it was asked, each a whole chain.
    pub candidate: Counts,
    /// The same of the generation that serves, since the rollout began.
    pub current: Counts,
    /// What the answers of a shadow came to.
    pub compared: Compared,
    /// The last divergences, the newest first.
    pub divergences: Vec<Arc<Divergence>>,
}

/// How one plugin of a binding fares.
#[derive(Debug, Clone)]
pub struct EntryStatus {
    /// Name of the plugin.
    pub name: Name,
    /// Version of the plugin.
    pub version: String,
    /// Digest of its component.
    pub digest: Digest,
    /// How its instances are used.
    pub mode: Mode,
    /// Its limits.
    pub limits: Limits,
    /// Its grants.
    pub grants: Grants,
    /// How its instances come to be configured.
    pub snapshot: Snapshot,
    /// Whether it is the one to fall back to.
    pub is_fallback: bool,
    /// What its calls came to in this generation.
    pub counts: Counts,
    /// Faults since the last call that went well.
    pub faults_in_a_row: u32,
    /// Time until it is tried again, when it rests.
    pub rest: Option<Duration>,
    /// Memory of the instance that served last, in bytes.
    pub memory_bytes: usize,
    /// Log lines that were dropped for being over its rate.
    pub log_lines_dropped: u64,
}

impl SlotStatus {
    /// What `slot` is doing; `draining` tells its generations that still have calls.
    pub(crate) fn of(slot: &Slot, draining: impl FnOnce() -> Vec<u64>) -> Option<Self> {
        let binding = slot.binding()?;
        let entries = entries(&binding);
        Some(Self {
            name: slot.name().clone(),
            generation: binding.generation,
            failure: binding.spec.failure.clone(),
            kept: slot.kept().iter().map(|kept| kept.generation).collect(),
            draining: draining(),
            ready: entries.iter().all(|entry| entry.is_fallback || entry.rest.is_none()),
            entries,
            rollout: binding.rollout.as_deref().map(RolloutStatus::of),
        })
    }
}

impl RolloutStatus {
    pub(crate) fn of(rollout: &Rollout) -> Self {
        Self {
            generation: rollout.generation(),
            plan: rollout.plan().clone(),
            entries: entries(&rollout.candidate),
            candidate: rollout.tally.candidate.read(),
            current: rollout.tally.current.read(),
            compared: rollout.tally.answers(),
            divergences: rollout.tally.divergences(),
        }
    }
}

fn entries(binding: &Binding) -> Vec<EntryStatus> {
    let fallback = binding.fallback.iter().map(|entry| EntryStatus::of(entry, true));
    binding.entries.iter().map(|entry| EntryStatus::of(entry, false)).chain(fallback).collect()
}

impl EntryStatus {
    fn of(entry: &Arc<Entry>, is_fallback: bool) -> Self {
        let (faults_in_a_row, rest) = entry.pool.health();
        Self {
            name: entry.plugin.name.clone(),
            version: entry.plugin.version.clone(),
            digest: entry.plugin.digest,
            mode: entry.pool.mode(),
            limits: entry.plugin.limits.clone(),
            grants: entry.plugin.grants.clone(),
            snapshot: entry.snapshot.clone(),
            is_fallback,
            counts: entry.metrics.read(),
            faults_in_a_row,
            rest,
            memory_bytes: entry.pool.memory_bytes(),
            log_lines_dropped: entry.log_lines_dropped(),
        }
    }
}
