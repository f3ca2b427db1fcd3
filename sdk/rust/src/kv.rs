//! Slot `kv.store`: values under keys, with revisions and expiry.

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::kv::exports::platform::kv::store::Guest,
    export::{Adapter, Instance},
    storage,
};

pub use crate::bindings::kv::{
    exports::platform::kv::store::{Change, Condition, Expiry},
    platform::kv::types::{Entry, Error},
};

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// Most entries or changes in one answer.
pub const MAX_LIMIT: u32 = 1000;

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

    /// Adds to a decimal number and returns the sum; an absent key counts as 0. [`number`] reads the value.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the value is no number or the sum does not fit; see [`Error`] for the others.
    fn increment(&mut self, key: &str, by: i64) -> Result<i64>;

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
            storage::Error::Conflict(revision) => Self::Conflict(revision),
            storage::Error::Compacted(oldest) => Self::Compacted(oldest),
            storage::Error::TooLarge(what) => Self::TooLarge(what),
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

    fn put(key: String, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64> {
        with(|store: &mut P| store.put(&key, value, condition, expiry))
    }

    fn delete(key: String, condition: Condition) -> Result<Option<u64>> {
        with(|store: &mut P| store.delete(&key, condition))
    }

    fn increment(key: String, by: i64) -> Result<i64> {
        with(|store: &mut P| store.increment(&key, by))
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
