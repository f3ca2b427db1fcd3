//! The discovery capability: what an argument may be, before any plugin sees it.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use futures::Stream;
use platform_capability::{
    Call, Name, SlotKind,
    discovery::{self, Change, Error, Registration, Summary},
};

use crate::{
    error::CallError,
    plane::Plane,
    provider::{Capability, LIMIT_MAX, Provider},
    watch::Event,
};

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;

/// Shortest and longest time to live, in milliseconds.
const TTL_MS: std::ops::RangeInclusive<u64> = 100..=86_400_000;
/// Most bytes of one registration.
const REGISTRATION_BYTES_MAX: usize = 256 << 10;

/// Typed calls to `discovery.registry`, or to `discovery.registry/NAMESPACE` where it is bound.
#[derive(Debug, Clone)]
pub struct Discovery(Arc<Provider<Self>>);

impl Discovery {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self(Provider::new(plane))
    }

    /// The capability for plugins that import it.
    pub(crate) fn backend(&self) -> Arc<dyn discovery::Backend> {
        Arc::new(self.clone())
    }

    /// Makes or replaces the registration of a node; the revision.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn register(&self, call: &Call, registration: &Registration, ttl_ms: u64) -> Result<u64> {
        check_registration(registration)?;
        check_ttl(ttl_ms)?;
        self.0.write::<discovery::Register, _>(call, (registration, ttl_ms)).await
    }

    /// Keeps a registration for another `ttl_ms`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn heartbeat(&self, call: &Call, service: &str, node_id: &str, ttl_ms: u64) -> Result<()> {
        check_name("service", service)?;
        check_name("node id", node_id)?;
        check_ttl(ttl_ms)?;
        self.0.call::<discovery::Heartbeat, _>(call, (service, node_id, ttl_ms)).await
    }

    /// Removes a registration, if there is one.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn deregister(&self, call: &Call, service: &str, node_id: &str) -> Result<()> {
        check_name("service", service)?;
        check_name("node id", node_id)?;
        self.0.write::<discovery::Deregister, _>(call, (service, node_id)).await
    }

    /// Registrations of a service in order of node ids, after one, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get(&self, call: &Call, service: &str, after: Option<&str>, limit: u32) -> Result<Vec<Registration>> {
        check_name("service", service)?;
        self.0.read::<discovery::Get, _>(call, (service, after, limit.clamp(1, LIMIT_MAX))).await
    }

    /// Services in order of names, after one, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn list(&self, call: &Call, after: Option<&str>, limit: u32) -> Result<Vec<Summary>> {
        self.0.read::<discovery::List, _>(call, (after, limit.clamp(1, LIMIT_MAX))).await
    }

    /// The last revision of the namespace.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call) -> Result<u64> {
        self.0.revision(call).await
    }

    /// Changes of one service, or of all when `service` is empty, after a revision, for as long as the stream is read.
    ///
    /// # Errors
    /// The service is no name, or the host is shutting down. The stream ends with an error when changes that it asks for
    /// are no longer kept.
    pub fn watch(
        &self, call: &Call, service: &str, after: u64,
    ) -> Result<impl Stream<Item = Result<Event<Change>>> + Send + 'static + use<>> {
        check_selector(service)?;
        self.0.watch(call, service, after)
    }
}

impl Capability for Discovery {
    const KIND: SlotKind = SlotKind::DiscoveryRegistry;
    type Error = Error;
    type Change = Change;
    type Revision = discovery::Revision;
    type Changes = discovery::Changes;

    fn selects(selector: &str, change: &Change) -> bool {
        selector.is_empty() || change.service == selector
    }
}

fn check_name(what: &str, name: &str) -> Result<()> {
    name.parse::<Name>().map(drop).map_err(|error| Discovery::refused(format!("{what}: {error}")))
}

/// A name, or nothing for all services.
fn check_selector(service: &str) -> Result<()> {
    if service.is_empty() { Ok(()) } else { check_name("service", service) }
}

fn check_ttl(ttl_ms: u64) -> Result<()> {
    if TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    Err(Discovery::refused(format!(
        "a time to live of {ttl_ms} ms is not within {} to {} ms",
        TTL_MS.start(),
        TTL_MS.end()
    )))
}

fn check_registration(registration: &Registration) -> Result<()> {
    check_name("service", &registration.service)?;
    check_name("version", &registration.version)?;
    check_name("node id", &registration.node.id)?;
    let address = &registration.node.address;
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || address.len() > 300 || address.chars().any(|c| c.is_control() || c == ' ') {
        return Err(Discovery::refused(format!("the address `{}` is not `HOST:PORT`", address.escape_debug())));
    }
    if registration.node.weight > 65_535 {
        return Err(Discovery::refused(format!("the weight {} is above 65535", registration.node.weight)));
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

/// For plugins that import it.
#[async_trait]
impl discovery::Backend for Discovery {
    async fn register(&self, call: &Call, registration: &Registration, ttl_ms: u64) -> Result<u64, Error> {
        Self::nested(self.register(call, registration, ttl_ms).await)
    }

    async fn heartbeat(&self, call: &Call, service: &str, node_id: &str, ttl_ms: u64) -> Result<(), Error> {
        Self::nested(self.heartbeat(call, service, node_id, ttl_ms).await)
    }

    async fn deregister(&self, call: &Call, service: &str, node_id: &str) -> Result<(), Error> {
        Self::nested(self.deregister(call, service, node_id).await)
    }

    async fn get(
        &self, call: &Call, service: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<Registration>, Error> {
        Self::nested(self.get(call, service, after, limit).await)
    }

    async fn list(&self, call: &Call, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, Error> {
        Self::nested(self.list(call, after, limit).await)
    }

    async fn changes(
        &self, call: &Call, service: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<Change>, Error> {
        Self::nested(check_selector(service))?;
        Self::nested(self.0.changes(call, service, after, limit, wait_ms).await)
    }

    async fn revision(&self, call: &Call) -> Result<u64, Error> {
        Self::nested(self.revision(call).await)
    }
}
