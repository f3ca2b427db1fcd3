//! The daemon as a process, and the commands that talk to it, as a user has them.
//!
//! Knows nothing of the daemon's inside. Needs the components that `cargo xtask plugins` builds.

mod commands;
mod lifecycle;
mod refusals;
mod reload;
mod support;
