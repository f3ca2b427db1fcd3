//! The kv capability through its slots.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::Stream;
use platform_capability::{
    Call, CallContext, SlotKind,
    kv::{self, Change, Condition, Entry, Error, Expiry},
};

use crate::{
    error::{CallError, flatten},
    plane::Plane,
    watch::{Event, Hubs, Revised, Source},
};

type Result<T> = std::result::Result<T, CallError<Error>>;

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// Largest value, in bytes.
const VALUE_BYTES_MAX: usize = 8 << 20;
/// Most entries or changes in one answer.
const LIMIT_MAX: u32 = 1000;

/// Typed calls to `kv.store`, or to `kv.store/NAMESPACE` where it is bound. Arguments are checked here, before any
/// plugin sees them.
#[derive(Debug)]
pub struct Kv {
    plane: Weak<Plane>,
    hubs: Hubs<Change>,
}

impl Kv {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self { plane, hubs: Hubs::default() }
    }

    pub(crate) fn backend(&self) -> Arc<dyn kv::Backend> {
        Arc::new(Nested { plane: Weak::clone(&self.plane) })
    }

    fn plane(&self) -> Result<Arc<Plane>> {
        self.plane.upgrade().ok_or_else(shutting_down)
    }

    async fn call<F>(
        &self, call: &Call, params: F::Params<'_>,
    ) -> std::result::Result<F::Results, CallError<std::convert::Infallible>>
    where
        F: platform_runtime::Function,
        for<'a> F::Params<'a>: Clone,
    {
        let Some(plane) = self.plane.upgrade() else {
            return Err(CallError::NotBound(crate::SlotName::plain(SlotKind::KvStore)));
        };
        plane.find(SlotKind::KvStore, &call.namespace).call::<F>(call, params).await
    }

    /// The entry under `key`, none when absent or expired.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn get(&self, call: &Call, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        flatten(self.call::<kv::Get>(call, (key,)).await)
    }

    /// Writes `value`; the revision.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn put(&self, call: &Call, key: &str, value: &[u8], condition: Condition, expiry: Expiry) -> Result<u64> {
        check_key(key)?;
        if value.len() > VALUE_BYTES_MAX {
            let why = format!("the value has {} bytes, more than {VALUE_BYTES_MAX}", value.len());
            return Err(CallError::Capability(Error::TooLarge(why)));
        }
        if matches!(expiry, Expiry::AfterMs(0)) {
            return Err(invalid("a time to live has to be at least 1 ms"));
        }
        let revision = flatten(self.call::<kv::Put>(call, (key, value, condition, expiry)).await)?;
        self.hubs.kick(&call.namespace);
        Ok(revision)
    }

    /// Removes a key; the revision, none when there was nothing to remove.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn delete(&self, call: &Call, key: &str, condition: Condition) -> Result<Option<u64>> {
        check_key(key)?;
        let revision = flatten(self.call::<kv::Delete>(call, (key, condition)).await)?;
        self.hubs.kick(&call.namespace);
        Ok(revision)
    }

    /// Adds to a number; the sum.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn increment(&self, call: &Call, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        let sum = flatten(self.call::<kv::Increment>(call, (key, by)).await)?;
        self.hubs.kick(&call.namespace);
        Ok(sum)
    }

    /// Entries with `prefix` and after `after`, in byte order of keys, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn scan(
        &self, call: &Call, prefix: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<(String, Entry)>> {
        check_prefix(prefix)?;
        let limit = limit.clamp(1, LIMIT_MAX);
        flatten(self.call::<kv::Scan>(call, (prefix, after, limit)).await)
    }

    /// The last revision of the namespace.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call) -> Result<u64> {
        flatten(self.call::<kv::Revision>(call, ()).await)
    }

    async fn changes(&self, call: &Call, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        flatten(self.call::<kv::Changes>(call, (prefix, after, limit.clamp(1, LIMIT_MAX), wait_ms)).await)
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
        let plane = self.plane()?;
        let source = Arc::new(Changes { plane: Weak::clone(&self.plane), call: Arc::clone(call) });
        let most = plane.parts.config.watch_changes_kept;
        Ok(self.hubs.subscribe(&call.namespace, source, prefix.to_owned(), after, &plane.parts.tasks, most))
    }
}

fn shutting_down() -> CallError<Error> {
    CallError::Capability(Error::Unavailable("the platform is shutting down".to_owned()))
}

fn invalid(why: impl Into<String>) -> CallError<Error> {
    CallError::Capability(Error::Invalid(why.into()))
}

fn check_key(key: &str) -> Result<()> {
    if key.is_empty() {
        return Err(invalid("the key is empty"));
    }
    check_prefix(key)
}

fn check_prefix(key: &str) -> Result<()> {
    if key.len() > KEY_BYTES_MAX {
        let why = format!("the key has {} bytes, more than {KEY_BYTES_MAX}", key.len());
        return Err(CallError::Capability(Error::TooLarge(why)));
    }
    if key.chars().any(char::is_control) {
        return Err(invalid(format!("the key `{}` holds control characters", key.escape_debug())));
    }
    Ok(())
}

impl Revised for Change {
    fn revision(&self) -> u64 {
        self.revision
    }
}

/// Changes of one namespace, asked for by the host itself.
struct Changes {
    plane: Weak<Plane>,
    call: Call,
}

/// Time that the host gives a provider on top of the wait it asks for.
const MARGIN: Duration = Duration::from_secs(5);

impl Changes {
    fn ask(&self, wait: Duration) -> Result<(Arc<Plane>, Call)> {
        let plane = self.plane.upgrade().ok_or_else(shutting_down)?;
        Ok((plane, Arc::new(CallContext::host(Arc::clone(&self.call.namespace), wait + MARGIN))))
    }
}

#[async_trait]
impl Source for Changes {
    type Change = Change;
    type Error = Error;

    async fn changes(&self, selector: &str, after: u64, wait: Duration) -> Result<Vec<Change>> {
        let (plane, call) = self.ask(wait)?;
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        plane.kv().changes(&call, selector, after, LIMIT_MAX, wait_ms).await
    }

    async fn revision(&self) -> Result<u64> {
        let (plane, call) = self.ask(Duration::ZERO)?;
        plane.kv().revision(&call).await
    }

    fn selects(selector: &str, change: &Change) -> bool {
        change.key.starts_with(selector)
    }

    fn ahead(after: u64, current: u64) -> Error {
        Error::Invalid(format!("revision {after} has not been reached; the last one is {current}"))
    }

    fn behind(oldest: u64) -> Error {
        Error::Compacted(oldest)
    }

    fn is_behind(error: &Error) -> bool {
        matches!(error, Error::Compacted(_))
    }
}

/// The capability for plugins that import it.
#[derive(Debug)]
struct Nested {
    plane: Weak<Plane>,
}

impl Nested {
    fn plane(&self) -> std::result::Result<Arc<Plane>, Error> {
        self.plane.upgrade().ok_or_else(|| Error::Unavailable("the platform is shutting down".to_owned()))
    }
}

/// What a plugin learns of a failed call to another: that it failed, and whether trying again makes sense.
fn nested<T>(result: Result<T>) -> std::result::Result<T, Error> {
    result.map_err(|error| match error {
        CallError::Capability(error) => error,
        other => Error::Unavailable(other.map(|_: Error| "").to_string()),
    })
}

#[async_trait]
impl kv::Backend for Nested {
    async fn get(&self, call: &Call, key: &str) -> std::result::Result<Option<Entry>, Error> {
        nested(self.plane()?.kv().get(call, key).await)
    }

    async fn put(
        &self, call: &Call, key: &str, value: &[u8], when: Condition, expiry: Expiry,
    ) -> std::result::Result<u64, Error> {
        nested(self.plane()?.kv().put(call, key, value, when, expiry).await)
    }

    async fn delete(&self, call: &Call, key: &str, when: Condition) -> std::result::Result<Option<u64>, Error> {
        nested(self.plane()?.kv().delete(call, key, when).await)
    }

    async fn increment(&self, call: &Call, key: &str, by: i64) -> std::result::Result<i64, Error> {
        nested(self.plane()?.kv().increment(call, key, by).await)
    }

    async fn scan(
        &self, call: &Call, prefix: &str, after: Option<&str>, limit: u32,
    ) -> std::result::Result<Vec<(String, Entry)>, Error> {
        nested(self.plane()?.kv().scan(call, prefix, after, limit).await)
    }

    async fn changes(
        &self, call: &Call, prefix: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> std::result::Result<Vec<Change>, Error> {
        nested(self.plane()?.kv().changes(call, prefix, after, limit, wait_ms).await)
    }

    async fn revision(&self, call: &Call) -> std::result::Result<u64, Error> {
        nested(self.plane()?.kv().revision(call).await)
    }
}
