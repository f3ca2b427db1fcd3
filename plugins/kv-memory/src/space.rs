//! The entries of one namespace, when they expire, and what changed lately. It knows no clock: the time is told, and
//! never runs backwards here even if calls are served in another order than they were admitted.
//!
//! Its invariants: every change has its own revision, one above the last; `due` holds exactly the entries that expire;
//! the changes kept are the latest, without gaps.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    rc::Rc,
};

use platform_sdk::kv::{Change, Condition, Entry, Error, Expiry, Result, number};

/// What an entry, a kept change or a space takes besides its keys and values.
const OVERHEAD: usize = 128;

/// What a write may leave behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) changes: usize,
}

/// A value and what belongs to it; the value is shared by the entry and its change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) value: Rc<[u8]>,
    pub(crate) revision: u64,
    pub(crate) expires_ms: Option<u64>,
}

/// One change; without an entry the key went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) key: String,
    pub(crate) revision: u64,
    pub(crate) held: Option<Held>,
}

/// One namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    entries: BTreeMap<String, Held>,
    due: BTreeSet<(u64, String)>,
    kept: VecDeque<Kept>,
    revision: u64,
    now_ms: u64,
    /// Sizes of the entries, and of the changes kept.
    entry_bytes: usize,
    kept_bytes: usize,
}

impl From<&Held> for Entry {
    fn from(held: &Held) -> Self {
        Self { value: held.value.to_vec(), revision: held.revision, expires_ms: held.expires_ms }
    }
}

fn entry_size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}

fn kept_size(kept: &Kept) -> usize {
    entry_size(&kept.key, kept.held.as_ref().map_or(&[], |held| &held.value))
}

impl Space {
    /// Lets time pass: what is due goes, each with a revision of its own.
    pub(crate) fn advance(&mut self, now_ms: u64, limits: Limits) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some((at, _)) = self.due.first() {
            if *at > self.now_ms {
                break;
            }
            if let Some((_, key)) = self.due.pop_first() {
                self.remove(&key, limits);
            }
        }
    }

    /// Bytes of entries and kept changes.
    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD + self.entry_bytes + self.kept_bytes
    }

    /// Revision of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).map(Entry::from)
    }

    pub(crate) fn put(
        &mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry, limits: Limits,
    ) -> Result<u64> {
        self.check(key, condition)?;
        let old = self.entries.get(key);
        let expires_ms = match expiry {
            Expiry::Never => None,
            Expiry::AfterMs(ttl) => Some(self.now_ms.saturating_add(ttl)),
            Expiry::Keep => old.and_then(|old| old.expires_ms),
        };
        let old_size = old.map_or(0, |old| entry_size(key, &old.value));
        let entry_bytes = self.entry_bytes - old_size + entry_size(key, &value);
        if OVERHEAD + entry_bytes > limits.bytes {
            return Err(Error::Quota(format!(
                "memory for entries is used up: {entry_bytes} bytes would be needed, {} are left to this namespace",
                limits.bytes
            )));
        }
        if let Some(expires) = old.and_then(|old| old.expires_ms) {
            self.due.remove(&(expires, key.to_owned()));
        }
        if let Some(expires) = expires_ms {
            self.due.insert((expires, key.to_owned()));
        }
        self.revision += 1;
        let held = Held { value: value.into(), revision: self.revision, expires_ms };
        self.entries.insert(key.to_owned(), held.clone());
        self.entry_bytes = entry_bytes;
        self.keep(Kept { key: key.to_owned(), revision: self.revision, held: Some(held) }, limits);
        Ok(self.revision)
    }

    pub(crate) fn delete(&mut self, key: &str, condition: Condition, limits: Limits) -> Result<Option<u64>> {
        self.check(key, condition)?;
        if let Some(expires) = self.entries.get(key).and_then(|held| held.expires_ms) {
            self.due.remove(&(expires, key.to_owned()));
        }
        Ok(self.remove(key, limits))
    }

    pub(crate) fn increment(&mut self, key: &str, by: i64, limits: Limits) -> Result<i64> {
        let old = self.entries.get(key).map_or(Ok(0), |held| number(&held.value))?;
        let sum =
            old.checked_add(by).ok_or_else(|| Error::Invalid(format!("{old} plus {by} does not fit in 64 bits")))?;
        self.put(key, sum.to_string().into_bytes(), Condition::Always, Expiry::Keep, limits)?;
        Ok(sum)
    }

    pub(crate) fn scan(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<(String, Entry)> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.entries
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
            .map(|(key, held)| (key.clone(), held.into()))
            .collect()
    }

    pub(crate) fn changes(&self, prefix: &str, after: u64, limit: usize) -> Result<Vec<Change>> {
        // What came before the oldest kept change is gone; 0 asks for whatever there is.
        let oldest = self.kept.front().map_or(self.revision, |kept| kept.revision - 1);
        if after > 0 && after < oldest {
            return Err(Error::Compacted(oldest));
        }
        let from = self.kept.partition_point(|kept| kept.revision <= after);
        Ok(self
            .kept
            .range(from..)
            .filter(|kept| kept.key.starts_with(prefix))
            .take(limit)
            .map(|kept| Change {
                key: kept.key.clone(),
                entry: kept.held.as_ref().map(Entry::from),
                revision: kept.revision,
            })
            .collect())
    }

    fn check(&self, key: &str, condition: Condition) -> Result<()> {
        let revision = self.entries.get(key).map_or(0, |held| held.revision);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => revision == 0,
            Condition::Present => revision > 0,
            Condition::At(wanted) => revision == wanted,
        };
        if holds { Ok(()) } else { Err(Error::Conflict(revision)) }
    }

    /// Removes an entry that is no longer due; the revision of the removal.
    fn remove(&mut self, key: &str, limits: Limits) -> Option<u64> {
        let held = self.entries.remove(key)?;
        self.entry_bytes -= entry_size(key, &held.value);
        self.revision += 1;
        self.keep(Kept { key: key.to_owned(), revision: self.revision, held: None }, limits);
        Some(self.revision)
    }

    /// Keeps a change and drops the oldest ones that no longer have room.
    fn keep(&mut self, change: Kept, limits: Limits) {
        self.kept_bytes += kept_size(&change);
        self.kept.push_back(change);
        while self.kept.len() > limits.changes || self.bytes() > limits.bytes {
            match self.kept.pop_front() {
                None => break,
                Some(oldest) => self.kept_bytes -= kept_size(&oldest),
            }
        }
    }

    /// What a successor needs: revision, time, entries and kept changes.
    pub(crate) fn parts(&self) -> (u64, u64, &BTreeMap<String, Held>, &VecDeque<Kept>) {
        (self.revision, self.now_ms, &self.entries, &self.kept)
    }

    /// The space that had these parts.
    pub(crate) fn from_parts(
        revision: u64, now_ms: u64, entries: BTreeMap<String, Held>, kept: VecDeque<Kept>,
    ) -> Self {
        let due = entries.iter().filter_map(|(key, held)| Some((held.expires_ms?, key.clone()))).collect();
        let entry_bytes = entries.iter().map(|(key, held)| entry_size(key, &held.value)).sum();
        let kept_bytes = kept.iter().map(kept_size).sum();
        Self { entries, due, kept, revision, now_ms, entry_bytes, kept_bytes }
    }
}
