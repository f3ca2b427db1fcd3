//! [`Daemon`]: the parts of the platform, put together.
//!
//! Owns the order in which parts start and end: what others need comes first and goes last. Must not know what the parts
//! do. Invariant: nothing is accepted before every slot was restored, and storage is closed only when nobody uses it.

use std::{
    ffi::OsString,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use platform_base::{TaskGroup, clock};
use platform_control::{Control, ControlParts, Trust, file::Declaration};
use platform_dataplane::{Plane, PlaneParts, Recorder};
use platform_ingress::{About, IngressError, Parts, StaticToken};
use platform_marketplace::{Marketplace, Tester};
use platform_runtime::{Artifacts, Engine};
use platform_signing::{InvalidPolicy, Policy};
use platform_storage::{Embedded, Memory, Nats, Storage};
use platform_webhook::Webhooks;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{configuration::Configuration, data_dir::DataDir, defaults, failure::StartError};
use crate::{
    place,
    settings::{Settings, StorageEngine},
};

/// Wait for tasks that were asked to end, after the drain.
const TASKS_END: Duration = Duration::from_secs(5);

/// A daemon that serves.
#[derive(Debug)]
pub(crate) struct Daemon {
    data_dir: DataDir,
    storage: Arc<dyn Storage>,
    control: Arc<Control>,
    plane: Arc<Plane>,
    webhooks: Arc<Webhooks>,
    marketplace: Option<Arc<Marketplace>>,
    /// What serves: the listener and its connections.
    front: TaskGroup,
    /// What the front stands on: slots and their control.
    back: TaskGroup,
    stop: CancellationToken,
    drain: Duration,
    folder: PathBuf,
    bundled: Vec<PathBuf>,
}

impl Daemon {
    /// Starts everything, in order; it serves when this returns.
    pub(crate) async fn assemble(configuration: &Configuration) -> Result<Self, StartError> {
        let started_ms = clock::unix_ms();
        raise_open_files();
        let settings = &configuration.settings;
        let data_dir = DataDir::open(&configuration.data_dir)?;
        let token = data_dir.admin_token()?;
        let back = TaskGroup::new();
        let storage = open_storage(settings, &data_dir).await?;
        let (plane, artifacts) = slots(settings, &data_dir, &storage, &back)?;
        let webhooks = Webhooks::new(platform_webhook::Parts {
            plane: Arc::clone(&plane),
            storage: Arc::clone(&storage),
            tasks: back.clone(),
            config: settings.webhooks.clone(),
            shared: settings.storage.engine == StorageEngine::Nats,
        });
        let parts = ControlParts {
            plane: Arc::clone(&plane),
            storage: Arc::clone(&storage),
            daemon: data_dir.daemon_id()?,
            data_dir: data_dir.path().to_owned(),
            artifacts,
            tasks: back.clone(),
        };
        let control = Control::open(parts).await.map_err(other)?;
        control.use_trust(trust(settings).map_err(|error| StartError::Usage(format!("`trust`: {error}")))?);
        let marketplace = marketplace(configuration, &data_dir, &storage, &back).await?;
        let mut daemon = Self {
            data_dir,
            storage,
            control,
            plane: Arc::clone(&plane),
            webhooks,
            marketplace,
            front: TaskGroup::new(),
            back,
            stop: CancellationToken::new(),
            drain: configuration.drain_time(),
            folder: configuration.file.parent().map(PathBuf::from).unwrap_or_default(),
            bundled: configuration.plugins_dir.iter().cloned().collect(),
        };
        // The port is taken before slots are restored, so that a port in use shows at once.
        let ingress = daemon.front_doors(settings, plane, token, started_ms).await?;
        daemon.restore(settings).await;
        daemon.control.join(ingress.address().to_string()).await;
        daemon.plane.event().tell_changes();
        daemon.plane.configurations().follow_sources();
        daemon.control.tell_changes();
        daemon.webhooks.start();
        daemon.serve(ingress)?;
        Ok(daemon)
    }

    /// Reads the keys of secret values anew.
    fn use_keys(&self, settings: &Settings) {
        self.plane.configurations().use_keys(settings.config.secrets.build());
    }

    /// Applies what the configuration file says of secret values, components and slots.
    pub(crate) async fn apply(&self, settings: &Settings) {
        self.use_keys(settings);
        match trust(settings) {
            Ok(trust) => {
                if let Some(marketplace) = &self.marketplace {
                    marketplace.use_policy(trust.policy.clone());
                }
                self.control.use_trust(trust);
            }
            Err(error) => tracing::error!(%error, "`trust` was not applied; whose signatures are needed is as it was"),
        }
        let declaration = Declaration {
            plugins: settings.plugin.clone(),
            bindings: settings.binding.clone(),
            folder: self.folder.clone(),
            bundled: self.bundled.clone(),
        };
        match self.control.apply(declaration).await {
            Ok(applied) => {
                let (changes, problems) = (applied.changes.len(), applied.problems.len());
                tracing::info!(changes, problems, "applied the configuration");
            }
            Err(error) => tracing::error!(%error, "the configuration was not applied"),
        }
    }

    /// Ends in order: no new connections, calls in flight finish, slots end, storage is closed.
    pub(crate) async fn drain(self) {
        tracing::info!(calls_finish_within_ms = self.drain.as_millis(), "stopping");
        self.data_dir.withdraw_address();
        self.stop.cancel();
        let late = self.front.join(self.drain.saturating_add(TASKS_END)).await;
        let later = self.back.join(TASKS_END).await;
        self.control.leave().await;
        if !late.is_empty() || !later.is_empty() {
            tracing::warn!(tasks = ?[late, later].concat(), "some tasks did not end in time");
        }
        self.storage.close().await;
        tracing::info!("stopped");
    }

    async fn front_doors(
        &self, settings: &Settings, plane: Arc<Plane>, token: String, started_ms: u64,
    ) -> Result<platform_ingress::Ingress, StartError> {
        let mut config = settings.server.clone();
        let about = About {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms,
            settings: match serde_json::to_value(settings) {
                Ok(Value::Object(settings)) => settings,
                _ => return Err(StartError::Other("the settings have no JSON form".to_owned())),
            },
        };
        config.identity.tokens.push(StaticToken::admin(token));
        let (control, webhooks) = (Arc::clone(&self.control), Arc::clone(&self.webhooks));
        let parts = Parts { plane, control, webhooks, marketplace: self.marketplace.clone(), about };
        config.build(parts).await.map_err(|error| match error {
            IngressError::AddressInUse { address } => {
                StartError::address(&address, &std::io::ErrorKind::AddrInUse.into())
            }
            IngressError::Listen { address, source } => StartError::address(&address, &source),
            IngressError::Identity(error) => StartError::Usage(format!("`server.identity`: {error}")),
            IngressError::Resp(error) => StartError::Usage(format!("`server.resp`: {error}")),
            IngressError::HeaderName(error) => StartError::Usage(format!("`server.check`: {error}")),
            error => other(error),
        })
    }

    /// Binds what was bound, then what the file declares, then what nothing else has filled.
    async fn restore(&self, settings: &Settings) {
        let begun = clock::now();
        let restored = self.control.restore().await;
        let failed = restored.iter().filter(|slot| slot.result.is_err()).count();
        let took_ms = clock::now().saturating_duration_since(begun).as_millis();
        tracing::info!(slots = restored.len(), failed, took_ms, "restored slots");
        self.apply(settings).await;
        let bundled = self.bundled.first().map(PathBuf::as_path);
        defaults::bind(&self.control, &settings.binding, bundled, settings.marketplace.enabled).await;
    }

    fn serve(&mut self, ingress: platform_ingress::Ingress) -> Result<(), StartError> {
        let (address, resp_address): (SocketAddr, _) = (ingress.address(), ingress.resp_address());
        let (tasks, stop, drain) = (self.front.clone(), self.stop.clone(), self.drain);
        self.front.spawn("front doors", async move {
            let cut = ingress.serve(&tasks, stop.cancelled_owned(), drain).await;
            if cut > 0 {
                tracing::warn!(connections = cut, "connections were cut: their calls took longer than the drain");
            }
        });
        // First, so that whoever finds the one address finds the other too.
        if let Some(address) = resp_address {
            self.data_dir.publish_resp_address(address)?;
            tracing::info!(%address, "serving clients of Redis");
        }
        self.data_dir.publish_address(address)?;
        tracing::info!(%address, data_dir = %self.data_dir.path().display(), "serving");
        Ok(())
    }
}

/// Every component that is bound holds its compiled file open, every connection its socket: the soft limit of many
/// systems, 1,024, is few for both.
fn raise_open_files() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
}

async fn open_storage(settings: &Settings, data_dir: &DataDir) -> Result<Arc<dyn Storage>, StartError> {
    let options = settings.storage.options();
    match settings.storage.engine {
        StorageEngine::Memory => Ok(Arc::new(Memory::new(options))),
        StorageEngine::Nats => Ok(Arc::new(Nats::connect(settings.storage.nats.options(), options).await?)),
        StorageEngine::Embedded => {
            let folder = data_dir.join(place::STORAGE);
            let opened = tokio::task::spawn_blocking(move || Embedded::open(folder, options)).await.map_err(other)?;
            Ok(Arc::new(opened?))
        }
    }
}

fn slots(
    settings: &Settings, data_dir: &DataDir, storage: &Arc<dyn Storage>, tasks: &TaskGroup,
) -> Result<(Arc<Plane>, Artifacts), StartError> {
    let engine = Engine::new(&settings.engine).map_err(|error| StartError::Other(format!("`engine`: {error}")))?;
    let artifacts = Artifacts::open(engine.clone(), &data_dir.join(place::COMPILED)).map_err(other)?;
    let trust = settings.tls.build().map_err(|error| StartError::Usage(format!("`tls.ca_files`: {error}")))?;
    let decisions = data_dir.join(place::DECISIONS);
    // Those that were kept before are taken away in their time, also when no more are kept.
    let recorder = match settings.decisions.is_on() || decisions.is_dir() {
        true => Recorder::open(&decisions, &settings.decisions, tasks).map(Some),
        false => settings.decisions.validate().map(|()| None),
    };
    let recorder = recorder.map_err(|error| StartError::Usage(format!("`decisions`: {error}")))?;
    let parts = PlaneParts {
        engine,
        artifacts: artifacts.clone(),
        storage: Arc::clone(storage),
        tasks: tasks.clone(),
        trust,
        witness: None,
        recorder,
        config: settings.bindings.clone(),
    };
    Ok((Plane::new(parts), artifacts))
}

/// The marketplace, if it is on.
async fn marketplace(
    configuration: &Configuration, data_dir: &DataDir, storage: &Arc<dyn Storage>, tasks: &TaskGroup,
) -> Result<Option<Arc<Marketplace>>, StartError> {
    let settings = &configuration.settings;
    if !settings.marketplace.enabled {
        return Ok(None);
    }
    let parts = platform_marketplace::Parts {
        storage: Arc::clone(storage),
        data_dir: data_dir.path().to_owned(),
        tasks: tasks.clone(),
        config: settings.marketplace.clone(),
        policy: trust(settings).map_err(|error| StartError::Usage(format!("`trust`: {error}")))?.policy,
        tester: Some(tester(configuration.plugins_dir.as_deref()).map_err(other)?),
    };
    Marketplace::open(parts).await.map(Some).map_err(other)
}

/// What tries components that are published: this program, in a process of its own.
fn tester(plugins_dir: Option<&Path>) -> io::Result<Tester> {
    let mut arguments: Vec<OsString> = ["plugin", "report", "--in-background"].map(OsString::from).to_vec();
    if let Some(folder) = plugins_dir {
        arguments.extend(["--plugins-dir".into(), std::path::absolute(folder)?.into_os_string()]);
    }
    Ok(Tester { program: std::env::current_exe()?, arguments, platform: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Whom the file trusts.
fn trust(settings: &Settings) -> Result<Trust, InvalidPolicy> {
    Ok(Trust { policy: Policy::build(&settings.trust)?, advisories: settings.advisories.clone() })
}

fn other(error: impl std::fmt::Display) -> StartError {
    StartError::Other(error.to_string())
}
