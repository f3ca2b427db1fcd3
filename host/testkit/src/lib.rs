//! What tests of the host share: built components, a plane to bind them in, and callers.
//!
//! Knows every crate below the front doors; nothing but tests knows it. Panics, as tests do.

#![expect(clippy::panic, reason = "a test that can't be set up has failed")]

mod authority;
mod guests;
pub mod history;
mod load;
mod nats;
mod network;
mod postgres;
mod redis;
mod registry;

pub use authority::{Authority, Certificate};
pub use guests::{acts, asks, configured, counts, locks, publishes, records, waits, weighs};
pub use load::{Latencies, until};
pub use nats::NatsServer;
pub use network::Network;
pub use postgres::Postgres;
pub use redis::Redis;
pub use registry::{Protection, Registry};

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use platform_base::TaskGroup;
use platform_capability::{Call, CallContext, Caller, Fence, Grants, Name, SlotKind, TrustConfig, auth::Facts};
use platform_dataplane::{
    BindingSpec, Counts, FailureMode, Plane, PlaneConfig, PlaneParts, Plugin, SlotName, SlotStatus, Swapped, Verdict,
};
use platform_runtime::{Artifacts, Digest, Engine, EngineConfig};
use platform_storage::{Memory, Options, Storage};

/// The component `NAME.wasm` that `cargo xtask plugins` built into `dist/FOLDER`.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn component(folder: &str, name: &str) -> Arc<[u8]> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../dist").join(folder).join(format!("{name}.wasm"));
    match std::fs::read(&path) {
        Ok(bytes) => bytes.into(),
        Err(error) => panic!("`{}`: {error}; run `cargo xtask plugins`", path.display()),
    }
}

/// A program that `cargo xtask setup` unpacked beside what it builds, else the one that the machine has.
#[must_use]
pub fn tool(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let own = own.ancestors().map(|folder| folder.join("tools/bin").join(name)).find(|program| program.is_file());
    own.unwrap_or_else(|| name.into())
}

/// Sends a signal, by name, to a process that a test started.
///
/// # Panics
/// There is no such process.
pub fn signal(process: &std::process::Child, name: &str) {
    let sent = std::process::Command::new("kill").arg(format!("-{name}")).arg(process.id().to_string()).status();
    assert!(sent.is_ok_and(|status| status.success()), "can't send {name} to process {}", process.id());
}

/// A name that is known to be one.
///
/// # Panics
/// It is none.
#[must_use]
pub fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A slot that is known to be one.
///
/// # Panics
/// It is none.
#[must_use]
pub fn slot(text: &str) -> SlotName {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// A plugin of `kind` with default limits, the kind's mode, no settings, and the grants given.
///
/// # Panics
/// A grant is none.
#[must_use]
pub fn plugin(kind: SlotKind, name_text: &str, wasm: &Arc<[u8]>, grants: &[&str]) -> Plugin {
    let grants: Grants = grants.iter().map(|grant| grant.parse().unwrap_or_else(|error| panic!("{error}"))).collect();
    Plugin {
        name: name(name_text),
        version: "0.1.0".to_owned(),
        digest: Digest::of(wasm),
        wasm: Arc::clone(wasm),
        settings: "{}".to_owned(),
        grants,
        mode: kind.mode(),
        limits: kind.limits(),
    }
}

/// A binding of one plugin that fails closed.
#[must_use]
pub fn alone(plugin: Plugin) -> BindingSpec {
    BindingSpec { plugins: vec![plugin], failure: FailureMode::Closed, fallback: None }
}

/// A plane over memory storage and an empty folder of compiled components.
#[derive(Debug)]
pub struct Fixture {
    /// The plane.
    pub plane: Arc<Plane>,
    /// Its storage.
    pub storage: Arc<dyn Storage>,
    /// Owner of its tasks.
    pub tasks: TaskGroup,
    /// Its engine.
    pub engine: Engine,
    _folder: tempfile::TempDir,
}

impl Fixture {
    /// A plane with nothing bound and the default settings.
    #[must_use]
    pub fn new() -> Self {
        // Fewer than a daemon's, so that many fixtures fit into the address space of one process.
        let engine = EngineConfig { instances_max: 1000, ..EngineConfig::default() };
        Self::with(&engine, PlaneConfig::default())
    }

    /// A plane with nothing bound.
    ///
    /// # Panics
    /// The machine does not offer what the engine needs.
    #[must_use]
    pub fn with(engine: &EngineConfig, config: PlaneConfig) -> Self {
        Self::over(Arc::new(Memory::new(Options::default())), engine, config)
    }

    /// A plane with nothing bound over a storage of the test's choosing.
    ///
    /// # Panics
    /// The machine does not offer what the engine needs.
    #[must_use]
    pub fn over(storage: Arc<dyn Storage>, engine: &EngineConfig, config: PlaneConfig) -> Self {
        Self::make(storage, engine, config, &TrustConfig::default())
    }

    /// A plane with nothing bound and the default settings, whose plugins trust an authority.
    #[must_use]
    pub fn trusting(authority: &Authority) -> Self {
        let engine = EngineConfig { instances_max: 1000, ..EngineConfig::default() };
        let trust = TrustConfig { ca_files: vec![authority.file()] };
        Self::make(Arc::new(Memory::new(Options::default())), &engine, PlaneConfig::default(), &trust)
    }

    fn make(storage: Arc<dyn Storage>, engine: &EngineConfig, config: PlaneConfig, trust: &TrustConfig) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        let engine = Engine::new(engine).unwrap_or_else(|error| panic!("{error:#}"));
        let artifacts = Artifacts::open(engine.clone(), folder.path()).unwrap_or_else(|error| panic!("{error}"));
        let tasks = TaskGroup::new();
        let plane = Plane::new(PlaneParts {
            witness: None,
            engine: engine.clone(),
            artifacts,
            storage: Arc::clone(&storage),
            tasks: tasks.clone(),
            trust: trust.build().unwrap_or_else(|error| panic!("{error}")),
            recorder: None,
            config,
        });
        Self { plane, storage, tasks, engine, _folder: folder }
    }

    /// Asks `auth.policy/POLICY`, with a header `x-bad` when `bad`.
    pub async fn ask(&self, policy: &str, action: &str, target: &str, bad: bool) -> Verdict {
        let mut facts = MapFacts::default();
        if bad {
            facts.headers.insert("x-bad".to_owned(), "1".to_owned());
        }
        self.plane.auth().check(&call(), Some(policy), action, target, Arc::new(facts)).await
    }

    /// What a slot is doing.
    ///
    /// # Panics
    /// Nothing is bound.
    #[must_use]
    pub fn status(&self, slot_text: &str) -> SlotStatus {
        self.plane.slot_status(&slot(slot_text)).unwrap_or_else(|| panic!("nothing is bound to `{slot_text}`"))
    }

    /// What the calls of a slot's first plugin came to.
    ///
    /// # Panics
    /// Nothing is bound.
    #[must_use]
    pub fn counts(&self, slot_text: &str) -> Counts {
        self.status(slot_text).entries.swap_remove(0).counts
    }

    /// Instances that exist now, of all plugins.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.engine.wasmtime().pooling_allocator_metrics().map_or(0, |metrics| metrics.component_instances())
    }

    /// Prepares and binds as the next generation.
    ///
    /// # Panics
    /// It can't be prepared or bound.
    pub async fn bind(&self, slot_text: &str, spec: BindingSpec) -> Swapped {
        let slot = slot(slot_text);
        let prepared = self.plane.prepare(&slot, spec).await.unwrap_or_else(|error| panic!("{error}"));
        let generation = self.plane.slot_status(&slot).map_or(0, |status| status.generation) + 1;
        self.plane.bind(&slot, prepared, generation).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}

/// A call without a caller in the namespace `default`, with ten seconds to go.
#[must_use]
pub fn call() -> Call {
    call_in("default")
}

/// The same in another namespace.
#[must_use]
pub fn call_in(namespace: &str) -> Call {
    Arc::new(CallContext::new(None, &name(namespace), Duration::from_secs(10)))
}

/// A call of `subject` with `roles`.
#[must_use]
pub fn call_of(subject: &str, roles: &[&str]) -> Call {
    let caller = Caller {
        subject: subject.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        claims: serde_json::Map::new(),
    };
    Arc::new(CallContext::new(Some(Arc::new(caller)), &name("default"), Duration::from_secs(10)))
}

/// A call whose writes are fenced with a token of the lock `orders`.
#[must_use]
pub fn fenced(token: u64) -> Call {
    fenced_by("orders", token)
}

/// The same with a lock of another name.
#[must_use]
pub fn fenced_by(lock: &str, token: u64) -> Call {
    let fence = Some(Arc::new(Fence { name: lock.into(), token }));
    Arc::new(CallContext { fence, ..call().as_ref().clone() })
}

/// Facts made of maps.
#[derive(Debug, Default, Clone)]
pub struct MapFacts {
    /// Headers by lowercase name.
    pub headers: BTreeMap<String, String>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

impl Facts for MapFacts {
    fn header(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.headers.get(name).map(|value| value.as_str().into())
    }

    fn attribute(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.attributes.get(name).map(|value| value.as_str().into())
    }

    fn headers(&self) -> BTreeMap<String, String> {
        self.headers.clone()
    }

    fn attributes(&self) -> BTreeMap<String, String> {
        self.attributes.clone()
    }
}
