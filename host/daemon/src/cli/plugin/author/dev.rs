//! `platform plugin dev`: at each change of the source the component is built, tried and bound anew in a daemon that runs.
//!
//! Owns when that happens and what is told of it. Invariant: what does not build or fails a case is not bound; what serves goes on.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use clap::Args;
use platform_base::clock;
use platform_proto::plugin::v1::{BindRequest, InstallRequest, Link, UninstallRequest};
use platform_runtime::Engine;
use serde_json::{Value, json};

use super::{
    build::{Built, build},
    cases::Cases,
    stage::Stage,
    test::{Reach, Tried, tell},
};
use crate::cli::{
    Context,
    client::{COMPILE_TIMEOUT, Client, TIMEOUT},
    document,
    failure::{Exit, Failure},
    plugin::trial,
};

/// How often the source is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Most files that are watched, and levels of folders: a project, and not a disk.
const WATCHED_MAX: (usize, usize) = (20_000, 16);
/// Folders of a project that hold no source.
const UNWATCHED: [&str; 6] = ["target", "dist", "node_modules", ".venv", "__pycache__", ".git"];
/// Builds that stay installed, to go back to.
const KEPT: usize = 5;
/// Quick to build rather than small and quick to run.
const QUICK: [&str; 4] = [
    "profile.release.lto=false",
    "profile.release.codegen-units=16",
    "profile.release.incremental=true",
    "profile.release.opt-level=1",
];

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Folder of the project.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// The slot to bind it to; that of the component when not given.
    #[arg(long)]
    slot: Option<String>,
    /// Its settings: JSON, or a JSON or TOML file; those of `cases.toml` when not given.
    #[arg(long, value_name = "JSON|FILE")]
    settings: Option<String>,
    /// Builds, tries and binds once, and does not wait for changes.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What was bound.
struct Live {
    plugin: String,
    slot: String,
    generation: u64,
}

impl Dev {
    /// Goes on until it is stopped; with `--once` until the first one is bound or refused.
    pub(super) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let settings = self.settings.as_deref().map(|text| document::read(text).map(document::to_json)).transpose()?;
        let client = context.connect().await?;
        // One for all rounds: an edit leaves most of a component as it was, an engine for another language above all.
        let engine = trial::engine(true)?;
        let mut installed = Vec::new();
        let mut seen = BTreeMap::new();
        loop {
            let changed = watch(&self.folder, &mut seen).await?;
            match self.round(context, &client, &engine, settings.as_ref(), changed).await {
                Ok(live) => {
                    installed.push(live.plugin);
                    forget(&client, &mut installed).await;
                }
                Err(failure) if self.once => return Err(failure),
                Err(failure) if context.output.is_human() => {
                    crate::cli::complain(&format!("not live: {failure}; what serves goes on"));
                }
                Err(failure) => context.output.text(&failure.to_json())?,
            }
            if self.once {
                return Ok(Exit::Done);
            }
        }
    }

    /// One way from source to a live component.
    async fn round(
        &self, context: &Context, client: &Client, engine: &Engine, settings: Option<&Value>, changed: Instant,
    ) -> Result<Live, Failure> {
        let since =
            |from: Instant| u64::try_from(clock::now().saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX);
        let begun = clock::now();
        let built = build(&self.folder, &QUICK)?;
        let build_ms = since(begun);
        let begun = clock::now();
        let cases = self.try_out(context, engine, &built).await?;
        let test_ms = since(begun);
        let begun = clock::now();
        let own = Value::Object(cases.settings);
        let live = self.bind(client, built, settings.unwrap_or(&own)).await?;
        let (bind_ms, total_ms) = (since(begun), since(changed));
        let Live { plugin, slot, generation } = &live;
        if context.output.is_human() {
            context.output.text(&format!(
                "`{slot}` is at generation {generation}: `{plugin}`, {total_ms} ms after the change \
                 (build {build_ms}, tests {test_ms}, binding {bind_ms})"
            ))?;
        } else {
            let event = json!({
                "plugin": plugin, "slot": slot, "generation": generation,
                "totalMs": total_ms, "buildMs": build_ms, "testMs": test_ms, "bindMs": bind_ms,
            });
            context.output.text(&event.to_string())?;
        }
        Ok(live)
    }

    /// Tries the cases; their file.
    async fn try_out(&self, context: &Context, engine: &Engine, built: &Built) -> Result<Cases, Failure> {
        let file = self.folder.join("cases.toml");
        let cases = if file.is_file() { Cases::read(&file, built.facts.slot)? } else { Cases::default() };
        if cases.cases.is_empty() {
            return Ok(cases);
        }
        let grants = ["requested".to_owned()];
        let component = built.traced.clone().into();
        let mut stage = Stage::start(engine.clone(), component, self.reach.plugins_dir.clone(), &grants).await?;
        let mut tried = Tried::default();
        for case in &cases.cases {
            let judged = stage.judge(&cases, case).await;
            if !judged.differences.is_empty() {
                tell(context.output, &judged)?;
            }
            tried.cases.push(judged);
        }
        stage.trial.end().await;
        if tried.is_good() {
            return Ok(cases);
        }
        let failed: Vec<_> = tried.cases.iter().filter(|case| !case.differences.is_empty()).collect();
        let names: Vec<_> = failed.iter().map(|case| format!("`{}`", case.name)).collect();
        Err(Failure::new(Exit::No, "CASES_FAILED", format!("{} failed", names.join(", "))))
    }

    /// Installs the component under a version of its own and binds it.
    async fn bind(&self, client: &Client, built: Built, settings: &Value) -> Result<Live, Failure> {
        let slot = self.slot.clone().unwrap_or_else(|| built.facts.slot.to_string());
        let version = format!("{}-dev.{}", built.project.version(), clock::unix_ms());
        let install = InstallRequest {
            component: built.traced.into(),
            name: built.project.name().to_owned(),
            version,
            accept_grants: true,
            ..InstallRequest::default()
        };
        let request = client.request(COMPILE_TIMEOUT, install);
        let plugin = client.call_within(COMPILE_TIMEOUT, client.plugins().install(request)).await?.plugin;
        let plugin = plugin.unwrap_or_default();
        let plugin = format!("{}@{}", plugin.name, plugin.version);
        let settings = document::read(&settings.to_string())?;
        let link = Link { plugin: plugin.clone(), settings: Some(settings), ..Link::default() };
        let bind = BindRequest {
            slot: slot.clone(),
            chain: vec![link],
            failure_mode: "closed".to_owned(),
            comment: "platform plugin dev".to_owned(),
            ..BindRequest::default()
        };
        let request = client.request(COMPILE_TIMEOUT, bind);
        let bound = client.call_within(COMPILE_TIMEOUT, client.plugins().bind(request)).await?;
        Ok(Live { plugin, slot, generation: bound.binding.unwrap_or_default().generation })
    }
}

/// Removes builds that nobody goes back to; one that is still needed stays.
async fn forget(client: &Client, installed: &mut Vec<String>) {
    while installed.len() > KEPT {
        let request = client.request(TIMEOUT, UninstallRequest { plugin: installed.remove(0) });
        let _ = client.call(client.plugins().uninstall(request)).await;
    }
}

/// Waits until the source is different from what was seen, and as it is for a moment: files are written in pieces. When the
/// difference was found.
async fn watch(folder: &Path, seen: &mut BTreeMap<PathBuf, (u64, Option<SystemTime>)>) -> Result<Instant, Failure> {
    let mut changed = None;
    loop {
        let mut now = BTreeMap::new();
        look(folder, 0, &mut now);
        if now.is_empty() || now.len() >= WATCHED_MAX.0 {
            let message =
                format!("`{}` is no folder of a project, or holds too many files to be watched", folder.display());
            return Err(Failure::usage(message));
        }
        if now != *seen {
            *seen = now;
            changed.get_or_insert_with(clock::now);
        } else if let Some(changed) = changed {
            return Ok(changed);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Files below a folder, by size and time; what goes away meanwhile is not there.
fn look(folder: &Path, depth: usize, files: &mut BTreeMap<PathBuf, (u64, Option<SystemTime>)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let (name, Ok(metadata)) = (entry.file_name(), entry.metadata()) else { continue };
        if files.len() >= WATCHED_MAX.0 {
            return;
        }
        // Cargo writes the lock itself.
        let unwatched = UNWATCHED.iter().any(|unwatched| name == *unwatched) || name == "Cargo.lock";
        if metadata.is_dir() && !unwatched && depth < WATCHED_MAX.1 {
            look(&entry.path(), depth + 1, files);
        } else if metadata.is_file() && !unwatched {
            files.insert(entry.path(), (metadata.len(), metadata.modified().ok()));
        }
    }
}
