//! The conformance suite on every storage there is.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

use platform_storage::{Embedded, Memory, Options, conformance};

#[tokio::test]
async fn memory_conforms() {
    conformance::run(&Memory::new(Options::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::run(&Embedded::open(directory.path(), Options::default()).unwrap()).await;
}

/// Every table file is written early and merged often, and the suite holds all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_conforms_with_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: 64 << 10, cache_bytes: 64 << 10, ..Options::default() };
    conformance::run(&Embedded::open(directory.path(), options).unwrap()).await;
}
