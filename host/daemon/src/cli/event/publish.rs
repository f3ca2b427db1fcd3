//! Publishing: one event from the command line, or many from a file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use platform_proto::event::v1::{NewEvent, PublishBatchRequest, PublishBatchResponse, PublishRequest, Published};
use serde::Deserialize;

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    input, quantity,
};

/// Largest data of an event.
const DATA_BYTES: u64 = 1 << 20;
/// Largest file of events.
const BATCH_BYTES: u64 = 256 << 20;
/// Events that go to the daemon at once, and bytes of their data.
const AT_ONCE: (usize, usize) = (100, 6 << 20);

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic.
    topic: String,
    /// What happened, such as `order.placed`.
    #[arg(value_name = "TYPE", required_unless_present = "batch")]
    kind: Option<String>,
    /// The data; `-` reads it from standard input.
    #[arg(allow_hyphen_values = true, conflicts_with = "file")]
    data: Option<String>,
    /// Reads the data from a file; `-` is standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Names the event, so that it is kept once however often it is published.
    #[arg(long, default_value = "")]
    id: String,
    /// Where it happened.
    #[arg(long, default_value = "")]
    origin: String,
    /// Id of the event that all of this began with.
    #[arg(long, default_value = "", value_name = "ID")]
    root: String,
    /// Id of the event that caused it.
    #[arg(long, default_value = "", value_name = "ID", requires = "root")]
    parent: String,
    /// A fact beside the data.
    #[arg(long, value_name = "KEY=VALUE", value_parser = quantity::pair)]
    meta: Vec<(String, String)>,
    /// Media type of the data; `application/json` when it is JSON, else `text/plain` or none.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Publishes the events of a file, one JSON object on each line, in order; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kind", "data", "file", "id", "origin", "root", "parent", "meta"])]
    batch: Option<PathBuf>,
}

/// An event on a line of a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    #[serde(default)]
    id: String,
    r#type: String,
    #[serde(default)]
    origin: String,
    #[serde(default)]
    root: String,
    #[serde(default)]
    parent: String,
    #[serde(default)]
    content_type: Option<String>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// JSON as it stands.
    #[serde(default)]
    json: Option<serde_json::Value>,
    #[serde(default)]
    text: Option<String>,
    /// In base64.
    #[serde(default)]
    data: Option<String>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, arguments: Publish) -> Result<Exit, Failure> {
    if let Some(file) = &arguments.batch {
        return batch(context, arguments.topic, file).await;
    }
    let data = match (&arguments.data, &arguments.file) {
        (None, None) => Bytes::new(),
        (Some(text), _) if text != "-" => Bytes::from(text.clone().into_bytes()),
        (_, file) => input::read(file.as_deref().unwrap_or(Path::new("-")), DATA_BYTES)?.into(),
    };
    let event = NewEvent {
        id: arguments.id,
        r#type: arguments.kind.unwrap_or_default(),
        origin: arguments.origin,
        root: arguments.root,
        parent: arguments.parent,
        content_type: arguments.content_type.unwrap_or_else(|| content_type(&data).to_owned()),
        metadata: arguments.meta.into_iter().collect(),
        data,
    };
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, PublishRequest { topic: arguments.topic, event: Some(event) });
    let published = client.call(client.events().publish(request)).await?;
    context.output.answer("platform.event.v1.Published", &published, || told(&published))?;
    Ok(exit(&[published]))
}

/// What the data seems to be.
fn content_type(data: &[u8]) -> &'static str {
    match std::str::from_utf8(data) {
        Ok("") | Err(_) => "",
        Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => "application/json",
        Ok(_) => "text/plain",
    }
}

fn told(published: &Published) -> String {
    let Published { id, sequence, duplicate, dropped, .. } = published;
    match (dropped.as_str(), duplicate) {
        ("", false) => format!("published {id} as {sequence}"),
        ("", true) => format!("{id} was there already as {sequence}"),
        (why, _) => format!("{id} was dropped: {why}"),
    }
}

fn exit(published: &[Published]) -> Exit {
    if published.iter().any(|one| !one.dropped.is_empty()) { Exit::No } else { Exit::Done }
}

async fn batch(context: &Context, topic: String, file: &Path) -> Result<Exit, Failure> {
    let text = String::from_utf8(input::read(file, BATCH_BYTES)?)
        .map_err(|error| Failure::usage(format!("`{}` is no text: {error}", input::shown(file).display())))?;
    let events = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| parse(line).map_err(|why| Failure::usage(format!("line {}: {why}", number + 1))))
        .collect::<Result<Vec<_>, _>>()?;
    let client = context.connect().await?;
    let (mut published, mut together, mut bytes) = (Vec::new(), Vec::new(), 0);
    for event in events {
        if together.len() >= AT_ONCE.0 || bytes + event.data.len() > AT_ONCE.1 {
            published.extend(send(&client, &topic, std::mem::take(&mut together)).await?);
            bytes = 0;
        }
        bytes += event.data.len();
        together.push(event);
    }
    if !together.is_empty() {
        published.extend(send(&client, &topic, together).await?);
    }
    let answer = PublishBatchResponse { published };
    let human = || answer.published.iter().map(told).collect::<Vec<_>>().join("\n");
    context.output.answer("platform.event.v1.PublishBatchResponse", &answer, human)?;
    Ok(exit(&answer.published))
}

async fn send(client: &Client, topic: &str, events: Vec<NewEvent>) -> Result<Vec<Published>, Failure> {
    let request = client.request(TIMEOUT, PublishBatchRequest { topic: topic.to_owned(), events });
    Ok(client.call(client.events().publish_batch(request)).await?.published)
}

fn parse(line: &str) -> Result<NewEvent, String> {
    let Line { id, r#type, origin, root, parent, content_type, metadata, json, text, data } =
        serde_json::from_str(line).map_err(|error| error.to_string())?;
    let (guessed, data) = match (json, text, data) {
        (None, None, None) => ("", Vec::new()),
        (Some(json), None, None) => ("application/json", json.to_string().into_bytes()),
        (None, Some(text), None) => ("text/plain", text.into_bytes()),
        (None, None, Some(data)) => ("", STANDARD.decode(data).map_err(|error| format!("`data`: {error}"))?),
        _ => return Err("give one of `json`, `text` and `data`".to_owned()),
    };
    let content_type = content_type.unwrap_or_else(|| guessed.to_owned());
    Ok(NewEvent { id, r#type, origin, root, parent, content_type, metadata, data: data.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_data_in_one_form() {
        let event = parse(r#"{"type":"t","json":{"a":1},"metadata":{"k":"v"}}"#).unwrap();
        assert_eq!((event.content_type.as_str(), &event.data[..]), ("application/json", &br#"{"a":1}"#[..]));
        assert_eq!(&parse(r#"{"type":"t","data":"aGk="}"#).unwrap().data[..], b"hi");
        for wrong in ["", "{}", r#"{"type":"t","text":"a","json":1}"#, r#"{"type":"t","kind":1}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn data_is_guessed() {
        for (data, kind) in
            [(&b""[..], ""), (b"{\"a\":1}", "application/json"), (b"hello", "text/plain"), (b"\xff", "")]
        {
            assert_eq!(content_type(data), kind);
        }
    }
}
