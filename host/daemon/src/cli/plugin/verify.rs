//! `platform plugin verify`: whether a component keeps what its slot's interface promises.
//!
//! Owns the host that the component is tried in, which lives in this process and in a temporary directory, and how the
//! report reads; the promises are those of `platform_conformance`. Invariant: no daemon is asked and nothing stays behind,
//! and a component reaches nothing outside that host without a grant of the caller's.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use clap::Args;
use platform_base::TaskGroup;
use platform_capability::{Grant, Name, SlotKind};
use platform_conformance::{Outcome, Subject, suite};
use platform_control::{
    Bind, Control, ControlParts, GrantChange, Install, LinkRequest, PluginRecord, Reference, parse_mode,
};
use platform_dataplane::{FailureMode, Plane, PlaneConfig, PlaneParts, SlotName};
use platform_runtime::{Artifacts, Engine, EngineConfig};
use platform_storage::{Memory, Options, Storage};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::COMPONENT_BYTES;
use crate::{
    cli::{
        Context, document,
        failure::{Exit, Failure},
        input,
        output::{Output, show},
    },
    place,
};

/// Instances at once: few, so that a small machine has the address space.
const INSTANCES_MAX: u32 = 500;

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
        let trial = Trial::start().await?;
        let request = Install { name: Some(NAME.to_owned()), version: Some(VERSION.to_owned()), ..by() };
        let installed = trial.control.install(component.into(), request).await.map_err(|error| refused(&error))?;
        let plugin = installed.plugin;
        let beside = self.bind_beside(&trial, plugin.slot).await?;
        self.grant(&trial, &plugin).await?;
        let mode = parse_mode(self.mode.as_deref().unwrap_or_default()).map_err(|error| refused(&error))?;
        trial.bind(LinkRequest { settings, mode, ..LinkRequest::new(reference(&plugin)?) }, plugin.slot).await?;
        drop(progress);

        let mut outcomes = Vec::new();
        for check in suite(plugin.slot).iter().filter(|check| check.name.contains(&self.only)) {
            let progress = context.output.progress(format!("checking `{}`", check.name));
            let outcome = check.run(trial.subject(check.name)?).await;
            drop(progress);
            tell(context.output, &outcome)?;
            outcomes.push(outcome);
        }
        trial.tasks.join(Duration::from_secs(5)).await;
        if outcomes.is_empty() {
            let names: Vec<_> = suite(plugin.slot).iter().map(|check| format!("`{}`", check.name)).collect();
            let message = format!("no check is named like `{}`; there are {}", self.only, names.join(", "));
            return Err(Failure::usage(message));
        }
        let file = input::shown(&self.file).display().to_string();
        let subject = Tried { file, plugin: &plugin, beside, warnings: &installed.warnings };
        report(context.output, &subject, &outcomes)
    }

    /// Binds the shipped component that the kind of slot can't be tried without; its name.
    async fn bind_beside(&self, trial: &Trial, slot: SlotKind) -> Result<Option<&'static str>, Failure> {
        let name = match slot {
            SlotKind::RouterPolicy => "discovery-storage",
            SlotKind::ConfigValidator | SlotKind::ConfigSource => "config-storage",
            SlotKind::EventFilter => "event-storage",
            _ => return Ok(None),
        };
        let folder = self.plugins_dir.clone().or_else(place::default_plugins_dir);
        let file = folder.map(|folder| folder.join(name).with_extension("wasm")).filter(|file| file.is_file());
        let missing = || {
            let message = format!(
                "a component for `{slot}` is tried beside `{name}`, which is not there; name the directory of the shipped components with `--plugins-dir`"
            );
            Failure::usage(message)
        };
        let bytes = input::read(&file.ok_or_else(missing)?, COMPONENT_BYTES)?;
        let plugin = trial.control.install(Bytes::from(bytes), by()).await.map_err(|error| refused(&error))?.plugin;
        let change = GrantChange { requested: true, by: BY.to_owned(), ..GrantChange::default() };
        trial.control.grant(reference(&plugin)?, change).await.map_err(|error| refused(&error))?;
        trial.bind(LinkRequest::new(reference(&plugin)?), plugin.slot).await?;
        Ok(Some(name))
    }

    /// Gives what reaches no further than the trial, and what the caller gives.
    async fn grant(&self, trial: &Trial, plugin: &PluginRecord) -> Result<(), Failure> {
        let mut give = Vec::new();
        for text in self.grants.iter().filter(|text| *text != "requested") {
            give.push(text.parse::<Grant>().map_err(|error| Failure::usage(error.to_string()))?);
        }
        give.extend(plugin.requested.iter().filter(|grant| is_within(grant)).cloned());
        let requested = self.grants.iter().any(|text| text == "requested");
        let change = GrantChange { requested, give, by: BY.to_owned(), ..GrantChange::default() };
        trial.control.grant(reference(plugin)?, change).await.map_err(|error| refused(&error))?;
        Ok(())
    }
}

/// Whether the grant reaches nothing but what the trial's own host holds.
fn is_within(grant: &Grant) -> bool {
    matches!(grant, Grant::Storage | Grant::Kv | Grant::Discovery)
}

/// Name and version that the component has in the trial, whatever its manifest says, so that one without is tried too.
const NAME: &str = "component";
const VERSION: &str = "0.0.0";
/// Who the trial's audit trail says did it.
const BY: &str = "verify";

fn by() -> Install {
    Install { by: BY.to_owned(), ..Install::default() }
}

fn reference(plugin: &PluginRecord) -> Result<Reference, Failure> {
    plugin.label().parse().map_err(|error: platform_control::InvalidReference| Failure::usage(error.to_string()))
}

/// The component does not come as far as to be checked.
fn refused(error: &platform_control::Error) -> Failure {
    Failure::new(Exit::No, "NOT_BOUND", error.to_string())
}

/// A host of its own, with everything in memory or in a temporary directory.
struct Trial {
    plane: Arc<Plane>,
    control: Arc<Control>,
    tasks: TaskGroup,
    _folder: TempDir,
}

impl Trial {
    async fn start() -> Result<Self, Failure> {
        let other = |error: &dyn std::fmt::Display| Failure::new(Exit::Error, "INTERNAL", error.to_string());
        let folder = tempfile::tempdir()?;
        let config = EngineConfig { instances_max: INSTANCES_MAX, ..EngineConfig::default() };
        let engine = Engine::new(&config).map_err(|error| other(&error))?;
        let artifacts = Artifacts::open(engine.clone(), folder.path()).map_err(|error| other(&error))?;
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(Options::default()));
        let tasks = TaskGroup::new();
        let plane = Plane::new(PlaneParts {
            engine,
            artifacts: artifacts.clone(),
            storage: Arc::clone(&storage),
            tasks: tasks.clone(),
            config: PlaneConfig::default(),
        });
        let parts = ControlParts {
            daemon: String::new(),
            plane: Arc::clone(&plane),
            storage,
            data_dir: folder.path().to_owned(),
            artifacts,
            tasks: tasks.clone(),
        };
        let control = Control::open(parts).await.map_err(|error| other(&error))?;
        Ok(Self { plane, control, tasks, _folder: folder })
    }

    async fn bind(&self, link: LinkRequest, slot: SlotKind) -> Result<(), Failure> {
        let slot: SlotName = slot.as_str().parse().map_err(|error| Failure::usage(format!("`{slot}`: {error}")))?;
        let bind = Bind {
            chain: vec![link],
            failure: FailureMode::Closed,
            dry_run: false,
            if_generation: None,
            comment: String::new(),
            carry: Vec::new(),
            by: BY.to_owned(),
        };
        self.control.bind(slot, bind).await.map(drop).map_err(|error| refused(&error))
    }

    /// The host as one check sees it: from a namespace of its own.
    fn subject(&self, check: &str) -> Result<Subject, Failure> {
        let namespace: Name = check.parse().map_err(|error| Failure::usage(format!("`{check}`: {error}")))?;
        Ok(Subject::new(Arc::clone(&self.plane), namespace))
    }
}

/// One line for each check as it ends, and why it failed below it.
fn tell(output: Output, outcome: &Outcome) -> Result<(), Failure> {
    if !output.is_human() {
        return Ok(());
    }
    let mut table = output.table(&[]);
    let (good, word) = if outcome.result.is_ok() { (true, "ok") } else { (false, "FAILED") };
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
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err()).count();
    if output.is_human() {
        for warning in *warnings {
            output.note(&format!("warning: {warning}"));
        }
        let beside = beside.map(|name| format!(", tried beside `{name}`")).unwrap_or_default();
        let verdict = match failed {
            0 => format!("keeps all {} promises checked", outcomes.len()),
            failed => format!("breaks {failed} of {} promises checked", outcomes.len()),
        };
        output.text(&format!("`{file}` for `{}`{beside} {verdict}", plugin.slot))?;
    } else {
        output.value(&json!({
            "file": file,
            "digest": plugin.digest.to_string(),
            "slot": plugin.slot.as_str(),
            "beside": beside,
            "warnings": warnings,
            "passed": outcomes.len() - failed,
            "failed": failed,
            "checks": outcomes.iter().map(entry).collect::<Vec<_>>(),
        }))?;
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::No })
}

fn entry(outcome: &Outcome) -> Value {
    json!({
        "name": outcome.check.name,
        "promise": outcome.check.promise,
        "passed": outcome.result.is_ok(),
        "failure": outcome.result.as_ref().err().map(ToString::to_string),
        "tookMs": u64::try_from(outcome.took.as_millis()).unwrap_or(u64::MAX),
    })
}
