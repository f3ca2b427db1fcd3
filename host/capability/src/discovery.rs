//! `platform:discovery`: what providers export and what users of the capability import.

use std::fmt;

use async_trait::async_trait;
use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::discovery::{
    registry::{Change, Summary},
    types::{Endpoint, Error, Node, Registration},
};
use crate::{
    bindings::platform::discovery::{registry, types},
    context::Call,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:discovery/registry@0.1.0";

functions! { "platform:discovery/registry@0.1.0" from LIFECYCLE;
    /// Makes or replaces a registration.
    Register = "register" (&'a Registration, u64) -> (Result<u64, Error>,);
    /// Keeps a registration.
    Heartbeat = "heartbeat" (&'a str, &'a str, u64) -> (Result<(), Error>,);
    /// Removes a registration.
    Deregister = "deregister" (&'a str, &'a str) -> (Result<(), Error>,);
    /// Registrations of a service.
    Get = "get" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Registration>, Error>,);
    /// Services.
    List = "list" (Option<&'a str>, u32) -> (Result<Vec<Summary>, Error>,);
    /// Waits for changes.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Change>, Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<Register>(),
    Row::required::<Heartbeat>(),
    Row::required::<Deregister>(),
    Row::required::<Get>(),
    Row::required::<List>(),
    Row::required::<Changes>(),
    Row::required::<Revision>(),
];

/// The discovery capability for guests that import it.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:discovery/registry`.
    async fn register(&self, call: &Call, registration: &Registration, ttl_ms: u64) -> Result<u64, Error>;
    /// See `platform:discovery/registry`.
    async fn heartbeat(&self, call: &Call, service: &str, node_id: &str, ttl_ms: u64) -> Result<(), Error>;
    /// See `platform:discovery/registry`.
    async fn deregister(&self, call: &Call, service: &str, node_id: &str) -> Result<(), Error>;
    /// See `platform:discovery/registry`.
    async fn get(
        &self, call: &Call, service: &str, after: Option<&str>, limit: u32,
    ) -> Result<Vec<Registration>, Error>;
    /// See `platform:discovery/registry`.
    async fn list(&self, call: &Call, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, Error>;
    /// See `platform:discovery/registry`.
    async fn changes(
        &self, call: &Call, service: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<Change>, Error>;
    /// See `platform:discovery/registry`.
    async fn revision(&self, call: &Call) -> Result<u64, Error>;
}

impl types::Host for Guest {}

impl Guest {
    fn discovery(&self) -> Result<&dyn Backend, Error> {
        let backend = self.parts.discovery.as_deref();
        backend.ok_or_else(|| Error::Unavailable("the plugin has no `discovery` grant".to_owned()))
    }
}

impl registry::Host for Guest {
    async fn register(&mut self, registration: Registration, ttl_ms: u64) -> Result<u64, Error> {
        self.discovery()?.register(&self.nested(), &registration, ttl_ms).await
    }

    async fn heartbeat(&mut self, service: String, node_id: String, ttl_ms: u64) -> Result<(), Error> {
        self.discovery()?.heartbeat(&self.nested(), &service, &node_id, ttl_ms).await
    }

    async fn deregister(&mut self, service: String, node_id: String) -> Result<(), Error> {
        self.discovery()?.deregister(&self.nested(), &service, &node_id).await
    }

    async fn get(&mut self, service: String, after: Option<String>, limit: u32) -> Result<Vec<Registration>, Error> {
        self.discovery()?.get(&self.nested(), &service, after.as_deref(), limit).await
    }

    async fn list(&mut self, after: Option<String>, limit: u32) -> Result<Vec<Summary>, Error> {
        self.discovery()?.list(&self.nested(), after.as_deref(), limit).await
    }

    async fn changes(&mut self, service: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>, Error> {
        self.discovery()?.changes(&self.nested(), &service, after, limit, wait_ms).await
    }

    async fn revision(&mut self) -> Result<u64, Error> {
        self.discovery()?.revision(&self.nested()).await
    }
}
