//! `platform plugin verify`: whether a component keeps what its slot's interface promises.
//!
//! Owns how the report reads; the promises are those of `platform_conformance`, and the component is tried in a
//! [`Trial`]. Invariant: no daemon is asked.

use std::path::PathBuf;

use clap::Args;
use platform_conformance::{Failure as Found, Outcome, suite};
use platform_control::{PluginRecord, parse_mode};
use serde_json::{Map, Value, json};

use super::{
    COMPONENT_BYTES,
    trial::{Trial, refused},
};
use crate::cli::{
    Context, document,
    failure::{Exit, Failure},
    input,
    output::{Output, show},
};

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The component; `-` is standard input.
    file: PathBuf,
    /// Its settings: JSON, or a JSON or TOML file.
    #[arg(long, value_name = "JSON|FILE", default_value = "{}")]
    settings: String,
    /// Instance mode instead of the manifest's: `fresh`, `reused` or `single`.
    #[arg(long, value_parser = ["fresh", "reused", "single"])]
    mode: Option<String>,
    /// A grant that reaches outside the trial: `wasi`, `network:HOST:PORT`, `files:DIRECTORY` or `env:NAME`; `requested` for all that the manifest asks for.
    /// Those that reach no further than the trial's own host are given.
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// Runs only checks whose name holds this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Directory of the shipped components, which the component may need beside it.
    #[arg(long, value_name = "DIR", env = "PLATFORM_PLUGINS_DIR")]
    plugins_dir: Option<PathBuf>,
}

impl Verify {
    /// Runs the suite; the answer is no when a check fails.
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let component = input::read(&self.file, COMPONENT_BYTES)?;
        let settings = match document::to_json(document::read(&self.settings)?) {
            Value::Object(settings) => settings,
            _ => Map::new(),
        };
        let progress = context.output.progress("compiling".to_owned());
        let trial = Trial::start(self.plugins_dir).await?;
        let installed = trial.install(component.into()).await?;
        let plugin = installed.plugin;
        let beside = trial.bind_beside(plugin.slot).await?;
        trial.grant(&plugin, &self.grants).await?;
        let mode = parse_mode(self.mode.as_deref().unwrap_or_default()).map_err(|error| refused(&error))?;
        trial.bind(&plugin, settings, mode).await.map_err(|error| refused(&error))?;
        drop(progress);

        let mut outcomes = Vec::new();
        for check in suite(plugin.slot).iter().filter(|check| check.name.contains(&self.only)) {
            let progress = context.output.progress(format!("checking `{}`", check.name));
            let outcome = check.run(trial.subject(check.name)?, &plugin.exports).await;
            drop(progress);
            tell(context.output, &outcome)?;
            outcomes.push(outcome);
        }
        trial.end().await;
        if outcomes.is_empty() {
            let names: Vec<_> = suite(plugin.slot).iter().map(|check| format!("`{}`", check.name)).collect();
            let message = format!("no check is named like `{}`; there are {}", self.only, names.join(", "));
            return Err(Failure::usage(message));
        }
        let file = input::shown(&self.file).display().to_string();
        let subject = Tried { file, plugin: &plugin, beside, warnings: &installed.warnings };
        report(context.output, &subject, &outcomes)
    }
}

/// One line for each check as it ends, and why it failed below it.
pub(super) fn tell(output: Output, outcome: &Outcome) -> Result<(), Failure> {
    if !output.is_human() {
        return Ok(());
    }
    let mut table = output.table(&[]);
    let (good, word) = match &outcome.result {
        Ok(()) => (true, "ok"),
        Err(Found::NotMade(_)) => (true, "left out"),
        Err(Found::Broken(_)) => (false, "FAILED"),
    };
    let took = format!("{} ms", outcome.took.as_millis());
    table.add_row([output.verdict(good, word), outcome.check.name.into(), took.into(), outcome.check.promise.into()]);
    output.text(&show(&table))?;
    match &outcome.result {
        Ok(()) => Ok(()),
        Err(failure) => output.text(&format!("       {failure}")),
    }
}

/// What was tried.
struct Tried<'a> {
    file: String,
    plugin: &'a PluginRecord,
    beside: Option<&'static str>,
    warnings: &'a [String],
}

fn report(output: Output, tried: &Tried<'_>, outcomes: &[Outcome]) -> Result<Exit, Failure> {
    let Tried { file, plugin, beside, warnings } = tried;
    let count = |is: fn(&Result<(), Found>) -> bool| outcomes.iter().filter(|outcome| is(&outcome.result)).count();
    let failed = count(|result| matches!(result, Err(Found::Broken(_))));
    let left_out = count(|result| matches!(result, Err(Found::NotMade(_))));
    let checked = outcomes.len() - left_out;
    if output.is_human() {
        for warning in *warnings {
            output.note(&format!("warning: {warning}"));
        }
        let beside = beside.map(|name| format!(", tried beside `{name}`")).unwrap_or_default();
        let verdict = match failed {
            0 => format!("keeps all {checked} promises checked"),
            failed => format!("breaks {failed} of {checked} promises checked"),
        };
        output.text(&format!("`{file}` for `{}`{beside} {verdict}", plugin.slot))?;
    } else {
        output.value(&json!({
            "file": file,
            "digest": plugin.digest.to_string(),
            "slot": plugin.slot.as_str(),
            "beside": beside,
            "warnings": warnings,
            "passed": checked - failed,
            "failed": failed,
            "leftOut": left_out,
            "checks": outcomes.iter().map(entry).collect::<Vec<_>>(),
        }))?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::No })
}

/// A check for scripts.
pub(super) fn entry(outcome: &Outcome) -> Value {
    let (failure, left_out) = match &outcome.result {
        Ok(()) => (None, None),
        Err(Found::Broken(words)) => (Some(words), None),
        Err(Found::NotMade(words)) => (None, Some(words)),
    };
    json!({
        "name": outcome.check.name,
        "promise": outcome.check.promise,
        "passed": outcome.result.is_ok(),
        "failure": failure,
        "leftOut": left_out,
        "tookMs": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
    })
}
