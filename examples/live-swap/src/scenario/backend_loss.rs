//! A service is killed without a word. The router stops picking it once its registration has expired: no later than its
//! time to live and 250 ms after it died.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use platform_base::clock;

use crate::Plan;
use crate::checker::pick;
use crate::daemon::{Clients, Daemon, component};
use crate::scenario::{Service, TTL_MS, picked, tell};

/// How much later than its time to live a registration may go.
const LATE_MS: u64 = 250;

/// Runs the scenario, with each policy that is shipped.
///
/// # Errors
/// When a dead service was picked too late, or a living one was not.
pub async fn run(plan: &Plan) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path()).await?;
    let mut clients = daemon.clients()?;
    let mut services = Service::start_three(plan, folder.path(), &daemon).await?;
    for policy in ["router-round-robin", "router-least-request", "router-ring-hash"] {
        let installed = clients.install(component(policy, 0)?, "0.1.0-loss").await?;
        clients.bind("router.policy", &installed, None).await?;
        for victim in 0..services.len() {
            let Some(service) = services.get_mut(victim) else { continue };
            if policy != "router-ring-hash" {
                picked(&mut clients, &service.id).await?;
            }
            service.process.kill();
            let killed = clock::now();
            let last = last_pick(&mut clients, &service.id, killed).await?;
            tell(&format!("{policy}: {} was picked for {} ms after its death", service.id, last.as_millis()));
            let id = service.id.clone();
            *service = Service::start(plan, folder.path(), &daemon, &id).await?;
        }
    }
    Ok(())
}

/// How long after its death the node was last picked, by requests sent until well after it must be gone.
async fn last_pick(clients: &mut Clients, id: &str, killed: Instant) -> Result<Duration> {
    let bound = Duration::from_millis(TTL_MS + LATE_MS);
    let mut last = Duration::ZERO;
    while killed.elapsed() < bound * 2 {
        let sent = killed.elapsed();
        let node = pick(clients).await?;
        if node == id {
            last = sent;
            ensure!(sent <= bound, "`{id}` was picked {} ms after its death", sent.as_millis());
        }
    }
    Ok(last)
}
