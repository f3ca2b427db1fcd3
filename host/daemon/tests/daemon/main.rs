//! The daemon as a process, and the commands that talk to it, as a user has them.
//!
//! Knows nothing of the daemon's inside. Needs the components that `cargo xtask plugins` builds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod author;
mod cluster;
mod commands;
mod configurations;
mod db;
mod events;
mod lifecycle;
mod locks;
mod logs;
mod market;
mod migrate;
mod refusals;
mod registry;
mod reload;
mod replay;
mod resp;
mod rollouts;
mod support;
mod transfer;
mod trust;
mod verify;
