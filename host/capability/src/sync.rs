//! `platform:sync`: what providers export.

use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::sync::types::{Error, Lease, Lock, Mode, Permits, Place, Want};
use crate::{
    bindings::platform::sync::types,
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

impl types::Host for Guest {}
