//! What every provider whose writes can be fenced does alike: a stale token writes nothing, whatever the write.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use platform_base::clock;
use platform_capability::{
    Call, CallContext, SlotKind, db,
    kv::{Action, Condition, Content, Error, Expiry, Write},
    sync::{Mode, Want},
};
use platform_dataplane::{Action as Change, CallError, ConfigError, Edit, Event, Keep, Kv, Place, Plugin, Taken};
use platform_testkit::{Fixture, Postgres, Redis, alone, call, call_in, call_of, component, fenced, fenced_by, plugin};

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

/// A host in which the provider is bound.
async fn bound(provider: Plugin) -> (Fixture, Kv) {
    let fixture = Fixture::new();
    fixture.bind("kv.store", alone(provider)).await;
    let kv = fixture.plane.kv().clone();
    (fixture, kv)
}

async fn put(kv: &Kv, call: &Call, key: &str, value: &str) -> Result<u64, CallError<Error>> {
    kv.put(call, key, value.as_bytes(), Condition::Always, Expiry::Never).await
}

async fn value(kv: &Kv, key: &str) -> Option<String> {
    kv.get(&call(), key).await.unwrap().map(|entry| String::from_utf8(entry.value).unwrap())
}

fn stale<T: std::fmt::Debug>(answer: Result<T, CallError<Error>>) -> u64 {
    match answer {
        Err(CallError::Capability(Error::Stale(seen))) => seen,
        other => panic!("not refused: {other:?}"),
    }
}

fn write(key: &str, action: Action) -> Write {
    Write { key: key.to_owned(), condition: Condition::Always, action }
}

fn content(value: &str) -> Action {
    Action::Put(Content { value: value.into(), expiry: Expiry::Never })
}

async fn a_stale_token_writes_nothing(kv: &Kv) {
    put(kv, &fenced(5), "a", "5").await.unwrap();
    put(kv, &fenced(5), "a", "5 again").await.unwrap();
    assert_eq!(stale(put(kv, &fenced(4), "a", "4").await), 5);
    assert_eq!(stale(put(kv, &fenced(4), "new", "4").await), 5);
    assert_eq!(stale(kv.delete(&fenced(4), "a", Condition::Always).await), 5);
    assert_eq!(stale(kv.increment(&fenced(4), "n", 1).await), 5);
    assert_eq!(stale(kv.commit(&fenced(4), &[write("b", content("4")), write("a", Action::Delete)]).await), 5);
    assert_eq!(value(kv, "a").await.as_deref(), Some("5 again"));
    for key in ["new", "n", "b"] {
        assert_eq!(value(kv, key).await, None, "{key}");
    }
    kv.commit(&fenced(6), &[write("b", content("6")), write("a", Action::Delete)]).await.unwrap();
    assert_eq!(stale(put(kv, &fenced(5), "a", "5").await), 6);
    kv.increment(&fenced(8), "n", 1).await.unwrap();
    assert_eq!(stale(kv.increment(&fenced(7), "n", 1).await), 8);
    kv.delete(&fenced(9), "n", Condition::Always).await.unwrap();
    assert_eq!(stale(kv.increment(&fenced(8), "n", 1).await), 9);
}

async fn fences_are_apart(kv: &Kv) {
    put(kv, &fenced_by("one", 100), "x", "1").await.unwrap();
    put(kv, &fenced_by("two", 1), "x", "2").await.unwrap();
    put(kv, &call(), "x", "3").await.unwrap();
    let elsewhere =
        Arc::new(CallContext { namespace: call_in("other").namespace.clone(), ..fenced_by("one", 1).as_ref().clone() });
    put(kv, &elsewhere, "x", "4").await.unwrap();
    assert_eq!(stale(put(kv, &fenced_by("one", 99), "x", "5").await), 100);
    for name in ["a b", "\u{e9}/\u{10ffff}", &"n".repeat(512), "*", "..", "{x}"] {
        put(kv, &fenced_by(name, u64::MAX), "x", "6").await.unwrap();
        assert_eq!(stale(put(kv, &fenced_by(name, u64::MAX - 1), "x", "7").await), u64::MAX, "{name}");
    }
}

async fn what_is_refused_for_another_reason_moves_no_fence(kv: &Kv) {
    let lock = "unmoved";
    put(kv, &fenced_by(lock, 3), "y", "3").await.unwrap();
    let refused = kv.put(&fenced_by(lock, 9), "y", b"9", Condition::Absent, Expiry::Never).await;
    assert!(matches!(refused, Err(CallError::Capability(Error::Conflict(_)))));
    put(kv, &fenced_by(lock, 4), "y", "4").await.unwrap();
}

async fn nobody_sees_a_fence(kv: &Kv) {
    let before = kv.revision(&call()).await.unwrap();
    put(kv, &fenced_by("unseen", 1), "z/1", "1").await.unwrap();
    put(kv, &call(), "z/2", "2").await.unwrap();
    let keys: Vec<String> = kv.scan(&call(), "", None, 1000).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert!(keys.iter().all(|key| !key.contains("fence")), "{keys:?}");
    let mut seen = Vec::new();
    let mut watch = Box::pin(kv.watch(&call(), "", before).unwrap());
    while seen.len() < 2 {
        if let Some(Ok(Event::Changes(changes))) = watch.next().await {
            seen.extend(changes.into_iter().map(|change| change.key));
        }
    }
    assert_eq!(seen, ["z/1", "z/2"]);
}

/// Holders of ever greater tokens write over one another: in the order of the writes no token is followed by a smaller one.
async fn tokens_never_go_back(kv: &Kv) {
    let before = kv.revision(&call()).await.unwrap();
    let holder = async |of: u64| {
        let mut refused = 0;
        for step in 0..25 {
            let token = 1 + step * 4 + of;
            match put(kv, &fenced_by("race", token), &format!("r/{of}"), &token.to_string()).await {
                Ok(_) => {}
                Err(CallError::Capability(Error::Stale(seen))) if seen > token => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        refused
    };
    let refused: [usize; 4] = futures::join!(holder(3), holder(2), holder(1), holder(0)).into();
    let mut tokens: Vec<u64> = Vec::new();
    let mut watch = Box::pin(kv.watch(&call(), "r/", before).unwrap());
    while tokens.len() < 100 - refused.iter().sum::<usize>() {
        if let Some(Ok(Event::Changes(changes))) = watch.next().await {
            let written =
                |entry: platform_capability::kv::Entry| String::from_utf8(entry.value).unwrap().parse::<u64>();
            tokens.extend(changes.into_iter().map(|change| written(change.entry.unwrap()).unwrap()));
        }
    }
    assert!(tokens.is_sorted(), "{tokens:?}");
}

async fn all(provider: Plugin) {
    let (fixture, kv) = bound(provider.clone()).await;
    a_stale_token_writes_nothing(&kv).await;
    fences_are_apart(&kv).await;
    what_is_refused_for_another_reason_moves_no_fence(&kv).await;
    nobody_sees_a_fence(&kv).await;
    tokens_never_go_back(&kv).await;
    // The next generation remembers.
    fixture.bind("kv.store", alone(provider)).await;
    assert_eq!(stale(put(&kv, &fenced(8), "a", "8").await), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_storage_is_fenced() {
    all(storage()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_memory_is_fenced() {
    all(memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_redis_is_fenced() {
    let server = Redis::start().await;
    all(redis(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_storage_is_fenced() {
    let fixture = Fixture::new();
    let store = component("plugins", "config-storage");
    fixture.bind("config.store", alone(plugin(SlotKind::ConfigStore, "config-storage", &store, &["storage"]))).await;
    let config = fixture.plane.configurations();
    let set = async |call: &Call, value: &str| {
        config.edit(call, &Edit { path: "/a", value, ..Edit::new("shop", Change::Set) }).await
    };
    set(&fenced(5), "5").await.unwrap();
    let refused = set(&fenced(4), "4").await;
    assert!(matches!(refused, Err(CallError::Capability(ConfigError::Stale(5)))), "{refused:?}");
    set(&fenced(6), "6").await.unwrap();
    assert!(matches!(set(&fenced(5), "5").await, Err(CallError::Capability(ConfigError::Stale(6)))));
    set(&call(), "7").await.unwrap();
    let versions = config.history(&call(), "shop", (1, u64::MAX), 100, false).await.unwrap().0;
    assert_eq!(versions.len(), 3, "no version was made by a stale token");
}

/// Somebody whose lease ends while it sleeps writes after the next holder has, and is refused.
async fn a_holder_that_slept_writes_no_record(provider: Plugin) {
    let fixture = Fixture::new();
    fixture.bind("db.store", alone(provider)).await;
    let locks = plugin(SlotKind::SyncLock, "sync-storage", &component("plugins", "sync-storage"), &["storage"]);
    fixture.bind("sync.lock", alone(locks)).await;
    let db = fixture.plane.db().clone();
    let acquire = async |who: &str, ttl_ms: u64| {
        let (call, want) = (call_of(who, &[]), Want { mode: Mode::Exclusive, value: None });
        let until = clock::now() + Duration::from_secs(60);
        match fixture.plane.sync().acquire(&call, "orders", &want, &Keep::Own(ttl_ms), until).await.unwrap() {
            Taken::Held(held) => held.place.token,
            Taken::Queued(queued) => queued.held().await.unwrap().place.token,
        }
    };
    let write = async |token: u64, id: &str| {
        let content = db::Content { metadata: Vec::new(), data: token.to_string().into_bytes() };
        let action = db::Action::Put(content);
        let write = db::Write { table: "t".to_owned(), id: id.to_owned(), condition: db::Condition::Always, action };
        db.commit(&fenced(token), "shop", &[write]).await
    };
    let sleeper = acquire("sleeper", 500).await;
    write(sleeper, "guarded").await.unwrap();
    let next = acquire("next", 20_000).await;
    write(next, "guarded").await.unwrap();
    for id in ["guarded", "other"] {
        let refused = write(sleeper, id).await;
        let stale = |seen: &u64| *seen == next;
        assert!(matches!(&refused, Err(CallError::Capability(db::Error::Stale(seen))) if stale(seen)), "{refused:?}");
    }
    let at = Place { database: "shop", table: "t" };
    let found = db.get(&call(), at, &["guarded", "other"]).await.unwrap();
    assert_eq!(found[0].as_ref().map(|record| record.data.clone()), Some(next.to_string().into_bytes()));
    assert_eq!(found[1], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn db_storage_is_fenced() {
    let provider = plugin(SlotKind::DbStore, "db-storage", &component("plugins", "db-storage"), &["storage"]);
    a_holder_that_slept_writes_no_record(provider).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn db_postgres_is_fenced() {
    let server = Postgres::start().await;
    let address = server.address();
    let grants = ["wasi", &format!("network:{}:{}", address.ip(), address.port())];
    let mut provider = plugin(SlotKind::DbStore, "db-postgres", &component("plugins", "db-postgres"), &grants);
    provider.settings = format!(r#"{{"url": "{}"}}"#, server.url());
    a_holder_that_slept_writes_no_record(provider).await;
}
