//! Control with real components, a real data plane and storage in memory.

mod binding;
mod config;
mod crash;
mod daemon;
mod files;
mod grants;
mod guest;
