//! `platform event`: topics, events and subscriptions.
//!
//! Knows the commands and how events look; the rules of topics and deliveries are the daemon's. Invariant: a delivery is
//! acknowledged after it was printed, so what a script has not seen comes again.

mod publish;
mod read;
mod subscribe;
mod topic;
mod transfer;
mod webhook;

use std::ops::Deref;

use clap::Subcommand;
use platform_proto::event::v1::{Event, Start, start::At};
use prost_types::Timestamp;

use super::{
    Context,
    failure::{Exit, Failure},
    kv::time,
    output::preview,
    quantity,
    transfer::Place,
};

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes, lists and removes topics.
    #[command(subcommand)]
    Topic(topic::Command),
    /// Publishes an event; it is durable when the command returns.
    #[command(override_usage = "platform event publish [OPTIONS] <TOPIC> <TYPE> [DATA|-|--file FILE]")]
    #[command(after_help = "Examples:\n  platform event publish orders order.placed '{\"order\":7}' --id order-7\n  \
        platform event publish orders order.paid --root order-7 --parent order-7 --file paid.json\n  \
        platform event publish orders --batch events.jsonl")]
    Publish(publish::Publish),
    /// Shows deliveries of a durable subscription and acknowledges them, until interrupted; makes the subscription when it is
    /// not there.
    #[command(after_help = "Examples:\n  platform event subscribe orders billing --start beginning\n  \
        platform event subscribe orders billing --type 'order.p*' --limit 10 --output json")]
    Subscribe(subscribe::Subscribe),
    /// Shows events of a topic in order, from anywhere, without a subscription.
    #[command(
        after_help = "Examples:\n  platform event replay orders --from 100 --limit 50\n  platform event replay orders --since 1h --follow"
    )]
    Replay(read::Replay),
    /// Shows all that came of an event, by what caused it.
    #[command(after_help = "Example:\n  platform event tree order-7")]
    Tree(read::Tree),
    /// Finds events by root, type and time.
    #[command(
        after_help = "Examples:\n  platform event search orders --type order.paid --since 1d --reverse\n  platform event search --root order-7"
    )]
    Search(read::Search),
    /// Lists, moves and removes subscriptions.
    #[command(subcommand)]
    Subscription(subscribe::Command),
    /// Posts what subscriptions deliver to URLs.
    #[command(subcommand)]
    Webhook(webhook::Command),
    /// Writes topics and events to a file, one JSON object on each line.
    #[command(
        after_help = "Examples:\n  platform event export --file events.jsonl\n  platform event export orders --file orders.jsonl --resume"
    )]
    Export(transfer::Export),
    /// Publishes what an export holds; an event whose id is in its topic already is left out.
    #[command(after_help = "Example:\n  platform event import --file orders.jsonl --namespace dev")]
    Import(Place),
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Topic(command) => topic::run(context, command).await,
        Command::Publish(arguments) => publish::run(context, arguments).await,
        Command::Subscribe(arguments) => subscribe::subscribe(context, arguments).await,
        Command::Replay(arguments) => read::replay(context, arguments).await,
        Command::Tree(arguments) => read::tree(context, arguments).await,
        Command::Search(arguments) => read::search(context, arguments).await,
        Command::Subscription(command) => subscribe::run(context, command).await,
        Command::Webhook(command) => webhook::run(context, command).await,
        Command::Export(arguments) => transfer::export(context, arguments).await,
        Command::Import(place) => transfer::import(context, place).await,
    }
}

/// An event on a line for people.
fn line(event: &Event) -> String {
    let Event { sequence, r#type, id, data, .. } = event;
    format!("{sequence}  {}  {}  {id}  {}", time(event.time), r#type, preview(data))
}

/// Where a subscription begins, as it is written: `beginning`, `new`, a sequence, a time, or how long ago.
#[derive(Debug, Clone, PartialEq)]
struct Begin(Start);

impl Deref for Begin {
    type Target = Start;

    fn deref(&self) -> &Start {
        &self.0
    }
}

fn begin(text: &str) -> Result<Begin, String> {
    let at = match text {
        "new" => None,
        "beginning" => Some(At::Beginning(true)),
        text => match text.parse::<u64>() {
            Ok(sequence) => Some(At::Sequence(sequence)),
            Err(_) => Some(At::Time(moment(text)?)),
        },
    };
    Ok(Begin(Start { at }))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    quantity::moment(text).map_err(|_no_moment| {
        format!("`{text}` is no start; write `beginning`, `new`, a sequence, `2026-01-31T12:00:00Z`, or how long ago, such as `1h`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        assert_eq!(begin("new").unwrap().at, None);
        assert_eq!(begin("beginning").unwrap().at, Some(At::Beginning(true)));
        assert_eq!(begin("7").unwrap().at, Some(At::Sequence(7)));
        assert!(matches!(begin("1h").unwrap().at, Some(At::Time(_))));
        assert!(begin("-1").unwrap_err().contains("`-1`"));
    }
}
