//! The daemon is killed in the midst of writes, again and again. Each time it is back within two seconds, with every
//! write that it had acknowledged and with the bindings that it had.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use platform_proto::plugin::v1::ListSlotsRequest;
use rand::Rng;
use tokio::task::JoinSet;

use crate::Plan;
use crate::daemon::{Clients, Daemon};
use crate::scenario::tell;
use crate::writers;

const WRITERS: usize = 4;
const READY_MAX: Duration = Duration::from_secs(2);

/// Runs the scenario.
///
/// # Errors
/// With the first write or binding that was lost, or when the daemon takes too long to come back.
pub async fn run(plan: &Plan) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut daemon = Daemon::start(folder.path()).await?;
    let mut clients = daemon.clients()?;
    let settings = serde_json::json!({ "default": "deny", "rules": [{ "effect": "allow", "paths": ["/kept"] }] });
    clients.bind("auth.policy", "auth-scopes", Some(&settings)).await?;
    let bindings = bindings(&mut clients).await?;
    let address = daemon.address;
    let mut rounds = Vec::new();
    let mut slowest = Duration::ZERO;
    for round in 0..plan.crashes {
        let acknowledged = write_and_kill(&mut daemon, round).await?;
        daemon = restart(folder.path(), address).await?;
        slowest = slowest.max(daemon.ready_after);
        ensure!(daemon.ready_after < READY_MAX, "ready only {} ms after kill {round}", daemon.ready_after.as_millis());
        let mut clients = daemon.clients()?;
        check(&mut clients, round, &acknowledged).await?;
        ensure!(self::bindings(&mut clients).await? == bindings, "the bindings changed with kill {round}");
        rounds.push(acknowledged);
    }
    let mut clients = daemon.clients()?;
    for (round, acknowledged) in (0..).zip(&rounds) {
        check(&mut clients, round, acknowledged).await?;
    }
    let writes: usize = rounds.iter().flatten().map(Vec::len).sum();
    tell(&format!(
        "{} kills: {writes} acknowledged writes, 0 lost; ready again after at most {} ms",
        plan.crashes,
        slowest.as_millis()
    ));
    Ok(())
}

async fn restart(folder: &std::path::Path, address: SocketAddr) -> Result<Daemon> {
    Daemon::start_at(folder, address).await
}

fn prefix(round: u32, writer: usize) -> String {
    format!("daemon-loss/{round}/{writer}/")
}

/// Lets writers write, kills the daemon under them, and answers what each was told was written.
async fn write_and_kill(daemon: &mut Daemon, round: u32) -> Result<Vec<Vec<String>>> {
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let clients = daemon.clients()?;
        tasks.spawn(async move { (writer, writers::until_killed(clients, prefix(round, writer)).await) });
    }
    // Any moment must do, so each round takes another one.
    let moment = Duration::from_millis(rand::rng().random_range(20..300));
    tokio::time::sleep(moment).await;
    daemon.process.kill();
    let mut all = vec![Vec::new(); WRITERS];
    while let Some(ended) = tasks.join_next().await {
        let (writer, keys) = ended?;
        if let Some(place) = all.get_mut(writer) {
            *place = keys;
        }
    }
    Ok(all)
}

async fn check(clients: &mut Clients, round: u32, acknowledged: &[Vec<String>]) -> Result<()> {
    for (writer, keys) in acknowledged.iter().enumerate() {
        writers::check_keys(clients, &prefix(round, writer), keys).await?;
    }
    Ok(())
}

/// What serves in each slot: generation, failure mode, and digest, settings and grants of each component.
async fn bindings(clients: &mut Clients) -> Result<BTreeMap<String, String>> {
    let answer = clients.plugins.list_slots(ListSlotsRequest { limit: 1000, ..Default::default() }).await?.into_inner();
    let told = answer.slots.into_iter().map(|slot| {
        let binding = slot.binding.unwrap_or_default();
        let chain: Vec<_> =
            binding.chain.iter().map(|link| (&link.digest, &link.settings, &link.mode, &link.grants)).collect();
        (slot.name, format!("{} {} {chain:?}", binding.generation, binding.failure_mode))
    });
    Ok(told.collect())
}
