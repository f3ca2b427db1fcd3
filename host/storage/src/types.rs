//! The [`Storage`] trait and the values that pass through it. WIT twin: `wit/storage`.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

/// Longest name of a table or journal, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// Largest value or journal item, in bytes.
pub const MAX_VALUE_BYTES: usize = 8 << 20;
/// Most writes in one commit, and most items in one append.
pub const MAX_COMMIT_WRITES: usize = 1024;
/// Most bytes of keys and values in one commit or append, and in one answer.
pub const MAX_COMMIT_BYTES: usize = 16 << 20;
/// Most entries, changes or items in one answer; larger limits are cut to it.
pub const MAX_LIMIT: usize = 1000;

/// Result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a storage call did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A condition did not hold; nothing was written.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The revision or sequence asked for is older than what is kept; the oldest that can be asked for.
    #[error("changes before {0} are no longer kept; read the state, then ask for changes after its revision")]
    Compacted(u64),
    /// Beyond a limit; what, and the limit.
    #[error("{0}")]
    TooLarge(String),
    /// The table would hold more than the limit of the commit; which one, and what it would hold.
    #[error("{0}")]
    Full(String),
    /// A name or key that is not allowed; which one, and why.
    #[error("{0}")]
    Invalid(String),
    /// Storage can't answer now; trying again later may work.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// Stored bytes are not what was written; the file, and what is wrong.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
}

/// A condition that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is at revision {revision}, which the condition does not allow")]
pub struct Conflict {
    /// The key that it was asked of.
    pub key: String,
    /// The key's current revision, 0 when it is absent.
    pub revision: u64,
}

/// Whose tables: the slot (or `_host`) and the namespace. Names in different scopes never meet.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Slot such as `kv.store`, or a name starting with `_` for the host's own.
    pub owner: Arc<str>,
    /// Namespace of the call.
    pub namespace: Arc<str>,
}

impl Scope {
    /// Scope of `owner` in `namespace`.
    pub fn new(owner: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>) -> Self {
        Self { owner: owner.into(), namespace: namespace.into() }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.namespace)
    }
}

/// A key and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of the commit that last put the key.
    pub revision: u64,
    /// When the key goes, unix time in milliseconds; none when it stays.
    pub expires_ms: Option<u64>,
}

/// What must hold for a write to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// There is no such key.
    Absent,
    /// There is such a key.
    Present,
    /// There is such a key, and its revision is exactly this.
    At(u64),
}

/// One write of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// What must hold.
        condition: Condition,
        /// Time to live from now, at least 1 ms; none: the key stays.
        ttl: Option<Duration>,
    },
    /// Gives a key a new value and leaves its time to live alone; a new key stays.
    Replace {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// What must hold.
        condition: Condition,
    },
    /// Removes a key; removing an absent one does nothing.
    Delete {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
    /// Gives a key a new time to live, leaving value, revision and watchers alone; an absent key is a conflict.
    Touch {
        /// The key.
        key: String,
        /// Time to live from now; none: the key stays.
        ttl: Option<Duration>,
    },
    /// Leaves a key alone and asks that something holds of it.
    Check {
        /// The key.
        key: String,
        /// What must hold.
        condition: Condition,
    },
}

impl Write {
    /// The key, and what must hold of it.
    #[must_use]
    pub fn condition(&self) -> (&str, Condition) {
        match self {
            Self::Put { key, condition, .. }
            | Self::Replace { key, condition, .. }
            | Self::Delete { key, condition }
            | Self::Check { key, condition } => (key, *condition),
            Self::Touch { key, .. } => (key, Condition::Present),
        }
    }
}

/// What a table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// How many keys.
    pub keys: u64,
    /// Bytes of its keys and values.
    pub bytes: u64,
}

impl Usage {
    /// More than any table holds.
    pub const MAX: Self = Self { keys: u64::MAX, bytes: u64::MAX };
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key was set.
    Put(Entry),
    /// A key was removed or expired.
    Delete {
        /// The key.
        key: String,
        /// Revision of the removal.
        revision: u64,
    },
}

impl Change {
    /// Revision of the change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        match self {
            Self::Put(entry) => entry.revision,
            Self::Delete { revision, .. } => *revision,
        }
    }

    /// Key that changed.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Position in the journal, from 1.
    pub sequence: u64,
    /// When it was appended, unix time in nanoseconds; never decreases along the journal.
    pub time_ns: u64,
    /// The record.
    pub data: Bytes,
}

/// Tables and journals. Every implementation passes `conformance`.
///
/// Answers are linearizable: a call that begins after a write was acknowledged, by whichever process shares the storage, sees it.
/// Tables keep keys in byte order and count commits in one revision per table, across restarts and expiries; an expiry
/// is a commit of its own and shows as [`Change::Delete`] within 250 ms of its time, while reads never return an
/// expired key. Dropping a future leaves the write either made or not made. A limit of 0 is [`Error::Invalid`].
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync + 'static {
    /// The entry under `key`, none when absent or expired.
    async fn get(&self, scope: &Scope, table: &str, key: &str) -> Result<Option<Entry>>;

    /// What keys hold, in the order asked and all of one moment; at least one and at most [`MAX_LIMIT`].
    /// [`Error::TooLarge`] when that is more than [`MAX_COMMIT_BYTES`].
    async fn get_many(&self, scope: &Scope, table: &str, keys: &[&str]) -> Result<Vec<Option<Entry>>>;

    /// Makes all of the writes or none, durably; their shared revision. Conditions see the state before the commit. A
    /// commit that changes nothing (deletes of absent keys, touches, checks) returns the current revision. A key is written at
    /// most once in a commit; twice is [`Error::Invalid`].
    async fn commit(&self, scope: &Scope, table: &str, writes: Vec<Write>) -> Result<u64> {
        self.commit_within(scope, table, writes, Usage::MAX).await
    }

    /// The same if the table then holds no more than `limit`, or no more than before; else [`Error::Full`].
    async fn commit_within(&self, scope: &Scope, table: &str, writes: Vec<Write>, limit: Usage) -> Result<u64>;

    /// What the table holds, with what has expired and was not removed yet.
    async fn used(&self, scope: &Scope, table: &str) -> Result<Usage>;

    /// Entries with `prefix` and after `after`, in byte order of keys, at most `limit` and [`MAX_COMMIT_BYTES`].
    async fn scan(
        &self, scope: &Scope, table: &str, prefix: &str, after: Option<&str>, limit: usize,
    ) -> Result<Vec<Entry>>;

    /// Changes with a revision above `after`, oldest first, at most `limit` except that those of one revision come
    /// together. Waits up to `wait` for the first one. [`Error::Compacted`] when changes above `after` were dropped;
    /// `after` 0 asks for all that is kept.
    async fn changes(
        &self, scope: &Scope, table: &str, prefix: &str, after: u64, limit: usize, wait: Duration,
    ) -> Result<Vec<Change>>;

    /// Revision of the last commit, 0 for a table never written.
    async fn revision(&self, scope: &Scope, table: &str) -> Result<u64>;

    /// Makes rows what another storage says that they are, with the revisions and ends that they have there, and removes those
    /// that it says went; all or nothing, and none of it shows as a change. At most [`MAX_COMMIT_WRITES`] and
    /// [`MAX_COMMIT_BYTES`], each of a key of its own. Where `revision` is not 0 the table goes on above it, and
    /// changes up to then are no longer kept.
    async fn restore(&self, scope: &Scope, table: &str, rows: Vec<Change>, revision: u64) -> Result<()>;

    /// Puts items of another storage behind those of a journal, with their sequences and times. An empty journal begins at
    /// `first`, a sequence that no item is before; in others the items must follow. At least one item, or `first` says all.
    async fn restore_items(&self, scope: &Scope, journal: &str, first: u64, items: Vec<Item>) -> Result<()>;

    /// All tables that were ever written, in the order of their scopes and names.
    async fn tables(&self) -> Result<Vec<(Scope, String)>>;

    /// All journals that were ever written, in the order of their scopes and names.
    async fn journals(&self) -> Result<Vec<(Scope, String)>>;

    /// Appends all or nothing, durably; sequence of the first.
    async fn append(&self, scope: &Scope, journal: &str, items: Vec<Bytes>) -> Result<u64>;

    /// Items from sequence `from` on, at most `limit`; waits up to `wait` for the first one. [`Error::Compacted`] when
    /// `from` was trimmed; `from` 0 means the first kept.
    async fn read(&self, scope: &Scope, journal: &str, from: u64, limit: usize, wait: Duration) -> Result<Vec<Item>>;

    /// First and last sequence kept; (n + 1, n) when none is.
    async fn bounds(&self, scope: &Scope, journal: &str) -> Result<(u64, u64)>;

    /// Drops items before the sequence.
    async fn trim(&self, scope: &Scope, journal: &str, before: u64) -> Result<()>;

    /// Why calls would be [`Error::Unavailable`] now, none when they would not. Answers at once.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Where processes that share this storage keep what is too large for a table; none when nobody shares it.
    fn objects(&self) -> Option<&dyn Objects> {
        None
    }

    /// Stops taking writes, makes what was acknowledged safe and lets go of files. Later calls are [`Error::Unavailable`].
    async fn close(&self);
}

/// Bytes under names that all processes find which share a storage.
#[async_trait]
pub trait Objects: fmt::Debug + Send + Sync {
    /// Keeps an object, whole and durably, in place of what had its name.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<()>;

    /// What was kept under the name, none when nothing is.
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Removes an object; removing an absent one does nothing.
    async fn remove(&self, name: &str) -> Result<()>;

    /// All that is kept.
    async fn list(&self) -> Result<Vec<Object>>;
}

/// An object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// When it was kept, unix time in milliseconds.
    pub kept_ms: u64,
}
