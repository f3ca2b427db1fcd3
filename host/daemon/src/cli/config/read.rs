//! What configurations are and were: `get`, `list`, `history`, `diff` and `watch`.

use clap::Args;
use platform_proto::config::v1::{
    Action, AuditRequest, AuditResponse, DiffRequest, GetRequest, HistoryRequest, HistoryResponse, ListRequest,
    ListResponse, Version, WatchEvent, WatchRequest, watch_event::Event,
};
use prost_types::Timestamp;

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    kv::time,
    output::{preview, show},
    pages, quantity,
    watch::{self, Shown},
};

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Name of the configuration.
    id: String,
    /// What, a JSON Pointer such as `/limits/requests`; the whole document when not given.
    #[arg(default_value = "")]
    path: String,
    /// The version wanted; the current one when not given.
    #[arg(long)]
    version: Option<u64>,
    /// Shows secret values; takes the role `config-secrets` or `admin`.
    #[arg(long)]
    reveal: bool,
    /// Reads as this instance, which may be served a candidate.
    #[arg(long, default_value = "", value_name = "NAME")]
    instance: String,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only ids that start with this.
    #[arg(default_value = "")]
    prefix: String,
    /// Only those whose current version this author made.
    #[arg(long, default_value = "")]
    author: String,
    /// Also deleted ones.
    #[arg(long)]
    deleted: bool,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Name of the configuration; all of them, by time, when not given.
    id: Option<String>,
    /// Not before this version.
    #[arg(long, requires = "id", default_value_t = 0, value_name = "VERSION")]
    from: u64,
    /// Not after this version.
    #[arg(long, requires = "id", default_value_t = 0, value_name = "VERSION")]
    to: u64,
    /// Not before this time, RFC 3339, or so long ago, such as `1h`.
    #[arg(long, conflicts_with = "id", value_parser = quantity::moment, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Not after this time, RFC 3339, or so long ago, such as `1h`.
    #[arg(long, conflicts_with = "id", value_parser = quantity::moment, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Newest first.
    #[arg(long)]
    reverse: bool,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Name of the configuration.
    id: String,
    /// The version that the difference starts at.
    from: u64,
    /// The version that it leads to; the current one when not given.
    to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Name of the configuration; `PREFIX*` for all that start with it.
    #[arg(default_value = "*")]
    id: String,
    /// Only changes of the value at this JSON Pointer; every change when not given.
    path: Option<String>,
    /// Watches as this instance: only changes of what it is served.
    #[arg(long, default_value = "", value_name = "NAME")]
    instance: String,
    #[command(flatten)]
    extent: watch::Extent,
}

/// Reads a configuration.
pub(crate) async fn get(context: &Context, arguments: Get) -> Result<Exit, Failure> {
    let Get { id, path, version, reveal, instance } = arguments;
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, GetRequest { id, path, version, reveal, instance });
    let reading = client.call(client.config().get(request)).await?;
    context.output.answer("platform.config.v1.Reading", &reading, || pretty(&reading.value))?;
    Ok(Exit::Done)
}

/// Lists configurations.
pub(crate) async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let List { prefix, author, deleted, limit } = arguments;
    let client = context.connect().await?;
    let (configurations, next_page_token) = pages::read(limit, async |limit, page_token| {
        let message = ListRequest { prefix: prefix.clone(), author: author.clone(), deleted, limit, page_token };
        let page = client.call(client.config().list(client.request(TIMEOUT, message))).await?;
        Ok((page.configurations, page.next_page_token))
    })
    .await?;
    let answer = ListResponse { configurations, next_page_token };
    let human = || versions(context, &answer.configurations);
    context.output.answer("platform.config.v1.ListResponse", &answer, human)?;
    context.output.remark("no configurations", answer.configurations.is_empty(), &answer.next_page_token);
    Ok(Exit::Done)
}

/// Names of all configurations.
pub(super) async fn ids(client: &Client) -> Result<Vec<String>, Failure> {
    let (found, _) = pages::read(None, async |limit, page_token| {
        let message = ListRequest { limit, page_token, ..ListRequest::default() };
        let page = client.call(client.config().list(client.request(TIMEOUT, message))).await?;
        Ok((page.configurations, page.next_page_token))
    })
    .await?;
    Ok(found.into_iter().map(|version| version.id).collect())
}

/// Tells what was changed.
pub(crate) async fn history(context: &Context, arguments: History) -> Result<Exit, Failure> {
    let History { id, from, to, since, until, reverse, limit } = arguments;
    let client = context.connect().await?;
    let (made, next_page_token) = pages::read(limit, async |limit, page_token| match &id {
        Some(id) => {
            let message = HistoryRequest { id: id.clone(), from, to, reverse, limit, page_token };
            let page = client.call(client.config().history(client.request(TIMEOUT, message))).await?;
            Ok((page.versions, page.next_page_token))
        }
        None => {
            let message = AuditRequest { from: since, to: until, reverse, limit, page_token };
            let page = client.call(client.config().audit(client.request(TIMEOUT, message))).await?;
            Ok((page.versions, page.next_page_token))
        }
    })
    .await?;
    let table = versions(context, &made);
    context.output.remark("no versions", made.is_empty(), &next_page_token);
    if id.is_some() {
        let answer = HistoryResponse { versions: made, next_page_token };
        context.output.answer("platform.config.v1.HistoryResponse", &answer, || table)?;
    } else {
        let answer = AuditResponse { versions: made, next_page_token };
        context.output.answer("platform.config.v1.AuditResponse", &answer, || table)?;
    }
    Ok(Exit::Done)
}

/// Tells what differs between two versions.
pub(crate) async fn diff(context: &Context, arguments: Diff) -> Result<Exit, Failure> {
    let Diff { id, from, to } = arguments;
    let client = context.connect().await?;
    let answer = client.call(client.config().diff(client.request(TIMEOUT, DiffRequest { id, from, to }))).await?;
    context.output.answer("platform.config.v1.DiffResponse", &answer, || steps(&answer.patch))?;
    Ok(Exit::Done)
}

/// Shows changes as they happen.
pub(crate) async fn follow(context: &Context, arguments: Watch) -> Result<Exit, Failure> {
    let Watch { id, path, instance, extent } = arguments;
    let open = async |client: &Client, after_revision| {
        let message = WatchRequest { id: id.clone(), path: path.clone(), after_revision, instance: instance.clone() };
        client.config().watch(message).await
    };
    watch::follow(context, extent, "platform.config.v1.WatchEvent", open, |event: &WatchEvent| {
        Some(match event.event.as_ref()? {
            Event::Changed(changed) => {
                let version = changed.version.as_ref()?;
                let value = changed.value.as_ref().map_or_else(|| "gone".to_owned(), |value| preview(value.as_bytes()));
                Shown::Change(version.revision, format!("{}  version {}  {value}", version.id, version.number))
            }
            Event::Progress(progress) => Shown::Progress(progress.revision),
        })
    })
    .await
}

fn versions(context: &Context, versions: &[Version]) -> String {
    let mut table = context.output.table(&["ID", "VERSION", "TIME", "AUTHOR", "ACTION", "PATH", "COMMENT"]);
    for version in versions {
        table.add_row([
            version.id.clone(),
            version.number.to_string(),
            time(version.time),
            version.author.clone(),
            action(version),
            preview(version.path.as_bytes()),
            preview(version.comment.as_bytes()),
        ]);
    }
    if versions.is_empty() { String::new() } else { show(&table) }
}

fn action(version: &Version) -> String {
    let name = version.action().as_str_name().trim_start_matches("ACTION_").to_lowercase();
    match (version.action(), version.staged_percent) {
        (Action::Rollback, _) => format!("{name} to {}", version.restores),
        (Action::Stage, Some(percent)) => format!("{name} {percent} %"),
        _ => name,
    }
}

/// JSON for people.
pub(super) fn pretty(json: &str) -> String {
    let value = serde_json::from_str::<serde_json::Value>(json);
    value.ok().and_then(|value| serde_json::to_string_pretty(&value).ok()).unwrap_or_else(|| json.to_owned())
}

/// The steps of a JSON Patch, one to a line.
fn steps(patch: &str) -> String {
    let steps: Vec<serde_json::Value> = serde_json::from_str(patch).unwrap_or_default();
    let line = |step: &serde_json::Value| {
        let text = |name: &str| step.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let path = Some(text("path")).filter(|path| !path.is_empty()).unwrap_or_else(|| "(document)".to_owned());
        let value = step.get("value").map(|value| preview(value.to_string().as_bytes())).unwrap_or_default();
        format!("{:<7}  {path}  {value}", text("op")).trim_end().to_owned()
    };
    steps.iter().map(line).collect::<Vec<_>>().join("\n")
}
