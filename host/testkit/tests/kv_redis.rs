//! `kv-redis` with a real Redis server: what it refuses to begin with, what others see of it, and what it does when the
//! server goes away. What it does like every other provider is in `kv.rs`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on has failed")]

use platform_capability::{
    SlotKind,
    kv::{Condition, Error, Expiry},
};
use platform_dataplane::{CallError, Plugin};
use platform_testkit::{Fixture, Redis, alone, call, call_in, component, plugin, slot, until};

fn provider(settings: &str, grants: &[&str]) -> Plugin {
    let mut plugin = plugin(SlotKind::KvStore, "kv-redis", &component("plugins", "kv-redis"), grants);
    settings.clone_into(&mut plugin.settings);
    plugin
}

/// The provider with what it needs to reach a server.
fn granted(server: &Redis, more: &str) -> Plugin {
    let address = server.address();
    let settings = format!(r#"{{"url": "redis://{address}"{more}}}"#);
    provider(&settings, &["wasi", &format!("network:{}:{}", address.ip(), address.port())])
}

async fn why_not(plugin: Plugin) -> String {
    let fixture = Fixture::new();
    let error = fixture.plane.prepare(&slot("kv.store"), alone(plugin)).await.unwrap_err();
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_reaches_nothing_that_was_not_granted() {
    let server = Redis::start().await;
    let (address, beside) = (server.address(), server.address().port() ^ 1);
    let settings = format!(r#"{{"url": "redis://{address}"}}"#);
    let why = why_not(provider(&settings, &["wasi"])).await;
    assert!(why.contains("`network:HOST:PORT`"), "{why}");
    let why = why_not(provider(&settings, &["wasi", &format!("network:{}:{beside}", address.ip())])).await;
    assert!(why.contains("self-test") || why.contains("tested itself") || why.contains("Redis server"), "{why}");
    assert_eq!(server.ask("DBSIZE"), ":0\r\n", "nothing was written");
    let why = why_not(provider(r#"{"url": "http://example.com"}"#, &["wasi", "network:example.com:80"])).await;
    assert!(why.contains("/url"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_plain_and_namespaces_are_apart() {
    let (server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(granted(&server, ""))).await;
    let (kv, dev) = (fixture.plane.kv(), call_in("dev"));
    kv.put(&call(), "greeting", b"hello", Condition::Always, Expiry::Never).await.unwrap();
    assert_eq!(server.ask("GET platform:{default}:v:greeting"), "$5\r\nhello\r\n");
    assert!(kv.get(&dev, "greeting").await.unwrap().is_none());
    assert_eq!(kv.revision(&dev).await.unwrap(), 0);
    let odd = ["a/../b", "*", ">", "x y", "{dev}:v:greeting", "%", "ü"];
    for key in odd {
        kv.put(&dev, key, key.as_bytes(), Condition::Absent, Expiry::Never).await.unwrap();
    }
    let mut found: Vec<String> = kv.scan(&dev, "", None, 100).await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert!(found.is_sorted(), "{found:?}");
    found.sort_by_key(|key| odd.iter().position(|odd| odd == key));
    assert_eq!(found, odd);
    assert_eq!(kv.scan(&call(), "", None, 100).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_hold_and_old_changes_go() {
    let (server, fixture) = (Redis::start().await, Fixture::new());
    let settings = r#", "changes_kept": 3, "quota": {"keys": 3}, "quotas": {"dev": {"bytes": 10}}"#;
    fixture.bind("kv.store", alone(granted(&server, settings))).await;
    let (kv, dev) = (fixture.plane.kv(), call_in("dev"));
    let put = async |key: &str| kv.put(&call(), key, b"1", Condition::Always, Expiry::Never).await;
    for key in ["a", "b", "c", "a", "b"] {
        put(key).await.unwrap();
    }
    assert!(matches!(put("d").await, Err(CallError::Capability(Error::Quota(_)))));
    kv.delete(&call(), "a", Condition::Present).await.unwrap();
    put("d").await.unwrap();
    let used = kv.used(&call()).await.unwrap();
    assert_eq!((used.keys, used.bytes, used.keys_quota), (3, 6, Some(3)));
    let many = kv.put(&dev, "key", b"12345678", Condition::Always, Expiry::Never).await;
    assert!(matches!(many, Err(CallError::Capability(Error::Quota(_)))));
    let mut watch = Box::pin(kv.watch(&call(), "", 1).unwrap());
    let first = futures::StreamExt::next(&mut watch).await.unwrap();
    assert!(matches!(first, Err(CallError::Capability(Error::Compacted(4)))), "{first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_is_said_and_found_again() {
    let (mut server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(granted(&server, ""))).await;
    let kv = fixture.plane.kv();
    let put = async |number: u64| {
        kv.put(&call(), "key", number.to_string().as_bytes(), Condition::Always, Expiry::Never).await
    };
    let mut acknowledged = 0;
    for number in 1..=20 {
        put(number).await.unwrap();
        acknowledged = number;
    }
    server.kill();
    let refused = put(21).await;
    assert!(matches!(&refused, Err(CallError::Capability(Error::Unavailable(_)))), "{refused:?}");
    server.restart().await;
    until("the provider to reach the server again", async || kv.get(&call(), "key").await.is_ok()).await;
    let entry = kv.get(&call(), "key").await.unwrap().unwrap();
    assert_eq!(entry.value, acknowledged.to_string().as_bytes());
    put(22).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_that_come_at_once_are_a_step_each() {
    const TIMES: u64 = 50;
    let (server, fixture) = (Redis::start().await, Fixture::new());
    fixture.bind("kv.store", alone(granted(&server, ""))).await;
    let kv = fixture.plane.kv();
    let scripts = || {
        let told = server.ask("INFO commandstats");
        let calls = told.split("cmdstat_evalsha:calls=").nth(1).unwrap().split(',').next().unwrap();
        calls.parse::<u64>().unwrap()
    };
    // The server knows the script from now on.
    assert_eq!(kv.increment(&call(), "sum", 0).await.unwrap(), 0);
    let before = scripts();
    let many = (0..TIMES).map(|_| async { kv.increment(&call(), "sum", 1).await.unwrap() });
    let mut sums = futures::future::join_all(many).await;
    sums.sort_unstable();
    assert_eq!(sums, (1..=50).collect::<Vec<i64>>(), "each is added once, and each caller is told its own sum");
    assert_eq!(scripts() - before, TIMES, "and none was tried again");
}
