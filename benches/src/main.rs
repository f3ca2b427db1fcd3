//! What calls, swaps and writes cost, as ratios measured in one run. `cargo xtask bench` builds it in release and runs it.
//!
//! Each line prints both figures, their ratio and the aim. Figures move with the machine, ratios hardly.

mod decision;
mod durable;
mod event;
mod growth;
mod measure;
mod plugins;
mod replay;
mod resp;
mod server;
mod swap;
mod watch;

use anyhow::Result;

fn main() -> Result<()> {
    let only = std::env::args().nth(1).unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if only == server::NATIVE {
        return runtime.block_on(server::serve_native());
    }
    let wanted = |name: &str| name.contains(&only);
    runtime.block_on(async {
        if wanted("decision-slot") {
            decision::through_a_slot().await?;
        }
        if wanted("decision-chain") {
            decision::chains().await;
        }
        if wanted("decision-fresh") {
            decision::fresh().await;
        }
        if wanted("decision-many") {
            decision::many_plugins().await;
        }
        if wanted("swap") {
            swap::run().await?;
        }
        if wanted("durable") {
            durable::run().await?;
        }
        if wanted("event") {
            event::run().await?;
        }
        if wanted("watch") {
            watch::run().await?;
        }
        if wanted("growth") {
            growth::run().await?;
        }
        if wanted("plugins") {
            plugins::run().await?;
        }
        if wanted("replay") {
            replay::run().await?;
        }
        if wanted("resp") {
            resp::run().await?;
        }
        if wanted("server") {
            server::run().await?;
        }
        Ok(())
    })
}
