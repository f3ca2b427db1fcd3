//! What a swap promises: one generation for each call, state that moves with every acknowledged write, and nothing left
//! behind by a swap that fails.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_capability::{
    SlotKind,
    kv::{Condition, Expiry},
};
use platform_dataplane::{BindError, BindingSpec, FailureMode, PlaneConfig, Plugin, PrepareError};
use platform_runtime::{EngineConfig, Fault, Mode};
use platform_testkit::{Fixture, acts, alone, call, component, counts, plugin, slot, until};
use serde_json::json;
use tokio::task::JoinSet;

const KV: &str = "kv.store";

fn kv_memory() -> Plugin {
    let mut memory = plugin(SlotKind::KvStore, "kv-memory", &component("plugins", "kv-memory"), &[]);
    memory.mode = Mode::Single;
    memory
}

async fn value(fixture: &Fixture, key: &str) -> Option<String> {
    let entry = fixture.plane.kv().get(&call(), key).await.unwrap();
    entry.map(|entry| String::from_utf8(entry.value).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_keeps_every_acknowledged_write() {
    let fixture = Arc::new(Fixture::new());
    fixture.bind(KV, alone(kv_memory())).await;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..6 {
        let (fixture, stop, acknowledged) = (Arc::clone(&fixture), Arc::clone(&stop), Arc::clone(&acknowledged));
        writers.spawn(async move {
            let (own, mut written) = (format!("writer-{writer}"), 0);
            while !stop.load(Ordering::Relaxed) {
                fixture.plane.kv().increment(&call(), "shared", 1).await.unwrap();
                acknowledged.fetch_add(1, Ordering::Relaxed);
                written += 1;
                let (text, put) = (written.to_string(), call());
                let kv = fixture.plane.kv();
                kv.put(&put, &own, text.as_bytes(), Condition::Always, Expiry::Never).await.unwrap();
                assert_eq!(value(&fixture, &own).await, Some(text), "a write is read after it returned");
            }
        });
    }
    for _ in 0..30 {
        fixture.bind(KV, alone(kv_memory())).await;
    }
    stop.store(true, Ordering::Relaxed);
    writers.join_all().await;
    let sum = acknowledged.load(Ordering::Relaxed);
    assert!(sum > 0);
    assert_eq!(value(&fixture, "shared").await, Some(sum.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn going_back_takes_the_state_along() {
    let fixture = Fixture::new();
    fixture.bind(KV, alone(counts(&json!({"tag": "one"})))).await;
    fixture.plane.kv().increment(&call(), "a", 1).await.unwrap();
    fixture.bind(KV, alone(counts(&json!({"tag": "two"})))).await;
    fixture.plane.kv().increment(&call(), "a", 1).await.unwrap();
    assert_eq!(value(&fixture, "!tag").await.as_deref(), Some("two"));
    let swapped = fixture.plane.rollback(&slot(KV), None, 3).await.unwrap();
    assert_eq!((swapped.generation, swapped.previous), (3, Some(2)));
    assert_eq!(value(&fixture, "!tag").await.as_deref(), Some("one"));
    assert_eq!(value(&fixture, "a").await.as_deref(), Some("2"), "written under both generations");
}

/// Binds a healthy store, tries `settings` in its place, and looks for traces. What the attempt came to.
async fn fails_without_a_trace(settings: serde_json::Value) -> PrepareError {
    let fixture = Fixture::new();
    fixture.bind(KV, alone(counts(&json!({})))).await;
    fixture.plane.kv().increment(&call(), "a", 7).await.unwrap();
    let calls = value(&fixture, "!calls").await.unwrap().parse::<u64>().unwrap();
    let (before, instances) = (fixture.status(KV), fixture.instances());
    assert_eq!(instances, 1);
    let mut next = counts(&settings);
    next.limits.deadline_ms = 300;
    let error = fixture.plane.prepare(&slot(KV), alone(next)).await.unwrap_err();
    let after = fixture.status(KV);
    assert_eq!((after.generation, after.kept, after.draining), (before.generation, before.kept, Vec::new()));
    assert_eq!(fixture.instances(), instances, "the memory of the attempt is given back");
    assert_eq!(value(&fixture, "a").await.as_deref(), Some("7"));
    assert_eq!(value(&fixture, "!calls").await, Some((calls + 2).to_string()), "the same instance serves on");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_its_self_test_leaves_no_trace() {
    let error = fails_without_a_trace(json!({"self_test": "refuses"})).await;
    assert!(matches!(&error, PrepareError::SelfTest { .. }), "{error}");
    assert!(error.to_string().contains("refused as the settings ask"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_hangs_in_its_self_test_leaves_no_trace() {
    let error = fails_without_a_trace(json!({"self_test": "loops"})).await;
    assert!(matches!(error, PrepareError::Fault { fault: Fault::Deadline(_), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_hangs_in_configure_leaves_no_trace() {
    let error = fails_without_a_trace(json!({"configure": "loops"})).await;
    assert!(matches!(error, PrepareError::Fault { fault: Fault::Deadline(_), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_traps_in_configure_leaves_no_trace() {
    let error = fails_without_a_trace(json!({"configure": "traps"})).await;
    assert!(matches!(error, PrepareError::Fault { fault: Fault::Trap { .. }, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_refuses_its_settings_leaves_no_trace() {
    let error = fails_without_a_trace(json!({"configure": "refuses"})).await;
    let PrepareError::Settings { problem, .. } = &error else { panic!("{error}") };
    assert_eq!(problem.at.as_deref(), Some("/ill"));
    assert!(error.to_string().contains("`/ill`"), "{error}");
}

/// The same for decisions, whose settings are read on the way to a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_can_not_be_prepared_leaves_no_trace() {
    let fixture = Fixture::new();
    fixture.bind("auth.policy/good", alone(acts(&json!({"tag": "one"})))).await;
    for ill in ["loops", "traps", "refuses"] {
        for stage in ["configure", "self_test"] {
            let error = fixture.plane.prepare(&slot("auth.policy/good"), alone(acts(&json!({stage: ill})))).await;
            let error = error.unwrap_err();
            let fits = match (ill, stage) {
                ("loops", _) => matches!(&error, PrepareError::Fault { fault: Fault::Deadline(_), .. }),
                ("traps", _) => matches!(&error, PrepareError::Fault { fault: Fault::Trap { .. }, .. }),
                (_, "configure") => matches!(&error, PrepareError::Settings { .. }),
                _ => matches!(&error, PrepareError::SelfTest { .. }),
            };
            assert!(fits, "{ill} in {stage}: {error}");
            assert_eq!(fixture.instances(), 0, "{ill} in {stage}");
        }
    }
    assert_eq!(fixture.ask("good", "ok", "", false).await.generation, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handover_that_fails_leaves_the_old_generation_its_state() {
    for (old, new, why) in [
        (json!({"save": "refuses"}), json!({}), "could not save"),
        (json!({}), json!({"load": "refuses"}), "could not load"),
        (json!({}), json!({"load": "traps"}), "could not load"),
        (json!({}), json!({"load": "loops"}), "could not load"),
    ] {
        let fixture = Fixture::new();
        fixture.bind(KV, alone(counts(&old))).await;
        fixture.plane.kv().increment(&call(), "a", 7).await.unwrap();
        let mut next = counts(&new);
        next.limits.deadline_ms = 300;
        let prepared = fixture.plane.prepare(&slot(KV), alone(next)).await.unwrap();
        let error = fixture.plane.bind(&slot(KV), prepared, 2).await.unwrap_err();
        assert!(matches!(error, BindError::Handover { .. }) && error.to_string().contains(why), "{error}");
        assert_eq!(fixture.status(KV).generation, 1);
        assert_eq!(value(&fixture, "a").await.as_deref(), Some("7"), "{error}");
        assert_eq!(fixture.instances(), 1, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_nobody_waits_for_any_more_keeps_the_state() {
    let fixture = Fixture::new();
    fixture.bind(KV, alone(counts(&json!({})))).await;
    fixture.plane.kv().increment(&call(), "a", 7).await.unwrap();
    let kv_slot = slot(KV);
    let prepared = fixture.plane.prepare(&kv_slot, alone(counts(&json!({"load_ms": 300})))).await.unwrap();
    let abandoned = tokio::time::timeout(Duration::from_millis(100), fixture.plane.bind(&kv_slot, prepared, 2)).await;
    assert!(abandoned.is_err(), "it was given up half way");
    assert_eq!(value(&fixture, "a").await.as_deref(), Some("7"));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_end_are_not_waited_for_beyond_the_drain_deadline() {
    let config = PlaneConfig { drain_ms_max: 100, ..PlaneConfig::default() };
    let fixture = Arc::new(Fixture::with(&EngineConfig::default(), config));
    let mut slow = acts(&json!({"tag": "one"}));
    slow.limits.deadline_ms = 20_000;
    fixture.bind("auth.policy/good", alone(slow.clone())).await;
    let mut running = JoinSet::new();
    let asker = Arc::clone(&fixture);
    running.spawn(async move { asker.ask("good", "busy", "3000", false).await });
    until("it runs", async || fixture.instances() == 1).await;
    fixture.bind("auth.policy/good", alone(slow)).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(fixture.instances(), 1, "the call still runs");
    assert_eq!(fixture.status("auth.policy/good").draining, [1], "and nobody is told otherwise");
    let verdict = running.join_next().await.unwrap().unwrap();
    assert_eq!((verdict.allowed, verdict.generation), (true, 1), "and ends on the generation that it saw");
    until("its memory is given back", async || fixture.instances() == 0).await;
    until("it is over", async || fixture.status("auth.policy/good").draining.is_empty()).await;
}

/// Only generations that have calls drain, also those of calls that wait for their turn, and of a slot that was unbound.
#[tokio::test(flavor = "multi_thread")]
async fn what_drains_is_told_exactly() {
    const POLICY: &str = "auth.policy/good";
    let fixture = Arc::new(Fixture::new());
    let mut slow = acts(&json!({"tag": "one"}));
    (slow.limits.deadline_ms, slow.limits.concurrency) = (20_000, 1);
    fixture.bind(POLICY, alone(slow.clone())).await;
    let mut running = JoinSet::new();
    let ask = |action: &'static str| {
        let asker = Arc::clone(&fixture);
        async move { asker.ask("good", action, "3000", false).await.generation }
    };
    running.spawn(ask("busy"));
    until("it runs", async || fixture.instances() == 1).await;
    fixture.bind(POLICY, alone(slow.clone())).await;
    fixture.bind(POLICY, alone(slow.clone())).await;
    until("nothing ran on the second", async || fixture.status(POLICY).draining == [1]).await;
    assert_eq!(fixture.status(POLICY).kept, [2, 1]);
    assert_eq!(running.join_next().await.unwrap().unwrap(), 1);
    until("it is over", async || fixture.status(POLICY).draining.is_empty()).await;

    let prepared = fixture.plane.prepare(&slot(POLICY), alone(slow)).await.unwrap();
    running.spawn(ask("busy"));
    until("it runs", async || fixture.instances() == 1).await;
    running.spawn(ask("ok"));
    fixture.plane.unbind(&slot(POLICY)).await.unwrap();
    fixture.plane.bind(&slot(POLICY), prepared, 4).await.unwrap();
    assert_eq!(fixture.status(POLICY).draining, [3]);
    let generations = running.join_all().await;
    assert!(generations.contains(&3), "{generations:?}");
    until("all are over", async || fixture.status(POLICY).draining.is_empty()).await;
    assert_eq!(fixture.instances(), 0);
}

/// A generation that is asked because its successor faults answers at once, whatever it still drains.
#[tokio::test(flavor = "multi_thread")]
async fn a_draining_generation_keeps_answering() {
    let fixture = Arc::new(Fixture::new());
    let mut before = acts(&json!({"tag": "before"}));
    before.limits.deadline_ms = 20_000;
    fixture.bind("auth.policy/good", alone(before)).await;
    let mut running = JoinSet::new();
    let asker = Arc::clone(&fixture);
    running.spawn(async move { asker.ask("good", "busy", "5000", false).await });
    until("it runs", async || fixture.instances() == 1).await;
    let mut hasty = acts(&json!({"tag": "after"}));
    hasty.limits.deadline_ms = 20;
    fixture.bind("auth.policy/good", BindingSpec { failure: FailureMode::LastGood, ..alone(hasty) }).await;
    let verdict = tokio::select! {
        verdict = fixture.ask("good", "busy", "40", false) => verdict,
        _ = running.join_next() => panic!("it waited for the call that drains"),
    };
    assert_eq!((verdict.allowed, verdict.generation), (true, 1), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_only_grow_and_only_so_many_are_kept() {
    let fixture = Fixture::new();
    let policy = slot("auth.policy/good");
    for tag in ["1", "2", "3", "4", "5"] {
        fixture.bind("auth.policy/good", alone(acts(&json!({"tag": tag})))).await;
    }
    assert_eq!(fixture.status("auth.policy/good").kept, [4, 3, 2]);
    let prepared = fixture.plane.prepare(&policy, alone(acts(&json!({})))).await.unwrap();
    let error = fixture.plane.bind(&policy, prepared, 5).await.unwrap_err();
    assert!(matches!(error, BindError::Generation { given: 5, current: 5, .. }), "{error}");
    let error = fixture.plane.rollback(&policy, Some(1), 6).await.unwrap_err();
    assert!(matches!(&error, BindError::NotKept { kept, .. } if *kept == [4, 3, 2]), "{error}");
    let error = fixture.plane.rollback(&policy, Some(3), 5).await.unwrap_err();
    assert!(matches!(error, BindError::Generation { .. }), "{error}");
    assert_eq!(fixture.status("auth.policy/good").kept, [4, 3, 2], "in order, also after an attempt");
    fixture.plane.rollback(&policy, Some(3), 6).await.unwrap();
    let verdict = fixture.ask("good", "ok", "", false).await;
    assert_eq!((verdict.generation, verdict.set_headers[0].1.as_str()), (6, "3"));
    assert_eq!(fixture.status("auth.policy/good").kept, [5, 4, 2]);
}
