//! `platform storage`: what is done with the state of a daemon while it does not run.
//!
//! Knows where a daemon keeps its state; how it is carried is for storage to know. Invariant: what is migrated from is only
//! read.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use platform_storage::{Clock, Embedded, Migrated, Nats, Options, Storage, migrate};
use serde_json::json;

use super::{
    Context,
    failure::{Exit, Failure},
};
use crate::{
    place,
    settings::{Settings, StorageEngine},
};

/// What can be done with the state.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carries all state of a daemon that does not run to NATS; goes on where it was when it broke off.
    #[command(
        after_help = "Examples:\n  platform storage migrate --from /var/lib/platform --to nats://a:4222,b:4222,c:4222\n  \
        platform storage migrate --from /var/lib/platform --to nats://127.0.0.1:4222 --config platform.toml"
    )]
    Migrate(Migrate),
}

#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Data directory of the daemon.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The NATS that is to hold the state; nothing may be there yet.
    #[arg(long, value_name = "nats://HOST:PORT[,HOST:PORT...]")]
    to: String,
    /// Configuration whose section `[storage.nats]` says how to get there, such as credentials.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Migrate(arguments) => carry(context, arguments).await,
    }
}

async fn carry(context: &Context, arguments: Migrate) -> Result<Exit, Failure> {
    let mut settings = match &arguments.config {
        Some(file) => Settings::read(file).map_err(|mistake| Failure::usage(mistake.to_string()))?.storage,
        None => Settings::default().storage,
    };
    settings.choose(&arguments.to).map_err(Failure::usage)?;
    if settings.engine != StorageEngine::Nats {
        return Err(Failure::usage(format!("`{}` is not NATS; write `nats://HOST:PORT[,HOST:PORT...]`", arguments.to)));
    }
    let folder = arguments.from.join(place::STORAGE);
    if !folder.is_dir() {
        let why =
            format!("`{}` is no data directory of a daemon: it has no `{}`", arguments.from.display(), place::STORAGE);
        return Err(Failure::usage(why));
    }
    // Time stands still, so that nothing ends on either side before it is compared.
    let options = Options { clock: Clock::manual(1), ..settings.options() };
    let (own, nats) = (options.clone(), settings.nats.options());
    let from = tokio::task::spawn_blocking(move || Embedded::open(folder, own)).await;
    let from = from.map_err(|error| Failure::usage(error.to_string()))?;
    let from = from.map_err(|error| Failure::usage(error.to_string()))?;
    let to = Nats::connect(nats, options).await;
    let to = to.map_err(|error| Failure::new(Exit::Unavailable, "STORAGE_UNAVAILABLE", error.to_string()))?;
    let bar = context.output.progress("migrating".to_owned());
    let done = migrate(&from, &to, &mut |done: &Migrated| {
        bar.update(format!("migrating, {} of {} tables and journals, {} entries", done.names, done.of, done.entries));
    })
    .await;
    drop(bar);
    to.close().await;
    from.close().await;
    let done = done.map_err(|error| Failure::new(Exit::Error, "NOT_MIGRATED", error.to_string()))?;
    if context.output.is_human() {
        context.output.text(&words(&done))?;
    } else {
        context.output.value(&json!({"names": done.of, "entries": done.entries, "before": done.before}))?;
    }
    Ok(Exit::Done)
}

fn words(done: &Migrated) -> String {
    let Migrated { of, entries, before, .. } = done;
    if *before {
        return "all of it had been migrated before".to_owned();
    }
    format!(
        "migrated {of} tables and journals with {entries} entries, and compared them; start the daemon with this data directory \
         and `--storage`"
    )
}
