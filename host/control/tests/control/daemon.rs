//! What a daemon is made of, without its front doors; and storage that fails when a test says so.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use platform_base::TaskGroup;
use platform_capability::{Call, CallContext, TrustConfig};
use platform_control::{
    Bind, Control, ControlParts, Error, GrantChange, Install, Installed, LinkRequest, Result, SlotView,
};
use platform_dataplane::{FailureMode, Plane, PlaneConfig, PlaneParts, SlotName};
use platform_runtime::{Artifacts, Engine, EngineConfig};
use platform_storage::{Change, Entry, Item, Memory, Object, Options, Scope, Storage, Usage, Write};
use serde_json::{Map, Value};

use crate::guest::Guest;

/// Longest wait of a test for something that is sure to come.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A daemon on a folder and a storage that outlive it.
pub(crate) struct Daemon {
    pub(crate) control: Arc<Control>,
    pub(crate) plane: Arc<Plane>,
    tasks: TaskGroup,
}

/// What a daemon leaves behind.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) storage: Arc<Faulty>,
    name: &'static str,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::over(None, "one")
    }

    /// Places of two daemons that share a storage.
    pub(crate) fn two() -> [Self; 2] {
        let one = Self::over(Some(Objects::default()), "one");
        let other = Self { folder: tempfile::tempdir().unwrap(), storage: Arc::clone(&one.storage), name: "two" };
        [one, other]
    }

    fn over(objects: Option<Objects>, name: &'static str) -> Self {
        let inner = Memory::new(Options::default());
        let storage = Arc::new(Faulty { inner, fault: AtomicU8::new(NONE), objects });
        Self { folder: tempfile::tempdir().unwrap(), storage, name }
    }

    /// Starts a daemon and makes it one of those that share the storage.
    pub(crate) async fn join(&self) -> Daemon {
        let daemon = self.start().await;
        daemon.control.join(format!("{}.test:8080", self.name)).await;
        daemon
    }

    /// Starts a daemon; it restores what was bound.
    pub(crate) async fn start(&self) -> Daemon {
        let daemon = self.open().await;
        daemon.control.restore().await;
        daemon
    }

    /// Starts a daemon that has not restored anything yet.
    pub(crate) async fn open(&self) -> Daemon {
        let config = EngineConfig { instances_max: 100, memory_mib_max: 64, ..EngineConfig::default() };
        let engine = Engine::new(&config).unwrap();
        let artifacts = Artifacts::open(engine.clone(), &self.path().join("artifacts")).unwrap();
        let tasks = TaskGroup::new();
        let storage: Arc<dyn Storage> = self.storage.clone();
        let plane = Plane::new(PlaneParts {
            witness: None,
            engine,
            artifacts: artifacts.clone(),
            storage: Arc::clone(&storage),
            tasks: tasks.clone(),
            trust: TrustConfig::default().build().unwrap(),
            recorder: None,
            config: PlaneConfig { prepare_ms_max: 500, ..PlaneConfig::default() },
        });
        let parts = ControlParts {
            plane: Arc::clone(&plane),
            storage,
            daemon: self.name.to_owned(),
            data_dir: self.path().to_owned(),
            artifacts,
            tasks: tasks.clone(),
        };
        Daemon { control: Control::open(parts).await.unwrap(), plane, tasks }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Names of all files in a folder of the daemon.
    pub(crate) fn listing(&self, folder: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut open = vec![self.path().join(folder)];
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { open.push(path) } else { names.push(path.display().to_string()) }
            }
        }
        names.sort();
        names
    }
}

impl Daemon {
    pub(crate) async fn install(&self, guest: &Guest) -> Installed {
        self.install_bytes(guest.component()).await.unwrap()
    }

    pub(crate) async fn install_bytes(&self, bytes: Vec<u8>) -> Result<Installed> {
        let request = Install { by: "ada".to_owned(), ..Install::default() };
        self.control.install(Bytes::from(bytes), request).await
    }

    pub(crate) async fn bind(&self, slot: &str, plugin: &str) -> Result<SlotView> {
        self.control.bind(slot.parse().unwrap(), bind(&[plugin])).await
    }

    pub(crate) async fn grant(&self, plugin: &str, give: &[&str], take: &[&str]) -> Result<()> {
        let grants = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let change =
            GrantChange { give: grants(give), take: grants(take), by: "ada".to_owned(), ..GrantChange::default() };
        self.control.grant(plugin.parse().unwrap(), change).await.map(drop)
    }

    /// What the bound kv provider says its revision is; none when nothing is bound.
    pub(crate) async fn revision(&self) -> Option<u64> {
        let call: Call = Arc::new(CallContext::host(Arc::from("default"), SOON));
        self.plane.kv().revision(&call).await.ok()
    }

    pub(crate) fn generation(&self, slot: &str) -> u64 {
        let slot: SlotName = slot.parse().unwrap();
        self.plane.slot_status(&slot).map_or(0, |status| status.generation)
    }

    /// Waits until no operation runs any more.
    pub(crate) async fn rest(&self) {
        let rest = async {
            while self.tasks.running().iter().any(|name| name != "drain") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, rest).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.tasks.join(Duration::from_millis(50)).await;
    }
}

/// Asks to bind plugins without settings.
pub(crate) fn bind(plugins: &[&str]) -> Bind {
    Bind {
        rollout: None,
        carry: Vec::new(),
        chain: plugins.iter().map(|plugin| LinkRequest::new(plugin.parse().unwrap())).collect(),
        failure: FailureMode::Closed,
        dry_run: false,
        if_generation: None,
        comment: String::new(),
        by: "ada".to_owned(),
    }
}

/// Asks to bind a plugin with settings.
pub(crate) fn bind_with(plugin: &str, settings: Value) -> Bind {
    let mut request = bind(&[plugin]);
    request.chain[0].settings = match settings {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    request
}

/// The reason of a failure.
#[track_caller]
pub(crate) fn reason<T>(result: &Result<T>) -> &'static str {
    result.as_ref().err().map_or("NONE", Error::reason)
}

pub(crate) const NONE: u8 = 0;
/// Commits fail and are not made.
pub(crate) const REFUSE: u8 = 1;
/// Commits are made, but their caller hears that they failed.
pub(crate) const LIE: u8 = 2;
/// Commits are not made, and never come back.
pub(crate) const HANG_BEFORE: u8 = 3;
/// Commits are made, and never come back.
pub(crate) const HANG_AFTER: u8 = 4;

/// Storage whose commits fail as told, but for those in which a daemon says how far it is: they come at any time.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Memory,
    fault: AtomicU8,
    /// None: nobody shares it.
    pub(crate) objects: Option<Objects>,
}

/// Objects in memory.
#[derive(Debug, Default)]
pub(crate) struct Objects(pub(crate) Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl platform_storage::Objects for Objects {
    async fn put(&self, name: &str, bytes: Bytes) -> platform_storage::Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn get(&self, name: &str) -> platform_storage::Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }

    async fn remove(&self, name: &str) -> platform_storage::Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }

    async fn list(&self) -> platform_storage::Result<Vec<Object>> {
        let objects = self.0.lock().unwrap();
        // All are old.
        Ok(objects.keys().map(|name| Object { name: name.clone(), kept_ms: 1 }).collect())
    }
}

impl Faulty {
    pub(crate) fn fail(&self, fault: u8) {
        self.fault.store(fault, Ordering::SeqCst);
    }
}

#[async_trait]
impl Storage for Faulty {
    async fn get(&self, scope: &Scope, table: &str, key: &str) -> platform_storage::Result<Option<Entry>> {
        self.inner.get(scope, table, key).await
    }

    async fn get_many(
        &self, scope: &Scope, table: &str, keys: &[&str],
    ) -> platform_storage::Result<Vec<Option<Entry>>> {
        self.inner.get_many(scope, table, keys).await
    }

    async fn used(&self, scope: &Scope, table: &str) -> platform_storage::Result<Usage> {
        self.inner.used(scope, table).await
    }

    async fn commit_within(
        &self, scope: &Scope, table: &str, writes: Vec<Write>, limit: Usage,
    ) -> platform_storage::Result<u64> {
        let fault = if table == "daemons" { NONE } else { self.fault.load(Ordering::SeqCst) };
        let failure = || platform_storage::Error::Unavailable("the disk is full".to_owned());
        match fault {
            REFUSE => return Err(failure()),
            HANG_BEFORE => return std::future::pending().await,
            _ => {}
        }
        let revision = self.inner.commit_within(scope, table, writes, limit).await?;
        match fault {
            LIE => {
                self.fail(NONE);
                Err(failure())
            }
            HANG_AFTER => std::future::pending().await,
            _ => Ok(revision),
        }
    }

    async fn scan(
        &self, scope: &Scope, table: &str, prefix: &str, after: Option<&str>, limit: usize,
    ) -> platform_storage::Result<Vec<Entry>> {
        self.inner.scan(scope, table, prefix, after, limit).await
    }

    async fn changes(
        &self, scope: &Scope, table: &str, prefix: &str, after: u64, limit: usize, wait: Duration,
    ) -> platform_storage::Result<Vec<Change>> {
        self.inner.changes(scope, table, prefix, after, limit, wait).await
    }

    async fn revision(&self, scope: &Scope, table: &str) -> platform_storage::Result<u64> {
        self.inner.revision(scope, table).await
    }

    async fn restore(
        &self, scope: &Scope, table: &str, rows: Vec<Change>, revision: u64,
    ) -> platform_storage::Result<()> {
        self.inner.restore(scope, table, rows, revision).await
    }

    async fn restore_items(
        &self, scope: &Scope, journal: &str, first: u64, items: Vec<Item>,
    ) -> platform_storage::Result<()> {
        self.inner.restore_items(scope, journal, first, items).await
    }

    async fn tables(&self) -> platform_storage::Result<Vec<(Scope, String)>> {
        self.inner.tables().await
    }

    async fn journals(&self) -> platform_storage::Result<Vec<(Scope, String)>> {
        self.inner.journals().await
    }

    async fn append(&self, scope: &Scope, journal: &str, items: Vec<Bytes>) -> platform_storage::Result<u64> {
        self.inner.append(scope, journal, items).await
    }

    async fn read(
        &self, scope: &Scope, journal: &str, from: u64, limit: usize, wait: Duration,
    ) -> platform_storage::Result<Vec<Item>> {
        self.inner.read(scope, journal, from, limit, wait).await
    }

    async fn bounds(&self, scope: &Scope, journal: &str) -> platform_storage::Result<(u64, u64)> {
        self.inner.bounds(scope, journal).await
    }

    async fn trim(&self, scope: &Scope, journal: &str, before: u64) -> platform_storage::Result<()> {
        self.inner.trim(scope, journal, before).await
    }

    fn objects(&self) -> Option<&dyn platform_storage::Objects> {
        self.objects.as_ref().map(|objects| objects as &dyn platform_storage::Objects)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
