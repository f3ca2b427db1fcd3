//! Slots with the shipped components: calls, swaps under load, going back, failing preparation.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use platform_capability::{
    SlotKind,
    kv::{Condition, Expiry},
};
use platform_dataplane::{CallError, Event, PrepareError};
use platform_testkit::{Fixture, MapFacts, alone, call, call_of, component, plugin, slot};

fn kv_storage() -> platform_dataplane::Plugin {
    plugin(SlotKind::KvStore, "kv-storage", &component("plugins", "kv-storage"), &["storage"])
}

fn scopes(settings: &str) -> platform_dataplane::Plugin {
    let mut scopes = plugin(SlotKind::AuthPolicy, "auth-scopes", &component("plugins", "auth-scopes"), &[]);
    settings.clone_into(&mut scopes.settings);
    scopes
}

#[tokio::test(flavor = "multi_thread")]
async fn kv_answers_and_watches_across_a_swap() {
    let fixture = Fixture::new();
    let kv = fixture.plane.kv();
    assert!(matches!(kv.get(&call(), "a").await, Err(CallError::NotBound(_))));
    fixture.bind("kv.store", alone(kv_storage())).await;
    let mut watch = Box::pin(kv.watch(&call(), "a", 0).unwrap());
    let first = kv.put(&call(), "a", b"1", Condition::Always, Expiry::Never).await.unwrap();
    let Some(Ok(Event::Changes(changes))) = watch.next().await else { panic!("no change") };
    assert_eq!((changes.len(), changes[0].revision), (1, first));
    fixture.bind("kv.store", alone(kv_storage())).await;
    let second = kv.put(&call(), "a", b"2", Condition::At(first), Expiry::Keep).await.unwrap();
    let Some(Ok(Event::Changes(changes))) = watch.next().await else { panic!("no change after the swap") };
    assert_eq!((changes.len(), changes[0].revision), (1, second));
    assert_eq!(kv.get(&call(), "a").await.unwrap().unwrap().value, b"2");
    assert!(matches!(
        kv.put(&call(), "a", b"3", Condition::At(first), Expiry::Keep).await,
        Err(CallError::Capability(platform_capability::kv::Error::Conflict(met))) if met.revision == second
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn swaps_under_load_lose_no_write() {
    let fixture = Arc::new(Fixture::new());
    fixture.bind("kv.store", alone(kv_storage())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (fixture, stop, acknowledged) = (Arc::clone(&fixture), Arc::clone(&stop), Arc::clone(&acknowledged));
            #[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
            tokio::spawn(async move {
                let key = format!("counter-{writer}");
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    written = fixture.plane.kv().increment(&call(), &key, 1).await.unwrap();
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                written
            })
        })
        .collect();
    for _ in 0..50 {
        fixture.bind("kv.store", alone(kv_storage())).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut sum = 0;
    for writer in writers {
        sum += u64::try_from(writer.await.unwrap()).unwrap();
    }
    assert_eq!(sum, acknowledged.load(Ordering::Relaxed));
    assert!(sum > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_denies_and_goes_back() {
    let fixture = Fixture::new();
    let check = |action: &'static str, path: &'static str| {
        let fixture = &fixture;
        async move {
            let facts = Arc::new(MapFacts::default());
            fixture.plane.auth().check(&call_of("alice", &["admin"]), None, action, path, facts).await
        }
    };
    assert_eq!(check("GET", "/x").await.status, 403, "nothing is bound");
    let allow = r#"{"rules":[{"effect":"allow","roles":["admin"],"methods":["GET"],"paths":["/**"]}]}"#;
    fixture.bind("auth.policy", alone(scopes(allow))).await;
    let verdict = check("GET", "/x").await;
    assert!(verdict.allowed, "{verdict:?}");
    assert_eq!(verdict.generation, 1);
    assert!(!check("POST", "/x").await.allowed);
    let deny = r#"{"rules":[{"effect":"deny","paths":["/**"],"reason":"closed"}]}"#;
    fixture.bind("auth.policy", alone(scopes(deny))).await;
    assert!(!check("GET", "/x").await.allowed);
    fixture.plane.rollback(&slot("auth.policy"), None, 3).await.unwrap();
    let verdict = check("GET", "/x").await;
    assert!(verdict.allowed);
    assert_eq!(verdict.generation, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_prepared_leaves_the_slot_alone() {
    let fixture = Fixture::new();
    fixture.bind("kv.store", alone(kv_storage())).await;
    let kv_slot = slot("kv.store");
    let ungranted = plugin(SlotKind::KvStore, "kv-storage", &component("plugins", "kv-storage"), &[]);
    let error = fixture.plane.prepare(&kv_slot, alone(ungranted)).await.unwrap_err();
    assert!(error.to_string().contains("`storage`"), "{error}");
    let other = plugin(SlotKind::KvStore, "auth-scopes", &component("plugins", "auth-scopes"), &[]);
    let error = fixture.plane.prepare(&kv_slot, alone(other)).await.unwrap_err();
    assert!(matches!(error, PrepareError::Link { .. } | PrepareError::Type { .. }), "{error}");
    let error = fixture.plane.prepare(&slot("auth.policy"), alone(scopes(r#"{"rules":7}"#))).await.unwrap_err();
    assert!(matches!(error, PrepareError::Settings { .. }), "{error}");
    let status = fixture.plane.slot_status(&kv_slot).unwrap();
    assert_eq!((status.generation, status.ready), (1, true));
    assert!(fixture.plane.slot_status(&slot("auth.policy")).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_generation_drains_and_gives_its_memory_back() {
    let fixture = Fixture::new();
    fixture.bind("kv.store", alone(kv_storage())).await;
    fixture.bind("kv.store", alone(kv_storage())).await;
    let drained = async {
        while !fixture.plane.slot_status(&slot("kv.store")).unwrap().draining.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), drained).await.unwrap();
    let status = fixture.plane.slot_status(&slot("kv.store")).unwrap();
    assert_eq!(status.kept, [1]);
}
