//! `platform kv commit`: several writes, all or none, one JSON object on each line.
//!
//! Owns the form of the lines; the rules of keys and revisions are the daemon's. Invariant: a line that is not understood
//! is named by its number, and then nothing is sent.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use platform_proto::kv::v1::{
    CommitRequest, Write,
    write::{Action, Condition, Put, put::Expiry},
};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    input,
    quantity::{milliseconds, positive_duration},
};

/// Most that is read: 16 MiB of values in base64, and what is around them.
const INPUT_BYTES: u64 = 32 << 20;

#[derive(Debug, Args)]
pub(crate) struct Commit {
    /// File with a write on each line; `-` is standard input.
    #[arg(short, long, default_value = "-")]
    file: PathBuf,
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    key: String,
    /// The value as text.
    text: Option<String>,
    /// The value in base64.
    value: Option<String>,
    /// How long the key stays, such as `5m`.
    ttl: Option<String>,
    #[serde(default)]
    keep_ttl: bool,
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    if_absent: bool,
    #[serde(default)]
    if_present: bool,
    /// As a number, or as text like all 64-bit numbers in the answers of the API.
    if_revision: Option<Value>,
}

/// Runs the command.
pub(crate) async fn run(context: &Context, arguments: Commit) -> Result<Exit, Failure> {
    let writes = parse(&arguments.file, &input::read(&arguments.file, INPUT_BYTES)?)?;
    let count = writes.len();
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, CommitRequest { writes });
    let made = client.call(client.kv().commit(request)).await?;
    let human = || format!("{count} writes made at revision {}", made.revision);
    context.output.answer("platform.kv.v1.CommitResponse", &made, human)?;
    Ok(Exit::Done)
}

fn parse(file: &Path, bytes: &[u8]) -> Result<Vec<Write>, Failure> {
    let shown = input::shown(file);
    let text = std::str::from_utf8(bytes).map_err(|_not_text| {
        Failure::usage(format!("`{}` is no text; write one JSON object on each line", shown.display()))
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let writes = lines.map(|(number, line)| {
        let read = serde_json::from_str::<Line>(line).map_err(|error| error.to_string()).and_then(Line::write);
        read.map_err(|why| Failure::usage(format!("`{}` line {}: {why}", shown.display(), number + 1)))
    });
    writes.collect()
}

impl Line {
    fn write(self) -> Result<Write, String> {
        let value = match (self.text, self.value) {
            (Some(_), Some(_)) => return Err("give either `text` or `value`".to_owned()),
            (Some(text), None) => Some(Bytes::from(text)),
            (None, Some(value)) => {
                let decoded = STANDARD.decode(value);
                Some(decoded.map_err(|error| format!("`value` is no base64: {error}; write text as `text`"))?.into())
            }
            (None, None) => None,
        };
        let expiry = match (self.ttl, self.keep_ttl) {
            (Some(_), true) => return Err("give either `ttl` or `keepTtl`".to_owned()),
            (Some(ttl), false) => Some(Expiry::TtlMs(milliseconds(positive_duration(&ttl)?))),
            (None, keep) => keep.then_some(Expiry::KeepTtl(true)),
        };
        let action = match (value, self.delete) {
            (Some(_), true) => return Err("a key that is deleted takes no value".to_owned()),
            (Some(value), false) => Some(Action::Put(Put { value, expiry })),
            (None, _) if expiry.is_some() => return Err("a time to live needs a value, `text` or `value`".to_owned()),
            (None, delete) => delete.then_some(Action::Delete(true)),
        };
        let revision = self.if_revision.map(|revision| {
            let number = revision.as_u64().or_else(|| revision.as_str()?.parse().ok());
            number.ok_or_else(|| format!("`ifRevision` is {revision}, which is no revision"))
        });
        let condition = match (self.if_absent, self.if_present, revision.transpose()?) {
            (false, false, revision) => revision.map(Condition::IfRevision),
            (true, false, None) => Some(Condition::IfAbsent(true)),
            (false, true, None) => Some(Condition::IfPresent(true)),
            _ => return Err("give one of `ifAbsent`, `ifPresent` and `ifRevision`".to_owned()),
        };
        Ok(Write { key: self.key, condition, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Write, String> {
        parse(Path::new("-"), line.as_bytes()).map(|mut writes| writes.remove(0)).map_err(|failure| failure.message)
    }

    #[test]
    fn a_line_says_what_is_done() {
        let put = one(r#"{"key": "a", "text": "hello", "ttl": "5s", "ifRevision": 7}"#).unwrap();
        let action = Action::Put(Put { value: "hello".into(), expiry: Some(Expiry::TtlMs(5000)) });
        assert_eq!(put, Write { key: "a".into(), condition: Some(Condition::IfRevision(7)), action: Some(action) });
        let binary = one(r#"{"key": "a", "value": "/wA=", "keepTtl": true}"#).unwrap();
        let action = Action::Put(Put { value: vec![255, 0].into(), expiry: Some(Expiry::KeepTtl(true)) });
        assert_eq!(binary, Write { key: "a".into(), condition: None, action: Some(action) });
        let gone = one(r#"{"key": "a", "delete": true, "ifPresent": true}"#).unwrap();
        let present = Some(Condition::IfPresent(true));
        assert_eq!(gone, Write { key: "a".into(), condition: present, action: Some(Action::Delete(true)) });
        let check = one(r#"{"key": "a", "ifRevision": "9"}"#).unwrap();
        assert_eq!(check, Write { key: "a".into(), condition: Some(Condition::IfRevision(9)), action: None });
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (line, named) in [
            ("[]", "line 1"),
            ("{}", "`key`"),
            (r#"{"key": "a", "txt": "b"}"#, "`txt`"),
            (r#"{"key": "a", "text": "b", "value": ""}"#, "either `text` or `value`"),
            (r#"{"key": "a", "value": "!"}"#, "no base64"),
            (r#"{"key": "a", "text": "b", "delete": true}"#, "takes no value"),
            (r#"{"key": "a", "ttl": "5s"}"#, "needs a value"),
            (r#"{"key": "a", "text": "b", "ttl": "0s"}"#, "`0s`"),
            (r#"{"key": "a", "text": "b", "ttl": "5s", "keepTtl": true}"#, "either `ttl`"),
            (r#"{"key": "a", "ifAbsent": true, "ifPresent": true}"#, "give one of"),
            (r#"{"key": "a", "ifRevision": -1}"#, "no revision"),
        ] {
            let message = one(line).unwrap_err();
            assert!(message.starts_with("`standard input` line 1: ") && message.contains(named), "{line}: {message}");
        }
        let second = parse(Path::new("f"), b"\n{\"key\": \"a\"}\nnonsense\n").unwrap_err();
        assert!(second.message.starts_with("`f` line 3"), "{}", second.message);
        assert!(parse(Path::new("f"), b"\xff").is_err());
    }
}
