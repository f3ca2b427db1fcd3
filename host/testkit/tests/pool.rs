//! Turns and instances: bounded queues, calls that wait too long, and callers who stop waiting.

use std::{sync::Arc, time::Duration};

use platform_base::clock;
use platform_capability::CallContext;
use platform_dataplane::CallError;
use platform_runtime::Fault;
use platform_testkit::{Fixture, alone, call, counts, name, until, waits};
use serde_json::json;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_waits_in_storage_meets_its_deadline() {
    let fixture = Fixture::new();
    let mut slow = waits();
    slow.limits.deadline_ms = 200;
    fixture.bind("kv.store", alone(slow)).await;
    let begun = clock::now();
    let error = fixture.plane.kv().get(&call(), "8000").await.unwrap_err();
    assert!(matches!(error, CallError::Fault { fault: Fault::Deadline(_), .. }), "{error}");
    assert!(clock::now() - begun < Duration::from_secs(4), "well before the wait it asked for");
    assert_eq!(fixture.counts("kv.store").faults["deadline"], 1);
    until("it serves again", async || fixture.plane.kv().get(&call(), "1").await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_is_bounded_and_refuses_at_once() {
    let fixture = Arc::new(Fixture::new());
    let mut one = counts(&json!({}));
    one.limits.queue = 2;
    fixture.bind("kv.store", alone(one)).await;
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let fixture = Arc::clone(&fixture);
        callers.spawn(async move { fixture.plane.kv().get(&call(), "!busy:500").await.map(drop) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = callers.join_next().await {
        answers.push(answer.unwrap());
    }
    let (refused, served) = answers.split_at(5);
    for refusal in refused {
        let Err(CallError::Fault { fault, .. }) = refusal else { panic!("refusals come first: {answers:?}") };
        assert!(matches!(fault, Fault::Busy { running: 1, queued: 2 }), "{fault:?}");
    }
    assert!(served.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(fixture.counts("kv.store").faults["busy"], 5);

    let short = Arc::new(CallContext::new(None, &name("default"), Duration::from_millis(50)));
    let holder = Arc::clone(&fixture);
    callers.spawn(async move { holder.plane.kv().get(&call(), "!busy:500").await.map(drop) });
    until("it is in the guest", async || {
        let asked = fixture.plane.kv().get(&short, "a").await;
        matches!(asked, Err(CallError::Fault { fault: Fault::Waited, .. }))
    })
    .await;
    assert_eq!(fixture.status("kv.store").entries[0].faults_in_a_row, 0, "waiting is not the guest's fault");
    assert!(callers.join_next().await.unwrap().unwrap().is_ok());
}

/// Callers who stop waiting, in the queue or in the guest, leave nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_go_away_leave_the_pool_healthy() {
    let fixture = Fixture::new();
    let mut few = waits();
    few.limits.concurrency = 4;
    fixture.bind("kv.store", alone(few)).await;
    for round in 0..40_u64 {
        let mut callers = JoinSet::new();
        let plane = &fixture.plane;
        for _ in 0..10 {
            let plane = Arc::clone(plane);
            callers.spawn(async move { plane.kv().get(&call(), "5000").await.map(drop) });
        }
        tokio::time::sleep(Duration::from_millis(round % 7)).await;
        callers.shutdown().await;
    }
    let status = fixture.status("kv.store");
    assert_eq!((status.entries[0].faults_in_a_row, status.ready), (0, true));
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let plane = Arc::clone(&fixture.plane);
        callers.spawn(async move { plane.kv().get(&call(), "200").await.map(drop) });
    }
    assert!(callers.join_all().await.iter().all(Result::is_ok), "all turns are back");
    let warm = fixture.instances();
    assert!(warm <= 5, "{warm} instances are left");
}
