//! `platform router`: which copy of a service should take a request.
//!
//! Knows the command's arguments and how a pick looks; the choice is the policy's.

use clap::{Args, Subcommand};
use platform_proto::router::v1::SelectRequest;

use super::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    output::show,
    quantity::pair,
};

/// What can be asked of the router.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Picks a node of a service; exits with 3 when no node will do.
    #[command(
        after_help = "Examples:\n  platform router select orders --key customer-7\n  platform router select orders --count 10"
    )]
    Select(Select),
}

#[derive(Debug, Args)]
pub(crate) struct Select {
    /// Name of the service.
    service: String,
    /// Requests with the same key go to the same node under policies with affinity.
    #[arg(long, default_value = "")]
    key: String,
    /// Zone of the asker.
    #[arg(long, default_value = "")]
    zone: String,
    /// Only nodes that run this version of the service.
    #[arg(long, value_name = "VERSION", default_value = "")]
    service_version: String,
    /// Only nodes with this label; may be repeated.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// 0 for the first try, one more for each retry.
    #[arg(long, default_value_t = 0)]
    attempt: u32,
    /// Picks this many times, to see how picks spread.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    let Command::Select(arguments) = command;
    let message = SelectRequest {
        service: arguments.service,
        key: arguments.key,
        zone: arguments.zone,
        version: arguments.service_version,
        labels: arguments.labels.into_iter().collect(),
        attempt: arguments.attempt,
    };
    let client = context.connect().await?;
    let output = context.output;
    let mut table = output.table(&["NODE", "ADDRESS", "VERSION", "ZONE", "POLICY", "GENERATION"]);
    for _ in 0..arguments.count {
        let pick = client.call(client.router().select(client.request(TIMEOUT, message.clone()))).await?;
        if output.is_human() {
            let node = pick.node.unwrap_or_default();
            table.add_row([node.id, node.address, pick.version, node.zone, pick.policy, pick.generation.to_string()]);
        } else if arguments.count == 1 {
            output.answer("platform.router.v1.SelectResponse", &pick, String::new)?;
        } else {
            output.event("platform.router.v1.SelectResponse", &pick, String::new)?;
        }
    }
    if output.is_human() {
        output.text(&show(&table))?;
    }
    Ok(Exit::Done)
}
