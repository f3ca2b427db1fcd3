//! Slot `discovery.registry`: which services run where.

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::discovery::exports::platform::discovery::registry::Guest,
    export::{Adapter, Instance},
    storage,
};

pub use crate::bindings::discovery::{
    exports::platform::discovery::registry::{Change, Summary},
    platform::discovery::types::{Endpoint, Error, Node, Registration},
};

/// Result of a call to a registry.
pub type Result<T> = std::result::Result<T, Error>;

/// A registry of services. A registration goes by itself when no heartbeat came for its time to live, at most 250 ms
/// later. The namespace is the call's ([`crate::context::namespace`]; [`storage`] is scoped to it already).
pub trait Registry: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the registry from its settings, once per instance. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> std::result::Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the registry would not work; the previous generation then stays.
    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        Ok(())
    }

    /// Makes or replaces the registration of a node; the revision.
    ///
    /// # Errors
    /// [`Error::Invalid`] or [`Error::TooLarge`] with what is wrong; see [`Error`] for the others.
    fn register(&mut self, registration: Registration, ttl_ms: u64) -> Result<u64>;

    /// Keeps a registration for another `ttl_ms`. Watchers see nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such registration; see [`Error`] for the others.
    fn heartbeat(&mut self, service: &str, node_id: &str, ttl_ms: u64) -> Result<()>;

    /// Removes a registration; absent ones are fine.
    ///
    /// # Errors
    /// See [`Error`].
    fn deregister(&mut self, service: &str, node_id: &str) -> Result<()>;

    /// Registrations of one service in order of node ids, at most `limit` after a node id.
    ///
    /// # Errors
    /// See [`Error`].
    fn get(&mut self, service: &str, after: Option<&str>, limit: u32) -> Result<Vec<Registration>>;

    /// Services in order of names, at most `limit` after a name.
    ///
    /// # Errors
    /// See [`Error`].
    fn list(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>>;

    /// Changes with a revision greater than `after`, oldest first, at most `limit`, of one service or of all when it
    /// is empty. Waits up to `wait_ms` for the first one.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept; see [`Error`] for the others.
    fn changes(&mut self, service: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>>;

    /// Revision of the last change in the namespace, 0 when there was none.
    ///
    /// # Errors
    /// See [`Error`].
    fn revision(&mut self) -> Result<u64>;
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::Conflict(met) => {
                let revision = met.revision;
                Self::Other(format!("the registration is at revision {revision}, which the write does not allow"))
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

/// Calls the registry, or says that the host skipped `configure`.
fn with<P: Instance<State = P>, T>(call: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    P::with(call).unwrap_or_else(|problem| Err(Error::Unavailable(problem.message().to_owned())))
}

impl<P: Registry + Instance<State = P>> Guest for Adapter<P> {
    fn register(registration: Registration, ttl_ms: u64) -> Result<u64> {
        with(|registry: &mut P| registry.register(registration, ttl_ms))
    }

    fn heartbeat(service: String, node_id: String, ttl_ms: u64) -> Result<()> {
        with(|registry: &mut P| registry.heartbeat(&service, &node_id, ttl_ms))
    }

    fn deregister(service: String, node_id: String) -> Result<()> {
        with(|registry: &mut P| registry.deregister(&service, &node_id))
    }

    fn get(service: String, after: Option<String>, limit: u32) -> Result<Vec<Registration>> {
        with(|registry: &mut P| registry.get(&service, after.as_deref(), limit))
    }

    fn list(after: Option<String>, limit: u32) -> Result<Vec<Summary>> {
        with(|registry: &mut P| registry.list(after.as_deref(), limit))
    }

    fn changes(service: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        with(|registry: &mut P| registry.changes(&service, after, limit, wait_ms))
    }

    fn revision() -> Result<u64> {
        with(|registry: &mut P| registry.revision())
    }
}
