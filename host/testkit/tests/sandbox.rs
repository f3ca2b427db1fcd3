//! What reaches a guest and what does not: state of earlier calls, imports without a grant, and identities.

use std::{sync::Arc, time::Duration};

use platform_base::clock;
use platform_capability::{Call, CallContext, Caller, SlotKind, auth::Facts};
use platform_dataplane::PrepareError;
use platform_runtime::{Limits, Mode};
use platform_testkit::{Fixture, MapFacts, acts, alone, asks, call, counts, name, plugin, slot, until};
use serde_json::json;

fn facts() -> Arc<dyn Facts> {
    Arc::new(MapFacts::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_decision_starts_clean() {
    let fixture = Fixture::new();
    fixture.bind("auth.policy/good", alone(acts(&json!({})))).await;
    for _ in 0..20 {
        assert_eq!(fixture.ask("good", "count", "", false).await.reason, "1");
    }
    assert_eq!(fixture.instances(), 0, "nothing is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_instance_is_replaced_after_its_calls() {
    let fixture = Fixture::new();
    let mut reused = acts(&json!({}));
    reused.mode = Mode::Reused;
    reused.limits = Limits { calls_per_instance: 5, concurrency: 1, ..Limits::decision() };
    fixture.bind("auth.policy/good", alone(reused)).await;
    let mut counts = Vec::new();
    for _ in 0..60 {
        counts.push(fixture.ask("good", "count", "", false).await.reason.parse::<u32>().unwrap());
    }
    // `configure` and `self-test` are calls too, and an instance for each worker may be warm.
    assert!(counts.iter().all(|count| (1..=5).contains(count)), "{counts:?}");
    assert!(counts.iter().filter(|count| **count == 1).count() >= 60 / 5, "{counts:?}");
    assert!(counts.iter().any(|count| *count > 1), "it is reused: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn imports_without_a_grant_are_refused_by_name() {
    let fixture = Fixture::new();
    let policy = slot("auth.policy");
    for (import, grant) in [
        ("wasi:cli/environment@0.2.0", "`wasi`"),
        ("wasi:filesystem/preopens@0.2.0", "`wasi`"),
        ("wasi:clocks/wall-clock@0.2.0", "`wasi`"),
        ("wasi:sockets/tcp@0.2.0", "`network:HOST:PORT`"),
        ("platform:kv/store@0.1.0", "`kv`"),
        ("platform:storage/table@0.1.0", "`storage`"),
        ("platform:discovery/registry@0.1.0", "`discovery`"),
        ("platform:db/records@0.1.0", "`db`"),
        ("platform:db/store@0.1.0", "does not offer"),
        ("platform:event/topics@0.1.0", "`event`"),
        ("platform:sync/locks@0.1.0", "`sync`"),
        ("platform:router/load@0.1.0", "`router.policy`"),
        ("wasi:tls/types@0.2.0-draft", "`network:HOST:PORT`"),
        ("wasi:http/outgoing-handler@0.2.0", "`network:HOST:PORT`"),
        ("wasi:http/types@0.2.0", "`network:HOST:PORT`"),
        ("platform:marketplace/installer@0.1.0", "`marketplace`"),
        ("wasi:gpu/device@0.2.0", "does not offer"),
        ("somebody:else/thing@1.0.0", "does not offer"),
    ] {
        let text = format!(r#"(component (import "{import}" (instance)))"#);
        let wasm: Arc<[u8]> = wat::parse_str(text).unwrap().into();
        let guest = plugin(SlotKind::AuthPolicy, "imports", &wasm, &[]);
        let error = fixture.plane.prepare(&policy, alone(guest)).await.unwrap_err();
        assert!(matches!(error, PrepareError::Link { .. }), "{import}: {error}");
        assert!(error.to_string().contains(grant) && error.to_string().contains(import), "{error}");
    }
    let mut asks = asks();
    asks.grants.clear();
    let error = fixture.plane.prepare(&policy, alone(asks)).await.unwrap_err();
    assert!(matches!(error, PrepareError::Link { .. }), "{error}");
    for nonsense in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", &[0xff; 1024]] {
        let wasm: Arc<[u8]> = nonsense.into();
        let error = fixture.plane.prepare(&policy, alone(plugin(SlotKind::AuthPolicy, "nonsense", &wasm, &[]))).await;
        assert!(matches!(error, Err(PrepareError::Compile { .. })), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_and_where_comes_from_the_host() {
    let fixture = Fixture::new();
    fixture.bind("auth.policy/good", alone(acts(&json!({})))).await;
    let caller = Caller {
        subject: "svc/checkout".to_owned(),
        roles: ["admin".to_owned(), "dev".to_owned()].into(),
        claims: json!({"team": ["pay"]}).as_object().unwrap().clone(),
    };
    let context = CallContext::new(Some(Arc::new(caller)), &name("payments"), Duration::from_secs(10));
    let check = |call: Call| {
        let auth = fixture.plane.auth();
        async move { auth.check(&call, Some("good"), "who", "", facts()).await.reason }
    };
    let who = check(Arc::new(context)).await;
    assert_eq!(who, r#"svc/checkout|svc/checkout ["admin", "dev"]|payments|["pay"]|true"#);
    assert_eq!(check(call()).await, "|nobody|default||false", "nothing is left of the caller before");
}

/// What a guest is told of its time is its own, also when the caller has more.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_told_the_time_that_it_has() {
    let fixture = Fixture::new();
    let mut store = counts(&json!({}));
    store.limits.deadline_ms = 500;
    fixture.bind("kv.store", alone(store)).await;
    let told = fixture.plane.kv().get(&call(), "!remaining").await.unwrap().unwrap();
    let remaining: u64 = String::from_utf8(told.value).unwrap().parse().unwrap();
    assert!((1..=500).contains(&remaining), "the caller has ten seconds, the store {remaining} ms");
}

/// A policy's question to a store is a call of the policy's caller, in its namespace, within its time.
#[tokio::test(flavor = "multi_thread")]
async fn a_nested_call_is_its_callers() {
    let fixture = Fixture::new();
    fixture.bind("kv.store", alone(counts(&json!({})))).await;
    let mut policy = asks();
    policy.limits.deadline_ms = 500;
    fixture.bind("auth.policy", alone(policy)).await;
    let caller = Caller { subject: "alice".to_owned(), ..Caller::default() };
    let context = CallContext::new(Some(Arc::new(caller)), &name("payments"), Duration::from_secs(10));
    let call: Call = Arc::new(context);
    let check = |key: &'static str| fixture.plane.auth().check(&call, None, "", key, facts());
    assert_eq!(check("!who").await.reason, "alice");
    assert_eq!(check("!namespace").await.reason, "payments");
    let begun = clock::now();
    let verdict = check("!loop").await;
    assert!(!verdict.allowed && clock::now() - begun < Duration::from_secs(5), "{verdict:?}");
    assert_eq!(fixture.status("kv.store").entries[0].faults_in_a_row, 0, "the store had more time than the policy");
    until("the store is free again", async || fixture.plane.kv().get(&call, "a").await.is_ok()).await;
    let remaining: u64 = check("!remaining").await.reason.parse().unwrap();
    assert!(remaining <= 500, "the store is told the time that the policy has, not {remaining} ms");

    let verdict = check("!trap").await;
    assert_eq!((verdict.allowed, verdict.fault), (false, None), "the store's fault is a value to the policy");
    assert!(verdict.reason.contains("Unavailable"), "{verdict:?}");
    assert_eq!(fixture.status("auth.policy").entries[0].faults_in_a_row, 0);
    fixture.plane.unbind(&slot("kv.store")).await.unwrap();
    assert!(check("a").await.reason.contains("Unavailable"));
}

/// What no instance could ever have is refused before anything runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_component_too_large_for_any_instance_is_refused() {
    let fixture = Fixture::new();
    for (core, what) in [("(memory 2048)", "memory"), ("(table 30000 funcref)", "table")] {
        let text = format!("(component (core module $m {core}) (core instance (instantiate $m)))");
        let wasm: Arc<[u8]> = wat::parse_str(text).unwrap().into();
        let guest = plugin(SlotKind::AuthPolicy, "large", &wasm, &[]);
        let error = fixture.plane.prepare(&slot("auth.policy"), alone(guest)).await.unwrap_err();
        assert!(matches!(error, PrepareError::Compile { .. }), "{error}");
        assert!(error.to_string().contains(what) && error.to_string().contains("limit"), "{error}");
    }
    let mut greedy = acts(&json!({}));
    greedy.limits.memory_kib = 1 << 20;
    let error = fixture.plane.prepare(&slot("auth.policy"), alone(greedy)).await.unwrap_err();
    assert!(matches!(error, PrepareError::Limit { .. }) && error.to_string().contains("65536"), "{error}");
    let mut tight = acts(&json!({}));
    tight.limits.memory_kib = 64;
    let error = fixture.plane.prepare(&slot("auth.policy"), alone(tight)).await.unwrap_err();
    assert!(matches!(error, PrepareError::Fault { .. }) && error.to_string().contains("memory"), "{error}");
}
