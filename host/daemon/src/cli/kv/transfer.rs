//! `platform kv export` and `import`: keys as JSON lines.
//!
//! Owns the form of the lines. An export lists keys, then what changed while it listed, so that its lines, read in order,
//! come to what the namespace held at one revision. Invariant: importing lines again comes to the same.

use std::collections::HashSet;

use clap::Args;
use platform_base::clock;
use platform_proto::kv::v1::{
    CommitRequest, Entry, ListRequest, WatchEvent, WatchRequest, Write,
    watch_event::{Deleted, Event, Progress},
    write::{Action, Put, put::Expiry},
};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    transfer::{self, Place, Sink, Source, read_bytes, spell},
};

/// Keys in one page and in one commit.
const AT_ONCE: u32 = 500;
/// Bytes of keys and values in one commit.
const COMMIT_BYTES: usize = 6 << 20;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Only keys that start with this.
    #[arg(default_value = "")]
    prefix: String,
    #[command(flatten)]
    place: Place,
}

/// One line.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Line {
    key: String,
    /// The value as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The value in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// When the key goes, unix time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    delete: bool,
    /// For whoever reads; the store that it is imported to has its own.
    revision: u64,
}

/// How far an export has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct At {
    prefix: String,
    /// Changes after this revision follow what is listed.
    revision: u64,
    /// Token of the next page; none when all is listed.
    page: Option<String>,
}

impl From<Entry> for Line {
    fn from(entry: Entry) -> Self {
        let (text, value) = spell(&entry.value);
        let expires_ms = entry.expire_time.map(milliseconds);
        Self { key: entry.key, text, value, expires_ms, delete: false, revision: entry.revision }
    }
}

fn milliseconds(time: Timestamp) -> u64 {
    let ms = time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000));
    u64::try_from(ms).unwrap_or(0)
}

impl Line {
    fn write(self) -> Result<Write, String> {
        if self.key.is_empty() {
            return Err("`key` is missing".to_owned());
        }
        let value = read_bytes("value", self.text, self.value)?;
        let left = self.expires_ms.map(|at| at.saturating_sub(clock::unix_ms()));
        let action = match (value, self.delete, left) {
            (Some(_), true, _) => return Err("a key that is deleted takes no value".to_owned()),
            // It has gone since it was exported.
            (None, true, _) | (Some(_), false, Some(0)) => Action::Delete(true),
            (Some(value), false, left) => Action::Put(Put { value, expiry: left.map(Expiry::TtlMs) }),
            (None, false, _) => return Err("there is neither `text` nor `value` nor `delete`".to_owned()),
        };
        Ok(Write { key: self.key, condition: None, action: Some(action) })
    }
}

/// Writes keys to a file.
pub(crate) async fn export(context: &Context, arguments: Export) -> Result<Exit, Failure> {
    let Export { prefix, place } = arguments;
    let (mut sink, at) = Sink::open::<At>(context, &place, "kv")?;
    let client = context.connect().await?;
    let mut at = match at {
        Some(at) if at.prefix != prefix => {
            return Err(Failure::usage(format!("the export that broke off is of `{}`; go on with that", at.prefix)));
        }
        Some(at) => at,
        None => At { revision: revision(&client).await?, prefix, page: Some(String::new()) },
    };
    while let Some(page_token) = at.page.take() {
        let message = ListRequest { prefix: at.prefix.clone(), limit: AT_ONCE, page_token };
        let page = client.call(client.kv().list(client.request(TIMEOUT, message))).await?;
        for entry in page.entries {
            sink.line(&Line::from(entry))?;
        }
        at.page = Some(page.next_page_token).filter(|token| !token.is_empty());
        sink.checkpoint(&at)?;
    }
    let until = revision(&client).await?;
    if until > at.revision {
        changes(&client, &at, until, &mut sink).await?;
    }
    let lines = sink.finish()?;
    let words = format!("exported {lines} lines, as of revision {until}");
    transfer::told(context, &place, &words, &json!({"lines": lines, "revision": until}))?;
    Ok(Exit::Done)
}

/// The revision that the namespace is at: a watch begins with it.
async fn revision(client: &Client) -> Result<u64, Failure> {
    let request = WatchRequest { prefix: String::new(), after_revision: None };
    let mut stream = client.call(client.kv().watch(request)).await?;
    let first = client.call(async { stream.message().await.map(tonic::Response::new) }).await?;
    match first.and_then(|first| first.event) {
        Some(Event::Progress(Progress { revision })) => Ok(revision),
        _ => Err(Failure::new(Exit::Error, "NO_REVISION", "the daemon did not say which revision it is at")),
    }
}

/// What changed while keys were listed. Changes of one commit come one by one, so the end of it is known when something later
/// comes, or word that nothing does.
async fn changes(client: &Client, at: &At, until: u64, sink: &mut Sink) -> Result<(), Failure> {
    let request = WatchRequest { prefix: String::new(), after_revision: Some(at.revision) };
    let mut stream = client.call(client.kv().watch(request)).await.map_err(transfer::compacted)?;
    loop {
        let message = client.call(async { stream.message().await.map(tonic::Response::new) }).await;
        let Some(WatchEvent { event: Some(event) }) = message.map_err(transfer::compacted)? else {
            return Err(Failure::new(Exit::Unavailable, "STREAM_ENDED", "the daemon ended the stream of changes"));
        };
        let line = match event {
            // The first one only repeats what was asked for.
            Event::Progress(Progress { revision }) if revision >= until && revision > at.revision => return Ok(()),
            Event::Progress(_) => continue,
            Event::Put(entry) => Line::from(entry),
            Event::Delete(Deleted { key, revision }) => Line { key, revision, delete: true, ..Line::default() },
        };
        if line.revision > until {
            return Ok(());
        }
        if line.key.starts_with(&at.prefix) {
            sink.line(&line)?;
        }
    }
}

/// Reads keys from a file.
pub(crate) async fn import(context: &Context, place: Place) -> Result<Exit, Failure> {
    let mut source = Source::open(context, &place, "kv")?;
    let client = context.connect().await?;
    let mut batch = Batch::default();
    let mut lines = 0_u64;
    while let Some(entry) = source.next::<Line>()? {
        let write = entry.line.write().map_err(|why| source.wrong(entry.number, why))?;
        if !batch.takes(&write) {
            batch.send(&client, &source).await?;
        }
        batch.push(entry.number, write);
        lines += 1;
        if batch.is_full() {
            batch.send(&client, &source).await?;
            source.checkpoint()?;
        }
    }
    batch.send(&client, &source).await?;
    let exit = source.finish()?;
    transfer::told(context, &place, &format!("imported {lines} lines"), &json!({"lines": lines}))?;
    Ok(exit)
}

/// Writes that go to the daemon together.
#[derive(Debug, Default)]
struct Batch {
    writes: Vec<Write>,
    keys: HashSet<String>,
    bytes: usize,
    from: u64,
    to: u64,
}

fn size(write: &Write) -> usize {
    let value = if let Some(Action::Put(put)) = &write.action { put.value.len() } else { 0 };
    write.key.len() + value
}

impl Batch {
    /// Whether a write fits in: a key is written once in a commit.
    fn takes(&self, write: &Write) -> bool {
        self.writes.is_empty() || (!self.keys.contains(&write.key) && self.bytes + size(write) <= COMMIT_BYTES)
    }

    fn is_full(&self) -> bool {
        self.writes.len() >= AT_ONCE as usize
    }

    fn push(&mut self, number: u64, write: Write) {
        if self.writes.is_empty() {
            self.from = number;
        }
        self.to = number;
        self.bytes += size(&write);
        self.keys.insert(write.key.clone());
        self.writes.push(write);
    }

    async fn send(&mut self, client: &Client, source: &Source) -> Result<(), Failure> {
        let Self { writes, from, to, .. } = std::mem::take(self);
        if writes.is_empty() {
            return Ok(());
        }
        let request = client.request(TIMEOUT, CommitRequest { writes });
        let made = client.call(client.kv().commit(request)).await;
        made.map(drop).map_err(|failure| source.refused(from, to, failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Write, String> {
        serde_json::from_str::<Line>(text).map_err(|error| error.to_string()).and_then(Line::write)
    }

    #[test]
    fn what_is_exported_is_imported() {
        let far = clock::unix_ms() + 600_000;
        let time = Timestamp { seconds: i64::try_from(far / 1000).unwrap(), nanos: 0 };
        for (value, expire_time) in [(&b"text"[..], None), (b"\xff", Some(time)), (b"", None)] {
            let entry = Entry { key: "k".into(), value: value.to_vec().into(), revision: 7, expire_time };
            let text = serde_json::to_string(&Line::from(entry)).unwrap();
            let Some(Action::Put(put)) = line(&text).unwrap().action else { panic!("{text}") };
            assert_eq!(put.value, value);
            assert_eq!(put.expiry.is_some(), expire_time.is_some(), "{text}");
        }
    }

    #[test]
    fn what_has_ended_or_was_deleted_goes() {
        for gone in [r#"{"key": "a", "text": "", "expiresMs": 5, "revision": 1}"#, r#"{"key": "a", "delete": true}"#] {
            assert_eq!(line(gone).unwrap().action, Some(Action::Delete(true)), "{gone}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, named) in [
            ("[]", "`key`"),
            ("{}", "`key`"),
            (r#"{"key": "a"}"#, "neither"),
            (r#"{"key": "a", "text": "", "value": ""}"#, "either"),
            (r#"{"key": "a", "value": "?"}"#, "base64"),
            (r#"{"key": "a", "text": "", "delete": true}"#, "takes no value"),
            (r#"{"key": "a", "text": "", "ttl": 5}"#, "`ttl`"),
            (r#"{"key": "a", "text": "", "expiresMs": -5}"#, "u64"),
        ] {
            let why = line(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
    }
}
