//! Control with real components, a real data plane and storage in memory.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

mod binding;
mod config;
mod crash;
mod daemon;
mod files;
mod grants;
mod guest;
mod shared;
