//! The daemons that share a storage, and what each says that it serves.
//!
//! A daemon keeps one record under its id, which expires unless it is kept alive. Owns the form of the record and what it
//! says of a slot; must not know how a daemon comes to serve. Invariant: a daemon is listed as long as its record lives, so
//! one that has gone is waited for no longer than that.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use platform_dataplane::SlotName;
use platform_storage::{Condition, Entry, Storage, Write};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    followed::{Fold, Followed},
};

/// The table of the records.
const TABLE: &str = "daemons";
/// How long a record lives without its daemon.
const LIFE: Duration = Duration::from_secs(10);
/// How often a daemon keeps its record alive.
pub(crate) const BEAT: Duration = Duration::from_secs(3);

/// What a daemon says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DaemonRecord {
    /// Where it listens.
    pub(crate) address: String,
    /// What it serves.
    pub(crate) slots: BTreeMap<SlotName, Served>,
}

/// What a daemon serves in a slot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Served {
    /// The generation; 0 when nothing serves.
    pub(crate) generation: u64,
    /// The generation that is tried beside it, 0 without one.
    #[serde(default)]
    pub(crate) candidate: u64,
    /// The generation that could not be brought to serve, 0 without one.
    #[serde(default)]
    pub(crate) failed: u64,
    /// Why not.
    #[serde(default)]
    pub(crate) problem: String,
}

/// What daemons are on the way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// A generation, or a later one.
    Generation(u64),
    /// A slot in which this generation serves no longer, nor any before it.
    Gone(u64),
}

/// How far a daemon is on the way to a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Following {
    /// It serves or tries the generation, or a later one.
    There,
    /// It serves an earlier one, or none, and is on its way.
    Behind,
    /// It can't serve the generation and holds on to what it has; it tries again by itself.
    Failed,
}

/// How a daemon does in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonView {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// The slot.
    pub slot: SlotName,
    /// What serves there; 0 when nothing does.
    pub generation: u64,
    /// How far it is.
    pub following: Following,
    /// Why it failed; empty when it did not.
    pub problem: String,
}

/// The records of all daemons, by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Daemons(BTreeMap<String, Arc<DaemonRecord>>);

impl Fold for Daemons {
    const PREFIXES: &'static [&'static str] = &[""];

    fn put(&mut self, entry: &Entry) -> Result<()> {
        let record = serde_json::from_slice(&entry.value)
            .map_err(|error| Error::Record { key: format!("{TABLE} {}", entry.key), why: error.to_string() })?;
        self.0.insert(entry.key.clone(), Arc::new(record));
        Ok(())
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        self.0.remove(key);
        Ok(())
    }
}

impl Daemons {
    /// Reads who is there.
    pub(crate) async fn open(storage: Arc<dyn Storage>) -> Result<Followed<Self>> {
        Followed::open(storage, TABLE).await
    }

    /// Whether there are daemons beside the one with this id.
    pub(crate) fn others(&self, id: &str) -> bool {
        self.0.keys().any(|other| other != id)
    }

    /// How all daemons do on the way to what is wanted of a slot.
    pub(crate) fn towards(&self, slot: &SlotName, wanted: Towards) -> Vec<DaemonView> {
        let view = |(id, record): (&String, &Arc<DaemonRecord>)| {
            let served = record.slots.get(slot).cloned().unwrap_or_default();
            let serving = served.generation.max(served.candidate);
            let (there, failed) = match wanted {
                Towards::Generation(wanted) => (serving >= wanted, served.failed >= wanted),
                Towards::Gone(last) => (serving == 0 || serving > last, served.failed > last),
            };
            let following = match (there, failed) {
                (true, _) => Following::There,
                (false, true) => Following::Failed,
                (false, false) => Following::Behind,
            };
            let problem = if following == Following::Failed { served.problem } else { String::new() };
            let (id, address, slot) = (id.clone(), record.address.clone(), slot.clone());
            DaemonView { id, address, slot, generation: served.generation, following, problem }
        };
        self.0.iter().map(view).collect()
    }
}

impl Followed<Daemons> {
    /// Says `record` of the daemon `id`; `said` is what it said before.
    pub(crate) async fn say(&self, id: &str, record: &DaemonRecord, said: Option<&DaemonRecord>) -> Result<()> {
        let (key, ttl) = (id.to_owned(), Some(LIFE));
        let write = if said == Some(record) {
            // Wakes nobody.
            Write::Touch { key, ttl }
        } else {
            let value = serde_json::to_vec(record).map_err(|error| Error::Internal(error.to_string()))?;
            Write::Put { key, value: Bytes::from(value), condition: Condition::Always, ttl }
        };
        self.storage.commit(&self.scope, self.table, vec![write]).await?;
        Ok(())
    }

    /// Takes the record of the daemon `id` away.
    pub(crate) async fn leave(&self, id: &str) -> Result<()> {
        let write = Write::Delete { key: id.to_owned(), condition: Condition::Always };
        self.storage.commit(&self.scope, self.table, vec![write]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use platform_storage::{Memory, Options};

    use super::*;

    #[tokio::test]
    async fn a_record_says_how_far_its_daemon_is() {
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(Options::default()));
        let (one, other) = (Daemons::open(Arc::clone(&storage)).await.unwrap(), Daemons::open(storage).await.unwrap());
        let slot: SlotName = "kv.store".parse().unwrap();
        let served = Served { generation: 4, failed: 5, problem: "no".to_owned(), ..Served::default() };
        let record = DaemonRecord { address: "a:1".to_owned(), slots: BTreeMap::from([(slot.clone(), served)]) };
        one.say("d1", &record, None).await.unwrap();
        one.say("d1", &record, Some(&record)).await.unwrap();
        assert!(other.changed(LIFE).await.unwrap());
        let following = |wanted| other.view().towards(&slot, Towards::Generation(wanted)).remove(0);
        assert_eq!((following(4).following, following(4).problem.as_str()), (Following::There, ""));
        assert_eq!((following(5).following, following(5).problem.as_str()), (Following::Failed, "no"));
        assert_eq!(following(6).following, Following::Behind);
        let gone = |slot, last| other.view().towards(slot, Towards::Gone(last)).remove(0).following;
        assert_eq!(
            (gone(&slot, 3), gone(&slot, 4), gone(&slot, 5)),
            (Following::There, Following::Failed, Following::Behind)
        );
        assert_eq!(gone(&"kv.store/team".parse().unwrap(), 4), Following::There, "nothing was ever bound there");
        one.leave("d1").await.unwrap();
        assert!(other.fresh().await.unwrap().towards(&slot, Towards::Generation(1)).is_empty());
    }
}
