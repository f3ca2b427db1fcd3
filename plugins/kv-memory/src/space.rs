//! The entries of one namespace, when they expire, and what changed lately. It knows no clock: the time is told, and
//! never runs backwards here even if calls are served in another order than they were admitted.
//!
//! Its invariants: every commit that changes something has its own revision, one above the last; `due` holds exactly the
//! entries that expire; the changes kept are those of the latest commits, whole and without gaps.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    rc::Rc,
};

use platform_sdk::{
    context::Fence,
    fence::Fences,
    kv::{
        self, Action, Change, Condition, Conflict, Content, Entry, Error, Expiry, MAX_COMMIT_BYTES, Quota, Result,
        Write, number,
    },
};

/// What an entry, a kept change or a space takes besides its keys and values.
const OVERHEAD: usize = 128;

/// What a write may leave behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) bytes: usize,
    pub(crate) changes: usize,
    pub(crate) quota: Quota,
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
    /// What writes were fenced with.
    pub(crate) fences: Fences,
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
                self.remove(&key, self.revision + 1);
            }
        }
        self.trim(limits);
    }

    /// Bytes of entries and kept changes.
    pub(crate) fn bytes(&self) -> usize {
        let fences: usize = self.fences.iter().map(|(name, _)| entry_size(name, &[])).sum();
        OVERHEAD + self.entry_bytes + self.kept_bytes + fences
    }

    /// Whether the token of a fence can be remembered.
    pub(crate) fn has_room_for(&self, fence: &Fence, limits: Limits) -> bool {
        self.bytes() - self.kept_bytes + entry_size(&fence.name, &[]) <= limits.bytes
    }

    /// How many keys, and the bytes of keys and values.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let keys = self.entries.len();
        (keys as u64, (self.entry_bytes - keys * OVERHEAD) as u64)
    }

    /// Revision of the last change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).map(Entry::from)
    }

    /// What keys hold, unless it is more than an answer may be.
    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        let held: Vec<_> = keys.iter().map(|key| self.entries.get(key)).collect();
        let bytes: usize =
            keys.iter().zip(&held).filter_map(|(key, held)| Some(key.len() + held.as_ref()?.value.len())).sum();
        if bytes > MAX_COMMIT_BYTES {
            return Err(Error::TooLarge(format!("the keys hold {bytes} bytes, the limit is {MAX_COMMIT_BYTES}")));
        }
        Ok(held.into_iter().map(|held| held.map(Entry::from)).collect())
    }

    pub(crate) fn put(
        &mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry, limits: Limits,
    ) -> Result<u64> {
        let action = Action::Put(Content { value, expiry });
        self.commit(vec![Write { key: key.to_owned(), condition, action }], limits)
    }

    pub(crate) fn delete(&mut self, key: &str, condition: Condition, limits: Limits) -> Result<Option<u64>> {
        let before = self.revision;
        let revision = self.commit(vec![Write { key: key.to_owned(), condition, action: Action::Delete }], limits)?;
        Ok((revision > before).then_some(revision))
    }

    /// All of the writes or none; their shared revision, or the current one when nothing was there to change.
    pub(crate) fn commit(&mut self, writes: Vec<Write>, limits: Limits) -> Result<u64> {
        let (mut entry_bytes, mut keys) = (self.entry_bytes, self.entries.len());
        let mut grows = false;
        for Write { key, condition, action } in &writes {
            self.check(key, *condition)?;
            let old = self.entries.get(key).map_or(0, |old| entry_size(key, &old.value));
            let new = match action {
                Action::Put(content) => entry_size(key, &content.value),
                Action::Delete => 0,
                Action::Check => old,
            };
            entry_bytes = entry_bytes - old + new;
            keys = keys - usize::from(old > 0) + usize::from(new > 0);
            grows |= matches!(action, Action::Put(_));
        }
        if grows && OVERHEAD + entry_bytes > limits.bytes {
            return Err(Error::Quota(format!(
                "memory for entries is used up: {entry_bytes} bytes would be needed, {} are left to this namespace",
                limits.bytes
            )));
        }
        let (keys_now, bytes_now) = self.usage();
        let bytes = (entry_bytes - keys * OVERHEAD) as u64;
        for (what, now, then, quota) in
            [("keys", keys_now, keys as u64, limits.quota.keys), ("bytes", bytes_now, bytes, limits.quota.bytes)]
        {
            if let Some(quota) = quota.filter(|quota| then > now && then > *quota) {
                return Err(Error::Quota(format!("{then} {what} would be kept, the limit is {quota}")));
            }
        }
        let revision = self.revision + 1;
        for Write { key, action, .. } in writes {
            match action {
                Action::Put(content) => self.set(key, content, revision),
                Action::Delete => self.remove(&key, revision),
                Action::Check => {}
            }
        }
        self.trim(limits);
        Ok(self.revision)
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
        let mut found: Vec<Change> = Vec::new();
        for kept in self.kept.range(from..).filter(|kept| kept.key.starts_with(prefix)) {
            // Whoever resumes after a revision is not asked twice for it, so its changes come together.
            if found.len() >= limit && found.last().is_some_and(|last| last.revision != kept.revision) {
                break;
            }
            let entry = kept.held.as_ref().map(Entry::from);
            found.push(Change { key: kept.key.clone(), entry, revision: kept.revision });
        }
        Ok(found)
    }

    /// Fences after a name, in order.
    pub(crate) fn fences_after(&self, after: Option<&str>, limit: usize) -> Vec<kv::Fence> {
        let later = self.fences.iter().filter(|(name, _)| after.is_none_or(|after| *name > after));
        later.take(limit).map(|(name, token)| kv::Fence { name: name.to_owned(), token }).collect()
    }

    /// Makes entries what another store says that they are, and nobody is told; all of it or nothing.
    pub(crate) fn restore(
        &mut self, changes: Vec<Change>, fences: Vec<kv::Fence>, revision: u64, limits: Limits,
    ) -> Result<()> {
        let size = |key: &str, entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry_size(key, &entry.value));
        let come: usize = changes.iter().map(|change| size(&change.key, &change.entry)).sum();
        let names: usize = fences.iter().map(|fence| entry_size(&fence.name, &[])).sum();
        let held: usize = changes
            .iter()
            .filter_map(|change| Some((change, self.entries.get(&change.key)?)))
            .map(|(change, held)| entry_size(&change.key, &held.value))
            .sum();
        let needed = self.bytes() - self.kept_bytes - held + come + names;
        if come + names > 0 && needed > limits.bytes {
            let left = limits.bytes;
            return Err(Error::Quota(format!("memory is used up: {needed} bytes would be needed, {left} are left")));
        }
        for Change { key, entry, .. } in changes {
            self.forget(&key);
            if let Some(Entry { value, revision, expires_ms }) = entry {
                self.hold(key, Held { value: value.into(), revision, expires_ms });
            }
        }
        for kv::Fence { name, token } in fences {
            self.fences.pass(Some(&Fence { name, token }));
        }
        if revision > 0 {
            self.revision = revision;
            (self.kept, self.kept_bytes) = (VecDeque::new(), 0);
        }
        Ok(())
    }

    /// Puts an entry where there is none.
    fn hold(&mut self, key: String, held: Held) {
        if let Some(expires) = held.expires_ms {
            self.due.insert((expires, key.clone()));
        }
        self.entry_bytes += entry_size(&key, &held.value);
        self.entries.insert(key, held);
    }

    /// Takes an entry away; whether there was one.
    fn forget(&mut self, key: &str) -> bool {
        let Some(held) = self.entries.remove(key) else { return false };
        if let Some(expires) = held.expires_ms {
            self.due.remove(&(expires, key.to_owned()));
        }
        self.entry_bytes -= entry_size(key, &held.value);
        true
    }

    fn check(&self, key: &str, condition: Condition) -> Result<()> {
        let revision = self.entries.get(key).map_or(0, |held| held.revision);
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => revision == 0,
            Condition::Present => revision > 0,
            Condition::At(wanted) => revision > 0 && revision == wanted,
        };
        if holds { Ok(()) } else { Err(Error::Conflict(Conflict { key: key.to_owned(), revision })) }
    }

    fn set(&mut self, key: String, content: Content, revision: u64) {
        let old = self.entries.get(&key);
        let expires_ms = match content.expiry {
            Expiry::Never => None,
            Expiry::AfterMs(ttl) => Some(self.now_ms.saturating_add(ttl)),
            Expiry::Keep => old.and_then(|old| old.expires_ms),
        };
        let held = Held { value: content.value.into(), revision, expires_ms };
        self.forget(&key);
        self.hold(key.clone(), held.clone());
        self.keep(Kept { key, revision, held: Some(held) });
    }

    /// Removes an entry if it is there.
    fn remove(&mut self, key: &str, revision: u64) {
        if self.forget(key) {
            self.keep(Kept { key: key.to_owned(), revision, held: None });
        }
    }

    fn keep(&mut self, change: Kept) {
        self.revision = change.revision;
        self.kept_bytes += kept_size(&change);
        self.kept.push_back(change);
    }

    /// Drops the changes of the oldest commits that no longer have room.
    fn trim(&mut self, limits: Limits) {
        let mut dropped = 0;
        while let Some(oldest) = self.kept.front() {
            let over = self.kept.len() > limits.changes || self.bytes() > limits.bytes;
            if !over && oldest.revision != dropped {
                break;
            }
            dropped = oldest.revision;
            self.kept_bytes -= kept_size(oldest);
            self.kept.pop_front();
        }
    }

    /// What a successor needs: revision, time, entries and kept changes.
    pub(crate) fn parts(&self) -> (u64, u64, &BTreeMap<String, Held>, &VecDeque<Kept>) {
        (self.revision, self.now_ms, &self.entries, &self.kept)
    }

    /// The space that had these parts.
    pub(crate) fn from_parts(
        revision: u64, now_ms: u64, entries: BTreeMap<String, Held>, kept: VecDeque<Kept>, fences: Fences,
    ) -> Self {
        let due = entries.iter().filter_map(|(key, held)| Some((held.expires_ms?, key.clone()))).collect();
        let entry_bytes = entries.iter().map(|(key, held)| entry_size(key, &held.value)).sum();
        let kept_bytes = kept.iter().map(kept_size).sum();
        Self { entries, due, kept, revision, now_ms, entry_bytes, kept_bytes, fences }
    }
}
