//! Compiles, instantiates and calls components, within limits.
//!
//! Owns wasmtime: nothing above this crate sees a store outside of a host function. Knows nothing of our WIT: functions
//! are named by whoever implements [`Function`], and what a guest may import is a linker that the caller built.
//! Invariant: every entry into a guest is under a deadline, a memory cap and a bounded queue, and whatever a guest
//! does comes back as a [`Fault`].
//!
//! In reading order: [`Engine`] and its epoch ticker, [`Limits`] and the meter that enforces them, [`Artifacts`]
//! (compiled code on disk), [`Template`] (a component ready to be instantiated), [`snapshot`] (its memory after
//! configuration), [`Instance`] (one store), [`Pool`] (instances of one template, and admission).

mod artifacts;
pub mod difference;
mod engine;
mod fault;
pub mod function;
mod instance;
mod limits;
mod pool;
pub mod snapshot;
mod template;

pub use artifacts::{Artifacts, Digest, InvalidDigest};
pub use engine::{Engine, EngineConfig};
pub use fault::Fault;
pub use function::{Function, Functions};
pub use instance::{Instance, Seat};
pub use limits::{Limits, Meter};
pub use pool::{Held, Initialize, Lease, Mode, Pool};
pub use template::Template;
