//! `platform:sync`: what providers export and what users of the capability import.

use std::fmt;

use async_trait::async_trait;
use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::sync::types::{Error, Lease, Lock, Mode, Permits, Place, Want};
use crate::{
    bindings::platform::sync::{locks, types},
    context::Call,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:sync/lock@0.1.0";

functions! { "platform:sync/lock@0.1.0" from LIFECYCLE;
    /// Makes a lease.
    Grant = "grant" (&'a str, u64) -> (Result<Lease, Error>,);
    /// Lets a lease last on.
    KeepAlive = "keep-alive" (&'a str) -> (Result<Lease, Error>,);
    /// Ends a lease.
    Revoke = "revoke" (&'a str) -> (Result<(), Error>,);
    /// Takes a place in a line.
    Acquire = "acquire" (&'a str, &'a Want, &'a str, Option<u64>, bool) -> (Result<(Place, Lease), Error>,);
    /// Gives a place up.
    Release = "release" (&'a str, u64) -> (Result<(), Error>,);
    /// Changes what a holder says of itself.
    Proclaim = "proclaim" (&'a str, u64, Option<&'a str>) -> (Result<u64, Error>,);
    /// What a lock is like.
    Get = "get" (&'a str) -> (Result<Option<Lock>, Error>,);
    /// One place.
    Find = "find" (&'a str, u64) -> (Result<Option<Place>, Error>,);
    /// Locks that are held.
    Search = "search" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Lock>, Error>,);
    /// Waits for changes.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Lock>, Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<Grant>(),
    Row::required::<KeepAlive>(),
    Row::required::<Revoke>(),
    Row::required::<Acquire>(),
    Row::required::<Release>(),
    Row::required::<Proclaim>(),
    Row::required::<Get>(),
    Row::required::<Find>(),
    Row::required::<Search>(),
    Row::required::<Changes>(),
    Row::required::<Revision>(),
];

/// Locks for guests that import them: answers under the grants and the context of the importer.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:sync/locks`.
    async fn acquire(
        &self, call: &Call, name: &str, want: &Want, ttl_ms: u64, wait_ms: u32,
    ) -> Result<(Place, Lease), Error>;
    /// See `platform:sync/locks`.
    async fn keep_alive(&self, call: &Call, lease: &str) -> Result<Lease, Error>;
    /// See `platform:sync/locks`.
    async fn release(&self, call: &Call, name: &str, token: u64) -> Result<(), Error>;
    /// See `platform:sync/locks`.
    async fn get(&self, call: &Call, name: &str) -> Result<Option<Lock>, Error>;
}

impl types::Host for Guest {}

impl Guest {
    fn sync(&self) -> Result<&dyn Backend, Error> {
        let backend = self.parts.sync.as_deref();
        backend.ok_or_else(|| Error::Unavailable("the plugin has no `sync` grant".to_owned()))
    }
}

impl locks::Host for Guest {
    async fn acquire(&mut self, name: String, want: Want, ttl_ms: u64, wait_ms: u32) -> Result<(Place, Lease), Error> {
        self.sync()?.acquire(&self.nested(), &name, &want, ttl_ms, wait_ms).await
    }

    async fn keep_alive(&mut self, lease: String) -> Result<Lease, Error> {
        self.sync()?.keep_alive(&self.nested(), &lease).await
    }

    async fn release(&mut self, name: String, token: u64) -> Result<(), Error> {
        self.sync()?.release(&self.nested(), &name, token).await
    }

    async fn get(&mut self, name: String) -> Result<Option<Lock>, Error> {
        self.sync()?.get(&self.nested(), &name).await
    }
}
