//! Decisions that a daemon kept: `platform plugin decisions`, and reading them back.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

use clap::Args;
use platform_proto::plugin::v1::{Decision, DecisionsRequest};
use prost_types::Timestamp;

use crate::{
    cli::{
        Context,
        client::{Client, TIMEOUT},
        failure::{Exit, Failure},
        kv::time,
        output::from_json,
        quantity::moment,
    },
    words,
};

/// Most that the interface gives in one page.
const PAGE: u32 = 1000;
/// Longest line of a file.
const LINE_BYTES: u64 = 1 << 20;
/// Name of the message.
const MESSAGE: &str = "platform.plugin.v1.Decision";

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The slot.
    #[arg(default_value = "auth.policy")]
    slot: String,
    /// Only those since then: `2026-01-31T12:00:00Z`, or how long ago, such as `1h`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<usize>,
}

impl List {
    /// Prints decisions, each on a line of its own.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut decisions = Source::daemon(context.connect().await?, self.slot, self.since);
        let mut left = self.limit.unwrap_or(usize::MAX);
        let mut none = true;
        while left > 0
            && let Some(page) = decisions.next().await?
        {
            for decision in page.into_iter().take(left) {
                context.output.event(MESSAGE, &decision, || line(&decision))?;
                left -= 1;
                none = false;
            }
        }
        if none {
            context.output.note("no decision was kept in this time");
        }
        Ok(Exit::Done)
    }
}

/// What a decision came to, in short.
pub(super) fn told(decision: &Decision) -> String {
    let outcome = decision.outcome.clone().unwrap_or_default();
    match (outcome.fault.as_str(), outcome.allowed) {
        ("", true) => "allow".to_owned(),
        ("", false) => format!("deny {}", outcome.status),
        (fault, _) => format!("fault {fault}"),
    }
}

/// Subject of the caller; `-` for none.
pub(super) fn subject(decision: &Decision) -> &str {
    decision.caller.as_ref().map(|caller| caller.subject.as_str()).filter(|subject| !subject.is_empty()).unwrap_or("-")
}

fn line(decision: &Decision) -> String {
    let (when, what, who) = (time(decision.time), told(decision), subject(decision));
    let reason = decision.outcome.as_ref().map(|outcome| outcome.reason.as_str()).filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    let line = format!("{when}  {what}  {} {} by {who}{reason}", decision.action, decision.target);
    // What a client sent must not move the cursor of a terminal.
    line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

/// Where decisions come from, page by page.
pub(super) enum Source {
    /// A daemon that kept them.
    Daemon {
        /// The daemon.
        client: Box<Client>,
        /// What is asked next; none when that was the last page.
        request: Option<DecisionsRequest>,
    },
    /// A file that [`List`] wrote, in JSON.
    File {
        /// Its name.
        path: PathBuf,
        /// The file.
        lines: BufReader<File>,
        /// Lines that were read.
        number: usize,
    },
}

impl Source {
    /// The decisions of a slot since then.
    pub(super) fn daemon(client: Client, slot: String, since: Option<Timestamp>) -> Self {
        let request = Some(DecisionsRequest { slot, since, limit: PAGE, page_token: String::new() });
        Self::Daemon { client: Box::new(client), request }
    }

    /// The decisions in a file.
    pub(super) fn file(path: PathBuf) -> Result<Self, Failure> {
        let unreadable = |error| Failure::usage(format!("can't read `{}`: {}", path.display(), words::of(&error)));
        let lines = BufReader::new(File::open(&path).map_err(unreadable)?);
        Ok(Self::File { path, lines, number: 0 })
    }

    /// The next page, which may be empty; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Decision>>, Failure> {
        match self {
            Self::Daemon { client, request } => {
                let Some(asked) = request.take() else { return Ok(None) };
                let asked_next = asked.clone();
                let page = client.call(client.plugins().decisions(client.request(TIMEOUT, asked))).await?;
                if !page.next_page_token.is_empty() {
                    *request = Some(DecisionsRequest { page_token: page.next_page_token, ..asked_next });
                }
                Ok(Some(page.decisions))
            }
            Self::File { path, lines, number } => {
                let mut page = Vec::new();
                let mut line = String::new();
                while page.len() < PAGE as usize {
                    line.clear();
                    let unreadable =
                        |error| Failure::usage(format!("can't read `{}`: {}", path.display(), words::of(&error)));
                    if lines.by_ref().take(LINE_BYTES).read_line(&mut line).map_err(unreadable)? == 0 {
                        break;
                    }
                    *number += 1;
                    let text = line.trim();
                    if text.is_empty() {
                        continue;
                    }
                    let decision = from_json(MESSAGE, text).map_err(|why| {
                        let message = format!(
                            "`{}` line {number} is no decision: {why}; write the file with `platform plugin decisions --output json`",
                            path.display()
                        );
                        Failure::usage(message)
                    })?;
                    page.push(decision);
                }
                Ok((!page.is_empty()).then_some(page))
            }
        }
    }
}
