//! The key-value capability: what an argument may be, before any plugin sees it.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use futures::Stream;
use platform_capability::{
    Call, SlotKind,
    kv::{self, Action, Change, Condition, Entry, Error, Expiry, Fence, Usage, Write},
};

use crate::{
    error::CallError,
    plane::Plane,
    provider::{Capability, LIMIT_MAX, Provider},
    watch::Event,
};

mod carry;

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// Largest value, in bytes.
const VALUE_BYTES_MAX: usize = 8 << 20;

/// Most bytes of keys and values in one commit.
const COMMIT_BYTES_MAX: usize = 16 << 20;

/// Typed calls to `kv.store`, or to `kv.store/NAMESPACE` where it is bound.
#[derive(Debug, Clone)]
pub struct Kv(Arc<Provider<Self>>);

impl Kv {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self(Provider::new(plane))
    }

    pub(crate) fn provider(&self) -> &Arc<Provider<Self>> {
        &self.0
    }

    /// The capability for plugins that import it.
    pub(crate) fn backend(&self) -> Arc<dyn kv::Backend> {
        Arc::new(self.clone())
    }

    /// The entry under `key`, none when absent or expired.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn get(&self, call: &Call, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        self.0.read::<kv::Get, _>(call, (key,)).await
    }

    /// What 1 to 1000 keys hold, in the order asked and all of one moment.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get_many(&self, call: &Call, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        check_count(keys.len())?;
        keys.iter().try_for_each(|key| check_key(key))?;
        self.0.read::<kv::GetMany, _>(call, (keys,)).await
    }

    /// Writes `value`; the revision.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn put(&self, call: &Call, key: &str, value: &[u8], condition: Condition, expiry: Expiry) -> Result<u64> {
        check_key(key)?;
        check_content(value, expiry)?;
        let _writing = self.0.writing(call).await?;
        self.0.write::<kv::Put, _>(call, (key, value, condition, expiry)).await
    }

    /// Removes a key; the revision, none when there was nothing to remove.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete(&self, call: &Call, key: &str, condition: Condition) -> Result<Option<u64>> {
        check_key(key)?;
        let _writing = self.0.writing(call).await?;
        self.0.write::<kv::Delete, _>(call, (key, condition)).await
    }

    /// Makes 1 to 1000 writes of different keys, all or none; their shared revision.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn commit(&self, call: &Call, writes: &[Write]) -> Result<u64> {
        check_count(writes.len())?;
        let (mut bytes, mut keys) = (0, HashSet::with_capacity(writes.len()));
        for Write { key, action, .. } in writes {
            check_key(key)?;
            bytes += key.len();
            if let Action::Put(content) = action {
                check_content(&content.value, content.expiry)?;
                bytes += content.value.len();
            }
            if !keys.insert(key) {
                return Err(Self::refused(format!("the key `{key}` is written twice in one commit")));
            }
        }
        if bytes > COMMIT_BYTES_MAX {
            let why = format!("the commit has {bytes} bytes, more than {COMMIT_BYTES_MAX}");
            return Err(CallError::Capability(Error::TooLarge(why)));
        }
        let _writing = self.0.writing(call).await?;
        self.0.write::<kv::Commit, _>(call, (writes,)).await
    }

    /// Adds to a number; the sum.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn increment(&self, call: &Call, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        let _writing = self.0.writing(call).await?;
        self.0.write::<kv::Increment, _>(call, (key, by)).await
    }

    /// What the namespace holds, and may hold.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn used(&self, call: &Call) -> Result<Usage> {
        self.0.read::<kv::Used, _>(call, ()).await
    }

    /// Entries with `prefix` and after `after`, in byte order of keys, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn scan(
        &self, call: &Call, prefix: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<(String, Entry)>> {
        check_prefix(prefix)?;
        self.0.read::<kv::Scan, _>(call, (prefix, after, limit.clamp(1, LIMIT_MAX))).await
    }

    /// Fences of the namespace in order, after a name: what its writes were fenced with.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn fences(&self, call: &Call, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        self.0.call::<kv::Fences, _>(call, (after, limit.clamp(1, LIMIT_MAX))).await
    }

    /// Makes the store take over what another one holds, as [`Plane::carry`] has it done: no call of a caller comes here.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn restore(&self, call: &Call, changes: &[Change], fences: &[Fence], revision: u64) -> Result<()> {
        let _writing = self.0.writing(call).await?;
        self.0.write::<kv::Restore, _>(call, (changes, fences, revision)).await
    }

    /// The last revision of the namespace.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call) -> Result<u64> {
        self.0.revision(call).await
    }

    /// Changes of keys with `prefix` after a revision that are there now.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn changes(&self, call: &Call, prefix: &str, after: u64, limit: u32) -> Result<Vec<Change>> {
        check_prefix(prefix)?;
        self.0.changes(call, prefix, after, limit, 0).await
    }

    /// Changes of keys with `prefix` after a revision, for as long as the stream is read.
    ///
    /// # Errors
    /// The prefix is not allowed, or the host is shutting down. The stream ends with an error when changes that it asks
    /// for are no longer kept.
    pub fn watch(
        &self, call: &Call, prefix: &str, after: u64,
    ) -> Result<impl Stream<Item = Result<Event<Change>>> + Send + 'static + use<>> {
        check_prefix(prefix)?;
        self.0.watch(call, prefix, after)
    }
}

impl Capability for Kv {
    const KIND: SlotKind = SlotKind::KvStore;
    type Error = Error;
    type Change = Change;
    type Revision = kv::Revision;
    type Changes = kv::Changes;

    fn selects(selector: &str, change: &Change) -> bool {
        change.key.starts_with(selector)
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(Kv::refused("the key is empty"));
    }
    check_prefix(key)
}

fn check_content(value: &[u8], expiry: Expiry) -> Result<()> {
    if value.len() > VALUE_BYTES_MAX {
        let why = format!("the value has {} bytes, more than {VALUE_BYTES_MAX}", value.len());
        return Err(CallError::Capability(Error::TooLarge(why)));
    }
    if matches!(expiry, Expiry::AfterMs(0)) {
        return Err(Kv::refused("a time to live has to be at least 1 ms"));
    }
    Ok(())
}

fn check_count(count: usize) -> Result<()> {
    match count {
        0 => Err(Kv::refused("there are no keys")),
        count if count > LIMIT_MAX as usize => {
            let why = format!("there are {count} keys, more than {LIMIT_MAX}");
            Err(CallError::Capability(Error::TooLarge(why)))
        }
        _ => Ok(()),
    }
}

fn check_prefix(key: &str) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        let why = format!("the key has {} bytes, more than {KEY_BYTES_MAX}", key.len());
        return Err(CallError::Capability(Error::TooLarge(why)));
    }
    if key.chars().any(char::is_control) {
        return Err(Kv::refused(format!("the key `{}` holds control characters", key.escape_debug())));
    }
    Ok(())
}

/// For plugins that import it.
#[async_trait]
impl kv::Backend for Kv {
    async fn get(&self, call: &Call, key: &str) -> Result<Option<Entry>, Error> {
        Self::nested(self.get(call, key).await)
    }

    async fn get_many(&self, call: &Call, keys: &[&str]) -> Result<Vec<Option<Entry>>, Error> {
        Self::nested(self.get_many(call, keys).await)
    }

    async fn put(&self, call: &Call, key: &str, value: &[u8], when: Condition, expiry: Expiry) -> Result<u64, Error> {
        Self::nested(self.put(call, key, value, when, expiry).await)
    }

    async fn delete(&self, call: &Call, key: &str, when: Condition) -> Result<Option<u64>, Error> {
        Self::nested(self.delete(call, key, when).await)
    }

    async fn commit(&self, call: &Call, writes: &[Write]) -> Result<u64, Error> {
        Self::nested(self.commit(call, writes).await)
    }

    async fn increment(&self, call: &Call, key: &str, by: i64) -> Result<i64, Error> {
        Self::nested(self.increment(call, key, by).await)
    }

    async fn used(&self, call: &Call) -> Result<Usage, Error> {
        Self::nested(self.used(call).await)
    }

    async fn scan(
        &self, call: &Call, prefix: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<(String, Entry)>, Error> {
        Self::nested(self.scan(call, prefix, after, limit).await)
    }

    async fn changes(
        &self, call: &Call, prefix: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<Change>, Error> {
        Self::nested(check_prefix(prefix))?;
        Self::nested(self.0.changes(call, prefix, after, limit, wait_ms).await)
    }

    async fn revision(&self, call: &Call) -> Result<u64, Error> {
        Self::nested(self.revision(call).await)
    }
}
