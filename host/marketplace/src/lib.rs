//! The marketplace: a registry of the daemon's own, and what is to be found in it.
//!
//! Owns the server's side of OCI distribution 1.1, where manifests and blobs lie, what may be published, and what is listed. Must not know gRPC, slots, bindings
//! and how a caller was verified. Invariants: bytes are shown under a digest only after they were found to have it; a manifest
//! is there with all that it names, or not at all; a tag that is a version never leads elsewhere.
//!
//! In reading order: [`Config`], `name` (what names, tags and references are), `route` (what a path asks for), `range`, [`Error`], then what is kept:
//! `blobs` (bytes), `uploads` (bytes that come in), `table` (all else), `manifest` (what a manifest names), `store` (the operations), `sweep` (what nothing names any more),
//! the index: `listing` (what is told of components), `owner` (whose a name is), `signatures`, `report` (what came of trying a component), `tester` and `trying` (how that comes about),
//! `publish` (the gates), `attachments` (what was published beside a component), `search`, `downloads`, `take` (out of it, for an installation here), and `http`, which answers requests and counts them (`traffic`).

mod config;

mod error;
mod name;
mod range;
mod route;

mod blobs;
mod uploads;

mod table;

mod manifest;
mod store;
mod sweep;

mod listing;
mod owner;
mod signatures;
mod take;

mod report;
mod tester;
mod trying;

mod attachments;
mod downloads;
mod publish;
mod search;

mod http;
mod traffic;

mod marketplace;

pub use attachments::Attachment;
pub use config::{Config, Limits};
pub use error::{Error, Result};
pub use http::{Access, Answer, Who};
pub use listing::{Listing, Version, in_words};
pub use marketplace::{Marketplace, Parts};
pub use name::{InvalidName, RepositoryName, Selector, Tag};
pub use report::{Broken, Figures, Report, Verdict};
pub use search::{Details, Found, QUERY_BYTES_MAX, Query};
pub use take::Taken;
pub use tester::Tester;
pub use traffic::{Operation, Traffic};
