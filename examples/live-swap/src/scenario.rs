//! The scenarios: what is done to a running platform, and what must hold afterwards.

pub mod backend_loss;
pub mod daemon_loss;
pub mod swaps;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::backend::address_file;
use crate::daemon::{Clients, Daemon};
use crate::process::Running;
use crate::{Plan, checker};

/// Time to live of the services' registrations.
const TTL_MS: u64 = 1000;

/// A service behind the gateways.
#[derive(Debug)]
struct Service {
    id: String,
    process: Running,
    address: SocketAddr,
}

impl Service {
    /// Starts a service and waits until it listens. Its registration follows by itself.
    async fn start(plan: &Plan, folder: &Path, daemon: &Daemon, id: &str) -> Result<Self> {
        let file = address_file(id, &daemon.data);
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(&plan.own_binary);
        command.args(["backend", id]).arg(&daemon.data).arg(TTL_MS.to_string());
        let mut process = Running::start(id, folder, &mut command)?;
        process.ready(Duration::from_secs(10), async || file.is_file()).await?;
        let address = std::fs::read_to_string(&file)?.parse().context("a service wrote no address")?;
        Ok(Self { id: id.to_owned(), process, address })
    }

    async fn start_three(plan: &Plan, folder: &Path, daemon: &Daemon) -> Result<Vec<Self>> {
        let mut services = Vec::new();
        for id in ["shop-1", "shop-2", "shop-3"] {
            services.push(Self::start(plan, folder, daemon, id).await?);
        }
        Ok(services)
    }
}

/// Waits until the router picks a node.
async fn picked(clients: &mut Clients, id: &str) -> Result<()> {
    let waiting = async {
        loop {
            // Until the first registration there is nothing to pick, which is an error.
            if checker::pick(clients).await.is_ok_and(|node| node == id) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .with_context(|| format!("the router does not pick `{id}`"))
}

/// A line of the story, for the person who watches.
fn tell(text: &str) {
    // A closed standard output leaves nobody to tell.
    let _ = writeln!(std::io::stdout(), "{text}");
}
