//! Several daemons on one storage.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures::future;
use platform_base::clock;
use platform_storage::{
    Change, Condition, Error, MAX_LIMIT, Nats, NatsError, NatsOptions, Options, Result, Scope, Storage, Write,
};
use platform_testkit::NatsServer;

const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);

/// How a daemon gets to servers.
pub(crate) fn options(servers: &[NatsServer]) -> NatsOptions {
    NatsOptions::new(servers.iter().map(NatsServer::url))
}

/// Storage as a daemon has it.
pub(crate) async fn connect(servers: &[NatsServer]) -> Nats {
    Nats::connect(options(servers), Options::default()).await.unwrap()
}

pub(crate) fn scope() -> Scope {
    // Characters that mean something in subjects of NATS are nothing special here.
    Scope::new("kv.store", "a.*.>")
}

pub(crate) fn put(key: &str, value: &str, condition: Condition) -> Write {
    Write::Put { key: key.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()), condition, ttl: None }
}

/// Counts up `times` by compare-and-set; the revisions of the increments.
pub(crate) async fn count(storage: &Nats, key: &str, times: usize) -> Result<Vec<u64>> {
    let mut made = Vec::new();
    while made.len() < times {
        let entry = storage.get(&scope(), "t", key).await?;
        let (text, condition) = match &entry {
            Some(entry) => (String::from_utf8_lossy(&entry.value).into_owned(), Condition::At(entry.revision)),
            None => ("0".to_owned(), Condition::Absent),
        };
        let next = (text.parse::<u64>().unwrap() + 1).to_string();
        match storage.commit(&scope(), "t", vec![put(key, &next, condition)]).await {
            Ok(revision) => made.push(revision),
            Err(Error::Conflict(_)) => {}
            // The other daemons were faster for as long as this one was patient.
            Err(Error::Unavailable(why)) if why.contains("nothing of it was made") => {}
            Err(other) => return Err(other),
        }
    }
    Ok(made)
}

/// All changes of a table.
pub(crate) async fn all_changes(storage: &Nats, table: &str) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    loop {
        let after = all.last().map_or(0, Change::revision);
        let more = storage.changes(&scope(), table, "", after, MAX_LIMIT, NOW).await.unwrap();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

async fn compare_and_set(servers: &[NatsServer]) {
    const WRITERS: usize = 6;
    const EACH: usize = 15;
    let daemons = [connect(servers).await, connect(servers).await, connect(servers).await];
    // A watcher sees the changes as they come, from another daemon than who makes them.
    let watch = async {
        let mut seen: Vec<Change> = Vec::new();
        while seen.len() < WRITERS * EACH {
            let after = seen.last().map_or(0, Change::revision);
            let more = daemons[2].changes(&scope(), "t", "", after, 10, SOON).await.unwrap();
            assert!(!more.is_empty(), "{} changes in {SOON:?}", seen.len());
            seen.extend(more);
        }
        seen
    };
    let writes = future::try_join_all((0..WRITERS).map(|writer| count(&daemons[writer % 2], "n", EACH)));
    let (made, watched) = future::join(writes, watch).await;
    let revisions: BTreeSet<u64> = made.unwrap().into_iter().flatten().collect();
    let total = (WRITERS * EACH) as u64;
    assert!(revisions.into_iter().eq(1..=total), "each increment has a revision of its own and none is left out");
    for daemon in &daemons {
        let entry = daemon.get(&scope(), "t", "n").await.unwrap().unwrap();
        assert_eq!((entry.value, entry.revision), (Bytes::from(total.to_string()), total));
        assert_eq!(all_changes(daemon, "t").await, watched, "all see the same changes in the same order");
    }
    future::join_all(daemons.iter().map(|daemon| daemon.close())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compare_and_set_on_one_server() {
    compare_and_set(&[NatsServer::alone()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compare_and_set_on_a_cluster() {
    compare_and_set(&NatsServer::cluster()).await;
}

/// What was acknowledged on one daemon is read at once on another, whatever is read.
async fn read_at_once(servers: &[NatsServer]) {
    let (one, other) = (connect(servers).await, connect(servers).await);
    for round in 1..=50_u64 {
        let key = format!("key with spaces.*.> and ünïcode {round}");
        let (from, to) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        assert_eq!(from.commit(&scope(), "t", vec![put(&key, "1", Condition::Absent)]).await, Ok(round));
        assert!(to.get(&scope(), "t", &key).await.unwrap().is_some());
        assert_eq!(from.commit(&scope(), "u", vec![put("k", "1", Condition::Always)]).await, Ok(round));
        assert_eq!(to.revision(&scope(), "u").await, Ok(round));
        assert_eq!(from.append(&scope(), "j", vec![Bytes::new()]).await, Ok(round));
        assert_eq!(to.bounds(&scope(), "j").await, Ok((1, round)));
        assert_eq!(to.read(&scope(), "j", round, 9, NOW).await.unwrap().len(), 1);
        assert_eq!(to.changes(&scope(), "t", "", round - 1, 9, NOW).await.unwrap().len(), 1);
        // A refusal is an answer too: it must not come from an old copy.
        let refused = to.commit(&scope(), "t", vec![put(&key, "2", Condition::Absent)]).await;
        assert!(matches!(refused, Err(Error::Conflict(_))), "{refused:?}");
        let delete = Write::Delete { key: "k".to_owned(), condition: Condition::Always };
        assert!(to.commit(&scope(), "v", vec![delete.clone()]).await.is_ok());
        assert_eq!(from.commit(&scope(), "v", vec![put("k", "1", Condition::Absent)]).await, Ok(2 * round - 1));
        assert_eq!(to.commit(&scope(), "v", vec![delete]).await, Ok(2 * round), "it is there to be removed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_is_read_at_once() {
    read_at_once(&[NatsServer::alone()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_read_at_once() {
    read_at_once(&NatsServer::cluster()).await;
}

/// Batches in many pieces by two daemons, with small ones of a third between them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_batches_are_whole_beside_others() {
    let servers = [NatsServer::alone()];
    let daemons = [connect(&servers).await, connect(&servers).await, connect(&servers).await];
    let large = |daemon: usize| {
        let storage = &daemons[daemon];
        async move {
            for round in 0..4_u8 {
                let value = Bytes::from(vec![round; 5 << 20]);
                let put = |half: &str| Write::Put {
                    key: format!("{daemon}/{half}"),
                    value: value.clone(),
                    condition: Condition::Always,
                    ttl: None,
                };
                storage.commit(&scope(), "t", vec![put("left"), put("right")]).await.unwrap();
            }
        }
    };
    let small = async { count(&daemons[2], "n", 30).await.unwrap() };
    future::join3(large(0), large(1), small).await;
    for daemon in &daemons {
        assert_eq!(daemon.revision(&scope(), "t").await, Ok(38));
        for of in 0..2 {
            let keys = [format!("{of}/left"), format!("{of}/right")];
            let halves = daemon.get_many(&scope(), "t", &[&keys[0], &keys[1]]).await.unwrap();
            let [Some(left), Some(right)] = &halves[..] else { panic!("{halves:?}") };
            assert!(left.revision == right.revision && left.value == right.value && left.value[0] == 3);
        }
    }
}

/// A key that a daemon set expires although that daemon has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_expire_what_a_daemon_left() {
    let servers = [NatsServer::alone()];
    let (one, other) = (connect(&servers).await, connect(&servers).await);
    let ttl = Some(Duration::from_millis(400));
    let lease = Write::Put { key: "lease".to_owned(), value: Bytes::new(), condition: Condition::Absent, ttl };
    assert_eq!(one.commit(&scope(), "t", vec![lease]).await, Ok(1));
    one.close().await;
    let told = other.changes(&scope(), "t", "", 1, 9, SOON).await.unwrap();
    assert_eq!(told, [Change::Delete { key: "lease".to_owned(), revision: 2 }]);
}

/// The log is cut and a daemon that starts later has everything all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_stand_for_the_log() {
    let servers = [NatsServer::alone()];
    let small = || NatsOptions { snapshot_bytes: 1 << 20, ..options(&servers) };
    let open = async || Nats::connect(small(), Options { changes_kept: 50, ..Options::default() }).await.unwrap();
    let (one, other) = (open().await, open().await);
    let client = async_nats::connect(servers[0].url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("platform-log").await.unwrap();
    let value = "v".repeat(50_000);
    let mut written = 0_u64;
    while stream.get_info().await.unwrap().state.first_sequence <= 1 {
        for storage in [&one, &other] {
            written += 1;
            let key = format!("k{}", written % 20);
            assert_eq!(storage.commit(&scope(), "t", vec![put(&key, &value, Condition::Always)]).await, Ok(written));
            let item = Bytes::from(written.to_string());
            assert_eq!(storage.append(&scope(), "j", vec![item]).await, Ok(written));
        }
        assert!(written < 20_000, "the log is never cut");
    }
    let late = open().await;
    assert_eq!(late.revision(&scope(), "t").await, Ok(written));
    let all = async |storage: &Nats| storage.scan(&scope(), "t", "", None, MAX_LIMIT).await.unwrap();
    assert_eq!(all(&late).await, all(&one).await);
    assert_eq!(all(&other).await, all(&one).await);
    assert_eq!(late.bounds(&scope(), "j").await, Ok((1, written)));
    let first = late.read(&scope(), "j", 1, 1, NOW).await.unwrap();
    assert_eq!(first[0].data, "1");
    assert_eq!(late.append(&scope(), "j", vec![Bytes::new()]).await, Ok(written + 1));
    assert_eq!(other.bounds(&scope(), "j").await, Ok((1, written + 1)));
    let key = vec![put("after", "1", Condition::Absent)];
    assert_eq!(late.commit(&scope(), "t", key).await, Ok(written + 1), "revisions go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_storage_is_refused() {
    let refused = |given: Result<Nats, NatsError>| given.unwrap_err().to_string();
    let nobody = NatsOptions::new(["nats://127.0.0.1:1"]);
    let why = refused(Nats::connect(nobody, Options::default()).await);
    assert!(why.contains("`127.0.0.1:1`") && why.contains("nats-server"), "{why}");
    let servers = [NatsServer::alone_with("authorization { user: u, password: p }")];
    let why = refused(Nats::connect(options(&servers), Options::default()).await);
    assert!(why.contains("uthoriz"), "{why}");
    let url = servers[0].url().replace("nats://", "nats://u:p@");
    let storage = Nats::connect(NatsOptions::new([url]), Options::default()).await.unwrap();
    assert_eq!(storage.revision(&scope(), "t").await, Ok(0));
    let three = NatsOptions { replicas: Some(3), start_patience: NOW, ..NatsOptions::new([servers[0].url()]) };
    let three = NatsOptions { servers: vec![servers[0].url().replace("nats://", "nats://u:p@")], ..three };
    let three = NatsOptions { prefix: "another".to_owned(), ..three };
    let why = refused(Nats::connect(three, Options::default()).await);
    assert!(why.contains("3 replicas"), "{why}");
}

/// Two platforms on one NATS do not meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_platforms_apart() {
    let servers = [NatsServer::alone()];
    let one = connect(&servers).await;
    let other = NatsOptions { prefix: "other".to_owned(), ..options(&servers) };
    let other = Nats::connect(other, Options::default()).await.unwrap();
    assert_eq!(one.commit(&scope(), "t", vec![put("k", "1", Condition::Absent)]).await, Ok(1));
    assert_eq!(other.get(&scope(), "t", "k").await, Ok(None));
    assert_eq!(other.revision(&scope(), "t").await, Ok(0));
}

/// Files are found by all daemons, whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_shared() {
    let servers = [NatsServer::alone_with("max_payload: 65536")];
    let (one, other) = (connect(&servers).await, connect(&servers).await);
    let (one, other) = (one.objects().unwrap(), other.objects().unwrap());
    assert_eq!(other.get("absent").await, Ok(None));
    assert_eq!(other.remove("absent").await, Ok(()));
    assert_eq!(other.list().await, Ok(Vec::new()));
    let large: Bytes = (0..3_000_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    for (name, bytes) in [("a.*.> b/../ü", large), ("empty", Bytes::new())] {
        one.put(name, bytes.clone()).await.unwrap();
        assert_eq!(other.get(name).await, Ok(Some(bytes)));
    }
    one.put("empty", Bytes::from("other")).await.unwrap();
    assert_eq!(other.get("empty").await, Ok(Some(Bytes::from("other"))));
    let listed = other.list().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|object| object.kept_ms.abs_diff(clock::unix_ms()) < 60_000), "{listed:?}");
    other.remove("empty").await.unwrap();
    assert_eq!(one.get("empty").await, Ok(None));
    assert_eq!(one.list().await.unwrap().len(), 1);
}
