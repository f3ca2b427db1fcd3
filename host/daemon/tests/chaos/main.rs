//! What was acknowledged holds, whatever is killed, cut off or paused.
//!
//! Real daemons over real storage are worked with while a schedule of faults runs, and what they answered is judged. The
//! schedule comes from a seed that is printed. `cargo xtask chaos [--seed N] [--minutes N]` runs these tests for long; in CI
//! they are short.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod clients;
mod cluster;
mod embedded;
mod faults;
mod judge;
#[path = "../daemon/support.rs"]
#[expect(dead_code, reason = "tests of commands need more of it")]
mod support;
mod work;

use std::{env, time::Duration};

/// The seed of a schedule: what `CHAOS_SEED` says, else one of its own; printed either way.
fn seed() -> u64 {
    let seed = env::var("CHAOS_SEED").ok().map_or_else(rand::random, |seed| seed.parse().unwrap());
    eprintln!("seed {seed}; `cargo xtask chaos --seed {seed}` runs the same schedule");
    seed
}

/// How long faults go on: what `CHAOS_MINUTES` says, else `short`.
fn time(short: Duration) -> Duration {
    env::var("CHAOS_MINUTES").map_or(short, |minutes| Duration::from_secs(60 * minutes.parse::<u64>().unwrap()))
}

/// A runtime for what works with daemons.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
