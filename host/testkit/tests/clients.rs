//! Plugins that use other capabilities: what they get under their grants, and what they are refused.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::sync::Arc;

use platform_base::clock;
use platform_capability::{
    Call, CallContext, SlotKind,
    event::{Start, SubscriptionSettings, TopicSettings},
    sync::{Mode, Want},
};
use platform_dataplane::{Keep, Place, Plan, Plugin, PrepareError, StopLimits, Taken, Trial, Verdict};
use platform_testkit::{
    Fixture, MapFacts, acts, alone, call_in, call_of, component, locks, plugin, publishes, records, slot, until,
};
use serde_json::json;

const POLICY: &str = "auth.policy";

/// A component that is shipped, with the storage that it asks for.
fn shipped(kind: SlotKind, name: &str) -> Plugin {
    plugin(kind, name, &component("plugins", name), &["storage"])
}

/// What the policy is asked, and its answer in words.
async fn ask(fixture: &Fixture, call: &Call, action: &str, target: &str) -> (bool, String) {
    let facts = Arc::new(MapFacts::default());
    let Verdict { allowed, reason, .. } = fixture.plane.auth().check(call, None, action, target, facts).await;
    (allowed, reason)
}

async fn allowed(fixture: &Fixture, call: &Call, action: &str, target: &str) -> String {
    let (allowed, reason) = ask(fixture, call, action, target).await;
    assert!(allowed, "{action} {target}: {reason}");
    reason
}

async fn denied(fixture: &Fixture, call: &Call, action: &str, target: &str) -> String {
    let (allowed, reason) = ask(fixture, call, action, target).await;
    assert!(!allowed, "{action} {target}: {reason}");
    reason
}

/// The same call, which may only read.
fn reading(call: &Call) -> Call {
    Arc::new(CallContext { reads_only: true, ..CallContext::clone(call) })
}

/// Without its grant the plugin is refused by the name of what it lacks.
async fn needs_its_grant(fixture: &Fixture, mut plugin: Plugin, import: &str) {
    let grant = plugin.grants.pop_first().unwrap().to_string();
    let error = fixture.plane.prepare(&slot(POLICY), alone(plugin)).await.unwrap_err();
    assert!(matches!(error, PrepareError::Link { .. }), "{error}");
    assert!(error.to_string().contains(import) && error.to_string().contains(&format!("`{grant}`")), "{error}");
}

/// Tries the plugin as a shadow beside a policy that allows everything, asks once, and waits until the shadow has been compared.
async fn shadowed(fixture: &Fixture, candidate: Plugin, action: &str, target: &str) {
    fixture.bind(POLICY, alone(acts(&json!({"tag": "serves"})))).await;
    let generation = fixture.status(POLICY).generation + 1;
    let plan =
        Plan { trial: Trial::Shadow, stop: StopLimits { divergence_percent_max: None, ..StopLimits::default() } };
    let prepared = fixture.plane.prepare(&slot(POLICY), alone(candidate)).await.unwrap();
    fixture.plane.begin_rollout(&slot(POLICY), prepared, generation, plan).await.unwrap();
    ask(fixture, &call_of("ada", &[]), action, target).await;
    until("the shadow was asked", async || fixture.status(POLICY).rollout.unwrap().compared.answers == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_kept_in_the_namespace_of_the_call() {
    let fixture = Fixture::new();
    needs_its_grant(&fixture, records(), "platform:db/records").await;
    fixture.bind(POLICY, alone(records())).await;
    let ada = call_of("ada", &[]);
    let reason = denied(&fixture, &ada, "read", "o-1").await;
    assert!(reason.contains("Unavailable"), "nothing keeps records yet: {reason}");

    fixture.bind("db.store", alone(shipped(SlotKind::DbStore, "db-storage"))).await;
    assert_eq!(allowed(&fixture, &ada, "declare", "").await, "declared");
    assert_eq!(allowed(&fixture, &ada, "make", "o-1").await, "o-1");
    assert_eq!(allowed(&fixture, &ada, "make", "o-2").await, "o-2");
    assert!(denied(&fixture, &ada, "make", "o-1").await.contains("Conflict"));
    assert_eq!(allowed(&fixture, &ada, "read", "o-1").await, "o-1");
    assert_eq!(allowed(&fixture, &ada, "look", "").await, "o-1 o-2 by status");
    assert_eq!(allowed(&fixture, &ada, "remove", "o-2").await, "removed");
    assert_eq!(allowed(&fixture, &ada, "look", "").await, "o-1 by status");
    assert!(denied(&fixture, &ada, "read", "").await.contains("Invalid"), "it is checked like everybody's");
    assert_eq!(allowed(&fixture, &call_in("team"), "read", "o-1").await, "absent", "another namespace");

    let place = Place { database: "shop", table: "orders" };
    let found = fixture.plane.db().get(&ada, place, &["o-1", "o-2"]).await.unwrap();
    assert_eq!(found.iter().flatten().map(|record| record.stamp.id.as_str()).collect::<Vec<_>>(), ["o-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_keeps_no_records() {
    let fixture = Fixture::new();
    fixture.bind("db.store", alone(shipped(SlotKind::DbStore, "db-storage"))).await;
    fixture.bind(POLICY, alone(records())).await;
    let ada = call_of("ada", &[]);
    allowed(&fixture, &ada, "declare", "").await;
    allowed(&fixture, &ada, "make", "o-1").await;
    for (action, target) in [("declare", ""), ("make", "o-2"), ("remove", "o-1")] {
        let reason = denied(&fixture, &reading(&ada), action, target).await;
        assert!(reason.contains("only reads"), "{action}: {reason}");
    }
    assert_eq!(allowed(&fixture, &reading(&ada), "look", "").await, "o-1 by status");

    shadowed(&fixture, records(), "make", "o-3").await;
    let place = Place { database: "shop", table: "orders" };
    assert_eq!(fixture.plane.db().get(&ada, place, &["o-3"]).await.unwrap(), [None], "a shadow writes nothing");
}

/// A broker with the topic `orders` and its subscription `billing`.
async fn broker(fixture: &Fixture, call: &Call) {
    fixture.bind("event.broker", alone(shipped(SlotKind::EventBroker, "event-storage"))).await;
    let events = fixture.plane.event();
    let kept = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };
    events.put_topic(call, "orders", kept, true).await.unwrap();
    let settings = SubscriptionSettings {
        types: Vec::new(),
        fan_out: false,
        ack_wait_ms: 60_000,
        deliveries_max: 3,
        dead_letter: "orders.dead-letter".to_owned(),
        pending_max: 100,
    };
    events.create_subscription(call, "orders", "billing", Start::Beginning, &settings).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_and_taken_for_the_caller() {
    let fixture = Fixture::new();
    needs_its_grant(&fixture, publishes(), "platform:event/topics").await;
    fixture.bind(POLICY, alone(publishes())).await;
    let ada = call_of("ada", &[]);
    broker(&fixture, &ada).await;
    assert_eq!(allowed(&fixture, &ada, "take", "").await, "", "nothing is there, and nobody waits");
    assert_eq!(allowed(&fixture, &ada, "publish", "chairs").await, "1");
    assert_eq!(allowed(&fixture, &ada, "publish", "tables").await, "2");
    assert_eq!(allowed(&fixture, &ada, "read", "").await, r#""chairs" "tables" false"#);
    assert_eq!(allowed(&fixture, &ada, "take", "").await, r#""chairs" [true], "tables" [true]"#);
    assert_eq!(allowed(&fixture, &ada, "take", "").await, "", "what was acknowledged is not delivered again");
    assert_eq!(allowed(&fixture, &ada, "settle", "2").await, "[false]");
    assert!(denied(&fixture, &call_in("team"), "publish", "x").await.contains("NotFound"), "another namespace");
    let event = fixture.plane.event().get(&ada, "orders", 1).await.unwrap();
    assert_eq!(event.content.publisher.as_deref(), Some("ada"), "the publisher is the caller, whose call it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_publishes_and_takes_no_events() {
    let fixture = Fixture::new();
    let ada = call_of("ada", &[]);
    broker(&fixture, &ada).await;
    fixture.bind(POLICY, alone(publishes())).await;
    allowed(&fixture, &ada, "publish", "chairs").await;
    for action in ["publish", "take", "settle"] {
        let reason = denied(&fixture, &reading(&ada), action, "1").await;
        assert!(reason.contains("only reads"), "{action}: {reason}");
    }
    assert_eq!(allowed(&fixture, &reading(&ada), "read", "").await, r#""chairs" false"#);

    shadowed(&fixture, publishes(), "publish", "tables").await;
    let subscription = fixture.plane.event().subscription(&ada, "orders", "billing").await.unwrap();
    assert_eq!((subscription.next, subscription.pending), (1, 0), "nothing was handed out");
    let topic = fixture.plane.event().topic(&ada, "orders").await.unwrap();
    assert_eq!(topic.last, 1, "a shadow publishes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_held_by_the_caller() {
    let fixture = Fixture::new();
    needs_its_grant(&fixture, locks(), "platform:sync/locks").await;
    fixture.bind("sync.lock", alone(shipped(SlotKind::SyncLock, "sync-storage"))).await;
    fixture.bind(POLICY, alone(locks())).await;
    let (ada, bob) = (call_of("ada", &[]), call_of("bob", &[]));
    assert_eq!(allowed(&fixture, &ada, "who", "door").await, "nobody");
    let first: u64 = allowed(&fixture, &ada, "take", "door").await.parse().unwrap();
    assert_eq!(allowed(&fixture, &bob, "who", "door").await, "ada", "the place outlives the call that took it");
    assert_eq!(allowed(&fixture, &ada, "renew", "door").await, "60000");
    for action in ["take", "wait"] {
        assert!(denied(&fixture, &bob, action, "door").await.contains("Held"), "{action}");
    }
    assert!(denied(&fixture, &bob, "give up", "door").await.contains("Denied"), "it is somebody else's");
    assert!(denied(&fixture, &bob, "renew", "door").await.contains("Denied"), "so is its lease");
    assert_eq!(allowed(&fixture, &call_in("team"), "who", "door").await, "nobody", "another namespace");
    assert_eq!(allowed(&fixture, &ada, "give up", "door").await, "given up");
    until("the place that bob gave up waiting for is gone", async || ask(&fixture, &bob, "wait", "door").await.0).await;
    let held = fixture.plane.sync().get(&bob, "door").await.unwrap().unwrap().held;
    assert!(held[0].holder == "bob" && held[0].token > first, "tokens only grow: {first}, {held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_takes_no_locks() {
    let fixture = Fixture::new();
    fixture.bind("sync.lock", alone(shipped(SlotKind::SyncLock, "sync-storage"))).await;
    fixture.bind(POLICY, alone(locks())).await;
    let ada = call_of("ada", &[]);
    allowed(&fixture, &ada, "take", "door").await;
    for (action, name) in [("take", "gate"), ("wait", "gate"), ("renew", "door"), ("give up", "door")] {
        let reason = denied(&fixture, &reading(&ada), action, name).await;
        assert!(reason.contains("only reads"), "{action}: {reason}");
    }
    assert_eq!(allowed(&fixture, &reading(&ada), "who", "door").await, "ada");

    shadowed(&fixture, locks(), "take", "gate").await;
    let want = Want { mode: Mode::Exclusive, value: None };
    let taken = fixture.plane.sync().acquire(&ada, "gate", &want, &Keep::Own(1000), clock::now()).await;
    assert!(matches!(taken, Ok(Taken::Held(_))), "a shadow takes nothing: {taken:?}");
}
