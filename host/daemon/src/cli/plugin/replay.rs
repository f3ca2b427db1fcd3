//! `platform plugin replay`: what another policy would have decided.
//!
//! Owns which decisions are asked again and how the answers are told; must not know how a component is run. Invariant: the
//! daemon's slots are not touched, and a decision counts as changed only when a gateway would have seen another answer.

mod again;
mod html;
mod report;

use std::{fs, path::PathBuf, pin::pin, sync::Arc, thread};

use clap::Args;
use futures::{StreamExt as _, stream};
use platform_base::clock;
use platform_capability::SlotKind;
use platform_control::parse_mode;
use platform_dataplane::SlotName;
use platform_proto::plugin::v1::GetSlotRequest;
use prost_types::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{
    COMPONENT_BYTES,
    decisions::{Page, Source},
    trial::{Trial, refused},
};
use crate::{
    cli::{
        Context,
        client::{Client, TIMEOUT},
        document,
        failure::{Exit, Failure},
        input,
        quantity::moment,
    },
    words,
};
use again::ask;
use report::{About, Report};

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The component; `-` is standard input.
    file: PathBuf,
    /// The slot whose decisions are asked again.
    #[arg(long, default_value = "auth.policy")]
    slot: String,
    /// Only decisions since then: `2026-01-31T12:00:00Z`, or how long ago, such as `1h`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Decisions of this file, which `platform plugin decisions --output json` wrote, instead of a daemon's.
    #[arg(long, value_name = "FILE", conflicts_with = "since")]
    from: Option<PathBuf>,
    /// Its settings: JSON, or a JSON or TOML file. Those that the slot is bound with when not given.
    #[arg(long, value_name = "JSON|FILE")]
    settings: Option<String>,
    /// Instance mode instead of the manifest's: `fresh`, `reused` or `single`.
    #[arg(long, value_parser = ["fresh", "reused", "single"])]
    mode: Option<String>,
    /// A grant that reaches outside the trial: `wasi`, `network:HOST:PORT`, `files:DIRECTORY` or `env:NAME`; `requested` for all that the manifest asks for.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Examples of each change.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    examples: usize,
    /// Writes a report to read and to pass on, as a web page.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Replay {
    /// Asks again, and tells what changes; the answer is no when something does.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let slot = self.slot.parse::<SlotName>().map_err(|error| Failure::usage(error.to_string()))?;
        if slot.kind != SlotKind::AuthPolicy {
            return Err(Failure::usage(format!("`{slot}` keeps no decisions; name an `auth.policy` slot")));
        }
        let component = input::read(&self.file, COMPONENT_BYTES)?;
        let given = self.settings.as_deref().map(settings).transpose()?;
        let (mut source, bound) = self.source(context, &slot, given.is_none()).await?;
        let progress = context.output.progress("compiling".to_owned());
        let trial = Trial::start(None).await?;
        let plugin = trial.install(component.into()).await?.plugin;
        if plugin.slot != slot.kind {
            let message =
                format!("`{}` is for `{}`, not for `{slot}`", input::shown(&self.file).display(), plugin.slot);
            return Err(Failure::usage(message));
        }
        trial.grant(&plugin, &self.grants).await?;
        let mode = parse_mode(self.mode.as_deref().unwrap_or_default()).map_err(|error| refused(&error))?;
        trial.bind(&plugin, given.or(bound).unwrap_or_default(), mode).await.map_err(|error| refused(&error))?;

        let begun = clock::now();
        let mut report = Report::new(self.examples);
        self.again(&trial, &mut source, &mut report, |replayed| {
            progress.update(format!("replaying, {replayed} decisions"));
        })
        .await?;
        report.took(clock::now().saturating_duration_since(begun));
        drop(progress);
        trial.end().await;
        let file = input::shown(&self.file).display().to_string();
        let about = About { file, digest: plugin.digest.to_string(), slot: slot.to_string() };
        self.tell(context, &about, &report)
    }

    /// Asks again what was decided, on all cores, a page to a task, while the next pages are read.
    async fn again(
        &self, trial: &Trial, source: &mut Source, report: &mut Report, progress: impl Fn(u64),
    ) -> Result<(), Failure> {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let pages = stream::unfold(source, async |source| Some((source.next_kept().await.transpose()?, source)));
        let mut parts = pin!(
            pages
                .map(async |page| Ok::<_, Failure>(again(trial, page?, self.examples).await))
                .buffered(workers.saturating_mul(2))
        );
        while let Some(part) = parts.next().await {
            report.merge(part?);
            progress(report.replayed());
        }
        Ok(())
    }

    /// Where the decisions come from, and the settings of what is bound.
    async fn source(
        &self, context: &Context, slot: &SlotName, wants_settings: bool,
    ) -> Result<(Source, Option<Map<String, Value>>), Failure> {
        if let Some(path) = &self.from {
            return Ok((Source::file(path.clone())?, None));
        }
        let client = context.connect().await?;
        let bound = if wants_settings { bound(context, &client, slot).await? } else { None };
        Ok((Source::daemon(client, slot.to_string(), self.since), bound))
    }

    fn tell(&self, context: &Context, about: &About, report: &Report) -> Result<Exit, Failure> {
        if report.is_empty() {
            let message = match report.unknown() {
                0 => {
                    "no decision was kept in this time; `sample_percent` of `[decisions]` in the daemon's configuration says how many are"
                }
                _ => "all decisions in this time were asked through an interface that this version doesn't know",
            };
            return Err(Failure::new(Exit::Error, "NO_DECISIONS", message));
        }
        let summary = report.summary(about);
        if let Some(path) = &self.report {
            fs::write(path, html::page(&summary))
                .map_err(|error| Failure::usage(format!("can't write `{}`: {}", path.display(), words::of(&error))))?;
        }
        if context.output.is_human() {
            context.output.text(&summary.text(context.output))?;
        } else {
            context.output.value(&summary.to_json())?;
        }
        Ok(if summary.changed == 0 { Exit::Done } else { Exit::No })
    }
}

/// Settings as an object.
fn settings(text: &str) -> Result<Map<String, Value>, Failure> {
    Ok(match document::to_json(document::read(text)?) {
        Value::Object(settings) => settings,
        _ => Map::new(),
    })
}

/// The settings of the one component that is bound.
async fn bound(context: &Context, client: &Client, slot: &SlotName) -> Result<Option<Map<String, Value>>, Failure> {
    let request = client.request(TIMEOUT, GetSlotRequest { slot: slot.to_string() });
    let chain = match client.call(client.plugins().get_slot(request)).await {
        Ok(slot) => slot.binding.unwrap_or_default().chain,
        Err(failure) if failure.exit == Exit::No => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let [link] = chain.as_slice() else {
        if chain.len() > 1 {
            let note = format!(
                "note: `{slot}` holds a chain of {}; the component is asked alone, with the settings `{{}}`",
                chain.len()
            );
            context.output.note(&note);
        }
        return Ok(None);
    };
    Ok(link.settings.clone().map(document::to_json).and_then(|settings| match settings {
        Value::Object(settings) => Some(settings),
        _ => None,
    }))
}

/// Asks decisions again, in a task of their own.
async fn again(trial: &Trial, page: Page, examples: usize) -> Report {
    let (done, answer) = oneshot::channel();
    let plane = Arc::clone(trial.plane());
    trial.tasks().spawn("replay", async move {
        let mut report = Report::new(examples);
        for decision in page.read() {
            report.add(ask(&plane, decision).await);
        }
        // Nobody waits any more when the command ended.
        let _ = done.send(report);
    });
    // A task that panicked has answered nothing.
    answer.await.unwrap_or_else(|_| Report::new(examples))
}
