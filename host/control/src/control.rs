//! The operations: each checks, prepares, makes durable and flips, in this order.
//!
//! An operation that changes something runs as a task of its own, so that a caller who goes away does not leave it half
//! done. One change at a time is made to a slot; different slots change in parallel.

mod apply;
mod bind;
mod follow;
mod grant;
mod install;
mod objects;
mod restore;
mod revoke;
mod rollback;
mod rollout;
mod tell;
mod trust;

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use platform_base::{TaskGroup, clock};
use platform_dataplane::{Plane, SlotName, SlotStatus};
use platform_runtime::{Artifacts, Mode};
use platform_storage::Storage;
use tokio::sync::{Notify, OwnedMutexGuard, Semaphore, oneshot};

use crate::{
    audit::{Audit, AuditRecord},
    daemons::{DaemonView, Daemons, Towards},
    error::{Error, Result},
    files::Files,
    followed::Followed,
    page::{Page, PageRequest},
    record::{BindingRecord, PluginKey, PluginRecord, Reference},
    state::State,
};

pub use apply::{Applied, Change};
pub use bind::{Bind, LinkRequest};
pub use grant::GrantChange;
pub use install::{Install, Installed, Upgrade};
pub use restore::Restored;
pub use rollout::RolloutView;
pub use trust::{Advisories, RevokedRule, Trust};

/// Components that are looked at and compiled at once; each may be 64 MiB.
const INSTALLS_MAX: usize = 2;
/// Time between two looks at a slot that drains.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// What control is made of.
#[derive(Debug)]
pub struct ControlParts {
    /// The slots.
    pub plane: Arc<Plane>,
    /// Where the desired state and the audit trail are kept.
    pub storage: Arc<dyn Storage>,
    /// Id of this daemon among those that share the storage.
    pub daemon: String,
    /// The folder in which `plugins/` is.
    pub data_dir: PathBuf,
    /// Compiled components.
    pub artifacts: Artifacts,
    /// Owner of running operations.
    pub tasks: TaskGroup,
}

/// Control of plugins and slots.
#[derive(Debug)]
pub struct Control {
    this: Weak<Self>,
    plane: Arc<Plane>,
    artifacts: Artifacts,
    tasks: TaskGroup,
    files: Arc<Files>,
    storage: Arc<dyn Storage>,
    daemon: String,
    state: State,
    daemons: Followed<Daemons>,
    audit: Audit,
    /// Whose components are let in.
    trust: RwLock<Arc<Trust>>,
    installs: Semaphore,
    /// Held while a component's file and its record are made or removed together.
    installed: tokio::sync::Mutex<()>,
    turns: Mutex<HashMap<SlotName, Arc<tokio::sync::Mutex<()>>>>,
    /// Why slots don't hold what they should.
    problems: Mutex<BTreeMap<SlotName, Arc<Problem>>>,
    /// The last rollout of each slot that has ended here.
    ended: Mutex<BTreeMap<SlotName, Arc<rollout::Ended>>>,
    /// Told when what this daemon serves, or why it does not, may have changed.
    served: Notify,
}

/// Why a slot does not hold what it should.
#[derive(Debug)]
struct Problem {
    /// The generation that it should hold.
    generation: u64,
    why: String,
}

/// An installed plugin, and where it is bound.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginView {
    /// The plugin.
    pub plugin: Arc<PluginRecord>,
    /// Slots whose binding uses it.
    pub bound: Vec<SlotName>,
    /// How the daemons do that share the storage, for each of these slots; none where nobody shares it.
    pub daemons: Vec<DaemonView>,
    /// Why it was revoked; none when it was not.
    pub revoked: Option<String>,
}

/// A slot: what it should hold, and how it does.
#[derive(Debug, Clone)]
pub struct SlotView {
    /// Its name.
    pub name: SlotName,
    /// What it should hold.
    pub binding: Arc<BindingRecord>,
    /// Whether that serves.
    pub ready: bool,
    /// Why it does not serve; empty when it does.
    pub problem: String,
    /// How it fares, when anything serves.
    pub status: Option<SlotStatus>,
    /// What is tried beside it, or was until it stopped by itself.
    pub rollout: Option<RolloutView>,
    /// How the daemons do that share the storage; none where nobody shares it.
    pub daemons: Vec<DaemonView>,
}

impl Control {
    /// Reads the desired state and removes what an interrupted installation left. Nothing is bound yet: see
    /// [`Control::restore`].
    ///
    /// # Errors
    /// The data folder or storage can't be used, or a stored record can't be read.
    pub async fn open(parts: ControlParts) -> Result<Arc<Self>> {
        let state = State::open(Arc::clone(&parts.storage)).await?;
        let daemons = Daemons::open(Arc::clone(&parts.storage)).await?;
        let folder = parts.data_dir.join("plugins");
        let known = state.view().plugins().map(|(_, record)| record.digest).collect();
        let files = blocking(move || {
            let files = Files::open(folder)?;
            files.sweep(&known);
            Ok(Arc::new(files))
        })
        .await?;
        Ok(Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            plane: parts.plane,
            artifacts: parts.artifacts,
            tasks: parts.tasks,
            files,
            state,
            daemons,
            daemon: parts.daemon,
            audit: Audit::new(Arc::clone(&parts.storage)),
            storage: parts.storage,
            trust: RwLock::default(),
            installs: Semaphore::new(INSTALLS_MAX),
            installed: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
            problems: Mutex::default(),
            ended: Mutex::default(),
            served: Notify::new(),
        }))
    }

    /// Installed plugins in the order of names and versions.
    ///
    /// # Errors
    /// The page token is none.
    pub fn plugins(&self, page: &PageRequest) -> Result<Page<PluginView>> {
        let after = match page.token.split_once('@') {
            None if page.token.is_empty() => None,
            Some((name, version)) => Some(PluginKey::new(name, version)?),
            None => return Err(Error::PageToken(page.token.chars().take(200).collect())),
        };
        let view = self.state.view();
        let rest = view.plugins().filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
        let plugins = rest.map(|(_, plugin)| self.plugin_view(Arc::clone(plugin)));
        Ok(Page::cut(plugins, page.limit(), |last| last.plugin.label()))
    }

    /// One plugin.
    ///
    /// # Errors
    /// It is not installed.
    pub fn plugin(&self, reference: &Reference) -> Result<PluginView> {
        Ok(self.plugin_view(Arc::clone(self.state.view().resolve(reference)?)))
    }

    fn plugin_view(&self, plugin: Arc<PluginRecord>) -> PluginView {
        let view = self.state.view();
        let uses = |binding: &BindingRecord| binding.links().any(|link| is_plugin(link, &plugin));
        let bindings: Vec<_> = view.bindings().filter(|(_, binding)| uses(binding)).collect();
        let daemons = bindings
            .iter()
            .flat_map(|(slot, binding)| self.towards(slot, Towards::Generation(binding.generation)))
            .collect();
        let revoked = view.revocation(plugin.digest).map(|revocation| revocation.reason.clone());
        PluginView { plugin, revoked, bound: bindings.into_iter().map(|(slot, _)| slot.clone()).collect(), daemons }
    }

    /// Bound slots in the order of names.
    #[must_use]
    pub fn slots(&self, page: &PageRequest) -> Page<SlotView> {
        let view = self.state.view();
        let rest = view.bindings().filter(|(name, _)| page.token.is_empty() || name.to_string() > page.token);
        let mut rest: Vec<_> = rest.map(|(name, binding)| (name.to_string(), name, binding)).collect();
        rest.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let slots = rest.into_iter().map(|(_, name, binding)| self.slot_view(name, binding));
        Page::cut(slots, page.limit(), |last| last.name.to_string())
    }

    /// One slot.
    ///
    /// # Errors
    /// Nothing is bound to it.
    pub fn slot(&self, name: &SlotName) -> Result<SlotView> {
        let current = self.state.view().slot(name).current;
        let binding = current.ok_or_else(|| Error::NotBound(name.clone()))?;
        Ok(self.slot_view(name, &binding))
    }

    fn slot_view(&self, name: &SlotName, binding: &Arc<BindingRecord>) -> SlotView {
        let status = self.plane.slot_status(name);
        // While a swap is under way the generation before serves, and that is all that readiness asks for.
        let problem = match (self.problems.lock().get(name), &status) {
            (Some(problem), _) => problem.why.clone(),
            (None, None) => "it is being prepared".to_owned(),
            (None, Some(status)) if !status.ready => "a plugin rests after faults in a row".to_owned(),
            (None, Some(_)) => String::new(),
        };
        let ready = problem.is_empty();
        let daemons = self.towards(name, Towards::Generation(binding.generation));
        let rollout = self.rollout_view(name, status.as_ref());
        SlotView { name: name.clone(), binding: Arc::clone(binding), ready, problem, status, rollout, daemons }
    }

    /// Whether every bound slot serves.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.view().bindings().all(|(name, binding)| self.slot_view(name, binding).ready)
    }

    /// Why the storage that all state lies in can't answer now, none when it can.
    #[must_use]
    pub fn storage_problem(&self) -> Option<String> {
        self.state.storage_problem()
    }

    /// Generations of a slot whose records are kept, the newest first.
    ///
    /// # Errors
    /// The page token is none, or storage fails.
    pub async fn history(&self, slot: &SlotName, page: &PageRequest) -> Result<Page<BindingRecord>> {
        let before = number(&page.token)?;
        let records = self.state.generations(slot).await?;
        let rest = records.into_iter().rev().filter(|record| before.is_none_or(|before| record.generation < before));
        Ok(Page::cut(rest, page.limit(), |last| last.generation.to_string()))
    }

    /// The audit trail, the newest first: all of it, or what is about `subject`, a slot or plugin.
    ///
    /// # Errors
    /// The page token is none, or storage fails.
    pub async fn audit(&self, subject: &str, page: &PageRequest) -> Result<Page<AuditRecord>> {
        let records = self.audit.read(number(&page.token)?, page.limit() + 1, subject).await?;
        Ok(Page::cut(records.into_iter(), page.limit(), |last| last.sequence.to_string()))
    }

    /// Waits until no call runs on a generation before the one that serves.
    ///
    /// # Errors
    /// Nothing is bound, or calls still ran after `patience`.
    pub async fn drain(&self, slot: &SlotName, patience: Duration) -> Result<SlotView> {
        let begun = clock::now();
        loop {
            let view = self.slot(slot)?;
            if view.status.as_ref().is_none_or(|status| status.draining.is_empty()) {
                return Ok(view);
            }
            let waited = clock::now().saturating_duration_since(begun);
            if waited >= patience {
                return Err(Error::Draining { slot: slot.clone(), waited });
            }
            tokio::time::sleep(DRAIN_TICK.min(patience.saturating_sub(waited))).await;
        }
    }

    /// Runs a change to its end, whoever waits for it.
    async fn owned<T, F>(&self, name: &'static str, work: impl FnOnce(Arc<Self>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let this = self.this.upgrade().ok_or(Error::Stopping)?;
        if self.tasks.is_cancelled() {
            return Err(Error::Stopping);
        }
        let work = Box::pin(work(this));
        let (tell, told) = oneshot::channel();
        self.tasks.spawn(name, async move {
            // The caller may have gone; the change is made all the same.
            let _ = tell.send(work.await);
        });
        match told.await {
            Ok(result) => result,
            Err(_) if self.tasks.is_cancelled() => Err(Error::Stopping),
            Err(_) => Err(Error::Internal(format!("the task `{name}` ended early; its cause is in the log"))),
        }
    }

    /// The turn to change a slot.
    async fn turn(&self, slot: &SlotName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(slot.clone()).or_default())
        };
        turn.lock_owned().await
    }
}

/// The instance mode that a text names; none for an empty one.
///
/// # Errors
/// There is no such mode.
pub fn parse_mode(text: &str) -> Result<Option<Mode>> {
    match text {
        "" => Ok(None),
        "fresh" => Ok(Some(Mode::Fresh)),
        "reused" => Ok(Some(Mode::Reused)),
        "single" => Ok(Some(Mode::Single)),
        _ => Err(Error::Mode(text.chars().take(100).collect())),
    }
}

/// Runs what takes long, or waits for a disk, where it holds nobody up.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(error.to_string())),
    }
}

fn is_plugin(link: &crate::record::Link, plugin: &PluginRecord) -> bool {
    link.digest == plugin.digest && link.name == plugin.name && link.version == plugin.version
}

fn number(token: &str) -> Result<Option<u64>> {
    if token.is_empty() {
        return Ok(None);
    }
    let number = token.parse().ok();
    number.map(Some).ok_or_else(|| Error::PageToken(token.chars().take(200).collect()))
}
