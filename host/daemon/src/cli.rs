//! The command line: what the user may write, and which command runs.
//!
//! Owns the grammar and the global options; the commands themselves are one file each below `cli/`. Must not know how the
//! daemon works inside. Invariant: `main` gets an exit code and nothing else; every failure was told on standard error.

mod auth;
mod bind;
mod client;
mod config;
mod db;
mod discovery;
mod document;
mod ends;
mod event;
mod failure;
mod input;
mod kv;
mod output;
mod pages;
mod plugin;
mod quantity;
mod router;
mod storage;
mod sync;
mod target;
mod transfer;
mod watch;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use self::output::complain;
use self::{
    client::Client,
    failure::{Exit, Failure},
    output::{Format, Output},
    quantity::positive_duration,
};
use crate::server;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or the answer is yes
  1  the answer is no: denied, not found, a condition did not hold
  2  the command was wrong, or the daemon refused it
  3  the daemon can't be reached or can't answer now
  4  the token is missing, not valid, or not allowed to do this";

/// Variable in which a command that runs under a lock finds its fencing token.
pub(crate) const FENCING: &str = "PLATFORM_FENCING";

/// A platform for microservices whose backends and policies are WebAssembly components, exchanged while calls are in flight.
#[derive(Debug, Parser)]
#[command(name = "platform", version, propagate_version = false, after_help = EXIT_CODES, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Address of the daemon; else it is read from `address` in the data directory.
    #[arg(long, global = true, env = "PLATFORM_ADDRESS", value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// File that holds the bearer token; else `admin.token` in the data directory.
    #[arg(long, global = true, env = "PLATFORM_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Data directory of the daemon, by default `platform` in the user's data directory (`~/.local/share`).
    #[arg(long, global = true, env = "PLATFORM_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Namespace of the call, `default` when not given.
    #[arg(long, short, global = true, env = "PLATFORM_NAMESPACE", value_name = "NAME")]
    pub(crate) namespace: Option<String>,
    /// Fences what is written: refused once a later holder of the lock has written. Commands under `sync lock` have it.
    #[arg(long, global = true, env = FENCING, value_name = "NAME:TOKEN")]
    pub(crate) fencing: Option<String>,
    /// How to print answers; errors follow.
    #[arg(long, short, global = true, env = "PLATFORM_OUTPUT", value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// How long to wait for an answer, such as `5s`; by default 30s, and 5m where components are compiled.
    #[arg(long, global = true, env = "PLATFORM_TIMEOUT", value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon until it is told to stop.
    Server(server::Arguments),
    #[command(flatten)]
    Client(ClientCommand),
}

#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// Installs components, binds them to slots, and tells what serves where.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Reads and writes values under keys.
    #[command(subcommand)]
    Kv(kv::Command),
    /// Reads, writes and looks for records in tables.
    #[command(subcommand)]
    Db(db::Command),
    /// Registers services and tells where they run.
    #[command(subcommand)]
    Discovery(discovery::Command),
    /// Takes locks and permits, stands for elections, and tells who holds what.
    #[command(subcommand)]
    Sync(sync::Command),
    /// Picks a node of a service.
    #[command(subcommand)]
    Router(router::Command),
    /// Asks the policies whether something is allowed.
    #[command(subcommand)]
    Auth(auth::Command),
    /// Reads and changes configurations of services; shows and checks the settings of the daemon.
    #[command(subcommand)]
    Config(config::Command),
    /// Publishes events and hands them out, replays and searches what happened.
    #[command(subcommand)]
    Event(event::Command),
    /// Carries the state of a daemon that does not run to another storage.
    #[command(subcommand)]
    Storage(storage::Command),
    /// Prints a script that completes commands in a shell.
    #[command(
        after_help = "Example:\n  platform completion bash > ~/.local/share/bash-completion/completions/platform"
    )]
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// What a client command works with.
#[derive(Debug)]
pub(crate) struct Context {
    global: Global,
    output: Output,
}

impl Context {
    /// Finds the daemon and connects.
    async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.global).await
    }
}

/// A fencing token as it is written.
pub(crate) fn fencing(name: &str, token: u64) -> String {
    format!("{}:{token}", percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC))
}

/// Does what the arguments say.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too; clap knows which stream and code each has.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Error.code()));
        }
    };
    let global = arguments.global;
    let command = match arguments.command {
        Command::Server(own) => return server::run(&global, &own),
        Command::Client(command) => command,
    };
    let context = Context { output: Output::new(global.output), global };
    match client_command(&context, command) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.is_closed_pipe() {
                tell(&context, &failure);
            }
            failure.exit.into()
        }
    }
}

fn client_command(context: &Context, command: ClientCommand) -> Result<Exit, Failure> {
    let mut builder = match command {
        // They run components or a storage in this process, which must not wait for those who ask them.
        ClientCommand::Plugin(plugin::Command::Verify(_) | plugin::Command::Replay(_) | plugin::Command::Author(_))
        | ClientCommand::Storage(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build()?;
    runtime.block_on(async {
        match command {
            ClientCommand::Plugin(command) => Box::pin(plugin::run(context, command)).await,
            ClientCommand::Kv(command) => Box::pin(kv::run(context, command)).await,
            ClientCommand::Db(command) => Box::pin(db::run(context, command)).await,
            ClientCommand::Discovery(command) => Box::pin(discovery::run(context, command)).await,
            ClientCommand::Sync(command) => Box::pin(sync::run(context, command)).await,
            ClientCommand::Router(command) => Box::pin(router::run(context, command)).await,
            ClientCommand::Auth(command) => Box::pin(auth::run(context, command)).await,
            ClientCommand::Config(command) => Box::pin(config::run(context, command)).await,
            ClientCommand::Event(command) => Box::pin(event::run(context, command)).await,
            ClientCommand::Storage(command) => Box::pin(storage::run(context, command)).await,
            ClientCommand::Completion { shell } => complete(shell),
        }
    })
}

fn complete(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "platform", &mut script);
    io::Write::write_all(&mut io::stdout().lock(), &script)?;
    Ok(Exit::Done)
}

fn tell(context: &Context, failure: &Failure) {
    if context.output.is_human() {
        complain(&format!("error: {failure}"));
    } else {
        complain(&failure.to_json());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// A command without an example is harder to use than it needs to be.
    #[test]
    fn every_command_has_help_with_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "`{path}` says nothing of itself");
            let groups = command.get_subcommands().count();
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(groups > 0 || example.contains("platform "), "`{path}` has no example");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "`{}` of `{path}` has no help", argument.get_id());
            }
            command.get_subcommands().for_each(|command| visit(command, &path));
        }
        visit(&Arguments::command(), "");
    }

    #[test]
    fn examples_parse() {
        fn visit(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for example in help.lines().map(str::trim).filter(|line| line.starts_with("platform ")) {
                let command = example.split(" > ").next().unwrap().split(" | ").next().unwrap();
                let words = words(command);
                if let Err(error) = Arguments::try_parse_from(&words) {
                    panic!("`{example}`: {error}");
                }
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Arguments::command());
    }

    /// The words of a command line in which only single quotes quote.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (position, piece) in line.split('\'').enumerate() {
            if position % 2 == 1 {
                words.last_mut().unwrap().push_str(piece);
                continue;
            }
            let mut bare = piece.split(' ');
            words.last_mut().unwrap().push_str(bare.next().unwrap());
            words.extend(bare.map(str::to_owned));
        }
        words
    }
}
