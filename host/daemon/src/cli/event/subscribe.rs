//! Subscriptions: `subscribe`, and `subscription list`, `get`, `seek` and `delete`.

use std::{ops::ControlFlow, time::Duration};

use clap::{Args, Subcommand};
use platform_proto::event::v1::{
    AckRequest, CreateSubscriptionRequest, DeleteSubscriptionRequest, Delivery, GetSubscriptionRequest,
    ListSubscriptionsRequest, ListSubscriptionsResponse, Receipt, SeekRequest, SubscribeRequest, Subscription,
};
use tonic::Code;

use super::{Begin, begin, line};
use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    output::show,
    pages,
    quantity::{milliseconds, positive_duration},
    watch,
};

/// What can be done with subscriptions.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the subscriptions of a topic in order.
    #[command(after_help = "Example:\n  platform event subscription list orders")]
    List(List),
    /// Shows one subscription; exits with 1 when there is none.
    #[command(after_help = "Example:\n  platform event subscription get orders billing")]
    Get(Named),
    /// Sends a subscription to another place, to deliver again or to leave out.
    #[command(after_help = "Example:\n  platform event subscription seek orders billing beginning")]
    Seek(Seek),
    /// Removes a subscription.
    #[command(after_help = "Example:\n  platform event subscription delete orders billing")]
    Delete(Named),
}

#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The topic.
    topic: String,
    /// Name of the subscription.
    name: String,
    /// Where it begins when it is made: `beginning`, `new`, a sequence, a time, or how long ago.
    #[arg(long, default_value = "new", value_parser = begin)]
    start: Begin,
    /// Only this type, or all that start with what stands before a `*`, when it is made.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Every consumer gets every event, when it is made; this one is named by `--consumer`.
    #[arg(long, requires = "consumer")]
    fan_out: bool,
    /// Which consumer of a fan-out this is.
    #[arg(long, default_value = "", value_name = "NAME")]
    consumer: String,
    /// How long a delivery may take until it is acknowledged, when it is made; `30s` when not given.
    #[arg(long, value_name = "DURATION", value_parser = positive_duration)]
    ack_wait: Option<Duration>,
    /// How often an event is delivered before it goes to the dead-letter topic, when it is made; 0 for as often as it takes.
    #[arg(long, value_name = "NUMBER")]
    deliveries_max: Option<u32>,
    /// Where events go that were delivered too often, when it is made; `TOPIC.dead-letter` when not given.
    #[arg(long, default_value = "", value_name = "TOPIC")]
    dead_letter: String,
    /// Ends after this many.
    #[arg(long)]
    limit: Option<u64>,
    /// Shows deliveries without acknowledging them: they come again.
    #[arg(long)]
    no_ack: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The topic.
    pub(super) topic: String,
    /// At most this many; all when not given.
    #[arg(long)]
    pub(super) limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The topic.
    pub(super) topic: String,
    /// Name of the subscription.
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Seek {
    /// The topic.
    topic: String,
    /// Name of the subscription.
    name: String,
    /// Where it goes on: `beginning`, `new`, a sequence, a time, or how long ago.
    #[arg(value_parser = begin)]
    start: Begin,
}

/// Shows deliveries and acknowledges them.
pub(super) async fn subscribe(context: &Context, arguments: Subscribe) -> Result<Exit, Failure> {
    create(context, &arguments).await?;
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(Exit::Done);
    }
    let Subscribe { topic, name, consumer, no_ack, .. } = arguments;
    let open = async |client: &Client, _: Option<u64>| {
        let (topic, name, consumer) = (topic.clone(), name.clone(), consumer.clone());
        client.events().subscribe(SubscribeRequest { topic, name, consumer }).await
    };
    watch::stream(context, None, open, async |client, delivery: Delivery| {
        let event = delivery.event.as_ref();
        context.output.event("platform.event.v1.Delivery", &delivery, || event.map(line).unwrap_or_default())?;
        if !no_ack {
            let receipts =
                vec![Receipt { sequence: event.map_or(0, |event| event.sequence), attempt: delivery.attempt }];
            let (topic, name, consumer) = (topic.clone(), name.clone(), consumer.clone());
            let message = AckRequest { topic, name, consumer, receipts };
            client.call(client.events().ack(client.request(TIMEOUT, message))).await?;
        }
        left -= 1;
        Ok(if left > 0 { ControlFlow::Continue(None) } else { ControlFlow::Break(()) })
    })
    .await
}

/// Makes the subscription unless it is there.
async fn create(context: &Context, arguments: &Subscribe) -> Result<(), Failure> {
    let client = context.connect().await?;
    let message = CreateSubscriptionRequest {
        topic: arguments.topic.clone(),
        name: arguments.name.clone(),
        start: Some(*arguments.start),
        types: arguments.types.clone(),
        fan_out: arguments.fan_out,
        ack_wait_ms: arguments.ack_wait.map(milliseconds),
        deliveries_max: arguments.deliveries_max,
        dead_letter_topic: arguments.dead_letter.clone(),
        pending_max: None,
    };
    match client.call(client.events().create_subscription(client.request(TIMEOUT, message))).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.code == Some(Code::AlreadyExists) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Runs a command.
pub(super) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let output = context.output;
    match command {
        Command::List(arguments) => return list(context, arguments).await,
        Command::Get(Named { topic, name }) => {
            let client = context.connect().await?;
            let request = client.request(TIMEOUT, GetSubscriptionRequest { topic, name });
            let found = client.call(client.events().get_subscription(request)).await?;
            output.answer("platform.event.v1.Subscription", &found, || one(context, &found))?;
        }
        Command::Seek(Seek { topic, name, start }) => {
            let client = context.connect().await?;
            let request = client.request(TIMEOUT, SeekRequest { topic, name, start: Some(*start) });
            let found = client.call(client.events().seek(request)).await?;
            output.answer("platform.event.v1.Subscription", &found, || one(context, &found))?;
        }
        Command::Delete(Named { topic, name }) => {
            let client = context.connect().await?;
            let request = client.request(TIMEOUT, DeleteSubscriptionRequest { topic, name });
            let deleted = client.call(client.events().delete_subscription(request)).await?;
            output.answer("platform.event.v1.DeleteSubscriptionResponse", &deleted, || "deleted".to_owned())?;
        }
    }
    Ok(Exit::Done)
}

async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let List { topic, limit } = arguments;
    let client = context.connect().await?;
    let (subscriptions, next_page_token) = pages::read(limit, async |limit, page_token| {
        let message = ListSubscriptionsRequest { topic: topic.clone(), limit, page_token };
        let page = client.call(client.events().list_subscriptions(client.request(TIMEOUT, message))).await?;
        Ok((page.subscriptions, page.next_page_token))
    })
    .await?;
    let answer = ListSubscriptionsResponse { subscriptions, next_page_token };
    let output = context.output;
    output.answer("platform.event.v1.ListSubscriptionsResponse", &answer, || {
        if answer.subscriptions.is_empty() {
            return String::new();
        }
        let mut table = output.table(&["SUBSCRIPTION", "NEXT", "PENDING", "MISSED", "MODE", "TYPES"]);
        for found in &answer.subscriptions {
            let (next, pending, missed) = (found.next.to_string(), found.pending.to_string(), found.missed.to_string());
            table.add_row([found.name.clone(), next, pending, missed, mode(found).to_owned(), types(found)]);
        }
        show(&table)
    })?;
    output.remark("no subscriptions", answer.subscriptions.is_empty(), &answer.next_page_token);
    Ok(Exit::Done)
}

fn mode(subscription: &Subscription) -> &'static str {
    if subscription.fan_out { "fan-out" } else { "shared" }
}

fn types(subscription: &Subscription) -> String {
    if subscription.types.is_empty() { "all".to_owned() } else { subscription.types.join(", ") }
}

fn one(context: &Context, subscription: &Subscription) -> String {
    context.output.fields(&[
        ("subscription", subscription.name.clone()),
        ("topic", subscription.topic.clone()),
        ("next", subscription.next.to_string()),
        ("pending", subscription.pending.to_string()),
        ("missed", subscription.missed.to_string()),
        ("mode", mode(subscription).to_owned()),
        ("types", types(subscription)),
        ("ack wait", format!("{} ms", subscription.ack_wait_ms)),
        ("deliveries max", subscription.deliveries_max.to_string()),
        ("dead letters", subscription.dead_letter_topic.clone()),
    ])
}
