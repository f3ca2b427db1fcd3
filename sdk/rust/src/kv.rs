//! Slot `kv.store`: values under keys, with revisions and expiry.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Problem,
    bindings::kv::exports::platform::kv::{store::Guest, takeover},
    export::{Adapter, Instance},
    storage,
};

pub use crate::bindings::kv::{
    exports::platform::kv::{
        store::{Action, Change, Condition, Content, Expiry, Usage, Write},
        takeover::Fence,
    },
    platform::kv::types::{Conflict, Entry, Error},
};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// Most entries or changes in one answer, and most keys in one read or commit.
pub const MAX_LIMIT: u32 = 1000;
/// Most changes, and most fences, that are restored at once.
pub const MAX_RESTORED: usize = 500;
/// Most bytes of keys and values in one read or commit of several keys.
pub const MAX_COMMIT_BYTES: usize = 16 << 20;

/// Result of a call to a store.
pub type Result<T> = std::result::Result<T, Error>;

/// A key-value store. Writes are linearizable within a namespace; the namespace is the call's
/// ([`crate::context::namespace`]; [`storage`] is scoped to it already).
pub trait Store: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the store from its settings, once per instance. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> std::result::Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the store would not work; the previous generation then stays.
    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        Ok(())
    }

    /// The entry under `key`; none when there is no such key or it has expired.
    ///
    /// # Errors
    /// See [`Error`].
    fn get(&mut self, key: &str) -> Result<Option<Entry>>;

    /// What 1 to 1000 keys hold, in the order asked and all of one moment.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the answer is more than 16 MiB; see [`Error`] for the others.
    fn get_many(&mut self, keys: &[String]) -> Result<Vec<Option<Entry>>>;

    /// Sets a key if the condition holds; the revision of the write.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the condition does not hold; see [`Error`] for the others.
    fn put(&mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64>;

    /// Removes a key if the condition holds; the revision of the deletion, none when there was nothing to delete.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the condition does not hold; see [`Error`] for the others.
    fn delete(&mut self, key: &str, condition: Condition) -> Result<Option<u64>>;

    /// Makes all of the writes or none; their shared revision, or the current one when nothing was there to change.
    /// Conditions are checked against the state before the commit.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a condition does not hold; see [`Error`] for the others.
    fn commit(&mut self, writes: Vec<Write>) -> Result<u64>;

    /// Adds to a decimal number and returns the sum; an absent key counts as 0. [`number`] reads the value.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the value is no number or the sum does not fit; see [`Error`] for the others.
    fn increment(&mut self, key: &str, by: i64) -> Result<i64>;

    /// What the namespace holds; expired keys count until they are removed.
    ///
    /// # Errors
    /// See [`Error`].
    fn used(&mut self) -> Result<Usage>;

    /// Entries whose key starts with `prefix` and is greater than `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    fn scan(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Entry)>>;

    /// Changes with a revision greater than `after`, oldest first, at most `limit`. Waits up to `wait_ms` for the
    /// first one, or returns at once when the store can't wait.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept; see [`Error`] for the others.
    fn changes(&mut self, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>>;

    /// Revision of the last write in the namespace, 0 when there was none.
    ///
    /// # Errors
    /// See [`Error`].
    fn revision(&mut self) -> Result<u64>;

    /// Fences of the namespace whose name is greater than `after`, in byte order, at most `limit`. A store that keeps none
    /// has none to name.
    ///
    /// # Errors
    /// See [`Error`].
    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        let _ = (after, limit);
        Ok(Vec::new())
    }

    /// Makes keys what another store says that they are, with their revisions and ends, and remembers its fences; where
    /// `revision` is not 0 the store goes on above it. A store that can't is never given what another one holds.
    ///
    /// # Errors
    /// See [`Error`].
    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        let _ = (changes, fences, revision);
        Err(Error::Other("this store can't take over what another one holds".into()))
    }
}

/// How much a namespace may hold; without a number, as much as there is room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quota {
    /// Most keys.
    pub keys: Option<u64>,
    /// Most bytes of keys and values.
    pub bytes: Option<u64>,
}

/// The quotas of all namespaces, as stores take them in their settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Quotas {
    /// That of every namespace that has none of its own.
    pub quota: Quota,
    /// Those of single namespaces, by name.
    pub quotas: BTreeMap<String, Quota>,
}

impl Quotas {
    /// The quota of a namespace.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Quota {
        self.quotas.get(namespace).copied().unwrap_or(self.quota)
    }
}

/// Checks a key: 1 to 1024 bytes without control characters.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`], with the rule that is broken.
pub fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Error::Invalid("the key is empty".into()));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(Error::TooLarge(format!("the key has {} bytes, the limit is {MAX_KEY_BYTES}", key.len())));
    }
    if key.chars().any(char::is_control) {
        return Err(Error::Invalid("the key has a control character".into()));
    }
    Ok(())
}

/// Checks a value: at most 8 MiB.
///
/// # Errors
/// [`Error::TooLarge`].
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::TooLarge(format!("the value has {} bytes, the limit is {MAX_VALUE_BYTES}", value.len())));
    }
    Ok(())
}

/// Checks an expiry: at least one millisecond away.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_expiry(expiry: Expiry) -> Result<()> {
    if matches!(expiry, Expiry::AfterMs(0)) {
        return Err(Error::Invalid("the time to live is 0 ms, the least is 1".into()));
    }
    Ok(())
}

/// Checks the keys of one read: 1 to 1000, each as [`check_key`] wants it.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`], with the rule that is broken.
pub fn check_keys(keys: &[String]) -> Result<()> {
    check_count(keys.len())?;
    keys.iter().try_for_each(|key| check_key(key))
}

/// Checks what another store hands over: at most 500 changes and 500 fences, each of a key or name of its own.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`], with the rule that is broken.
pub fn check_restored(changes: &[Change], fences: &[Fence]) -> Result<()> {
    if changes.len().max(fences.len()) > MAX_RESTORED {
        return Err(Error::TooLarge(format!(
            "{} changes and {} fences, the limit is {MAX_RESTORED} of each",
            changes.len(),
            fences.len()
        )));
    }
    let mut keys = BTreeSet::new();
    for change in changes {
        check_key(&change.key)?;
        if let Some(entry) = &change.entry {
            check_value(&entry.value)?;
        }
        if !keys.insert(change.key.as_str()) {
            return Err(Error::Invalid(format!("the key `{}` is restored twice at once", change.key)));
        }
    }
    Ok(())
}

/// Checks the writes of one commit: 1 to 1000 of them, each of a key of its own, with at most 16 MiB together.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`], with the rule that is broken.
pub fn check_writes(writes: &[Write]) -> Result<()> {
    check_count(writes.len())?;
    let mut bytes = 0;
    let mut keys = BTreeSet::new();
    for write in writes {
        check_key(&write.key)?;
        bytes += write.key.len();
        if let Action::Put(content) = &write.action {
            check_value(&content.value)?;
            check_expiry(content.expiry)?;
            bytes += content.value.len();
        }
        if !keys.insert(write.key.as_str()) {
            return Err(Error::Invalid(format!("the key `{}` is written twice in one commit", write.key)));
        }
    }
    if bytes > MAX_COMMIT_BYTES {
        return Err(Error::TooLarge(format!("the commit has {bytes} bytes, the limit is {MAX_COMMIT_BYTES}")));
    }
    Ok(())
}

fn check_count(count: usize) -> Result<()> {
    match count {
        0 => Err(Error::Invalid("there are no keys, the least is 1".into())),
        count if count > MAX_LIMIT as usize => {
            Err(Error::TooLarge(format!("there are {count} keys, the limit is {MAX_LIMIT}")))
        }
        _ => Ok(()),
    }
}

/// A limit that can be served: larger ones are cut to 1000.
///
/// # Errors
/// [`Error::Invalid`] when it is 0.
pub fn check_limit(limit: u32) -> Result<u32> {
    if limit == 0 {
        return Err(Error::Invalid("the limit is 0, the least is 1".into()));
    }
    Ok(limit.min(MAX_LIMIT))
}

/// Reads a value as the decimal number that [`Store::increment`] works on: digits, with `-` before them if negative.
///
/// # Errors
/// [`Error::Invalid`] when it is none, or does not fit in 64 bits.
pub fn number(value: &[u8]) -> Result<i64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.starts_with('+'))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Invalid("the value is no decimal number of 64 bits".into()))
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Conflict(storage::Conflict { key, revision }) => Self::Conflict(Conflict { key, revision }),
            storage::Error::Compacted(oldest) => Self::Compacted(oldest),
            storage::Error::Stale(seen) => Self::Stale(seen),
            storage::Error::TooLarge(what) => Self::TooLarge(what),
            storage::Error::Full(what) => Self::Quota(what),
            storage::Error::Invalid(what) => Self::Invalid(what),
            storage::Error::Unavailable(why) => Self::Unavailable(why),
            storage::Error::Other(why) => Self::Other(why),
        }
    }
}

impl From<Condition> for storage::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Always => Self::Always,
            Condition::Absent => Self::Absent,
            Condition::Present => Self::Present,
            Condition::At(revision) => Self::At(revision),
        }
    }
}

/// Calls the store, or says that the host skipped `configure`.
fn with<P: Instance<State = P>, T>(call: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    P::with(call).unwrap_or_else(|problem| Err(Error::Unavailable(problem.message().to_owned())))
}

impl<P: Store + Instance<State = P>> Guest for Adapter<P> {
    fn get(key: String) -> Result<Option<Entry>> {
        with(|store: &mut P| store.get(&key))
    }

    fn get_many(keys: Vec<String>) -> Result<Vec<Option<Entry>>> {
        with(|store: &mut P| store.get_many(&keys))
    }

    fn put(key: String, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64> {
        with(|store: &mut P| store.put(&key, value, condition, expiry))
    }

    fn delete(key: String, condition: Condition) -> Result<Option<u64>> {
        with(|store: &mut P| store.delete(&key, condition))
    }

    fn commit(writes: Vec<Write>) -> Result<u64> {
        with(|store: &mut P| store.commit(writes))
    }

    fn increment(key: String, by: i64) -> Result<i64> {
        with(|store: &mut P| store.increment(&key, by))
    }

    fn used() -> Result<Usage> {
        with(|store: &mut P| store.used())
    }

    fn scan(prefix: String, after: Option<String>, limit: u32) -> Result<Vec<(String, Entry)>> {
        with(|store: &mut P| store.scan(&prefix, after.as_deref(), limit))
    }

    fn changes(prefix: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        with(|store: &mut P| store.changes(&prefix, after, limit, wait_ms))
    }

    fn revision() -> Result<u64> {
        with(|store: &mut P| store.revision())
    }
}

impl<P: Store + Instance<State = P>> takeover::Guest for Adapter<P> {
    fn fences(after: Option<String>, limit: u32) -> Result<Vec<Fence>> {
        with(|store: &mut P| store.fences(after.as_deref(), limit))
    }

    fn restore(changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        with(|store: &mut P| store.restore(changes, fences, revision))
    }
}
