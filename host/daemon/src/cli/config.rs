//! `platform config`: configurations of services, and the settings of the daemon itself.
//!
//! Knows the commands and how settings are shown; the rules of paths and versions are the daemon's. Invariant: no secret of
//! the settings is printed, because the daemon sends none.

mod edit;
mod read;
mod transfer;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use platform_proto::server::v1::GetSettingsRequest;
use serde_json::Value;

use super::{
    Context,
    client::TIMEOUT,
    document,
    failure::{Exit, Failure},
};
use crate::settings;

/// What can be done with configurations.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Reads a configuration, whole or at a path; exits with 1 when there is nothing.
    #[command(after_help = "Examples:\n  platform config get shop\n  platform config get shop /limits --version 3")]
    Get(read::Get),
    /// Puts a value at a path, or in place of the whole document; exits with 1 when a condition does not hold.
    #[command(override_usage = "platform config set [OPTIONS] <ID> [PATH] <VALUE|-|--file FILE>")]
    #[command(
        after_help = "Examples:\n  platform config set shop --file shop.json\n  platform config set shop /limits/requests 10\n  \
        platform config set shop /greeting hello --text --if-version 3\n  \
        platform config set shop /database/password --file password.txt --text --secret"
    )]
    Set(edit::Set),
    /// Merges a value into what is there (RFC 7386): a null removes.
    #[command(override_usage = "platform config merge [OPTIONS] <ID> [PATH] <VALUE|-|--file FILE>")]
    #[command(after_help = "Example:\n  platform config merge shop /limits '{\"requests\":20,\"burst\":null}'")]
    Merge(edit::Put),
    /// Removes what is at a path, or the whole configuration, which keeps its history.
    #[command(after_help = "Examples:\n  platform config delete shop /limits/burst\n  platform config delete shop")]
    Delete(edit::Delete),
    /// Makes an earlier version the current one again, also of a deleted configuration.
    #[command(after_help = "Example:\n  platform config rollback shop 3 --comment revert")]
    Rollback(edit::Rollback),
    /// Serves a candidate to a percentage of the instances, before it becomes the document for all.
    #[command(
        override_usage = "platform config stage [OPTIONS] --percent <PERCENT> <ID> [[PATH] <VALUE|-|--file FILE>]"
    )]
    #[command(
        after_help = "Examples:\n  platform config stage shop /limits/requests 20 --percent 10\n  platform config stage shop --percent 50"
    )]
    Stage(edit::Stage),
    /// Makes the candidate the document for all.
    #[command(after_help = "Example:\n  platform config promote shop")]
    Promote(edit::Decide),
    /// Gives the candidate up.
    #[command(after_help = "Example:\n  platform config abort shop --comment slow")]
    Abort(edit::Decide),
    /// Encrypts secret values anew with the key that is current.
    #[command(after_help = "Example:\n  platform config reseal --comment november")]
    Reseal(edit::Reseal),
    /// Shows or changes the schema that a configuration has to match.
    #[command(subcommand)]
    Schema(edit::Schema),
    /// Lists configurations in order.
    #[command(after_help = "Example:\n  platform config list shop. --author alice")]
    List(read::List),
    /// Tells who changed what, of one configuration or of all.
    #[command(
        after_help = "Examples:\n  platform config history shop --from 3\n  platform config history --since 1h --reverse"
    )]
    History(read::History),
    /// Tells what differs between two versions.
    #[command(after_help = "Example:\n  platform config diff shop 3")]
    Diff(read::Diff),
    /// Shows changes as they happen, until interrupted; goes on where it was after a lost connection.
    #[command(after_help = "Example:\n  platform config watch shop /limits --after 0")]
    Watch(read::Watch),
    /// Writes configurations to a file, one JSON object on each line, as they are now.
    #[command(
        after_help = "Secret values are left in their encrypted place unless they are revealed.\n\nExamples:\n  \
        platform config export --file config.jsonl\n  platform config export shop. --file shop.jsonl --reveal"
    )]
    Export(transfer::Export),
    /// Writes what an export holds; configurations that it does not hold are left alone. Importing it again changes nothing.
    #[command(after_help = "Example:\n  platform config import --file config.jsonl --comment restored")]
    Import(transfer::Import),
    /// Shows every setting of the running daemon as it is in effect, secrets left out.
    #[command(after_help = "Examples:\n  platform config show\n  platform config show --output json")]
    Show,
    /// Checks a configuration file without starting anything; exits with 2 when it is wrong.
    #[command(after_help = "Example:\n  platform config check platform.toml")]
    Check(Check),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The file.
    file: PathBuf,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Get(arguments) => read::get(context, arguments).await,
        Command::Set(arguments) => edit::set(context, arguments).await,
        Command::Merge(arguments) => edit::merge(context, arguments).await,
        Command::Delete(arguments) => edit::delete(context, arguments).await,
        Command::Rollback(arguments) => edit::rollback(context, arguments).await,
        Command::Stage(arguments) => edit::stage(context, arguments).await,
        Command::Promote(arguments) => edit::promote(context, arguments).await,
        Command::Abort(arguments) => edit::abort(context, arguments).await,
        Command::Reseal(arguments) => edit::reseal(context, arguments).await,
        Command::Schema(command) => edit::schema(context, command).await,
        Command::List(arguments) => read::list(context, arguments).await,
        Command::History(arguments) => read::history(context, arguments).await,
        Command::Diff(arguments) => read::diff(context, arguments).await,
        Command::Watch(arguments) => read::follow(context, arguments).await,
        Command::Export(arguments) => transfer::export(context, arguments).await,
        Command::Import(arguments) => transfer::import(context, arguments).await,
        Command::Show => show(context).await,
        Command::Check(arguments) => check(context, &arguments),
    }
}

async fn show(context: &Context) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let answer = client.call(client.server().get_settings(client.request(TIMEOUT, GetSettingsRequest {}))).await?;
    let settings = document::to_json(answer.settings.unwrap_or_default());
    if !context.output.is_human() {
        context.output.value(&settings)?;
        return Ok(Exit::Done);
    }
    let text = toml::to_string_pretty(&without_nulls(settings))
        .map_err(|error| Failure::new(Exit::Error, "UNPRINTABLE", format!("can't print the settings: {error}")))?;
    context.output.text(text.trim_end())?;
    Ok(Exit::Done)
}

/// TOML has no null: what is not set is left out.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
        ),
        Value::Array(values) => {
            Value::Array(values.into_iter().filter(|value| !value.is_null()).map(without_nulls).collect())
        }
        other => other,
    }
}

fn check(context: &Context, arguments: &Check) -> Result<Exit, Failure> {
    settings::Settings::read(&arguments.file)
        .map_err(|error| Failure::new(Exit::Error, "INVALID_CONFIGURATION", error.to_string()))?;
    context.output.note(&format!("`{}` is valid", arguments.file.display()));
    Ok(Exit::Done)
}
