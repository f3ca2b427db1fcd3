//! Every call sees exactly one generation, whatever is bound meanwhile, and a chain of policies has one meaning.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use platform_dataplane::{BindingSpec, CallError, FailureMode, Plugin};
use platform_testkit::{Fixture, acts, alone, call, counts, name, slot, until};
use serde_json::json;
use tokio::task::JoinSet;

const POLICY: &str = "auth.policy/good";

fn tagged(tag: &str) -> Plugin {
    let mut acts = acts(&json!({"tag": tag}));
    acts.name = name(&format!("auth-{tag}"));
    acts
}

fn chain(tags: &[&str]) -> BindingSpec {
    let plugins = tags.iter().map(|tag| tagged(tag)).collect();
    BindingSpec { plugins, failure: FailureMode::Closed, fallback: None }
}

fn tags(verdict: &platform_dataplane::Verdict) -> Vec<&str> {
    verdict.set_headers.iter().map(|(_, tag)| tag.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_during_two_hundred_swaps_never_mix_generations() {
    let fixture = Arc::new(Fixture::new());
    fixture.bind(POLICY, chain(&["odd", "odd-too", "odd-last"])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let latest = Arc::new(AtomicU64::new(1));
    let mut askers = JoinSet::new();
    for _ in 0..4 {
        let (fixture, stop, latest) = (Arc::clone(&fixture), Arc::clone(&stop), Arc::clone(&latest));
        askers.spawn(async move {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let verdict = fixture.ask("good", "ok", "/", false).await;
                let expected: &[&str] =
                    if verdict.generation % 2 == 1 { &["odd", "odd-too", "odd-last"] } else { &["even", "even-too"] };
                assert_eq!(tags(&verdict), expected, "{verdict:?}");
                assert!(verdict.generation >= last, "one asker never goes back");
                last = verdict.generation;
                latest.fetch_max(last, Ordering::Relaxed);
            }
        });
    }
    let policy = slot(POLICY);
    let odd = fixture.plane.prepare(&policy, chain(&["odd", "odd-too", "odd-last"])).await.unwrap();
    let even = fixture.plane.prepare(&policy, chain(&["even", "even-too"])).await.unwrap();
    fixture.plane.bind(&policy, even, 2).await.unwrap();
    fixture.plane.bind(&policy, odd, 3).await.unwrap();
    for generation in 4..=201 {
        // The generation before the current one has the other parity.
        fixture.plane.rollback(&policy, None, generation).await.unwrap();
        until("the load meets it", async || latest.load(Ordering::Relaxed) == generation).await;
    }
    stop.store(true, Ordering::Relaxed);
    askers.join_all().await;
    assert_eq!(fixture.status(POLICY).generation, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_adds_up_until_one_denies() {
    let fixture = Fixture::new();
    fixture.bind(POLICY, chain(&["a", "b", "c"])).await;
    let verdict = fixture.ask("good", "ok", "/", false).await;
    assert_eq!((verdict.allowed, tags(&verdict)), (true, vec!["a", "b", "c"]));
    assert_eq!(verdict.decided_by.as_deref(), Some("auth-a@0.1.0"), "the first that allows");

    let verdict = fixture.ask("good", "deny-if", "b", false).await;
    assert_eq!((verdict.allowed, verdict.status, verdict.reason.as_str()), (false, 401, "b"));
    assert_eq!(verdict.decided_by.as_deref(), Some("auth-b@0.1.0"));
    assert!(verdict.set_headers.is_empty(), "what was allowed before does not reach a request that is denied");
    let calls: Vec<u64> = fixture.status(POLICY).entries.iter().map(|entry| entry.counts.calls).collect();
    assert_eq!(calls, [2, 2, 1], "nobody is asked after a denial");

    let verdict = fixture.ask("good", "abstain", "/", false).await;
    assert_eq!((verdict.allowed, verdict.status, verdict.decided_by), (false, 401, None), "nobody allows");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_find_the_plain_slot_or_the_qualified_one_and_never_nothing() {
    let fixture = Arc::new(Fixture::new());
    fixture.bind("kv.store", alone(counts(&json!({"tag": "plain"})))).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut askers = JoinSet::new();
    for _ in 0..3 {
        let (fixture, stop) = (Arc::clone(&fixture), Arc::clone(&stop));
        askers.spawn(async move {
            let mut answers = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                match fixture.plane.kv().get(&call(), "!tag").await {
                    Ok(_) => answers += 1,
                    Err(CallError::NotBound(slot)) => return Err(format!("{slot} after {answers} answers")),
                    Err(error) => return Err(error.to_string()),
                }
            }
            Ok(answers)
        });
    }
    let qualified = slot("kv.store/default");
    for _ in 0..600 {
        let prepared = fixture.plane.prepare(&qualified, alone(counts(&json!({"tag": "own"})))).await.unwrap();
        fixture.plane.bind(&qualified, prepared, 1).await.unwrap();
        fixture.plane.unbind(&qualified).await.unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    let answers: Result<Vec<u64>, String> = askers.join_all().await.into_iter().collect();
    assert!(answers.unwrap().iter().sum::<u64>() > 0);
}

/// Binding and unbinding at once come one after the other, also where the slot goes away in between.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_bound_while_the_slot_is_unbound_is_found() {
    let fixture = Fixture::new();
    let own = slot("kv.store/own");
    let slow = json!({"load_ms": 300});
    let mut prepared = Vec::new();
    for settings in [json!({}), slow, json!({})] {
        prepared.push(fixture.plane.prepare(&own, alone(counts(&settings))).await.unwrap());
    }
    let mut changes = JoinSet::new();
    for (generation, prepared) in (1..).zip(prepared) {
        if generation == 3 {
            let (plane, own) = (Arc::clone(&fixture.plane), own.clone());
            changes.spawn(async move { plane.unbind(&own).await.map(|()| 0) });
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (plane, own) = (Arc::clone(&fixture.plane), own.clone());
        changes.spawn(async move { plane.bind(&own, prepared, generation).await.map(|swapped| swapped.generation) });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let done: Result<Vec<u64>, _> = changes.join_all().await.into_iter().collect();
    assert_eq!(done.unwrap().len(), 4);
    assert_eq!(fixture.status("kv.store/own").generation, 3);
}
