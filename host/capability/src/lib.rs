//! The capabilities as the host sees them: one file each, with the functions that plugins export, the functions that
//! plugins import, and the values that pass.
//!
//! Knows the WIT; knows nothing of pools, slots, swaps or front doors. Invariant: what a guest learns about a call comes
//! from its [`CallContext`], which no guest can change.

pub mod auth;
mod bindings;
pub mod config;
mod context;
mod contract;
pub mod db;
pub mod discovery;
pub mod event;
mod fence;
mod functions;
mod grant;
mod guest;
pub mod kv;
mod linker;
pub mod logs;
pub mod marketplace;
mod name;
pub mod plugin;
pub mod router;
pub mod storage;
pub mod sync;
mod trust;
mod wasi;
pub mod web;

pub use context::{Call, CallContext, Caller, NAMESPACE_DEFAULT};
pub use contract::{SlotKind, UnknownSlot, WIT_WORLD};
pub use fence::{Fence, InvalidFence};
pub use grant::{Grant, Grants, InvalidGrant, Need, need};
pub use guest::{Guest, GuestParts};
pub use linker::{LinkError, Linked, link};
pub use name::{InvalidName, Name};
pub use trust::{TlsError, Trust, TrustConfig, TrustError};
pub use wasi::Reach;
