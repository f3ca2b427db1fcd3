//! Topics: `topic create`, `list`, `get` and `delete`.

use std::time::Duration;

use clap::{Args, Subcommand};
use platform_proto::event::v1::{
    CreateTopicRequest, DeleteTopicRequest, GetTopicRequest, ListTopicsRequest, ListTopicsResponse, Retention, Topic,
    UpdateTopicRequest,
};

use crate::cli::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    kv::time,
    output::show,
    pages,
    quantity::{self, human_bytes, milliseconds, positive_duration},
};

/// What can be done with topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a topic; its events stay unless it says when they go.
    #[command(
        after_help = "Examples:\n  platform event topic create orders --age 30d --count 1000000\n  platform event topic create orders --age 7d --update"
    )]
    Create(Create),
    /// Lists topics in order.
    #[command(after_help = "Example:\n  platform event topic list")]
    List(List),
    /// Shows one topic; exits with 1 when there is none.
    #[command(after_help = "Example:\n  platform event topic get orders")]
    Get(Named),
    /// Removes a topic with its events and subscriptions.
    #[command(after_help = "Example:\n  platform event topic delete orders")]
    Delete(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name.
    name: String,
    /// Events older than this go, such as `30d`.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    age: Option<Duration>,
    /// The oldest events go while there are more than this.
    #[arg(long, value_name = "NUMBER")]
    count: Option<u64>,
    /// The oldest events go while all together are larger than this, such as `1GiB`.
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    bytes: Option<u64>,
    /// How long ids are remembered to tell duplicates, `2m` when not given; `0s` for not at all.
    #[arg(long, value_name = "DURATION", value_parser = quantity::duration)]
    window: Option<Duration>,
    /// Changes how an existing topic is kept.
    #[arg(long)]
    update: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only names that start with this.
    #[arg(default_value = "")]
    prefix: String,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Its name.
    name: String,
}

/// Runs a command.
pub(super) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Create(arguments) => create(context, arguments).await,
        Command::List(arguments) => list(context, arguments).await,
        Command::Get(Named { name }) => {
            let client = context.connect().await?;
            let topic =
                client.call(client.events().get_topic(client.request(TIMEOUT, GetTopicRequest { name }))).await?;
            context.output.answer("platform.event.v1.Topic", &topic, || one(context, &topic))?;
            Ok(Exit::Done)
        }
        Command::Delete(Named { name }) => {
            let client = context.connect().await?;
            let request = client.request(TIMEOUT, DeleteTopicRequest { name });
            let deleted = client.call(client.events().delete_topic(request)).await?;
            context.output.answer("platform.event.v1.DeleteTopicResponse", &deleted, || "deleted".to_owned())?;
            Ok(Exit::Done)
        }
    }
}

async fn create(context: &Context, arguments: Create) -> Result<Exit, Failure> {
    let Create { name, age, count, bytes, window, update } = arguments;
    let retention = Some(Retention { age_ms: age.map(milliseconds), count, bytes });
    let window_ms = window.map(milliseconds);
    let client = context.connect().await?;
    let topic = if update {
        let request = client.request(TIMEOUT, UpdateTopicRequest { name, retention, window_ms });
        client.call(client.events().update_topic(request)).await?
    } else {
        let request = client.request(TIMEOUT, CreateTopicRequest { name, retention, window_ms });
        client.call(client.events().create_topic(request)).await?
    };
    context.output.answer("platform.event.v1.Topic", &topic, || one(context, &topic))?;
    Ok(Exit::Done)
}

async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let List { prefix, limit } = arguments;
    let client = context.connect().await?;
    let (topics, next_page_token) = pages::read(limit, async |limit, page_token| {
        let message = ListTopicsRequest { prefix: prefix.clone(), limit, page_token };
        let page = client.call(client.events().list_topics(client.request(TIMEOUT, message))).await?;
        Ok((page.topics, page.next_page_token))
    })
    .await?;
    let answer = ListTopicsResponse { topics, next_page_token };
    let output = context.output;
    output.answer("platform.event.v1.ListTopicsResponse", &answer, || {
        if answer.topics.is_empty() {
            return String::new();
        }
        let mut table = output.table(&["TOPIC", "FIRST", "LAST", "BYTES", "RETENTION"]);
        for topic in &answer.topics {
            let (first, last) = (topic.first.to_string(), topic.last.to_string());
            table.add_row([topic.name.clone(), first, last, human_bytes(topic.bytes), retention(topic)]);
        }
        show(&table)
    })?;
    output.remark("no topics", answer.topics.is_empty(), &answer.next_page_token);
    Ok(Exit::Done)
}

fn one(context: &Context, topic: &Topic) -> String {
    context.output.fields(&[
        ("topic", topic.name.clone()),
        ("first", topic.first.to_string()),
        ("last", topic.last.to_string()),
        ("bytes", human_bytes(topic.bytes)),
        ("retention", retention(topic)),
        ("window", format!("{} ms", topic.window_ms)),
        ("created", time(topic.create_time)),
    ])
}

fn retention(topic: &Topic) -> String {
    let Retention { age_ms, count, bytes } = topic.retention.unwrap_or_default();
    let parts = [
        age_ms.map(|age_ms| format!("{age_ms} ms")),
        count.map(|count| format!("{count} events")),
        bytes.map(human_bytes),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "all".to_owned() } else { parts.join(", ") }
}
