//! `platform config export` and `import`: configurations as JSON lines.
//!
//! Owns the form of the lines. Each configuration is written as it is when it is read, with its schema; its earlier versions
//! stay where they are, since only the daemon says who made a version, and when. Invariant: importing lines again changes nothing.

use clap::Args;
use platform_proto::config::v1::{
    GetRequest, GetSchemaRequest, ListRequest, Reading, SetRequest, SetSchemaRequest, Version,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    transfer::{self, Place, Sink, Source},
};

/// Configurations in one page.
const PAGE: u32 = 100;
/// The member that stands in the place of a secret value.
const SECRET: &str = "$secret";

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Only configurations whose name starts with this.
    #[arg(default_value = "")]
    prefix: String,
    /// Writes secret values in plain text, for a platform that does not have the key; takes the role to read them.
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// What to say about the changes, for the history.
    #[arg(long, default_value = "imported", value_name = "TEXT")]
    comment: String,
    #[command(flatten)]
    place: Place,
}

/// One line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    value: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<Value>,
    /// JSON Pointers to values that are to be kept as secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<String>,
    /// For whoever reads; where it is imported to it has its own.
    #[serde(default)]
    version: u64,
}

/// How far an export has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct At {
    prefix: String,
    reveal: bool,
    /// Token of the next page.
    page: String,
}

/// Writes configurations to a file.
pub(crate) async fn export(context: &Context, arguments: Export) -> Result<Exit, Failure> {
    let Export { prefix, reveal, place } = arguments;
    let (mut sink, at) = Sink::open::<At>(context, &place, "config")?;
    let mut at = match at {
        Some(at) if at.prefix != prefix || at.reveal != reveal => {
            return Err(Failure::usage("the export that broke off is of something else; go on with the same options"));
        }
        Some(at) => at,
        None => At { prefix, reveal, page: String::new() },
    };
    let client = context.connect().await?;
    loop {
        let (prefix, page_token) = (at.prefix.clone(), at.page.clone());
        let message = ListRequest { prefix, limit: PAGE, page_token, ..ListRequest::default() };
        let page = client.call(client.config().list(client.request(TIMEOUT, message))).await?;
        for version in page.configurations {
            if let Some(line) = one(&client, version, at.reveal).await? {
                sink.line(&line)?;
            }
        }
        if page.next_page_token.is_empty() {
            break;
        }
        at.page = page.next_page_token;
        sink.checkpoint(&at)?;
    }
    let lines = sink.finish()?;
    transfer::told(context, &place, &format!("exported {lines} configurations"), &json!({"lines": lines}))?;
    Ok(Exit::Done)
}

/// A configuration; none when it was deleted meanwhile.
async fn one(client: &Client, listed: Version, reveal: bool) -> Result<Option<Line>, Failure> {
    let Some(shown) = read(client, &listed.id, None, false).await? else { return Ok(None) };
    let (version, mut value) = parsed(shown)?;
    let mut secrets = Vec::new();
    if reveal {
        marks(&value, String::new(), &mut secrets);
        let plain = read(client, &listed.id, Some(version.number), true).await?;
        value = plain.map(parsed).transpose()?.map_or(value, |(_, value)| value);
    }
    let schema = if version.has_schema { schema(client, &version).await? } else { None };
    Ok(Some(Line { id: listed.id, value, schema, secrets, version: version.number }))
}

async fn read(client: &Client, id: &str, version: Option<u64>, reveal: bool) -> Result<Option<Reading>, Failure> {
    let message = GetRequest { id: id.to_owned(), version, reveal, ..GetRequest::default() };
    match client.call(client.config().get(client.request(TIMEOUT, message))).await {
        Err(failure) if failure.code == Some(tonic::Code::NotFound) => Ok(None),
        found => found.map(Some),
    }
}

async fn schema(client: &Client, version: &Version) -> Result<Option<Value>, Failure> {
    let message = GetSchemaRequest { id: version.id.clone(), version: Some(version.number) };
    let found = client.call(client.config().get_schema(client.request(TIMEOUT, message))).await?;
    serde_json::from_str(&found.schema).map(Some).map_err(|error| odd(&version.id, &error))
}

fn parsed(reading: Reading) -> Result<(Version, Value), Failure> {
    let version = reading.version.unwrap_or_default();
    let value = serde_json::from_str(&reading.value).map_err(|error| odd(&version.id, &error))?;
    Ok((version, value))
}

fn odd(id: &str, error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Error, "INVALID_ANSWER", format!("what the daemon answered of `{id}` is no JSON: {error}"))
}

/// Pointers to the marks that stand in the place of secrets.
fn marks(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) if members.contains_key(SECRET) => found.push(at),
        Value::Object(members) => {
            for (name, value) in members {
                marks(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(values) => {
            for (number, value) in values.iter().enumerate() {
                marks(value, format!("{at}/{number}"), found);
            }
        }
        _ => {}
    }
}

/// Reads configurations from a file.
pub(crate) async fn import(context: &Context, arguments: Import) -> Result<Exit, Failure> {
    let Import { comment, place } = arguments;
    let mut source = Source::open(context, &place, "config")?;
    let client = context.connect().await?;
    let (mut lines, mut changed) = (0_u64, 0_u64);
    while let Some(entry) = source.next::<Line>()? {
        let written = write(&client, entry.line, &comment).await;
        changed += u64::from(written.map_err(|failure| source.refused(entry.number, entry.number, failure))?);
        lines += 1;
        source.checkpoint()?;
    }
    let exit = source.finish()?;
    let words = format!("imported {lines} configurations, {changed} of them were other than that");
    transfer::told(context, &place, &words, &json!({"lines": lines, "changed": changed}))?;
    Ok(exit)
}

/// Writes one configuration; whether anything changed.
async fn write(client: &Client, line: Line, comment: &str) -> Result<bool, Failure> {
    let Line { id, mut value, schema, secrets, .. } = line;
    let mut changed = false;
    if secrets.is_empty() || !is_there(client, &id, &value, &secrets).await? {
        // Secrets come first and by themselves, so that no version holds one in plain text.
        for path in &secrets {
            let missing = || Failure::usage(format!("`secrets` names `{path}`, where there is no value"));
            let plain = value.pointer(path).ok_or_else(missing)?;
            changed |= set(client, &id, path, plain, comment, true).await?;
        }
        hide(client, &id, &mut value, &secrets).await?;
        changed |= set(client, &id, "", &value, comment, false).await?;
    }
    let Some(schema) = schema else { return Ok(changed) };
    let (id, comment) = (id.clone(), comment.to_owned());
    let message = SetSchemaRequest { id, schema: schema.to_string(), comment, if_version: None };
    Ok(client.call(client.config().set_schema(client.request(TIMEOUT, message))).await?.changed || changed)
}

async fn set(
    client: &Client, id: &str, path: &str, value: &Value, comment: &str, secret: bool,
) -> Result<bool, Failure> {
    let (id, path, comment) = (id.to_owned(), path.to_owned(), comment.to_owned());
    let message = SetRequest { id, path, value: value.to_string(), comment, if_version: None, secret };
    Ok(client.call(client.config().set(client.request(TIMEOUT, message))).await?.changed)
}

/// Whether a configuration holds exactly this, secrets included.
async fn is_there(client: &Client, id: &str, value: &Value, secrets: &[String]) -> Result<bool, Failure> {
    let Some(shown) = read(client, id, None, false).await? else { return Ok(false) };
    if marked(&parsed(shown)?.1) != *secrets {
        return Ok(false);
    }
    let plain = read(client, id, None, true).await?.map(parsed).transpose()?;
    Ok(plain.is_some_and(|(_, plain)| plain == *value))
}

/// Puts the marks that the daemon has made of secrets in their places.
async fn hide(client: &Client, id: &str, value: &mut Value, secrets: &[String]) -> Result<(), Failure> {
    if secrets.is_empty() {
        return Ok(());
    }
    let shown = read(client, id, None, false).await?.map(parsed).transpose()?;
    let shown = shown.map(|(_, shown)| shown).unwrap_or_default();
    for path in secrets {
        if let (Some(place), Some(mark)) = (value.pointer_mut(path), shown.pointer(path)) {
            *place = mark.clone();
        }
    }
    Ok(())
}

fn marked(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    marks(value, String::new(), &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found() {
        let value = json!({"a": {"$secret": "k:1"}, "b/c": [1, {"$secret": "k:2"}], "d": {"e~": {"$secret": "k:3"}}});
        assert_eq!(marked(&value), ["/a", "/b~1c/1", "/d/e~0"]);
        assert_eq!(marked(&json!({"a": 1})), [""; 0]);
        assert!(marked(&value).iter().all(|at| value.pointer(at).is_some()));
    }

    #[test]
    fn lines_come_back() {
        let line =
            Line { id: "shop".into(), value: json!({"a": 1}), schema: None, secrets: vec!["/a".into()], version: 3 };
        assert_eq!(serde_json::from_str::<Line>(&serde_json::to_string(&line).unwrap()).unwrap(), line);
        assert!(serde_json::from_str::<Line>(r#"{"id": "shop"}"#).unwrap_err().to_string().contains("`value`"));
    }
}
