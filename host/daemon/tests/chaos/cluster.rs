//! Three daemons over a NATS of three servers, while servers and daemons are killed, cut off and paused: registers and locks
//! are linearizable, tokens increase, no event is lost, and nobody writes under a lock that another has.

use std::{
    env,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_testkit::{NatsServer, Network};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::{
    clients::Client,
    faults::{Fault, Stage, schedule},
    judge::Answers,
    runtime, seed,
    support::{Daemon, PATIENCE},
    time,
    work::Worker,
};

/// How long faults go on in CI: each kind happens once.
const SHORT: Duration = Duration::from_secs(30);
const KINDS: [fn(usize, usize) -> Fault; 6] = [
    |at, _| Fault::KillServer(at),
    |at, _| Fault::PauseServer(at),
    |at, _| Fault::CutOff(at),
    |at, to| Fault::Deafen(at, to),
    |at, _| Fault::KillDaemon(at),
    |at, _| Fault::PauseDaemon(at),
];

/// A network of three nodes; none on a person's machine that offers none.
fn network() -> Option<Network> {
    match Network::new(3) {
        Ok(network) => Some(network),
        Err(why) if env::var_os("CI").is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

#[test]
fn nothing_acknowledged_is_lost_in_a_cluster() {
    let Some(network) = network() else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let troubles = schedule(&mut random, time(SHORT), &KINDS);
    let servers = NatsServer::cluster_in(&network);
    let storage: Vec<String> = servers.iter().map(NatsServer::url).collect();
    let storage = storage.join(",");
    let root = tempfile::tempdir().unwrap();
    // Each keeps its port, so that callers find it again.
    let addresses: Vec<String> = (0..3).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let data = |at: usize| root.path().join(format!("d{at}"));
    let start = |at: usize| Daemon::spawn(&data(at), &["--server-address", &addresses[at], "--storage", &storage]);
    let daemons = (0..3).map(|at| Some(start(at))).collect();
    let mut stage = Stage { network, servers, daemons };
    stage.recover(start);

    let runtime = runtime();
    let answers = Arc::new(Answers::default());
    let stop = Arc::new(AtomicBool::new(false));
    let mut workers = JoinSet::new();
    let values = Arc::new(AtomicU64::new(1));
    let clients: Vec<Client> =
        runtime.block_on(async { (0..3).map(|at| Client::new(&addresses[at], &data(at))).collect() });
    runtime.block_on(make_topic(&clients[0]));
    for client in &clients {
        let mut worker = || Worker {
            client: client.clone(),
            answers: Arc::clone(&answers),
            stop: Arc::clone(&stop),
            values: Arc::clone(&values),
            seed: random.random(),
        };
        for work in [worker(), worker()] {
            workers.spawn_on(work.registers(), runtime.handle());
        }
        workers.spawn_on(worker().locks(), runtime.handle());
        workers.spawn_on(worker().events(), runtime.handle());
    }
    for trouble in troubles {
        eprintln!("{trouble} ({} answered)", answers.answered.load(Ordering::Relaxed));
        stage.strike(trouble.fault);
        std::thread::park_timeout(trouble.lasts);
        stage.heal(trouble.fault, start);
        std::thread::park_timeout(trouble.calm);
    }
    stage.recover(start);
    let kept = runtime.block_on(async {
        work_again(&answers).await;
        stop.store(true, Ordering::SeqCst);
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
        let mut kept = Vec::new();
        for client in &clients {
            let events = client.events().await.unwrap();
            assert!(kept.is_empty() || kept == events, "all daemons have the same events in the same order");
            kept = events;
        }
        kept
    });
    let (unanswered, stale) = (answers.unanswered.load(Ordering::Relaxed), answers.stale.load(Ordering::Relaxed));
    let judged = Arc::try_unwrap(answers).unwrap().judge(&kept);
    eprintln!("{unanswered} calls were not answered, {stale} writes were refused as stale; {judged:?}");
    assert!(judged.wrong.is_empty(), "seed {seed}: {:#?}", judged.wrong);
    assert!(judged.calls > 100 && judged.turns > 10 && judged.events > 30, "seed {seed}: {judged:?}");
    drop_all(stage, root.path());
}

async fn make_topic(client: &Client) {
    let until = platform_base::clock::now() + PATIENCE;
    while let Err(status) = client.make_topic().await {
        assert!(platform_base::clock::now() < until, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until calls are answered as if nothing had been.
async fn work_again(answers: &Answers) {
    let (from, until) = (answers.answered.load(Ordering::SeqCst), platform_base::clock::now() + PATIENCE);
    while answers.answered.load(Ordering::SeqCst) < from + 50 {
        assert!(platform_base::clock::now() < until, "calls are not answered any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Daemons end before what they stand on.
fn drop_all(stage: Stage, _root: &Path) {
    let Stage { network, servers, daemons } = stage;
    drop(daemons);
    drop(servers);
    drop(network);
}
