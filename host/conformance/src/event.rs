//! What every provider of `event.broker` and every component for `event.filter` promises.
//!
//! Filters are asked about events that are published to the broker that is bound beside them.

use std::{collections::BTreeMap, time::Duration};

use platform_capability::event::{Delivery, Event, Start, SubscriptionSettings, TopicSettings, Verdict};
use platform_dataplane::{Consumer, EventError, Events, NewEvent, Receipt};

use crate::{
    Check, Checked, Failure, Subject, checks,
    outcome::{answered, holds, refused, same, shown},
};

pub(crate) const BROKER: &[Check] = checks! {
    "topics" "events are kept in order, with sequences that have no gap, and read in both directions" topics,
    "duplicates" "an id is kept once within the window, and the answer tells where" duplicates,
    "retention" "the oldest events go when there are more than are to be kept" retention,
    "acknowledged" "what was acknowledged is not delivered again, and what was not is" acknowledged,
    "shared" "consumers that share get each event once" shared,
    "dead-letters" "an event that was delivered too often goes to the dead-letter topic" dead_letters,
    "rejected" "a rejected delivery goes to the dead-letter topic at once, and is not delivered again" rejected,
    "namespaces" "what one namespace publishes is not seen from another" namespaces,
};

pub(crate) const FILTER: &[Check] = checks! {
    "answers" "every event is kept, dropped with a reason, or made into one that can be kept" answers,
    "repeatable" "the same event gets the same answer" repeatable,
};

const TOPIC: &str = "conformance";
const DEAD: &str = "conformance-dead";
const KEEPS: TopicSettings = TopicSettings { age_ms: None, count: None, bytes: None, window_ms: 60_000 };

fn events(subject: &Subject) -> &Events {
    subject.plane().event()
}

async fn topic(subject: &Subject, settings: TopicSettings) -> Checked {
    answered(events(subject).put_topic(&subject.call(), TOPIC, settings, true).await, "`put-topic`").map(drop)
}

fn event(id: &str, data: &str) -> NewEvent {
    NewEvent {
        id: id.to_owned(),
        kind: "thing.happened".to_owned(),
        origin: "here".to_owned(),
        root: String::new(),
        parent: String::new(),
        content_type: "text/plain".to_owned(),
        metadata: BTreeMap::from([("é".to_owned(), "\u{1f600}".to_owned())]),
        data: data.as_bytes().to_vec(),
    }
}

/// Publishes; the sequence of each event and whether it was a duplicate.
async fn publish(subject: &Subject, ids: &[&str]) -> Result<Vec<(u64, bool)>, Failure> {
    let new = ids.iter().map(|id| event(id, id)).collect();
    let outcomes = answered(events(subject).publish(&subject.call(), TOPIC, new).await, "`publish`")?;
    let kept = |dropped: String| Failure::new(format!("an event was dropped, and no filter is bound: {dropped}"));
    outcomes.into_iter().map(|outcome| outcome.published.map(|at| (at.sequence, at.duplicate)).map_err(kept)).collect()
}

async fn read(subject: &Subject, from: u64, reverse: bool) -> Result<Vec<Event>, Failure> {
    Ok(answered(events(subject).read(&subject.call(), TOPIC, from, 1000, reverse).await, "`read`")?.0)
}

fn told(events: &[Event]) -> Vec<(u64, String)> {
    events.iter().map(|event| (event.sequence, event.content.id.clone())).collect()
}

async fn topics(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    same(&publish(&subject, &["a", "b"]).await?, &vec![(1, false), (2, false)], "places of the first events")?;
    same(&publish(&subject, &["c"]).await?, &vec![(3, false)], "the place of the next event")?;
    let all = read(&subject, 1, false).await?;
    let expected = |ids: &[(u64, &str)]| ids.iter().map(|(at, id)| (*at, (*id).to_owned())).collect::<Vec<_>>();
    same(&told(&all), &expected(&[(1, "a"), (2, "b"), (3, "c")]), "events from the first")?;
    same(&told(&read(&subject, 2, true).await?), &expected(&[(2, "b"), (1, "a")]), "events back from the second")?;
    let whole = all.first().is_some_and(|event| event.content.data == b"a" && event.content.metadata.len() == 1);
    holds(whole, "an event has to be read as it was published")?;
    answered(events(&subject).delete_topic(&subject.call(), TOPIC).await, "`delete-topic`")?;
    let gone = refused(events(&subject).topic(&subject.call(), TOPIC).await, "`get-topic` of what was deleted")?;
    holds(matches!(gone, EventError::NotFound(_)), &format!("it is absent, not {}", shown(&gone)))
}

async fn duplicates(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    publish(&subject, &["a", "b"]).await?;
    same(&publish(&subject, &["b", "c", "a"]).await?, &vec![(2, true), (3, false), (1, true)], "places told")?;
    same(&read(&subject, 1, false).await?.len(), &3, "events that are kept")
}

async fn retention(subject: Subject) -> Checked {
    topic(&subject, TopicSettings { count: Some(3), ..KEEPS }).await?;
    for id in ["a", "b", "c", "d", "e"] {
        publish(&subject, &[id]).await?;
    }
    let kept: Vec<_> = read(&subject, 1, false).await?.iter().map(|event| event.sequence).collect();
    same(&kept, &vec![3, 4, 5], "sequences of a topic that keeps 3 of 5 events")
}

async fn subscribe(subject: &Subject, settings: SubscriptionSettings) -> Result<Consumer, Failure> {
    let made = events(subject).create_subscription(&subject.call(), TOPIC, "all", Start::Beginning, &settings).await;
    answered(made, "`create-subscription`")?;
    Ok(Consumer { topic: TOPIC.to_owned(), subscription: "all".to_owned(), name: String::new() })
}

fn delivers() -> SubscriptionSettings {
    SubscriptionSettings {
        types: Vec::new(),
        fan_out: false,
        ack_wait_ms: 60_000,
        deliveries_max: 0,
        dead_letter: DEAD.to_owned(),
        pending_max: 100,
    }
}

async fn receive(subject: &Subject, consumer: &Consumer, wait: Duration) -> Result<Vec<Delivery>, Failure> {
    answered(events(subject).receive(&subject.call(), consumer, 100, wait).await, "`receive`")
}

async fn settle(subject: &Subject, consumer: &Consumer, delivery: &Delivery, verdict: Verdict) -> Checked {
    let receipt = Receipt { sequence: delivery.event.sequence, attempt: delivery.attempt };
    let settled = events(subject).settle(&subject.call(), consumer, &[receipt], verdict).await;
    same(&answered(settled, "`settle`")?.0, &vec![receipt.sequence], "deliveries that were settled")
}

async fn acknowledged(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    publish(&subject, &["a", "b"]).await?;
    let consumer = subscribe(&subject, delivers()).await?;
    let first = receive(&subject, &consumer, Duration::ZERO).await?;
    let [one, two] = &first[..] else {
        return Err(Failure::new(format!("2 events make 2 deliveries, not {}", first.len())));
    };
    settle(&subject, &consumer, one, Verdict::Ack).await?;
    settle(&subject, &consumer, two, Verdict::Nak(1)).await?;
    let again = receive(&subject, &consumer, Duration::from_secs(5)).await?;
    let again: Vec<_> = again.iter().map(|delivery| (delivery.event.sequence, delivery.attempt)).collect();
    same(&again, &vec![(2, 2)], "sequence and attempt of what is delivered again")
}

async fn shared(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    let ids: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    publish(&subject, &ids.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let consumer = subscribe(&subject, delivers()).await?;
    let consumers = (0..4).map(|_| async {
        let mut seen = Vec::new();
        loop {
            let deliveries =
                answered(events(&subject).receive(&subject.call(), &consumer, 3, Duration::ZERO).await, "`receive`")?;
            if deliveries.is_empty() {
                return Ok::<_, Failure>(seen);
            }
            for delivery in deliveries {
                settle(&subject, &consumer, &delivery, Verdict::Ack).await?;
                seen.push(delivery.event.sequence);
            }
        }
    });
    let mut all: Vec<u64> = futures::future::try_join_all(consumers).await?.concat();
    all.sort_unstable();
    same(&all, &(1..=40).collect(), "what four consumers that share were delivered")
}

async fn dead_letters(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    publish(&subject, &["a"]).await?;
    let settings = SubscriptionSettings { deliveries_max: 2, ..delivers() };
    let consumer = subscribe(&subject, settings).await?;
    for attempt in 1..=2 {
        let deliveries = receive(&subject, &consumer, Duration::from_secs(5)).await?;
        let [delivery] = &deliveries[..] else { return Err(Failure::new(format!("delivery {attempt} did not come"))) };
        same(&delivery.attempt, &attempt, "the attempt")?;
        settle(&subject, &consumer, delivery, Verdict::Nak(1)).await?;
    }
    same(&receive(&subject, &consumer, Duration::from_secs(1)).await?.len(), &0, "deliveries after the last attempt")?;
    let dead = answered(events(&subject).read(&subject.call(), DEAD, 1, 10, false).await, "`read` of dead letters")?.0;
    let data: Vec<_> = dead.iter().map(|event| event.content.data.clone()).collect();
    same(&data, &vec![b"a".to_vec()], "dead letters")
}

async fn rejected(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    publish(&subject, &["a", "b"]).await?;
    let consumer = subscribe(&subject, delivers()).await?;
    let first = receive(&subject, &consumer, Duration::ZERO).await?;
    let [one, two] = &first[..] else {
        return Err(Failure::new(format!("2 events make 2 deliveries, not {}", first.len())));
    };
    settle(&subject, &consumer, one, Verdict::Reject("it is no good".to_owned())).await?;
    settle(&subject, &consumer, two, Verdict::Nak(1)).await?;
    let again = receive(&subject, &consumer, Duration::from_secs(5)).await?;
    let again: Vec<_> = again.iter().map(|delivery| delivery.event.sequence).collect();
    same(&again, &vec![2], "what is delivered again")?;
    let dead = answered(events(&subject).read(&subject.call(), DEAD, 1, 10, false).await, "`read` of dead letters")?.0;
    let data: Vec<_> = dead.iter().map(|event| event.content.data.clone()).collect();
    same(&data, &vec![b"a".to_vec()], "dead letters")
}

async fn namespaces(subject: Subject) -> Checked {
    let other = subject.beside()?;
    topic(&subject, KEEPS).await?;
    topic(&other, KEEPS).await?;
    publish(&subject, &["a"]).await?;
    same(&read(&other, 1, false).await?.len(), &0, "another namespace's events")?;
    same(&publish(&other, &["a"]).await?, &vec![(1, false)], "the first event in another namespace")
}

/// Events that a filter may be asked about.
fn candidates() -> Vec<NewEvent> {
    let with = |content_type: &str, data: String| NewEvent {
        content_type: content_type.to_owned(),
        data: data.into_bytes(),
        ..event("", "")
    };
    vec![
        event("", ""),
        event("\u{1f600}", "text"),
        with("application/json", "{\"a\": [1, null, \"\u{1f600}\"]}".to_owned()),
        with("application/json", "{\"a\":".to_owned()),
        with("", "x".repeat(200_000)),
        with("application/json", "[".repeat(5000)),
        NewEvent { kind: "a".repeat(100), ..event("long", "") },
    ]
}

/// What became of an event: its place is left out.
async fn filtered(subject: &Subject, event: NewEvent) -> Result<Result<(), String>, Failure> {
    let what = format!("an event of {} bytes", event.data.len());
    let outcomes = answered(events(subject).publish(&subject.call(), TOPIC, vec![event]).await, &what)?;
    let outcome = outcomes.into_iter().next().ok_or_else(|| Failure::new(format!("nothing became of {what}")))?;
    Ok(outcome.published.map(drop))
}

async fn answers(subject: Subject) -> Checked {
    topic(&subject, KEEPS).await?;
    for event in candidates() {
        if let Err(reason) = filtered(&subject, event).await? {
            holds(!reason.is_empty(), "an event that is dropped is dropped with a reason")?;
        }
    }
    Ok(())
}

async fn repeatable(subject: Subject) -> Checked {
    let other = subject.beside()?;
    topic(&subject, KEEPS).await?;
    topic(&other, KEEPS).await?;
    for event in candidates() {
        let words = shown(&event);
        let first = filtered(&subject, event.clone()).await?;
        same(&filtered(&other, event).await?, &first, &words)?;
    }
    Ok(())
}
