//! [`Trial`]: a host of its own that a component is tried in, within this process and a temporary directory.
//!
//! Must not know what is tried. Invariant: no daemon is asked and nothing stays behind, and a component reaches nothing
//! outside that host without a grant of the caller's.

use std::{fmt::Display, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use platform_base::TaskGroup;
use platform_capability::{Grant, Name, SlotKind, TrustConfig};
use platform_conformance::Subject;
use platform_control::{
    Bind, Control, ControlParts, GrantChange, Install, Installed, LinkRequest, PluginRecord, Reference,
};
use platform_dataplane::{FailureMode, Plane, PlaneConfig, PlaneParts, SlotName, Witness};
use platform_runtime::{Artifacts, Engine, EngineConfig, Mode};
use platform_storage::{Memory, Options, Storage};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::COMPONENT_BYTES;
use crate::{
    cli::{
        failure::{Exit, Failure},
        input,
    },
    place,
};

/// Instances at once: few, so that a small machine has the address space.
const INSTANCES_MAX: u32 = 500;
/// Name and version that the component has in the trial, whatever its manifest says, so that one without is tried too.
const NAME: &str = "component";
const VERSION: &str = "0.0.0";
/// Who the trial's audit trail says did it.
const BY: &str = "trial";
/// Longest wait for what the host was doing when the trial is over.
const END: Duration = Duration::from_secs(5);

/// A host with everything in memory or in a temporary directory.
#[derive(Debug)]
pub(super) struct Trial {
    plane: Arc<Plane>,
    control: Arc<Control>,
    tasks: TaskGroup,
    plugins_dir: Option<PathBuf>,
    _folder: TempDir,
}

/// The component does not come as far as to be tried.
pub(super) fn refused(error: &platform_control::Error) -> Failure {
    Failure::new(Exit::No, "NOT_BOUND", error.to_string())
}

/// An engine for trials; one that reads line tables is for what was built here.
pub(super) fn engine(backtrace_lines: bool) -> Result<Engine, Failure> {
    let config = EngineConfig { instances_max: INSTANCES_MAX, backtrace_lines, ..EngineConfig::default() };
    Engine::new(&config).map_err(|error| other(&error))
}

fn other(error: &dyn Display) -> Failure {
    Failure::new(Exit::Error, "INTERNAL", error.to_string())
}

impl Trial {
    /// A host with nothing bound; what is needed beside a component is taken from `plugins_dir`, or from where the shipped
    /// components lie.
    pub(super) async fn start(plugins_dir: Option<PathBuf>) -> Result<Self, Failure> {
        Self::heard(plugins_dir, None).await
    }

    /// The same, where somebody hears what components ask of other capabilities.
    pub(super) async fn heard(
        plugins_dir: Option<PathBuf>, witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, Failure> {
        Self::on(engine(false)?, plugins_dir, witness).await
    }

    /// The same on an engine that was there before: what it has compiled once it compiles quickly.
    pub(super) async fn on(
        engine: Engine, plugins_dir: Option<PathBuf>, witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        let artifacts = Artifacts::open(engine.clone(), folder.path()).map_err(|error| other(&error))?;
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(Options::default()));
        let tasks = TaskGroup::new();
        let plane = Plane::new(PlaneParts {
            engine,
            artifacts: artifacts.clone(),
            storage: Arc::clone(&storage),
            tasks: tasks.clone(),
            trust: TrustConfig::default().build().map_err(|error| other(&error))?,
            witness,
            recorder: None,
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
        let plugins_dir = plugins_dir.or_else(place::default_plugins_dir);
        Ok(Self { plane, control, tasks, plugins_dir, _folder: folder })
    }

    /// The slots of the host.
    pub(super) fn plane(&self) -> &Arc<Plane> {
        &self.plane
    }

    /// What runs in the host.
    pub(super) fn tasks(&self) -> &TaskGroup {
        &self.tasks
    }

    /// Installs the component that is tried.
    pub(super) async fn install(&self, component: Bytes) -> Result<Installed, Failure> {
        let request = Install { name: Some(NAME.to_owned()), version: Some(VERSION.to_owned()), ..by() };
        self.control.install(component, request).await.map_err(|error| refused(&error))
    }

    /// Gives what reaches no further than the trial, and what the caller gives: grants as they are written, `requested` for
    /// all that the manifest asks for.
    pub(super) async fn grant(&self, plugin: &PluginRecord, grants: &[String]) -> Result<(), Failure> {
        let mut give = Vec::new();
        for text in grants.iter().filter(|text| *text != "requested") {
            give.push(text.parse::<Grant>().map_err(|error| Failure::usage(error.to_string()))?);
        }
        give.extend(plugin.requested.iter().filter(|grant| is_within(grant)).cloned());
        let requested = grants.iter().any(|text| text == "requested");
        let change = GrantChange { requested, give, by: BY.to_owned(), ..GrantChange::default() };
        self.control.grant(reference(plugin)?, change).await.map_err(|error| refused(&error))?;
        Ok(())
    }

    /// Binds the shipped component that the kind of slot can't be tried without; its name.
    pub(super) async fn bind_beside(&self, slot: SlotKind) -> Result<Option<&'static str>, Failure> {
        let name = match slot {
            SlotKind::RouterPolicy => "discovery-storage",
            SlotKind::ConfigValidator | SlotKind::ConfigSource => "config-storage",
            SlotKind::EventFilter => "event-storage",
            _ => return Ok(None),
        };
        self.bind_shipped(name, &format!("a component for `{slot}` is tried beside")).await?;
        Ok(Some(name))
    }

    /// Binds a shipped component to its slot; `why` begins the complaint when it is not there.
    pub(super) async fn bind_shipped(&self, name: &str, why: &str) -> Result<(), Failure> {
        let file = self.plugins_dir.as_ref().map(|folder| folder.join(name).with_extension("wasm"));
        let missing = || {
            let message = format!(
                "{why} `{name}`, which is not there; name the directory of the shipped components with `--plugins-dir`"
            );
            Failure::usage(message)
        };
        let bytes = input::read(&file.filter(|file| file.is_file()).ok_or_else(missing)?, COMPONENT_BYTES)?;
        let plugin = self.control.install(Bytes::from(bytes), by()).await.map_err(|error| refused(&error))?.plugin;
        let change = GrantChange { requested: true, by: BY.to_owned(), ..GrantChange::default() };
        self.control.grant(reference(&plugin)?, change).await.map_err(|error| refused(&error))?;
        self.bind(&plugin, Map::new(), None).await.map_err(|error| refused(&error))
    }

    /// Makes a component serve its slot.
    pub(super) async fn bind(
        &self, plugin: &PluginRecord, settings: Map<String, Value>, mode: Option<Mode>,
    ) -> Result<(), platform_control::Error> {
        let link = LinkRequest { settings, mode, ..LinkRequest::new(plugin.label().parse()?) };
        let bind = Bind {
            chain: vec![link],
            failure: FailureMode::Closed,
            dry_run: false,
            if_generation: None,
            comment: String::new(),
            carry: Vec::new(),
            rollout: None,
            by: BY.to_owned(),
        };
        self.control.bind(SlotName::plain(plugin.slot), bind).await.map(drop)
    }

    /// The host as one check sees it: from a namespace of its own.
    pub(super) fn subject(&self, check: &str) -> Result<Subject, Failure> {
        let namespace: Name = check.parse().map_err(|error| Failure::usage(format!("`{check}`: {error}")))?;
        Ok(Subject::new(Arc::clone(&self.plane), namespace))
    }

    /// Waits for what the host was doing.
    pub(super) async fn end(self) {
        self.tasks.join(END).await;
    }
}

/// Whether the grant reaches nothing but what the trial's own host holds.
fn is_within(grant: &Grant) -> bool {
    matches!(
        grant,
        Grant::Storage
            | Grant::Kv
            | Grant::Discovery
            | Grant::Config
            | Grant::Db
            | Grant::Event
            | Grant::Sync
            | Grant::Marketplace
    )
}

fn by() -> Install {
    Install { by: BY.to_owned(), ..Install::default() }
}

fn reference(plugin: &PluginRecord) -> Result<Reference, Failure> {
    plugin.label().parse().map_err(|error: platform_control::InvalidReference| Failure::usage(error.to_string()))
}
