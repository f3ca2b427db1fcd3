//! Servers that are killed while daemons write: nothing acknowledged is lost, nothing is made twice.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::future;
use platform_base::clock;
use platform_storage::{Condition, Error, MAX_LIMIT, Nats, NatsOptions, Options, Scope, Storage};
use platform_testkit::NatsServer;

use crate::shared::{all_changes, connect, count, options, put, scope};

const NOW: Duration = Duration::ZERO;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a writer was told of each of its items: a sequence, or that nobody knows.
type Told = BTreeMap<String, Option<u64>>;

/// Appends until it is told to stop.
async fn append(storage: &Nats, writer: usize, acknowledged: &AtomicUsize, stop: &AtomicBool) -> Told {
    let mut told = Told::new();
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let item = format!("{writer}:{number}");
        match storage.append(&scope(), "j", vec![Bytes::from(item.clone())]).await {
            Ok(sequence) => {
                acknowledged.fetch_add(1, Ordering::SeqCst);
                told.insert(item, Some(sequence));
            }
            Err(Error::Unavailable(_)) => {
                told.insert(item, None);
                tokio::task::yield_now().await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    told
}

/// Waits until `more` appends were acknowledged.
pub(crate) async fn acknowledges(acknowledged: &AtomicUsize, more: usize) {
    let (from, until) = (acknowledged.load(Ordering::SeqCst), clock::now() + PATIENCE);
    while acknowledged.load(Ordering::SeqCst) < from + more {
        assert!(clock::now() < until, "nothing is acknowledged any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What was acknowledged is where it was said to be, and nothing is there twice.
async fn check(storage: &Nats, told: &[Told]) {
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let (mut from, (first, last)) = (1, storage.bounds(&scope(), "j").await.unwrap());
    assert_eq!(first, 1);
    while from <= last {
        for item in storage.read(&scope(), "j", from, MAX_LIMIT, NOW).await.unwrap() {
            assert_eq!(item.sequence, from, "sequences are dense");
            let twice = found.insert(String::from_utf8(item.data.to_vec()).unwrap(), item.sequence);
            assert_eq!(twice, None, "no item is there twice");
            from += 1;
        }
    }
    for (item, sequence) in told.iter().flatten() {
        if let Some(sequence) = sequence {
            assert_eq!(found.get(item), Some(sequence), "`{item}` was acknowledged");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing() {
    let mut servers = [NatsServer::alone()];
    let daemons = [connect(&servers).await, connect(&servers).await];
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let writers = future::join_all((0..4).map(|writer| append(&daemons[writer % 2], writer, &acknowledged, &stop)));
    let kills = async {
        for _ in 0..5 {
            acknowledges(&acknowledged, 40).await;
            servers[0].kill();
            servers[0].start();
        }
        acknowledges(&acknowledged, 40).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (told, ()) = future::join(writers, kills).await;
    for daemon in &daemons {
        check(daemon, &told).await;
    }
    check(&connect(&servers).await, &told).await;
}

/// Name of the server that leads the log.
pub(crate) async fn leader(servers: &[NatsServer]) -> Option<String> {
    let client = async_nats::connect(servers.iter().map(NatsServer::url).collect::<Vec<_>>()).await.ok()?;
    let stream = async_nats::jetstream::new(client).get_stream("platform-log").await.ok()?;
    stream.cached_info().cluster.as_ref()?.leader.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing() {
    let mut servers = NatsServer::cluster();
    // Longer than servers take to elect another leader, so that calls wait for it.
    let patient = || NatsOptions { patience: Duration::from_secs(20), ..options(&servers) };
    let open = async || Nats::connect(patient(), Options::default()).await.unwrap();
    let daemons = [open().await, open().await];
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let writers = future::join_all((0..4).map(|writer| append(&daemons[writer % 2], writer, &acknowledged, &stop)));
    let counts = future::join_all([count(&daemons[0], "n", 40), count(&daemons[1], "n", 40)]);
    let kills = async {
        for _ in 0..2 {
            acknowledges(&acknowledged, 40).await;
            let leader = leader(&servers).await.unwrap();
            let server = servers.iter_mut().find(|server| server.name == leader).unwrap();
            server.kill();
            acknowledges(&acknowledged, 40).await;
            servers.iter_mut().find(|server| server.name == leader).unwrap().start();
        }
        acknowledges(&acknowledged, 40).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (told, counted, ()) = future::join3(writers, counts, kills).await;
    for daemon in &daemons {
        check(daemon, &told).await;
    }
    let revisions: Vec<u64> = counted.into_iter().flat_map(Result::unwrap).collect();
    let changes = all_changes(&daemons[0], "t").await;
    assert_eq!(changes, all_changes(&daemons[1], "t").await);
    assert_eq!(changes.len(), 80, "{revisions:?}");
    let late = connect(&servers).await;
    check(&late, &told).await;
    assert_eq!(all_changes(&late, "t").await, changes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_told_and_waited_for() {
    let mut servers = [NatsServer::alone()];
    let hasty = NatsOptions { patience: Duration::from_millis(500), ..options(&servers) };
    let storage = Nats::connect(hasty, Options::default()).await.unwrap();
    assert_eq!(storage.commit(&scope(), "t", vec![put("k", "1", Condition::Absent)]).await, Ok(1));
    assert_eq!(storage.problem(), None);
    servers[0].kill();
    let until = clock::now() + PATIENCE;
    while storage.problem().is_none() {
        assert!(clock::now() < until, "nobody notices that the server has gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let problem = storage.problem().unwrap();
    assert!(problem.contains("every second") && problem.contains("127.0.0.1"), "{problem}");
    let began = clock::now();
    let put_again = || vec![put("k", "2", Condition::Always)];
    let refused = [
        storage.get(&scope(), "t", "k").await.map(drop),
        storage.commit(&scope(), "t", put_again()).await.map(drop),
        storage.append(&Scope::new("a", "b"), "j", vec![Bytes::new()]).await.map(drop),
    ];
    assert!(refused.iter().all(|answer| matches!(answer, Err(Error::Unavailable(_)))), "{refused:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "who asks while it is known is told at once");
    servers[0].start();
    while storage.problem().is_some() {
        assert!(clock::now() < until, "nobody notices that the server is back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(storage.get(&scope(), "t", "k").await.unwrap().unwrap().value, "1");
    assert_eq!(storage.commit(&scope(), "t", put_again()).await, Ok(2));
}

/// A server that comes back without what it acknowledged is not taken for an empty one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgot_is_refused() {
    let servers = [NatsServer::alone()];
    let storage = connect(&servers).await;
    for round in 1..=5 {
        assert_eq!(storage.commit(&scope(), "t", vec![put("k", "1", Condition::Always)]).await, Ok(round));
    }
    let client = async_nats::connect(servers[0].url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(client);
    let config = jetstream.get_stream("platform-log").await.unwrap().cached_info().config.clone();
    jetstream.delete_stream("platform-log").await.unwrap();
    jetstream.create_stream(config).await.unwrap();
    let answer = storage.get(&scope(), "t", "k").await;
    assert!(matches!(&answer, Err(Error::Corrupt(why)) if why.contains("went back")), "{answer:?}");
    let answer = storage.commit(&scope(), "t", vec![put("k", "2", Condition::Always)]).await;
    assert!(matches!(&answer, Err(Error::Corrupt(_))), "{answer:?}");
    assert!(storage.problem().is_some());
}
