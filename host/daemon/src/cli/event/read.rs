//! What happened: `replay`, `tree` and `search`.

use std::ops::ControlFlow;

use clap::Args;
use platform_proto::event::v1::{
    Event, FollowRequest, GetTopicRequest, ReadRequest, SearchRequest, SearchResponse, TreeRequest,
};
use prost_types::Timestamp;

use super::line;
use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    kv::time,
    output::{preview, show},
    pages, quantity, watch,
};

/// Name of the message that is printed.
const EVENT: &str = "platform.event.v1.Event";
/// Events that are read at once.
const PAGE: u32 = 250;

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The topic.
    topic: String,
    /// Not before this sequence; the oldest event that is kept when not given.
    #[arg(long, value_name = "SEQUENCE", conflicts_with = "since")]
    from: Option<u64>,
    /// Not before this time, RFC 3339, or so long ago, such as `1h`.
    #[arg(long, value_parser = quantity::moment, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only this type, or all that start with what stands before a `*`.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Ends after this many.
    #[arg(long)]
    limit: Option<u64>,
    /// Goes on with what is published, until interrupted.
    #[arg(long)]
    follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Tree {
    /// Id of the event that it began with.
    root: String,
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The topic; all of them when not given, which takes a root.
    #[arg(default_value = "", required_unless_present = "root")]
    topic: String,
    /// Only what came of the event with this id.
    #[arg(long, default_value = "", value_name = "ID")]
    root: String,
    /// Only this type, or all that start with what stands before a `*`.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Not before this time, RFC 3339, or so long ago, such as `1h`.
    #[arg(long, value_parser = quantity::moment, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Not after this time, RFC 3339, or so long ago, such as `1h`.
    #[arg(long, value_parser = quantity::moment, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Newest first.
    #[arg(long)]
    reverse: bool,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

/// Shows events in order.
pub(super) async fn replay(context: &Context, arguments: Replay) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let from = match (arguments.from, arguments.since) {
        (Some(from), _) => from,
        (None, Some(since)) => first_since(&client, &arguments.topic, since).await?,
        (None, None) => 0,
    };
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(Exit::Done);
    }
    let mut show = |event: &Event| {
        if selects(&arguments.types, &event.r#type) {
            context.output.event(EVENT, event, || line(event))?;
            left -= 1;
        }
        Ok::<_, Failure>(left > 0)
    };
    if arguments.follow {
        let open = async |client: &Client, after: Option<u64>| {
            let (topic, from) = (arguments.topic.clone(), after.map_or(from.max(1), |after| after + 1));
            client.events().follow(FollowRequest { topic, from: Some(from), types: Vec::new() }).await
        };
        return watch::stream(context, None, open, async |_, event: Event| {
            let more = show(&event)?;
            Ok(if more { ControlFlow::Continue(Some(event.sequence)) } else { ControlFlow::Break(()) })
        })
        .await;
    }
    let mut page_token = String::new();
    loop {
        let message = ReadRequest { topic: arguments.topic.clone(), from, reverse: false, limit: PAGE, page_token };
        let page = client.call(client.events().read(client.request(TIMEOUT, message))).await?;
        for event in &page.events {
            if !show(event)? {
                return Ok(Exit::Done);
            }
        }
        if page.next_page_token.is_empty() {
            return Ok(Exit::Done);
        }
        page_token = page.next_page_token;
    }
}

/// Sequence of the first event that is not before a time; the next one when there is none.
async fn first_since(client: &Client, topic: &str, since: Timestamp) -> Result<u64, Failure> {
    let message = GetTopicRequest { name: topic.to_owned() };
    let last = client.call(client.events().get_topic(client.request(TIMEOUT, message))).await?.last;
    let message = SearchRequest { topic: topic.to_owned(), from: Some(since), limit: 1, ..SearchRequest::default() };
    let found = client.call(client.events().search(client.request(TIMEOUT, message))).await?;
    Ok(found.events.first().map_or(last + 1, |event| event.sequence))
}

fn selects(types: &[String], kind: &str) -> bool {
    let matches = |wanted: &String| match wanted.strip_suffix('*') {
        Some(prefix) => kind.starts_with(prefix),
        None => kind == wanted,
    };
    types.is_empty() || types.iter().any(matches)
}

/// Shows all that came of an event.
pub(super) async fn tree(context: &Context, arguments: Tree) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, TreeRequest { root: arguments.root });
    let tree = client.call(client.events().tree(request)).await?;
    context.output.answer("platform.event.v1.TreeResponse", &tree, || {
        let line = |node: &platform_proto::event::v1::tree_response::Node| {
            let event = node.event.clone().unwrap_or_default();
            let indent = "  ".repeat(node.depth as usize);
            format!("{indent}{}  {}  {}/{}  {}", event.id, event.r#type, event.topic, event.sequence, time(event.time))
        };
        tree.nodes.iter().map(line).collect::<Vec<_>>().join("\n")
    })?;
    if tree.cut {
        context.output.note("there are more events than a tree holds");
    }
    Ok(Exit::Done)
}

/// Finds events.
pub(super) async fn search(context: &Context, arguments: Search) -> Result<Exit, Failure> {
    let Search { topic, root, types, since, until, reverse, limit } = arguments;
    let client = context.connect().await?;
    let (events, next_page_token) = pages::read(limit, async |limit, page_token| {
        let (topic, root, types) = (topic.clone(), root.clone(), types.clone());
        let message =
            SearchRequest { topic, root, types, from: since, to: until, reverse, limit: limit.min(PAGE), page_token };
        let page = client.call(client.events().search(client.request(TIMEOUT, message))).await?;
        Ok((page.events, page.next_page_token))
    })
    .await?;
    let answer = SearchResponse { events, next_page_token };
    let output = context.output;
    output.answer("platform.event.v1.SearchResponse", &answer, || {
        if answer.events.is_empty() {
            return String::new();
        }
        let mut table = output.table(&["TOPIC", "SEQUENCE", "TIME", "TYPE", "ID", "DATA"]);
        for event in &answer.events {
            let (sequence, time) = (event.sequence.to_string(), time(event.time));
            let Event { topic, r#type, id, data, .. } = event.clone();
            table.add_row([topic, sequence, time, r#type, id, preview(&data)]);
        }
        show(&table)
    })?;
    output.remark("no events", answer.events.is_empty(), &answer.next_page_token);
    Ok(Exit::Done)
}
