//! Components in registries: the client of the OCI distribution protocol.
//!
//! Owns what a reference means, how a registry is spoken to, and what counts as a component there: artifacts as `wkg` makes
//! them, an image manifest with one layer of type `application/wasm`. Must not know plugins, slots and who asks. A registry is taken
//! for hostile: every answer is bounded in size and time, nothing is believed that has a digest, and no answer of
//! it leads this machine to places that the registry itself could not reach. Invariant: bytes that leave here are those
//! whose digest was asked for.
//!
//! In reading order: [`Reference`] (what a user writes), [`Fault`] (what can go wrong), [`Credentials`], `connect` (who may
//! be connected to), `requests` (with redirects and tokens), `artifact` (manifests), [`Repository`] (pull and push), [`Lock`]
//! (what a reference led to).

mod reference;

mod error;

mod credentials;

mod connect;
mod requests;

mod artifact;
mod repository;

mod lock;

pub use artifact::{About, CONFIG as WASM_CONFIG, Interfaces, component_of, interfaces_of};
pub use credentials::{Credentials, InvalidCredentials};
pub use error::{Error, Fault, Kind};
pub use lock::{Lock, LockFault, Locked};
pub use reference::{InvalidReference, Reference, Selector};
pub use repository::{
    Access, Attached, CYCLONEDX, Enclosure, NotEnclosed, Pushed, README, REPORT, Repository, Resolved, SPDX,
    SignatureAt, signature_tag, signatures_in, version,
};
