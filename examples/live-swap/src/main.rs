//! Exchanges the auth policy, the router policy and the key-value backend of a running platform, a thousand times each,
//! behind a real nginx and a real Envoy under load, and checks that nothing was lost.
//!
//! `live-swap` runs the whole story; `live-swap backend` is one of the services that it puts behind the gateways.
//! It knows the platform as any client does: by its command line, its methods and its gateways' front doors.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use live_swap::{Plan, backend};

const USAGE: &str = "\
usage: live-swap [SWAPS [CRASHES]]     swaps of each slot (1000) and kills of the daemon (50)
       live-swap backend ID DATA-DIR TTL-MS    a service that registers itself with the daemon of DATA-DIR
";

#[tokio::main]
async fn main() -> ExitCode {
    match dispatch().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["backend", id, data, ttl_ms] => backend::serve(id, data.as_ref(), ttl_ms.parse()?).await,
        [] => story(&Plan::default()).await,
        [swaps] if *swaps != "--help" => story(&Plan { swaps: swaps.parse()?, ..Plan::default() }).await,
        [swaps, crashes] => story(&Plan { swaps: swaps.parse()?, crashes: crashes.parse()?, ..Plan::default() }).await,
        _ => {
            std::io::stderr().write_all(USAGE.as_bytes())?;
            Ok(())
        }
    }
}

async fn story(plan: &Plan) -> Result<()> {
    live_swap::scenario::swaps::run(plan).await?;
    live_swap::scenario::backend_loss::run(plan).await?;
    live_swap::scenario::daemon_loss::run(plan).await
}
