//! `platform config`: the configuration of the daemon.
//!
//! Knows how settings are shown; what they mean is the daemon's. Invariant: no secret is printed, because the daemon sends
//! none.

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

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
