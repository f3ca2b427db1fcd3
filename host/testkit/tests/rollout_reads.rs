//! Rollouts of providers with real components: what only reads is tried, and nothing is written twice.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{sync::Arc, time::Duration};

use platform_capability::{
    SlotKind,
    kv::{Condition, Entry, Expiry},
};
use platform_dataplane::{BindingSpec, By, Plan, Rollout, RolloutStatus, StopLimits, Trial};
use platform_testkit::{Fixture, alone, call_of, component, plugin, slot, until};
use serde_json::{Value, json};

const STORE: &str = "kv.store";
const KEYS: u64 = 100;

fn storage() -> BindingSpec {
    alone(plugin(SlotKind::KvStore, "kv-storage", &component("plugins", "kv-storage"), &["storage"]))
}

/// A candidate that reads what `kv-storage` keeps, in its way.
fn strays(way: &Value) -> BindingSpec {
    let mut strays = plugin(SlotKind::KvStore, "kv-strays", &component("testkit", "kv-strays"), &["storage"]);
    strays.settings = json!({"way": way}).to_string();
    alone(strays)
}

fn canary(percent: u32) -> Plan {
    Plan { trial: Trial::Canary { percent, by: By::Caller }, stop: StopLimits::default() }
}

fn shadow() -> Plan {
    Plan { trial: Trial::Shadow, stop: StopLimits::default() }
}

/// A store that holds the number of each key, and what is tried beside it.
async fn begin(way: &Value, plan: Plan) -> (Fixture, Arc<Rollout>) {
    let fixture = Fixture::new();
    fixture.bind(STORE, storage()).await;
    for key in 0..KEYS {
        put(&fixture, key).await;
    }
    let prepared = fixture.plane.prepare(&slot(STORE), strays(way)).await.unwrap();
    let rollout = fixture.plane.begin_rollout(&slot(STORE), prepared, 2, plan).await.unwrap();
    (fixture, rollout)
}

async fn put(fixture: &Fixture, key: u64) {
    let key = key.to_string();
    let call = call_of("writer", &[]);
    fixture.plane.kv().put(&call, &key, key.as_bytes(), Condition::Always, Expiry::Never).await.unwrap();
}

async fn get(fixture: &Fixture, user: u64, key: u64) -> Entry {
    let call = call_of(&format!("user-{user}"), &[]);
    fixture.plane.kv().get(&call, &key.to_string()).await.unwrap().unwrap()
}

fn tried(fixture: &Fixture) -> RolloutStatus {
    fixture.status(STORE).rollout.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_answers_reads_and_never_writes() {
    let (fixture, _rollout) = begin(&json!("well"), canary(40)).await;
    for key in 0..KEYS {
        assert_eq!(get(&fixture, key, key).await.value, key.to_string().into_bytes());
        // The candidate traps at every write, so each of these was the store's that serves.
        put(&fixture, key).await;
    }
    let call = call_of("user-1", &[]);
    assert_eq!(fixture.plane.kv().scan(&call, "", None, 1000).await.unwrap().len() as u64, KEYS);
    assert_eq!(fixture.plane.kv().get_many(&call, &["1", "none"]).await.unwrap().len(), 2);
    assert!(fixture.plane.kv().revision(&call).await.unwrap() >= 2 * KEYS);
    let status = tried(&fixture);
    assert!(status.candidate.calls.abs_diff(40) < 20, "{} of 100 callers", status.candidate.calls);
    assert_eq!(status.candidate.faults.values().sum::<u64>(), 0);
    assert_eq!(status.candidate.calls + status.current.calls, KEYS + 2, "each read was answered by one of both");
    fixture.plane.promote(&slot(STORE), 2).await.unwrap();
    assert_eq!(get(&fixture, 1, 7).await.value, b"7");
    assert_eq!(fixture.status(STORE).generation, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_candidate_wants_to_write_is_refused() {
    for plan in [canary(100), shadow()] {
        let (fixture, _rollout) = begin(&json!("writes"), plan).await;
        let call = call_of("ada", &[]);
        let revision = fixture.plane.kv().revision(&call).await.unwrap();
        assert_eq!(get(&fixture, 1, 3).await.value, b"3", "what serves answers");
        until("the candidate to be asked", async || tried(&fixture).candidate.calls == 1).await;
        let status = tried(&fixture);
        assert_eq!((status.candidate.faults["unable"], status.compared.diverged), (1, 0), "{status:?}");
        assert_eq!(fixture.plane.kv().revision(&call).await.unwrap(), revision, "nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_fails_is_stopped_and_fails_nobody() {
    for way in [json!("traps"), json!("unable")] {
        let (fixture, rollout) = begin(&way, canary(60)).await;
        let stopped = rollout.stopped();
        drop(rollout);
        let asking = async {
            for user in 0.. {
                let key = user % KEYS;
                assert_eq!(get(&fixture, user / KEYS, key).await.value, key.to_string().into_bytes());
            }
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(Duration::from_secs(30), stopped) => ended.unwrap().unwrap(),
            () = asking => return,
        };
        assert!(ended.why.contains("calls failed"), "{}", ended.why);
        let kind = if way == "traps" { "trap" } else { "unable" };
        assert!(ended.status.candidate.faults[kind] > 0, "{:?}", ended.status.candidate.faults);
        assert_eq!(ended.status.current.faults.values().sum::<u64>(), 0);
        assert_eq!((fixture.status(STORE).generation, fixture.status(STORE).rollout.is_none()), (1, true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_tells_exactly_what_differs_while_it_changes() {
    let (fixture, _rollout) = begin(&json!("differs"), shadow()).await;
    for key in 0..KEYS {
        assert_eq!(
            get(&fixture, key, key).await.value,
            key.to_string().into_bytes(),
            "the answer of what serves is used"
        );
        // What was read changes before the candidate is asked: that is no difference.
        put(&fixture, key).await;
    }
    until("all to be compared", async || tried(&fixture).compared.answers == KEYS).await;
    let status = tried(&fixture);
    assert_eq!((status.compared.diverged, status.compared.dropped), (KEYS / 20, 0), "{:?}", status.divergences);
    for divergence in &status.divergences {
        let key: u64 = divergence.resource.parse().unwrap();
        assert!(key.is_multiple_of(20) && divergence.action == "get" && divergence.subject == format!("user-{key}"));
        assert!(!divergence.candidate.contains("astray"), "values are not shown: {divergence:?}");
    }
}
