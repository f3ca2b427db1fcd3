//! `kv.store` in the memory of one instance: fast, bounded, and gone with the instance unless a successor takes it
//! over. It owns nothing durable and never waits: `changes` answers at once.
//!
//! Its invariant: what it keeps, entries and recent changes of all namespaces together, stays within `max_bytes`. Old
//! changes give way to entries; when that is not enough a write is refused.

use std::collections::BTreeMap;

use platform_sdk::{
    Handover, Problem, context, export,
    kv::{
        Change, Condition, Entry, Error, Expiry, Fence, Quota, Result, Store, Usage, Write, check_expiry, check_key,
        check_keys, check_limit, check_restored, check_value, check_writes,
    },
};
use serde::Deserialize;

mod space;
mod state;

use space::{Limits, Space};

/// Bounds of what is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Bytes of all entries and kept changes. The instance needs about twice as many while it hands them over.
    max_bytes: usize,
    /// Changes kept for watchers, for each namespace.
    max_changes: usize,
    /// Quota of every namespace that has none of its own.
    quota: Quota,
    /// Quotas of single namespaces.
    quotas: BTreeMap<String, Quota>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_bytes: 16 << 20, max_changes: 10_000, quota: Quota::default(), quotas: BTreeMap::new() }
    }
}

/// One space for each namespace that was written.
#[derive(Debug)]
struct Memory {
    settings: Settings,
    spaces: BTreeMap<String, Space>,
}

export!(
    kv::Store + Handover for Memory,
    mode = "single",
    settings_schema = include_str!("../settings.schema.json")
);

impl Memory {
    /// Reads the space of the call's namespace with what expired removed. A namespace that was never written takes no
    /// memory: whoever may read could else make any number of them.
    fn read<T>(&mut self, read: impl FnOnce(&Space) -> T) -> T {
        let namespace = context::namespace();
        let limits = self.limits(&namespace);
        match self.spaces.get_mut(&namespace) {
            None => read(&Space::default()),
            Some(space) => {
                space.advance(context::time_ms(), limits);
                read(space)
            }
        }
    }

    /// Writes to the space of the call's namespace, behind the fence of the call. The space stays only if it was written.
    fn write<T>(&mut self, write: impl FnOnce(&mut Space, Limits) -> Result<T>) -> Result<T> {
        let namespace = context::namespace();
        let limits = self.limits(&namespace);
        let space = self.spaces.entry(namespace.clone()).or_default();
        space.advance(context::time_ms(), limits);
        let fence = context::fence();
        let result = match space.fences.check(fence.as_ref()) {
            Ok(()) if fence.as_ref().is_some_and(|fence| !space.has_room_for(fence, limits)) => {
                Err(Error::Quota("memory is used up: there is no room for another fence".into()))
            }
            Ok(()) => write(space, limits),
            Err(seen) => Err(Error::Stale(seen)),
        };
        if result.is_ok() {
            space.fences.pass(fence.as_ref());
        }
        if space.revision() == 0 && space.usage().0 == 0 && space.fences.is_empty() {
            self.spaces.remove(&namespace);
        }
        result
    }

    /// The bytes that the other namespaces leave to this one.
    fn limits(&self, namespace: &str) -> Limits {
        let others = self.spaces.iter().filter(|(name, _)| *name != namespace);
        let taken: usize = others.map(|(name, space)| name.len() + space.bytes()).sum();
        let Settings { max_bytes, max_changes, quota, quotas } = &self.settings;
        let quota = quotas.get(namespace).copied().unwrap_or(*quota);
        Limits { bytes: max_bytes.saturating_sub(taken), changes: *max_changes, quota }
    }
}

impl Store for Memory {
    type Settings = Settings;

    fn configure(settings: Settings) -> std::result::Result<Self, Problem> {
        // A state of 64 MiB is the most that can be handed over.
        if !(4096..=48 << 20).contains(&settings.max_bytes) {
            return Err(Problem::new("the bytes kept are 4096 to 50331648 (48 MiB)").at("/max_bytes"));
        }
        if settings.max_changes > 1_000_000 {
            return Err(Problem::new("the changes kept are at most 1000000").at("/max_changes"));
        }
        Ok(Self { settings, spaces: BTreeMap::new() })
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        Ok(self.read(|space| space.get(key)))
    }

    fn get_many(&mut self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        check_keys(keys)?;
        self.read(|space| space.get_many(keys))
    }

    fn put(&mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64> {
        check_key(key)?;
        check_value(&value)?;
        check_expiry(expiry)?;
        self.write(|space, limits| space.put(key, value, condition, expiry, limits))
    }

    fn delete(&mut self, key: &str, condition: Condition) -> Result<Option<u64>> {
        check_key(key)?;
        self.write(|space, limits| space.delete(key, condition, limits))
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<u64> {
        check_writes(&writes)?;
        self.write(|space, limits| space.commit(writes, limits))
    }

    fn increment(&mut self, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        self.write(|space, limits| space.increment(key, by, limits))
    }

    fn used(&mut self) -> Result<Usage> {
        let quota = self.limits(&context::namespace()).quota;
        let (keys, bytes) = self.read(Space::usage);
        Ok(Usage { keys, bytes, keys_quota: quota.keys, bytes_quota: quota.bytes })
    }

    fn scan(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Entry)>> {
        let limit = check_limit(limit)?;
        Ok(self.read(|space| space.scan(prefix, after, limit as usize)))
    }

    fn changes(&mut self, prefix: &str, after: u64, limit: u32, _wait_ms: u32) -> Result<Vec<Change>> {
        let limit = check_limit(limit)?;
        self.read(|space| space.changes(prefix, after, limit as usize))
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(self.read(Space::revision))
    }

    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        let limit = check_limit(limit)?;
        Ok(self.read(|space| space.fences_after(after, limit as usize)))
    }

    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        check_restored(&changes, &fences)?;
        self.write(|space, limits| space.restore(changes, fences, revision, limits))
    }
}

impl Handover for Memory {
    fn save(&mut self) -> std::result::Result<Vec<u8>, Problem> {
        Ok(state::save(&self.spaces))
    }

    fn load(&mut self, state: &[u8]) -> std::result::Result<(), Problem> {
        self.spaces = state::load(state).map_err(|malformed| Problem::new(malformed.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
