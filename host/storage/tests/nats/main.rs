//! Storage on real NATS servers: the conformance suite, several daemons at once, and servers that are killed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that can't go on has failed, and what it prints is for whoever looks into that"
)]

mod faults;
mod history;
mod shared;

use platform_storage::conformance;
use platform_testkit::NatsServer;

use shared::connect;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_conforms() {
    let servers = [NatsServer::alone()];
    conformance::run(&connect(&servers).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_conforms() {
    let servers = NatsServer::cluster();
    conformance::run(&connect(&servers).await).await;
}

/// The whole suite in pieces of a few KiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_little_at_once_conforms() {
    let servers = [NatsServer::alone_with("max_payload: 65536")];
    conformance::run(&connect(&servers).await).await;
}
