//! `platform plugin logs`: what a plugin has been saying, and what is said about its failures.

use std::ops::ControlFlow;

use clap::{Args, ValueEnum};
use platform_proto::plugin::v1::{LogLevel, LogLine, LogsRequest};

use super::OfPlugin;
use crate::cli::{
    Context,
    client::TIMEOUT,
    failure::{Exit, Failure},
    kv::time,
    watch,
};

/// Name of the message.
const MESSAGE: &str = "platform.plugin.v1.LogLine";

#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    which: OfPlugin,
    /// Goes on with lines as they come, across lost connections, until it is interrupted.
    #[arg(long, short)]
    follow: bool,
    /// At most this many of the lines that are there, the latest; all when not given.
    #[arg(long)]
    limit: Option<u32>,
    /// Only lines that matter this much, or more.
    #[arg(long, value_enum, default_value_t = Level::Trace)]
    level: Level,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Level {
    /// Each step.
    Trace,
    /// What helps to understand a fault.
    Debug,
    /// What happened.
    Info,
    /// What should be looked at.
    Warn,
    /// What does not work.
    Error,
}

impl Logs {
    /// Prints lines, oldest first.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let level = match self.level {
            Level::Trace => LogLevel::Trace,
            Level::Debug => LogLevel::Debug,
            Level::Info => LogLevel::Info,
            Level::Warn => LogLevel::Warn,
            Level::Error => LogLevel::Error,
        };
        let asked = LogsRequest {
            plugin: self.which.plugin,
            after: 0,
            limit: self.limit.unwrap_or_default(),
            level: level.into(),
            follow: self.follow,
        };
        if self.limit == Some(0) && !self.follow {
            return Ok(Exit::Done);
        }
        let show = |line: &LogLine| context.output.event(MESSAGE, line, || human(line));
        if self.follow {
            let open = async |client: &crate::cli::client::Client, after: Option<u64>| {
                // Lines that came while the connection was lost are all wanted.
                let limit = if after.is_some() { 0 } else { asked.limit };
                let request = LogsRequest { after: after.unwrap_or_default(), limit, ..asked.clone() };
                client.plugins().logs(request).await
            };
            return watch::stream(context, None, open, async |_, line: LogLine| {
                show(&line)?;
                Ok(ControlFlow::Continue(Some(line.number)))
            })
            .await;
        }
        let client = context.connect().await?;
        let mut lines = client.call(client.plugins().logs(client.request(TIMEOUT, asked))).await?;
        let mut none = true;
        while let Some(line) = lines.message().await? {
            show(&line)?;
            none = false;
        }
        if none {
            context.output.note("it has written nothing since it was bound");
        }
        Ok(Exit::Done)
    }
}

fn human(line: &LogLine) -> String {
    let level = line.level().as_str_name().trim_start_matches("LOG_LEVEL_").to_lowercase();
    let fields: String = line.fields.iter().map(|field| format!("  {}={}", field.name, field.value)).collect();
    format!("{}  {level:5}  {} in {}: {}{fields}", time(line.time), line.plugin, line.slot, line.message)
}
