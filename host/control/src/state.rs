//! The desired state: what is installed and what is bound, in storage, with a view of it in memory.
//!
//! All daemons that share a storage have the one state. Every change is one commit that is made only while nothing else has
//! changed what it touches; the view shows it once it is durable. Invariant: a crash at any point leaves the state before a
//! commit or after it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use platform_capability::Name;
use platform_dataplane::SlotName;
use platform_runtime::Digest;
use platform_storage::{Condition, Entry, Storage, Write};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    followed::{Fold, Followed},
    record::{BindingRecord, PluginKey, PluginRecord, Reference, Revocation, RolloutRecord},
};

/// The table of the desired state.
const TABLE: &str = "state";
/// Generations of a slot whose records are kept.
pub(crate) const GENERATIONS_MAX: u64 = 50;

const PLUGIN: &str = "plugin:";
const SLOT: &str = "slot:";
const BINDING: &str = "binding:";
const DECLARED: &str = "declared:";
const REVOKED: &str = "revoked:";

/// A slot as it should be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlotRecord {
    /// The highest generation that there ever was.
    pub(crate) last: u64,
    /// What it holds; none when it was unbound.
    #[serde(serialize_with = "serialize_shared", deserialize_with = "deserialize_shared")]
    pub(crate) current: Option<Arc<BindingRecord>>,
    /// What is tried beside it, or was until it stopped by itself.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "serialize_shared",
        deserialize_with = "deserialize_shared"
    )]
    pub(crate) rollout: Option<Arc<RolloutRecord>>,
}

impl SlotRecord {
    /// What is tried beside what the slot holds.
    pub(crate) fn running(&self) -> Option<&Arc<RolloutRecord>> {
        self.rollout.as_ref().filter(|rollout| rollout.stopped.is_none())
    }

    /// Nothing else may change while a candidate is tried: what it is compared with would be another.
    pub(crate) fn check_settled(&self, slot: &SlotName) -> Result<()> {
        match self.running() {
            Some(running) => {
                let generation = running.candidate.generation;
                Err(Error::RolloutRunning { slot: slot.clone(), generation })
            }
            None => Ok(()),
        }
    }
}

fn serialize_shared<T: Serialize, S: Serializer>(shared: &Option<Arc<T>>, serializer: S) -> Result<S::Ok, S::Error> {
    shared.as_deref().serialize(serializer)
}

fn deserialize_shared<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Arc<T>>, D::Error> {
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
    revoked: BTreeMap<Digest, Arc<Revocation>>,
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
    /// What the configuration file of a daemon said of an entry when it was last applied.
    PutDeclared(String, String, String),
    RemoveDeclared(String, String),
    PutRevocation(Arc<Revocation>),
    RemoveRevocation(Digest),
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

    /// Components that are not to be used any more.
    pub(crate) fn revocations(&self) -> impl Iterator<Item = &Arc<Revocation>> {
        self.revoked.values()
    }

    pub(crate) fn revocation(&self, digest: Digest) -> Option<&Arc<Revocation>> {
        self.revoked.get(&digest)
    }

    /// The first plugin of a binding that is revoked, and why.
    pub(crate) fn revoked_in(&self, binding: &BindingRecord) -> Option<(String, &Arc<Revocation>)> {
        binding.links().find_map(|link| Some((link.label(), self.revocation(link.digest)?)))
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

    /// What the file of `daemon` said of an entry when it was last applied.
    pub(crate) fn declared(&self, daemon: &str, entry: &str) -> Option<&str> {
        self.declared.get(&declared_key(daemon, entry)).map(|kept| kept.value.as_str())
    }

    /// What the files of all daemons said of an entry when they were last applied.
    pub(crate) fn declared_anywhere(&self, entry: &str) -> impl Iterator<Item = &str> {
        let of_entry = move |key: &str| key.split_once(' ').map_or(key, |(_daemon, entry)| entry) == entry;
        self.declared.iter().filter(move |(key, _)| of_entry(key)).map(|(_, kept)| kept.value.as_str())
    }

    /// Entries of the file of `daemon` whose names start so, without that start.
    pub(crate) fn declared_with(&self, daemon: &str, prefix: &str) -> impl Iterator<Item = &str> {
        let prefix = declared_key(daemon, prefix);
        self.declared.keys().filter_map(move |entry| entry.strip_prefix(prefix.as_str()))
    }
}

/// Key of an entry of a file; the only daemon of a storage has no name in it.
fn declared_key(daemon: &str, entry: &str) -> String {
    if daemon.is_empty() { entry.to_owned() } else { format!("{daemon} {entry}") }
}

/// The desired state.
#[derive(Debug)]
pub(crate) struct State(Followed<View>);

impl State {
    /// Why storage can't answer now, none when it can.
    pub(crate) fn storage_problem(&self) -> Option<String> {
        self.0.storage.problem()
    }

    /// Reads the state from storage.
    pub(crate) async fn open(storage: Arc<dyn Storage>) -> Result<Self> {
        Ok(Self(Followed::open(storage, TABLE).await?))
    }

    /// The state as far as this daemon knows.
    pub(crate) fn view(&self) -> Arc<View> {
        self.0.view()
    }

    /// The state with everything that was acknowledged before, by whichever daemon.
    pub(crate) async fn fresh(&self) -> Result<Arc<View>> {
        self.0.fresh().await
    }

    /// Waits up to `wait` for somebody to change the state; whether one did.
    pub(crate) async fn changed(&self, wait: Duration) -> Result<bool> {
        self.0.changed(wait).await
    }

    /// Makes the changes that `plan` asks for, all or none. `plan` sees the state that they are made on, and can refuse; it
    /// is asked again when another daemon was quicker.
    pub(crate) async fn commit(&self, mut plan: impl FnMut(&View) -> Result<Vec<Edit>> + Send) -> Result<()> {
        self.0.commit(|view| plan(view)?.iter().map(|edit| write(view, edit)).collect()).await
    }

    /// The record of a generation.
    pub(crate) async fn generation(&self, slot: &SlotName, generation: u64) -> Result<Option<BindingRecord>> {
        let key = binding_key(slot, generation);
        match self.0.storage.get(&self.0.scope, TABLE, &key).await? {
            Some(entry) => decode(&entry.key, &entry.value).map(Some),
            None => Ok(None),
        }
    }

    /// Records of all generations of a slot that are kept, the oldest first.
    pub(crate) async fn generations(&self, slot: &SlotName) -> Result<Vec<BindingRecord>> {
        let entries = self.0.scan(&format!("{BINDING}{slot}:")).await?;
        entries.iter().map(|entry| decode(&entry.key, &entry.value)).collect()
    }
}

impl Fold for View {
    const PREFIXES: &'static [&'static str] = &[PLUGIN, SLOT, DECLARED, REVOKED];

    fn put(&mut self, entry: &Entry) -> Result<()> {
        let (key, revision) = (entry.key.as_str(), entry.revision);
        if key.starts_with(PLUGIN) {
            let value: PluginRecord = decode(key, &entry.value)?;
            self.plugins.insert(value.key()?, Kept { value: Arc::new(value), revision });
        } else if let Some(name) = key.strip_prefix(SLOT) {
            self.slots.insert(slot_name(key, name)?, Kept { value: decode(key, &entry.value)?, revision });
        } else if let Some(declared) = key.strip_prefix(DECLARED) {
            let value = String::from_utf8(entry.value.to_vec());
            let value = value.map_err(|error| Error::Record { key: key.to_owned(), why: error.to_string() })?;
            self.declared.insert(declared.to_owned(), Kept { value, revision });
        } else if key.starts_with(REVOKED) {
            let value: Revocation = decode(key, &entry.value)?;
            self.revoked.insert(value.digest, Arc::new(value));
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        if let Some((name, version)) = key.strip_prefix(PLUGIN).and_then(|key| key.split_once(':')) {
            self.plugins.remove(&PluginKey::new(name, version)?);
        } else if let Some(name) = key.strip_prefix(SLOT) {
            self.slots.remove(&slot_name(key, name)?);
        } else if let Some(declared) = key.strip_prefix(DECLARED) {
            self.declared.remove(declared);
        } else if let Some(digest) = key.strip_prefix(REVOKED) {
            let unreadable = |error: platform_runtime::InvalidDigest| error.to_string();
            let digest: Result<Digest, _> = digest.parse();
            let digest = digest.map_err(|error| Error::Record { key: key.to_owned(), why: unreadable(error) })?;
            self.revoked.remove(&digest);
        }
        Ok(())
    }
}

fn slot_name(key: &str, name: &str) -> Result<SlotName> {
    let unreadable = |error: platform_dataplane::InvalidSlotName| error.to_string();
    name.parse().map_err(|error| Error::Record { key: key.to_owned(), why: unreadable(error) })
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
        Edit::PutDeclared(daemon, entry, value) => {
            let key = format!("{DECLARED}{}", declared_key(daemon, entry));
            put(key, value.clone().into_bytes(), Condition::Always)
        }
        Edit::RemoveDeclared(daemon, entry) => {
            let key = format!("{DECLARED}{}", declared_key(daemon, entry));
            Write::Delete { key, condition: Condition::Always }
        }
        Edit::PutRevocation(revocation) => {
            put(revocation_key(revocation.digest), encode(revocation.as_ref())?, Condition::Always)
        }
        Edit::RemoveRevocation(digest) => Write::Delete { key: revocation_key(*digest), condition: Condition::Always },
    })
}

fn plugin_key(key: &PluginKey) -> String {
    format!("{PLUGIN}{}:{}", key.name, key.version)
}

fn revocation_key(digest: Digest) -> String {
    format!("{REVOKED}{digest}")
}

fn binding_key(slot: &SlotName, generation: u64) -> String {
    format!("{BINDING}{slot}:{generation:020}")
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::Internal(error.to_string()))
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| Error::Record { key: key.to_owned(), why: error.to_string() })
}
