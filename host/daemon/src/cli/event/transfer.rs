//! `platform event export` and `import`: topics and events as JSON lines.
//!
//! Owns the form of the lines. Invariant: an event is imported once however often its line is, because what a topic holds
//! is looked through before anything is published there.

use std::collections::{BTreeMap, HashSet};

use clap::Args;
use platform_proto::event::v1::{
    CreateTopicRequest, Event, GetTopicRequest, ListTopicsRequest, NewEvent, PublishBatchRequest, ReadRequest,
    Retention, Topic,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    pages,
    transfer::{self, Place, Sink, Source, read_bytes, spell},
};

/// The host's own topic, in which nobody else publishes.
const PLATFORM: &str = "platform";
/// Events in one page.
const PAGE: u32 = 500;
/// Events that go to the daemon at once, and bytes of their data.
const AT_ONCE: (usize, usize) = (100, 6 << 20);

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The topic; all but the platform's own when not given.
    topic: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// One line: an event when it has a type, else a topic.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Line {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<Kept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window_ms: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    origin: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    content_type: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    /// The data as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The data in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    /// For whoever reads, like time and publisher; where it is imported to it gets its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    publisher: String,
}

/// How long a topic keeps events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// How far an export has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct At {
    only: Option<String>,
    topic: String,
    /// The next event of the topic.
    next: u64,
}

impl From<Topic> for Line {
    fn from(topic: Topic) -> Self {
        let Retention { age_ms, count, bytes } = topic.retention.unwrap_or_default();
        let retention = Some(Kept { age_ms, count, bytes });
        Self { topic: topic.name, retention, window_ms: Some(topic.window_ms), ..Self::default() }
    }
}

impl From<Event> for Line {
    fn from(event: Event) -> Self {
        let (text, data) = spell(&event.data);
        Self {
            topic: event.topic,
            id: event.id,
            r#type: event.r#type,
            origin: event.origin,
            root: event.root,
            parent: event.parent,
            content_type: event.content_type,
            metadata: event.metadata,
            text,
            data,
            sequence: Some(event.sequence),
            time: event.time.map(|time| time.to_string()),
            publisher: event.publisher,
            ..Self::default()
        }
    }
}

impl Line {
    fn new_topic(self) -> CreateTopicRequest {
        let retention = self.retention.map(|Kept { age_ms, count, bytes }| Retention { age_ms, count, bytes });
        CreateTopicRequest { name: self.topic, retention, window_ms: self.window_ms }
    }

    fn new_event(self) -> Result<NewEvent, String> {
        if self.id.is_empty() {
            return Err("`id` is missing".to_owned());
        }
        let data = read_bytes("data", self.text, self.data)?.unwrap_or_default();
        let Self { id, r#type, origin, root, parent, content_type, metadata, .. } = self;
        Ok(NewEvent { id, r#type, origin, root, parent, content_type, metadata, data })
    }
}

/// Writes topics to a file.
pub(crate) async fn export(context: &Context, arguments: Export) -> Result<Exit, Failure> {
    let Export { topic, place } = arguments;
    let (mut sink, at) = Sink::open::<At>(context, &place, "event")?;
    if at.as_ref().is_some_and(|at| at.only != topic) {
        return Err(Failure::usage("the export that broke off is of other topics; name the same"));
    }
    let client = context.connect().await?;
    let mut at = at.unwrap_or_else(|| At { only: topic.clone(), ..At::default() });
    let topics = match topic {
        Some(name) => {
            vec![client.call(client.events().get_topic(client.request(TIMEOUT, GetTopicRequest { name }))).await?]
        }
        None => topics(&client).await?,
    };
    let (mut count, begun) = (0, at.topic.clone());
    for topic in topics.into_iter().filter(|topic| topic.name != PLATFORM && topic.name >= begun) {
        let last = topic.last;
        if topic.name != at.topic {
            (at.topic, at.next) = (topic.name.clone(), topic.first);
            sink.line(&Line::from(topic))?;
            sink.checkpoint(&at)?;
        }
        events(&client, &mut at, last, &mut sink).await?;
        count += 1;
    }
    let lines = sink.finish()?;
    let words = format!("exported {lines} lines of {count} topics");
    transfer::told(context, &place, &words, &json!({"lines": lines, "topics": count}))?;
    Ok(Exit::Done)
}

async fn topics(client: &Client) -> Result<Vec<Topic>, Failure> {
    let (topics, _) = pages::read(None, async |limit, page_token| {
        let message = ListTopicsRequest { prefix: String::new(), limit, page_token };
        let page = client.call(client.events().list_topics(client.request(TIMEOUT, message))).await?;
        Ok((page.topics, page.next_page_token))
    })
    .await?;
    Ok(topics)
}

/// The events of a topic from where it is on, up to what was the last when it was looked up.
async fn events(client: &Client, at: &mut At, last: u64, sink: &mut Sink) -> Result<(), Failure> {
    while at.next <= last {
        let page = read(client, &at.topic, at.next).await?;
        let Some(end) = page.last().map(|event| event.sequence) else { return Ok(()) };
        for event in page.into_iter().filter(|event| event.sequence <= last) {
            sink.line(&Line::from(event))?;
        }
        at.next = end + 1;
        sink.checkpoint(at)?;
    }
    Ok(())
}

/// A page of events from a sequence on.
async fn read(client: &Client, topic: &str, from: u64) -> Result<Vec<Event>, Failure> {
    let message = ReadRequest { topic: topic.to_owned(), from, limit: PAGE, ..ReadRequest::default() };
    Ok(client.call(client.events().read(client.request(TIMEOUT, message))).await?.events)
}

/// Reads topics from a file.
pub(crate) async fn import(context: &Context, place: Place) -> Result<Exit, Failure> {
    let mut source = Source::open(context, &place, "event")?;
    let mut batch = Batch::new(context.connect().await?);
    let mut lines = 0_u64;
    while let Some(entry) = source.next::<Line>()? {
        let (number, line) = (entry.number, entry.line);
        lines += 1;
        if line.topic.is_empty() {
            return Err(source.wrong(number, "`topic` is missing"));
        }
        if line.r#type.is_empty() {
            batch.send(&source).await?;
            batch.create(number, line.new_topic(), &source).await?;
            continue;
        }
        let topic = line.topic.clone();
        let event = line.new_event().map_err(|why| source.wrong(number, why))?;
        if !batch.takes(&topic, &event) {
            batch.send(&source).await?;
        }
        batch.push(number, topic, event).await?;
        if batch.events.len() >= AT_ONCE.0 {
            batch.send(&source).await?;
            source.checkpoint()?;
        }
    }
    batch.send(&source).await?;
    let (published, known) = (batch.published, batch.known);
    let exit = source.finish()?;
    let words = format!("imported {lines} lines: {published} events were published, {known} were there already");
    transfer::told(context, &place, &words, &json!({"lines": lines, "published": published, "known": known}))?;
    Ok(exit)
}

/// Events that go to the daemon together.
struct Batch {
    client: Client,
    topic: String,
    /// Ids of what the topic holds.
    held: HashSet<String>,
    events: Vec<NewEvent>,
    bytes: usize,
    from: u64,
    to: u64,
    published: u64,
    known: u64,
}

impl Batch {
    fn new(client: Client) -> Self {
        let (topic, held, events) = Default::default();
        Self { client, topic, held, events, bytes: 0, from: 0, to: 0, published: 0, known: 0 }
    }

    fn takes(&self, topic: &str, event: &NewEvent) -> bool {
        self.events.is_empty() || (self.topic == topic && self.bytes + event.data.len() <= AT_ONCE.1)
    }

    async fn push(&mut self, number: u64, topic: String, event: NewEvent) -> Result<(), Failure> {
        if self.topic != topic {
            self.held = held(&self.client, &topic).await?;
            self.topic = topic;
        }
        if !self.held.insert(event.id.clone()) {
            self.known += 1;
            return Ok(());
        }
        if self.events.is_empty() {
            self.from = number;
        }
        self.to = number;
        self.bytes += event.data.len();
        self.events.push(event);
        Ok(())
    }

    async fn create(&self, number: u64, topic: CreateTopicRequest, source: &Source) -> Result<(), Failure> {
        let request = self.client.request(TIMEOUT, topic);
        match self.client.call(self.client.events().create_topic(request)).await {
            Err(failure) if failure.code == Some(tonic::Code::AlreadyExists) => Ok(()),
            made => made.map(drop).map_err(|failure| source.refused(number, number, failure)),
        }
    }

    async fn send(&mut self, source: &Source) -> Result<(), Failure> {
        let (events, topic) = (std::mem::take(&mut self.events), self.topic.clone());
        self.bytes = 0;
        if events.is_empty() {
            return Ok(());
        }
        let request = self.client.request(TIMEOUT, PublishBatchRequest { topic, events });
        let made = self.client.call(self.client.events().publish_batch(request)).await;
        let made = made.map_err(|failure| source.refused(self.from, self.to, failure))?;
        for published in made.published {
            if published.duplicate {
                self.known += 1;
            } else {
                self.published += 1;
            }
        }
        Ok(())
    }
}

/// Ids of all events of a topic; none when there is no such topic.
async fn held(client: &Client, topic: &str) -> Result<HashSet<String>, Failure> {
    let (mut ids, mut from) = (HashSet::new(), 0);
    loop {
        let page = match read(client, topic, from).await {
            Err(failure) if failure.code == Some(tonic::Code::NotFound) => return Ok(ids),
            page => page?,
        };
        let Some(last) = page.last() else { return Ok(ids) };
        from = last.sequence + 1;
        ids.extend(page.into_iter().map(|event| event.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_imported() {
        for data in [&b""[..], b"text", b"\xff"] {
            let event = Event {
                topic: "t".into(),
                sequence: 7,
                id: "1".into(),
                r#type: "made".into(),
                root: "0".into(),
                metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
                data: data.to_vec().into(),
                ..Event::default()
            };
            let text = serde_json::to_string(&Line::from(event.clone())).unwrap();
            let new = serde_json::from_str::<Line>(&text).unwrap().new_event().unwrap();
            assert_eq!((new.id, new.r#type, new.root), (event.id, event.r#type, event.root));
            assert_eq!((new.metadata, new.data), (event.metadata, event.data));
        }
        let retention = Some(Retention { age_ms: None, count: Some(5), bytes: None });
        let topic = Topic { name: "t".into(), retention, window_ms: 9, ..Topic::default() };
        let text = serde_json::to_string(&Line::from(topic)).unwrap();
        let made = serde_json::from_str::<Line>(&text).unwrap().new_topic();
        assert_eq!(made, CreateTopicRequest { name: "t".into(), retention, window_ms: Some(9) });
    }

    #[test]
    fn what_is_not_understood_is_said() {
        let line = |text: &str| {
            let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
            line.new_event()
        };
        for (text, named) in [
            (r#"{"topic": "t", "type": "a"}"#, "`id`"),
            (r#"{"topic": "t", "type": "a", "id": "1", "text": "", "data": ""}"#, "either"),
            (r#"{"topic": "t", "type": "a", "id": "1", "colour": 1}"#, "`colour`"),
        ] {
            let why = line(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
