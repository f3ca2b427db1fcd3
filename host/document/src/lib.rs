//! JSON documents within bounds: reading them, places in them, merging, differences.
//!
//! Knows nothing of who stores a document or why. Invariant: nothing here recurses deeper than [`DEPTH_MAX`], because
//! nothing deeper comes in: a text is measured before it is read.

mod difference;
mod merge;
mod pointer;
mod schema;
mod secret;
mod text;

pub use difference::{Operation, difference, touched};
pub use merge::merge;
pub use pointer::{InvalidPointer, Obstacle, Pointer};
pub use schema::{SchemaChecks, SchemaError};
pub use secret::{SECRET, mentions_secret, replace_secrets, secret, secret_places};
pub use text::{InvalidJson, canonical, checksum, is_within, parse};

/// Deepest nesting of a document.
pub const DEPTH_MAX: usize = 64;
/// Largest document, in bytes of JSON without blanks.
pub const BYTES_MAX: usize = 1 << 20;
