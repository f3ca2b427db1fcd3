//! Slot `config.store`: versions of configurations. Slot `config.validator`: may this change be made? Slot `config.source`:
//! where do configurations come from?

mod source;
mod validator;

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::config_store::exports::platform::config::store::Guest,
    export::{Adapter, Instance},
    storage,
};

pub use source::{Document, Source};
pub use validator::{Proposal, Refusal, Validator};

pub use crate::bindings::config_store::platform::config::types::{Action, Candidate, Change, Content, Error, Version};

/// Largest document or schema, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Most versions in one answer.
pub const MAX_LIMIT: u32 = 1000;

/// Result of a call to a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Keeps versions of configurations. Writes are linearizable within a namespace; the namespace is the call's
/// ([`crate::context::namespace`]; [`storage`] is scoped to it already). What a change comes to is the host's to say: a
/// store takes the new document against the version that it was made from.
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

    /// One version and what it holds, the current one when no number is given; none when there never was one.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the version is no longer kept; see [`Error`] for the others.
    fn get(&mut self, id: &str, number: Option<u64>) -> Result<Option<(Version, Content)>>;

    /// Makes the version after `expected`, which has to be the current one, 0 for none.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is not; see [`Error`] for the others.
    fn commit(&mut self, id: &str, expected: u64, change: Change, content: Content) -> Result<Version>;

    /// Versions of one configuration from one number to another, at most `limit`; those no longer kept are left out.
    ///
    /// # Errors
    /// See [`Error`].
    fn history(&mut self, id: &str, from: u64, to: u64, limit: u32, reverse: bool) -> Result<Vec<Version>>;

    /// Versions of all configurations by time, each with its position, after one, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the position is none; see [`Error`] for the others.
    fn audit(
        &mut self, from_ms: u64, to_ms: u64, after: Option<&str>, limit: u32, reverse: bool,
    ) -> Result<Vec<(String, Version)>>;

    /// Current versions of configurations whose id starts with `prefix` and is greater than `after`, in byte order.
    ///
    /// # Errors
    /// See [`Error`].
    fn search(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Version>>;

    /// Versions with a revision greater than `after`, oldest first, at most `limit`, without their differences; of one
    /// configuration, or of all that start with what stands before a `*`. Waits up to `wait_ms` for the first one, or
    /// returns at once when the store can't wait.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept; see [`Error`] for the others.
    fn changes(&mut self, selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Version>>;

    /// Revision of the last write in the namespace, 0 when there was none.
    ///
    /// # Errors
    /// See [`Error`].
    fn revision(&mut self) -> Result<u64>;
}

/// Checks an id: 1 to 128 bytes of letters, digits, `.`, `_` and `-`.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || id.len() > 128 || !id.bytes().all(allowed) {
        return Err(Error::Invalid("an id has 1 to 128 letters, digits, `.`, `_` and `-`".into()));
    }
    Ok(())
}

/// Checks what a version holds: document, schema and candidate of at most 1 MiB each.
///
/// # Errors
/// [`Error::TooLarge`].
pub fn check_content(content: &Content) -> Result<()> {
    let candidate = content.candidate.as_ref().map(|candidate| &candidate.document);
    for (what, text) in
        [("document", content.document.as_ref()), ("schema", content.schema.as_ref()), ("candidate", candidate)]
    {
        let size = text.map_or(0, String::len);
        if size > MAX_DOCUMENT_BYTES {
            return Err(Error::TooLarge(format!("the {what} has {size} bytes, the limit is {MAX_DOCUMENT_BYTES}")));
        }
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

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Conflict(conflict) => Self::Conflict(conflict.revision),
            storage::Error::Compacted(oldest) => Self::Compacted(oldest),
            storage::Error::Stale(seen) => Self::Stale(seen),
            storage::Error::TooLarge(what) | storage::Error::Full(what) => Self::TooLarge(what),
            storage::Error::Invalid(what) => Self::Invalid(what),
            storage::Error::Unavailable(why) => Self::Unavailable(why),
            storage::Error::Other(why) => Self::Other(why),
        }
    }
}

/// Calls the store, or says that the host skipped `configure`.
fn with<P: Instance<State = P>, T>(call: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    P::with(call).unwrap_or_else(|problem| Err(Error::Unavailable(problem.message().to_owned())))
}

impl<P: Store + Instance<State = P>> Guest for Adapter<P> {
    fn get(id: String, number: Option<u64>) -> Result<Option<(Version, Content)>> {
        with(|store: &mut P| store.get(&id, number))
    }

    fn commit(id: String, expected: u64, change: Change, content: Content) -> Result<Version> {
        with(|store: &mut P| store.commit(&id, expected, change, content))
    }

    fn history(id: String, from: u64, to: u64, limit: u32, reverse: bool) -> Result<Vec<Version>> {
        with(|store: &mut P| store.history(&id, from, to, limit, reverse))
    }

    fn audit(
        from_ms: u64, to_ms: u64, after: Option<String>, limit: u32, reverse: bool,
    ) -> Result<Vec<(String, Version)>> {
        with(|store: &mut P| store.audit(from_ms, to_ms, after.as_deref(), limit, reverse))
    }

    fn search(prefix: String, after: Option<String>, limit: u32) -> Result<Vec<Version>> {
        with(|store: &mut P| store.search(&prefix, after.as_deref(), limit))
    }

    fn changes(selector: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Version>> {
        with(|store: &mut P| store.changes(&selector, after, limit, wait_ms))
    }

    fn revision() -> Result<u64> {
        with(|store: &mut P| store.revision())
    }
}
