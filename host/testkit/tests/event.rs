//! Events with the shipped broker: what was published is kept once, what was acknowledged never comes again, and filters see
//! everything before it is kept.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::join_all};
use platform_capability::{
    SlotKind,
    event::{Delivery, Start, SubscriptionSettings, TopicSettings, Verdict},
};
use platform_dataplane::{
    BindingSpec, CallError, Consumer, EventError, FailureMode, NewEvent, Outcome, Plugin, Receipt,
};
use platform_testkit::{Fixture, alone, call, call_in, call_of, component, plugin};
use serde_json::{Value, json};

const KEPT: TopicSettings = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };

fn broker() -> BindingSpec {
    alone(plugin(SlotKind::EventBroker, "event-storage", &component("plugins", "event-storage"), &["storage"]))
}

fn filter(settings: &Value) -> Plugin {
    let example = component("examples", "event-filter-rust");
    let plugin = plugin(SlotKind::EventFilter, "event-filter-rust", &example, &[]);
    Plugin { settings: settings.to_string(), ..plugin }
}

async fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.bind("event.broker", broker()).await;
    fixture.plane.event().put_topic(&call(), "orders", KEPT, true).await.unwrap();
    fixture
}

fn event(id: &str, kind: &str) -> NewEvent {
    NewEvent { id: id.to_owned(), kind: kind.to_owned(), ..NewEvent::default() }
}

async fn publish(fixture: &Fixture, id: &str, kind: &str) -> Outcome {
    fixture.plane.event().publish(&call(), "orders", vec![event(id, kind)]).await.unwrap().remove(0)
}

async fn sequence(fixture: &Fixture, id: &str) -> u64 {
    publish(fixture, id, "order.placed").await.published.unwrap().sequence
}

fn settings() -> SubscriptionSettings {
    SubscriptionSettings {
        types: Vec::new(),
        fan_out: false,
        ack_wait_ms: 300,
        deliveries_max: 3,
        dead_letter: "orders.dead-letter".to_owned(),
        pending_max: 100,
    }
}

async fn subscribe(fixture: &Fixture, settings: &SubscriptionSettings) -> Consumer {
    let events = fixture.plane.event();
    events.create_subscription(&call(), "orders", "billing", Start::Beginning, settings).await.unwrap();
    consumer("")
}

fn consumer(name: &str) -> Consumer {
    Consumer { topic: "orders".to_owned(), subscription: "billing".to_owned(), name: name.to_owned() }
}

async fn receive(fixture: &Fixture, consumer: &Consumer, wait_ms: u64) -> Vec<Delivery> {
    let wait = Duration::from_millis(wait_ms);
    fixture.plane.event().receive(&call(), consumer, 100, wait).await.unwrap()
}

async fn settle(fixture: &Fixture, delivery: &Delivery, verdict: Verdict) -> bool {
    let receipt = Receipt { sequence: delivery.event.sequence, attempt: delivery.attempt };
    let (settled, _) = fixture.plane.event().settle(&call(), &consumer(""), &[receipt], verdict).await.unwrap();
    settled == [delivery.event.sequence]
}

fn refused<T>(answer: Result<T, CallError<EventError>>) -> EventError {
    match answer.err() {
        Some(CallError::Capability(error)) => error,
        other => EventError::Other(format!("{other:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_publishers_share_a_topic_without_gaps_and_without_twins() {
    let fixture = Arc::new(fixture().await);
    let writers = (0..16).map(|writer| {
        let fixture = Arc::clone(&fixture);
        async move {
            let mut sequences = Vec::new();
            for number in 0..20 {
                // Each id is published by two writers.
                sequences.push(sequence(&fixture, &format!("{}-{number}", writer / 2)).await);
            }
            sequences
        }
    });
    let sequences: Vec<u64> = join_all(writers).await.into_iter().flatten().collect();
    let different: BTreeSet<u64> = sequences.iter().copied().collect();
    assert_eq!(sequences.len(), 320);
    assert!(different.into_iter().eq(1..=160));
    assert!(fixture.counts("event.broker").calls < 320, "publishes that meet are one call to the broker");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_what_was_said_and_who_said_it() {
    let fixture = fixture().await;
    let metadata = [("k".to_owned(), "v".to_owned())].into_iter().collect();
    let said = NewEvent {
        origin: "/shop".to_owned(),
        content_type: "text/plain".to_owned(),
        metadata,
        data: b"hello".to_vec(),
        ..event("", "order.placed")
    };
    let events = fixture.plane.event();
    let outcome = events.publish(&call_of("alice", &[]), "orders", vec![said]).await.unwrap().remove(0);
    let kept = events.get(&call(), "orders", 1).await.unwrap();
    assert_eq!((kept.content.id.as_str(), kept.content.root.as_str()), (outcome.id.as_str(), outcome.id.as_str()));
    assert_eq!(kept.content.publisher.as_deref(), Some("alice"));
    assert_eq!((kept.content.origin.as_str(), &kept.content.data[..]), ("/shop", &b"hello"[..]));
    assert!(matches!(refused(events.get(&call(), "orders", 2).await), EventError::NotFound(_)));
    assert!(matches!(refused(events.topic(&call_in("other"), "orders").await), EventError::NotFound(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_and_nothing_is_kept() {
    let fixture = fixture().await;
    let events = fixture.plane.event();
    let long = "x".repeat(257);
    let wrong = [
        event("", ""),
        event(&long, "t"),
        event("a\nb", "t"),
        event("", &long),
        NewEvent { parent: "p".to_owned(), ..event("", "t") },
        NewEvent { origin: "x".repeat(513), ..event("", "t") },
        NewEvent { data: vec![0; (1 << 20) + 1], ..event("", "t") },
        NewEvent { metadata: (0..65).map(|n| (n.to_string(), String::new())).collect(), ..event("", "t") },
    ];
    for wrong in wrong {
        let both = vec![event("", "t"), wrong];
        let error = refused(events.publish(&call(), "orders", both).await);
        assert!(matches!(error, EventError::Invalid(_) | EventError::TooLarge(_)), "{error:?}");
    }
    for topic in ["", "../x", "a/b", "a.*", "a>b", "platform"] {
        let error = refused(events.publish(&call(), topic, vec![event("", "t")]).await);
        assert!(matches!(error, EventError::Invalid(_)), "{topic}: {error:?}");
    }
    assert!(matches!(refused(events.publish(&call(), "none", vec![event("", "t")]).await), EventError::NotFound(_)));
    assert!(matches!(refused(events.publish(&call(), "orders", Vec::new()).await), EventError::Invalid(_)));
    assert_eq!(events.topic(&call(), "orders").await.unwrap().last, 0);
    for settings in [
        SubscriptionSettings { ack_wait_ms: 99, ..settings() },
        SubscriptionSettings { pending_max: 0, ..settings() },
        SubscriptionSettings { dead_letter: "orders".to_owned(), ..settings() },
        SubscriptionSettings { types: vec![String::new()], ..settings() },
    ] {
        let made = events.create_subscription(&call(), "orders", "s", Start::New, &settings).await;
        assert!(matches!(refused(made), EventError::Invalid(_)), "{settings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_waits_for_news_verdicts_and_what_is_due() {
    let fixture = Arc::new(fixture().await);
    let consumer = subscribe(&fixture, &settings()).await;
    assert!(receive(&fixture, &consumer, 0).await.is_empty());
    let waiting = {
        let (fixture, consumer) = (Arc::clone(&fixture), consumer.clone());
        async move { receive(&fixture, &consumer, 8000).await }
    };
    let (news, _) = tokio::join!(waiting, sequence(&fixture, "1"));
    assert_eq!((news[0].event.sequence, news[0].attempt), (1, 1));
    // Nobody says anything: it is due again.
    let again = receive(&fixture, &consumer, 8000).await.remove(0);
    assert_eq!((again.event.sequence, again.attempt), (1, 2));
    assert!(!settle(&fixture, &news[0], Verdict::Nak(0)).await, "that delivery is over");
    let waiting = {
        let (fixture, consumer) = (Arc::clone(&fixture), consumer.clone());
        async move { receive(&fixture, &consumer, 8000).await }
    };
    let (again, settled) = tokio::join!(waiting, settle(&fixture, &again, Verdict::Nak(0)));
    assert!(settled);
    assert_eq!((again[0].event.sequence, again[0].attempt), (1, 3));
    assert!(settle(&fixture, &again[0], Verdict::Ack).await);
    assert!(!settle(&fixture, &again[0], Verdict::Ack).await);
    assert!(receive(&fixture, &consumer, 1000).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_never_acknowledged_ends_among_the_dead_letters() {
    let fixture = fixture().await;
    let consumer = subscribe(&fixture, &SubscriptionSettings { deliveries_max: 2, ..settings() }).await;
    sequence(&fixture, "1").await;
    let mut attempts = Vec::new();
    for _ in 0..3 {
        attempts.extend(receive(&fixture, &consumer, 2000).await.iter().map(|delivery| delivery.attempt));
    }
    assert_eq!(attempts, [1, 2]);
    let (dead, _) = fixture.plane.event().read(&call(), "orders.dead-letter", 0, 10, false).await.unwrap();
    assert_eq!(dead[0].content.id, "1");
    assert!(dead[0].content.metadata.contains(&("deadlettersubscription".to_owned(), "billing".to_owned())));
    assert_eq!(fixture.plane.event().subscription(&call(), "orders", "billing").await.unwrap().pending, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_share_get_each_event_once() {
    let fixture = Arc::new(fixture().await);
    subscribe(&fixture, &SubscriptionSettings { ack_wait_ms: 60_000, ..settings() }).await;
    let consumers = (0..4).map(|_| {
        let fixture = Arc::clone(&fixture);
        async move {
            let deliveries = fixture.plane.event().deliveries(&call(), consumer("")).await.unwrap();
            let mut deliveries = std::pin::pin!(deliveries);
            let mut seen = Vec::new();
            while let Ok(Some(some)) = tokio::time::timeout(Duration::from_secs(2), deliveries.next()).await {
                for delivery in some.unwrap() {
                    assert!(settle(&fixture, &delivery, Verdict::Ack).await);
                    seen.push(delivery.event.sequence);
                }
            }
            seen
        }
    });
    let publishing = async {
        for number in 0..200 {
            sequence(&fixture, &number.to_string()).await;
        }
    };
    let (seen, ()) = tokio::join!(join_all(consumers), publishing);
    let mut seen: Vec<u64> = seen.into_iter().flatten().collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=200));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_sees_everything_in_order_across_a_swap() {
    let fixture = fixture().await;
    sequence(&fixture, "before").await;
    let events = fixture.plane.event();
    let mut all = Box::pin(events.follow(&call(), "orders", Some(1), Vec::new()).await.unwrap());
    let mut paid = Box::pin(events.follow(&call(), "orders", None, vec!["order.paid".to_owned()]).await.unwrap());
    assert_eq!(all.next().await.unwrap().unwrap().content.id, "before");
    publish(&fixture, "placed", "order.placed").await;
    fixture.bind("event.broker", broker()).await;
    publish(&fixture, "paid", "order.paid").await;
    let large = NewEvent { data: vec![1; 100_000], ..event("large", "order.paid") };
    events.publish(&call(), "orders", vec![large]).await.unwrap();
    for id in ["placed", "paid", "large"] {
        let next = tokio::time::timeout(Duration::from_secs(10), all.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((next.content.id.as_str(), next.content.data.len()), (id, if id == "large" { 100_000 } else { 0 }));
    }
    assert_eq!(paid.next().await.unwrap().unwrap().content.id, "paid");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_pass_drop_and_transform_before_anything_is_kept() {
    let fixture = fixture().await;
    let settings = json!({"types": ["order.*"], "mask": ["email"]});
    fixture.bind("event.filter", alone(filter(&settings))).await;
    let dropped = publish(&fixture, "1", "user.left").await;
    assert_eq!(dropped.published, Err("`user.left` is no type of `orders`".to_owned()));
    let events = fixture.plane.event();
    let personal = NewEvent {
        content_type: "application/json".to_owned(),
        data: br#"{"email":"a@b"}"#.to_vec(),
        ..event("2", "order.placed")
    };
    let both = vec![event("3", "user.left"), personal];
    let outcomes = events.publish(&call(), "orders", both).await.unwrap();
    assert!(outcomes[0].published.is_err());
    assert_eq!(outcomes[1].published.as_ref().unwrap().sequence, 1, "what is dropped takes no place");
    let kept = events.get(&call(), "orders", 1).await.unwrap().content;
    assert_eq!(String::from_utf8(kept.data).unwrap(), r#"{"email":"***"}"#);
    assert_eq!(kept.metadata, [("masked".to_owned(), "true".to_owned())]);
    let unfiltered = call_of("root", &["unfiltered"]);
    let outcome = events.publish(&unfiltered, "orders", vec![event("4", "user.left")]).await.unwrap().remove(0);
    assert!(outcome.published.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_that_fails_keeps_everything_out_unless_it_may_be_left_out() {
    let fixture = fixture().await;
    // The example reads what it masks; with this little memory it can't.
    let starved = |failure| {
        let mut plugin = filter(&json!({}));
        plugin.limits.memory_kib = 4096;
        BindingSpec { plugins: vec![plugin], failure, fallback: None }
    };
    let large = || NewEvent {
        content_type: "application/json".to_owned(),
        data: format!("[{}1]", "1,".repeat(400_000)).into_bytes(),
        ..event("", "order.placed")
    };
    let events = fixture.plane.event();
    fixture.bind("event.filter", starved(FailureMode::Closed)).await;
    let error = refused(events.publish(&call(), "orders", vec![large()]).await);
    assert!(matches!(error, EventError::Unfiltered { .. }), "{error:?}");
    assert_eq!(events.topic(&call(), "orders").await.unwrap().last, 0);
    fixture.bind("event.filter", starved(FailureMode::Open)).await;
    assert!(events.publish(&call(), "orders", vec![large()]).await.unwrap().remove(0).published.is_ok());
}
