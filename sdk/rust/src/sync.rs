//! Slot `sync.lock`: locks, semaphores and elections on leases.

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::sync::exports::platform::sync::lock::Guest,
    context,
    export::{Adapter, Instance},
    storage,
};

pub use crate::bindings::sync::platform::sync::types::{Error, Lease, Lock, Mode, Permits, Place, Want};

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
/// Longest text that a holder says of itself, in bytes.
pub const MAX_VALUE_BYTES: usize = 1024;
/// Most permits of a semaphore.
pub const MAX_PERMITS: u32 = 1_000_000;
/// Most locks or changes in one answer.
pub const MAX_LIMIT: u32 = 1000;
/// Shortest and longest lease, in milliseconds.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 500..=86_400_000;
/// The role that may give up what is somebody else's.
pub const ADMIN_ROLE: &str = "admin";

/// Result of a call to a provider of locks.
pub type Result<T> = std::result::Result<T, Error>;

/// Locks. Calls are linearizable within a namespace; namespace and caller are the call's ([`crate::context`];
/// [`storage`] is scoped to the namespace already). A token is greater than every one before it under the name, for ever.
pub trait Locks: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the provider from its settings, once per instance. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> std::result::Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When it would not work; the previous generation then stays.
    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        Ok(())
    }

    /// Makes a lease under an id that is used once.
    ///
    /// # Errors
    /// See [`Error`]; so for all functions.
    fn grant(&mut self, lease: &str, ttl_ms: u64) -> Result<Lease>;

    /// Lets a lease last for its whole time from now on.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has ended.
    fn keep_alive(&mut self, lease: &str) -> Result<Lease>;

    /// Ends a lease and gives up what hangs on it; an absent one is fine.
    ///
    /// # Errors
    /// [`Error::Denied`] when it is somebody else's.
    fn revoke(&mut self, lease: &str) -> Result<()>;

    /// Takes a place at the end of the line, which hangs on a lease that [`Self::grant`] made, or, with a `ttl_ms`, on one of
    /// its own, which is made in the same step and ends with the place.
    ///
    /// # Errors
    /// [`Error::Held`] when it would be waited for and `queue` is not set; [`Error::NotFound`] when there is no such lease.
    fn acquire(
        &mut self, name: &str, want: Want, lease: &str, ttl_ms: Option<u64>, queue: bool,
    ) -> Result<(Place, Lease)>;

    /// Gives a place up, held or waited for.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such place; [`Error::Denied`] when it is somebody else's.
    fn release(&mut self, name: &str, token: u64) -> Result<()>;

    /// Changes what the holder of a place says of itself; the revision.
    ///
    /// # Errors
    /// As [`Self::release`].
    fn proclaim(&mut self, name: &str, token: u64, value: Option<String>) -> Result<u64>;

    /// What a lock is like; none when nobody holds it or waits for it.
    ///
    /// # Errors
    /// See [`Error`].
    fn get(&mut self, name: &str) -> Result<Option<Lock>>;

    /// The place with a token.
    ///
    /// # Errors
    /// See [`Error`].
    fn find(&mut self, name: &str, token: u64) -> Result<Option<Place>>;

    /// Locks that are held, in byte order of their names.
    ///
    /// # Errors
    /// See [`Error`].
    fn search(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Lock>>;

    /// Locks as they were after each change with a revision greater than `after`. Waits up to `wait_ms` for the first one.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept.
    fn changes(&mut self, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Lock>>;

    /// Revision of the last change in the namespace, 0 when there was none.
    ///
    /// # Errors
    /// See [`Error`].
    fn revision(&mut self) -> Result<u64>;
}

/// Checks a name: 1 to 512 bytes without control characters.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`], with the rule that is broken.
pub fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::Invalid("the name is empty".into()));
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::TooLarge(format!("the name has {} bytes, the limit is {MAX_NAME_BYTES}", name.len())));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::Invalid("the name has a control character".into()));
    }
    Ok(())
}

/// Checks the id of a lease: 32 hexadecimal digits.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_lease(id: &str) -> Result<()> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() == 32 && id.bytes().all(digit) {
        Ok(())
    } else {
        Err(Error::Invalid("the lease is no id of one".into()))
    }
}

/// Checks how long a lease lasts.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_ttl(ttl_ms: u64) -> Result<()> {
    if TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    Err(Error::Invalid(format!("a lease of {ttl_ms} ms is not within {} to {} ms", TTL_MS.start(), TTL_MS.end())))
}

/// Checks what somebody wants of a lock.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`], with the rule that is broken.
pub fn check_want(want: &Want) -> Result<()> {
    check_value(want.value.as_deref())?;
    match want.mode {
        Mode::Permits(Permits { count, limit }) if count == 0 || count > limit || limit > MAX_PERMITS => {
            Err(Error::Invalid(format!(
                "{count} of {limit} permits can't be had: ask for 1 or more, of at most {MAX_PERMITS} in all"
            )))
        }
        Mode::Permits(_) | Mode::Exclusive | Mode::Shared => Ok(()),
    }
}

/// Checks what a holder says of itself.
///
/// # Errors
/// [`Error::TooLarge`].
pub fn check_value(value: Option<&str>) -> Result<()> {
    match value.map_or(0, str::len) {
        length if length > MAX_VALUE_BYTES => {
            Err(Error::TooLarge(format!("the value has {length} bytes, the limit is {MAX_VALUE_BYTES}")))
        }
        _ => Ok(()),
    }
}

/// Checks a limit: 1 to 1000.
///
/// # Errors
/// [`Error::Invalid`].
pub fn check_limit(limit: u32) -> Result<u32> {
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(Error::Invalid(format!("the limit is {limit}, allowed are 1 to {MAX_LIMIT}")))
}

/// The caller, who will have what the call makes.
///
/// # Errors
/// [`Error::Denied`] when nobody was verified.
pub fn caller() -> Result<String> {
    let nobody = || Error::Denied("a lease is somebody's: the call needs a verified caller".into());
    context::who().map(|caller| caller.subject).ok_or_else(nobody)
}

/// Checks that the caller may give up what is `holder`'s: it is the same, or has the role `admin`.
///
/// # Errors
/// [`Error::Denied`].
pub fn check_holder(holder: &str) -> Result<()> {
    let may = |caller: context::Caller| caller.subject == holder || caller.roles.iter().any(|role| role == ADMIN_ROLE);
    if context::who().is_some_and(may) {
        return Ok(());
    }
    Err(Error::Denied(format!("it is held by `{holder}`: only that caller or one with the role `{ADMIN_ROLE}` may")))
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Conflict(met) => {
                Self::Unavailable(format!("`{}` was changed by others; try again", met.key))
            }
            storage::Error::Compacted(oldest) => Self::Compacted(oldest),
            storage::Error::Stale(seen) => {
                Self::Invalid(format!("the call is fenced, and token {seen} was seen already"))
            }
            storage::Error::TooLarge(what) => Self::TooLarge(what),
            storage::Error::Full(what) => Self::Unavailable(what),
            storage::Error::Invalid(what) => Self::Invalid(what),
            storage::Error::Unavailable(why) => Self::Unavailable(why),
            storage::Error::Other(why) => Self::Other(why),
        }
    }
}

/// Calls the provider, or says that the host skipped `configure`.
fn with<P: Instance<State = P>, T>(call: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    P::with(call).unwrap_or_else(|problem| Err(Error::Unavailable(problem.message().to_owned())))
}

impl<P: Locks + Instance<State = P>> Guest for Adapter<P> {
    fn grant(lease: String, ttl_ms: u64) -> Result<Lease> {
        with(|locks: &mut P| locks.grant(&lease, ttl_ms))
    }

    fn keep_alive(lease: String) -> Result<Lease> {
        with(|locks: &mut P| locks.keep_alive(&lease))
    }

    fn revoke(lease: String) -> Result<()> {
        with(|locks: &mut P| locks.revoke(&lease))
    }

    fn acquire(name: String, want: Want, lease: String, ttl_ms: Option<u64>, queue: bool) -> Result<(Place, Lease)> {
        with(|locks: &mut P| locks.acquire(&name, want, &lease, ttl_ms, queue))
    }

    fn release(name: String, token: u64) -> Result<()> {
        with(|locks: &mut P| locks.release(&name, token))
    }

    fn proclaim(name: String, token: u64, value: Option<String>) -> Result<u64> {
        with(|locks: &mut P| locks.proclaim(&name, token, value))
    }

    fn get(name: String) -> Result<Option<Lock>> {
        with(|locks: &mut P| locks.get(&name))
    }

    fn find(name: String, token: u64) -> Result<Option<Place>> {
        with(|locks: &mut P| locks.find(&name, token))
    }

    fn search(prefix: String, after: Option<String>, limit: u32) -> Result<Vec<Lock>> {
        with(|locks: &mut P| locks.search(&prefix, after.as_deref(), limit))
    }

    fn changes(prefix: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Lock>> {
        with(|locks: &mut P| locks.changes(&prefix, after, limit, wait_ms))
    }

    fn revision() -> Result<u64> {
        with(|locks: &mut P| locks.revision())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hostile_is_refused_with_the_rule() {
        assert!(check_name("orders/42 é").is_ok());
        assert!(matches!(check_name(""), Err(Error::Invalid(_))));
        assert!(matches!(check_name("a\0b"), Err(Error::Invalid(_))));
        assert!(matches!(check_name(&"n".repeat(513)), Err(Error::TooLarge(_))));
        assert!(check_lease(&"0f".repeat(16)).is_ok());
        for id in ["", "0F", &"g".repeat(32), &"0".repeat(33), "../../../../../../../../../../aa"] {
            assert!(check_lease(id).is_err(), "{id}");
        }
        for ttl in [0, 499, 86_400_001, u64::MAX] {
            assert!(check_ttl(ttl).is_err(), "{ttl}");
        }
        for (count, limit, good) in [(1, 1, true), (0, 1, false), (2, 1, false), (1, 1_000_001, false), (1, 0, false)] {
            let want = Want { mode: Mode::Permits(Permits { count, limit }), value: None };
            assert_eq!(check_want(&want).is_ok(), good, "{count} of {limit}");
        }
    }
}
