//! The live-swap story as a test, shorter than the program tells it: real nginx, real Envoy, real processes.
//!
//! `LIVE_SWAPS` and `LIVE_CRASHES` set its length. Without the servers it is skipped, except in CI.

use anyhow::Result;
use live_swap::process::executable;
use live_swap::{Plan, scenario};

fn plan() -> Result<Plan> {
    Plan::from_environment(100, 10, env!("CARGO_BIN_EXE_live-swap").into())
}

/// Whether everything that the story needs is here. In CI it must be.
fn equipped() -> bool {
    let needed = [("NGINX", "nginx"), ("ENVOY", "envoy"), ("WRK", "wrk"), ("H2LOAD", "h2load")];
    let missing: Vec<&str> =
        needed.iter().filter(|(variable, name)| executable(variable, name).is_err()).map(|(_, name)| *name).collect();
    let required = std::env::var_os("CI").is_some();
    assert!(missing.is_empty() || !required, "missing: {missing:?}; `cargo xtask setup --servers` installs them");
    missing.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_lose_nothing() -> Result<()> {
    if !equipped() {
        return Ok(());
    }
    scenario::swaps::run(&plan()?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_service_is_not_picked() -> Result<()> {
    scenario::backend_loss::run(&plan()?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_keeps_what_it_acknowledged() -> Result<()> {
    scenario::daemon_loss::run(&plan()?).await
}
