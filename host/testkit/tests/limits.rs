//! Every limit has a guest that trips it here. Each test sees the kind of the fault, its counter, the slot's answer, a
//! neighbour that does not notice, and the guest serving again once it behaves.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test can't set up has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use platform_capability::CallContext;
use platform_dataplane::Plugin;
use platform_runtime::{EngineConfig, Limits, Mode};
use platform_testkit::{Fixture, Latencies, MapFacts, acts, alone, name, until};
use serde_json::json;
use tokio::task::JoinSet;

const BAD: &str = "auth.policy/bad";
/// Deadline of the guest that misbehaves. What a neighbour may notice of it is derived from it.
const DEADLINE_MS: u32 = 400;
/// Callers of the guest that misbehaves.
const CALLERS: u64 = 8;
/// Questions to the neighbour.
const QUESTIONS: usize = 300;

fn bad() -> Plugin {
    let mut bad = acts(&json!({"tag": "bad"}));
    bad.limits = Limits { deadline_ms: DEADLINE_MS, ..Limits::decision() };
    bad
}

async fn beside_a_neighbour(bad: Plugin) -> Arc<Fixture> {
    let fixture = Fixture::new();
    fixture.bind(BAD, alone(bad)).await;
    fixture.bind("auth.policy/good", alone(acts(&json!({"tag": "good"})))).await;
    Arc::new(fixture)
}

/// Keeps the bad guest under the load of [`CALLERS`] while its neighbour is asked. `one_bad_in` tells how many of the
/// requests carry the header that `trap-if` and `loop-if` look for.
async fn hammer(fixture: &Arc<Fixture>, action: &'static str, target: &'static str, one_bad_in: u64) -> Latencies {
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (fixture, stop) = (Arc::clone(fixture), Arc::clone(&stop));
        callers.spawn(async move {
            // Each begins elsewhere, so that the bad requests do not all come at once.
            let mut asked = caller * one_bad_in / CALLERS;
            while !stop.load(Ordering::Relaxed) {
                asked += 1;
                fixture.ask("bad", action, target, asked.is_multiple_of(one_bad_in)).await;
                // A guest that rests answers at once; a caller that never waits would only measure itself.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
    // Asked for here, on a thread that is always free, and answered by a worker, where the bad guest runs too.
    let (mut latencies, mut neighbour) = (Latencies::default(), JoinSet::new());
    for _ in 0..QUESTIONS {
        let asker = Arc::clone(fixture);
        neighbour.spawn(async move { asker.ask("good", "ok", "/", false).await });
        let verdict = latencies.of(neighbour.join_next()).await.unwrap().unwrap();
        assert_eq!(verdict.set_headers, [("tag".to_owned(), "good".to_owned())], "{verdict:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    latencies
}

/// The test of one limit.
async fn trips(action: &'static str, target: &'static str, kind: &'static str) {
    let fixture = beside_a_neighbour(bad()).await;
    let verdict = fixture.ask("bad", action, target, true).await;
    assert_eq!((verdict.allowed, verdict.status, verdict.fault), (false, 503, Some(kind)), "{verdict:?}");
    let mut neighbour = hammer(&fixture, action, target, 1).await;
    let counts = fixture.counts(BAD);
    assert!(counts.faults[kind] > 1, "{counts:?}");
    let others: u64 =
        counts.faults.iter().filter(|(other, _)| ![kind, "resting"].contains(other)).map(|(_, n)| n).sum();
    assert_eq!(others, 0, "{counts:?}");
    assert!(counts.faults["resting"] > 0, "it rests: {counts:?}");
    assert_eq!(fixture.counts("auth.policy/good").faults.values().sum::<u64>(), 0);
    let bound = Duration::from_millis(u64::from(DEADLINE_MS) / 2);
    assert!(neighbour.p99() < bound, "{neighbour:?}");
    until("it serves again", async || fixture.ask("bad", "ok", "/", false).await.allowed).await;
    let status = fixture.status(BAD);
    assert_eq!((status.ready, status.entries[0].faults_in_a_row), (true, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_loops_meets_its_deadline() {
    trips("loop", "", "deadline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_calls_the_host_without_end_meets_its_deadline() {
    trips("call", "", "deadline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_panics_traps() {
    trips("trap", "", "trap").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_hoards_memory_meets_its_cap() {
    trips("hoard", "", "limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_recurses_meets_the_end_of_its_stack() {
    trips("descend", "", "stack").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_the_memory_meets_its_cap() {
    trips("answer", "100000000", "limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_the_transfer_meets_its_cap() {
    trips("answer", "4000000", "limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_beyond_the_transfer_meets_its_cap() {
    trips("ask", "4000000", "limit").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trap_in_a_hundred_costs_that_call_alone() {
    let fixture = beside_a_neighbour(bad()).await;
    hammer(&fixture, "trap-if", "", 100).await;
    let counts = fixture.counts(BAD);
    assert!(counts.faults["trap"] > 0, "{counts:?}");
    assert_eq!(counts.faults["resting"], 0, "accidents are no reason to rest: {counts:?}");
    assert!(fixture.ask("bad", "trap-if", "", false).await.allowed);
}

/// A guest that is reused and imports nothing that waits may run on the caller's own thread: not one that is late now
/// and then.
#[tokio::test(flavor = "multi_thread")]
async fn a_reused_guest_that_loops_now_and_then_leaves_threads_to_others() {
    let mut late = bad();
    late.mode = Mode::Reused;
    let fixture = beside_a_neighbour(late).await;
    let mut neighbour = hammer(&fixture, "loop-if", "", 100).await;
    assert!(fixture.counts(BAD).faults["deadline"] > 0);
    assert!(neighbour.p99() < Duration::from_millis(u64::from(DEADLINE_MS) / 2), "{neighbour:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_was_refused_is_not_blamed_for_a_later_trap() {
    let mut reused = bad();
    reused.mode = Mode::Reused;
    let fixture = beside_a_neighbour(reused).await;
    let grown = fixture.ask("bad", "grow", "100000000", false).await;
    assert_eq!((grown.allowed, grown.reason.as_str()), (true, "refused"), "{grown:?}");
    assert_eq!(fixture.ask("bad", "trap", "", false).await.fault, Some("trap"));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_beyond_the_rate_are_dropped_and_counted() {
    let mut chatty = bad();
    chatty.limits.log_lines_per_second = 10;
    let fixture = beside_a_neighbour(chatty).await;
    assert!(fixture.ask("bad", "log", "1000", false).await.allowed);
    let entry = fixture.plane.slot(&BAD.parse().unwrap()).unwrap().binding().unwrap().entries[0].clone();
    // A second may have begun in between.
    assert!((980..=990).contains(&entry.log_lines_dropped()), "{}", entry.log_lines_dropped());
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_run_out_are_a_fault_of_nobody() {
    let engine = EngineConfig { instances_max: 4, ..EngineConfig::default() };
    let fixture = Arc::new(Fixture::with(&engine, platform_dataplane::PlaneConfig::default()));
    let mut slow = bad();
    slow.limits.deadline_ms = 5_000;
    fixture.bind(BAD, alone(slow)).await;
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let fixture = Arc::clone(&fixture);
        callers.spawn(async move { fixture.ask("bad", "busy", "300", false).await });
    }
    let verdicts = callers.join_all().await;
    let refused = verdicts.iter().filter(|verdict| verdict.fault == Some("instantiate")).count();
    let allowed = verdicts.iter().filter(|verdict| verdict.allowed).count();
    assert!(refused > 0 && allowed >= 4 && refused + allowed == 10, "{verdicts:?}");
    assert_eq!(fixture.counts(BAD).faults["instantiate"], refused as u64);
    assert_eq!(fixture.status(BAD).entries[0].faults_in_a_row, 0);
    assert!(fixture.ask("bad", "ok", "", false).await.allowed);
}

/// A caller in a hurry is not the guest's fault: three of them must not put it to rest for everyone.
#[tokio::test(flavor = "multi_thread")]
async fn deadlines_that_callers_set_are_not_blamed_on_the_guest() {
    let mut patient = bad();
    patient.limits.deadline_ms = 5_000;
    let fixture = beside_a_neighbour(patient).await;
    for _ in 0..6 {
        let hasty = CallContext::new(None, &name("default"), Duration::from_millis(20));
        let facts = Arc::new(MapFacts::default());
        let verdict = fixture.plane.auth().check(&Arc::new(hasty), Some("bad"), "loop", "", facts).await;
        assert!(!verdict.allowed && ["expired", "waited"].contains(&verdict.fault.unwrap()), "{verdict:?}");
    }
    assert_eq!(fixture.status(BAD).entries[0].faults_in_a_row, 0);
    assert!(fixture.ask("bad", "ok", "", false).await.allowed);
}
