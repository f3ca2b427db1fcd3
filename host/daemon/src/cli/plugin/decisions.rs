//! Decisions that a daemon kept: `platform plugin decisions`, and reading them back.

use std::{
    fmt::Display,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use clap::Args;
use platform_dataplane as kept;
use platform_proto::plugin::v1::{Asker, Decision, DecisionsRequest, DecisionsResponse, HeaderValue};
use prost_types::Timestamp;
use serde_json::Value;

use crate::{
    cli::{
        Context,
        client::{Client, TIMEOUT},
        document,
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
pub(super) fn told(fault: &str, allowed: bool, status: impl Display) -> String {
    match (fault, allowed) {
        ("", true) => "allow".to_owned(),
        ("", false) => format!("deny {status}"),
        (fault, _) => format!("fault {fault}"),
    }
}

/// The subject of a caller, as it is told; `-` for none.
pub(super) fn told_subject(subject: Option<&str>) -> &str {
    subject.filter(|subject| !subject.is_empty()).unwrap_or("-")
}

/// A unix time in nanoseconds; none for 0.
pub(super) fn moment_of(time_ns: u64) -> Option<Timestamp> {
    (time_ns > 0).then(|| (UNIX_EPOCH + Duration::from_nanos(time_ns)).into())
}

fn line(decision: &Decision) -> String {
    let (what, reason) = match &decision.outcome {
        Some(outcome) => (told(&outcome.fault, outcome.allowed, outcome.status), outcome.reason.as_str()),
        None => (String::new(), ""),
    };
    let when = time(decision.time);
    let who = told_subject(decision.caller.as_ref().map(|caller| caller.subject.as_str()));
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
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
        let request = Some(DecisionsRequest { slot, since, limit: PAGE, ..Default::default() });
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
            Self::Daemon { client, request } => Ok(page(client, request, false).await?.map(|page| page.decisions)),
            Self::File { path, lines, number } => decisions_of(path, lines, number),
        }
    }

    /// The same for who reads many.
    pub(super) async fn next_kept(&mut self) -> Result<Option<Page>, Failure> {
        match self {
            Self::Daemon { client, request } => {
                Ok(page(client, request, true).await?.map(|page| Page::Lines(page.lines)))
            }
            Self::File { path, lines, number } => Ok(decisions_of(path, lines, number)?.map(Page::Decisions)),
        }
    }
}

/// Decisions that are not read yet.
pub(super) enum Page {
    /// As a daemon keeps them.
    Lines(Bytes),
    /// As they are told.
    Decisions(Vec<Decision>),
}

impl Page {
    /// Reads them.
    pub(super) fn read(&self) -> impl Iterator<Item = kept::Decision<'_>> + Send {
        let (lines, told) = match self {
            Self::Lines(lines) => (lines.as_ref(), [].as_slice()),
            Self::Decisions(decisions) => ([].as_slice(), decisions.as_slice()),
        };
        kept::Decisions::read(lines).chain(told.iter().cloned().map(as_kept))
    }
}

async fn page(
    client: &Client, request: &mut Option<DecisionsRequest>, as_lines: bool,
) -> Result<Option<DecisionsResponse>, Failure> {
    let Some(asked) = request.take() else { return Ok(None) };
    let asked = DecisionsRequest { as_lines, ..asked };
    let asked_next = asked.clone();
    let page = client.call(client.plugins().decisions(client.request(TIMEOUT, asked))).await?;
    if !page.next_page_token.is_empty() {
        *request = Some(DecisionsRequest { page_token: page.next_page_token.clone(), ..asked_next });
    }
    Ok(Some(page))
}

fn decisions_of(
    path: &Path, lines: &mut BufReader<File>, number: &mut usize,
) -> Result<Option<Vec<Decision>>, Failure> {
    let mut page = Vec::new();
    let mut line = String::new();
    while page.len() < PAGE as usize {
        line.clear();
        let unreadable = |error| Failure::usage(format!("can't read `{}`: {}", path.display(), words::of(&error)));
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

/// A decision as a daemon keeps it.
fn as_kept<'a>(told: Decision) -> kept::Decision<'a> {
    let headers = |headers: Vec<HeaderValue>| headers.into_iter().map(|header| (header.name, header.value)).collect();
    let outcome = told.outcome.unwrap_or_default();
    kept::Decision {
        interface: told.interface.into(),
        slot: told.slot.into(),
        time_ns: told.time.map_or(0, nanoseconds),
        namespace: told.namespace.into(),
        caller: told.caller.map(asker),
        action: told.action.into(),
        target: told.target.into(),
        headers: told.headers.into_iter().collect(),
        attributes: told.attributes.into_iter().collect(),
        redacted: told.redacted.into_iter().collect(),
        outcome: kept::DecisionOutcome {
            allowed: outcome.allowed,
            reason: outcome.reason.into(),
            status: u16::try_from(outcome.status).unwrap_or_default(),
            set_headers: headers(outcome.set_headers),
            remove_headers: outcome.remove_headers,
            response_headers: headers(outcome.response_headers),
            decided_by: outcome.decided_by.into(),
            generation: outcome.generation,
            fault: outcome.fault.into(),
        },
    }
}

fn asker(told: Asker) -> kept::Asker {
    let claims = match told.claims.map(document::to_json) {
        Some(Value::Object(claims)) => claims,
        _ => serde_json::Map::new(),
    };
    kept::Asker { subject: told.subject, roles: told.roles.into_iter().collect(), claims }
}

fn nanoseconds(time: Timestamp) -> u64 {
    let seconds = u64::try_from(time.seconds).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.nanos).unwrap_or(0))
}
