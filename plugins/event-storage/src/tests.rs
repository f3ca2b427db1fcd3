//! What the broker promises, against the native stand-in for storage.

use std::time::Duration;

use platform_sdk::{context, event::Verdict, native};

use super::*;

fn broker() -> Durable {
    Durable::configure(()).unwrap()
}

fn settings() -> TopicSettings {
    TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 1000 }
}

fn topic(name: &str, settings: TopicSettings) -> Durable {
    let mut broker = broker();
    broker.put_topic(name, settings, true).unwrap();
    broker
}

fn draft(id: &str, kind: &str) -> Draft {
    Draft {
        id: id.into(),
        deduplicated: true,
        type_: kind.into(),
        origin: String::new(),
        root: id.into(),
        parent: None,
        publisher: None,
        content_type: String::new(),
        metadata: Vec::new(),
        data: id.as_bytes().to_vec(),
    }
}

fn publish(broker: &mut Durable, topic: &str, ids: &[&str]) -> Vec<u64> {
    let drafts = ids.iter().map(|id| draft(id, "t")).collect();
    broker.publish(topic, drafts).unwrap().into_iter().map(|one| one.sequence).collect()
}

fn subscribing(types: &[&str]) -> SubscriptionSettings {
    SubscriptionSettings {
        types: types.iter().map(|kind| (*kind).to_owned()).collect(),
        fan_out: false,
        ack_wait_ms: 1000,
        deliveries_max: 2,
        dead_letter: "a.dead-letter".into(),
        pending_max: 4,
    }
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.content.id.as_str()).collect()
}

fn received(broker: &mut Durable, consumer: &str) -> Vec<(u64, u32)> {
    let received = broker.receive("a", "s", consumer, 256).unwrap();
    received.deliveries.into_iter().map(|delivery| (delivery.event.sequence, delivery.attempt)).collect()
}

fn settle(broker: &mut Durable, sequence: u64, attempt: u32, verdict: Verdict) -> bool {
    broker.settle("a", "s", "", &[Settlement { sequence, attempt, verdict }]).unwrap()[0]
}

#[test]
fn topics_are_made_once_and_begin_anew() {
    let mut broker = topic("a", settings());
    assert!(matches!(broker.put_topic("a", settings(), true), Err(Error::Exists(_))));
    assert!(matches!(broker.put_topic("b", settings(), false), Err(Error::NotFound(_))));
    assert!(matches!(broker.put_topic("a!b", settings(), true), Err(Error::Invalid(_))));
    publish(&mut broker, "a", &["1", "2"]);
    broker.create_subscription("a", "s", Start::Beginning, subscribing(&[])).unwrap();
    assert_eq!(received(&mut broker, "").len(), 2);
    assert_eq!((broker.get_topic("a").unwrap().first, broker.get_topic("a").unwrap().last), (1, 2));
    broker.delete_topic("a").unwrap();
    assert_eq!(TABLE.scan("", None, 1000).unwrap(), [], "nothing is left");
    assert!(matches!(broker.publish("a", vec![draft("1", "t")]), Err(Error::NotFound(_))));
    native::advance(Duration::from_millis(1));
    broker.put_topic("a", settings(), true).unwrap();
    assert_eq!(publish(&mut broker, "a", &["1"]), [1], "its ids are forgotten too");
}

#[test]
fn an_id_is_kept_once_within_the_window() {
    let mut broker = topic("a", settings());
    assert_eq!(publish(&mut broker, "a", &["1", "2", "1"]), [1, 2, 1]);
    let again = broker.publish("a", vec![draft("2", "t"), draft("3", "t")]).unwrap();
    assert_eq!((again[0].sequence, again[0].duplicate), (2, true));
    assert_eq!((again[1].sequence, again[1].duplicate), (3, false));
    native::advance(Duration::from_millis(1000));
    assert_eq!(publish(&mut broker, "a", &["2"]), [4]);
    let elsewhere = Draft { origin: "/b".into(), ..draft("2", "t") };
    assert_eq!(broker.publish("a", vec![elsewhere]).unwrap()[0].sequence, 5, "ids are those of an origin");
    let unnamed = Draft { deduplicated: false, ..draft("2", "t") };
    assert_eq!(broker.publish("a", vec![unnamed]).unwrap()[0].sequence, 6);
}

#[test]
fn retention_keeps_the_newest() {
    let mut broker = topic("a", TopicSettings { count: Some(3), ..settings() });
    for number in 0..10 {
        publish(&mut broker, "a", &[&number.to_string()]);
    }
    assert_eq!(ids(&broker.read("a", 0, 10, false).unwrap().0), ["7", "8", "9"]);
    assert_eq!(TABLE.scan("event!", None, 100).unwrap().len(), 3, "their bytes are gone too");
    assert_eq!(TABLE.scan("root!", None, 100).unwrap().len(), 3);
    let topic = broker.get_topic("a").unwrap();
    assert_eq!((topic.first, topic.last), (8, 10));
    let size = topic.bytes / 3;
    broker.put_topic("a", TopicSettings { bytes: Some(size * 2), ..settings() }, false).unwrap();
    assert_eq!(ids(&broker.read("a", 0, 10, false).unwrap().0), ["8", "9"]);
    native::advance(Duration::from_millis(500));
    broker.put_topic("a", TopicSettings { age_ms: Some(400), ..settings() }, false).unwrap();
    assert_eq!(broker.read("a", 0, 10, false).unwrap(), (Vec::new(), false));
    publish(&mut broker, "a", &["x"]);
    assert_eq!(ids(&broker.read("a", 0, 10, true).unwrap().0), ["x"]);
    assert_eq!(broker.get_topic("a").unwrap().first, 11);
    native::advance(Duration::from_millis(400));
    assert_eq!(broker.get_topic("a").unwrap().first, 12);
}

#[test]
fn reads_run_both_ways() {
    let mut broker = topic("a", settings());
    publish(&mut broker, "a", &["1", "2", "3", "4", "5"]);
    let mut read = |from, limit, reverse| {
        let (events, more) = broker.read("a", from, limit, reverse).unwrap();
        (events.into_iter().map(|event| event.sequence).collect::<Vec<_>>(), more)
    };
    assert_eq!(read(0, 2, false), (vec![1, 2], true));
    assert_eq!(read(4, 9, false), (vec![4, 5], false));
    assert_eq!(read(0, 2, true), (vec![5, 4], true));
    assert_eq!(read(2, 9, true), (vec![2, 1], false));
    assert_eq!(read(9, 1, false), (vec![], false));
    assert_eq!(read(9, 1, true), (vec![5], true));
}

#[test]
fn searches_find_by_root_type_and_time() {
    let mut broker = topic("a", settings());
    broker.put_topic("b", settings(), true).unwrap();
    let start = context::time_ms();
    for number in 1..=4_u32 {
        native::advance(Duration::from_millis(10));
        let name = number.to_string();
        let of_root = Draft { root: "1".into(), ..draft(&name, if number % 2 == 0 { "even" } else { "odd" }) };
        let topic = if number < 3 { "a" } else { "b" };
        broker.publish(topic, vec![of_root, draft(&format!("other{name}"), "even")]).unwrap();
    }
    let query =
        Query { topic: None, root: Some("1".into()), types: Vec::new(), from_ms: 0, to_ms: u64::MAX, reverse: false };
    let mut all = |query: &Query| {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let (page, next) = broker.find(query.clone(), after.as_deref(), 1).unwrap();
            found.extend(page.into_iter().map(|event| event.content.id));
            match next {
                None => return found,
                next => after = next,
            }
        }
    };
    assert_eq!(all(&query), ["1", "2", "3", "4"]);
    assert_eq!(all(&Query { reverse: true, ..query.clone() }), ["4", "3", "2", "1"]);
    assert_eq!(all(&Query { types: vec!["ev*".into()], ..query.clone() }), ["2", "4"]);
    assert_eq!(all(&Query { topic: Some("b".into()), ..query.clone() }), ["3", "4"]);
    assert_eq!(all(&Query { from_ms: start + 20, to_ms: start + 30, ..query.clone() }), ["2", "3"]);
    let of_topic = Query { topic: Some("a".into()), root: None, ..query };
    assert_eq!(all(&of_topic), ["1", "other1", "2", "other2"]);
    assert_eq!(all(&Query { reverse: true, ..of_topic.clone() }), ["other2", "2", "other1", "1"]);
    assert_eq!(all(&Query { from_ms: start + 11, ..of_topic.clone() }), ["2", "other2"]);
    assert_eq!(all(&Query { to_ms: start + 19, reverse: true, ..of_topic.clone() }), ["other1", "1"]);
    assert_eq!(all(&Query { types: vec!["odd".into()], ..of_topic.clone() }), ["1"]);
    for forged in ["", "x", "0!a!b"] {
        assert!(matches!(broker.find(of_topic.clone(), Some(forged), 1), Err(Error::Invalid(_))), "{forged}");
    }
}

#[test]
fn what_is_not_acknowledged_comes_again_and_what_is_does_not() {
    let mut broker = topic("a", settings());
    publish(&mut broker, "a", &["1", "2", "3"]);
    broker.create_subscription("a", "s", Start::Sequence(2), subscribing(&[])).unwrap();
    assert_eq!(received(&mut broker, ""), [(2, 1), (3, 1)]);
    assert_eq!(received(&mut broker, ""), []);
    assert!(settle(&mut broker, 2, 1, Verdict::Ack));
    assert!(!settle(&mut broker, 2, 1, Verdict::Ack), "once");
    native::advance(Duration::from_millis(999));
    assert_eq!(received(&mut broker, ""), []);
    assert!(settle(&mut broker, 3, 1, Verdict::Extend));
    native::advance(Duration::from_millis(999));
    assert_eq!(received(&mut broker, ""), []);
    native::advance(Duration::from_millis(1));
    assert_eq!(received(&mut broker, ""), [(3, 2)]);
    assert!(!settle(&mut broker, 3, 1, Verdict::Nak(0)), "that delivery was given up");
    assert!(settle(&mut broker, 3, 1, Verdict::Ack), "but work that was done is done");
    native::advance(Duration::from_secs(10));
    assert_eq!(received(&mut broker, ""), []);
}

#[test]
fn a_refused_delivery_comes_after_its_delay_and_at_last_to_the_dead_letters() {
    let mut broker = topic("a", settings());
    publish(&mut broker, "a", &["1"]);
    broker.create_subscription("a", "s", Start::Beginning, subscribing(&[])).unwrap();
    assert_eq!(received(&mut broker, ""), [(1, 1)]);
    assert!(settle(&mut broker, 1, 1, Verdict::Nak(50)));
    assert_eq!(received(&mut broker, ""), []);
    native::advance(Duration::from_millis(50));
    assert_eq!(received(&mut broker, ""), [(1, 2)]);
    assert!(settle(&mut broker, 1, 2, Verdict::Nak(0)));
    assert_eq!(received(&mut broker, ""), []);
    let dead = broker.read("a.dead-letter", 0, 10, false).unwrap().0;
    assert_eq!(ids(&dead), ["1"]);
    let told: Vec<_> = dead[0].content.metadata.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(told, ["2", "1", "s", "a"]);
    assert!(!settle(&mut broker, 1, 2, Verdict::Ack));
    assert_eq!(broker.get_subscription("a", "s").unwrap().pending, 0);
}

#[test]
fn a_rejected_delivery_is_a_dead_letter_at_once_with_the_reason() {
    let mut broker = topic("a", settings());
    publish(&mut broker, "a", &["1", "2"]);
    broker.create_subscription("a", "s", Start::Beginning, subscribing(&[])).unwrap();
    assert_eq!(received(&mut broker, ""), [(1, 1), (2, 1)]);
    assert!(!settle(&mut broker, 1, 2, Verdict::Reject("no".into())), "no such delivery");
    assert!(settle(&mut broker, 1, 1, Verdict::Reject("no".into())));
    assert!(!settle(&mut broker, 1, 1, Verdict::Reject("no".into())), "once");
    let dead = broker.read("a.dead-letter", 0, 10, false).unwrap().0;
    assert_eq!(ids(&dead), ["1"]);
    let reason = dead[0].content.metadata.iter().find(|(name, _)| name == "deadletterreason");
    assert_eq!(reason.map(|(_, why)| why.as_str()), Some("no"));
    native::advance(Duration::from_secs(10));
    assert_eq!(received(&mut broker, ""), [(2, 2)]);
    assert!(!settle(&mut broker, 2, 1, Verdict::Reject("late".into())), "that delivery was given up");
    assert_eq!(broker.read("a.dead-letter", 0, 10, false).unwrap().0.len(), 1);
}

#[test]
fn consumers_share_or_each_get_all() {
    let mut broker = topic("a", settings());
    publish(&mut broker, "a", &["1", "2", "3", "4", "5", "6"]);
    broker.create_subscription("a", "s", Start::Beginning, subscribing(&[])).unwrap();
    assert_eq!(received(&mut broker, "x").len(), 4, "as many as may wait");
    assert_eq!(received(&mut broker, "y"), [], "all who share wait together");
    assert!(settle(&mut broker, 1, 1, Verdict::Ack));
    assert_eq!(received(&mut broker, "y"), [(5, 1)]);
    broker.delete_subscription("a", "s").unwrap();
    assert_eq!(TABLE.scan("pending!", None, 100).unwrap(), []);

    native::advance(Duration::from_millis(1));
    let fan_out = SubscriptionSettings { fan_out: true, ..subscribing(&[]) };
    broker.create_subscription("a", "s", Start::Sequence(5), fan_out).unwrap();
    assert_eq!(received(&mut broker, "x"), [(5, 1), (6, 1)]);
    assert_eq!(received(&mut broker, "y"), [(5, 1), (6, 1)]);
    assert!(matches!(broker.receive("a", "s", "", 1), Err(Error::Invalid(_))));
    assert_eq!(broker.get_subscription("a", "s").unwrap().pending, 4);
}

#[test]
fn types_are_selected_and_what_is_skipped_stays_skipped() {
    let mut broker = topic("a", settings());
    for (id, kind) in [("1", "order.placed"), ("2", "order.paid"), ("3", "user.left")] {
        broker.publish("a", vec![draft(id, kind)]).unwrap();
    }
    broker.create_subscription("a", "s", Start::Beginning, subscribing(&["order.p*"])).unwrap();
    assert_eq!(received(&mut broker, ""), [(1, 1), (2, 1)]);
    assert_eq!(broker.get_subscription("a", "s").unwrap().next, 4);
    broker.seek("a", "s", Start::Sequence(2)).unwrap();
    assert!(!settle(&mut broker, 1, 1, Verdict::Ack), "what was before is forgotten");
    assert_eq!(received(&mut broker, ""), [(2, 1)]);
}

#[test]
fn what_retention_took_is_counted() {
    let mut broker = topic("a", TopicSettings { count: Some(1), ..settings() });
    broker.create_subscription("a", "s", Start::New, subscribing(&[])).unwrap();
    publish(&mut broker, "a", &["1", "2", "3"]);
    assert_eq!(received(&mut broker, ""), [(3, 1)]);
    publish(&mut broker, "a", &["4"]);
    native::advance(Duration::from_millis(1000));
    assert_eq!(received(&mut broker, ""), [(4, 1)]);
    assert_eq!(broker.get_subscription("a", "s").unwrap().missed, 3);
}

#[test]
fn changes_tell_what_was_published_and_nothing_else() {
    let mut broker = topic("a", TopicSettings { count: Some(2), ..settings() });
    broker.put_topic("ab", settings(), true).unwrap();
    publish(&mut broker, "a", &["1", "2"]);
    publish(&mut broker, "ab", &["3"]);
    publish(&mut broker, "a", &["4"]);
    assert_eq!(ids(&broker.changes("", 0, 10, 0).unwrap()), ["2", "3", "4"], "what is gone can't be told");
    assert_eq!(ids(&broker.changes("a", 0, 10, 0).unwrap()), ["2", "4"]);
    let last = broker.changes("", 0, 10, 0).unwrap().pop().unwrap();
    assert_eq!(broker.changes("", last.revision, 10, 0), Ok(Vec::new()));
    broker.publish("a", vec![Draft { data: vec![0; 20_000], ..draft("5", "t") }]).unwrap();
    assert!(broker.changes("", last.revision, 10, 0).unwrap()[0].content.data.is_empty(), "large data is left out");
}

#[test]
fn namespaces_are_apart() {
    let mut broker = topic("a", settings());
    native::set_namespace("other");
    assert!(matches!(broker.get_topic("a"), Err(Error::NotFound(_))));
    assert_eq!(broker.revision(), Ok(0));
}
