//! Keys that move from one provider to another while they are written, counted, read and watched.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]
#![expect(clippy::disallowed_methods, reason = "tasks of a test end with it")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::StreamExt;
use platform_base::clock;
use platform_capability::{
    Name, SlotKind,
    kv::{Action, Condition, Content, Entry, Error, Expiry, Write},
};
use platform_dataplane::{CallError, Event, Kv, Plugin};
use platform_testkit::{Fixture, Redis, alone, call, call_in, component, fenced, name, plugin, slot, until};

/// Keys that nobody writes while they are carried.
const OLD: usize = 2500;
/// Keys that writers come back to.
const BUSY: u64 = 40;

fn storage() -> Plugin {
    plugin(SlotKind::KvStore, "kv-storage", &component("plugins", "kv-storage"), &["storage"])
}

fn memory() -> Plugin {
    let mut memory = plugin(SlotKind::KvStore, "kv-memory", &component("plugins", "kv-memory"), &[]);
    memory.mode = platform_runtime::Mode::Single;
    memory
}

fn redis(server: &Redis) -> Plugin {
    let address = server.address();
    let grants = ["wasi", &format!("network:{}:{}", address.ip(), address.port())];
    let mut redis = plugin(SlotKind::KvStore, "kv-redis", &component("plugins", "kv-redis"), &grants);
    redis.settings = format!(r#"{{"url": "redis://{address}"}}"#);
    redis
}

/// Binds a provider with what the one before holds in some namespaces; how many entries that were.
async fn carried(fixture: &Fixture, slot_text: &str, provider: Plugin, namespaces: &[&str]) -> u64 {
    let (slot, plane) = (slot(slot_text), &fixture.plane);
    let prepared = plane.prepare(&slot, alone(provider)).await.unwrap_or_else(|error| panic!("{error}"));
    let namespaces: Vec<Name> = namespaces.iter().map(|text| name(text)).collect();
    let carried = plane.carry(&slot, &prepared, &namespaces).await.unwrap_or_else(|error| panic!("{error}"));
    let generation = plane.slot_status(&slot).map_or(0, |status| status.generation) + 1;
    plane.bind(&slot, prepared, generation).await.unwrap();
    carried.entries
}

fn put(key: String, value: &str, expiry: Expiry) -> Write {
    Write { key, condition: Condition::Always, action: Action::Put(Content { value: value.into(), expiry }) }
}

async fn fill(kv: &Kv) {
    for start in (0..OLD).step_by(500) {
        let expiry = |number: usize| if number.is_multiple_of(2) { Expiry::Never } else { Expiry::AfterMs(3_600_000) };
        let writes: Vec<Write> =
            (start..start + 500).map(|number| put(format!("old/{number:05}"), "old", expiry(number))).collect();
        kv.commit(&call(), &writes).await.unwrap();
    }
}

/// What happened while providers were exchanged.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    calls: AtomicU64,
    /// Changes of busy keys that the watch was told.
    told: AtomicU64,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Writes keys again and again, each time on the condition that nobody else wrote; what each came to.
    async fn write(&self, kv: &Kv) -> BTreeMap<String, (u64, u64)> {
        let mut written: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut number = 0;
        while self.goes_on() {
            // A watch that is further behind than what the host keeps would be told so when its provider goes.
            until("the watch to follow", async || number < self.told.load(Ordering::Relaxed) + 300).await;
            number += 1;
            let key = format!("busy/{}", number % BUSY);
            let (count, condition) = match written.get(&key) {
                None => (1, Condition::Absent),
                Some((count, revision)) => (count + 1, Condition::At(*revision)),
            };
            let answer = kv.put(&call(), &key, count.to_string().as_bytes(), condition, Expiry::Keep).await;
            let revision = answer.unwrap_or_else(|error| panic!("a write failed: {error:?}"));
            let found = kv.get(&call(), &key).await.unwrap_or_else(|error| panic!("a read failed: {error:?}"));
            assert_eq!(found.map(|entry| entry.revision), Some(revision), "`{key}` is read as it was written");
            written.insert(key, (count, revision));
            self.calls.fetch_add(2, Ordering::Relaxed);
        }
        written
    }

    /// Adds 1 to a number of its own again and again; how often.
    async fn count(&self, kv: &Kv, key: &str) -> u64 {
        let mut times = 0;
        while self.goes_on() {
            match kv.increment(&call(), key, 1).await {
                Ok(_) => times += 1,
                Err(error) => panic!("an increment failed: {error:?}"),
            }
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        times
    }

    /// Reads pages of what nobody writes.
    async fn read(&self, kv: &Kv) {
        while self.goes_on() {
            let page = kv.scan(&call(), "old/", Some("old/01000"), 100).await;
            let page = page.unwrap_or_else(|error| panic!("a scan failed: {error:?}"));
            assert_eq!(page.first().map(|(key, _)| key.as_str()), Some("old/01001"));
            assert_eq!(page.len(), 100);
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until some more calls were made.
    async fn some(&self) {
        let before = self.calls.load(Ordering::Relaxed);
        until("some load", async || self.calls.load(Ordering::Relaxed) > before + 60).await;
    }
}

async fn entries(kv: &Kv, prefix: &str) -> Vec<(String, Entry)> {
    let mut all: Vec<(String, Entry)> = Vec::new();
    loop {
        let page = kv.scan(&call(), prefix, all.last().map(|(key, _)| key.as_str()), 1000).await.unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// Follows busy keys: each change once and in order, of no other key any.
async fn watch(kv: &Kv, from: u64, load: &Load, seen: &Mutex<BTreeMap<String, (u64, u64)>>) {
    let mut stream = Box::pin(kv.watch(&call(), "", from).unwrap());
    while let Some(event) = stream.next().await {
        let Event::Changes(changes) = event.unwrap_or_else(|error| panic!("the watch broke: {error:?}")) else {
            continue;
        };
        for change in changes {
            assert!(
                change.key.starts_with("sum/") || change.key.starts_with("busy/"),
                "`{}` was not written",
                change.key
            );
            let mut seen = seen.lock().unwrap();
            let (times, revision) = seen.entry(change.key.clone()).or_default();
            *times += 1;
            assert!(change.revision > *revision, "in order");
            *revision = change.revision;
            if change.key.starts_with("busy/") {
                load.told.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Exchanges providers under load, and nothing is lost, made twice or told twice.
async fn moves(fixture: &Fixture, providers: Vec<Plugin>) {
    let kv = fixture.plane.kv().clone();
    fill(&kv).await;
    let before = entries(&kv, "old/").await;
    kv.put(&fenced(5), "fenced", b"5", Condition::Always, Expiry::Never).await.unwrap();
    let from = kv.revision(&call()).await.unwrap();
    let (load, seen) = (Load::default(), Mutex::default());
    let swaps = async {
        let mut moved = Vec::new();
        for provider in providers {
            load.some().await;
            moved.push(carried(fixture, "kv.store", provider, &["default"]).await);
        }
        load.some().await;
        load.stop.store(true, Ordering::Relaxed);
        moved
    };
    let work = async {
        let (mut written, one, other, (), moved) =
            tokio::join!(load.write(&kv), load.count(&kv, "sum/1"), load.count(&kv, "sum/2"), load.read(&kv), swaps);
        assert!(moved.iter().all(|entries| *entries >= OLD as u64), "{moved:?}");
        for (key, times) in [("sum/1", one), ("sum/2", other)] {
            let sum = kv.get(&call(), key).await.unwrap().unwrap();
            assert_eq!(String::from_utf8(sum.value).unwrap(), times.to_string(), "each increment counts once");
            written.insert(key.to_owned(), (times, sum.revision));
        }
        until("the watch to be done", async || {
            let seen: std::sync::MutexGuard<'_, BTreeMap<String, (u64, u64)>> = seen.lock().unwrap();
            let last = |key: &str, revision: u64| seen.get(key).is_some_and(|(_, at)| *at == revision);
            written.iter().all(|(key, (_, revision))| last(key, *revision))
        })
        .await;
        written
    };
    let written = tokio::select! {
        done = work => done,
        () = watch(&kv, from, &load, &seen) => panic!("the watch ended"),
    };
    for (key, told) in seen.lock().unwrap().iter() {
        assert_eq!(told.0, written[key].0, "the watch saw each change of `{key}` once");
    }
    assert_eq!(entries(&kv, "old/").await, before, "values, revisions and ends");
    for (key, entry) in entries(&kv, "busy/").await {
        let (count, revision) = written[&key];
        assert_eq!((entry.value, entry.revision), (count.to_string().into_bytes(), revision), "`{key}`");
    }
    let stale = kv.put(&fenced(4), "fenced", b"4", Condition::Always, Expiry::Never).await;
    assert!(matches!(stale, Err(CallError::Capability(Error::Stale(5)))), "fences move too: {stale:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_move_to_redis_and_back_under_load() {
    let (server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(storage())).await;
    Box::pin(moves(&fixture, vec![redis(&server), storage(), redis(&server), storage()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_move_into_memory_and_back_under_load() {
    let fixture = Fixture::new();
    fixture.bind("kv.store", alone(memory())).await;
    Box::pin(moves(&fixture, vec![storage(), memory()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end_meanwhile_end_and_are_told_of_once() {
    let (server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(storage())).await;
    let kv = fixture.plane.kv().clone();
    let from = kv.revision(&call()).await.unwrap();
    let gone: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
    let (stream, told) = (kv.watch(&call(), "short/", from).unwrap(), Arc::clone(&gone));
    let begun = Arc::new(tokio::sync::Notify::new());
    let begins = Arc::clone(&begun);
    let follow = tokio::spawn(async move {
        let mut stream = Box::pin(stream);
        while let Some(event) = stream.next().await {
            let Ok(Event::Changes(changes)) = event else { continue };
            for change in changes {
                if change.entry.is_some() {
                    begins.notify_one();
                    continue;
                }
                *told.lock().unwrap().entry(change.key).or_default() += 1;
            }
        }
    });
    kv.put(&call(), "short/first", b"", Condition::Always, Expiry::AfterMs(1)).await.unwrap();
    begun.notified().await;
    // Ends that come before, while and after the keys are carried.
    let begun = clock::unix_ms();
    let writes: Vec<Write> =
        (0..400_u64).map(|number| put(format!("short/{number}"), "x", Expiry::AfterMs(1 + number * 4))).collect();
    kv.commit(&call(), &writes).await.unwrap();
    carried(&fixture, "kv.store", redis(&server), &["default"]).await;
    carried(&fixture, "kv.store", storage(), &["default"]).await;
    let now = clock::unix_ms();
    let left = entries(&kv, "short/").await;
    let late = |entry: &Entry| entry.expires_ms.is_none_or(|ends| ends <= now || ends > begun + 60_000);
    assert!(!left.iter().any(|(_, entry)| late(entry)), "ends stay what they were, and come in time");
    until("all ends to be told", async || gone.lock().unwrap().len() == 401).await;
    until("all keys to end", async || entries(&kv, "short/").await.is_empty()).await;
    follow.abort();
    let twice: Vec<_> =
        gone.lock().unwrap().iter().filter(|(_, times)| **times != 1).map(|(key, _)| key.clone()).collect();
    assert!(twice.is_empty(), "told more than once: {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_meanwhile_leaves_the_old_store_serving() {
    let (mut server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(storage())).await;
    let kv = fixture.plane.kv().clone();
    fill(&kv).await;
    let before = entries(&kv, "").await;
    let at = slot("kv.store");
    let prepared = fixture.plane.prepare(&at, alone(redis(&server))).await.unwrap();
    let namespaces = [name("default")];
    let carrying = fixture.plane.carry(&at, &prepared, &namespaces);
    let address = server.address();
    let killing = async {
        until("a part to be there", async || Redis::keys(address, "platform:{default}:index") > 0).await;
        server.kill();
    };
    let (carried, ()) = tokio::join!(carrying, killing);
    let why = carried.unwrap_err().to_string();
    assert!(why.contains("the old store serves on"), "{why}");
    assert_eq!(entries(&kv, "").await, before);
    assert_eq!(kv.increment(&call(), "sum", 1).await.unwrap(), 1);
    // The half that is there is no part of what is carried later.
    kv.delete(&call(), "old/00001", Condition::Present).await.unwrap();
    server.restart().await;
    assert_eq!(self::carried(&fixture, "kv.store", redis(&server), &["default"]).await, OLD as u64);
    assert!(kv.get(&call(), "old/00001").await.unwrap().is_none());
    assert_eq!(kv.increment(&call(), "sum", 1).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_moves_to_a_slot_of_its_own_and_quotas_hold_from_then_on() {
    let (server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(storage())).await;
    let (kv, dev) = (fixture.plane.kv().clone(), call_in("dev"));
    for key in ["a", "b"] {
        kv.put(&call(), key, b"1", Condition::Always, Expiry::Never).await.unwrap();
        kv.put(&dev, key, b"2", Condition::Always, Expiry::Never).await.unwrap();
    }
    let mut provider = redis(&server);
    provider.settings = provider.settings.replace('}', r#", "quota": {"keys": 1}}"#);
    assert_eq!(carried(&fixture, "kv.store/dev", provider.clone(), &["dev"]).await, 2);
    assert_eq!(kv.get(&dev, "a").await.unwrap().unwrap().value, b"2");
    let more = kv.put(&dev, "c", b"3", Condition::Always, Expiry::Never).await;
    assert!(matches!(more, Err(CallError::Capability(Error::Quota(_)))), "{more:?}");
    kv.put(&call(), "c", b"3", Condition::Always, Expiry::Never).await.unwrap();
    // The same store again has nothing to be carried, and loses nothing by it.
    assert_eq!(carried(&fixture, "kv.store/dev", provider, &["dev"]).await, 0);
    assert_eq!(kv.scan(&dev, "", None, 10).await.unwrap().len(), 2);
    for (slot_text, namespace) in [("kv.store/dev", "default"), ("kv.store", "dev")] {
        let slot = slot(slot_text);
        let prepared = fixture.plane.prepare(&slot, alone(storage())).await.unwrap();
        let why = fixture.plane.carry(&slot, &prepared, &[name(namespace)]).await.unwrap_err().to_string();
        assert!(why.contains("does not serve"), "{why}");
    }
}
