//! The desired state: what is installed and what is bound, in storage, with a view of it in memory.
//!
//! Storage is the truth. Every change is one commit that is made only while nothing else has changed what it touches;
//! the view shows it once it is durable. Invariant: a crash at any point leaves the state before a commit or after it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::RwLock;
use platform_capability::Name;
use platform_dataplane::SlotName;
use platform_runtime::Digest;
use platform_storage::{Condition, MAX_LIMIT, Scope, Storage, Write};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    record::{BindingRecord, PluginKey, PluginRecord, Reference},
};

/// Owner of everything that control keeps.
pub(crate) const OWNER: &str = "_control";
/// The table of the desired state.
const TABLE: &str = "state";
/// Generations of a slot whose records are kept.
pub(crate) const GENERATIONS_MAX: u64 = 50;

const PLUGIN: &str = "plugin:";
const SLOT: &str = "slot:";
const BINDING: &str = "binding:";
const DECLARED: &str = "declared:";

/// A slot as it should be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotRecord {
    /// The highest generation that there ever was.
    pub(crate) last: u64,
    /// What it holds; none when it was unbound.
    #[serde(serialize_with = "serialize_shared", deserialize_with = "deserialize_shared")]
    pub(crate) current: Option<Arc<BindingRecord>>,
}

fn serialize_shared<S: Serializer>(current: &Option<Arc<BindingRecord>>, serializer: S) -> Result<S::Ok, S::Error> {
    current.as_deref().serialize(serializer)
}

fn deserialize_shared<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<BindingRecord>>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(Arc::new))
}

/// A value and the revision of the commit that wrote it.
#[derive(Debug, Clone)]
struct Kept<T> {
    value: T,
    revision: u64,
}

/// The state at one instant.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    plugins: BTreeMap<PluginKey, Kept<Arc<PluginRecord>>>,
    slots: BTreeMap<SlotName, Kept<SlotRecord>>,
    declared: BTreeMap<String, Kept<String>>,
}

/// One change within a commit.
#[derive(Debug)]
pub(crate) enum Edit {
    PutPlugin(Arc<PluginRecord>),
    RemovePlugin(PluginKey),
    PutSlot(SlotName, SlotRecord),
    /// Keeps the record of a generation for later rollbacks.
    PutBinding(SlotName, Arc<BindingRecord>),
    RemoveBinding(SlotName, u64),
    /// What the configuration file said of an entry when it was last applied.
    PutDeclared(String, String),
    RemoveDeclared(String),
}

impl View {
    pub(crate) fn plugins(&self) -> impl Iterator<Item = (&PluginKey, &Arc<PluginRecord>)> {
        self.plugins.iter().map(|(key, kept)| (key, &kept.value))
    }

    pub(crate) fn plugin(&self, key: &PluginKey) -> Option<&Arc<PluginRecord>> {
        self.plugins.get(key).map(|kept| &kept.value)
    }

    /// The plugin that a reference names.
    pub(crate) fn resolve(&self, reference: &Reference) -> Result<&Arc<PluginRecord>> {
        let found = match reference {
            Reference::Version(key) => self.plugin(key),
            Reference::Digest(digest) => self.with_digest(*digest),
            Reference::Name(name) => self.newest(name),
        };
        found.ok_or_else(|| Error::UnknownPlugin(reference.to_string()))
    }

    /// The newest version, a release before any pre-release.
    fn newest(&self, name: &Name) -> Option<&Arc<PluginRecord>> {
        let all = self.plugins().filter(|(key, _)| key.name == *name);
        all.max_by_key(|(key, _)| (key.version.pre.is_empty(), *key)).map(|(_, record)| record)
    }

    pub(crate) fn with_digest(&self, digest: Digest) -> Option<&Arc<PluginRecord>> {
        self.plugins().map(|(_, record)| record).find(|record| record.digest == digest)
    }

    /// The same state with another record of a plugin, for looking ahead of a commit.
    pub(crate) fn with_plugin(&self, plugin: &Arc<PluginRecord>) -> Result<Self> {
        let mut next = self.clone();
        if let Some(kept) = next.plugins.get_mut(&plugin.key()?) {
            kept.value = Arc::clone(plugin);
        }
        Ok(next)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = (&SlotName, &SlotRecord)> {
        self.slots.iter().map(|(name, kept)| (name, &kept.value))
    }

    pub(crate) fn slot(&self, name: &SlotName) -> SlotRecord {
        self.slots.get(name).map(|kept| kept.value.clone()).unwrap_or_default()
    }

    pub(crate) fn bindings(&self) -> impl Iterator<Item = (&SlotName, &Arc<BindingRecord>)> {
        self.slots().filter_map(|(name, slot)| Some((name, slot.current.as_ref()?)))
    }

    pub(crate) fn declared(&self, entry: &str) -> Option<&str> {
        self.declared.get(entry).map(|kept| kept.value.as_str())
    }

    pub(crate) fn declared_with(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.declared.keys().filter_map(move |entry| entry.strip_prefix(prefix))
    }
}

/// The desired state.
#[derive(Debug)]
pub(crate) struct State {
    storage: Arc<dyn Storage>,
    scope: Scope,
    view: RwLock<Arc<View>>,
    commit: tokio::sync::Mutex<()>,
    stale: AtomicBool,
}

impl State {
    /// Why storage can't answer now, none when it can.
    pub(crate) fn storage_problem(&self) -> Option<String> {
        self.storage.problem()
    }

    /// Reads the state from storage.
    pub(crate) async fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        let scope = Scope::new(OWNER, "");
        let view = RwLock::new(Arc::new(load(&*storage, &scope).await?));
        Ok(Self { storage, scope, view, commit: tokio::sync::Mutex::default(), stale: AtomicBool::new(false) })
    }

    /// The state now.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// The state now, read anew when it is not known what became of the last commit.
    pub(crate) async fn fresh(&self) -> Result<Arc<View>> {
        let _turn = self.commit.lock().await;
        if self.stale.load(Ordering::SeqCst) {
            self.reload().await?;
        }
        Ok(self.view())
    }

    async fn reload(&self) -> Result<()> {
        let fresh = load(&*self.storage, &self.scope).await?;
        *self.view.write() = Arc::new(fresh);
        self.stale.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Makes the changes that `plan` asks for, all or none. `plan` sees the state that they are made on, and can refuse.
    pub(crate) async fn commit(&self, plan: impl FnOnce(&View) -> Result<Vec<Edit>> + Send) -> Result<()> {
        let _turn = self.commit.lock().await;
        if self.stale.load(Ordering::SeqCst) {
            self.reload().await?;
        }
        let view = self.view();
        let edits = plan(&view)?;
        if edits.is_empty() {
            return Ok(());
        }
        let writes = edits.iter().map(|edit| write(&view, edit)).collect::<Result<Vec<_>>>()?;
        // Until it is known what became of the commit, also when this future is dropped, the view is not trusted.
        self.stale.store(true, Ordering::SeqCst);
        let revision = self.storage.commit(&self.scope, TABLE, writes).await?;
        let mut next = View::clone(&view);
        for edit in edits {
            next.apply(edit, revision)?;
        }
        *self.view.write() = Arc::new(next);
        self.stale.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// The record of a generation.
    pub(crate) async fn generation(&self, slot: &SlotName, generation: u64) -> Result<Option<BindingRecord>> {
        let key = binding_key(slot, generation);
        match self.storage.get(&self.scope, TABLE, &key).await? {
            Some(entry) => decode(&entry.key, &entry.value).map(Some),
            None => Ok(None),
        }
    }

    /// Records of all generations of a slot that are kept, the oldest first.
    pub(crate) async fn generations(&self, slot: &SlotName) -> Result<Vec<BindingRecord>> {
        let entries = scan(&*self.storage, &self.scope, &format!("{BINDING}{slot}:")).await?;
        entries.iter().map(|entry| decode(&entry.key, &entry.value)).collect()
    }
}

impl View {
    fn apply(&mut self, edit: Edit, revision: u64) -> Result<()> {
        match edit {
            Edit::PutPlugin(value) => drop(self.plugins.insert(value.key()?, Kept { value, revision })),
            Edit::RemovePlugin(key) => drop(self.plugins.remove(&key)),
            Edit::PutSlot(name, value) => drop(self.slots.insert(name, Kept { value, revision })),
            Edit::PutBinding(..) | Edit::RemoveBinding(..) => {}
            Edit::PutDeclared(entry, value) => drop(self.declared.insert(entry, Kept { value, revision })),
            Edit::RemoveDeclared(entry) => drop(self.declared.remove(&entry)),
        }
        Ok(())
    }

    fn load(&mut self, entry: &platform_storage::Entry) -> Result<()> {
        let (key, revision) = (entry.key.as_str(), entry.revision);
        let unreadable = |why: String| Error::Record { key: key.to_owned(), why };
        if key.starts_with(PLUGIN) {
            let value: PluginRecord = decode(key, &entry.value)?;
            self.plugins.insert(value.key()?, Kept { value: Arc::new(value), revision });
        } else if let Some(name) = key.strip_prefix(SLOT) {
            let name =
                name.parse().map_err(|error: platform_dataplane::InvalidSlotName| unreadable(error.to_string()))?;
            self.slots.insert(name, Kept { value: decode(key, &entry.value)?, revision });
        } else if let Some(declared) = key.strip_prefix(DECLARED) {
            let value = String::from_utf8(entry.value.to_vec()).map_err(|error| unreadable(error.to_string()))?;
            self.declared.insert(declared.to_owned(), Kept { value, revision });
        }
        Ok(())
    }
}

/// The write of an edit, on condition that what it replaces is what the view shows.
fn write(view: &View, edit: &Edit) -> Result<Write> {
    let condition = |revision: Option<u64>| revision.map_or(Condition::Absent, Condition::At);
    let put =
        |key: String, value: Vec<u8>, condition| Write::Put { key, value: Bytes::from(value), condition, ttl: None };
    Ok(match edit {
        Edit::PutPlugin(record) => {
            let key = record.key()?;
            let condition = condition(view.plugins.get(&key).map(|kept| kept.revision));
            put(plugin_key(&key), encode(record.as_ref())?, condition)
        }
        Edit::RemovePlugin(key) => Write::Delete {
            key: plugin_key(key),
            condition: condition(view.plugins.get(key).map(|kept| kept.revision)),
        },
        Edit::PutSlot(name, record) => {
            let condition = condition(view.slots.get(name).map(|kept| kept.revision));
            put(format!("{SLOT}{name}"), encode(record)?, condition)
        }
        Edit::PutBinding(name, record) => {
            put(binding_key(name, record.generation), encode(record.as_ref())?, Condition::Always)
        }
        Edit::RemoveBinding(name, generation) => {
            Write::Delete { key: binding_key(name, *generation), condition: Condition::Always }
        }
        Edit::PutDeclared(entry, value) => {
            put(format!("{DECLARED}{entry}"), value.clone().into_bytes(), Condition::Always)
        }
        Edit::RemoveDeclared(entry) => {
            Write::Delete { key: format!("{DECLARED}{entry}"), condition: Condition::Always }
        }
    })
}

fn plugin_key(key: &PluginKey) -> String {
    format!("{PLUGIN}{}:{}", key.name, key.version)
}

fn binding_key(slot: &SlotName, generation: u64) -> String {
    format!("{BINDING}{slot}:{generation:020}")
}

async fn load(storage: &dyn Storage, scope: &Scope) -> Result<View> {
    let mut view = View::default();
    for prefix in [PLUGIN, SLOT, DECLARED] {
        for entry in scan(storage, scope, prefix).await? {
            view.load(&entry)?;
        }
    }
    Ok(view)
}

async fn scan(storage: &dyn Storage, scope: &Scope, prefix: &str) -> Result<Vec<platform_storage::Entry>> {
    let mut entries: Vec<platform_storage::Entry> = Vec::new();
    loop {
        let after = entries.last().map(|entry| entry.key.clone());
        let page = storage.scan(scope, TABLE, prefix, after.as_deref(), MAX_LIMIT).await?;
        if page.is_empty() {
            return Ok(entries);
        }
        entries.extend(page);
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Internal(error.to_string()))
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| Error::Record { key: key.to_owned(), why: error.to_string() })
}
