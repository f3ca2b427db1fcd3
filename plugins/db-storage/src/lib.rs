//! `db.store` over the platform's durable tables: records, and for every index an entry in each direction.
//!
//! Its invariant: a record, its entries in all indexes and its hold on unique values are one commit, against the record and the
//! declaration that they were computed from. So indexes agree with records at every moment.

use platform_sdk::{
    Problem,
    codec::Malformed,
    db::{Change, Error, Fence, Found, Index, MAX_LIMIT, Query, Record, Result, Stamp, Store, Table, Write, search},
    export,
    storage::{self, Condition},
};

mod build;
mod commit;
mod key;
mod record;
mod rows;

use key::Place;
use record::{Declaration, Held, Shift};
use rows::Shelf;

/// Everything of a namespace; storage keeps namespaces apart.
const TABLE: storage::Table = storage::Table::new("records");

/// The store has no state of its own.
struct Durable;

export!(db::Store for Durable, mode = "reused", grants = ["storage"]);

impl Store for Durable {
    type Settings = NoSettings;

    fn configure(_: NoSettings) -> std::result::Result<Self, Problem> {
        Ok(Self)
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        TABLE.revision().map(drop).map_err(|error| Problem::new(format!("storage does not answer: {error}")))
    }

    fn declare(&mut self, database: &str, table: &str, indexes: Vec<Index>) -> Result<Table> {
        let place = Place { database, table };
        let declared = build::declare(place, indexes)?;
        Ok(described(place, &declared))
    }

    fn build(&mut self, database: &str, table: &str) -> Result<bool> {
        build::build(Place { database, table })
    }

    fn drop_table(&mut self, database: &str, table: &str) -> Result<bool> {
        build::drop_table(Place { database, table })
    }

    fn tables(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Table>> {
        let after = after.map(|after| format!("t/{after}"));
        let found = TABLE.scan(&format!("t/{prefix}"), after.as_deref(), limit)?;
        let table = |entry: &storage::Entry| {
            let (database, table) = key::table(&entry.key).ok_or_else(|| damaged(Malformed))?;
            Ok(described(Place { database, table }, &Declaration::decode(&entry.value).map_err(damaged)?))
        };
        found.iter().map(table).collect()
    }

    fn commit(&mut self, database: &str, writes: Vec<Write>) -> Result<Vec<Option<Stamp>>> {
        commit::commit(database, writes)
    }

    fn get(&mut self, database: &str, table: &str, ids: &[String]) -> Result<Vec<Option<Record>>> {
        let place = Place { database, table };
        let keys: Vec<String> = ids.iter().map(|id| place.record(id)).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let found = TABLE.get_many(&keys)?.into_iter().zip(ids);
        found.map(|(found, id)| found.map(|entry| read(id, &entry)).transpose()).collect()
    }

    fn find(&mut self, database: &str, table: &str, query: &Query) -> Result<Found> {
        let place = Place { database, table };
        let declared = declaration(place)?.map(|(declared, _)| declared).unwrap_or_default();
        let ready: Vec<Held> = declared.indexes.into_iter().filter(|held| held.ready).collect();
        let indexes: Vec<Index> = ready.iter().map(|held| held.index.clone()).collect();
        search(&mut Shelf { place, indexes: &ready }, &indexes, query)
    }

    fn changes(&mut self, selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        let shift = shift()?.0;
        if after < shift.of(shift.since) {
            return Err(Error::Compacted(shift.of(shift.since)));
        }
        let found = TABLE.changes(&format!("r/{selector}"), shift.back(after), limit, wait_ms)?;
        let change = |change: storage::Change| {
            let (key, revision, entry) = match change {
                storage::Change::Put(entry) => (entry.key.clone(), entry.revision, Some(entry)),
                storage::Change::Delete((key, revision)) => (key, revision, None),
            };
            let (database, table, id) = key::parts(&key).ok_or_else(|| damaged(Malformed))?;
            let now = entry.map(|entry| read(id, &entry)).transpose()?;
            let (database, table, id) = (database.to_owned(), table.to_owned(), id.to_owned());
            Ok(Change { database, table, id, revision: shift.of(revision), now })
        };
        found.into_iter().map(change).collect()
    }

    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        let found = TABLE.fences(after, limit.clamp(1, MAX_LIMIT))?;
        Ok(found.into_iter().map(|storage::Fence { name, token }| Fence { name, token }).collect())
    }

    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        // Fences never go back, so they may come alone.
        let fence = |Fence { name, token }| storage::Fence { name, token };
        let fences: Vec<storage::Fence> = fences.into_iter().map(fence).collect();
        if !fences.is_empty() {
            TABLE.restore(&[], &fences.iter().collect::<Vec<_>>(), 0)?;
        }
        commit::restore(&changes, revision)
    }

    fn revision(&mut self) -> Result<u64> {
        Ok(shift()?.0.of(TABLE.revision()?))
    }
}

/// There is nothing to be set.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NoSettings {}

fn described(place: Place<'_>, declared: &Declaration) -> Table {
    let indexes = declared.indexes.iter().map(|held| held.index.clone()).collect();
    Table { database: place.database.to_owned(), name: place.table.to_owned(), indexes, ready: declared.ready() }
}

/// What a table was declared to be, and the revision of that.
fn declaration(place: Place<'_>) -> Result<Option<(Declaration, u64)>> {
    let Some(entry) = TABLE.get(&place.declaration())? else { return Ok(None) };
    Ok(Some((Declaration::decode(&entry.value).map_err(damaged)?, entry.revision)))
}

/// What revisions of storage come to, and the revision of that.
fn shift() -> Result<(Shift, Option<u64>)> {
    let Some(entry) = TABLE.get(key::SHIFT)? else { return Ok((Shift::default(), None)) };
    Ok((Shift::decode(&entry.value).map_err(damaged)?, Some(entry.revision)))
}

fn read(id: &str, entry: &storage::Entry) -> Result<Record> {
    record::decode(id, entry.revision, &entry.value).map_err(damaged)
}

/// What several keys hold. Where that is too much for one answer, each is read for itself.
fn read_all(keys: &[&str]) -> Result<Vec<Option<storage::Entry>>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    match TABLE.get_many(keys) {
        Err(storage::Error::TooLarge(_)) => keys.iter().map(|key| Ok(TABLE.get(key)?)).collect(),
        found => Ok(found?),
    }
}

/// What must hold for a key to be what was read.
fn unchanged(revision: Option<u64>) -> Condition {
    revision.map_or(Condition::Absent, Condition::At)
}

fn busy(table: &str) -> Error {
    Error::Unavailable(format!("`{table}` was written by others again and again; try again"))
}

fn damaged(why: Malformed) -> Error {
    Error::Other(why.to_string())
}

#[cfg(test)]
mod tests;
