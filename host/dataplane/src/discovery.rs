//! The discovery capability through its slots.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use futures::Stream;
use platform_capability::{
    Call, CallContext, Name, SlotKind,
    discovery::{self, Change, Error, Registration, Summary},
};

use crate::{
    error::{CallError, flatten},
    plane::Plane,
    watch::{Event, Hubs, Revised, Source},
};

type Result<T> = std::result::Result<T, CallError<Error>>;

/// Most registrations, services or changes in one answer.
const LIMIT_MAX: u32 = 1000;
/// Shortest and longest time to live, in milliseconds.
const TTL_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;
/// Most bytes of one registration.
const REGISTRATION_BYTES_MAX: usize = 256 << 10;

/// Typed calls to `discovery.registry`, or to `discovery.registry/NAMESPACE` where it is bound. Arguments are checked
/// here, before any plugin sees them.
#[derive(Debug)]
pub struct Discovery {
    plane: Weak<Plane>,
    hubs: Hubs<Change>,
}

impl Discovery {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self { plane, hubs: Hubs::default() }
    }

    pub(crate) fn backend(&self) -> Arc<dyn discovery::Backend> {
        Arc::new(Nested { plane: Weak::clone(&self.plane) })
    }

    async fn call<F>(
        &self, call: &Call, params: F::Params<'_>,
    ) -> std::result::Result<F::Results, CallError<std::convert::Infallible>>
    where
        F: platform_runtime::Function,
        for<'a> F::Params<'a>: Clone,
    {
        let Some(plane) = self.plane.upgrade() else {
            return Err(CallError::NotBound(crate::SlotName::plain(SlotKind::DiscoveryRegistry)));
        };
        plane.find(SlotKind::DiscoveryRegistry, &call.namespace).call::<F>(call, params).await
    }

    /// Makes or replaces the registration of a node; the revision.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn register(&self, call: &Call, registration: &Registration, ttl_ms: u64) -> Result<u64> {
        check_registration(registration)?;
        check_ttl(ttl_ms)?;
        let revision = flatten(self.call::<discovery::Register>(call, (registration, ttl_ms)).await)?;
        self.hubs.kick(&call.namespace);
        Ok(revision)
    }

    /// Keeps a registration for another `ttl_ms`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn heartbeat(&self, call: &Call, service: &str, node_id: &str, ttl_ms: u64) -> Result<()> {
        check_name("service", service)?;
        check_name("node id", node_id)?;
        check_ttl(ttl_ms)?;
        flatten(self.call::<discovery::Heartbeat>(call, (service, node_id, ttl_ms)).await)
    }

    /// Removes a registration, if there is one.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn deregister(&self, call: &Call, service: &str, node_id: &str) -> Result<()> {
        check_name("service", service)?;
        check_name("node id", node_id)?;
        flatten(self.call::<discovery::Deregister>(call, (service, node_id)).await)?;
        self.hubs.kick(&call.namespace);
        Ok(())
    }

    /// Registrations of a service in order of node ids, after one, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get(&self, call: &Call, service: &str, after: Option<&str>, limit: u32) -> Result<Vec<Registration>> {
        check_name("service", service)?;
        flatten(self.call::<discovery::Get>(call, (service, after, limit.clamp(1, LIMIT_MAX))).await)
    }

    /// Services in order of names, after one, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list(&self, call: &Call, after: Option<&str>, limit: u32) -> Result<Vec<Summary>> {
        flatten(self.call::<discovery::List>(call, (after, limit.clamp(1, LIMIT_MAX))).await)
    }

    /// The last revision of the namespace.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call) -> Result<u64> {
        flatten(self.call::<discovery::Revision>(call, ()).await)
    }

    async fn changes(&self, call: &Call, service: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        flatten(self.call::<discovery::Changes>(call, (service, after, limit.clamp(1, LIMIT_MAX), wait_ms)).await)
    }

    /// Changes of one service, or of all when `service` is empty, after a revision, for as long as the stream is read.
    ///
    /// # Errors
    /// The service is no name, or the host is shutting down. The stream ends with an error when changes that it asks for
    /// are no longer kept.
    pub fn watch(
        &self, call: &Call, service: &str, after: u64,
    ) -> Result<impl Stream<Item = Result<Event<Change>>> + Send + 'static + use<>> {
        if !service.is_empty() {
            check_name("service", service)?;
        }
        let plane = self.plane.upgrade().ok_or_else(shutting_down)?;
        let source = Arc::new(Changes { plane: Weak::clone(&self.plane), call: Arc::clone(call) });
        let most = plane.parts.config.watch_changes_kept;
        Ok(self.hubs.subscribe(&call.namespace, source, service.to_owned(), after, &plane.parts.tasks, most))
    }
}

fn shutting_down() -> CallError<Error> {
    CallError::Capability(Error::Unavailable("the platform is shutting down".to_owned()))
}

fn invalid(why: impl Into<String>) -> CallError<Error> {
    CallError::Capability(Error::Invalid(why.into()))
}

fn check_name(what: &str, name: &str) -> Result<()> {
    name.parse::<Name>().map(drop).map_err(|error| invalid(format!("{what}: {error}")))
}

fn check_ttl(ttl_ms: u64) -> Result<()> {
    if TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    Err(invalid(format!("a time to live of {ttl_ms} ms is not within {} to {} ms", TTL_MS.start(), TTL_MS.end())))
}

fn check_registration(registration: &Registration) -> Result<()> {
    check_name("service", &registration.service)?;
    check_name("version", &registration.version)?;
    check_name("node id", &registration.node.id)?;
    let address = &registration.node.address;
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || address.len() > 300 || address.chars().any(|c| c.is_control() || c == ' ') {
        return Err(invalid(format!("the address `{}` is not `HOST:PORT`", address.escape_debug())));
    }
    if registration.node.weight > 65_535 {
        return Err(invalid(format!("the weight {} is above 65535", registration.node.weight)));
    }
    let pairs = |pairs: &[(String, String)]| pairs.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
    let endpoints = registration.endpoints.iter().map(|endpoint| {
        endpoint.name.len() + endpoint.request.len() + endpoint.response.len() + pairs(&endpoint.metadata)
    });
    let bytes = pairs(&registration.metadata) + pairs(&registration.node.metadata) + endpoints.sum::<usize>();
    if bytes > REGISTRATION_BYTES_MAX {
        let why = format!("the registration has {bytes} bytes, more than {REGISTRATION_BYTES_MAX}");
        return Err(CallError::Capability(Error::TooLarge(why)));
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
        plane.discovery().changes(&call, selector, after, LIMIT_MAX, wait_ms).await
    }

    async fn revision(&self) -> Result<u64> {
        let (plane, call) = self.ask(Duration::ZERO)?;
        plane.discovery().revision(&call).await
    }

    fn selects(selector: &str, change: &Change) -> bool {
        selector.is_empty() || change.service == selector
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
impl discovery::Backend for Nested {
    async fn register(&self, call: &Call, registration: &Registration, ttl_ms: u64) -> std::result::Result<u64, Error> {
        nested(self.plane()?.discovery().register(call, registration, ttl_ms).await)
    }

    async fn heartbeat(
        &self, call: &Call, service: &str, node_id: &str, ttl_ms: u64,
    ) -> std::result::Result<(), Error> {
        nested(self.plane()?.discovery().heartbeat(call, service, node_id, ttl_ms).await)
    }

    async fn deregister(&self, call: &Call, service: &str, node_id: &str) -> std::result::Result<(), Error> {
        nested(self.plane()?.discovery().deregister(call, service, node_id).await)
    }

    async fn get(
        &self, call: &Call, service: &str, after: Option<&str>, limit: u32,
    ) -> std::result::Result<Vec<Registration>, Error> {
        nested(self.plane()?.discovery().get(call, service, after, limit).await)
    }

    async fn list(&self, call: &Call, after: Option<&str>, limit: u32) -> std::result::Result<Vec<Summary>, Error> {
        nested(self.plane()?.discovery().list(call, after, limit).await)
    }

    async fn changes(
        &self, call: &Call, service: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> std::result::Result<Vec<Change>, Error> {
        nested(self.plane()?.discovery().changes(call, service, after, limit, wait_ms).await)
    }

    async fn revision(&self, call: &Call) -> std::result::Result<u64, Error> {
        nested(self.plane()?.discovery().revision(call).await)
    }
}
