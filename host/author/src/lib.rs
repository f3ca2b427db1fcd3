//! Projects of plugins: what a new one consists of, and how source becomes a component.
//!
//! Used by the command line for authors and by the tasks of this repository, so that both make components alike. Must not know
//! what a component does, nor who runs it. Invariant: nothing here writes outside of what it was given.
//!
//! In reading order: [`scaffold`] (the files of a new project), [`Toolchain`] and [`Sysroot`] (whether this machine can compile
//! guests, and with which standard library), [`Compile`] (one run of cargo), [`component`] (what cargo left, as a component), [`Project`] (all of that for the source of one plugin).

mod cargo;
mod encode;
mod error;
mod project;
pub mod scaffold;
mod toolchain;

pub use cargo::{Artifact, Compile, Package};
pub use encode::{component, validate};
pub use error::Error;
pub use project::{Project, Script};
pub use toolchain::{Sysroot, TARGETS, Toolchain, has_targets, overlays};
