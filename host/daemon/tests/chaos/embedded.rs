//! One daemon that is killed while keys, configurations, records, events and locks are worked with: what it acknowledged is
//! there in its next life, and nothing that nobody asked for.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use platform_base::clock;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::task::JoinSet;

use crate::{
    clients::{Client, Store},
    runtime, seed,
    support::{Daemon, place},
    time,
};

/// How long it goes on in CI.
const SHORT: Duration = Duration::from_secs(15);
const STORES: [Store; 3] = [Store::Kv, Store::Config, Store::Db];
/// Writers of each store; each has a number of its own.
const WRITERS: usize = 2;
const PUBLISHERS: usize = 2;
/// Longer than the test: what is held stays held.
const LEASE: Duration = Duration::from_secs(86_400);
const LOCK: &str = "lock";

/// What one writer knows of its number.
#[derive(Debug, Clone, Copy, Default)]
struct Number {
    acknowledged: u64,
    tried: u64,
    revision: u64,
}

/// What was answered, over all lives of the daemon.
#[derive(Debug, Default)]
struct Told {
    numbers: [[Number; WRITERS]; STORES.len()],
    published: Vec<(String, u64)>,
    /// The next event of each publisher.
    next: [u64; PUBLISHERS],
    /// The last token that was granted, and whether its lock was given up.
    token: u64,
    released: Option<bool>,
    writes: usize,
    turns: usize,
}

type Shared = Arc<Mutex<Told>>;

fn name(store: usize, writer: usize) -> String {
    format!("number-{store}-{writer}")
}

/// Counts up until there is no answer.
async fn count(client: Client, told: Shared, store: usize, writer: usize, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let next = {
            let number = &mut told.lock().unwrap().numbers[store][writer];
            number.tried += 1;
            number.tried
        };
        let Ok(revision) = client.write(STORES[store], &name(store, writer), next).await else { return };
        let mut told = told.lock().unwrap();
        told.writes += 1;
        let number = &mut told.numbers[store][writer];
        assert!(revision > number.revision, "revisions of {} increase", name(store, writer));
        (number.acknowledged, number.revision) = (next, revision);
    }
}

/// Publishes until there is no answer; what got none is published again in the next life.
async fn publish(client: Client, told: Shared, publisher: usize, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let id = format!("{publisher}-{}", told.lock().unwrap().next[publisher]);
        let Ok(sequence) = client.publish(&id).await else { return };
        let mut told = told.lock().unwrap();
        told.published.push((id, sequence));
        told.next[publisher] += 1;
    }
}

/// Takes the lock and gives it up until there is no answer.
async fn lock(client: Client, told: Shared, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let Ok(token) = client.acquire(LOCK, LEASE, Duration::from_secs(5)).await else { return };
        {
            let mut told = told.lock().unwrap();
            assert!(token > told.token, "token {token} came after {}", told.token);
            (told.token, told.released) = (token, Some(false));
            told.turns += 1;
        }
        if client.release(LOCK, token).await.is_err() {
            told.lock().unwrap().released = None;
            return;
        }
        told.lock().unwrap().released = Some(true);
    }
}

/// Compares what the daemon has with what it acknowledged.
async fn check(client: &Client, told: &Shared) {
    for (store, kind) in STORES.iter().enumerate() {
        for writer in 0..WRITERS {
            let (found, revision) = client.read(*kind, &name(store, writer)).await.unwrap();
            let number = &mut told.lock().unwrap().numbers[store][writer];
            let found = found.unwrap_or(0);
            let fits = (number.acknowledged..=number.tried).contains(&found);
            assert!(fits && revision >= number.revision, "{kind:?} has {found} at {revision}: {number:?}");
            (number.acknowledged, number.tried, number.revision) = (found, found, revision);
        }
    }
    let kept = client.events().await.unwrap();
    for (id, sequence) in &told.lock().unwrap().published {
        let found: Vec<u64> = kept.iter().filter(|(kept, _)| kept == id).map(|(_, sequence)| *sequence).collect();
        assert_eq!(found, [*sequence], "event {id}");
    }
    let holders = client.holders(LOCK).await.unwrap();
    let (token, released) = {
        let told = told.lock().unwrap();
        (told.token, told.released)
    };
    match released {
        Some(false) => assert!(holders.contains(&token), "{token} was granted: {holders:?}"),
        Some(true) => assert!(!holders.contains(&token), "{token} was given up: {holders:?}"),
        None => {}
    }
    // A grant whose answer was lost is later than all others.
    for holder in holders {
        assert!(holder >= token, "{holder} holds, though {token} was granted after it");
        assert!(client.release(LOCK, holder).await.unwrap());
        let mut told = told.lock().unwrap();
        (told.token, told.released) = (holder, Some(true));
    }
}

/// Works for a while, and takes the daemon away in the middle of it.
async fn live(daemon: Daemon, client: &Client, told: &Shared, time: Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    let parts = || (client.clone(), Arc::clone(told), Arc::clone(&stop));
    for (store, writer) in (0..STORES.len()).flat_map(|store| (0..WRITERS).map(move |writer| (store, writer))) {
        let (client, told, stop) = parts();
        tasks.spawn(count(client, told, store, writer, stop));
    }
    for publisher in 0..PUBLISHERS {
        let (client, told, stop) = parts();
        tasks.spawn(publish(client, told, publisher, stop));
    }
    let (client, told, stop_lock) = parts();
    tasks.spawn(lock(client, told, stop_lock));
    tokio::time::sleep(time).await;
    daemon.kill();
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

fn connect(daemon: &Daemon, data: &Path) -> Client {
    Client::new(&daemon.address().unwrap(), data)
}

#[test]
fn nothing_acknowledged_is_lost_when_a_daemon_is_killed() {
    let mut random = StdRng::seed_from_u64(seed());
    let (_root, data) = place();
    let (told, until) = (Shared::default(), clock::now() + time(SHORT));
    let mut lives = 0;
    runtime().block_on(async {
        while clock::now() < until || lives < 3 {
            let daemon = Daemon::start(&data);
            let client = connect(&daemon, &data);
            client.make_topic().await.unwrap();
            check(&client, &told).await;
            live(daemon, &client, &told, Duration::from_millis(random.random_range(200..1500))).await;
            lives += 1;
        }
        let daemon = Daemon::start(&data);
        check(&connect(&daemon, &data), &told).await;
    });
    let told = told.lock().unwrap();
    eprintln!("{lives} kills, {} writes, {} events, {} turns", told.writes, told.published.len(), told.turns);
    assert!(told.writes > 50 && told.published.len() > 20 && told.turns > 5, "there is something to lose");
}
