//! Every slot is exchanged again and again while both gateways are under load and keys are written. Nothing fails, no
//! answer is wrong, every answer is explained by one generation, no write is lost, and memory comes to rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use platform_base::clock;
use tokio::task::JoinSet;

use crate::Plan;
use crate::checker::{self, Account, OPEN};
use crate::daemon::{Clients, Daemon, component};
use crate::envoy::Envoy;
use crate::load;
use crate::nginx::Nginx;
use crate::scenario::{Service, picked, tell};
use crate::timeline::Timeline;
use crate::writers::{self, Written};

/// Memory at the end may exceed memory after the first swaps by one part in this many.
const GROWTH_MAX: u64 = 20;
const WRITERS: usize = 4;
/// Writes before the first swap: more than the changes that a table keeps and than a journal holds, so that memory is
/// measured when the store has what it keeps in memory, drops a change with each write and has filled one journal.
const FILL_WRITES: u64 = 200_000;

/// Runs the scenario.
///
/// # Errors
/// With the first thing that was lost, wrong or unexplained.
pub async fn run(plan: &Plan) -> Result<()> {
    // Much happens at the same time here, too much to be moved around by value.
    Box::pin(exchange(plan)).await
}

async fn exchange(plan: &Plan) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let daemon = Daemon::start(folder.path()).await?;
    let services = Service::start_three(plan, folder.path(), &daemon).await?;
    let mut script = Box::pin(Script::prepare(&daemon)).await?;
    for service in &services {
        picked(&mut script.clients, &service.id).await?;
    }
    let addresses: Vec<_> = services.iter().map(|service| service.address).collect();
    let nginx = Nginx::start(folder.path(), daemon.address, &addresses).await?;
    let envoy = Envoy::start(folder.path(), daemon.address, &addresses).await?;
    tell(&format!(
        "daemon ready after {} ms; nginx at {}, Envoy at {}",
        daemon.ready_after.as_millis(),
        nginx.address,
        envoy.address
    ));

    let nodes = services.iter().map(|service| service.id.clone()).collect();
    let mut traffic = Traffic::start(&daemon, &nginx, &envoy, &script, nodes)?;
    let outcome = script.run(plan, &daemon, &mut traffic).await;
    // The account of the traffic says more than a swap that failed because of it.
    let settled = traffic.finish(&mut script.clients).await;
    let memory = outcome.with_context(|| daemon.process.log_end())?;
    settled.with_context(|| daemon.process.log_end())?;
    tell(&memory.tell());
    memory.check()
}

/// Resident memory of the daemon, in bytes.
#[derive(Debug, Clone, Copy)]
struct Memory {
    settled: u64,
    end: u64,
}

impl Memory {
    fn tell(self) -> String {
        format!("resident memory: {} KiB once settled, {} KiB at the end", self.settled >> 10, self.end >> 10)
    }

    fn check(self) -> Result<()> {
        ensure!(
            self.end <= self.settled + self.settled / GROWTH_MAX,
            "memory grew by more than one part in {GROWTH_MAX}; {}",
            self.tell()
        );
        Ok(())
    }
}

/// Swaps every slot.
struct Script {
    clients: Clients,
    policies: Arc<Timeline>,
    routers: Arc<Timeline>,
    stores: Timeline,
    /// The components that take turns.
    kv: [String; 2],
    auth: [String; 2],
    router: [String; 2],
}

impl Script {
    /// Installs two builds of each component and makes the first bindings.
    async fn prepare(daemon: &Daemon) -> Result<Self> {
        let mut clients = daemon.clients()?;
        let mut two = async |first: &str, second: &str| -> Result<[String; 2]> {
            Ok([
                clients.install(component(first, 1)?, "0.1.1").await?,
                clients.install(component(second, 2)?, "0.1.2").await?,
            ])
        };
        let kv = two("kv-storage", "kv-storage").await?;
        let auth = two("auth-scopes", "auth-scopes").await?;
        let router = two("router-round-robin", "router-least-request").await?;
        let mut script = Self {
            clients,
            policies: Arc::default(),
            routers: Arc::default(),
            stores: Timeline::default(),
            kv,
            auth,
            router,
        };
        script.swap().await?;
        Ok(script)
    }

    /// Exchanges all three slots at the same time.
    async fn swap(&mut self) -> Result<()> {
        let index = self.policies.len();
        let settings = checker::settings(index);
        let turn = index % 2;
        let name = |names: &[String; 2]| names.get(turn).cloned().unwrap_or_default();
        let (auth, router, kv) = (name(&self.auth), name(&self.router), name(&self.kv));
        tokio::try_join!(
            bind(self.clients.clone(), &self.policies, "auth.policy", &auth, Some(&settings)),
            bind(self.clients.clone(), &self.routers, "router.policy", &router, None),
            bind(self.clients.clone(), &self.stores, "kv.store", &kv, None),
        )?;
        Ok(())
    }

    async fn run(&mut self, plan: &Plan, daemon: &Daemon, traffic: &mut Traffic) -> Result<Memory> {
        writers::fill(&self.clients, FILL_WRITES).await?;
        let started = clock::now();
        let mut settled = None;
        for number in 1..=plan.swaps {
            self.swap().await.with_context(|| format!("swap {number}"))?;
            traffic.check_running()?;
            if number == plan.settled_swaps {
                settled = Some(resident(daemon).await?);
            }
            if number.is_multiple_of(100) || number == plan.swaps {
                let each = started.elapsed().as_millis() / u128::from(number);
                tell(&format!(
                    "{number} swaps of each slot, {each} ms for all three, {} KiB resident",
                    daemon.process.resident_bytes()? >> 10
                ));
            }
        }
        let end = resident(daemon).await?;
        Ok(Memory { settled: settled.unwrap_or(end), end })
    }
}

async fn bind(
    mut clients: Clients, timeline: &Timeline, slot: &str, plugin: &str, settings: Option<&serde_json::Value>,
) -> Result<()> {
    let index = timeline.begin(plugin, clock::now());
    let generation = clients.bind(slot, plugin, settings).await?;
    timeline.end(index, generation, clock::now());
    Ok(())
}

/// What the daemon holds at the least over two seconds: what stays, without what a call, a compilation or the store's
/// housekeeping has for a moment.
async fn resident(daemon: &Daemon) -> Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..40 {
        least = least.min(daemon.process.resident_bytes()?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(least)
}

/// Everything that uses the platform while it is exchanged.
struct Traffic {
    stop: Arc<AtomicBool>,
    checkers: JoinSet<()>,
    accounts: Vec<(&'static str, Arc<Account>)>,
    loads: JoinSet<(&'static str, Result<load::Count>)>,
    writers: JoinSet<(usize, Result<Written>)>,
}

impl Traffic {
    fn start(daemon: &Daemon, nginx: &Nginx, envoy: &Envoy, script: &Script, nodes: Vec<String>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut traffic = Self {
            stop: Arc::clone(&stop),
            checkers: JoinSet::new(),
            accounts: Vec::new(),
            loads: JoinSet::new(),
            writers: JoinSet::new(),
        };
        let gateways = [("checked through nginx", nginx.address), ("checked through Envoy", envoy.address)];
        for (name, address) in gateways {
            let account = traffic.account(name);
            for _ in 0..2 {
                let policies = Arc::clone(&script.policies);
                traffic.checkers.spawn(checker::gateway(
                    format!("http://{address}"),
                    policies,
                    Arc::clone(&account),
                    Arc::clone(&stop),
                ));
            }
        }
        let account = traffic.account("decisions by gRPC");
        traffic.checkers.spawn(checker::decisions(
            daemon.clients()?,
            Arc::clone(&script.policies),
            account,
            Arc::clone(&stop),
        ));
        let account = traffic.account("picks of the router");
        traffic.checkers.spawn(checker::picks(
            daemon.clients()?,
            nodes,
            Arc::clone(&script.routers),
            account,
            Arc::clone(&stop),
        ));
        for writer in 0..WRITERS {
            let (clients, stop) = (daemon.clients()?, Arc::clone(&stop));
            traffic.writers.spawn(async move { (writer, writers::overwrite(clients, writer, stop).await) });
        }
        let (url, stopping) = (format!("http://{}{OPEN}", nginx.address), Arc::clone(&stop));
        traffic.loads.spawn(async move { ("wrk through nginx", load::wrk(url, stopping).await) });
        let url = format!("http://{}{OPEN}", envoy.address);
        traffic.loads.spawn(async move { ("h2load through Envoy", load::h2load(url, stop).await) });
        Ok(traffic)
    }

    fn account(&mut self, name: &'static str) -> Arc<Account> {
        let account = Arc::<Account>::default();
        self.accounts.push((name, Arc::clone(&account)));
        account
    }

    /// Fails as soon as a writer or a load generator has given up, so that a broken run ends early.
    fn check_running(&mut self) -> Result<()> {
        if let Some(ended) = self.writers.try_join_next() {
            let (writer, outcome) = ended?;
            outcome.with_context(|| format!("writer {writer}"))?;
        }
        if let Some(ended) = self.loads.try_join_next() {
            let (name, outcome) = ended?;
            outcome.context(name)?;
        }
        Ok(())
    }

    /// Stops everything and settles the accounts.
    async fn finish(mut self, clients: &mut Clients) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.checkers.join_next().await {
            ended?;
        }
        let mut problems = Vec::new();
        for (name, account) in &self.accounts {
            account.settle(name).map_or_else(|error| problems.push(format!("{error:#}")), |line| tell(&line));
        }
        while let Some(ended) = self.loads.join_next().await {
            let (name, outcome) = ended?;
            match outcome {
                Ok(count) => tell(&format!("{name}: {} requests, {} failed", count.requests, count.failed)),
                Err(error) => problems.push(format!("{name}: {error:#}")),
            }
        }
        while let Some(ended) = self.writers.join_next().await {
            let (writer, outcome) = ended?;
            let checked = match outcome {
                Ok(written) => written.check(clients, writer).await.map(|()| written.writes),
                Err(error) => Err(error),
            };
            match checked {
                Ok(writes) => tell(&format!("writer {writer}: {writes} writes, 0 lost")),
                Err(error) => problems.push(format!("writer {writer}: {error:#}")),
            }
        }
        ensure!(problems.is_empty(), "{}", problems.join("\n"));
        Ok(())
    }
}
