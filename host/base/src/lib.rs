//! What every host crate stands on: time, tasks with an owner, a gate that drains, and text within a page.
//!
//! Knows nothing of Wasm, storage, slots or configuration. Invariant: whatever starts here can be stopped and waited
//! for by whoever started it.

pub mod clock;
pub mod gate;
pub mod html;
pub mod task;
pub mod worker;

pub use gate::{Gate, OwnedPass, Pass};
pub use task::TaskGroup;
pub use worker::worker;
