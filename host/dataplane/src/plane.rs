//! All slots of a daemon, and what they share.

use std::{
    collections::HashMap,
    ops::Deref,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use platform_base::TaskGroup;
use platform_capability::{SlotKind, Trust, logs::Logs};
use platform_runtime::{Artifacts, Engine};
use platform_storage::Storage;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    auth::Auth, config::Config, db::Db, discovery::Discovery, drain::Drains, event::Event, kv::Kv, recorder::Recorder,
    router::Router, slot::Slot, slot_name::SlotName, status::SlotStatus, sync::Sync, witness::Witness,
};

/// How bindings are exchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaneConfig {
    /// Longest wait for the calls of an old generation, in milliseconds, before its memory is given back all the same.
    pub drain_ms_max: u64,
    /// Longest wait for a provider with state to come to rest before its state moves, in milliseconds.
    pub hold_ms_max: u64,
    /// Longest preparation of one plugin, `configure` and `self-test` together, in milliseconds. Each call is also bound by
    /// the plugin's own deadline.
    pub prepare_ms_max: u64,
    /// Generations of a slot that are kept for going back.
    pub generations_kept: usize,
    /// Changes that are kept in memory for each watched namespace.
    pub watch_changes_kept: usize,
    /// Time after which router policies are asked again for the weights of nodes, in milliseconds, for each client that
    /// balances by itself: weights may follow load, of which nobody tells.
    pub weights_ms: u64,
    /// Time after which sources of configurations are asked again, in milliseconds.
    pub sources_ms: u64,
}

impl Default for PlaneConfig {
    fn default() -> Self {
        Self {
            drain_ms_max: 30_000,
            hold_ms_max: 5_000,
            prepare_ms_max: 5_000,
            generations_kept: 3,
            watch_changes_kept: 1024,
            weights_ms: 10_000,
            sources_ms: 2_000,
        }
    }
}

/// What a plane is made of.
#[derive(Debug)]
pub struct PlaneParts {
    /// The engine.
    pub engine: Engine,
    /// Compiled components.
    pub artifacts: Artifacts,
    /// Storage for plugins that are granted it.
    pub storage: Arc<dyn Storage>,
    /// Owner of the plane's tasks.
    pub tasks: TaskGroup,
    /// Whom plugins trust that connect to servers.
    pub trust: Trust,
    /// Keeps decisions, where they are kept.
    pub recorder: Option<Arc<Recorder>>,
    /// Hears what plugins ask of other capabilities, where somebody wants to know.
    pub witness: Option<Arc<dyn Witness>>,
    /// Settings.
    pub config: PlaneConfig,
}

/// All slots.
#[derive(Debug)]
pub struct Plane {
    pub(crate) parts: PlaneParts,
    pub(crate) this: Weak<Self>,
    pub(crate) draining: Arc<Drains>,
    pub(crate) logs: Logs,
    kinds: [Kind; SlotKind::ALL.len()],
    kv: Kv,
    discovery: Discovery,
    config: Config,
    sync: Sync,
    db: Db,
    event: Event,
    auth: Auth,
    router: Router,
}

/// Slots of one kind.
#[derive(Debug)]
struct Kind {
    plain: Arc<Slot>,
    qualified: ArcSwap<HashMap<Arc<str>, Arc<Slot>>>,
    change: Mutex<()>,
    rebound: watch::Sender<()>,
}

/// A slot that a call goes to.
pub(crate) enum Found<'a> {
    Plain(&'a Slot),
    Qualified(Arc<Slot>),
}

impl Deref for Found<'_> {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        match self {
            Self::Plain(slot) => slot,
            Self::Qualified(slot) => slot,
        }
    }
}

impl Plane {
    /// A plane with nothing bound.
    #[must_use]
    pub fn new(parts: PlaneParts) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            draining: Arc::default(),
            logs: Logs::default(),
            kinds: SlotKind::ALL.map(|kind| Kind {
                plain: Arc::new(Slot::new(SlotName::plain(kind))),
                qualified: ArcSwap::default(),
                change: Mutex::default(),
                rebound: watch::channel(()).0,
            }),
            kv: Kv::new(Weak::clone(this)),
            discovery: Discovery::new(Weak::clone(this)),
            config: Config::new(Weak::clone(this)),
            sync: Sync::new(Weak::clone(this)),
            db: Db::new(Weak::clone(this)),
            event: Event::new(Weak::clone(this)),
            auth: Auth::new(Weak::clone(this)),
            router: Router::new(Weak::clone(this)),
            parts,
        })
    }

    /// Whom connections to servers trust.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.parts.trust
    }

    /// What keeps decisions, where they are kept.
    #[must_use]
    pub fn recorder(&self) -> Option<&Recorder> {
        self.parts.recorder.as_deref()
    }

    /// The latest lines of plugins.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The kv capability.
    #[must_use]
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// The discovery capability.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// The config capability.
    #[must_use]
    pub fn configurations(&self) -> &Config {
        &self.config
    }

    /// The sync capability.
    #[must_use]
    pub fn sync(&self) -> &Sync {
        &self.sync
    }

    /// The db capability.
    #[must_use]
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The event capability.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The auth capability.
    #[must_use]
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The router capability.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Settings.
    #[must_use]
    pub fn config(&self) -> &PlaneConfig {
        &self.parts.config
    }

    /// What every slot that holds something is doing.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotStatus> {
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for kind in &self.kinds {
            slots.push(Arc::clone(&kind.plain));
            slots.extend(kind.qualified.load().values().cloned());
        }
        let mut status: Vec<_> = slots.iter().filter_map(|slot| self.status_of(slot)).collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    /// What one slot is doing, none when nothing is bound.
    #[must_use]
    pub fn slot_status(&self, name: &SlotName) -> Option<SlotStatus> {
        self.status_of(&*self.slot(name)?)
    }

    fn status_of(&self, slot: &Slot) -> Option<SlotStatus> {
        SlotStatus::of(slot, || self.draining.of(slot.name()))
    }

    /// The slot of exactly this name.
    #[must_use]
    pub fn slot(&self, name: &SlotName) -> Option<Arc<Slot>> {
        let kind = self.kind(name.kind);
        match &name.qualifier {
            None => Some(Arc::clone(&kind.plain)),
            Some(qualifier) => kind.qualified.load().get(qualifier.as_str()).cloned(),
        }
    }

    /// The slot that serves `qualifier`: its own when it holds something, or the plain one.
    pub(crate) fn find(&self, kind: SlotKind, qualifier: &str) -> Found<'_> {
        let kind = self.kind(kind);
        let qualified = kind.qualified.load();
        if !qualified.is_empty()
            && let Some(slot) = qualified.get(qualifier).filter(|slot| slot.is_bound())
        {
            return Found::Qualified(Arc::clone(slot));
        }
        Found::Plain(&kind.plain)
    }

    /// The slots of a kind that hold something.
    pub(crate) fn bound(&self, kind: SlotKind) -> Vec<Arc<Slot>> {
        let kind = self.kind(kind);
        let qualified = kind.qualified.load();
        std::iter::once(&kind.plain).chain(qualified.values()).filter(|slot| slot.is_bound()).cloned().collect()
    }

    /// Whom the qualified slots of a kind serve.
    pub(crate) fn qualifiers(&self, kind: SlotKind) -> Vec<Arc<str>> {
        let qualified = self.kind(kind).qualified.load();
        qualified.iter().filter(|(_, slot)| slot.is_bound()).map(|(qualifier, _)| Arc::clone(qualifier)).collect()
    }

    /// The slot of exactly this name, made when it is not there.
    pub(crate) fn slot_or_new(&self, name: &SlotName) -> Arc<Slot> {
        let kind = self.kind(name.kind);
        let Some(qualifier) = &name.qualifier else { return Arc::clone(&kind.plain) };
        let _changing = kind.change.lock();
        let mut qualified = kind.qualified.load().as_ref().clone();
        if let Some(slot) = qualified.get(qualifier.as_str()) {
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot::new(name.clone()));
        qualified.insert(qualifier.shared(), Arc::clone(&slot));
        kind.qualified.store(Arc::new(qualified));
        slot
    }

    /// Forgets a qualified slot, so that the plain one serves in its place.
    pub(crate) fn forget(&self, name: &SlotName) {
        let kind = self.kind(name.kind);
        let Some(qualifier) = &name.qualifier else { return };
        let _changing = kind.change.lock();
        let mut qualified = kind.qualified.load().as_ref().clone();
        qualified.remove(qualifier.as_str());
        kind.qualified.store(Arc::new(qualified));
    }

    /// Learns of each change of what slots of `kind` hold.
    pub(crate) fn rebound(&self, kind: SlotKind) -> watch::Receiver<()> {
        self.kind(kind).rebound.subscribe()
    }

    /// Tells that a slot of `kind` holds something else.
    pub(crate) fn tell_rebound(&self, kind: SlotKind) {
        self.kind(kind).rebound.send_replace(());
    }

    #[expect(clippy::indexing_slicing, reason = "there is one place for each kind")]
    fn kind(&self, kind: SlotKind) -> &Kind {
        &self.kinds[kind as usize]
    }

    /// Whether calls can find `slot`: one that was unbound and forgotten meanwhile must not be bound again.
    pub(crate) fn is_known(&self, slot: &Arc<Slot>) -> bool {
        self.slot(slot.name()).is_some_and(|known| Arc::ptr_eq(&known, slot))
    }

    pub(crate) fn prepare_time(&self) -> Duration {
        Duration::from_millis(self.parts.config.prepare_ms_max)
    }
}
