//! Carries databases from the store that serves them to the one that is about to.
//!
//! Copies while writes go on, follows the change feed until it has caught up, then holds writers for the last stretch and until
//! the slot is flipped. Must not know what either store is. Invariant: what was acknowledged before the flip is in the new store,
//! with the stamps that it had; and where anything fails the old store serves on, unchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use platform_capability::{
    Call, CallContext, Name, SlotKind,
    db::{self, Change, Error, Query, Record, Table},
};
use platform_runtime::Function;
use tokio::sync::OwnedRwLockWriteGuard;

use super::Db;
use crate::{
    binding::Entry,
    error::{CallError, flatten},
    plane::Plane,
    prepare::Prepared,
    provider::Provider,
    slot_name::SlotName,
};

/// Longest that one call to a store may take.
const CALL: Duration = Duration::from_secs(60);
/// Changes that are handed over at once: few enough for the keys that a commit of any store may write.
const CHUNK: usize = 30;
/// Bytes that are handed over at once.
const CHUNK_BYTES: usize = 8 << 20;
/// Changes in one answer after which the feed counts as caught up with.
const CAUGHT_UP: usize = 100;
/// Most rounds of following the feed before writers are held.
const ROUNDS: u32 = 1000;
/// Records or changes in one answer.
const PAGE: u32 = 1000;

/// Databases are with the new store as they are with the old one, for as long as this is held: writes wait.
#[derive(Debug)]
pub struct Carried {
    /// Records that were carried.
    pub records: u64,
    provider: Arc<Provider<Db>>,
    _held: OwnedRwLockWriteGuard<()>,
}

impl Drop for Carried {
    fn drop(&mut self) {
        // The flip is over. What the old store still answers, when it may be written to again, is no news.
        self.provider.disregard();
    }
}

/// Why databases were not carried. The old store serves on.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// Only databases are carried.
    #[error("`{0}` keeps no databases; only those of `db.store` can be carried")]
    Kind(SlotName),
    /// A store failed.
    #[error("databases of the namespace `{namespace}` were not carried: {why}; the old store serves on")]
    Store {
        /// The namespace.
        namespace: Name,
        /// What it said.
        why: String,
    },
    /// Writes did not come to rest.
    #[error("writes did not come to rest within {0} ms; the old store serves on")]
    Restless(u64),
}

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;

impl Db {
    /// Carries what `slot` serves in these namespaces to what was prepared for it. Writes wait until the answer is dropped,
    /// which is to be after the flip.
    ///
    /// # Errors
    /// See [`CarryError`].
    pub async fn carry(
        &self, slot: &SlotName, prepared: &Prepared, namespaces: &[Name],
    ) -> Result<Carried, CarryError> {
        let wrong = || CarryError::Kind(slot.clone());
        let to = prepared.entries.first().filter(|_| slot.kind == SlotKind::DbStore).ok_or_else(wrong)?;
        let plane = self.0.plane().map_err(|_stopping| CarryError::Restless(0))?;
        let mut carriers = Vec::new();
        for namespace in namespaces {
            let failed = |error: CallError<Error>| store(namespace, &error);
            let carrier = Carrier::new(&plane, slot, to, namespace);
            // A slot that holds nothing has nothing to be carried.
            if carrier.is_other().await.map_err(failed)? {
                carriers.push((namespace, carrier));
            }
        }
        for (namespace, carrier) in &mut carriers {
            let name: &Name = namespace;
            carrier.copy().await.map_err(|error| store(name, &error))?;
        }
        let wait = plane.parts.config.hold_ms_max;
        let held = tokio::time::timeout(Duration::from_millis(wait), Arc::clone(&self.1).write_owned()).await;
        let held = held.map_err(|_elapsed| CarryError::Restless(wait))?;
        let mut records = 0;
        for (namespace, carrier) in &mut carriers {
            let name: &Name = namespace;
            let failed = |error: CallError<Error>| store(name, &error);
            let revision = carrier.finish().await.map_err(failed)?;
            self.0.settle(name.as_str(), revision, |part| carrier.carries(part)).await.map_err(failed)?;
            records += carrier.records;
        }
        Ok(Carried { records, provider: Arc::clone(&self.0), _held: held })
    }
}

fn store(namespace: &Name, error: &CallError<Error>) -> CarryError {
    CarryError::Store { namespace: namespace.clone(), why: error.to_string() }
}

/// The way of one namespace from one store to another.
struct Carrier<'a> {
    plane: &'a Plane,
    slot: &'a SlotName,
    to: &'a Entry,
    namespace: &'a Name,
    /// What the feed is followed after.
    after: u64,
    records: u64,
    /// Changes that a value stood in the way of, which another change has taken away since or will.
    put_off: BTreeMap<(String, String, String), Change>,
}

impl<'a> Carrier<'a> {
    fn new(plane: &'a Plane, slot: &'a SlotName, to: &'a Entry, namespace: &'a Name) -> Self {
        Self { plane, slot, to, namespace, after: 0, records: 0, put_off: BTreeMap::new() }
    }

    fn call(&self) -> Call {
        Arc::new(CallContext::host(self.namespace.shared(), CALL))
    }

    /// The database that the slot is for; none for all.
    fn database(&self) -> &str {
        self.slot.qualifier.as_ref().map_or("", Name::as_str)
    }

    /// What all that is carried begins with.
    fn prefix(&self) -> String {
        if self.database().is_empty() { String::new() } else { format!("{}/", self.database()) }
    }

    async fn from<F, R>(&self, params: F::Params<'_>) -> Result<R>
    where
        F: Function<Results = (Result<R, Error>,)>,
        for<'p> F::Params<'p>: Clone,
    {
        flatten(self.plane.find(SlotKind::DbStore, self.database()).call::<F>(&self.call(), params).await)
    }

    async fn to<F, R>(&self, params: F::Params<'_>) -> Result<R>
    where
        F: Function<Results = (Result<R, Error>,)>,
    {
        let (slot, plugin) = (self.slot.clone(), Arc::clone(&self.to.label));
        let answer = self.to.call::<F>(&self.call(), params).await;
        answer.map_err(|fault| CallError::Fault { slot, plugin, fault })?.0.map_err(CallError::Capability)
    }

    /// Whether the stores are two: what is put into the one is not in the other.
    async fn is_other(&self) -> Result<bool> {
        let mark = format!("_carry-{:016x}", rand::random::<u64>());
        let stamp = db::Stamp { id: mark.clone(), created_ns: 0, updated_ns: 0, revision: 0 };
        let now = Some(Record { stamp, metadata: Vec::new(), data: Vec::new() });
        let (database, table) = (mark.clone(), "mark".to_owned());
        let change = Change { database, table, id: mark.clone(), revision: 0, now };
        self.to::<db::Restore, ()>(([change].as_slice(), 0)).await?;
        let id = mark.as_str();
        let seen: Result<Vec<Option<Record>>> = self.from::<db::Get, _>((id, "mark", [id].as_slice())).await;
        while !self.to::<db::DropTable, bool>((id, "mark")).await? {}
        match seen {
            Ok(seen) => Ok(seen.first().is_some_and(Option::is_none)),
            Err(CallError::NotBound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a database is carried: one that the slot serves, and no other.
    fn carries(&self, database: &str) -> bool {
        match self.database() {
            "" => !self.plane.qualifiers(SlotKind::DbStore).iter().any(|name| **name == *database),
            only => only == database,
        }
    }

    /// Tables that are carried, as the store has them that serves, or the one that is about to.
    async fn tables(&self, serves: bool) -> Result<Vec<Table>> {
        let (mut tables, mut after): (Vec<Table>, Option<String>) = (Vec::new(), None);
        let prefix = self.prefix();
        loop {
            let params = (prefix.as_str(), after.as_deref(), PAGE);
            let page: Vec<Table> = if serves {
                self.from::<db::Tables, _>(params).await?
            } else {
                self.to::<db::Tables, _>(params).await?
            };
            let Some(last) = page.last() else { return Ok(tables) };
            after = Some(format!("{}/{}", last.database, last.name));
            tables.extend(page.into_iter().filter(|table| self.carries(&table.database)));
        }
    }

    async fn drop_table(&self, table: &Table) -> Result<()> {
        while !self.to::<db::DropTable, bool>((table.database.as_str(), table.name.as_str())).await? {}
        Ok(())
    }

    async fn declare(&self, table: &Table) -> Result<()> {
        let (database, name) = (table.database.as_str(), table.name.as_str());
        let mut ready = self.to::<db::Declare, Table>((database, name, table.indexes.as_slice())).await?.ready;
        while !ready {
            ready = self.to::<db::Build, bool>((database, name)).await?;
        }
        Ok(())
    }

    /// Copies everything, and follows what changes meanwhile until little is left.
    async fn copy(&mut self) -> Result<()> {
        // What an earlier attempt left is not what is there now.
        for table in self.tables(false).await? {
            self.drop_table(&table).await?;
        }
        self.after = self.from::<db::Revision, u64>(()).await?;
        for table in self.tables(true).await? {
            self.declare(&table).await?;
            self.copy_table(&table).await?;
        }
        for _ in 0..ROUNDS {
            if self.follow().await? < CAUGHT_UP {
                break;
            }
        }
        Ok(())
    }

    async fn copy_table(&mut self, table: &Table) -> Result<()> {
        let order_by = "id".to_owned();
        let mut query = Query { filters: Vec::new(), order_by, descending: false, offset: 0, limit: PAGE, after: None };
        loop {
            let (database, name) = (table.database.as_str(), table.name.as_str());
            let found: db::Found = self.from::<db::Find, _>((database, name, &query)).await?;
            let change = |record: Record| Change {
                database: table.database.clone(),
                table: table.name.clone(),
                id: record.stamp.id.clone(),
                revision: record.stamp.revision,
                now: Some(record),
            };
            self.records += found.records.len() as u64;
            self.give(found.records.into_iter().map(change).collect()).await?;
            query.after = found.next;
            if query.after.is_none() {
                return Ok(());
            }
        }
    }

    /// Hands the next changes of the feed over; how many there were.
    async fn follow(&mut self) -> Result<usize> {
        let changes: Vec<Change> = self.from::<db::Changes, _>((self.prefix().as_str(), self.after, PAGE, 0)).await?;
        let count = changes.len();
        if let Some(last) = changes.last() {
            self.after = last.revision;
        }
        let mine = changes.into_iter().filter(|change| self.carries(&change.database)).collect();
        self.give(mine).await?;
        Ok(count)
    }

    /// Hands changes over in chunks. Of several of one record only the last counts, so that writers who come back to the same
    /// records are caught up with.
    async fn give(&mut self, changes: Vec<Change>) -> Result<()> {
        let mut last: BTreeMap<(String, String, String), Change> = BTreeMap::new();
        for change in changes {
            let of = (change.database.clone(), change.table.clone(), change.id.clone());
            self.put_off.remove(&of);
            last.insert(of, change);
        }
        let (mut chunk, mut bytes) = (BTreeMap::new(), 0);
        for (of, change) in last {
            bytes += change.now.as_ref().map_or(0, |record| record.data.len()) + 1024;
            chunk.insert(of, change);
            if chunk.len() >= CHUNK || bytes >= CHUNK_BYTES {
                self.give_chunk(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
        }
        self.give_chunk(chunk).await
    }

    async fn give_chunk(&mut self, chunk: BTreeMap<(String, String, String), Change>) -> Result<()> {
        if chunk.is_empty() {
            return Ok(());
        }
        let changes: Vec<Change> = chunk.values().cloned().collect();
        match self.to::<db::Restore, ()>((changes.as_slice(), 0)).await {
            Err(CallError::Capability(Error::Duplicate(_))) => {}
            given => return given,
        }
        // A value has moved from one record to another while they were read: the feed brings the later state of one of them.
        for (of, change) in chunk {
            match self.to::<db::Restore, ()>((std::slice::from_ref(&change), 0)).await {
                Err(CallError::Capability(Error::Duplicate(_))) => {
                    self.put_off.insert(of, change);
                }
                given => given?,
            }
        }
        Ok(())
    }

    /// The last stretch, while nobody writes; the revision that both stores are at then.
    async fn finish(&mut self) -> Result<u64> {
        while self.follow().await? > 0 {}
        // All at once, for they may stand in each other's way.
        let put_off: Vec<Change> = std::mem::take(&mut self.put_off).into_values().collect();
        for chunk in put_off.chunks(CHUNK) {
            self.to::<db::Restore, ()>((chunk, 0)).await?;
        }
        let held = self.tables(true).await?;
        let names: BTreeSet<(&str, &str)> =
            held.iter().map(|table| (table.database.as_str(), table.name.as_str())).collect();
        for table in self.tables(false).await? {
            if !names.contains(&(table.database.as_str(), table.name.as_str())) {
                self.drop_table(&table).await?;
            }
        }
        for table in &held {
            self.declare(table).await?;
        }
        let revision = self.from::<db::Revision, u64>(()).await?;
        self.to::<db::Restore, ()>(([].as_slice(), revision)).await?;
        Ok(revision)
    }
}
