//! `platform kv`: values under keys.
//!
//! Knows the command's arguments and how entries look; the rules of keys and revisions are the daemon's. Invariant: a value
//! that is written to a pipe or a file is written byte for byte.

mod commit;
mod transfer;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::{ArgGroup, Args, Subcommand};
use platform_proto::kv::v1::{
    BatchGetRequest, DeleteRequest, Entry, GetRequest, GetUsageRequest, IncrementRequest, ListRequest, ListResponse,
    PutRequest, WatchEvent, WatchRequest, delete_request, put_request, watch_event::Event,
};
use prost_types::Timestamp;

use self::commit::Commit;
use super::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    input,
    output::{Output, preview, show},
    pages,
    quantity::{human_bytes, milliseconds, positive_duration},
    transfer::Place,
    watch::{self, Shown},
};

/// Largest value that the platform stores.
const VALUE_BYTES: u64 = 8 << 20;

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads keys; exits with 1 when one of them is not there.
    #[command(
        after_help = "Examples:\n  platform kv get greeting\n  platform kv get logo --raw > logo.png\n  platform kv get a b c"
    )]
    Get(Get),
    /// Writes one key; exits with 1 when a condition does not hold.
    #[command(override_usage = "platform kv put [OPTIONS] <KEY> <VALUE|-|--file FILE>")]
    #[command(
        after_help = "Examples:\n  platform kv put greeting hello --ttl 5m\n  platform kv put logo --file logo.png\n  \
        platform kv put leader node-1 --if-absent --ttl 10s"
    )]
    Put(Put),
    /// Deletes one key, or all that start with a prefix; deleting what is absent succeeds.
    #[command(after_help = "Example:\n  platform kv delete greeting --if-revision 7")]
    Delete(Delete),
    /// Makes several writes, all or none; exits with 1 when a condition does not hold.
    #[command(
        after_help = "Each line is a JSON object with `key`; then `text` or `value` (base64) with `ttl` or `keepTtl`, or `delete`; \
        and\n`ifAbsent`, `ifPresent` or `ifRevision`. A line with nothing but a condition only checks it.\n\n\
        Example, with two lines in transfer.jsonl:\n  platform kv commit --file transfer.jsonl\n  \
        {\"key\": \"from\", \"text\": \"90\", \"ifRevision\": 7}\n  {\"key\": \"to\", \"text\": \"10\", \"ifAbsent\": true}"
    )]
    Commit(Commit),
    /// Adds to a number; an absent key counts as 0.
    #[command(after_help = "Example:\n  platform kv increment visits --by 10")]
    Increment(Increment),
    /// Shows how much the namespace holds, and may hold.
    #[command(after_help = "Example:\n  platform kv usage --namespace dev")]
    Usage,
    /// Lists keys in order.
    #[command(after_help = "Example:\n  platform kv list users/ --limit 10")]
    List(List),
    /// Shows changes as they happen, until interrupted; goes on where it was after a lost connection.
    #[command(after_help = "Example:\n  platform kv watch users/ --after 0")]
    Watch(Watch),
    /// Writes keys to a file, one JSON object on each line, as they were at one revision.
    #[command(
        after_help = "Examples:\n  platform kv export --file kv.jsonl\n  platform kv export users/ --file users.jsonl --resume"
    )]
    Export(transfer::Export),
    /// Writes what an export holds; keys that it does not hold are left alone. Importing it again comes to the same.
    #[command(after_help = "Example:\n  platform kv import --file kv.jsonl --namespace dev")]
    Import(Place),
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key; up to 1000 are read at one moment.
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<String>,
    /// Writes the bare value of one key, also to a terminal.
    #[arg(long)]
    raw: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").required(true).args(["value", "file"]))]
#[command(group = ArgGroup::new("condition").args(["if_absent", "if_present", "if_revision"]))]
pub(crate) struct Put {
    /// The key.
    key: String,
    /// The value; `-` reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Reads the value from a file; `-` is standard input.
    #[arg(long)]
    file: Option<PathBuf>,
    /// How long the key stays, such as `5s`; for good when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    ttl: Option<Duration>,
    /// Keeps the time to live that the key has.
    #[arg(long, conflicts_with = "ttl")]
    keep_ttl: bool,
    /// Writes only when there is no such key.
    #[arg(long)]
    if_absent: bool,
    /// Writes only when there is such a key.
    #[arg(long)]
    if_present: bool,
    /// Writes only when the key is at exactly this revision.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The key.
    key: String,
    /// Deletes only when there is such a key.
    #[arg(long, conflicts_with = "if_revision")]
    if_present: bool,
    /// Deletes only when the key is at exactly this revision.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Increment {
    /// The key.
    key: String,
    /// What to add; may be negative.
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    by: i64,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only keys that start with this.
    #[arg(default_value = "")]
    prefix: String,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only keys that start with this.
    #[arg(default_value = "")]
    prefix: String,
    #[command(flatten)]
    extent: watch::Extent,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Get(arguments) => get(context, arguments).await,
        Command::Put(arguments) => put(context, arguments).await,
        Command::Delete(arguments) => delete(context, arguments).await,
        Command::Commit(arguments) => commit::run(context, arguments).await,
        Command::Increment(arguments) => increment(context, arguments).await,
        Command::Usage => usage(context).await,
        Command::List(arguments) => list(context, arguments).await,
        Command::Watch(arguments) => follow(context, arguments).await,
        Command::Export(arguments) => transfer::export(context, arguments).await,
        Command::Import(place) => transfer::import(context, place).await,
    }
}

async fn get(context: &Context, arguments: Get) -> Result<Exit, Failure> {
    let Ok([key]) = <[String; 1]>::try_from(arguments.keys.clone()) else {
        return get_many(context, arguments).await;
    };
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, GetRequest { key });
    let entry = client.call(client.kv().get(request)).await?;
    let output = context.output;
    if arguments.raw || (output.is_human() && !io::stdout().is_terminal()) {
        output.raw(&entry.value)?;
    } else if output.is_human() && std::str::from_utf8(&entry.value).is_err() {
        output.note(&format!("the value is {} bytes that are no text; write them with `--raw`", entry.value.len()));
    } else {
        output.answer("platform.kv.v1.Entry", &entry, || String::from_utf8_lossy(&entry.value).into_owned())?;
    }
    Ok(Exit::Done)
}

async fn get_many(context: &Context, arguments: Get) -> Result<Exit, Failure> {
    if arguments.raw {
        return Err(Failure::usage("`--raw` writes the value of one key; ask for one"));
    }
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, BatchGetRequest { keys: arguments.keys });
    let found = client.call(client.kv().batch_get(request)).await?;
    let output = context.output;
    output.answer("platform.kv.v1.BatchGetResponse", &found, || entries(output, &found.entries))?;
    if !found.missing.is_empty() {
        output.note(&format!("there is no {}", quoted(&found.missing)));
        return Ok(Exit::No);
    }
    Ok(Exit::Done)
}

fn quoted(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{}`", key.escape_debug())).collect::<Vec<_>>().join(", ")
}

/// Entries as a table for people.
fn entries(output: Output, entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut table = output.table(&["KEY", "REVISION", "EXPIRES", "VALUE"]);
    for entry in entries {
        let (revision, expires) = (entry.revision.to_string(), time(entry.expire_time));
        table.add_row([entry.key.clone(), revision, expires, preview(&entry.value)]);
    }
    show(&table)
}

async fn put(context: &Context, arguments: Put) -> Result<Exit, Failure> {
    let value = match (&arguments.value, &arguments.file) {
        (Some(text), _) if text != "-" => Bytes::from(text.clone().into_bytes()),
        (_, file) => input::read(file.as_deref().unwrap_or(Path::new("-")), VALUE_BYTES)?.into(),
    };
    let condition = match (arguments.if_absent, arguments.if_present, arguments.if_revision) {
        (true, ..) => Some(put_request::Condition::IfAbsent(true)),
        (_, true, _) => Some(put_request::Condition::IfPresent(true)),
        (.., revision) => revision.map(put_request::Condition::IfRevision),
    };
    let expiry = if arguments.keep_ttl {
        Some(put_request::Expiry::KeepTtl(true))
    } else {
        arguments.ttl.map(|ttl| put_request::Expiry::TtlMs(milliseconds(ttl)))
    };
    let client = context.connect().await?;
    let size = value.len() as u64;
    let request = client.request(TIMEOUT, PutRequest { key: arguments.key, value, condition, expiry });
    let progress = context.output.progress(format!("writing {}", human_bytes(size)));
    let written = client.call(client.kv().put(request)).await;
    drop(progress);
    let written = written?;
    let human = || format!("written at revision {}", written.revision);
    context.output.answer("platform.kv.v1.PutResponse", &written, human)?;
    Ok(Exit::Done)
}

async fn delete(context: &Context, arguments: Delete) -> Result<Exit, Failure> {
    let condition = if arguments.if_present {
        Some(delete_request::Condition::IfPresent(true))
    } else {
        arguments.if_revision.map(delete_request::Condition::IfRevision)
    };
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, DeleteRequest { key: arguments.key, condition });
    let deleted = client.call(client.kv().delete(request)).await?;
    context.output.answer("platform.kv.v1.DeleteResponse", &deleted, || match deleted.revision {
        Some(revision) => format!("deleted at revision {revision}"),
        None => "there was nothing to delete".to_owned(),
    })?;
    Ok(Exit::Done)
}

async fn increment(context: &Context, arguments: Increment) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, IncrementRequest { key: arguments.key, by: Some(arguments.by) });
    let sum = client.call(client.kv().increment(request)).await?;
    context.output.answer("platform.kv.v1.IncrementResponse", &sum, || sum.value.to_string())?;
    Ok(Exit::Done)
}

async fn usage(context: &Context) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let usage = client.call(client.kv().get_usage(client.request(TIMEOUT, GetUsageRequest {}))).await?;
    let of = |used: String, quota: Option<String>| match quota {
        Some(quota) => format!("{used} of {quota}"),
        None => used,
    };
    context.output.answer("platform.kv.v1.Usage", &usage, || {
        let keys = of(usage.keys.to_string(), usage.keys_quota.map(|quota| quota.to_string()));
        let bytes = of(human_bytes(usage.bytes), usage.bytes_quota.map(human_bytes));
        context.output.fields(&[("keys", keys), ("bytes", bytes)])
    })?;
    Ok(Exit::Done)
}

async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let (entries, next_page_token) = pages::read(arguments.limit, async |limit, page_token| {
        let message = ListRequest { prefix: arguments.prefix.clone(), limit, page_token };
        let page = client.call(client.kv().list(client.request(TIMEOUT, message))).await?;
        Ok((page.entries, page.next_page_token))
    })
    .await?;
    let output = context.output;
    if entries.is_empty() {
        output.note("no keys");
    }
    let answer = ListResponse { entries, next_page_token };
    output.answer("platform.kv.v1.ListResponse", &answer, || self::entries(output, &answer.entries))?;
    if !answer.next_page_token.is_empty() {
        output.note("there are more; raise `--limit`");
    }
    Ok(Exit::Done)
}

async fn follow(context: &Context, arguments: Watch) -> Result<Exit, Failure> {
    let prefix = arguments.prefix;
    let open = async |client: &Client, after_revision| {
        client.kv().watch(WatchRequest { prefix: prefix.clone(), after_revision }).await
    };
    watch::follow(context, arguments.extent, "platform.kv.v1.WatchEvent", open, |event: &WatchEvent| {
        Some(match event.event.as_ref()? {
            Event::Put(Entry { key, value, revision, .. }) => {
                Shown::Change(*revision, format!("put     {key}  {}", preview(value)))
            }
            Event::Delete(gone) => Shown::Change(gone.revision, format!("delete  {}", gone.key)),
            Event::Progress(progress) => Shown::Progress(progress.revision),
        })
    })
    .await
}

/// A time for people, empty when there is none.
pub(crate) fn time(time: Option<Timestamp>) -> String {
    time.map(|time| Timestamp { nanos: time.nanos / 1_000_000 * 1_000_000, ..time }.to_string()).unwrap_or_default()
}
