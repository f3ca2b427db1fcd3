//! What pages for tests do on request: the ways in which a page can misbehave, and how it passes time.
//!
//! Each example of this package is a page whose paths name the behaviour. It knows nothing of the host's limits: it goes on until something stops it.

// A guest knows the SDK alone, so what it shares with other guests is their source.
#[path = "../../guests/src/acts.rs"]
mod acts;

pub use acts::{busy, forever, hoard, trap};
