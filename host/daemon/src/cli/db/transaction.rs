//! `platform db transaction`: several writes, all or none, one JSON object on each line.
//!
//! Owns the form of the lines; the rules of records are the daemon's. Invariant: a line that is not understood is named by its
//! number, and then nothing is sent.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use platform_proto::db::v1::{
    TransactRequest, Write,
    write::{Action, Condition, Content},
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::{
    Context,
    client::TIMEOUT,
    document,
    failure::{Exit, Failure},
    input,
    output::show,
};

/// Most that is read: 12 MiB of data in base64, and what is around them.
const INPUT_BYTES: u64 = 24 << 20;

#[derive(Debug, Args)]
pub(crate) struct Transaction {
    /// The database.
    database: String,
    /// File with a write on each line; `-` is standard input.
    #[arg(short, long, default_value = "-")]
    file: PathBuf,
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    table: String,
    #[serde(default)]
    id: String,
    metadata: Option<Map<String, Value>>,
    /// The data as text.
    text: Option<String>,
    /// The data in base64.
    data: Option<String>,
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
pub(crate) async fn run(context: &Context, arguments: Transaction) -> Result<Exit, Failure> {
    let bytes = input::read(&arguments.file, INPUT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|error| Failure::usage(format!("the writes are no text: {error}")))?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let writes = lines
        .map(|(number, line)| write(line).map_err(|why| Failure::usage(format!("line {number} is no write: {why}"))));
    let writes = writes.collect::<Result<Vec<_>, _>>()?;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, TransactRequest { database: arguments.database, writes });
    let made = client.call(client.db().transact(request)).await?;
    let output = context.output;
    output.answer("platform.db.v1.TransactResponse", &made, || {
        let mut table = output.table(&["ID", "REVISION"]);
        for outcome in &made.outcomes {
            let revision = outcome.revision.map(|revision| revision.to_string());
            table.add_row([outcome.id.clone(), revision.unwrap_or_default()]);
        }
        show(&table)
    })?;
    Ok(Exit::Done)
}

fn write(line: &str) -> Result<Write, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let revision = match &line.if_revision {
        None => None,
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    if line.if_revision.is_some() && revision.is_none() {
        return Err("`ifRevision` is no revision".to_owned());
    }
    let condition = match (line.if_absent, line.if_present, revision) {
        (false, false, None) => None,
        (true, false, None) => Some(Condition::IfAbsent(true)),
        (false, true, None) => Some(Condition::IfPresent(true)),
        (false, false, Some(revision)) => Some(Condition::IfRevision(revision)),
        _ => return Err("it has more than one condition".to_owned()),
    };
    let data = match (line.text, line.data) {
        (Some(_), Some(_)) => return Err("it has `text` and `data`".to_owned()),
        (Some(text), None) => Some(Bytes::from(text.into_bytes())),
        (None, Some(data)) => Some(STANDARD.decode(data).map_err(|error| format!("`data`: {error}"))?.into()),
        (None, None) => None,
    };
    let puts = line.metadata.is_some() || data.is_some();
    let action = match (puts, line.delete) {
        (true, true) => return Err("it has something to put, and `delete`".to_owned()),
        (true, false) => {
            let metadata = Value::Object(line.metadata.unwrap_or_default()).to_string();
            let metadata = document::read(&metadata).map_err(|failure| failure.message)?.fields;
            Some(Action::Put(Content { metadata, data: data.unwrap_or_default() }))
        }
        (false, true) => Some(Action::Delete(true)),
        (false, false) if condition.is_none() => return Err("it has nothing to do".to_owned()),
        (false, false) => None,
    };
    Ok(Write { table: line.table, id: line.id, condition, action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_writes() {
        let put = write(r#"{"table": "a", "metadata": {"n": 1}, "text": "x", "ifRevision": "7"}"#).unwrap();
        assert_eq!(put.condition, Some(Condition::IfRevision(7)));
        assert!(matches!(put.action, Some(Action::Put(content)) if content.data == "x" && content.metadata.len() == 1));
        assert_eq!(write(r#"{"table": "a", "id": "1", "ifPresent": true}"#).unwrap().action, None);
        assert_eq!(write(r#"{"table": "a", "id": "1", "delete": true}"#).unwrap().action, Some(Action::Delete(true)));
        for bad in [
            "",
            "{}",
            r#"{"table": "a", "id": "1"}"#,
            r#"{"table": "a", "delete": true, "text": ""}"#,
            r#"{"table": "a", "text": "", "data": ""}"#,
            r#"{"table": "a", "data": "?"}"#,
            r#"{"table": "a", "text": "", "ifRevision": -1}"#,
            r#"{"table": "a", "text": "", "ifAbsent": true, "ifPresent": true}"#,
            r#"{"table": "a", "metadata": [], "text": ""}"#,
            r#"{"table": "a", "colour": 1}"#,
        ] {
            assert!(write(bad).is_err(), "{bad}");
        }
    }
}
