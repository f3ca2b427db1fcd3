//! Every component that ships keeps the promises of its slot's interface, and the suites tell one that does not.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::Arc;

use platform_capability::SlotKind;
use platform_conformance::{Subject, suite};
use platform_dataplane::Plugin;
use platform_runtime::Mode;
use platform_testkit::{Authority, Fixture, Postgres, Redis, alone, component, counts, name, plugin, weighs};
use serde_json::{Value, json};

fn shipped(kind: SlotKind, name: &str, grants: &[&str], settings: &Value) -> Plugin {
    let folder = if name.contains("rust") || name == "load-balancer" { "examples" } else { "plugins" };
    Plugin { settings: settings.to_string(), ..plugin(kind, name, &component(folder, name), grants) }
}

/// Names of the checks that fail, with what they found.
async fn broken(kind: SlotKind, plugin: Plugin) -> Vec<(&'static str, String)> {
    broken_in(Fixture::new(), kind, plugin).await
}

async fn broken_in(fixture: Fixture, kind: SlotKind, plugin: Plugin) -> Vec<(&'static str, String)> {
    let storage = |kind, name| alone(shipped(kind, name, &["storage"], &json!({})));
    match kind {
        SlotKind::RouterPolicy => {
            fixture.bind("discovery.registry", storage(SlotKind::DiscoveryRegistry, "discovery-storage")).await;
        }
        SlotKind::ConfigValidator | SlotKind::ConfigSource => {
            fixture.bind("config.store", storage(SlotKind::ConfigStore, "config-storage")).await;
        }
        SlotKind::EventFilter => {
            fixture.bind("event.broker", storage(SlotKind::EventBroker, "event-storage")).await;
        }
        _ => {}
    }
    fixture.bind(kind.as_str(), alone(plugin)).await;
    let mut broken = Vec::new();
    for check in suite(kind) {
        // Ours export whatever is optional.
        let exports: Vec<String> = check.optional.map(str::to_owned).into_iter().collect();
        let outcome = check.run(Subject::new(Arc::clone(&fixture.plane), name(check.name)), &exports).await;
        if let Err(failure) = outcome.result {
            broken.push((check.name, failure.to_string()));
        }
    }
    broken
}

async fn keeps_all(kind: SlotKind, plugin: Plugin) {
    let label = plugin.name.to_string();
    assert_eq!(broken(kind, plugin).await, [], "{label}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_storage() {
    keeps_all(SlotKind::KvStore, shipped(SlotKind::KvStore, "kv-storage", &["storage"], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_memory() {
    let memory = shipped(SlotKind::KvStore, "kv-memory", &[], &json!({"max_bytes": 40_000_000}));
    keeps_all(SlotKind::KvStore, Plugin { mode: Mode::Single, ..memory }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_redis() {
    let server = Redis::start().await;
    let address = server.address();
    let grants = ["wasi", &format!("network:{}:{}", address.ip(), address.port())];
    let settings = json!({"url": format!("redis://{address}")});
    keeps_all(SlotKind::KvStore, shipped(SlotKind::KvStore, "kv-redis", &grants, &settings)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_redis_over_tls() {
    let authority = Authority::new();
    let server = Redis::start_secure(authority.sign("IP:127.0.0.1")).await;
    let address = server.secure_address();
    let grants = ["wasi", &format!("network:{}:{}", address.ip(), address.port())];
    let redis = shipped(SlotKind::KvStore, "kv-redis", &grants, &json!({"url": format!("rediss://{address}")}));
    assert_eq!(broken_in(Fixture::trusting(&authority), SlotKind::KvStore, redis).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn db_postgres_over_tls() {
    let authority = Authority::new();
    let server = Postgres::start_secure(&authority.sign("IP:127.0.0.1")).await;
    let address = server.address();
    let grants = ["wasi", &format!("network:{}:{}", address.ip(), address.port())];
    let settings = json!({"url": server.secure_url("verify-full")});
    let postgres = shipped(SlotKind::DbStore, "db-postgres", &grants, &settings);
    assert_eq!(broken_in(Fixture::trusting(&authority), SlotKind::DbStore, postgres).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_storage() {
    let kind = SlotKind::DiscoveryRegistry;
    keeps_all(kind, shipped(kind, "discovery-storage", &["storage"], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn config_storage() {
    let kind = SlotKind::ConfigStore;
    keeps_all(kind, shipped(kind, "config-storage", &["storage"], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_storage() {
    keeps_all(SlotKind::SyncLock, shipped(SlotKind::SyncLock, "sync-storage", &["storage"], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn db_storage() {
    keeps_all(SlotKind::DbStore, shipped(SlotKind::DbStore, "db-storage", &["storage"], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn db_postgres() {
    let server = Postgres::start().await;
    let address = server.address();
    let grants = ["wasi", &format!("network:{}:{}", address.ip(), address.port())];
    keeps_all(SlotKind::DbStore, shipped(SlotKind::DbStore, "db-postgres", &grants, &json!({"url": server.url()})))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_storage() {
    let kind = SlotKind::EventBroker;
    keeps_all(kind, shipped(kind, "event-storage", &["storage"], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_of_events() {
    keeps_all(SlotKind::EventFilter, shipped(SlotKind::EventFilter, "event-filter-rust", &[], &json!({}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages() {
    let kind = SlotKind::WebPage;
    keeps_all(kind, shipped(kind, "web-marketplace", &["marketplace", "wasi"], &json!({}))).await;
    keeps_all(kind, shipped(kind, "web-page-rust", &["wasi"], &json!({"greeting": "Hello"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_auth() {
    let rules = json!({
        "default": "deny",
        "rules": [
            {"name": "admins", "effect": "allow", "roles": ["admin"]},
            {"name": "orders", "effect": "allow", "subjects": ["svc/*"], "methods": ["GET"], "paths": ["/orders/**"]},
        ],
    });
    for (name, settings) in [("auth-scopes", rules), ("auth-policy-rust", json!({"opens": 0, "closes": 24}))] {
        keeps_all(SlotKind::AuthPolicy, shipped(SlotKind::AuthPolicy, name, &[], &settings)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_of_the_router() {
    for (name, settings) in [
        ("router-round-robin", json!({})),
        ("router-least-request", json!({})),
        ("router-ring-hash", json!({})),
        ("load-balancer", json!({"max_failures_permille": 100})),
    ] {
        keeps_all(SlotKind::RouterPolicy, shipped(SlotKind::RouterPolicy, name, &[], &settings)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_of_configurations() {
    let kind = SlotKind::ConfigValidator;
    keeps_all(kind, shipped(kind, "config-validator-rust", &[], &json!({"factor": 2.0, "role": "operator"}))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_only_counts_breaks_what_it_does_not_do() {
    let broken = broken(SlotKind::KvStore, counts(&json!({}))).await;
    let names: Vec<_> = broken.iter().map(|(name, _)| *name).collect();
    let all: Vec<_> = suite(SlotKind::KvStore).iter().map(|check| check.name).collect();
    assert_eq!(names, all, "{broken:#?}");
    let told = |name: &str| broken.iter().find(|(of, _)| *of == name).map(|(_, words)| words.as_str());
    assert_eq!(told("scan"), Some("`commit` failed: Error::Other(\"it only counts\")"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_gives_idle_nodes_weight_is_told() {
    let broken = broken(SlotKind::RouterPolicy, weighs(&json!({"weights": [1, 1, 1]}))).await;
    assert!(broken.iter().any(|(name, _)| *name == "weights"), "{broken:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_sources() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.toml"), "[limits]\nrequests = 5\n").unwrap();
    let directory = folder.path().display().to_string();
    let kind = SlotKind::ConfigSource;
    let files =
        shipped(kind, "config-file", &["wasi", &format!("files:{directory}")], &json!({"directory": directory}));
    keeps_all(kind, files).await;
    let variables = json!({"id": "package", "prefix": "CARGO_PKG_"});
    keeps_all(kind, shipped(kind, "config-env", &["wasi", "env:CARGO_PKG_*"], &variables)).await;
    // One that can't answer keeps no promise.
    let nowhere =
        shipped(kind, "config-http", &["wasi", "network:127.0.0.1:1"], &json!({"url": "http://127.0.0.1:1/"}));
    let found = broken(kind, nowhere).await;
    assert!(matches!(&found[..], [("loads", why), ("steady", _)] if why.contains("http://127.0.0.1:1/")), "{found:?}");
}
