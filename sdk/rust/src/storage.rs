//! Durable tables and journals, for plugins with the grant `storage`. The host scopes every name to the slot that the
//! plugin is bound to and to the namespace of the call.

#[cfg(target_arch = "wasm32")]
use crate::bindings::storage::platform::storage as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::native as host;

pub use crate::bindings::storage::platform::storage::{
    journal::Item,
    table::{Change, Check, Condition, Delete, Entry, Fence, Put, Replace, Touch, Usage, Write},
    types::{Conflict, Error},
};

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, Error>;

/// Keys in byte order with one revision counter. A write is durable when it returns; reads see every write that
/// returned before they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table(&'static str);

impl Table {
    /// The table of this name, 1 to 128 bytes. It need not exist: the first write makes it.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// The entry under `key`; none when there is no such key or it has expired.
    ///
    /// # Errors
    /// When the key is not allowed or storage can't answer.
    pub fn get(self, key: &str) -> Result<Option<Entry>> {
        host::table::get(self.0, key)
    }

    /// What 1 to 1000 keys hold, in the order asked and all of one moment.
    ///
    /// # Errors
    /// When a key is not allowed, the answer is more than 16 MiB, or storage can't answer.
    pub fn get_many(self, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        host::table::get_many(self.0, keys)
    }

    /// Makes all of the writes or none; their shared revision. Conditions see the state before the commit.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a condition does not hold; limits; storage can't answer.
    pub fn commit(self, writes: &[Write<'_>]) -> Result<u64> {
        host::table::commit(self.0, writes)
    }

    /// The same if the table then holds no more than `limit`, or no more than before.
    ///
    /// # Errors
    /// As [`Self::commit`]; [`Error::Full`].
    pub fn commit_within(self, writes: &[Write<'_>], limit: Usage) -> Result<u64> {
        host::table::commit_within(self.0, writes, limit)
    }

    /// What the table holds, with what has expired and was not removed yet.
    ///
    /// # Errors
    /// When storage can't answer.
    pub fn used(self) -> Result<Usage> {
        host::table::used(self.0)
    }

    /// Sets one key if the condition holds; its revision. Without `ttl_ms` the key stays.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn put(self, key: &str, value: &[u8], condition: Condition, ttl_ms: Option<u64>) -> Result<u64> {
        self.commit(&[Write::Put(Put { key, value, condition, ttl_ms })])
    }

    /// Removes one key if the condition holds; removing an absent one does nothing.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub fn delete(self, key: &str, condition: Condition) -> Result<u64> {
        self.commit(&[Write::Delete(Delete { key, condition })])
    }

    /// Gives a key a new time to live and leaves its value, revision and watchers alone.
    ///
    /// # Errors
    /// As [`Self::commit`]; [`Error::Conflict`] when the key is absent.
    pub fn touch(self, key: &str, ttl_ms: Option<u64>) -> Result<u64> {
        self.commit(&[Write::Touch(Touch { key, ttl_ms })])
    }

    /// Entries whose key starts with `prefix` and is greater than `after`, in byte order, at most `limit` (1 to 1000).
    /// An empty list means there are no more.
    ///
    /// # Errors
    /// When an argument is not allowed or storage can't answer.
    pub fn scan(self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Entry>> {
        host::table::scan(self.0, prefix, after, limit)
    }

    /// Changes with a revision greater than `after`, oldest first, at most `limit`, those of a commit together. Waits
    /// up to `wait_ms` for the first one.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept; else as [`Self::scan`].
    pub fn changes(self, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        host::table::changes(self.0, prefix, after, limit, wait_ms)
    }

    /// Revision of the last commit, 0 for a table that was never written.
    ///
    /// # Errors
    /// When storage can't answer.
    pub fn revision(self) -> Result<u64> {
        host::table::revision(self.0)
    }

    /// Fences whose name is greater than `after`, in byte order, at most `limit` (1 to 1000).
    ///
    /// # Errors
    /// When storage can't answer.
    pub fn fences(self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        host::table::fences(self.0, after, limit)
    }

    /// Makes entries what another table says that they are, and remembers its fences; where `revision` is not 0 the table
    /// goes on above it. Nobody is told of a change.
    ///
    /// # Errors
    /// When an argument is not allowed, the call is fenced, or storage can't answer.
    pub fn restore(self, changes: &[&Change], fences: &[&Fence], revision: u64) -> Result<()> {
        host::table::restore(self.0, changes, fences, revision)
    }
}

/// Append-only records under sequence numbers that increase by one, starting at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journal(&'static str);

impl Journal {
    /// The journal of this name, 1 to 128 bytes. It need not exist: the first append makes it.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Appends all or nothing, durable when it returns; the sequence of the first. 1 to 1024 items, up to 16 MiB.
    ///
    /// # Errors
    /// Limits; storage can't answer.
    pub fn append(self, data: &[&[u8]]) -> Result<u64> {
        host::journal::append(self.0, data)
    }

    /// Items from a sequence on, at most `limit` (1 to 1000); waits up to `wait_ms` for the first one.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `from` was trimmed; storage can't answer.
    pub fn read(self, from: u64, limit: u32, wait_ms: u32) -> Result<Vec<Item>> {
        host::journal::read(self.0, from, limit, wait_ms)
    }

    /// First and last sequence kept; (n + 1, n) when none is.
    ///
    /// # Errors
    /// When storage can't answer.
    pub fn bounds(self) -> Result<(u64, u64)> {
        host::journal::bounds(self.0)
    }

    /// Drops every item before the sequence.
    ///
    /// # Errors
    /// When storage can't answer.
    pub fn trim(self, before: u64) -> Result<()> {
        host::journal::trim(self.0, before)
    }
}
