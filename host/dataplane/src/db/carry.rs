//! What there is to be carried of databases: tables with their indexes, and records with their stamps.
//!
//! Must not know when it is carried. Invariant: a table is declared at the new store before its records come there.

use std::collections::BTreeSet;

use platform_capability::{
    SlotKind,
    db::{self, Change, Error, Fence, Query, Record, Table},
};

use super::Db;
use crate::{
    carry::{Carrier, PAGE, Portable, Ways},
    error::CallError,
};

/// Fences that are handed over at once.
const FENCES: u32 = 500;

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;
type Between<'a> = Ways<'a, Db>;

impl Portable for Db {
    type Of = (String, String, String);
    /// Few enough for the keys that a commit of any store may write.
    const CHUNK: usize = 30;

    fn of(change: &Change) -> Self::Of {
        (change.database.clone(), change.table.clone(), change.id.clone())
    }

    fn bytes(change: &Change) -> usize {
        change.now.as_ref().map_or(0, |record| record.data.len()) + 1024
    }

    fn carries(ways: &Between<'_>, database: &str) -> bool {
        match ways.part() {
            "" => !ways.plane.qualifiers(SlotKind::DbStore).iter().any(|name| **name == *database),
            only => only == database,
        }
    }

    fn concerns(ways: &Between<'_>, change: &Change) -> bool {
        Self::carries(ways, &change.database)
    }

    fn stands_in_the_way(error: &Error) -> bool {
        matches!(error, Error::Duplicate(_))
    }

    async fn are_apart(ways: &Between<'_>) -> Result<bool> {
        let mark = format!("_carry-{:016x}", rand::random::<u64>());
        let stamp = db::Stamp { id: mark.clone(), created_ns: 0, updated_ns: 0, revision: 0 };
        let now = Some(Record { stamp, metadata: Vec::new(), data: Vec::new() });
        let (database, table) = (mark.clone(), "mark".to_owned());
        let change = Change { database, table, id: mark.clone(), revision: 0, now };
        Self::hand_over(ways, &[change], 0).await?;
        let id = mark.as_str();
        let seen: Result<Vec<Option<Record>>> = ways.from::<db::Get, _>((id, "mark", [id].as_slice())).await;
        while !ways.to::<db::DropTable, bool>((id, "mark")).await? {}
        match seen {
            Ok(seen) => Ok(seen.first().is_some_and(Option::is_none)),
            Err(CallError::NotBound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn clear(ways: &Between<'_>) -> Result<()> {
        for table in tables(ways, false).await? {
            drop_table(ways, &table).await?;
        }
        Ok(())
    }

    async fn copy(carrier: &mut Carrier<'_, Self>) -> Result<()> {
        for table in tables(&carrier.ways, true).await? {
            declare(&carrier.ways, &table).await?;
            copy_table(carrier, &table).await?;
        }
        Ok(())
    }

    async fn hand_over(ways: &Between<'_>, changes: &[Change], revision: u64) -> Result<()> {
        ways.to::<db::Restore, ()>((changes, &[], revision)).await
    }

    async fn complete(ways: &Between<'_>) -> Result<()> {
        let held = tables(ways, true).await?;
        let names: BTreeSet<(&str, &str)> =
            held.iter().map(|table| (table.database.as_str(), table.name.as_str())).collect();
        for table in tables(ways, false).await? {
            if !names.contains(&(table.database.as_str(), table.name.as_str())) {
                drop_table(ways, &table).await?;
            }
        }
        for table in &held {
            declare(ways, table).await?;
        }
        fences(ways).await
    }
}

async fn fences(ways: &Between<'_>) -> Result<()> {
    let mut after: Option<String> = None;
    loop {
        let page: Vec<Fence> = ways.from::<db::Fences, _>((after.as_deref(), FENCES)).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.name.clone());
        ways.to::<db::Restore, ()>((&[], page.as_slice(), 0)).await?;
    }
}

/// Tables that are carried, as the store has them that serves, or the one that is about to.
async fn tables(ways: &Between<'_>, serves: bool) -> Result<Vec<Table>> {
    let (mut tables, mut after): (Vec<Table>, Option<String>) = (Vec::new(), None);
    let prefix = if ways.part().is_empty() { String::new() } else { format!("{}/", ways.part()) };
    loop {
        let params = (prefix.as_str(), after.as_deref(), PAGE);
        let page: Vec<Table> =
            if serves { ways.from::<db::Tables, _>(params).await? } else { ways.to::<db::Tables, _>(params).await? };
        let Some(last) = page.last() else { return Ok(tables) };
        after = Some(format!("{}/{}", last.database, last.name));
        tables.extend(page.into_iter().filter(|table| Db::carries(ways, &table.database)));
    }
}

async fn drop_table(ways: &Between<'_>, table: &Table) -> Result<()> {
    while !ways.to::<db::DropTable, bool>((table.database.as_str(), table.name.as_str())).await? {}
    Ok(())
}

async fn declare(ways: &Between<'_>, table: &Table) -> Result<()> {
    let (database, name) = (table.database.as_str(), table.name.as_str());
    let mut ready = ways.to::<db::Declare, Table>((database, name, table.indexes.as_slice())).await?.ready;
    while !ready {
        ready = ways.to::<db::Build, bool>((database, name)).await?;
    }
    Ok(())
}

async fn copy_table(carrier: &mut Carrier<'_, Db>, table: &Table) -> Result<()> {
    let order_by = "id".to_owned();
    let mut query = Query { filters: Vec::new(), order_by, descending: false, offset: 0, limit: PAGE, after: None };
    loop {
        let (database, name) = (table.database.as_str(), table.name.as_str());
        let found: db::Found = carrier.ways.from::<db::Find, _>((database, name, &query)).await?;
        let change = |record: Record| Change {
            database: table.database.clone(),
            table: table.name.clone(),
            id: record.stamp.id.clone(),
            revision: record.stamp.revision,
            now: Some(record),
        };
        carrier.carried += found.records.len() as u64;
        carrier.give(found.records.into_iter().map(change).collect()).await?;
        query.after = found.next;
        if query.after.is_none() {
            return Ok(());
        }
    }
}
