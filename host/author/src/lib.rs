//! Projects of plugins: what a new one consists of, and how source becomes a component.
//!
//! Used by the command line for authors and by the tasks of this repository, so that both make components alike. Must not know
//! what a component does, nor who runs it. Invariant: nothing here writes outside of what it was given.
//!
//! In reading order: [`scaffold`] (the files of a new project), [`Toolchain`] and [`Sysroot`] (whether this machine can compile
//! guests, and with which standard library), [`Compile`] (one run of cargo), [`component`] (what a compiler left, as a component), `interfaces`
//! (what other languages are bound to), `c`, `python` and `javascript` (a run of their tools), `lent` (a flaw of one of them, mended), [`Built`] (with and without line tables), [`Manifest`] (what they say of themselves), [`Project`] (all of that
//! for the source of one plugin).

mod c;
mod cargo;
mod encode;
mod error;
mod interfaces;
mod javascript;
mod lent;
mod lines;
mod manifest;
mod project;
mod python;
mod run;
pub mod scaffold;
mod toolchain;

pub use cargo::{Artifact, Compile, Package};
pub use encode::{component, validate};
pub use error::Error;
pub use lines::Built;
pub use manifest::Manifest;
pub use project::{Project, Sources};
pub use toolchain::{Sysroot, TARGETS, Toolchain, has_targets, overlays};
