//! What calls, swaps and writes cost, as ratios measured in one run. `cargo xtask bench` builds it in release and runs it.
//!
//! Each line prints both figures, their ratio and the aim. Figures move with the machine, ratios hardly.

mod decision;
mod durable;
mod measure;
mod server;
mod swap;

use anyhow::Result;

fn main() -> Result<()> {
    let only = std::env::args().nth(1).unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || name.contains(&only);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if only == server::NATIVE {
        return runtime.block_on(server::serve_native());
    }
    if wanted("decision") {
        runtime.block_on(decision::run())?;
    }
    if wanted("swap") {
        runtime.block_on(swap::run())?;
    }
    if wanted("durable") {
        runtime.block_on(durable::run())?;
    }
    if wanted("server") {
        runtime.block_on(server::run())?;
    }
    Ok(())
}
